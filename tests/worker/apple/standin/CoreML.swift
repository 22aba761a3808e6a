// A stand-in for the part of Core ML that the worker uses, with the declarations of Apple's
// documentation. It executes nothing itself: a Python program with the kernels of `latbench verify`
// does (kernels.py), which listens on the socket that LATBENCH_STANDIN_KERNELS names. Nothing here knows how Core ML computes, where, or how long it takes.

import CoreVideo
import Foundation

public enum MLMultiArrayDataType: Int, Sendable {
    case double = 65600
    case float32 = 65568
    case float16 = 65552
    case int32 = 131104

    var bytes: Int { (rawValue & 0xFF) / 8 }
}

/// As Core ML refuses: a description, and what is below it.
private func problem(_ description: String, _ underlying: String? = nil) -> NSError {
    var info: [String: Any] = [NSLocalizedDescriptionKey: description]
    if let underlying = underlying { info[NSUnderlyingErrorKey] = problem(underlying) }
    return NSError(domain: "com.apple.CoreML", code: 0, userInfo: info)
}

public final class MLMultiArray {
    public let shape: [NSNumber]
    public let strides: [NSNumber]
    public let dataType: MLMultiArrayDataType
    public let dataPointer: UnsafeMutableRawPointer
    private let bytes: Int

    public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        self.init(shape, dataType, padding: 0)
    }

    /// `padding` elements follow each row, as in outputs of the Neural Engine.
    init(_ shape: [NSNumber], _ dataType: MLMultiArrayDataType, padding: Int) {
        var strides: [NSNumber] = []
        var step = 1
        for (axis, size) in shape.enumerated().reversed() {
            strides.insert(NSNumber(value: step), at: 0)
            step *= size.intValue + (axis == shape.count - 1 ? padding : 0)
        }
        self.shape = shape
        self.strides = strides
        self.dataType = dataType
        bytes = max(step * dataType.bytes, 1)
        dataPointer = .allocate(byteCount: bytes, alignment: 64)
    }

    deinit { dataPointer.deallocate() }

    /// Elements in C order.
    var packed: Data {
        get {
            var data = Data()
            walk { at in data.append(Data(bytes: dataPointer + at, count: dataType.bytes)) }
            return data
        }
        set {
            var from = 0
            walk { at in
                newValue.copyBytes(
                    to: (dataPointer + at).assumingMemoryBound(to: UInt8.self),
                    from: from..<from + dataType.bytes)
                from += dataType.bytes
            }
        }
    }

    private func walk(_ body: (Int) -> Void) {
        let sizes = shape.map { $0.intValue }
        for index in 0..<sizes.reduce(1, *) {
            var (rest, at) = (index, 0)
            for axis in sizes.indices.reversed() {
                at += rest % sizes[axis] * strides[axis].intValue
                rest /= sizes[axis]
            }
            body(at * dataType.bytes)
        }
    }
}

public enum MLFeatureType: Int, Sendable {
    case invalid = 0, int64, double, string, image, multiArray, dictionary, sequence, state
}

public final class MLFeatureValue {
    public let type: MLFeatureType
    public private(set) var multiArrayValue: MLMultiArray?
    public private(set) var imageBufferValue: CVPixelBuffer?
    public private(set) var dictionaryValue: [AnyHashable: NSNumber] = [:]

    public init(multiArray value: MLMultiArray) {
        type = .multiArray
        multiArrayValue = value
    }

    public init(pixelBuffer value: CVPixelBuffer) {
        type = .image
        imageBufferValue = value
    }

    init(_ values: [AnyHashable: NSNumber]) {
        type = .dictionary
        dictionaryValue = values
    }
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    private let values: [String: MLFeatureValue]

    public init(dictionary: [String: Any]) throws {
        values = dictionary.compactMapValues { $0 as? MLFeatureValue }
    }

    public var featureNames: Set<String> { Set(values.keys) }
    public func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }
}

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly = 0, cpuAndGPU, all, cpuAndNeuralEngine

    var name: String { ["CPU_ONLY", "CPU_AND_GPU", "ALL", "CPU_AND_NE"][rawValue] }
}

public struct MLOptimizationHints: Sendable {
    public enum SpecializationStrategy: Int, Sendable { case `default`, fastPrediction }
    public var specializationStrategy = SpecializationStrategy.default
}

public final class MLModelConfiguration {
    public var computeUnits = MLComputeUnits.all
    public var optimizationHints = MLOptimizationHints()
    public init() {}
}

public final class MLPredictionOptions {
    public var outputBackings: [String: Any] = [:]
    public init() {}
}

public final class MLMultiArrayConstraint {
    public let shape: [NSNumber]
    public let dataType: MLMultiArrayDataType

    init(_ shape: [NSNumber], _ dataType: MLMultiArrayDataType) {
        self.shape = shape
        self.dataType = dataType
    }
}

public final class MLFeatureDescription {
    public let multiArrayConstraint: MLMultiArrayConstraint?
    init(_ constraint: MLMultiArrayConstraint?) { multiArrayConstraint = constraint }
}

public final class MLModelDescription {
    public let outputDescriptionsByName: [String: MLFeatureDescription]
    init(_ outputs: [String: MLFeatureDescription]) { outputDescriptionsByName = outputs }
}

public final class MLState {
    let number: Int
    init(_ number: Int) { self.number = number }
}

public final class MLCPUComputeDevice: Sendable {}
public final class MLGPUComputeDevice: Sendable {}
public final class MLNeuralEngineComputeDevice: Sendable {}

public enum MLComputeDevice: Sendable {
    case cpu(MLCPUComputeDevice)
    case gpu(MLGPUComputeDevice)
    case neuralEngine(MLNeuralEngineComputeDevice)

    init(_ name: String) {
        switch name {
        case "engine": self = .neuralEngine(MLNeuralEngineComputeDevice())
        case "gpu": self = .gpu(MLGPUComputeDevice())
        default: self = .cpu(MLCPUComputeDevice())
        }
    }
}

public final class MLModel {
    public let modelDescription: MLModelDescription
    private let number: Int

    public static var availableComputeDevices: [MLComputeDevice] {
        ["cpu", "gpu", "engine"].map(MLComputeDevice.init)
    }

    public class func compileModel(at modelURL: URL) throws -> URL {
        let reply = try Kernels.shared.ask(Question(do: "compile", path: modelURL.path))
        return URL(fileURLWithPath: reply.path!)
    }

    public class func compileModel(at url: URL) async throws -> URL {
        let compile: (URL) throws -> URL = compileModel
        return try compile(url)
    }

    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
        let reply = try Kernels.shared.ask(Question(do: "load", path: url.path))
        number = reply.number!
        modelDescription = MLModelDescription(
            reply.described!.mapValues { each in
                guard let type = each.type.flatMap(MLMultiArrayDataType.init) else {
                    return MLFeatureDescription(nil)
                }
                let shape = each.shape.map { NSNumber(value: $0) }
                return MLFeatureDescription(MLMultiArrayConstraint(shape, type))
            })
    }

    deinit { _ = try? Kernels.shared.ask(Question(do: "unload", number: number)) }

    public func makeState() -> MLState {
        MLState(try! Kernels.shared.ask(Question(do: "state", number: number)).number!)
    }

    public func prediction(
        from input: MLFeatureProvider, options: MLPredictionOptions
    ) throws -> MLFeatureProvider {
        try predicted(input, nil, options)
    }

    public func prediction(
        from input: MLFeatureProvider, using state: MLState, options: MLPredictionOptions
    ) throws -> MLFeatureProvider {
        try predicted(input, state.number, options)
    }

    private func predicted(
        _ input: MLFeatureProvider, _ state: Int?, _ options: MLPredictionOptions
    ) throws -> MLFeatureProvider {
        var features: [String: Feature] = [:]
        for name in input.featureNames {
            let value = input.featureValue(for: name)!
            features[name] = value.multiArrayValue.map(Feature.init)
                ?? value.imageBufferValue.map(Feature.init)
        }
        var question = Question(do: "predict", number: number)
        question.state = state
        question.features = features
        let reply = try Kernels.shared.ask(question)
        var found: [String: MLFeatureValue] = [:]
        for (name, feature) in reply.features! {
            found[name] = try feature.value(options.outputBackings[name] as? MLMultiArray)
        }
        return try MLDictionaryFeatureProvider(dictionary: found)
    }
}

public enum MLModelStructure: Sendable {
    public struct Program: Sendable {
        public struct NamedValueType: Sendable { public let name: String }
        public struct Function: Sendable { public let block: Block }
        public struct Block: Sendable { public let operations: [Operation] }
        public struct Operation: Sendable {
            public let operatorName: String
            public let outputs: [NamedValueType]
            public let blocks: [Block]
            let unit: String?
        }
        public let functions: [String: Function]
    }
    public struct NeuralNetwork: Sendable {
        public struct Layer: Sendable {
            public let name: String
            public let type: String
        }
        public let layers: [Layer]
    }
    public struct Pipeline: Sendable {}
    case neuralNetwork(NeuralNetwork)
    case program(Program)
    case pipeline(Pipeline)
    case unsupported
}

public final class MLComputePlan {
    public struct DeviceUsage {
        public let preferred: MLComputeDevice
    }

    public struct Cost {
        public let weight: Double
    }

    public let modelStructure: MLModelStructure

    init(_ structure: MLModelStructure) { modelStructure = structure }

    public static func load(
        contentsOf url: URL, configuration: MLModelConfiguration
    ) async throws -> MLComputePlan {
        let question = Question(
            do: "plan", path: url.path, units: configuration.computeUnits.name)
        let functions = try Kernels.shared.ask(question).functions!
        return MLComputePlan(
            .program(
                MLModelStructure.Program(
                    functions: functions.mapValues { MLModelStructure.Program.Function(block: block($0)) })))
    }

    private static func block(_ planned: [Planned]) -> MLModelStructure.Program.Block {
        MLModelStructure.Program.Block(
            operations: planned.map { each in
                MLModelStructure.Program.Operation(
                    operatorName: each.kind,
                    outputs: each.outputs.map { MLModelStructure.Program.NamedValueType(name: $0) },
                    blocks: each.blocks.map(block), unit: each.unit)
            })
    }

    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> DeviceUsage? {
        operation.unit.map { DeviceUsage(preferred: MLComputeDevice($0)) }
    }

    public func estimatedCost(of operation: MLModelStructure.Program.Operation) -> Cost? {
        operation.operatorName.hasSuffix(".conv") ? Cost(weight: 0.5) : nil
    }

    public func deviceUsage(for layer: MLModelStructure.NeuralNetwork.Layer) -> DeviceUsage? {
        DeviceUsage(preferred: MLComputeDevice("cpu"))
    }
}

// What is said to the kernels, one JSON object on each line.

private struct Question: Encodable {
    var `do`: String
    var path: String?
    var number: Int?
    var units: String?
    var state: Int?
    var features: [String: Feature]?
}

private struct Reply: Decodable {
    struct Described: Decodable {
        var shape: [Int]
        var type: Int?
    }

    var error: String?
    var underlying: String?
    var path: String?
    var number: Int?
    var described: [String: Described]?
    var features: [String: Feature]?
    var functions: [String: [Planned]]?
}

private struct Planned: Decodable {
    var kind: String
    var outputs: [String]
    var blocks: [[Planned]]
    var unit: String?
}

private struct Feature: Codable {
    /// `array`, `image` or `dictionary`.
    var kind: String
    var shape: [Int] = []
    var type: Int = 0
    var data = Data()
    var labels: [String: Double]?

    init(_ array: MLMultiArray) {
        kind = "array"
        shape = array.shape.map { $0.intValue }
        type = array.dataType.rawValue
        data = array.packed
    }

    init(_ image: CVPixelBuffer) {
        kind = "image"
        shape = [CVPixelBufferGetHeight(image), CVPixelBufferGetWidth(image)]
        type = Int(CVPixelBufferGetPixelFormatType(image))
        let row = shape[1] * Feature.pixelBytes(type)
        for y in 0..<shape[0] {
            let at = CVPixelBufferGetBaseAddress(image)! + y * CVPixelBufferGetBytesPerRow(image)
            data.append(Data(bytes: at, count: row))
        }
    }

    private static func pixelBytes(_ format: Int) -> Int {
        switch OSType(format) {
        case kCVPixelFormatType_32BGRA: return 4
        case kCVPixelFormatType_OneComponent8: return 1
        default: return 2
        }
    }

    func value(_ backing: MLMultiArray?) throws -> MLFeatureValue {
        switch kind {
        case "array":
            let type = MLMultiArrayDataType(rawValue: self.type)!
            let sizes = shape.map { NSNumber(value: $0) }
            if let backing = backing, backing.shape != sizes || backing.dataType != type {
                throw problem("Output backing is not compatible with the model.")
            }
            let array = backing ?? MLMultiArray(sizes, type, padding: 3)
            array.packed = data
            return MLFeatureValue(multiArray: array)
        case "image":
            var made: CVPixelBuffer?
            CVPixelBufferCreate(nil, shape[1], shape[0], OSType(type), nil, &made)
            let row = shape[1] * Feature.pixelBytes(type)
            for y in 0..<shape[0] {
                let at = CVPixelBufferGetBaseAddress(made!)! + y * CVPixelBufferGetBytesPerRow(made!)
                data.copyBytes(
                    to: at.assumingMemoryBound(to: UInt8.self), from: y * row..<(y + 1) * row)
            }
            return MLFeatureValue(pixelBuffer: made!)
        default:
            let values = labels!.map { (key, value) in
                (Int(key).map { AnyHashable($0) } ?? AnyHashable(key), NSNumber(value: value))
            }
            return MLFeatureValue(Dictionary(uniqueKeysWithValues: values))
        }
    }
}

/// The connection to the Python program.
private final class Kernels: @unchecked Sendable {
    static let shared = Kernels()
    private let lock = NSLock()
    private let connection: FileHandle
    private var rest = Data()

    init() {
        let path = ProcessInfo.processInfo.environment["LATBENCH_STANDIN_KERNELS"]!
        let opened = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(opened, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        precondition(status == 0, "the kernels of the stand-in do not listen on \(path)")
        connection = FileHandle(fileDescriptor: opened)
    }

    func ask(_ asked: Question) throws -> Reply {
        lock.lock()
        defer { lock.unlock() }
        try connection.write(contentsOf: JSONEncoder().encode(asked) + Data([0x0A]))
        while !rest.contains(0x0A) {
            let part = connection.availableData
            if part.isEmpty { throw problem("The kernels of the stand-in have ended.") }
            rest.append(part)
        }
        let end = rest.firstIndex(of: 0x0A)!
        let reply = try JSONDecoder().decode(Reply.self, from: rest[..<end])
        rest = Data(rest[(end + 1)...])
        if let error = reply.error { throw problem(error, reply.underlying) }
        return reply
    }
}
