import CoreML
import Foundation

/// Where operators run, as docs/FORMAT.md describes it.
struct Placement: Sendable {
    struct Operator: Sendable {
        var unit: String
        var name: String
        var kind: String
        /// Its share of the estimated cost of an inference, if Core ML estimates one.
        var cost: Double?
    }

    /// In order; empty if they are not known.
    var operators: [Operator]
    var note: String

    private static let mostExamples = 12

    var units: Set<String> { Set(operators.map { $0.unit }) }

    var json: Json {
        guard !operators.isEmpty else {
            return .object([
                ("units", .object([("Core ML", .null)])), ("known", .text("unknown")),
                ("note", .text(note)),
            ])
        }
        let names = units.sorted()
        let changes = zip(operators, operators.dropFirst()).filter { $0.unit != $1.unit }.count
        let counts = names.map { name in
            (name, Json.number(Int64(operators.filter { $0.unit == name }.count)))
        }
        let examples = names.map { name in
            let found = operators.filter { $0.unit == name }.prefix(Placement.mostExamples)
            return (name, Json.array(found.map { .text("\($0.name) (\($0.kind))") }))
        }
        return .object([
            ("units", .object(counts)), ("known", .text("planned")), ("note", .text(note)),
            ("partitions", .number(Int64(changes + 1))), ("examples", .object(examples)),
        ])
    }
}

extension Placement {
    /// The plan by operator; null if there is none.
    var plan: Json {
        if operators.isEmpty { return .null }
        let told = operators.map { each in
            Json.object([
                ("name", .text(each.name)), ("kind", .text(each.kind)), ("unit", .text(each.unit)),
                ("cost_ppm", Json(each.cost.map { Int64(($0 * 1e6).rounded()) })),
            ])
        }
        return .object([("source", .text("MLComputePlan")), ("operators", .array(told))])
    }
}

/// The placement that Core ML plans for a loaded model (`MLComputePlan`): it does not report what
/// was used.
func placement(of session: Session, function: String) -> Placement {
    guard #available(macOS 14.4, iOS 17.4, *) else {
        return Placement(
            operators: [], note: "\(systemName()) has no MLComputePlan (macOS 14.4, iOS 17.4)")
    }
    let answer = Answer()
    let done = DispatchSemaphore(value: 0)
    let (url, configuration) = (session.compiled, session.configuration)
    Task.detached {
        answer.value = await planned(url, configuration, function)
        done.signal()
    }
    done.wait()
    return answer.value
}

/// Handed from one task to the thread that waits for it.
private final class Answer: @unchecked Sendable {
    var value = Placement(operators: [], note: "")
}

@available(macOS 14.4, iOS 17.4, *)
private func planned(
    _ url: URL, _ configuration: Configuration, _ function: String
) async -> Placement {
    let plan: MLComputePlan
    do {
        plan = try await MLComputePlan.load(contentsOf: url, configuration: configuration.made())
    } catch {
        return Placement(
            operators: [], note: "MLComputePlan is not available: \(described(error))")
    }
    var found: [Placement.Operator] = []
    switch plan.modelStructure {
    case .program(let program):
        guard let main = program.functions[function] else {
            return Placement(
                operators: [],
                note: "MLComputePlan is not available: the compiled model has no function "
                    + shown(function))
        }
        for operation in operations(of: main.block) {
            guard let usage = plan.deviceUsage(for: operation) else { continue }
            let name = operation.outputs.first?.name ?? "unnamed"
            found.append(
                Placement.Operator(
                    unit: unit(usage.preferred), name: name, kind: operation.operatorName,
                    cost: plan.estimatedCost(of: operation)?.weight))
        }
    case .neuralNetwork(let network):
        for layer in network.layers {
            guard let usage = plan.deviceUsage(for: layer) else { continue }
            found.append(
                Placement.Operator(
                    unit: unit(usage.preferred), name: layer.name, kind: layer.type, cost: nil))
        }
    default: break
    }
    return Placement(
        operators: found,
        note: found.isEmpty
            ? "MLComputePlan reports no device for any operation"
            : "preferred devices of MLComputePlan; Core ML does not report the devices used")
}

/// The operations of a block and of those inside it: branches and bodies of loops.
@available(macOS 14.4, iOS 17.4, *)
private func operations(
    of block: MLModelStructure.Program.Block
) -> [MLModelStructure.Program.Operation] {
    block.operations.flatMap { [$0] + $0.blocks.flatMap(operations) }
}

@available(macOS 14.0, iOS 17.0, *)
private func unit(_ device: MLComputeDevice) -> String {
    switch device {
    case .cpu: return "cpu"
    case .gpu: return "gpu"
    case .neuralEngine: return "neural_engine"
    @unknown default: return "unknown"
    }
}

/// Units that Core ML finds on this device.
func availableUnits() -> [String] {
    if #available(macOS 14.0, iOS 17.0, *) {
        let found = Set(MLModel.availableComputeDevices.map(unit))
        return ["cpu", "gpu", "neural_engine"].filter(found.contains)
    }
    return ["cpu"]
}
