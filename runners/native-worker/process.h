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

// The environment variable `name`; empty if it is not set.
std::string environment(const char* name);

// Whether another process carries this mark; nothing if it does not exist or has ended.
std::optional<bool> is_marked(pid_t pid, const std::string& mark);

// Kill all other processes with this mark, their children included.
void end_marked(const std::string& mark);

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
