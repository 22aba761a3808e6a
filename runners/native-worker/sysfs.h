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

// The hottest sensor known to be in the CPU.
Number temperature_mc(const std::string& root);

// Limit of the control group's CPU time, in thousandths of a CPU.
Number cpu_quota_milli(const std::string& root);

// How long the control group has been throttled.
Number throttled_ns(const std::string& root);

// The times of all CPUs since boot in ns: user, nice, system, idle, iowait, irq, softirq, steal,
// ...; nothing if there are fewer.
std::optional<std::vector<std::int64_t>> cpu_times_ns(const std::string& root);

}  // namespace latbench
