// Values in /proc and /sys that several readers of host.h use. `root` is prepended to both.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host.h"

namespace latbench {

constexpr const char* kCpus = "/sys/devices/system/cpu";

// Paths of a file of each CPU, in the order of their numbers, and the numbers in them.
std::vector<std::string> cpu_files(const std::string& root, const std::string& name);
std::vector<std::int64_t> cpu_numbers(const std::string& root, const std::string& name);

// Folders of the groups of CPUs that share a clock, in the order of their numbers.
std::vector<std::string> policy_folders(const std::string& root);

// CPUs of one kind, such as a phone's fast or slow ones.
struct Cluster {
    std::vector<std::int64_t> cpus;
    Number max_khz;
};

// The slowest first; nothing if the system does not report them.
std::optional<std::vector<Cluster>> clusters(const std::string& root);

// Limit of the control group's CPU time, in thousandths of a CPU.
Number cpu_quota_milli(const std::string& root);

// How long the control group has been throttled.
Number throttled_ns(const std::string& root);

// The times of all CPUs since boot in ns: user, nice, system, idle, iowait, irq, softirq, steal,
// ...; nothing if there are fewer.
std::optional<std::vector<std::int64_t>> cpu_times_ns(const std::string& root);

}  // namespace latbench
