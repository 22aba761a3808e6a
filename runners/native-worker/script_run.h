// Execution of a script on the device itself: a harness that reads requests from a file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "job_folder.h"
#include "script_worker.h"

namespace latbench {

// The execution of one script. `answers` is the locked file of the answers, `command` what starts
// a worker.
class ScriptRun {
 public:
    ScriptRun(const JobFiles& files, Job job, int answers, std::vector<std::string> command);

    // Execute the script to its end, or up to a failure, and say how it ended.
    void run();

 private:
    void reserve();
    void execute_all();
    void execute(std::size_t number, const Line& line);
    std::string asked(const Line& line, double timeout_s);
    void out_of_time();
    void write(std::size_t number, const std::string& response);
    void say(const std::string& state);
    double passed_s() const;

    const JobFiles& files_;
    const Job job_;
    const int answers_;
    const std::vector<std::string> command_;
    const std::int64_t begun_ns_, begun_unix_ns_;
    int lock_ = -1;
    std::map<std::string, std::unique_ptr<ScriptWorker>> workers_;
    // Workers that have failed: their other lines are skipped.
    std::set<std::string> ended_;
    std::optional<Failure> failure_;
};

}  // namespace latbench
