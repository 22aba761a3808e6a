#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "failure.h"
#include "text.h"

namespace latbench {
namespace {

constexpr std::size_t kLongestLine = std::size_t{64} << 20;
constexpr int kKillRounds = 20;

// End this process and all that it started.
[[noreturn]] void end() {
    end_marked(kMark, environment(kMark));
    if (!environment(kOwnerTimeout).empty()) end_marked(kHarness, environment(kHarness));
    // A converter started by this process must end too.
    if (getpgrp() == getpid()) kill(0, SIGKILL);
    _exit(0);
}

// The time without a sign of life after which the owner is gone, or -1.
int owner_timeout_ms() {
    const std::string text = environment(kOwnerTimeout);
    if (text.empty()) return -1;
    char* rest = nullptr;
    const double seconds = std::strtod(text.c_str(), &rest);
    if (*rest != '\0' || !(seconds > 0 && seconds <= 1e6)) {
        std::fprintf(stderr,
                     "latbench-native: LATBENCH_OWNER_TIMEOUT_S cannot be '%s': it is a number of "
                     "seconds\n",
                     text.c_str());
        _exit(1);
    }
    return std::max(1, static_cast<int>(seconds * 1000));
}

}  // namespace

std::string environment(const char* name) {
    const char* found = std::getenv(name);
    return found == nullptr ? "" : found;
}

std::optional<bool> is_marked(pid_t pid, const char* variable, const std::string& value) {
    const std::string folder = "/proc/" + std::to_string(pid);
    const auto stat = read_bytes(folder + "/stat");
    if (!stat) return std::nullopt;
    // The state follows the name, which may contain anything; one that has ended is a zombie.
    const std::size_t name = stat->rfind(") ");
    if (name == std::string::npos || stat->compare(name + 2, 1, "Z") == 0) return std::nullopt;
    const std::string environ_path = folder + "/environ";
    const int file = open(environ_path.c_str(), O_RDONLY | O_CLOEXEC);
    // Of another user. Any other error says that it has ended since.
    if (file < 0) return errno == EACCES ? std::optional(false) : std::nullopt;
    close(file);
    const auto variables = read_bytes(environ_path);
    // One that is just ending has no memory any more.
    if (!variables || variables->empty()) return std::nullopt;
    const std::string wanted = std::string(variable) + "=" + value;
    std::size_t at = 0;
    while (at < variables->size()) {
        const std::size_t end = std::min(variables->find('\0', at), variables->size());
        if (variables->compare(at, end - at, wanted) == 0) return true;
        at = end + 1;
    }
    return false;
}

void end_marked(const char* variable, const std::string& value) {
    if (value.empty()) return;
    // A process may fork while the others are being ended; the next round finds its child.
    for (int round = 0; round < kKillRounds; ++round) {
        bool found = false;
        for (const std::string& name : names_in("/proc")) {
            char* rest = nullptr;
            const long pid = std::strtol(name.c_str(), &rest, 10);
            if (*rest != '\0' || pid <= 0 || pid == getpid()) continue;
            if (is_marked(static_cast<pid_t>(pid), variable, value).value_or(false)) {
                found = true;
                kill(static_cast<pid_t>(pid), SIGKILL);
            }
        }
        if (!found) return;
    }
}

Lines::Lines() {
    // The owner may have stopped this process, and a stopped process does not see that it is gone.
    prctl(PR_SET_PDEATHSIG, SIGCONT);
    signal(SIGPIPE, SIG_IGN);
    in_ = fcntl(0, F_DUPFD_CLOEXEC, 3);
    out_ = fcntl(1, F_DUPFD_CLOEXEC, 3);
    if (in_ < 0 || out_ < 0) {
        std::fprintf(stderr, "latbench-native: standard input and output must be open\n");
        _exit(1);
    }
    dup2(2, 1);
    if (const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC); nothing >= 0) {
        dup2(nothing, 0);
        close(nothing);
    }
    std::thread([this, timeout_ms = owner_timeout_ms()] { read(timeout_ms); }).detach();
}

void Lines::read(int timeout_ms) {
    // Counted in parts: a process that was stopped must not take the time since for silence.
    constexpr int parts = 4;
    int silent = 0;
    std::string line;
    std::vector<char> part(1 << 16);
    while (true) {
        if (timeout_ms > 0) {
            pollfd watched{in_, POLLIN, 0};
            const int ready = poll(&watched, 1, std::max(1, timeout_ms / parts));
            if (ready == 0) {
                if (++silent >= parts) end();
                continue;
            }
            if (ready < 0) continue;
        }
        const ssize_t count = ::read(in_, part.data(), part.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) end();
        silent = 0;
        const char* at = part.data();
        const char* const last = at + count;
        while (at < last) {
            const char* const newline = static_cast<const char*>(
                std::memchr(at, '\n', static_cast<std::size_t>(last - at)));
            const char* const stop = newline == nullptr ? last : newline;
            line.append(at, stop);
            at = stop;
            if (line.size() > kLongestLine) {
                const std::lock_guard lock(mutex_);
                too_long_ = true;
                came_.notify_one();
                line.clear();
            }
            if (newline != nullptr) {
                ++at;
                // An empty line is a sign of life.
                if (!line.empty()) put(std::move(line));
                line = {};
            }
        }
    }
}

void Lines::put(std::string line) {
    const std::lock_guard lock(mutex_);
    held_ += line.size();
    if (held_ > 2 * kLongestLine) {
        too_long_ = true;
    } else {
        waiting_.push_back(std::move(line));
    }
    came_.notify_one();
}

std::string Lines::next() {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [this] { return too_long_ || !waiting_.empty(); });
    if (too_long_) throw NotAMessage("more than 64 MiB without an answer");
    std::string line = std::move(waiting_.front());
    waiting_.pop_front();
    held_ -= line.size();
    return line;
}

void Lines::send(const std::string& line) {
    const std::string whole = line + "\n";
    std::size_t sent = 0;
    while (sent < whole.size()) {
        const ssize_t count = write(out_, whole.data() + sent, whole.size() - sent);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) _exit(1);
        sent += static_cast<std::size_t>(count);
    }
}

}  // namespace latbench
