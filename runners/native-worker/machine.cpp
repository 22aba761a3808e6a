#include <sched.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "android.h"
#include "digest.h"
#include "host.h"
#include "json.h"
#include "sensors.h"
#include "sysfs.h"
#include "text.h"

namespace latbench {
namespace {

using Text = std::optional<std::string>;
using Properties = std::map<std::string, std::string>;

// The first of these properties of Android that says something.
Text property(const Properties& properties, std::initializer_list<const char*> names) {
    for (const char* name : names) {
        const auto found = properties.find(name);
        if (found == properties.end() || found->second.empty()) continue;
        if (lower(found->second) != "unknown" && json::is_utf8(found->second)) return found->second;
    }
    return std::nullopt;
}

// `Google` and `Pixel 8` in one name; models may begin with the manufacturer's name already.
Text full_name(const Text& manufacturer, const Text& model) {
    if (!model || !manufacturer || starts_with(lower(*model), lower(*manufacturer))) return model;
    return *manufacturer + " " + *model;
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

Number memory_bytes(const std::string& root, std::string_view name) {
    for (const std::string& line : split(read_text(root + "/proc/meminfo").value_or(""), '\n')) {
        const std::vector<std::string> fields = words(line);
        if (fields.size() < 2 || fields[0] != name) continue;
        const Number value = decimal(fields[1]);
        if (value && *value <= INT64_MAX / 1024) return *value * 1024;
    }
    return std::nullopt;
}

// A digest of what the system and the board call themselves: the cards of boards are copied, and
// the machine id is private to the machine.
Text identity(const std::string& root, const Properties& properties) {
    std::string known;
    const auto add = [&](const Text& name) {
        if (name && !name->empty()) known += (known.empty() ? "" : "\n") + *name;
    };
    const Text id = read_text(root + "/etc/machine-id");
    add(id && !id->empty() ? id : read_text(root + "/var/lib/dbus/machine-id"));
    add(read_text(root + "/proc/device-tree/serial-number"));
    // Android has no machine id, and another boot another boot id.
    if (known.empty()) add(property(properties, {"ro.serialno", "ro.boot.serialno"}));
    if (known.empty()) return std::nullopt;
    const std::string text = "latbench\n" + known;
    return sha256(text.data(), text.size()).substr(0, 16);
}

// Whether programs of another architecture than the kernel's are executed.
bool emulated(const std::string& root, const std::string& own) {
    char link[PATH_MAX];
    const std::string path = root + "/proc/thread-self/exe";
    const ssize_t count = readlink(path.c_str(), link, sizeof link);
    // QEMU answers for /proc/self/exe with the program, but not for this name of it.
    if (count > 0) {
        const std::string_view whole(link, static_cast<std::size_t>(count));
        if (whole.substr(whole.rfind('/') + 1).find("qemu") != std::string_view::npos) return true;
    }
    std::string beneath = read_text(root + "/proc/sys/kernel/arch").value_or("");
    if (beneath.empty()) {
        const std::string told = read_text(root + kCpus + "/modalias").value_or("");
        constexpr std::string_view start = "cpu:type:";
        if (starts_with(told, start)) beneath = split(told.substr(start.size()), ':')[0];
    }
    // Names of architectures whose programs one processor executes itself.
    static const std::vector<std::vector<std::string>> families = {
        {"x86", "x86_64", "i386", "i486", "i586", "i686"},
        {"aarch64", "arm64", "arm", "armv6l", "armv7l", "armv8l", "armv8b"},
        {"riscv64", "riscv32"},
    };
    const auto has = [](const std::vector<std::string>& family, const std::string& name) {
        return std::find(family.begin(), family.end(), name) != family.end();
    };
    for (const auto& family : families) {
        if (has(family, beneath)) return !has(family, own);
    }
    return false;
}

// From the system's files; the level is the mean of the batteries that run the machine.
android::Power supplies(const std::string& root) {
    const std::string folder = root + "/sys/class/power_supply/";
    bool discharging = false, powered = false, supplied = false, charging = false, known = false;
    std::size_t batteries = 0;
    std::vector<std::int64_t> levels;
    for (const std::string& name : names_in(folder)) {
        const std::string supply = folder + name;
        // A mouse has a battery of its own.
        if (read_text(supply + "/scope").value_or("") == "Device") continue;
        if (read_text(supply + "/type").value_or("") == "Battery") {
            if (read_number(supply + "/present").value_or(1) == 0) continue;
            ++batteries;
            const std::string status = read_text(supply + "/status").value_or("");
            discharging = discharging || status == "Discharging";
            const bool full = status == "Full" || status == "Not charging";
            charging = charging || status == "Charging";
            known = known || charging || full || status == "Discharging";
            powered = powered || charging || full;
            const Number level = read_number(supply + "/capacity");
            if (level && *level <= 100) levels.push_back(*level);
        } else if (const Number online = read_number(supply + "/online")) {
            // Mains, USB, wireless.
            supplied = true;
            powered = powered || *online != 0;
        }
    }
    android::Power found;
    if (known) found.charging = charging;
    // A weak supply is connected and the battery is discharged too: then it is the battery's power.
    if (discharging) {
        found.on_battery = true;
    } else if (powered) {
        found.on_battery = false;
    } else if (batteries > 0 && supplied) {
        found.on_battery = true;
    }
    if (!levels.empty()) {
        double sum = 0;
        for (const std::int64_t level : levels) sum += double(level);
        // To the nearest, and to even between two, as Python rounds.
        found.battery_percent = std::llrint(sum / double(levels.size()));
    }
    return found;
}

std::int64_t unix_ns() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

Number load_1m_milli() {
    double averages[1];
    if (getloadavg(averages, 1) != 1) return std::nullopt;
    return std::llrint(averages[0] * 1000);
}

}  // namespace

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

std::string machine(const std::string& root) {
    utsname names{};
    const bool named = uname(&names) == 0;
    const auto text = [&](const char* value) -> Text {
        return named && *value != '\0' ? Text(value) : std::nullopt;
    };
    const auto features = cpu_features(root);
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    json::Members told;
    const Properties phone = android::properties(root);
    Text os = os_name(root);
    if (const Text release = property(phone, {"ro.build.version.release"}); release && !os) {
        os = "Android " + *release;
    }
    const Text chip =
        full_name(property(phone, {"ro.soc.manufacturer"}), property(phone, {"ro.soc.model"}));
    Text virtual_by = hypervisor(root);
    if (!virtual_by && property(phone, {"ro.boot.qemu", "ro.kernel.qemu"}) == Text("1")) {
        virtual_by = "Android emulator";
    }
    told.text("hostname", text(names.nodename))
        .text("os", os)
        .text("kernel",
              named ? Text(std::string(names.sysname) + " " + names.release) : std::nullopt)
        .text("libc", libc_version())
        .text("architecture", text(names.machine))
        .text("hypervisor", virtual_by)
        .text("cpu_model", chip ? chip : cpu_model(root))
        .raw("cpu_features", features ? json::texts(*features) : "null")
        .raw("caches", caches(root))
        .number("sockets", sockets(root))
        .number("physical_cores", physical_cores(root))
        .number("logical_cpus", cpus > 0 ? Number(cpus) : std::nullopt)
        .boolean("smt", smt(root))
        .number("memory_bytes", memory_bytes(root, "MemTotal:"));
    if (const Text own = identity(root, phone)) told.text("identity", own);
    if (emulated(root, names.machine)) told.boolean("emulated", true);
    if (const auto kinds = clusters(root)) {
        std::string out;
        for (const Cluster& each : *kinds) {
            out += (out.empty() ? "" : ",") + json::Members()
                                                  .raw("cpus", json::numbers(each.cpus))
                                                  .number("max_khz", each.max_khz)
                                                  .done();
        }
        told.raw("clusters", "[" + out + "]");
    }
    const Text product = full_name(property(phone, {"ro.product.manufacturer"}),
                                   property(phone, {"ro.product.model"}));
    if (product) told.text("product", product);
    return told.done();
}

std::string conditions(const std::string& root) {
    const auto allowed = affinity();
    const Number quota = cpu_quota_milli(root);
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    std::int64_t usable =
        allowed ? static_cast<std::int64_t>(allowed->size()) : std::max(online, 1L);
    if (quota) usable = std::max<std::int64_t>(1, std::min(usable, *quota / 1000));
    std::vector<std::string> governors;
    for (const std::string& path : cpu_files(root, "cpufreq/scaling_governor")) {
        if (Text name = read_text(path); name && !name->empty()) governors.push_back(*name);
    }
    const auto frequencies = cpu_numbers(root, "cpufreq/scaling_cur_freq");
    const auto times = cpu_times_ns(root);
    const Sensors sensors = find_sensors(root);
    const Throttling throttled = throttling(sensors);
    const android::Thermal heat = android::thermal(root);
    android::Power supply = supplies(root);
    // Phones without these files have a service.
    if (!supply.battery_percent && !supply.charging && !supply.on_battery) {
        supply = android::power(root);
    }
    const android::Screen screen = android::screen(root);
    const Number own = temperature_mc(sensors);
    json::Members told;
    told.number("unix_ns", unix_ns())
        .raw("affinity", allowed ? json::numbers(*allowed) : "null")
        .number("cpu_quota_milli", quota)
        .number("usable_cpus", usable)
        .raw("governor", governors.empty() ? "null" : json::texts(governors))
        .boolean("turbo", turbo(root))
        .raw("frequency_khz", frequencies.empty() ? "null" : json::numbers(frequencies))
        .number("temperature_mc", own ? own : heat.temperature_mc)
        .number("memory_available_bytes", memory_bytes(root, "MemAvailable:"))
        .number("load_1m_milli", load_1m_milli())
        .number("throttled_ns", throttled_ns(root))
        .number("steal_ns", times ? Number((*times)[7]) : std::nullopt)
        .boolean("on_battery", supply.on_battery);
    const auto number = [&](const char* name, const Number& value) {
        if (value) told.number(name, value);
    };
    const auto boolean = [&](const char* name, const std::optional<bool>& value) {
        if (value) told.boolean(name, value);
    };
    number("battery_percent", supply.battery_percent);
    number("throttle_events", throttled.events);
    number("throttle_flags", throttled.flags);
    number("cooling_state", throttled.cooling);
    if (!own && heat.temperature_mc) told.text("temperature_sensor", heat.sensor);
    number("skin_temperature_mc", heat.skin_mc);
    if (heat.status) told.text("thermal_status", heat.status);
    boolean("thermal_override", heat.faked);
    boolean("charging", supply.charging);
    boolean("screen_on", screen.on);
    boolean("low_power_mode", screen.low_power);
    return told.done();
}

Number oom_kills(const std::string& root) {
    for (const std::string& line :
         split(read_text(root + "/proc/self/cgroup").value_or(""), '\n')) {
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
