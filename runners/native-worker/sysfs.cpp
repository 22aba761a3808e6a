#include "sysfs.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "text.h"

namespace latbench {
namespace {

constexpr const char* kGroups = "sys/fs/cgroup";

// Folders of the control group and of its ancestors. Version 2 names no controller.
std::vector<std::string> group_folders(const std::string& root, const std::string& controller,
                                       const std::string& mount) {
    std::vector<std::string> found;
    for (const std::string& line :
         split(read_text(root + "/proc/self/cgroup").value_or(""), '\n')) {
        const std::size_t one = line.find(':');
        const std::size_t two = one == std::string::npos ? one : line.find(':', one + 1);
        if (two == std::string::npos) continue;
        const std::string names = line.substr(one + 1, two - one - 1);
        std::string path = line.substr(two + 1);
        const std::vector<std::string> steps = split(path, '/');
        if (std::find(steps.begin(), steps.end(), "..") != steps.end()) continue;
        const std::vector<std::string> all = split(names, ',');
        if (controller.empty() ? !names.empty()
                               : std::find(all.begin(), all.end(), controller) == all.end()) {
            continue;
        }
        path.erase(0, std::min(path.find_first_not_of('/'), path.size()));
        while (true) {
            found.push_back(root + "/" + mount + (path.empty() ? "" : "/" + path));
            if (path.empty()) break;
            const std::size_t slash = path.rfind('/');
            path.erase(slash == std::string::npos ? 0 : slash);
        }
    }
    return found;
}

std::int64_t ns_per_tick() {
    static const std::int64_t length = 1'000'000'000 / std::max(sysconf(_SC_CLK_TCK), 1L);
    return length;
}

}  // namespace

std::vector<std::string> cpu_files(const std::string& root, const std::string& name) {
    std::vector<std::pair<std::int64_t, std::string>> found;
    for (const std::string& folder : names_in(root + kCpus)) {
        if (!starts_with(folder, "cpu")) continue;
        if (const Number number = decimal(folder.substr(3))) {
            found.emplace_back(*number, root + kCpus + "/" + folder + "/" + name);
        }
    }
    std::sort(found.begin(), found.end());
    std::vector<std::string> paths;
    for (auto& each : found) paths.push_back(std::move(each.second));
    return paths;
}

std::vector<std::int64_t> cpu_numbers(const std::string& root, const std::string& name) {
    std::vector<std::int64_t> found;
    for (const std::string& path : cpu_files(root, name)) {
        if (const Number number = read_number(path)) found.push_back(*number);
    }
    return found;
}

std::vector<std::string> policy_folders(const std::string& root) {
    const std::string folder = root + kCpus + "/cpufreq";
    std::vector<std::pair<std::size_t, std::string>> found;
    for (const std::string& name : names_in(folder)) {
        const std::string start = "policy";
        if (!starts_with(name, start) || name.size() == start.size()) continue;
        if (!is_decimal(name.substr(start.size(), 1))) continue;
        found.emplace_back(name.size(), folder + "/" + name);
    }
    std::sort(found.begin(), found.end());
    std::vector<std::string> paths;
    for (auto& each : found) paths.push_back(std::move(each.second));
    return paths;
}

std::optional<std::vector<Cluster>> clusters(const std::string& root) {
    // The highest clock of each CPU: its policy names those that are offline too.
    std::map<std::int64_t, std::int64_t> clocks;
    for (const std::string& policy : policy_folders(root)) {
        const Number most = read_number(policy + "/cpuinfo_max_freq");
        if (!most) continue;
        for (const std::string& cpu : words(read_text(policy + "/related_cpus").value_or(""))) {
            if (const Number number = decimal(cpu)) clocks[*number] = *most;
        }
    }
    // The slowest first: by capacity, which tells kinds with equal clocks apart, then by clock.
    std::map<std::pair<std::int64_t, std::int64_t>, Cluster> found;
    const std::vector<std::string> capacities = cpu_files(root, "cpu_capacity");
    const std::vector<std::string> own = cpu_files(root, "cpufreq/cpuinfo_max_freq");
    for (std::size_t i = 0; i < capacities.size(); ++i) {
        const std::string folder = capacities[i].substr(0, capacities[i].rfind('/'));
        const std::int64_t cpu = *decimal(folder.substr(folder.rfind('/') + 4));
        const Number capacity = read_number(capacities[i]);
        const auto clock = clocks.find(cpu);
        const Number most = clock != clocks.end() ? Number(clock->second) : read_number(own[i]);
        if (!capacity && !most) continue;
        Cluster& cluster = found[{capacity.value_or(-1), most.value_or(-1)}];
        cluster.max_khz = most;
        cluster.cpus.push_back(cpu);
    }
    if (found.empty()) return std::nullopt;
    std::vector<Cluster> all;
    for (auto& each : found) all.push_back(std::move(each.second));
    return all;
}

Number cpu_quota_milli(const std::string& root) {
    Number tightest;
    const auto add = [&](std::int64_t quota, std::int64_t period) {
        if (quota > INT64_MAX / 1000) return;
        const std::int64_t milli = quota * 1000 / period;
        tightest = std::min(tightest.value_or(milli), milli);
    };
    for (const std::string& folder : group_folders(root, "", kGroups)) {
        const std::vector<std::string> parts =
            split(read_text(folder + "/cpu.max").value_or(""), ' ');
        if (parts.size() != 2) continue;
        const Number quota = decimal(parts[0]), period = decimal(parts[1]);
        if (quota && period && *period > 0) add(*quota, *period);
    }
    for (const char* controller : {"cpu", "cpu,cpuacct"}) {
        for (const std::string& folder :
             group_folders(root, "cpu", std::string(kGroups) + "/" + controller)) {
            // -1 stands for no limit and is not such a number.
            const Number quota = read_number(folder + "/cpu.cfs_quota_us");
            const Number period = read_number(folder + "/cpu.cfs_period_us");
            if (quota.value_or(0) > 0 && period.value_or(0) > 0) add(*quota, *period);
        }
    }
    return tightest;
}

Number throttled_ns(const std::string& root) {
    std::vector<std::string> folders = group_folders(root, "", kGroups);
    for (std::string& each : group_folders(root, "cpu", std::string(kGroups) + "/cpu")) {
        folders.push_back(std::move(each));
    }
    for (const std::string& folder : folders) {
        const std::string text = read_text(folder + "/cpu.stat").value_or("");
        for (const auto& [name, scale] :
             {std::pair{"throttled_usec ", 1000}, std::pair{"throttled_time ", 1}}) {
            for (const std::string& line : split(text, '\n')) {
                if (!starts_with(line, name)) continue;
                const Number value = decimal(line.substr(std::string_view(name).size()));
                if (value && *value <= INT64_MAX / scale) return *value * scale;
            }
        }
    }
    return std::nullopt;
}

std::optional<std::vector<std::int64_t>> cpu_times_ns(const std::string& root) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
        std::fopen((root + "/proc/stat").c_str(), "re"), &std::fclose);
    char line[1024];
    // Machines with many CPUs have long files, and the first line is all that is wanted.
    if (!file || std::fgets(line, sizeof line, file.get()) == nullptr) return std::nullopt;
    if (!starts_with(line, "cpu ")) return std::nullopt;
    std::vector<std::int64_t> found;
    for (const std::string& word : words(std::string_view(line).substr(4))) {
        const Number ticks = decimal(word);
        if (!ticks || *ticks > INT64_MAX / ns_per_tick() / 8) return std::nullopt;
        found.push_back(*ticks * ns_per_tick());
    }
    if (found.size() < 8) return std::nullopt;
    return found;
}

}  // namespace latbench
