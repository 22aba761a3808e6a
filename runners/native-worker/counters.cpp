#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <string>

#include "android.h"
#include "host.h"
#include "json.h"
#include "sensors.h"
#include "sysfs.h"
#include "text.h"

namespace latbench {
namespace {

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

// Flags that held at either moment, or that the system remembers from in between.
Number flags_between(Number before, Number after) {
    if (!before || !after) return std::nullopt;
    const std::int64_t remembered = (*after & ~*before) >> 16;
    return (*before | *after | remembered) & 0xF;
}

std::int64_t clock_ns(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

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
    const auto times = cpu_times_ns(root);
    Snapshot taken{};
    if (times) {
        const auto& all = *times;
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
    taken.throttling = throttling(known_sensors(root));
    return taken;
}

std::string readings(const Snapshot& before, const Snapshot& after, const std::string& root) {
    const std::int64_t cpu = after.cpu_ns - before.cpu_ns;
    const Number busy = difference(before.busy_ns, after.busy_ns);
    // Ticks are coarse: what the worker is known to have used may exceed what was counted.
    const Number others = busy ? Number(std::max<std::int64_t>(0, *busy - cpu)) : std::nullopt;
    const Sensors& sensors = known_sensors(root);
    const std::vector<Number> clocks = clocks_khz(sensors);
    std::vector<std::int64_t> known;
    for (const Number& clock : clocks) {
        if (clock) known.push_back(*clock);
    }
    const auto fastest = std::max_element(known.begin(), known.end());
    const Throttling &was = before.throttling, &is = after.throttling;
    const android::Thermal phone = android::thermal(root);
    const Number own = temperature_mc(sensors);
    json::Members told;
    told.number("wall_ns", after.at_ns - before.at_ns)
        .number("cpu_ns", cpu)
        .number("wait_ns", difference(before.wait_ns, after.wait_ns))
        .number("involuntary_switches",
                difference(before.involuntary_switches, after.involuntary_switches))
        .number("others_ns", others)
        .number("steal_ns", difference(before.steal_ns, after.steal_ns))
        .number("throttled_ns", difference(before.throttled_ns, after.throttled_ns))
        .number("frequency_khz", fastest != known.end() ? Number(*fastest) : std::nullopt)
        .number("temperature_mc", own ? own : phone.temperature_mc);
    if (known.size() == clocks.size() && clocks.size() > 1) {
        told.raw("cluster_khz", json::numbers(known));
    }
    const auto add = [&](const char* name, const Number& value) {
        if (value) told.number(name, value);
    };
    add("throttle_events", difference(was.events, is.events));
    add("throttle_ms", difference(was.duration_ms, is.duration_ms));
    add("throttle_flags", flags_between(was.flags, is.flags));
    if (was.cooling && is.cooling) add("cooling_state", std::max(*was.cooling, *is.cooling));
    add("skin_temperature_mc", phone.skin_mc);
    if (phone.status) told.text("thermal_status", phone.status);
    return told.done();
}

}  // namespace latbench
