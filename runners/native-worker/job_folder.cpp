#include "job_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string_view>

#include "text.h"

namespace latbench {
namespace {

std::optional<double> number(const json::Value* value) {
    if (value == nullptr) return std::nullopt;
    if (const auto* real = std::get_if<double>(&value->held)) return *real;
    if (const auto* whole = std::get_if<std::int64_t>(&value->held)) {
        return static_cast<double>(*whole);
    }
    return std::nullopt;
}

double real(const json::Value& object, const char* name) {
    const auto found = number(json::find(object, name));
    if (!found) throw NotAMessage(std::string(name) + " is not a number");
    return *found;
}

// The members of a JSON file; nothing if it cannot be read.
std::optional<json::Value> read_object(const std::string& path) {
    const auto bytes = read_bytes(path);
    if (!bytes) return std::nullopt;
    try {
        json::Value value = json::parse(*bytes);
        if (std::holds_alternative<json::Object>(value.held)) return value;
    } catch (const NotAMessage&) {
    }
    return std::nullopt;
}

// What a job is, with the members that this version knows; null for another job.
std::string about(const JobFiles& files) {
    const auto read = read_object(files.job);
    if (!read) return "null";
    try {
        json::Members told;
        const std::int64_t version = json::optional_integer(*read, "version").value_or(kJobVersion);
        if (version > kJobVersion) return "null";
        told.number("version", version);
        for (const char* name : {"id", "what", "harness", "lock", "protocol", "protocol_sha256",
                                 "artifact_sha256"}) {
            told.text(name, json::text(*read, name));
        }
        told.number("created_unix_ns", json::integer(*read, "created_unix_ns"));
        for (const char* name : {"limit_s", "expected_s"}) {
            told.raw(name, json::written({real(*read, name)}));
        }
        return told.done();
    } catch (const NotAMessage&) {
        return "null";
    }
}

// The status if it is one.
std::optional<json::Value> read_status(const JobFiles& files) {
    auto read = read_object(files.status);
    if (!read) return std::nullopt;
    try {
        const std::string& state = json::text(*read, "state");
        const bool known = state == "running" || state == "finished" || state == "failed" ||
                           state == "canceled";
        json::integer(*read, "pid");
        json::integer(*read, "started_unix_ns");
        json::optional_integer(*read, "ended_unix_ns");
        if (!known) return std::nullopt;
    } catch (const NotAMessage&) {
        return std::nullopt;
    }
    return read;
}

std::string written_failure(const std::optional<Failure>& failure) {
    if (!failure) return "null";
    return json::Members()
        .text("stage", failure->stage)
        .text("kind", failure->kind)
        .text("message", failure->message)
        .text("hint", failure->hint)
        .text("detail", failure->detail)
        .done();
}

}  // namespace

SystemError::SystemError() : std::runtime_error(std::strerror(errno)) {}

JobFiles::JobFiles(const std::string& folder)
    : folder(folder),
      job(folder + "/job.json"),
      script(folder + "/script.jsonl"),
      answers(folder + "/answers.jsonl"),
      status(folder + "/status.json"),
      output(folder + "/output.txt"),
      reserve(folder + "/reserve") {}

Job read_job(const JobFiles& files) {
    const auto bytes = read_bytes(files.job);
    if (!bytes) throw SystemError();
    const json::Value read = json::parse(*bytes);
    Job job;
    job.id = json::text(read, "id");
    if (json::optional_integer(read, "version").value_or(kJobVersion) > kJobVersion) {
        throw Failure("probe",
                      "the job " + job.id + " is of a newer latbench than this device's");
    }
    job.harness = json::text(read, "harness");
    job.lock = json::text(read, "lock");
    job.limit_s = real(read, "limit_s");
    return job;
}

std::vector<Line> read_script(const JobFiles& files) {
    const auto bytes = read_bytes(files.script);
    if (!bytes) throw SystemError();
    std::vector<Line> lines;
    for (std::size_t at = 0; at < bytes->size();) {
        const std::size_t end = std::min(bytes->find('\n', at), bytes->size());
        const json::Value read = json::parse(std::string_view(*bytes).substr(at, end - at));
        at = end + 1;
        Line line;
        line.worker = json::optional_text(read, "worker").value_or("");
        line.role = json::text(read, "role");
        line.timeout_s = real(read, "timeout_s");
        line.request = json::written(json::member(read, "request"));
        lines.push_back(std::move(line));
    }
    return lines;
}

void write_status(const JobFiles& files, const JobStatus& status) {
    const std::string text = json::Members()
                                 .text("state", status.state)
                                 .number("pid", std::int64_t{getpid()})
                                 .number("started_unix_ns", status.started_unix_ns)
                                 .number("ended_unix_ns", status.ended_unix_ns)
                                 .raw("failure", written_failure(status.failure))
                                 .done();
    const std::string beside = files.status + ".part";
    const int file = open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) return;
    bool whole = true;
    try {
        write_all(file, text);
    } catch (const SystemError&) {
        whole = false;
    }
    whole = fsync(file) == 0 && whole;
    whole = close(file) == 0 && whole;
    if (whole) std::rename(beside.c_str(), files.status.c_str());
}

int take_answers(const JobFiles& files, const std::string& id) {
    const int file =
        open(files.answers.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0) throw SystemError();
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) throw SystemError();
        throw Failure("probe", "the job " + id + " is running already");
    }
    if (access(files.status.c_str(), F_OK) == 0) {
        throw Failure("probe", "the job " + id + " has run already");
    }
    return file;
}

bool is_locked(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    const bool locked = flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(file);
    return locked;
}

std::optional<std::int64_t> process_of(const JobFiles& files) {
    const auto status = read_status(files);
    if (!status) return std::nullopt;
    return json::integer(*status, "pid");
}

std::string found_job(const std::string& folder) {
    const JobFiles files(folder);
    // Before the status: a job that ends meanwhile is then found as running.
    const bool running = is_locked(files.answers);
    const auto status = read_status(files);
    struct stat found {};
    const bool there = stat(files.answers.c_str(), &found) == 0;
    return json::Members()
        .text("id", folder.substr(folder.rfind('/') + 1))
        .boolean("running", running)
        .raw("about", about(files))
        .raw("status", status ? json::written(*status) : "null")
        .number("answers_bytes", there ? std::int64_t{found.st_size} : 0)
        .done();
}

std::int64_t wall_ns() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void write_all(int file, const std::string& bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t count = write(file, bytes.data() + done, bytes.size() - done);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw SystemError();
        done += static_cast<std::size_t>(count);
    }
}

}  // namespace latbench
