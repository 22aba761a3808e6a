#include "sensors.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "sysfs.h"
#include "text.h"

namespace latbench {
namespace {

constexpr std::int64_t kDegrees = 200;
constexpr std::int64_t kImplausible = 200'000;
// Files of a kind that are read around each block: machines with many CPUs have hundreds.
constexpr std::size_t kMostCounters = 8;

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

bool ends_with(std::string_view text, std::string_view end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// A number of at most 18 digits, which sums of eight cannot overflow much.
Number small_number(const std::string& path) {
    const auto text = read_text(path);
    return text && text->size() <= 18 ? decimal(*text) : std::nullopt;
}

// The folders of the hwmon chips of these names.
std::vector<std::string> chips(const std::string& root,
                               std::initializer_list<std::string_view> names) {
    std::vector<std::string> found;
    const std::string folder = root + "/sys/class/hwmon";
    for (const std::string& chip : names_in(folder)) {
        if (!starts_with(chip, "hwmon")) continue;
        const std::string name = read_text(folder + "/" + chip + "/name").value_or("");
        if (std::find(names.begin(), names.end(), name) != names.end()) {
            found.push_back(folder + "/" + chip);
        }
    }
    return found;
}

bool of_the_cpu(const std::string& kind) {
    for (const char* start : {"x86_pkg_temp", "cpu", "soc", "mtktscpu"}) {
        if (starts_with(kind, start)) return true;
    }
    return kind == "big" || kind == "mid" || kind == "little";
}

std::vector<Sensors::Temperature> temperatures(const std::string& root) {
    std::vector<Sensors::Temperature> found;
    for (const std::string& chip : chips(root, {"coretemp", "k10temp", "zenpower", "cpu_thermal",
                                                "cpu-thermal", "scpi_sensors"})) {
        for (const std::string& file : names_in(chip)) {
            if (starts_with(file, "temp") && ends_with(file, "_input")) {
                found.push_back({chip + "/" + file, false, false});
            }
        }
    }
    const std::string zones = root + "/sys/class/thermal";
    for (const std::string& zone : names_in(zones)) {
        if (!starts_with(zone, "thermal_zone")) continue;
        const std::string kind = lower(read_text(zones + "/" + zone + "/type").value_or(""));
        if (!of_the_cpu(kind)) continue;
        found.push_back({zones + "/" + zone + "/temp", true, kind == "soc" || kind == "socd"});
    }
    return found;
}

std::vector<std::string> clocks(const std::string& root) {
    std::vector<std::string> found;
    for (const std::string& policy : policy_folders(root)) {
        if (exists(policy + "/scaling_cur_freq")) found.push_back(policy + "/scaling_cur_freq");
    }
    if (!found.empty()) return found;
    // Without policies, an old kernel, each CPU reports its own.
    for (const std::string& path : cpu_files(root, "cpufreq/scaling_cur_freq")) {
        if (exists(path)) found.push_back(path);
    }
    return found;
}

// The folder of a CPU whose `thermal_throttle/NAME` is `path`.
std::string cpu_folder(const std::string& path) {
    return path.substr(0, path.rfind("/thermal_throttle/"));
}

// The file of one CPU of each package: all of a package report the same.
std::vector<std::string> of_packages(const std::string& root, const std::string& name) {
    std::vector<std::string> found;
    std::vector<std::optional<std::string>> packages;
    for (const std::string& path : cpu_files(root, "thermal_throttle/" + name)) {
        if (!exists(path)) continue;
        auto package = read_text(cpu_folder(path) + "/topology/physical_package_id");
        if (std::find(packages.begin(), packages.end(), package) != packages.end()) continue;
        packages.push_back(std::move(package));
        if (found.size() < kMostCounters) found.push_back(path);
    }
    return found;
}

// Counts of each package, then those of cores that this process may run on.
std::vector<std::string> thermal_counters(const std::string& root) {
    std::vector<std::string> found = of_packages(root, "package_throttle_count");
    const auto usable = affinity().value_or(std::vector<std::int64_t>{});
    std::vector<std::string> cores;
    for (const std::string& path : cpu_files(root, "thermal_throttle/core_throttle_count")) {
        if (!exists(path)) continue;
        const std::string cpu = cpu_folder(path);
        const std::string name = cpu.substr(cpu.rfind('/') + 1);
        const Number number = decimal(name.substr(3));
        if (!number || !std::binary_search(usable.begin(), usable.end(), *number)) continue;
        // The CPUs of one core have the same counter.
        std::string core = read_text(cpu + "/topology/thread_siblings_list").value_or("");
        if (core.empty()) core = name;
        if (std::find(cores.begin(), cores.end(), core) != cores.end()) continue;
        cores.push_back(core);
        if (found.size() < kMostCounters) found.push_back(path);
    }
    return found;
}

// Counts of a Jetson's over-current and under-voltage events that throttle it.
std::vector<std::string> over_current_counters(const std::string& root) {
    std::vector<std::string> found;
    for (const std::string& chip : chips(root, {"soctherm_oc"})) {
        for (const std::string& file : names_in(chip)) {
            const bool one = file.size() == 13 && starts_with(file, "oc") && file[2] >= '0' &&
                             file[2] <= '9' && ends_with(file, "_event_cnt");
            if (!one) continue;
            if (read_number(chip + "/" + file.substr(0, 3) + "_throt_en") == Number(0)) continue;
            found.push_back(chip + "/" + file);
        }
    }
    return found;
}

// Types of cooling devices that slow something down. Others are fans, and alerts without effect.
bool slows_down(std::string_view kind) {
    if (kind == "Processor" || kind == "intel_powerclamp") return true;
    if (ends_with(kind, "-throttle-alert")) return true;
    if (starts_with(kind, "thermal-")) kind.remove_prefix(std::string_view("thermal-").size());
    return starts_with(kind, "cpufreq-") || starts_with(kind, "devfreq-");
}

std::vector<std::string> coolers(const std::string& root) {
    const std::string folder = root + "/sys/class/thermal";
    std::vector<std::pair<std::pair<bool, std::size_t>, std::string>> found;
    for (const std::string& name : names_in(folder)) {
        if (!starts_with(name, "cooling_device")) continue;
        const std::string kind = read_text(folder + "/" + name + "/type").value_or("");
        if (!slows_down(kind)) continue;
        // Alerts first: they report what the firmware does.
        found.push_back({{!ends_with(kind, "-alert"), name.size()}, name});
    }
    std::sort(found.begin(), found.end());
    if (found.size() > kMostCounters) found.resize(kMostCounters);
    std::vector<std::string> paths;
    for (const auto& each : found) paths.push_back(folder + "/" + each.second + "/cur_state");
    return paths;
}

std::optional<std::string> flag_file(const std::string& root) {
    const std::string platform = root + "/sys/devices/platform";
    for (const std::string& soc : names_in(platform)) {
        if (!starts_with(soc, "soc")) continue;
        for (const std::string& name : names_in(platform + "/" + soc)) {
            const std::string path = platform + "/" + soc + "/" + name + "/get_throttled";
            if (name.find("firmware") != std::string::npos && exists(path)) return path;
        }
    }
    return std::nullopt;
}

// Their sum; nothing without values, and if one is not known.
Number sum(const std::vector<std::string>& paths) {
    Number total;
    for (const std::string& path : paths) {
        const Number value = small_number(path);
        if (!value) return std::nullopt;
        total = total.value_or(0) + *value;
    }
    return total;
}

Number flags(const Sensors& sensors) {
    if (sensors.flags) {
        std::string text = read_text(*sensors.flags).value_or("");
        if (starts_with(text, "0x")) text.erase(0, 2);
        const bool hexadecimal = text.find_first_not_of("0123456789abcdef") == std::string::npos;
        if (text.empty() || text.size() > 8 || !hexadecimal) return std::nullopt;
        return std::stoll(text, nullptr, 16);
    }
    const Number alarm =
        sensors.under_voltage ? small_number(*sensors.under_voltage) : std::nullopt;
    if (!alarm) return std::nullopt;
    return *alarm != 0 ? 1 : 0;
}

}  // namespace

Sensors find_sensors(const std::string& root) {
    Sensors found;
    found.temperatures = temperatures(root);
    found.clocks = clocks(root);
    found.counters = thermal_counters(root);
    for (std::string& path : over_current_counters(root)) found.counters.push_back(std::move(path));
    found.durations = of_packages(root, "package_throttle_total_time_ms");
    found.flags = flag_file(root);
    if (!found.flags) {
        for (const std::string& chip : chips(root, {"rpi_volt"})) {
            if (!exists(chip + "/in0_lcrit_alarm")) continue;
            found.under_voltage = chip + "/in0_lcrit_alarm";
            break;
        }
    }
    found.coolers = coolers(root);
    return found;
}

const Sensors& known_sensors(const std::string& root) {
    static std::map<std::string, Sensors> known;
    const auto found = known.find(root);
    if (found != known.end()) return found->second;
    return known.emplace(root, find_sensors(root)).first->second;
}

Number temperature_mc(const Sensors& sensors) {
    Number hottest;
    for (const Sensors::Temperature& sensor : sensors.temperatures) {
        Number found = small_number(sensor.path);
        if (!found || *found >= kImplausible) continue;
        if (sensor.zone && *found < kDegrees) {
            // A zone at exactly 0 is switched off.
            if (*found == 0 || sensor.maybe_charge) continue;
            *found *= 1000;
        }
        hottest = std::max(hottest.value_or(*found), *found);
    }
    return hottest;
}

std::vector<Number> clocks_khz(const Sensors& sensors) {
    std::vector<Number> found;
    for (const std::string& path : sensors.clocks) found.push_back(small_number(path));
    return found;
}

Throttling throttling(const Sensors& sensors) {
    Throttling told;
    told.events = sum(sensors.counters);
    told.duration_ms = sum(sensors.durations);
    told.flags = flags(sensors);
    for (const std::string& path : sensors.coolers) {
        const Number state = small_number(path);
        if (state) told.cooling = std::max(told.cooling.value_or(*state), *state);
    }
    return told;
}

}  // namespace latbench
