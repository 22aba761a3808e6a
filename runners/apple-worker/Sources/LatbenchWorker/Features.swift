import CoreML
import CoreVideo
import Foundation

private let multiArrayTypes: [ElementType: MLMultiArrayDataType] = [
    .float16: .float16, .float32: .float32, .float64: .double, .int32: .int32,
]

/// The inputs as Core ML takes them. Throws ``Failure`` and ``Refusal``.
func features(
    of artifact: Request.Artifact, _ inputs: [Tensor]
) throws -> MLDictionaryFeatureProvider {
    let images = artifact.images
    var values: [String: Any] = [:]
    for (spec, tensor) in zip(artifact.inputs, inputs) {
        if let space = images[spec.name] {
            let mapping = try ImageMapping(artifact.details)
            values[spec.name] = MLFeatureValue(pixelBuffer: try picture(tensor, space, mapping))
        } else {
            values[spec.name] = MLFeatureValue(multiArray: try multiArray(tensor, spec.name))
        }
    }
    return try MLDictionaryFeatureProvider(dictionary: values)
}

private func multiArray(_ tensor: Tensor, _ name: String) throws -> MLMultiArray {
    guard let type = multiArrayTypes[tensor.type] else {
        throw Failure(
            "open", "Core ML takes no arrays of \(tensor.type), as input \(shown(name)) is",
            hint: "it takes arrays of floats and of int32", kind: "unavailable")
    }
    let made = try MLMultiArray(shape: tensor.shape.map { NSNumber(value: $0) }, dataType: type)
    let strides = made.strides.map { $0.intValue }
    tensor.data.withUnsafeBytes { from in
        let to = made.dataPointer
        each(tensor.shape, strides) { index, at in
            (to + at * tensor.type.bytes).copyMemory(
                from: from.baseAddress! + index * tensor.type.bytes,
                byteCount: tensor.type.bytes)
        }
    }
    return made
}

/// Arrays that Core ML writes the outputs into. Only those whose shape the model states: Core ML
/// refuses a prediction into an array that does not fit.
func outputBackings(of model: MLModel, _ artifact: Request.Artifact) -> [String: Any] {
    var found: [String: Any] = [:]
    for spec in artifact.outputs {
        let described = model.modelDescription.outputDescriptionsByName[spec.name]
        guard let constraint = described?.multiArrayConstraint,
            !spec.shape.isEmpty, constraint.shape.map({ $0.intValue }) == spec.shape
        else { continue }
        found[spec.name] = try? MLMultiArray(
            shape: constraint.shape, dataType: constraint.dataType)
    }
    return found
}

/// An output as an array: of an image its pixels (1, C, H, W), of a dictionary the values in the
/// order of the sorted keys. Throws ``Failure``.
func tensor(of value: MLFeatureValue, _ spec: TensorSpec, _ space: String) throws -> Tensor {
    guard let wanted = ElementType(rawValue: spec.dtype) else {
        throw Failure("outputs", "output \(shown(spec.name)) has elements of \(spec.dtype)")
    }
    var found: Tensor
    if let array = value.multiArrayValue {
        found = try tensor(of: array, spec.name)
    } else if let image = value.imageBufferValue {
        found = try pixels(of: image, space, spec.name)
    } else if value.type == .dictionary {
        found = try tensor(of: value.dictionaryValue)
    } else {
        throw Failure("outputs", "output \(shown(spec.name)) is neither an array nor an image")
    }
    found = try found.converted(to: wanted)
    guard found.count == spec.shape.reduce(1, *) else {
        throw Failure(
            "outputs", "output \(shown(spec.name)) has the shape \(found.shape), not \(spec.shape)")
    }
    // Core ML may leave out axes of an output of one element.
    found.shape = spec.shape
    return found
}

private func tensor(of array: MLMultiArray, _ name: String) throws -> Tensor {
    guard let type = multiArrayTypes.first(where: { $0.value == array.dataType })?.key else {
        throw Failure(
            "outputs", "output \(shown(name)) has elements of type \(array.dataType.rawValue)",
            hint: "this worker knows floats and int32")
    }
    var made = try Tensor(type, array.shape.map { $0.intValue })
    let (from, strides) = (array.dataPointer, array.strides.map { $0.intValue })
    made.data.withUnsafeMutableBytes { to in
        each(made.shape, strides) { index, at in
            (to.baseAddress! + index * type.bytes).copyMemory(
                from: from + at * type.bytes, byteCount: type.bytes)
        }
    }
    return made
}

private func tensor(of dictionary: [AnyHashable: NSNumber]) throws -> Tensor {
    // Class labels are all numbers or all texts.
    let sorted = dictionary.sorted { first, second in
        if let one = first.key as? Int, let other = second.key as? Int { return one < other }
        let (one, other) = ("\(first.key)", "\(second.key)")
        return one.unicodeScalars.lexicographicallyPrecedes(other.unicodeScalars)
    }
    var made = try Tensor(.float64, [sorted.count])
    made.fill { index, place in
        Tensor.store(sorted[index].value.doubleValue, at: place, .float64)
    }
    return made
}

/// Calls `body` with the index of each element in C order and its place in an array with strides:
/// Core ML pads rows for the Neural Engine.
private func each(_ shape: [Int], _ strides: [Int], _ body: (Int, Int) -> Void) {
    let count = shape.reduce(1, *)
    var index = [Int](repeating: 0, count: shape.count)
    var at = 0
    for element in 0..<count {
        body(element, at)
        for axis in shape.indices.reversed() {
            index[axis] += 1
            at += strides[axis]
            if index[axis] < shape[axis] { break }
            at -= index[axis] * strides[axis]
            index[axis] = 0
        }
    }
}

/// How an image's pixels become the numbers of the model's input: `pixel * scale + bias`.
private struct ImageMapping {
    let scale: Double
    let bias: [Double]

    init(_ details: [String: String]) throws {
        guard let scale = Double(details["image_scale"] ?? ""), scale != 0 else {
            throw Refusal("the artifact does not say how its images are scaled")
        }
        self.scale = scale
        bias = (details["image_bias"] ?? "").components(separatedBy: ",").compactMap(Double.init)
    }

    func pixel(_ value: Double, _ channel: Int) -> Double {
        (value - (bias.indices.contains(channel) ? bias[channel] : 0)) / scale
    }
}

/// The image that the model maps to an array (1, C, H, W): approximately, since its pixels have 8
/// bits, except in GRAYSCALE_FLOAT16.
private func picture(
    _ tensor: Tensor, _ space: String, _ mapping: ImageMapping
) throws -> CVPixelBuffer {
    guard tensor.shape.count == 4, tensor.shape[0] == 1 else {
        throw Refusal("an image has the shape (1, C, H, W), not \(tensor.shape)")
    }
    let (channels, height, width) = (tensor.shape[1], tensor.shape[2], tensor.shape[3])
    let format = space == "GRAYSCALE_FLOAT16" ? kCVPixelFormatType_OneComponent16Half
        : channels == 1 ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA
    // Memory that the GPU and the Neural Engine share.
    let attributes = NSDictionary(dictionary: ["IOSurfaceProperties": NSDictionary()])
    var made: CVPixelBuffer?
    CVPixelBufferCreate(nil, width, height, format, attributes as CFDictionary, &made)
    guard let buffer = made else {
        throw Failure("open", "an image of \(width) x \(height) pixels cannot be created")
    }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    guard let base = CVPixelBufferGetBaseAddress(buffer) else {
        throw Failure("open", "the pixels of an image cannot be reached")
    }
    let rowBytes = CVPixelBufferGetBytesPerRow(buffer)
    // An image is RGB whatever the network takes: Core ML swaps its channels for one of BGR.
    let order = space == "BGR" ? [0, 1, 2] : [2, 1, 0]
    for y in 0..<height {
        for x in 0..<width {
            func pixel(_ channel: Int) -> Double {
                mapping.pixel(tensor.number((channel * height + y) * width + x), channel)
            }
            func level(_ channel: Int) -> UInt8 {
                UInt8(min(max(pixel(channel).rounded(.toNearestOrEven), 0), 255))
            }
            let row = base + y * rowBytes
            switch format {
            case kCVPixelFormatType_OneComponent16Half:
                row.storeBytes(of: halfOf(pixel(0)), toByteOffset: x * 2, as: UInt16.self)
            case kCVPixelFormatType_OneComponent8:
                row.storeBytes(of: level(0), toByteOffset: x, as: UInt8.self)
            default:
                for (place, channel) in order.enumerated() {
                    row.storeBytes(of: level(channel), toByteOffset: x * 4 + place, as: UInt8.self)
                }
                row.storeBytes(of: 255, toByteOffset: x * 4 + 3, as: UInt8.self)
            }
        }
    }
    return buffer
}

private func pixels(of buffer: CVPixelBuffer, _ space: String, _ name: String) throws -> Tensor {
    CVPixelBufferLockBaseAddress(buffer, .readOnly)
    defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
    guard let base = CVPixelBufferGetBaseAddress(buffer) else {
        throw Failure("outputs", "the pixels of output \(shown(name)) cannot be reached")
    }
    let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
    let rowBytes = CVPixelBufferGetBytesPerRow(buffer)
    let order: [Int]
    let type: ElementType
    switch CVPixelBufferGetPixelFormatType(buffer) {
    case kCVPixelFormatType_32BGRA: (order, type) = (space == "BGR" ? [0, 1, 2] : [2, 1, 0], .uint8)
    case kCVPixelFormatType_OneComponent8: (order, type) = ([0], .uint8)
    case kCVPixelFormatType_OneComponent16Half: (order, type) = ([0], .float16)
    case let format:
        throw Failure("outputs", "output \(shown(name)) has pixels of the unknown format \(format)")
    }
    var made = try Tensor(type, [1, order.count, height, width])
    let pixelBytes = order.count == 1 ? type.bytes : 4
    made.fill { index, place in
        let (x, y, channel) = (index % width, index / width % height, index / (width * height))
        let at = y * rowBytes + x * pixelBytes + order[channel]
        place.copyMemory(from: base + at, byteCount: type.bytes)
    }
    return made
}
