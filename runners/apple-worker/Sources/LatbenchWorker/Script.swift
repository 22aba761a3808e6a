import Foundation

/// A run that nobody talks to: the requests are in a file (docs/PROTOCOL.md, "Scripts").
///
/// The workers `model`, `second` and `sentinel` are sessions of this one process, since an app cannot
/// start others. The lines may be executed in parts, each in a process of its own: see ``run(_:)``.
public final class Script: @unchecked Sendable {
    /// Where a job's files are.
    public struct Place: Sendable {
        /// `job.json` and `script.jsonl`, which the harness has written.
        var input: URL
        /// `answers.jsonl` and `status.json`, which are written here.
        var output: URL
        /// What relative paths in requests are relative to.
        var base: URL

        public init(input: URL, output: URL, base: URL) {
            self.input = input
            self.output = output
            self.base = base
        }
    }

    /// What is shown to whoever looks at the device.
    public struct Progress: Sendable {
        public var job: String
        public var what: String
        public var line: Int
        public var lines: Int
    }

    private struct About: Decodable {
        var version: Int
        var id: String
        var what: String
        var harness: String
        var lock: String
        var limit_s: Double
    }

    private struct Line: Decodable {
        var worker: String?
        var role: String
        var timeout_s: Double
        var request: Request
    }

    private struct Answer: Decodable {
        var line: Int
        var response: Kind

        struct Kind: Decodable {
            var type: String
        }
    }

    private struct Status: Decodable {
        var state: String
        var started_unix_ns: Int64
    }

    /// The one worker without which the script goes on.
    private static let sentinel = "sentinel"

    private let place: Place
    private let probe: HostProbe
    private let facts: [String: String]
    private let show: @Sendable (Progress) -> Void
    private var workers: [String: Worker] = [:]
    /// Workers that have failed: their other lines are skipped.
    private var ended: Set<String> = []
    /// Workers that have loaded a model in this process.
    private var opened: Set<String> = []
    private var startedUnixNs = unixNs()
    private let lock = NSLock()
    private var file: Int32 = -1
    private var over = false

    public init(
        at place: Place, probe: HostProbe, facts: [String: String] = [:],
        show: @escaping @Sendable (Progress) -> Void = { _ in }
    ) {
        self.place = place
        self.probe = probe
        self.facts = facts
        self.show = show
    }

    /// Executes the lines from `range.lowerBound` up to, but not including, `range.upperBound`, and
    /// appends the answers; without a range all of them, of a job that has not run. Returns a line
    /// about how it ended, and whether it failed.
    public func run(_ range: Range<Int>? = nil) -> (said: String, failed: Bool) {
        do {
            let about = try decoded(About.self, from: contents("job.json"))
            guard about.version <= 1 else {
                throw Failure("probe", "the job \(about.id) is of a newer latbench than this program's")
            }
            let all = try contents("script.jsonl").split(separator: 0x0A).map {
                try decoded(Line.self, from: $0)
            }
            let range = range ?? 0..<all.count
            guard range.upperBound <= all.count else {
                throw Failure("probe", "the script of \(about.id) has \(all.count) lines")
            }
            try begin(about, first: range.lowerBound, lines: all)
            do {
                try reserve(about)
                try execute(about, all, range)
            } catch {
                return finish("failed", failure(error), range)
            }
            return finish("finished", nil, range)
        } catch {
            // Where another run has written a status, it is that run's.
            let problem = failure(error)
            if !FileManager.default.fileExists(atPath: statusFile.path) { say("failed", problem) }
            return ("failed: \(problem.message)", true)
        }
    }

    /// Ends the job from another thread, because the system or the user wants it.
    public func interrupt(_ message: String, state: String = "failed") -> (said: String, failed: Bool) {
        finish(state, state == "failed" ? Failure("time", message) : nil, 0..<0)
    }

    private var statusFile: URL { place.output.appendingPathComponent("status.json") }

    private func begin(_ about: About, first: Int, lines: [Line]) throws {
        try FileManager.default.createDirectory(at: place.output, withIntermediateDirectories: true)
        let answers = place.output.appendingPathComponent("answers.jsonl")
        file = open(answers.path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard file >= 0 else {
            throw Failure("probe", "cannot write \(answers.path): \(lastError())")
        }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            throw Failure("probe", "the job \(about.id) is running already")
        }
        if FileManager.default.fileExists(atPath: statusFile.path) {
            let before = try decoded(Status.self, from: Data(contentsOf: statusFile))
            guard first > 0, before.state == "running" || before.state == "finished" else {
                throw Failure("probe", "the job \(about.id) has run already")
            }
            startedUnixNs = before.started_unix_ns
        }
        try resume(answers, before: first, lines)
        say("running", nil)
    }

    /// Takes the device's lock, if the job names one. The harness that leaves a job held it until a
    /// moment ago.
    private func reserve(_ about: About) throws {
        if about.lock.isEmpty { return }
        let now = ISO8601DateFormatter().string(from: Date())
        let owner = "the job \(about.id) of \(about.harness), running since \(now)"
        let path = URL(fileURLWithPath: about.lock, relativeTo: place.base).path
        let until = nowNs() + 15_000_000_000
        while true {
            do {
                return try takeLock(path, owner: owner)
            } catch let error as Failure where error.kind == "unavailable" && nowNs() < until {
                Thread.sleep(forTimeInterval: 0.2)
            }
        }
    }

    /// Cuts off an answer that was not written to its end, and finds the workers that have failed.
    private func resume(_ answers: URL, before first: Int, _ lines: [Line]) throws {
        let written = try Data(contentsOf: answers)
        let whole = written.lastIndex(of: 0x0A).map { written[...$0] } ?? Data()
        if whole.count < written.count { ftruncate(file, off_t(whole.count)) }
        for each in whole.split(separator: 0x0A) {
            let answer = try decoded(Answer.self, from: each)
            guard answer.line < first else {
                throw Failure("probe", "line \(answer.line) of the script has been executed already")
            }
            if ["failed", "refused"].contains(answer.response.type),
                let worker = lines[answer.line].worker
            {
                ended.insert(worker)
            }
        }
    }

    private func execute(_ about: About, _ lines: [Line], _ range: Range<Int>) throws {
        var failed: Failure?
        if !ended.subtracting([Script.sentinel]).isEmpty {
            failed = Failure("time", "the model had failed before")
        }
        for number in range {
            let line = lines[number]
            show(Progress(job: about.id, what: about.what, line: number, lines: lines.count))
            if let name = line.worker {
                if failed != nil || ended.contains(name) { continue }
                let left = about.limit_s - Double(unixNs() - startedUnixNs) / 1e9
                guard left > 0 else { throw outOfTime(about) }
                let response = answer(name, line, number, within: min(line.timeout_s, left), about)
                if let problem = problem(in: response) {
                    ended.insert(name)
                    workers[name] = nil
                    if name != Script.sentinel { failed = problem }
                }
                write(number, response)
                if line.role == "close" {
                    workers[name] = nil
                    // Between loads, slow storage disturbs nothing.
                    fsync(file)
                }
            } else {
                let worker = Worker(base: place.base, probe: probe, facts: facts)
                write(number, worker.response(to: line.request))
            }
        }
        if let failed = failed { throw failed }
    }

    /// A session cannot be ended from outside: a late answer ends the whole process.
    private func answer(
        _ name: String, _ line: Line, _ number: Int, within seconds: Double, _ about: About
    ) -> Json {
        let worker = workers[name] ?? Worker(base: place.base, probe: probe, facts: facts)
        workers[name] = worker
        if case .open = line.request { share(with: name, worker) }
        let late = DispatchWorkItem { [self] in
            let problem = seconds < line.timeout_s ? outOfTime(about) : Failure(
                line.request.stage,
                "no response within \(text(line.timeout_s)) s; the program was ended",
                kind: "timeout")
            if seconds >= line.timeout_s {
                write(number, .object([("type", .text("failed"))] + problem.fields))
            }
            let end = finish("failed", problem, 0..<0)
            complain(end.said)
            _exit(1)
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + seconds, execute: late)
        defer { late.cancel() }
        return worker.response(to: line.request)
    }

    /// Memory is that of the whole process: once a second model is loaded, its peak says nothing about
    /// either. What the first one had reached until then is its own.
    private func share(with name: String, _ opening: Worker) {
        for other in workers.values where other !== opening && other.isOpen { other.keepPeak() }
        if opening.peak == nil, !opened.subtracting([name]).isEmpty { opening.peak = .some(nil) }
        opened.insert(name)
    }

    private func outOfTime(_ about: About) -> Failure {
        Failure(
            "time", "the job was not done within its time limit of \(text(about.limit_s)) s",
            hint: "what was measured until then is in the record", kind: "timeout")
    }

    private func text(_ seconds: Double) -> String { String(format: "%g", seconds) }

    private func problem(in response: Json) -> Failure? {
        guard case .object(let members) = response else { return nil }
        func text(_ name: String) -> String? {
            for case (name, .text(let value)) in members { return value }
            return nil
        }
        switch text("type") {
        case "failed":
            return Failure(
                text("stage") ?? "time", text("message") ?? "", hint: text("hint"),
                kind: text("kind") ?? "error")
        case "refused": return Failure("open", text("message") ?? "", hint: text("hint"))
        default: return nil
        }
    }

    /// Nothing is written once the job is over.
    private func write(_ number: Int, _ response: Json) {
        lock.lock()
        defer { lock.unlock() }
        if over { return }
        let answer = Json.object([
            ("line", .number(Int64(number))), ("at_ns", .number(unixNs() - startedUnixNs)),
            ("response", response),
        ])
        let bytes = Array((answer.line + "\n").utf8)
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes {
                #if canImport(Darwin)
                    Darwin.write(file, $0.baseAddress!, $0.count)
                #else
                    Glibc.write(file, $0.baseAddress!, $0.count)
                #endif
            }
            if count < 0 && errno == EINTR { continue }
            if count < 0 {
                over = true
                let problem = Failure(
                    "time", "the job could not go on: \(lastError())",
                    hint: "free space on the device")
                say("failed", problem)
                complain(problem.message)
                _exit(1)
            }
            written += count
        }
    }

    private func finish(
        _ state: String, _ failure: Failure?, _ range: Range<Int>
    ) -> (said: String, failed: Bool) {
        lock.lock()
        defer { lock.unlock() }
        if !over {
            over = true
            say(state, failure)
        }
        if let failure = failure { return ("failed: \(failure.message)", true) }
        return ("\(state): lines \(range.lowerBound):\(range.upperBound)", false)
    }

    /// Replaces the status as a whole.
    private func say(_ state: String, _ failure: Failure?) {
        let status = Json.object([
            ("state", .text(state)), ("pid", .number(Int64(getpid()))),
            ("started_unix_ns", .number(startedUnixNs)),
            ("ended_unix_ns", state == "running" ? .null : .number(unixNs())),
            ("failure", failure.map { .object($0.fields) } ?? .null),
        ])
        // If even this does not fit, the lock on the answers says enough.
        try? FileManager.default.createDirectory(
            at: place.output, withIntermediateDirectories: true)
        try? Data(status.line.utf8).write(to: statusFile, options: .atomic)
    }

    private func contents(_ name: String) throws -> Data {
        let path = place.input.appendingPathComponent(name)
        do {
            return try Data(contentsOf: path)
        } catch {
            throw Failure("probe", "cannot read \(path.path)", hint: "push the job again")
        }
    }

    private func failure(_ error: Error) -> Failure {
        if let failure = error as? Failure { return failure }
        if let line = error as? NotAMessage {
            return Failure("probe", "a file of the job cannot be read: \(line.reason)")
        }
        return Failure("time", described(error))
    }
}

/// `FIRST:END` as a half-open range.
public func readRange(_ text: String) -> Range<Int>? {
    let ends = text.split(separator: ":", omittingEmptySubsequences: false).compactMap { Int($0) }
    guard ends.count == 2, text.filter({ $0 == ":" }).count == 1, 0 <= ends[0], ends[0] <= ends[1]
    else { return nil }
    return ends[0]..<ends[1]
}
