// A worker that this program starts and asks, as the harness does.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "failure.h"
#include "host.h"
#include "json.h"

namespace latbench {

// The job is to end: SIGTERM or SIGINT came while this program waited.
struct Canceled {};

// From now on SIGTERM and SIGINT interrupt only `wait_for`.
void watch_for_cancel();

// Wait until `file` can be read (-1: for nothing); false once the seconds have passed. Throws
// Canceled.
bool wait_for(int file, double seconds);

// A value of LATBENCH_WORKER or LATBENCH_HARNESS that no other process has.
std::string new_mark();

// In a process that was just forked: become the program of `command`, with nothing of this one but
// its standard files and variables. Does not return.
[[noreturn]] void become(const std::vector<std::string>& command);

class ScriptWorker {
 public:
    // Start `command` and wait for its `hello`. A file in `folder` takes its standard error. Throws
    // Failure and Canceled.
    ScriptWorker(const std::vector<std::string>& command, const std::string& folder);
    ~ScriptWorker() { end(); }
    ScriptWorker(const ScriptWorker&) = delete;
    ScriptWorker& operator=(const ScriptWorker&) = delete;

    // Send `request` and return its response, which is of the type `expected`. Throws Failure,
    // after the end of the worker if it does not answer as it should; Refusal; and Canceled.
    std::string ask(const std::string& request, const std::string& expected,
                    const std::string& stage, double timeout_s);

    // Stop it until the next request or its end: idle threads of a runtime keep spinning.
    void pause();

 private:
    void start(const std::vector<std::string>& command, const std::string& folder);
    void greet();
    void resume();
    std::string next_line(std::size_t longest, const std::string& stage, double timeout_s);
    std::string understood(const std::string& line, std::size_t longest,
                           const std::string& expected, const std::string& stage);
    [[noreturn]] void died(const std::string& stage);
    bool has_ended();
    bool ends_within(double seconds);
    void end();
    Failure crash(const std::string& stage, const std::string& message);
    std::optional<std::string> detail() const;

    pid_t pid_ = -1;
    int in_ = -1, out_ = -1, errors_ = -1;
    // The status of `waitpid` once it has ended.
    std::optional<int> status_;
    std::string mark_, read_;
    std::optional<std::string> detail_;
    Number oom_kills_;
    bool stoppable_ = false, paused_ = false, ended_ = false;
};

}  // namespace latbench
