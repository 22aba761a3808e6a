#include "script_worker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "job_folder.h"
#include "messages.h"
#include "process.h"
#include "text.h"

namespace latbench {
namespace {

// The limits are those of the harness: latbench.worker.client and latbench.worker.process.
constexpr double kStartTimeout = 120, kGrace = 0.5, kLook = 0.5;
constexpr std::size_t kLongest = std::size_t{64} << 20, kLongestOutputs = std::size_t{1} << 30;
constexpr std::int64_t kDetailBytes = 4000;

volatile std::sig_atomic_t canceled = 0;
sigset_t outside;

void cancel(int) { canceled = 1; }

timespec duration(double seconds) {
    const double bounded = std::min(std::max(seconds, 0.0), 1e9);
    const auto whole = static_cast<std::time_t>(bounded);
    return {whole, static_cast<long>((bounded - static_cast<double>(whole)) * 1e9)};
}

double seconds_since(std::int64_t start_ns) {
    return static_cast<double>(now_ns() - start_ns) / 1e9;
}

std::string plain(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

std::string with_commas(std::size_t value) {
    std::string text = std::to_string(value);
    for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) {
        text.insert(static_cast<std::size_t>(at), ",");
    }
    return text;
}

const char* signal_name(int number) {
    switch (number) {
        case SIGSEGV: return "SIGSEGV";
        case SIGABRT: return "SIGABRT";
        case SIGBUS: return "SIGBUS";
        case SIGILL: return "SIGILL";
        case SIGFPE: return "SIGFPE";
        case SIGTERM: return "SIGTERM";
        case SIGTRAP: return "SIGTRAP";
        case SIGSYS: return "SIGSYS";
        case SIGHUP: return "SIGHUP";
        default: return nullptr;
    }
}

// A file that has no name, for what a program writes to standard error. A pipe would block the
// program, because nobody reads meanwhile.
int unnamed_file(const std::string& folder) {
    std::string path = folder + "/errors.XXXXXX";
    const int file = mkostemp(path.data(), O_CLOEXEC);
    if (file < 0) {
        throw Failure("open",
                      std::string("cannot create a temporary file: ") + std::strerror(errno),
                      "free space on the device");
    }
    unlink(path.c_str());
    return file;
}

}  // namespace

void watch_for_cancel() {
    sigset_t waiting;
    sigemptyset(&waiting);
    sigaddset(&waiting, SIGTERM);
    sigaddset(&waiting, SIGINT);
    sigprocmask(SIG_BLOCK, &waiting, &outside);
    struct sigaction action {};
    action.sa_handler = cancel;
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);
}

bool wait_for(int file, double seconds) {
    const std::int64_t start = now_ns();
    while (true) {
        const timespec left = duration(seconds - seconds_since(start));
        pollfd watched{file, POLLIN, 0};
        const int ready = ppoll(&watched, 1, &left, &outside);
        if (canceled) throw Canceled();
        if (ready > 0) return true;
        if (ready == 0) return false;
    }
}

std::string new_mark() {
    unsigned char bytes[16] = {};
    const int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    const bool whole = file >= 0 && read(file, bytes, sizeof bytes) == ssize_t(sizeof bytes);
    if (file >= 0) close(file);
    if (!whole) throw Failure("open", "cannot read /dev/urandom");
    std::string text;
    for (const unsigned char byte : bytes) {
        char part[3];
        std::snprintf(part, sizeof part, "%02x", byte);
        text += part;
    }
    return text;
}

void become(const std::vector<std::string>& command) {
    for (const int number : {SIGTERM, SIGINT, SIGPIPE}) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &outside, nullptr);
    for (const std::string& name : names_in("/proc/self/fd")) {
        if (const auto file = decimal(name); file && *file > 2) close(static_cast<int>(*file));
    }
    std::vector<char*> arguments;
    for (const std::string& each : command) arguments.push_back(const_cast<char*>(each.c_str()));
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    std::fprintf(stderr, "latbench-native: cannot start %s: %s\n", arguments[0],
                 std::strerror(errno));
    _exit(127);
}

ScriptWorker::ScriptWorker(const std::vector<std::string>& command, const std::string& folder)
    : mark_(new_mark()), oom_kills_(oom_kills("")) {
    try {
        start(command, folder);
        greet();
    } catch (...) {
        end();
        throw;
    }
}

void ScriptWorker::start(const std::vector<std::string>& command, const std::string& folder) {
    errors_ = unnamed_file(folder);
    int given[2], told[2];
    if (pipe2(given, O_CLOEXEC) != 0) {
        throw Failure("open", std::string("cannot create a pipe: ") + std::strerror(errno));
    }
    in_ = given[1];
    if (pipe2(told, O_CLOEXEC) != 0) {
        close(given[0]);
        throw Failure("open", std::string("cannot create a pipe: ") + std::strerror(errno));
    }
    out_ = told[0];
    pid_ = fork();
    if (pid_ == 0) {
        setsid();
        dup2(given[0], 0);
        dup2(told[1], 1);
        dup2(errors_, 2);
        unsetenv("LATBENCH_REGISTRY");
        setenv(kMark, mark_.c_str(), 1);
        become(command);
    }
    const int reason = errno;
    close(given[0]);
    close(told[1]);
    if (pid_ < 0) {
        throw Failure("open", std::string("cannot start the program: ") + std::strerror(reason),
                      "too many processes, or not enough memory");
    }
}

void ScriptWorker::greet() {
    const std::string line = next_line(kLongest, "open", kStartTimeout);
    const json::Value hello = json::parse(understood(line, kLongest, "hello", "open"));
    try {
        const std::int64_t protocol = json::integer(hello, "protocol");
        if (protocol != kProtocol) {
            throw Failure("open",
                          json::text(hello, "program") + " " + json::text(hello, "version") +
                              " speaks protocol " + std::to_string(protocol) +
                              ", this latbench speaks " + std::to_string(kProtocol),
                          "install the same latbench version on both sides");
        }
        stoppable_ = json::optional_boolean(hello, "stoppable");
    } catch (const NotAMessage& error) {
        throw crash("open",
                    std::string("the program sent a line that is not a message: ") + error.what());
    }
}

std::string ScriptWorker::ask(const std::string& request, const std::string& expected,
                              const std::string& stage, double timeout_s) {
    resume();
    try {
        write_all(in_, request + "\n");
    } catch (const SystemError&) {
        // It may have ended; waiting for its response finds out how.
    }
    const std::size_t longest = expected == "outputs_given" ? kLongestOutputs : kLongest;
    return understood(next_line(longest, stage, timeout_s), longest, expected, stage);
}

void ScriptWorker::pause() {
    if (!stoppable_ || paused_ || ended_) return;
    paused_ = true;
    kill(-pid_, SIGSTOP);
}

void ScriptWorker::resume() {
    if (!paused_) return;
    paused_ = false;
    kill(-pid_, SIGCONT);
}

// The next line, at most a byte longer than `longest`; empty if the worker has ended.
std::string ScriptWorker::next_line(std::size_t longest, const std::string& stage,
                                    double timeout_s) {
    const std::int64_t start = now_ns();
    std::vector<char> part(1 << 16);
    bool gone = ended_;
    std::size_t looked = 0;
    while (true) {
        const std::size_t newline = read_.find('\n', looked);
        looked = read_.size();
        if (newline != std::string::npos || read_.size() > longest) {
            const std::size_t size = std::min(newline, longest + 1);
            std::string line = read_.substr(0, size);
            read_.erase(0, size + 1);
            return line;
        }
        if (gone && (ended_ || !wait_for(out_, 0))) return "";
        const double left = timeout_s - seconds_since(start);
        // Something that it has started may keep its output open.
        if (!gone && !wait_for(out_, std::min(kLook, left))) {
            gone = has_ended();
            if (!gone && left <= 0) {
                end();
                throw Failure(stage, "no response within " + plain(timeout_s) +
                                         " s; the program was ended",
                              std::nullopt, "timeout", detail_);
            }
            continue;
        }
        const ssize_t count = read(out_, part.data(), part.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return "";
        read_.append(part.data(), static_cast<std::size_t>(count));
    }
}

std::string ScriptWorker::understood(const std::string& line, std::size_t longest,
                                     const std::string& expected, const std::string& stage) {
    if (line.empty()) died(stage);
    if (line.size() > longest) {
        throw crash(stage, "the program sent more than " + with_commas(longest) +
                               " bytes as one message");
    }
    std::string type;
    try {
        const json::Value response = json::parse(line);
        type = json::text(response, "type");
        if (type == "refused") {
            throw Refusal(json::text(response, "message"), json::optional_text(response, "hint"));
        }
        if (type == "failed") {
            auto said = json::optional_text(response, "detail");
            throw Failure(json::text(response, "stage"), json::text(response, "message"),
                          json::optional_text(response, "hint"), json::text(response, "kind"),
                          said && !said->empty() ? said : detail());
        }
    } catch (const NotAMessage& error) {
        throw crash(stage,
                    std::string("the program sent a line that is not a message: ") + error.what());
    }
    if (type != expected) throw crash(stage, "the program sent an unexpected " + type);
    return line;
}

// What it means that the output has ended.
void ScriptWorker::died(const std::string& stage) {
    const bool known = ends_within(5);
    const Number now = oom_kills("");
    end();
    if (!known) throw Failure(stage, "the program closed its output but did not end", {}, "crash",
                              detail_);
    const int status = *status_;
    if (WIFEXITED(status)) {
        throw Failure(stage,
                      "the program exited with status " + std::to_string(WEXITSTATUS(status)),
                      "the end of its standard error is in the record: latbench show ID --json",
                      "crash", detail_);
    }
    const int number = WTERMSIG(status);
    if (number == SIGKILL && oom_kills_ && now && *now > *oom_kills_) {
        throw Failure(stage, "the kernel killed the program: out of memory",
                      "try a smaller batch or resolution, or a machine with more memory",
                      "out_of_memory", detail_);
    }
    if (number == SIGKILL) {
        throw Failure(stage, "the program was killed (SIGKILL)",
                      "often the kernel, for lack of memory: see dmesg", "crash", detail_);
    }
    const char* name = signal_name(number);
    throw Failure(stage,
                  "the runtime crashed (" +
                      (name ? std::string(name) : "signal " + std::to_string(number)) + ")",
                  "a fault in native code: try another version of the runtime or other options",
                  "crash", detail_);
}

bool ScriptWorker::has_ended() {
    if (status_ || pid_ <= 0) return true;
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    return status_.has_value();
}

bool ScriptWorker::ends_within(double seconds) {
    const std::int64_t start = now_ns();
    const timespec step = duration(0.005);
    while (!has_ended()) {
        if (seconds_since(start) >= seconds) return false;
        nanosleep(&step, nullptr);
    }
    return true;
}

void ScriptWorker::end() {
    if (ended_) return;
    ended_ = true;
    // A stopped process does not see the end of its input.
    resume();
    if (in_ >= 0) close(in_);
    if (pid_ > 0) {
        // Its group does not exist yet if it has only just been started.
        if (!ends_within(kGrace)) kill(pid_, SIGKILL);
        kill(-pid_, SIGKILL);
        int status = 0;
        while (!status_ && waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        if (!status_) status_ = status;
        end_marked(kMark, mark_);
    }
    if (out_ >= 0) close(out_);
    detail_ = detail();
    if (errors_ >= 0) close(errors_);
    errors_ = -1;
}

// Ends it: what it sends cannot be relied on any more.
Failure ScriptWorker::crash(const std::string& stage, const std::string& message) {
    end();
    return Failure(stage, message, std::nullopt, "crash");
}

std::optional<std::string> ScriptWorker::detail() const {
    if (errors_ < 0) return detail_;
    struct stat found {};
    if (fstat(errors_, &found) != 0) return std::nullopt;
    const std::int64_t end = found.st_size, start = std::max<std::int64_t>(0, end - kDetailBytes);
    std::string text(static_cast<std::size_t>(end - start), '\0');
    // pread: the program shares the file's offset, which must not move.
    const ssize_t count = pread(errors_, text.data(), text.size(), start);
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    const std::string_view said = stripped(text);
    if (said.empty()) return std::nullopt;
    return std::string(said);
}

}  // namespace latbench
