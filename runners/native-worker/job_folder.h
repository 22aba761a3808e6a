// Files of a run that is left on a device alone: one folder for each job.
//
// Whoever holds the lock on `answers.jsonl` runs the job; a job whose lock nobody holds has ended,
// whatever its status says.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "failure.h"
#include "json.h"

namespace latbench {

constexpr int kJobVersion = 1;

// A call of the system failed: the message is the system's.
struct SystemError : std::runtime_error {
    SystemError();
};

// The files in a job's folder.
struct JobFiles {
    explicit JobFiles(const std::string& folder);

    std::string folder, job, script, answers, status, output, reserve;
};

// What the program needs to know of a job.
struct Job {
    std::string id, harness, lock;
    double limit_s = 0;
};

// One request of a script. `worker` is empty for the program itself.
struct Line {
    std::string worker, role, request;
    double timeout_s = 0;
};

struct JobStatus {
    std::string state;
    std::int64_t started_unix_ns = 0;
    std::optional<std::int64_t> ended_unix_ns;
    std::optional<Failure> failure;
};

// Throws Failure for a job of a newer version, NotAMessage for a damaged one and SystemError.
Job read_job(const JobFiles& files);

// Throws NotAMessage and SystemError.
std::vector<Line> read_script(const JobFiles& files);

// Replace the status as a whole. If even that does not fit, the lock on the answers says enough.
void write_status(const JobFiles& files, const JobStatus& status);

// Take the lock on the answers, for as long as the file that is returned is open. Throws Failure if
// the job runs or has run, and SystemError.
int take_answers(const JobFiles& files, const std::string& id);

bool is_locked(const std::string& path);

// The process of a job; nothing without a status.
std::optional<std::int64_t> process_of(const JobFiles& files);

// JSON of a job as it is found. What cannot be read is null.
std::string found_job(const std::string& folder);

// Wall-clock time, in nanoseconds since 1970.
std::int64_t wall_ns();

// Write all of `bytes`. Throws SystemError.
void write_all(int file, const std::string& bytes);

}  // namespace latbench
