import Foundation

/// Takes the lock of the device until this process ends. Throws ``Failure``, of kind
/// `unavailable` while another process has it.
func takeLock(_ path: String, owner: String) throws {
    var file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o644)
    if file < 0, errno == EACCES {
        // Of another user, it can be locked but not written.
        file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
    }
    guard file >= 0 else {
        throw Failure(
            "probe", "cannot open the lock of this device, \(path): \(lastError())",
            hint: "the folder must be writable, with space left")
    }
    guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
        close(file)
        let other = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        throw Failure(
            "probe", "the device is in use by " + (other.isEmpty ? "another harness" : other),
            hint: "wait until it has finished, or end it", kind: "unavailable")
    }
    _ = ftruncate(file, 0)
    _ = owner.withCString { write(file, $0, strlen($0)) }
}

func lastError() -> String { String(cString: strerror(errno)) }

/// Signals the process group of another worker of this harness; whether there is one.
func signalWorker(_ pid: Int64, _ name: String) throws -> Bool {
    let numbers = ["stop": SIGSTOP, "continue": SIGCONT, "kill": SIGKILL]
    guard let number = numbers[name] else {
        throw Refusal("unknown signal \(shown(name))", hint: "one of: stop, continue, kill")
    }
    let mark = ProcessInfo.processInfo.environment["LATBENCH_HARNESS"] ?? ""
    guard let target = pid_t(exactly: pid), target > 1, !mark.isEmpty else {
        throw Refusal("process \(pid) cannot be signaled by this worker")
    }
    #if os(iOS)
        throw Refusal("an app cannot signal process \(pid)")
    #else
        #if os(Linux)
            guard let ours = isMarked(target, "LATBENCH_HARNESS") else { return false }
            if !ours { throw Refusal("process \(pid) is not a worker of this harness") }
        #endif
        // A worker leads its group; otherwise it was started by something that does.
        return kill(getpgid(target) == target ? -target : target, number) == 0
    #endif
}

/// Ends the other processes that have this one's value of a variable.
///
/// Apple's systems show nobody the variables of others. Nothing is started there, and all workers
/// have a time limit of their own (`LATBENCH_OWNER_TIMEOUT_S`), since none can be stopped.
func endMarked(_ variable: String) {
    #if os(Linux)
        // One may fork while the others are being ended; the next round finds its child.
        for _ in 0..<20 {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
            let others = names.compactMap { pid_t($0) }.filter { $0 != getpid() }
            let found = others.filter { isMarked($0, variable) == true }
            if found.isEmpty { return }
            for each in found { kill(each, SIGKILL) }
        }
    #endif
}

#if os(Linux)
    /// Whether a process has this one's value of a variable; nil if none has that number.
    private func isMarked(_ pid: pid_t, _ variable: String) -> Bool? {
        let value = ProcessInfo.processInfo.environment[variable] ?? ""
        guard let variables = FileManager.default.contents(atPath: "/proc/\(pid)/environ")
        else { return nil }
        let wanted = Data("\(variable)=\(value)".utf8)
        return !value.isEmpty && variables.split(separator: 0).contains(wanted)
    }
#endif
