#include "script.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "host.h"
#include "job_folder.h"
#include "process.h"
#include "runtime.h"
#include "script_run.h"
#include "text.h"

namespace latbench {
namespace {

constexpr double kStartWait = 60, kCancelWait = 10;
// So long after its time limit a job that does not end by itself is killed.
constexpr double kLate = 60;

// Wait for `condition`; whether it came true within the seconds.
template <typename Condition>
bool comes_true(Condition condition, double within_s) {
    const std::int64_t until = now_ns() + static_cast<std::int64_t>(within_s * 1e9);
    while (!condition()) {
        if (now_ns() >= until) return false;
        const timespec step{0, 20'000'000};
        nanosleep(&step, nullptr);
    }
    return true;
}

void run(const JobFiles& files, std::vector<std::string> command) {
    Job job = read_job(files);
    const int answers = take_answers(files, job.id);
    watch_for_cancel();
    // The kernel ends it even if this program cannot look at the clock; its workers then end.
    alarm(static_cast<unsigned>(std::min(std::max(job.limit_s, 0.0) + kLate, 1e9)));
    // The lock on the answers is held until this process ends.
    ScriptRun(files, std::move(job), answers, std::move(command)).run();
}

// Start `run` in a session of its own; its status once it has one.
std::string start(const JobFiles& files, std::vector<std::string> command) {
    const std::string id = files.folder.substr(files.folder.rfind('/') + 1);
    if (is_locked(files.answers)) throw Failure("probe", "the job " + id + " is running already");
    if (access(files.status.c_str(), F_OK) == 0) {
        throw Failure("probe", "the job " + id + " has run already");
    }
    const int output =
        open(files.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (output < 0) throw SystemError();
    const std::string harness = new_mark(), mark = new_mark();
    command.insert(command.end(), {"script", "run", files.folder});
    const pid_t child = fork();
    if (child == 0) {
        setsid();
        if (const int nothing = open("/dev/null", O_RDONLY); nothing >= 0) dup2(nothing, 0);
        dup2(output, 1);
        dup2(output, 2);
        setenv(kHarness, harness.c_str(), 1);
        setenv(kMark, mark.c_str(), 1);
        become(command);
    }
    close(output);
    if (child < 0) throw SystemError();
    std::optional<std::string> status;
    comes_true(
        [&] {
            const bool ended = waitpid(child, nullptr, WNOHANG) != 0;
            status = read_bytes(files.status);
            return ended || status;
        },
        kStartWait);
    if (status) return *status;
    const std::string said = read_text(files.output).value_or("");
    throw Failure("probe", said.empty() ? "it does not start" : said.substr(said.rfind('\n') + 1));
}

void list(const std::string& folder) {
    for (const std::string& name : names_in(folder)) {
        const std::string place = folder + "/" + name;
        struct stat found {};
        if (stat(place.c_str(), &found) == 0 && S_ISDIR(found.st_mode)) {
            std::printf("%s\n", found_job(place).c_str());
        }
    }
}

// The value of LATBENCH_HARNESS in a process; empty if it has none.
std::string mark_of(pid_t pid) {
    const std::string wanted = std::string(kHarness) + "=";
    const auto variables = read_bytes("/proc/" + std::to_string(pid) + "/environ");
    for (const std::string& each : split(variables.value_or(""), '\0')) {
        if (starts_with(each, wanted)) return each.substr(wanted.size());
    }
    return "";
}

// End a job, and wait for it.
std::string cancel(const JobFiles& files) {
    if (!is_locked(files.answers)) return found_job(files.folder);
    const std::string id = files.folder.substr(files.folder.rfind('/') + 1);
    const auto pid = process_of(files);
    if (!pid || *pid < 2) {
        throw Failure("probe", "the job " + id + " is still starting; try again");
    }
    for (const int number : {SIGTERM, SIGKILL}) {
        const std::string mark = mark_of(static_cast<pid_t>(*pid));
        kill(static_cast<pid_t>(*pid), number);
        if (comes_true([&] { return !is_locked(files.answers); }, kCancelWait)) {
            end_marked(kHarness, mark);
            return found_job(files.folder);
        }
    }
    throw Failure("probe", "the job " + id + " (process " + std::to_string(*pid) +
                               ") does not end");
}

}  // namespace

int script(int count, char** arguments) {
    if (count != 4) {
        std::fprintf(stderr, "usage: latbench-native script start|run|list|cancel FOLDER\n");
        return 2;
    }
    const std::string verb = arguments[2];
    std::string folder = arguments[3];
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    const JobFiles files(folder);
    try {
        if (verb == "run") {
            run(files, own_command());
        } else if (verb == "start") {
            std::printf("%s\n", start(files, own_command()).c_str());
        } else if (verb == "list") {
            list(folder);
        } else if (verb == "cancel") {
            std::printf("%s\n", cancel(files).c_str());
        } else {
            throw Refusal("unknown verb '" + verb + "'");
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace latbench
