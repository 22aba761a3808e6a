import Foundation

/// Nanoseconds of a clock that nobody sets and that goes on while the device sleeps: what
/// `mach_continuous_time` counts. Its steps are 42 ns on Apple's processors.
func nowNs() -> Int64 {
    #if canImport(Darwin)
        Int64(clock_gettime_nsec_np(CLOCK_MONOTONIC_RAW))
    #else
        clockNs(CLOCK_MONOTONIC)
    #endif
}

func unixNs() -> Int64 { clockNs(CLOCK_REALTIME) }

/// CPU time of this process, all its threads.
func cpuNs() -> Int64 { clockNs(CLOCK_PROCESS_CPUTIME_ID) }

#if canImport(Darwin)
    let clockName = "mach_continuous_time"
#else
    let clockName = "CLOCK_MONOTONIC"
#endif

func sleepUntil(_ due: Int64) {
    while case let left = due - nowNs(), left > 0 {
        var time = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
        nanosleep(&time, nil)
    }
}

private func clockNs(_ clock: clockid_t) -> Int64 {
    var now = timespec()
    clock_gettime(clock, &now)
    return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
}
