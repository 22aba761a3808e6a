import Foundation

#if canImport(Darwin)
    @preconcurrency import Darwin
#endif
#if os(macOS)
    import IOKit.ps
#endif

/// What only the program around the library can ask the system: UIKit's facts in an app.
public struct HostProbe: Sendable {
    public struct Power: Sendable {
        var batteryPercent: Int64?
        var charging: Bool?
        var onBattery: Bool?

        public init(batteryPercent: Int64?, charging: Bool?, onBattery: Bool?) {
            self.batteryPercent = batteryPercent
            self.charging = charging
            self.onBattery = onBattery
        }
    }

    /// A text that tells this device from an equal one.
    var identity: String?
    var power: @Sendable () -> Power

    public init(identity: String?, power: @escaping @Sendable () -> Power) {
        self.identity = identity
        self.power = power
    }

    /// What a program without an app knows.
    public static let plain = HostProbe(identity: nil) {
        Power(batteryPercent: nil, charging: nil, onBattery: onBattery())
    }
}

/// `nominal`, `fair`, `serious` or `critical`; nil where the system has no such state.
public func thermalStatus() -> String? {
    #if canImport(Darwin)
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: return "nominal"
        case .fair: return "fair"
        case .serious: return "serious"
        case .critical: return "critical"
        @unknown default: return nil
        }
    #else
        return nil
    #endif
}

func lowPowerMode() -> Bool? {
    #if canImport(Darwin)
        return ProcessInfo.processInfo.isLowPowerModeEnabled
    #else
        return nil
    #endif
}

/// Such as `macOS 15.5`.
func systemName() -> String {
    let version = ProcessInfo.processInfo.operatingSystemVersion
    let patch = version.patchVersion == 0 ? "" : ".\(version.patchVersion)"
    let numbers = "\(version.majorVersion).\(version.minorVersion)\(patch)"
    #if os(macOS)
        return "macOS \(numbers)"
    #elseif os(iOS)
        return "iOS \(numbers)"
    #else
        return "Linux \(numbers)"
    #endif
}

#if os(iOS)
    let buildSetting = "ios_build"
#else
    let buildSetting = "macos_build"
#endif

/// The build of the system, such as `24F74`.
func systemBuild() -> String? { systemText("kern.osversion") }

/// The facts of the message `machine_told`.
func machine(_ probe: HostProbe) -> Json {
    var names = utsname()
    uname(&names)
    let build = systemBuild().map { " (\($0))" } ?? ""
    let memory = Int64(clamping: ProcessInfo.processInfo.physicalMemory)
    let translated = systemNumber("sysctl.proc_translated") == 1
    var fields: [(String, Json)] = [
        ("hostname", Json(text(of: &names.nodename))),
        ("os", .text(systemName() + build)),
        ("kernel", .text("\(text(of: &names.sysname) ?? "") \(text(of: &names.release) ?? "")")),
        ("libc", .null),
        ("architecture", Json(architecture)),
        (
            "hypervisor",
            systemNumber("kern.hv_vmm_present") == 1 ? .text("unnamed hypervisor") : .null
        ),
        ("cpu_model", Json(systemText("machdep.cpu.brand_string") ?? product())),
        ("cpu_features", .null),
        ("caches", .null),
        ("sockets", .null),
        ("physical_cores", Json(systemNumber("hw.physicalcpu"))),
        ("logical_cpus", .number(Int64(ProcessInfo.processInfo.activeProcessorCount))),
        ("smt", .null),
        ("memory_bytes", .number(memory)),
    ]
    if let product = product() { fields.append(("product", .text(product))) }
    if let clusters = clusters() { fields.append(("clusters", clusters)) }
    if let identity = probe.identity { fields.append(("identity", .text(identity))) }
    if translated { fields.append(("emulated", .flag(true))) }
    return .object(fields)
}

#if arch(arm64)
    let architecture = "arm64"
#else
    let architecture = "x86_64"
#endif

/// Apple's name of the device, such as `iPhone14,4`.
private func product() -> String? {
    // On a Mac `hw.machine` is the architecture, and on a phone `hw.model` is its board.
    #if os(iOS)
        return systemText("hw.machine")
    #else
        return systemText("hw.model")
    #endif
}

/// Groups of equal CPUs, the slowest first; their clocks are not public. CPUs are numbered here in
/// that order, since Apple's systems give them no numbers.
private func clusters() -> Json? {
    guard let levels = systemNumber("hw.nperflevels"), levels > 0 else { return nil }
    var next: Int64 = 0
    var found: [Json] = []
    for level in (0..<levels).reversed() {
        guard let count = systemNumber("hw.perflevel\(level).logicalcpu") else { return nil }
        found.append(
            .object([("cpus", Json(Array(next..<next + count))), ("max_khz", .null)]))
        next += count
    }
    return .array(found)
}

/// The state of the message `conditions_told`.
func conditions(_ probe: HostProbe) -> Json {
    let power = probe.power()
    var average = 0.0
    let load = getloadavg(&average, 1) == 1 ? Int64((average * 1000).rounded()) : nil
    var fields: [(String, Json)] = [
        ("unix_ns", .number(unixNs())),
        ("affinity", .null),
        ("cpu_quota_milli", .null),
        ("usable_cpus", .number(Int64(ProcessInfo.processInfo.activeProcessorCount))),
        ("governor", .null),
        ("turbo", .null),
        ("frequency_khz", .null),
        ("temperature_mc", .null),
        ("memory_available_bytes", .null),
        ("load_1m_milli", Json(load)),
        ("throttled_ns", .null),
        ("steal_ns", .null),
        ("on_battery", Json(power.onBattery)),
    ]
    if let percent = power.batteryPercent { fields.append(("battery_percent", .number(percent))) }
    if let charging = power.charging { fields.append(("charging", .flag(charging))) }
    if let status = thermalStatus() { fields.append(("thermal_status", .text(status))) }
    if let low = lowPowerMode() { fields.append(("low_power_mode", .flag(low))) }
    return .object(fields)
}

private func onBattery() -> Bool? {
    #if os(macOS)
        guard let snapshot = IOPSCopyPowerSourcesInfo()?.takeRetainedValue(),
            let source = IOPSGetProvidingPowerSourceType(snapshot)?.takeUnretainedValue()
        else { return nil }
        return source as String == "Battery Power"
    #else
        return nil
    #endif
}

/// The most memory that this process has held.
func peakMemoryBytes() -> Int64? {
    #if canImport(Darwin)
        var facts = task_vm_info_data_t()
        var count = mach_msg_type_number_t(
            MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<integer_t>.size)
        let status = withUnsafeMutablePointer(to: &facts) {
            $0.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        return status == KERN_SUCCESS ? Int64(facts.ledger_phys_footprint_peak) : nil
    #else
        let lines = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = lines.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return line?.split(separator: " ").dropFirst().first.flatMap { Int64($0) }.map { $0 * 1024 }
    #endif
}

#if canImport(Darwin)
    /// Each call of the function would count one more user of the port.
    private let host = mach_host_self()
#endif

/// CPU time of all processes since the system was started.
private func busyNs() -> Int64? {
    let tickNs: Int64 = 10_000_000
    #if canImport(Darwin)
        var load = host_cpu_load_info_data_t()
        var count = mach_msg_type_number_t(
            MemoryLayout<host_cpu_load_info_data_t>.size / MemoryLayout<integer_t>.size)
        let status = withUnsafeMutablePointer(to: &load) {
            $0.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                host_statistics(host, HOST_CPU_LOAD_INFO, $0, &count)
            }
        }
        guard status == KERN_SUCCESS else { return nil }
        // User, system, idle, nice.
        return (Int64(load.cpu_ticks.0) + Int64(load.cpu_ticks.1) + Int64(load.cpu_ticks.3)) * tickNs
    #else
        guard let text = try? String(contentsOfFile: "/proc/stat", encoding: .utf8),
            let line = text.split(separator: "\n").first
        else { return nil }
        let ticks = line.split(separator: " ").dropFirst().prefix(3).compactMap { Int64($0) }
        return ticks.count == 3 ? ticks.reduce(0, +) * tickNs : nil
    #endif
}

/// Counters before or after a block.
struct Snapshot {
    let busy = busyNs()
    let cpu = cpuNs()
    let switches: Int64
    let at: Int64

    init() {
        var usage = rusage()
        #if canImport(Darwin)
            getrusage(RUSAGE_SELF, &usage)
        #else
            getrusage(RUSAGE_SELF.rawValue, &usage)
        #endif
        switches = Int64(usage.ru_nivcsw)
        at = nowNs()
    }
}

/// The readings of a block. What Apple's systems do not tell is null.
func readings(_ before: Snapshot, _ after: Snapshot) -> Json {
    let cpu = after.cpu - before.cpu
    var others: Int64?
    if let first = before.busy, let last = after.busy, last >= first {
        // Ticks are coarse: what the worker is known to have used may exceed what was counted.
        others = max(0, last - first - cpu)
    }
    var fields: [(String, Json)] = [
        ("wall_ns", .number(after.at - before.at)),
        ("cpu_ns", .number(cpu)),
        ("wait_ns", .null),
        ("involuntary_switches", .number(after.switches - before.switches)),
        ("others_ns", Json(others)),
        ("steal_ns", .null),
        ("throttled_ns", .null),
        ("frequency_khz", .null),
        ("temperature_mc", .null),
    ]
    if let status = thermalStatus() { fields.append(("thermal_status", .text(status))) }
    return .object(fields)
}

private func systemText(_ name: String) -> String? {
    #if canImport(Darwin)
        var size = 0
        guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 1 else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    #else
        return nil
    #endif
}

private func systemNumber(_ name: String) -> Int64? {
    #if canImport(Darwin)
        var value: Int64 = 0
        var size = MemoryLayout<Int64>.size
        // Numbers of 32 bits fill the lower half, which comes first.
        return sysctlbyname(name, &value, &size, nil, 0) == 0 ? value : nil
    #else
        return nil
    #endif
}

/// The text in an array of characters, which Swift sees as a tuple.
private func text<T>(of characters: inout T) -> String? {
    withUnsafeBytes(of: &characters) { bytes in
        let found = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        return found.isEmpty ? nil : found
    }
}
