#include "agent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

#include "failure.h"
#include "host.h"
#include "inputs.h"
#include "process.h"
#include "runtime.h"
#include "text.h"

namespace latbench {
namespace {

std::string unavailable(const std::string& reason, const std::string& hint) {
    return json::Members()
        .boolean("available", false)
        .raw("version", "null")
        .text("reason", reason)
        .text("hint", hint)
        .done();
}

std::string capability(const std::string& name) {
    const Loader load = loader(name);
    if (load == nullptr) {
        return unavailable("the native worker has no backend " + shown(name),
                           "it has onnxruntime and tflite; use the Python worker");
    }
    constexpr int timeout_ms = 60'000;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw Failure("probe", "cannot create a pipe");
    const pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        throw Failure("probe", std::string("cannot start a process: ") + std::strerror(errno));
    }
    if (child == 0) {
        std::string told;
        try {
            told = json::Members()
                       .boolean("available", true)
                       .text("version", load()->version())
                       .raw("reason", "null")
                       .raw("hint", "null")
                       .done();
        } catch (const Failure& failure) {
            told = unavailable(failure.message, failure.hint.value_or(""));
        }
        const bool whole = write(ends[1], told.data(), told.size()) == ssize_t(told.size());
        _exit(whole ? 0 : 1);
    }
    close(ends[1]);
    std::string told;
    pollfd watched{ends[0], POLLIN, 0};
    bool late = false;
    while (true) {
        late = poll(&watched, 1, timeout_ms) == 0;
        char part[4096];
        const ssize_t count = late ? 0 : read(ends[0], part, sizeof part);
        if (count <= 0) break;
        told.append(part, static_cast<std::size_t>(count));
    }
    close(ends[0]);
    if (late) kill(child, SIGKILL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (late) return unavailable("loading its library took more than a minute", "try again");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || told.empty()) {
        return unavailable(
            "loading its library ended the process" +
                (WIFSIGNALED(status) ? " (signal " + std::to_string(WTERMSIG(status)) + ")"
                                     : std::string()),
            "a library for another processor or system");
    }
    return told;
}

}  // namespace

std::optional<std::string> answer_about_machine(const json::Value& request) {
    const std::string& type = json::text(request, "type");
    if (type == "machine") {
        return json::Members()
            .text("type", "machine_told")
            .raw("machine", machine(""))
            .raw("software", "null")
            .text("libc", libc_version())
            .done();
    }
    if (type == "conditions") {
        return json::Members()
            .text("type", "conditions_told")
            .raw("conditions", conditions(""))
            .number("oom_kills", oom_kills(""))
            .done();
    }
    return std::nullopt;
}

std::string capabilities(const json::Value& request) {
    json::Members told;
    for (const json::Value& each : json::array(request, "backends")) {
        const auto* name = std::get_if<std::string>(&each.held);
        if (name == nullptr) throw NotAMessage("the name of a backend is not a text");
        told.raw(*name, capability(*name));
    }
    return json::Members().text("type", "capabilities_told").raw("backends", told.done()).done();
}

std::string signal_worker(const json::Value& request) {
    const std::string& name = json::text(request, "signal");
    const std::int64_t pid = json::integer(request, "pid");
    const int number = name == "stop"       ? SIGSTOP
                       : name == "continue" ? SIGCONT
                       : name == "kill"     ? SIGKILL
                                            : 0;
    if (number == 0) {
        throw Refusal("unknown signal " + shown(name), "one of: stop, continue, kill");
    }
    const std::string mark = environment(kHarness);
    if (pid < 2 || pid > INT_MAX || mark.empty()) {
        throw Refusal("process " + std::to_string(pid) + " cannot be signaled by this worker");
    }
    const auto target = static_cast<pid_t>(pid);
    const auto ours = is_marked(target, kHarness, mark);
    if (ours && !*ours) {
        throw Refusal("process " + std::to_string(pid) + " is not a worker of this harness");
    }
    bool existed = ours.has_value();
    if (existed) {
        const pid_t group = getpgid(target);
        // Never this worker's own group, which a shell may have started both in.
        const bool apart = group > 1 && group != getpgrp();
        existed = kill(apart ? -group : target, number) == 0;
    }
    return json::Members().text("type", "signaled").boolean("existed", existed).done();
}

int take_lock(const std::string& path, const std::string& owner) {
    int file = open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (file < 0 && errno == EACCES) {
        // Of another user, it can be locked but not written.
        file = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (file < 0) {
        throw Failure("probe",
                      "cannot open the lock of this device, " + shown(path) + ": " +
                          std::strerror(errno),
                      "the folder must be writable, with space left");
    }
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        close(file);
        std::string other = read_text(path).value_or("").substr(0, 500);
        if (other.empty()) other = "another harness";
        throw Failure("probe", "the device is in use by " + other,
                      "wait until it has finished, or end it", "unavailable");
    }
    if (ftruncate(file, 0) == 0 && write(file, owner.data(), owner.size()) < 0) {
        std::fprintf(stderr, "latbench-native: the lock does not name its owner\n");
    }
    return file;
}

std::string reserve(const json::Value& request) {
    // Held until this process ends.
    take_lock(json::text(request, "path"), json::text(request, "owner"));
    return json::Members().text("type", "reserved").done();
}

}  // namespace latbench
