import Foundation

/// Holds the conversation of docs/PROTOCOL.md on standard input and output until `close` or the end
/// of the input.
public func converse(probe: HostProbe) -> Never {
    let lines = Lines()
    let here = URL(fileURLWithPath: FileManager.default.currentDirectoryPath)
    let worker = Worker(base: here, probe: probe, facts: [:])
    lines.send(
        .object([
            ("type", .text("hello")), ("protocol", .number(protocolVersion)),
            ("program", .text(programName)), ("version", .text(workerVersion)),
            ("pid", .number(Int64(getpid()))), ("stoppable", .flag(false)),
        ]))
    while true {
        do {
            let request = try decoded(Request.self, from: lines.next())
            lines.send(worker.response(to: request))
        } catch {
            let reason = (error as? NotAMessage)?.reason ?? "\(error)"
            complain("a line is not a message of the protocol: \(reason)")
            _exit(1)
        }
        if worker.closed { _exit(0) }
    }
}

func complain(_ text: String) {
    FileHandle.standardError.write(Data("\(programName): \(text)\n".utf8))
}

/// Requests from standard input, read by a thread: when the harness is gone, the process ends at
/// once, also during an inference.
private final class Lines: @unchecked Sendable {
    private static let longest = 64 << 20
    private let input: Int32
    private let output: Int32
    private let timeoutMs: Int32
    private let came = NSCondition()
    private var waiting: [Data] = []
    private var problem: String?

    init() {
        // What Core ML prints to standard output must not reach the harness.
        timeoutMs = Lines.ownerTimeoutMs()
        input = dup(0)
        output = dup(1)
        guard input >= 0, output >= 0 else {
            complain("standard input and output must be open")
            exit(1)
        }
        dup2(2, 1)
        let nothing = open("/dev/null", O_RDONLY)
        if nothing >= 0 { dup2(nothing, 0) }
        signal(SIGPIPE, SIG_IGN)
        let thread = Thread { [self] in read() }
        thread.start()
    }

    func next() throws -> Data {
        came.lock()
        defer { came.unlock() }
        while waiting.isEmpty && problem == nil { came.wait() }
        if let problem = problem { throw NotAMessage(reason: problem) }
        return waiting.removeFirst()
    }

    func send(_ message: Json) {
        let bytes = Array((message.line + "\n").utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { write(output, $0.baseAddress!, $0.count) }
            if count < 0 && errno == EINTR { continue }
            if count < 0 { _exit(1) }
            sent += count
        }
    }

    private func read() {
        var part = [UInt8](repeating: 0, count: 1 << 16)
        var line = Data()
        while true {
            if timeoutMs > 0 {
                var watched = pollfd(fd: input, events: Int16(POLLIN), revents: 0)
                let ready = poll(&watched, 1, timeoutMs)
                if ready < 0 { continue }
                if ready == 0 {
                    complain("nothing was heard of the harness for \(timeoutMs) ms")
                    end()
                }
            }
            let count = part.withUnsafeMutableBytes { bytes in
                #if canImport(Darwin)
                    Darwin.read(input, bytes.baseAddress, bytes.count)
                #else
                    Glibc.read(input, bytes.baseAddress, bytes.count)
                #endif
            }
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { end() }
            var rest = part[..<count]
            while let newline = rest.firstIndex(of: 0x0A) {
                line.append(contentsOf: rest[..<newline])
                // An empty line is a sign of life.
                if !line.isEmpty { put(line) }
                line = Data()
                rest = rest[(newline + 1)...]
            }
            line.append(contentsOf: rest)
            if line.count > Lines.longest {
                fail("more than 64 MiB on one line")
                line = Data()
            }
        }
    }

    private func put(_ line: Data) {
        came.lock()
        waiting.append(line)
        came.signal()
        came.unlock()
    }

    private func fail(_ reason: String) {
        came.lock()
        problem = reason
        came.signal()
        came.unlock()
    }

    private func end() -> Never {
        endMarked("LATBENCH_WORKER")
        if timeoutMs > 0 { endMarked("LATBENCH_HARNESS") }
        // What this process has started ends too.
        if getpgrp() == getpid() { kill(0, SIGKILL) }
        _exit(0)
    }

    /// The time without a sign of life after which the harness is gone, or 0.
    private static func ownerTimeoutMs() -> Int32 {
        let name = "LATBENCH_OWNER_TIMEOUT_S"
        guard let text = ProcessInfo.processInfo.environment[name], !text.isEmpty else { return 0 }
        guard let seconds = Double(text), seconds > 0, seconds <= 1e6 else {
            complain("\(name) cannot be \(shown(text)): it is a number of seconds")
            exit(1)
        }
        return max(1, Int32(seconds * 1000))
    }
}
