#include "android.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "text.h"

extern char** environ;

namespace latbench::android {
namespace {

// dumpsys waits for a service for 10 s, which a measurement should not.
constexpr std::int64_t kLimitNs = 3'000'000'000;
constexpr std::size_t kMostBytes = 4'000'000;

// The environment without the variables that would have a program of the system load this worker's
// libraries.
std::vector<char*> environment() {
    std::vector<char*> kept;
    for (char** each = environ; *each != nullptr; ++each) {
        if (!starts_with(*each, "LD_")) kept.push_back(*each);
    }
    kept.push_back(nullptr);
    return kept;
}

pid_t start(const std::vector<std::string>& command, int output) {
    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    pid_t pid = -1;
    const int error =
        posix_spawn(&pid, words[0], &actions, nullptr, words.data(), environment().data());
    posix_spawn_file_actions_destroy(&actions);
    return error == 0 ? pid : -1;
}

// Wait for the end of `pid` until `limit_ns`. Another part of the program may have waited for it.
bool ended_well(pid_t pid, std::int64_t limit_ns) {
    while (true) {
        int status = 0;
        const pid_t found = waitpid(pid, &status, WNOHANG);
        if (found == pid) return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (found < 0 && errno != EINTR) return true;
        if (now_ns() > limit_ns) return false;
        poll(nullptr, 0, 1);
    }
}

// What a program of the system prints; nothing if it does not exist, fails or takes too long.
std::optional<std::string> said(const std::string& root, const std::string& name,
                                const std::vector<std::string>& arguments) {
    std::vector<std::string> command{root + "/system/bin/" + name};
    if (access(command[0].c_str(), X_OK) != 0) return std::nullopt;
    command.insert(command.end(), arguments.begin(), arguments.end());
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
    const pid_t pid = start(command, ends[1]);
    close(ends[1]);
    const std::int64_t limit_ns = now_ns() + kLimitNs;
    std::string text;
    bool whole = false;
    char part[16384];
    while (pid > 0 && text.size() < kMostBytes) {
        pollfd waiting{ends[0], POLLIN, 0};
        const std::int64_t left_ms = (limit_ns - now_ns()) / 1'000'000;
        if (left_ms <= 0) break;
        const int ready = poll(&waiting, 1, static_cast<int>(left_ms));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) break;
        const ssize_t count = read(ends[0], part, sizeof part);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
            whole = count == 0;
            break;
        }
        text.append(part, static_cast<std::size_t>(count));
    }
    close(ends[0]);
    if (pid <= 0) return std::nullopt;
    if (whole && ended_well(pid, limit_ns)) return text;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return std::nullopt;
}

// The text after `name` of the first line that begins with it, apart from white space.
std::optional<std::string> after(const std::string& text, std::string_view name) {
    for (const std::string& line : split(text, '\n')) {
        const std::string_view plain = stripped(line);
        if (starts_with(plain, name)) return std::string(stripped(plain.substr(name.size())));
    }
    return std::nullopt;
}

std::optional<bool> truth(const std::optional<std::string>& text) {
    if (text == std::optional<std::string>("true")) return true;
    if (text == std::optional<std::string>("false")) return false;
    return std::nullopt;
}

// Degrees such as `45.67` in thousandths; nothing for what else Java prints (NaN, 1.0E10).
Number thousandths(std::string_view text) {
    const bool negative = starts_with(text, "-");
    if (negative) text.remove_prefix(1);
    const std::size_t point = std::min(text.find('.'), text.size());
    const std::string_view whole = text.substr(0, point);
    std::string fraction(point < text.size() ? text.substr(point + 1) : "0");
    if (!is_decimal(whole) || whole.size() > 6 || !is_decimal(fraction)) return std::nullopt;
    fraction.resize(3, '0');
    const std::int64_t value = *decimal(whole) * 1000 + *decimal(fraction);
    return negative ? -value : value;
}

// The value of `name=` in a line such as `Temperature{mValue=45.67, mType=3, mName=skin}`.
std::string member(const std::string& line, std::string_view name) {
    const std::size_t at = line.find(name);
    if (at == std::string::npos) return "";
    const std::size_t begin = at + name.size();
    return line.substr(begin, line.find_first_of(",}", begin) - begin);
}

}  // namespace

Thermal read_thermal(const std::string& text) {
    static const std::vector<std::string> names = {"none",     "light",     "moderate", "severe",
                                                   "critical", "emergency", "shutdown"};
    constexpr int cpu = 0, skin = 3;
    constexpr std::int64_t implausible = 200'000;
    Thermal told;
    bool current = false;
    for (const std::string& line : split(text, '\n')) {
        const bool inside = !line.empty() && (line[0] == '\t' || line[0] == ' ');
        if (!inside) {
            // The cached values of the section before may be hours old.
            current = starts_with(line, "Current temperatures from HAL:");
        } else if (current && starts_with(stripped(line), "Temperature{")) {
            const Number value = thousandths(member(line, "mValue="));
            const Number kind = decimal(member(line, "mType="));
            // A sensor that is not fitted reports 0.0.
            if (!value || !kind || *value == 0 || std::abs(*value) >= implausible) continue;
            if (*kind != cpu && *kind != skin) continue;
            Number& hottest = *kind == cpu ? told.temperature_mc : told.skin_mc;
            if (hottest && *hottest >= *value) continue;
            hottest = value;
            if (*kind == cpu) told.sensor = member(line, "mName=");
        }
    }
    told.faked = truth(after(text, "IsStatusOverride:"));
    const Number status = decimal(after(text, "Thermal Status:").value_or(""));
    if (status && *status < std::int64_t(names.size()) && !told.faked.value_or(false)) {
        told.status = names[static_cast<std::size_t>(*status)];
    }
    return told;
}

Power read_power(const std::string& text) {
    constexpr std::int64_t kCharging = 2, kDischarging = 3, kNotCharging = 4, kFull = 5;
    Power told;
    // `dumpsys battery set` has the system report what is not so.
    if (text.find("UPDATES STOPPED") != std::string::npos) return told;
    if (truth(after(text, "present:")) == std::optional<bool>(false)) return told;
    const Number status = decimal(after(text, "status:").value_or(""));
    const Number level = decimal(after(text, "level:").value_or(""));
    const Number scale = decimal(after(text, "scale:").value_or("100"));
    if (level && scale && *scale > 0 && *level <= *scale && *scale <= 10'000) {
        told.battery_percent = (*level * 100 + *scale / 2) / *scale;
    }
    std::optional<bool> powered;
    for (const char* name : {"AC powered:", "USB powered:", "Wireless powered:", "Dock powered:"}) {
        if (const auto one = truth(after(text, name))) powered = powered.value_or(false) || *one;
    }
    if (status && *status >= kCharging && *status <= kFull) {
        told.charging = *status == kCharging;
        // A weak supply is connected and the battery is discharged too.
        told.on_battery = *status == kDischarging ||
                          (*status == kNotCharging && powered == std::optional<bool>(false));
    } else if (powered) {
        told.on_battery = !*powered;
    }
    return told;
}

Screen read_screen(const std::string& text) {
    Screen told;
    if (const auto state = after(text, "Display Power: state=")) {
        told.on = *state != "OFF" && *state != "DOZE" && *state != "DOZE_SUSPEND";
    } else if (const auto wakefulness = after(text, "mWakefulness=")) {
        // A phone that dreams shows its screen saver.
        told.on = *wakefulness == "Awake" || *wakefulness == "Dreaming";
    }
    bool saver = false;
    for (const std::string& line : split(text, '\n')) {
        const std::string_view plain = stripped(line);
        if (starts_with(plain, "mLowPowerModeEnabled=")) {
            told.low_power = truth(after(line, "mLowPowerModeEnabled="));
        } else if (saver && starts_with(plain, "Enabled=")) {
            told.low_power = truth(after(line, "Enabled="));
            saver = false;
        } else if (starts_with(plain, "Battery saver state machine:")) {
            saver = true;
        }
    }
    return told;
}

Thermal thermal(const std::string& root) {
    return read_thermal(said(root, "dumpsys", {"thermalservice"}).value_or(""));
}

Power power(const std::string& root) {
    return read_power(said(root, "dumpsys", {"battery"}).value_or(""));
}

Screen screen(const std::string& root) {
    return read_screen(said(root, "dumpsys", {"power"}).value_or(""));
}

std::map<std::string, std::string> properties(const std::string& root) {
    std::map<std::string, std::string> found;
    for (const std::string& line : split(said(root, "getprop", {}).value_or(""), '\n')) {
        // [ro.product.model]: [Pixel 8]
        const std::size_t end = line.find("]: [");
        const std::string_view plain = stripped(line);
        if (end == std::string::npos || line[0] != '[' || plain.back() != ']') continue;
        const std::size_t begin = end + 4;
        found[line.substr(1, end - 1)] =
            plain.size() > begin ? std::string(plain.substr(begin, plain.size() - begin - 1)) : "";
    }
    return found;
}

}  // namespace latbench::android
