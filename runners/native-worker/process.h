// Lines of the conversation, and the end of everything that a worker started.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

namespace latbench {

// Each worker and what it starts carry a value of their own in this variable.
constexpr const char* kMark = "LATBENCH_WORKER";
// All workers of one harness on a device at the end of a connection have this one in common.
constexpr const char* kHarness = "LATBENCH_HARNESS";
// With it a worker is the one that hears of the harness, and ends the others.
constexpr const char* kOwnerTimeout = "LATBENCH_OWNER_TIMEOUT_S";

// The environment variable `name`; empty if it is not set.
std::string environment(const char* name);

// Whether `variable` has this value in another process; nothing if it does not exist or has ended.
std::optional<bool> is_marked(pid_t pid, const char* variable, const std::string& value);

// Kill all other processes in which `variable` has this value, their children included.
void end_marked(const char* variable, const std::string& value);

// Standard input and output. Runtimes print to standard output too, so descriptor 1 becomes another
// standard error and only `send` writes to what it was.
//
// A thread reads. At the end of the input it ends this process at once, also in the middle of an
// inference, because a measuring process that outlives its owner disturbs the next run.
class Lines {
 public:
    Lines();

    // The next line that is not empty. Throws NotAMessage for one that is too long.
    std::string next();

    void send(const std::string& line);

 private:
    void read(int timeout_ms);
    void put(std::string line);

    int in_ = -1, out_ = -1;
    std::mutex mutex_;
    std::condition_variable came_;
    std::deque<std::string> waiting_;
    std::size_t held_ = 0;
    bool too_long_ = false;
};

}  // namespace latbench
