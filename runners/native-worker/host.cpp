#include "host.h"

#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "json.h"

namespace latbench {
namespace {

using Text = std::optional<std::string>;

constexpr const char* kCpus = "/sys/devices/system/cpu";

std::string_view stripped(std::string_view text) {
    constexpr std::string_view around{"\0\n \t", 4};
    const std::size_t first = text.find_first_not_of(around);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(around) - first + 1);
}

bool is_decimal(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(),
                                        [](char letter) { return letter >= '0' && letter <= '9'; });
}

Number decimal(std::string_view text) {
    if (!is_decimal(text) || text.size() > 19) return std::nullopt;
    std::uint64_t value = 0;
    for (const char digit : text) value = value * 10 + static_cast<std::uint64_t>(digit - '0');
    if (value > INT64_MAX) return std::nullopt;
    return static_cast<std::int64_t>(value);
}

// A file with one number that is not negative.
Number read_number(const std::string& path) {
    const Text text = read_text(path);
    return text ? decimal(*text) : std::nullopt;
}

std::vector<std::string> split(std::string_view text, char at) {
    std::vector<std::string> parts;
    while (true) {
        const std::size_t end = text.find(at);
        parts.emplace_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

std::vector<std::string> words(std::string_view text) {
    std::vector<std::string> found;
    std::string word;
    for (const char letter : text) {
        if (!std::isspace(static_cast<unsigned char>(letter))) {
            word.push_back(letter);
        } else if (!word.empty()) {
            found.push_back(std::exchange(word, {}));
        }
    }
    if (!word.empty()) found.push_back(word);
    return found;
}

bool starts_with(std::string_view text, std::string_view start) {
    return text.substr(0, start.size()) == start;
}

std::string lower(std::string text) {
    for (char& letter : text) {
        letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    }
    return text;
}

// The value of the first `name : value` line of /proc/cpuinfo that has one.
Text cpuinfo_field(const std::string& cpuinfo, std::string_view name) {
    for (const std::string& line : split(cpuinfo, '\n')) {
        if (!starts_with(line, name)) continue;
        std::size_t at = name.size();
        while (at < line.size() && std::isspace(static_cast<unsigned char>(line[at]))) ++at;
        if (at == line.size() || line[at] != ':') continue;
        const std::string_view value = stripped(std::string_view(line).substr(at + 1));
        if (!value.empty()) return std::string(value);
    }
    return std::nullopt;
}

Text os_name(const std::string& root) {
    const std::string name = "PRETTY_NAME=";
    for (const std::string& line : split(read_text(root + "/etc/os-release").value_or(""), '\n')) {
        if (!starts_with(line, name)) continue;
        std::string_view value = std::string_view(line).substr(name.size());
        if (starts_with(value, "\"")) value.remove_prefix(1);
        if (!value.empty() && value.back() == '"') value.remove_suffix(1);
        if (!value.empty() && value.find('"') == std::string_view::npos) return std::string(value);
    }
    return std::nullopt;
}

Text cpu_model(const std::string& root) {
    const std::string text = read_text(root + "/proc/cpuinfo").value_or("");
    if (const Text name = cpuinfo_field(text, "model name")) {
        std::string joined;
        for (const std::string& word : words(*name)) joined += (joined.empty() ? "" : " ") + word;
        return joined;
    }
    if (Text board = read_text(root + "/proc/device-tree/model"); board && !board->empty()) {
        return board;
    }
    const Text implementer = cpuinfo_field(text, "CPU implementer");
    const Text part = cpuinfo_field(text, "CPU part");
    if (!implementer || !part) return std::nullopt;
    return "ARM implementer " + *implementer + " part " + *part;
}

std::optional<std::vector<std::string>> cpu_features(const std::string& root) {
    const std::string text = read_text(root + "/proc/cpuinfo").value_or("");
    Text features = cpuinfo_field(text, "flags");
    if (!features) features = cpuinfo_field(text, "Features");
    if (!features) return std::nullopt;
    std::vector<std::string> found = words(*features);
    std::sort(found.begin(), found.end());
    return found;
}

// The number of CPUs in a list such as `0-3,8`.
Number listed(const Text& text) {
    if (!text) return std::nullopt;
    std::int64_t total = 0;
    for (const std::string& part : split(*text, ',')) {
        const std::vector<std::string> ends = split(part, '-');
        if (ends.size() > 2) return std::nullopt;
        for (const std::string& end : ends) {
            if (!is_decimal(end) || end.size() > 6) return std::nullopt;
        }
        total += *decimal(ends.back()) - *decimal(ends.front()) + 1;
    }
    return total;
}

// Caches of CPU 0 as a JSON array, or null.
std::string caches(const std::string& root) {
    const std::string folder = root + kCpus + "/cpu0/cache";
    std::string out;
    for (const std::string& name : names_in(folder)) {
        if (!starts_with(name, "index")) continue;
        const std::string index = folder + "/" + name;
        const Number level = read_number(index + "/level");
        const Text kind = read_text(index + "/type");
        if (!level || !kind) continue;
        const std::string size = read_text(index + "/size").value_or("");
        Number bytes;
        if (!size.empty() && size.back() == 'K') bytes = decimal(size.substr(0, size.size() - 1));
        if (bytes) *bytes *= 1024;
        json::Members cache;
        cache.number("level", level).text("type", lower(*kind)).number("size_bytes", bytes);
        cache.number("shared_by", listed(read_text(index + "/shared_cpu_list")));
        out += (out.empty() ? "" : ",") + cache.done();
    }
    return out.empty() ? "null" : "[" + out + "]";
}

// Paths of a file of each CPU, in the order of their numbers.
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

Number sockets(const std::string& root) {
    const auto packages = cpu_numbers(root, "topology/physical_package_id");
    if (packages.empty()) return std::nullopt;
    return std::set<std::int64_t>(packages.begin(), packages.end()).size();
}

Number physical_cores(const std::string& root) {
    const auto packages = cpu_numbers(root, "topology/physical_package_id");
    const auto cores = cpu_numbers(root, "topology/core_id");
    if (packages.empty() || packages.size() != cores.size()) return std::nullopt;
    std::set<std::pair<std::int64_t, std::int64_t>> distinct;
    for (std::size_t i = 0; i < cores.size(); ++i) distinct.emplace(packages[i], cores[i]);
    return distinct.size();
}

std::optional<bool> smt(const std::string& root) {
    const Number active = read_number(root + kCpus + "/smt/active");
    if (!active || *active > 1) return std::nullopt;
    return *active == 1;
}

Text hypervisor(const std::string& root) {
    if (Text name = read_text(root + "/sys/hypervisor/type"); name && !name->empty()) return name;
    const std::string product = read_text(root + "/sys/class/dmi/id/product_name").value_or("");
    const std::string both =
        read_text(root + "/sys/class/dmi/id/sys_vendor").value_or("") + " " + product;
    const std::string dmi(stripped(both));
    const auto features = cpu_features(root);
    const bool flagged =
        features && std::find(features->begin(), features->end(), "hypervisor") != features->end();
    for (const char* known : {"KVM", "QEMU", "VMware", "VirtualBox", "Xen", "Virtual Machine",
                              "Amazon EC2", "Google"}) {
        if (dmi.find(known) == std::string::npos) continue;
        if (flagged || product.find("metal") == std::string::npos) return dmi;
        return std::nullopt;
    }
    return flagged ? Text("unnamed hypervisor") : std::nullopt;
}

std::optional<bool> turbo(const std::string& root) {
    if (const Number off = read_number(root + kCpus + "/intel_pstate/no_turbo")) return *off == 0;
    const Number boost = read_number(root + kCpus + "/cpufreq/boost");
    if (!boost) return std::nullopt;
    return *boost == 1;
}

// The hottest sensor known to be in the CPU.
Number temperature_mc(const std::string& root) {
    std::vector<std::string> sensors;
    const std::string chips = root + "/sys/class/hwmon", zones = root + "/sys/class/thermal";
    for (const std::string& chip : names_in(chips)) {
        if (!starts_with(chip, "hwmon")) continue;
        const std::string name = read_text(chips + "/" + chip + "/name").value_or("");
        const auto known = {"coretemp",    "k10temp",     "zenpower",
                            "cpu_thermal", "cpu-thermal", "scpi_sensors"};
        if (std::find(known.begin(), known.end(), name) == known.end()) continue;
        for (const std::string& file : names_in(chips + "/" + chip)) {
            const std::string end = "_input";
            if (starts_with(file, "temp") && file.size() >= end.size() &&
                file.compare(file.size() - end.size(), end.size(), end) == 0) {
                sensors.push_back(chips + "/" + chip + "/" + file);
            }
        }
    }
    for (const std::string& zone : names_in(zones)) {
        if (!starts_with(zone, "thermal_zone")) continue;
        const std::string kind = lower(read_text(zones + "/" + zone + "/type").value_or(""));
        if (starts_with(kind, "x86_pkg_temp") || starts_with(kind, "cpu") ||
            starts_with(kind, "soc")) {
            sensors.push_back(zones + "/" + zone + "/temp");
        }
    }
    constexpr std::int64_t implausible = 200'000;
    Number hottest;
    for (const std::string& sensor : sensors) {
        const Number found = read_number(sensor);
        if (found && *found < implausible) hottest = std::max(hottest.value_or(*found), *found);
    }
    return hottest;
}

// Folders of the control group and of its ancestors. Version 2 names no controller.
std::vector<std::string> group_folders(const std::string& root, const std::string& controller,
                                       const std::string& mount) {
    std::vector<std::string> found;
    for (const std::string& line : split(read_text(root + "/proc/self/cgroup").value_or(""), '\n')) {
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

constexpr const char* kGroups = "sys/fs/cgroup";

Number cpu_quota_milli(const std::string& root) {
    Number tightest;
    const auto add = [&](std::int64_t quota, std::int64_t period) {
        if (quota > INT64_MAX / 1000) return;
        const std::int64_t milli = quota * 1000 / period;
        tightest = std::min(tightest.value_or(milli), milli);
    };
    for (const std::string& folder : group_folders(root, "", kGroups)) {
        const std::vector<std::string> parts = split(read_text(folder + "/cpu.max").value_or(""), ' ');
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

std::int64_t ns_per_tick() {
    static const std::int64_t length = 1'000'000'000 / std::max(sysconf(_SC_CLK_TCK), 1L);
    return length;
}

// The times of the first line of /proc/stat, in ticks: user, nice, system, idle, iowait, irq,
// softirq, steal, ...; nothing if there are fewer.
std::optional<std::vector<std::int64_t>> cpu_ticks(const std::string& root) {
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

Number wait_ns(const std::string& root) {
    const std::string folder = root + "/proc/self/task";
    Number total;
    for (const std::string& thread : names_in(folder)) {
        const auto fields = words(read_text(folder + "/" + thread + "/schedstat").value_or(""));
        if (fields.size() != 3) continue;
        if (const Number waited = decimal(fields[1])) total = total.value_or(0) + *waited;
    }
    return total;
}

// The growth of a counter. One that shrank belongs to ended threads or to another boot.
Number difference(Number before, Number after) {
    if (!before || !after || *after < *before) return std::nullopt;
    return *after - *before;
}

std::int64_t clock_ns(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

Number memory_bytes(const std::string& root, std::string_view name) {
    for (const std::string& line : split(read_text(root + "/proc/meminfo").value_or(""), '\n')) {
        const std::vector<std::string> fields = words(line);
        if (fields.size() < 2 || fields[0] != name) continue;
        const Number value = decimal(fields[1]);
        if (value && *value <= INT64_MAX / 1024) return *value * 1024;
    }
    return std::nullopt;
}

std::optional<bool> on_battery(const std::string& root) {
    const std::string folder = root + "/sys/class/power_supply/";
    Text battery;
    for (const std::string& name : names_in(folder)) {
        const bool is = starts_with(name, "BAT") || lower(name).find("battery") != std::string::npos;
        if (is && !battery) battery = name;
    }
    if (!battery) return std::nullopt;
    for (const char* mains : {"AC0/online", "AC/online"}) {
        if (const Text online = read_text(folder + mains)) return *online != "1";
    }
    return lower(read_text(folder + *battery + "/status").value_or("")) == "discharging";
}

Number load_1m_milli() {
    double averages[1];
    if (getloadavg(averages, 1) != 1) return std::nullopt;
    return std::llrint(averages[0] * 1000);
}

}  // namespace

std::optional<std::string> read_text(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                               &std::fclose);
    if (!file) return std::nullopt;
    constexpr std::size_t most = 1'000'000;
    std::string text;
    char part[4096];
    while (text.size() < most) {
        const std::size_t count = std::fread(part, 1, sizeof part, file.get());
        if (count == 0) break;
        text.append(part, std::min(count, most - text.size()));
    }
    if (std::ferror(file.get()) || !json::is_utf8(text)) return std::nullopt;
    return std::string(stripped(text));
}

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> found;
    const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(folder.c_str()), &closedir);
    if (!open) return found;
    while (const dirent* entry = readdir(open.get())) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") found.push_back(name);
    }
    std::sort(found.begin(), found.end());
    return found;
}

std::optional<std::vector<std::int64_t>> affinity() {
    // The kernel refuses a set that is smaller than its own.
    for (std::size_t words = 16; words <= 1024; words *= 2) {
        std::vector<unsigned long> set(words);
        const std::size_t bytes = words * sizeof(unsigned long);
        if (sched_getaffinity(0, bytes, reinterpret_cast<cpu_set_t*>(set.data())) != 0) continue;
        constexpr std::size_t bits = sizeof(unsigned long) * CHAR_BIT;
        std::vector<std::int64_t> found;
        for (std::size_t cpu = 0; cpu < words * bits; ++cpu) {
            if ((set[cpu / bits] >> cpu % bits & 1) != 0) found.push_back(std::int64_t(cpu));
        }
        return found;
    }
    return std::nullopt;
}

std::optional<std::string> libc_version() {
#ifdef _CS_GNU_LIBC_VERSION
    char text[64];
    const std::size_t size = confstr(_CS_GNU_LIBC_VERSION, text, sizeof text);
    if (size > 0 && size <= sizeof text) return std::string(text);
#endif
    return std::nullopt;
}

std::int64_t now_ns() { return clock_ns(CLOCK_MONOTONIC); }

Number peak_rss_bytes() {
    for (const std::string& line : split(read_text("/proc/self/status").value_or(""), '\n')) {
        const std::vector<std::string> fields = words(line);
        if (fields.size() < 2 || fields[0] != "VmHWM:") continue;
        if (const Number kilobytes = decimal(fields[1])) return *kilobytes * 1024;
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return std::int64_t{usage.ru_maxrss} * 1024;
}

Snapshot snapshot(const std::string& root) {
    const auto ticks = cpu_ticks(root);
    Snapshot taken{};
    if (ticks) {
        const auto& all = *ticks;
        taken.busy_ns = all[0] + all[1] + all[2] + all[5] + all[6];
        taken.steal_ns = all[7];
    }
    taken.at_ns = now_ns();
    taken.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    taken.wait_ns = wait_ns(root);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    taken.involuntary_switches = usage.ru_nivcsw;
    taken.throttled_ns = throttled_ns(root);
    return taken;
}

std::string readings(const Snapshot& before, const Snapshot& after, const std::string& root) {
    const std::int64_t cpu = after.cpu_ns - before.cpu_ns;
    const Number busy = difference(before.busy_ns, after.busy_ns);
    // Ticks are coarse: what the worker is known to have used may exceed what was counted.
    const Number others = busy ? Number(std::max<std::int64_t>(0, *busy - cpu)) : std::nullopt;
    const auto frequencies = cpu_numbers(root, "cpufreq/scaling_cur_freq");
    Number fastest;
    for (const std::int64_t each : frequencies) fastest = std::max(fastest.value_or(each), each);
    return json::Members()
        .number("wall_ns", after.at_ns - before.at_ns)
        .number("cpu_ns", cpu)
        .number("wait_ns", difference(before.wait_ns, after.wait_ns))
        .number("involuntary_switches",
                difference(before.involuntary_switches, after.involuntary_switches))
        .number("others_ns", others)
        .number("steal_ns", difference(before.steal_ns, after.steal_ns))
        .number("throttled_ns", difference(before.throttled_ns, after.throttled_ns))
        .number("frequency_khz", fastest)
        .number("temperature_mc", temperature_mc(root))
        .done();
}

std::string machine(const std::string& root) {
    utsname names{};
    const bool named = uname(&names) == 0;
    const auto text = [&](const char* value) -> Text {
        return named && *value != '\0' ? Text(value) : std::nullopt;
    };
    const auto features = cpu_features(root);
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return json::Members()
        .text("hostname", text(names.nodename))
        .text("os", os_name(root))
        .text("kernel", named ? Text(std::string(names.sysname) + " " + names.release)
                              : std::nullopt)
        .text("libc", libc_version())
        .text("architecture", text(names.machine))
        .text("hypervisor", hypervisor(root))
        .text("cpu_model", cpu_model(root))
        .raw("cpu_features", features ? json::texts(*features) : "null")
        .raw("caches", caches(root))
        .number("sockets", sockets(root))
        .number("physical_cores", physical_cores(root))
        .number("logical_cpus", cpus > 0 ? Number(cpus) : std::nullopt)
        .boolean("smt", smt(root))
        .number("memory_bytes", memory_bytes(root, "MemTotal:"))
        .done();
}

std::string conditions(const std::string& root) {
    const auto allowed = affinity();
    const Number quota = cpu_quota_milli(root);
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    std::int64_t usable = allowed ? static_cast<std::int64_t>(allowed->size()) : std::max(online, 1L);
    if (quota) usable = std::max<std::int64_t>(1, std::min(usable, *quota / 1000));
    std::vector<std::string> governors;
    for (const std::string& path : cpu_files(root, "cpufreq/scaling_governor")) {
        if (Text name = read_text(path); name && !name->empty()) governors.push_back(*name);
    }
    const auto frequencies = cpu_numbers(root, "cpufreq/scaling_cur_freq");
    const auto ticks = cpu_ticks(root);
    return json::Members()
        .number("unix_ns", clock_ns(CLOCK_REALTIME))
        .raw("affinity", allowed ? json::numbers(*allowed) : "null")
        .number("cpu_quota_milli", quota)
        .number("usable_cpus", usable)
        .raw("governor", governors.empty() ? "null" : json::texts(governors))
        .boolean("turbo", turbo(root))
        .raw("frequency_khz", frequencies.empty() ? "null" : json::numbers(frequencies))
        .number("temperature_mc", temperature_mc(root))
        .number("memory_available_bytes", memory_bytes(root, "MemAvailable:"))
        .number("load_1m_milli", load_1m_milli())
        .number("throttled_ns", throttled_ns(root))
        .number("steal_ns", ticks ? Number((*ticks)[7]) : std::nullopt)
        .boolean("on_battery", on_battery(root))
        .done();
}

Number oom_kills(const std::string& root) {
    for (const std::string& line : split(read_text(root + "/proc/self/cgroup").value_or(""), '\n')) {
        if (!starts_with(line, "0::")) continue;
        const std::string events = root + "/sys/fs/cgroup" + line.substr(3) + "/memory.events";
        for (const std::string& each : split(read_text(events).value_or(""), '\n')) {
            const std::vector<std::string> fields = words(each);
            if (fields.size() == 2 && fields[0] == "oom_kill") return decimal(fields[1]);
        }
    }
    return std::nullopt;
}

}  // namespace latbench
