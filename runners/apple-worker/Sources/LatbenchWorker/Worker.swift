import CoreML
import Foundation

/// Answers the requests of one worker: one model at a time.
final class Worker {
    /// Added to the settings of each session: how this program was built and started.
    private let facts: [String: String]
    private let probe: HostProbe
    /// What relative paths are relative to.
    private let base: URL
    private var session: Session?
    private var planned: Placement?
    private var openedNs: Int64 = 0
    private(set) var closed = false
    /// The peak of the memory to report, where that of the process has another cause: `.some(nil)` if
    /// it is not known.
    var peak: Int64??

    private static let mostCalls: Int64 = 4_000_000
    private static let longestPeriodNs: Int64 = 3_600_000_000_000

    init(base: URL, probe: HostProbe, facts: [String: String]) {
        self.base = base
        self.probe = probe
        self.facts = facts
    }

    /// The response to a request, also if it failed.
    func response(to request: Request) -> Json {
        do {
            return try handle(request)
        } catch let failure as Failure {
            return .object([("type", .text("failed"))] + failure.fields)
        } catch let refusal as Refusal {
            return .object([
                ("type", .text("refused")), ("message", .text(refusal.message)),
                ("hint", Json(refusal.hint)),
            ])
        } catch {
            let failure = Failure(request.stage, described(error))
            return .object([("type", .text("failed"))] + failure.fields)
        }
    }

    private func handle(_ request: Request) throws -> Json {
        switch request {
        case .open(let open): return try self.open(open)
        case .time(let time): return try self.time(time)
        case .timeOperators:
            _ = try live("time_operators")
            return .object([
                ("type", .text("operators_timed")), ("profile", .null),
                ("plan", planned?.plan ?? .null),
            ])
        case .outputs: return try outputs()
        case .close:
            session = nil
            closed = true
            return .object([("type", .text("closed"))])
        case .machine:
            return .object([
                ("type", .text("machine_told")), ("machine", machine(probe)), ("software", .null),
            ])
        case .conditions:
            return .object([
                ("type", .text("conditions_told")), ("conditions", conditions(probe)),
                ("oom_kills", .null),
            ])
        case .capabilities(let names):
            return .object([
                ("type", .text("capabilities_told")),
                ("backends", .object(names.map { ($0, capability($0)) })),
            ])
        case .signal(let pid, let name):
            let existed = try signalWorker(pid, name)
            return .object([("type", .text("signaled")), ("existed", .flag(existed))])
        case .reserve(let path, let owner):
            try takeLock(resolved(path), owner: owner)
            return .object([("type", .text("reserved"))])
        }
    }

    private func open(_ request: Request.Open) throws -> Json {
        session = nil
        guard request.backend == "coreml" else {
            throw Refusal(
                "the Swift worker has no backend \(shown(request.backend))", hint: "it has coreml")
        }
        guard (1...4096).contains(request.threads) else {
            throw Refusal(
                "the number of threads cannot be \(request.threads)", hint: "1 to 4096")
        }
        if request.pinned == true || request.cpus != nil {
            throw Failure(
                "open", "this system cannot pin a process to CPUs",
                hint: "use another protocol: latbench protocols", kind: "unavailable")
        }
        let stored = try request.inputs.map { try readNpz(resolved($0)) } ?? [:]
        let opening = Opening(
            artifact: request.artifact, path: resolved(request.path), extra: request.extra,
            inputs: try makeInputs(
                request.artifact.inputs, seed: request.seed.bits, stored: stored))
        // A failed load leaves objects behind that are freed with the pool.
        let (loaded, start) = try pooled {
            let start = nowNs()
            return (try Session(opening), start)
        }
        session = loaded
        openedNs = nowNs()
        let loadNs = openedNs - start
        let function = request.artifact.details["signature"] ?? "main"
        let plan = placement(of: loaded, function: function)
        planned = plan
        var settings = loaded.settings.merging(facts) { $1 }
        if inHalf(request.artifact, loaded.configuration, plan) { settings["precision"] = "fp16" }
        return .object([
            ("type", .text("opened")), ("load_ns", .number(loadNs)),
            ("compile_ns", .number(loaded.compileNs)), ("version", .text(runtimeVersion())),
            ("settings", Json(settings)), ("placement", plan.json),
        ])
    }

    /// Whether the model may compute in fp16: GPU and Neural Engine compute a neural network in
    /// fp16 whatever its weights. Without a plan this cannot be excluded.
    private func inHalf(
        _ artifact: Request.Artifact, _ configuration: Configuration, _ plan: Placement
    ) -> Bool {
        artifact.details["type"] == "neuralnetwork" && artifact.precision == "fp32"
            && configuration.computeUnits != "cpu_only" && plan.units != ["cpu"]
    }

    private func time(_ request: Request.Time) throws -> Json {
        let (calls, settle) = (request.calls, request.settle ?? 0)
        let session = try live("time")
        guard (0...Worker.mostCalls).contains(calls), (0...calls).contains(settle) else {
            throw Refusal(
                "a block cannot have \(calls) calls of which \(settle) are discarded",
                hint: "at most \(Worker.mostCalls) calls")
        }
        if let period = request.period_ns, !(0...Worker.longestPeriodNs).contains(period) {
            throw Refusal("a call cannot start every \(period) ns", hint: "at most one hour")
        }
        var samples: [Int64] = []
        samples.reserveCapacity(Int(calls))
        let start = nowNs() - openedNs
        try run(session, settle, request.period_ns, into: &samples)
        let before = Snapshot()
        try run(session, calls - settle, request.period_ns, into: &samples)
        let after = Snapshot()
        return .object([
            ("type", .text("timed")), ("start_ns", .number(start)), ("sample_ns", Json(samples)),
            ("readings", readings(before, after)),
        ])
    }

    /// Times inferences: back to back, or one every `period`, where a late one is followed by the
    /// next one at once.
    private func run(
        _ session: Session, _ calls: Int64, _ period: Int64?, into samples: inout [Int64]
    ) throws {
        guard let period = period else {
            for _ in 0..<calls { samples.append(try session.run()) }
            return
        }
        // Wait before the first call too: it follows the previous block.
        var due = nowNs() + period
        for _ in 0..<calls {
            sleepUntil(due)
            samples.append(try session.run())
            due = max(due + period, nowNs())
        }
    }

    private func outputs() throws -> Json {
        let tensors = try live("outputs").outputs()
        return .object([
            ("type", .text("outputs_given")),
            (
                "tensors",
                .array(
                    tensors.map { each in
                        .object([
                            ("dtype", .text(each.type.rawValue)),
                            ("shape", Json(each.shape.map(Int64.init))),
                            ("data", .text(each.data.base64EncodedString())),
                        ])
                    })
            ),
            ("peak_rss_bytes", Json(peak ?? peakMemoryBytes())),
        ])
    }

    /// Whether a model is loaded.
    var isOpen: Bool { session != nil }

    /// Reports what the process has reached until now, from now on.
    func keepPeak() {
        if peak == nil { peak = .some(peakMemoryBytes()) }
    }

    private func live(_ action: String) throws -> Session {
        if let session = session { return session }
        throw Failure("open", "\(action) was requested before a session was open")
    }

    private func resolved(_ path: String) -> String {
        URL(fileURLWithPath: path, relativeTo: base).path
    }
}

/// That of Core ML, which has none of its own.
private func runtimeVersion() -> String {
    #if canImport(Darwin)
        return systemName()
    #else
        return "stand-in for Core ML, \(systemName())"
    #endif
}

private func capability(_ name: String) -> Json {
    guard name == "coreml" else {
        return .object([
            ("available", .flag(false)), ("version", .null),
            ("reason", .text("the Swift worker has no backend \(shown(name))")),
            ("hint", .text("it has coreml")),
        ])
    }
    return .object([
        ("available", .flag(true)), ("version", .text(runtimeVersion())),
        ("units", .array(availableUnits().map { .text($0) })), ("reason", .null), ("hint", .null),
    ])
}
