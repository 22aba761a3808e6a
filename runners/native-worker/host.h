// What /proc and /sys say about this machine: the readings, facts and conditions of latbench.host.
//
// `root` is prepended to both, for tests. What cannot be read, or holds something unexpected, is
// null.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace latbench {

using Number = std::optional<std::int64_t>;

// What the system reports about throttling at one moment.
struct Throttling {
    // Sums of the counters and of the durations.
    Number events, duration_ms;
    // Bits 0 to 3 hold now, bits 16 to 19 have held before.
    Number flags;
    // The highest state of a cooling device.
    Number cooling;
};

// Counters at one moment.
struct Snapshot {
    std::int64_t at_ns, cpu_ns;
    Number wait_ns, involuntary_switches, busy_ns, steal_ns, throttled_ns;
    Throttling throttling;
};

// The clock of all measurements: monotonic and system-wide.
std::int64_t now_ns();

Snapshot snapshot(const std::string& root);

// JSON of the values that docs/FORMAT.md calls readings, machine and conditions. On Android each
// starts programs of the system, which takes tens of milliseconds.
std::string readings(const Snapshot& before, const Snapshot& after, const std::string& root);
std::string machine(const std::string& root);
std::string conditions(const std::string& root);

// Processes of this control group that the kernel killed for lack of memory.
Number oom_kills(const std::string& root);

// The most memory that this process has held.
Number peak_rss_bytes();

// Name and version of the C library, such as `glibc 2.36`.
std::optional<std::string> libc_version();

// Sorted CPUs that this process may run on.
std::optional<std::vector<std::int64_t>> affinity();

}  // namespace latbench
