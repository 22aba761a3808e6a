import CoreML
import Foundation

/// What is loaded, and how.
struct Opening {
    var artifact: Request.Artifact
    var path: String
    var extra: [String: String]
    var inputs: [Tensor]
}

/// A model in memory with its inputs, ready to be run.
final class Session {
    /// How long the compilation took, a part of the load; 0 for a compiled model.
    let compileNs: Int64
    let settings: [String: String]
    let configuration: Configuration
    let compiled: URL
    private let artifact: Request.Artifact
    private let temporary: Bool
    private let model: MLModel
    private let inputs: MLDictionaryFeatureProvider
    private let options = MLPredictionOptions()
    private var state: Any?
    private var given: MLFeatureProvider?

    /// Compiles and loads the model, and puts the inputs in place. Throws ``Failure`` and
    /// ``Refusal``.
    init(_ opening: Opening) throws {
        artifact = opening.artifact
        configuration = try Configuration(opening.extra)
        inputs = try features(of: artifact, opening.inputs)
        let source = URL(fileURLWithPath: opening.path)
        guard FileManager.default.fileExists(atPath: opening.path) else {
            throw Failure("open", "no model was found at \(opening.path)", hint: "push it again")
        }
        temporary = source.pathExtension != "mlmodelc"
        let start = nowNs()
        do {
            compiled = temporary ? try MLModel.compileModel(at: source) : source
            compileNs = temporary ? nowNs() - start : 0
            model = try MLModel(contentsOf: compiled, configuration: try configuration.made())
        } catch let error as Failure {
            throw error
        } catch {
            throw Failure(
                "open", "Core ML cannot load \(source.lastPathComponent): \(described(error))",
                hint: "a damaged package, one for a newer system (see --option target=...), or "
                    + "compute units or a specialization that this system does not support")
        }
        let backings = outputBackings(of: model, artifact)
        options.outputBackings = backings
        settings = Session.settings(artifact, configuration, backings.count)
        if artifact.details["states"] != nil { state = try newState() }
    }

    deinit {
        // Core ML compiles into the folder for temporary files, which a phone rarely empties.
        if temporary { try? FileManager.default.removeItem(at: compiled) }
    }

    /// Runs the model once and returns the time from just before the call until its outputs can be
    /// read.
    func run() throws -> Int64 {
        try pooled {
            let start = nowNs()
            let found = try predict(state)
            let elapsed = nowNs() - start
            given = found
            return elapsed
        }
    }

    /// The outputs of the latest inference, in the order of the artifact's. A model with states is
    /// run once more from a new state, as the reference was.
    func outputs() throws -> [Tensor] {
        guard var found = given else {
            throw Failure("outputs", "outputs are available only after an inference")
        }
        if state != nil { found = try predict(try newState()) }
        return try artifact.outputs.map { spec in
            guard let value = found.featureValue(for: spec.name) else {
                throw Failure(
                    "outputs", "the model has no output \(shown(spec.name))",
                    hint: "the artifact is of another model")
            }
            return try tensor(of: value, spec, artifact.colorSpaces[spec.name] ?? "RGB")
        }
    }

    private func predict(_ state: Any?) throws -> MLFeatureProvider {
        do {
            if #available(macOS 15.0, iOS 18.0, *), let state = state as? MLState {
                return try model.prediction(from: inputs, using: state, options: options)
            }
            return try model.prediction(from: inputs, options: options)
        } catch {
            throw Failure(
                "time", "Core ML failed in an inference: \(described(error))",
                hint: "try other compute_units, or convert the model for another --option target")
        }
    }

    private func newState() throws -> Any {
        if #available(macOS 15.0, iOS 18.0, *) { return model.makeState() }
        throw Failure(
            "open", "Core ML cannot create the state of the model",
            hint: "states need macOS 15 or iOS 18", kind: "unavailable")
    }

    private static func settings(
        _ artifact: Request.Artifact, _ configuration: Configuration, _ backings: Int
    ) -> [String: String] {
        var settings = [
            // Core ML chooses the number of threads and does not report it.
            "threads": "unknown",
            "compute_units": configuration.computeUnits,
            "specialization": configuration.specialization,
            "clock": "call",
            "timer": clockName,
            "worker": "apple",
            "outputs_preallocated": "\(backings) of \(artifact.outputs.count)",
            buildSetting: systemBuild() ?? "unknown",
            "thermal_state": thermalStatus() ?? "unknown",
        ]
        if !artifact.images.isEmpty {
            settings["input"] = "image"
            if artifact.images.contains(where: { $0.value != "GRAYSCALE_FLOAT16" }) {
                // Images are rounded to 8 bits; the reference's inputs are not.
                settings["input_bits"] = "8"
            }
        }
        if artifact.details["states"] != nil { settings["states"] = "kept between inferences" }
        return settings
    }
}

/// The options of the backend, which are those of the Python worker.
struct Configuration: Sendable {
    private(set) var computeUnits = "all"
    private(set) var specialization = "default"

    private static let units = ["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"]
    private static let specializations = ["default", "fast_prediction"]

    init(_ extra: [String: String]) throws {
        for (name, value) in extra {
            switch name {
            case "compute_units":
                computeUnits = try Configuration.choice(name, value, Configuration.units)
            case "specialization":
                specialization = try Configuration.choice(name, value, Configuration.specializations)
            default:
                throw Refusal(
                    "unknown option \(shown(name)) of backend coreml",
                    hint: "one of: compute_units, specialization")
            }
        }
    }

    private static func choice(_ name: String, _ value: String, _ all: [String]) throws -> String {
        if all.contains(value) { return value }
        throw Refusal(
            "option \(name) cannot be \(shown(value))", hint: "one of: " + all.joined(separator: ", "))
    }

    /// The configuration for Core ML. Throws ``Failure`` where the system is too old for it.
    func made() throws -> MLModelConfiguration {
        let made = MLModelConfiguration()
        switch computeUnits {
        case "cpu_only": made.computeUnits = .cpuOnly
        case "cpu_and_gpu": made.computeUnits = .cpuAndGPU
        case "cpu_and_ne": made.computeUnits = .cpuAndNeuralEngine
        default: made.computeUnits = .all
        }
        // Without a hint Core ML gets none, as from the Python worker.
        if specialization == "fast_prediction" {
            guard #available(macOS 15.0, iOS 18.0, *) else {
                throw Failure(
                    "open", "\(systemName()) has no specialization strategies",
                    hint: "omit specialization; it needs macOS 15 or iOS 18", kind: "unavailable")
            }
            made.optimizationHints.specializationStrategy = .fastPrediction
        }
        return made
    }
}

extension Request.Artifact {
    /// Name of each image, input or output, whose color space differs from RGB.
    var colorSpaces: [String: String] {
        var found: [String: String] = [:]
        for part in (details["color_spaces"] ?? "").components(separatedBy: ", ") {
            guard let space = part.range(of: " ", options: .backwards) else { continue }
            found[String(part[..<space.lowerBound])] = String(part[space.upperBound...])
        }
        return found
    }

    /// Name of each image input -> its color space.
    var images: [String: String] {
        let names = (details["images"] ?? "").components(separatedBy: ",")
        let spaces = colorSpaces
        return inputs.reduce(into: [:]) {
            if names.contains($1.name) { $0[$1.name] = spaces[$1.name] ?? "RGB" }
        }
    }
}

/// The description in an error of Core ML, and that of the error below it, which says more.
func described(_ error: Error) -> String {
    let whole = error as NSError
    var parts = [whole.localizedDescription]
    if let below = whole.userInfo[NSUnderlyingErrorKey] as? NSError {
        parts.append(below.localizedDescription)
    }
    let lines = parts.map { $0.split(separator: "\n").first.map(String.init) ?? "" }
    return lines.map { $0.hasSuffix(".") ? String($0.dropLast()) : $0 }.filter { !$0.isEmpty }
        .reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }.joined(separator: ": ")
}

/// Frees what Apple's frameworks leave to be freed later: a block may be a million inferences.
func pooled<T>(_ body: () throws -> T) rethrows -> T {
    #if canImport(ObjectiveC)
        return try autoreleasepool(invoking: body)
    #else
        return try body()
    #endif
}
