#include "script_run.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <new>
#include <utility>

#include "agent.h"
#include "host.h"
#include "messages.h"

namespace latbench {
namespace {

// The harness that leaves a job held the lock until a moment ago.
constexpr double kLockWait = 15;
// Kept free for the last status, which a full disk would not take.
constexpr std::size_t kReservedBytes = 1 << 16;

struct Role {
    const char *expected, *stage;
};

// What a line of this role is answered with, and the stage of a failure to answer it.
const std::map<std::string, Role>& roles() {
    static const std::map<std::string, Role> known{
        {"open", {"opened", "open"}},      {"first", {"timed", "warmup"}},
        {"warmup", {"timed", "warmup"}},   {"block", {"timed", "time"}},
        {"outputs", {"outputs_given", "outputs"}}, {"close", {"closed", "outputs"}},
        {"operators", {"operators_timed", "time"}},
    };
    return known;
}

std::string answer_itself(const std::string& request) {
    const json::Value read = json::parse(request);
    if (const auto told = answer_about_machine(read)) return *told;
    return refused(
        Refusal("a script cannot ask " + json::text(read, "type") + " of the program itself"));
}

std::string now_in_words() {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    char text[64] = "";
    if (localtime_r(&now, &local) != nullptr) {
        std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z", &local);
    }
    return text;
}

}  // namespace

ScriptRun::ScriptRun(const JobFiles& files, Job job, int answers, std::vector<std::string> command)
    : files_(files),
      job_(std::move(job)),
      answers_(answers),
      command_(std::move(command)),
      begun_ns_(now_ns()),
      begun_unix_ns_(wall_ns()) {}

void ScriptRun::run() {
    std::string state = "finished";
    const std::string broken = "the job " + job_.id + " could not go on: ";
    try {
        execute_all();
    } catch (const Canceled&) {
        state = "canceled";
    } catch (const Failure& failure) {
        failure_ = failure;
    } catch (const SystemError& error) {
        failure_ = Failure("time", broken + error.what(), "free space on the device");
    } catch (const std::bad_alloc&) {
        failure_ = Failure("time", broken + "memory ran out", std::nullopt, "out_of_memory");
    } catch (const std::exception& error) {
        failure_ = Failure("time", broken + error.what());
    }
    workers_.clear();
    unlink(files_.reserve.c_str());
    say(state == "finished" && failure_ ? "failed" : state);
    // Whoever sees that the job has ended can measure at once.
    if (lock_ >= 0) close(lock_);
}

// Take the device's lock.
void ScriptRun::reserve() {
    const std::string owner =
        "the job " + job_.id + " of " + job_.harness + ", running since " + now_in_words();
    while (true) {
        try {
            lock_ = take_lock(job_.lock, owner);
            return;
        } catch (const Failure& failure) {
            if (failure.kind != "unavailable" || passed_s() >= kLockWait) throw;
        }
        wait_for(-1, 0.2);
    }
}

void ScriptRun::execute_all() {
    reserve();
    const int kept = open(files_.reserve.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (kept < 0) throw SystemError();
    try {
        write_all(kept, std::string(kReservedBytes, '\0'));
    } catch (...) {
        close(kept);
        throw;
    }
    close(kept);
    say("running");
    const std::vector<Line> lines = read_script(files_);
    for (const Line& line : lines) {
        const bool own = line.worker.empty(), known = own || line.worker == "model" ||
                                                      line.worker == "second" ||
                                                      line.worker == "sentinel";
        if (!known || !(roles().count(line.role) || (own && line.role == "conditions"))) {
            throw NotAMessage("the script has an unknown worker or role: " + line.worker + ", " +
                              line.role);
        }
    }
    for (std::size_t number = 0; number < lines.size(); ++number) {
        if (!failure_ || lines[number].worker.empty()) execute(number, lines[number]);
    }
}

void ScriptRun::execute(std::size_t number, const Line& line) {
    const double left_s = job_.limit_s - passed_s();
    const std::string& name = line.worker;
    if (name.empty()) {
        wait_for(-1, 0);
        write(number, answer_itself(line.request));
        return;
    }
    if (left_s <= 0) return out_of_time();
    if (ended_.count(name) != 0) return;
    std::string response;
    std::optional<Failure> failure;
    try {
        response = asked(line, std::min(line.timeout_s, left_s));
    } catch (const Failure& caught) {
        failure = caught;
        response = failed(caught);
    } catch (const Refusal& refusal) {
        failure = Failure("open", refusal.message, refusal.hint);
        response = refused(refusal);
    }
    if (failure) {
        ended_.insert(name);
        workers_.erase(name);
        if (failure->kind == "timeout" && left_s < line.timeout_s) return out_of_time();
        if (name != "sentinel") failure_ = failure;
    }
    write(number, response);
    if (line.role == "close") {
        workers_.erase(name);
        // Between processes, a slow disk disturbs nothing.
        if (fsync(answers_) != 0) throw SystemError();
    }
}

std::string ScriptRun::asked(const Line& line, double timeout_s) {
    for (const auto& [name, worker] : workers_) {
        if (name != line.worker) worker->pause();
    }
    auto& worker = workers_[line.worker];
    if (!worker) {
        try {
            worker = std::make_unique<ScriptWorker>(command_, files_.folder);
        } catch (...) {
            workers_.erase(line.worker);
            throw;
        }
    }
    const Role& role = roles().at(line.role);
    return worker->ask(line.request, role.expected, role.stage, timeout_s);
}

void ScriptRun::out_of_time() {
    char limit[32];
    std::snprintf(limit, sizeof limit, "%g", job_.limit_s);
    failure_ = Failure(
        "time", std::string("the job was not done within its time limit of ") + limit + " s",
        "what was measured until then is in the record", "timeout");
}

void ScriptRun::write(std::size_t number, const std::string& response) {
    write_all(answers_, json::Members()
                                .number("line", static_cast<std::int64_t>(number))
                                .number("at_ns", now_ns() - begun_ns_)
                                .raw("response", response)
                                .done() +
                            "\n");
}

void ScriptRun::say(const std::string& state) {
    JobStatus status;
    status.state = state;
    status.started_unix_ns = begun_unix_ns_;
    if (state != "running") status.ended_unix_ns = wall_ns();
    status.failure = failure_;
    write_status(files_, status);
}

double ScriptRun::passed_s() const { return static_cast<double>(now_ns() - begun_ns_) / 1e9; }

}  // namespace latbench
