// The native worker: holds the conversation of docs/PROTOCOL.md without Python.

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <new>

#include "agent.h"
#include "digest.h"
#include "failure.h"
#include "host.h"
#include "inputs.h"
#include "json.h"
#include "messages.h"
#include "npz.h"
#include "process.h"
#include "runtime.h"
#include "script.h"

#ifndef LATBENCH_VERSION
#define LATBENCH_VERSION "0+unknown"
#endif

namespace latbench {
namespace {

constexpr std::int64_t kMostCalls = 4'000'000, kMostThreads = 4096;
constexpr std::size_t kLongestOutputs = std::size_t{1} << 30;

std::vector<TensorSpec> tensors(const json::Value& artifact, const char* side) {
    std::vector<TensorSpec> found;
    for (const json::Value& each : json::array(artifact, side)) {
        TensorSpec spec;
        spec.name = json::text(each, "name");
        spec.dtype = json::text(each, "dtype");
        spec.content = json::optional_text(each, "content");
        for (const json::Value& size : json::array(each, "shape")) {
            const auto* number = std::get_if<std::int64_t>(&size.held);
            if (number == nullptr) throw NotAMessage("a shape is not of whole numbers");
            spec.shape.push_back(*number);
        }
        found.push_back(std::move(spec));
    }
    return found;
}

// A seed modulo 2**64, of which the formula of the inputs uses the lower half.
std::uint64_t seed_of(const json::Value& request) {
    const json::Value& seed = json::member(request, "seed");
    if (const auto* number = std::get_if<std::uint64_t>(&seed.held)) return *number;
    return static_cast<std::uint64_t>(json::integer(request, "seed"));
}

// A path for the system, which ends at the first zero byte.
std::string path_of(const std::string& text) {
    if (text.find('\0') != std::string::npos) throw Refusal("a path contains a zero byte");
    return text;
}

// CPUs as text, such as `0,4-7`.
std::string cpu_list(const std::vector<std::int64_t>& cpus) {
    std::string text;
    for (std::size_t i = 0; i < cpus.size(); ++i) {
        std::size_t end = i;
        while (end + 1 < cpus.size() && cpus[end + 1] == cpus[end] + 1) ++end;
        if (!text.empty()) text += ",";
        text += std::to_string(cpus[i]);
        if (end > i) text += "-" + std::to_string(cpus[end]);
        i = end;
    }
    return text;
}

// Restrict this process to sorted CPUs.
void restrict_to(const std::vector<std::int64_t>& cpus) {
    constexpr std::size_t bits = sizeof(unsigned long) * CHAR_BIT;
    std::vector<unsigned long> set(static_cast<std::size_t>(cpus.back()) / bits + 1);
    for (const std::int64_t each : cpus) {
        const auto cpu = static_cast<std::size_t>(each);
        set[cpu / bits] |= 1UL << cpu % bits;
    }
    const bool set_well = sched_setaffinity(0, set.size() * sizeof(unsigned long),
                                            reinterpret_cast<const cpu_set_t*>(set.data())) == 0;
    const std::string why = set_well ? "the system allows only some of them" : std::strerror(errno);
    // The kernel leaves out CPUs that are offline or not allowed, and says nothing.
    if (set_well && affinity() == std::optional(cpus)) return;
    throw Failure("open",
                  "the worker cannot be restricted to the CPUs " + cpu_list(cpus) + ": " + why,
                  "CPUs that are offline cannot be chosen", "unavailable");
}

// The CPUs of a request, sorted; nothing if it names none.
std::optional<std::vector<std::int64_t>> requested_cpus(const json::Value& request) {
    const json::Value* found = json::find(request, "cpus");
    if (found == nullptr || found->is_null()) return std::nullopt;
    constexpr std::int64_t most = 4096;
    std::vector<std::int64_t> cpus;
    for (const json::Value& each : json::array(request, "cpus")) {
        const auto* cpu = std::get_if<std::int64_t>(&each.held);
        if (cpu == nullptr || *cpu < 0) throw NotAMessage("cpus are not numbers of CPUs");
        if (*cpu >= most) throw Refusal("there is no CPU " + std::to_string(*cpu));
        cpus.push_back(*cpu);
    }
    if (cpus.empty()) throw Refusal("the list of CPUs is empty");
    std::sort(cpus.begin(), cpus.end());
    cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
    return cpus;
}

void sleep_until(std::int64_t ns) {
    const timespec due{static_cast<std::time_t>(ns / 1'000'000'000),
                       static_cast<long>(ns % 1'000'000'000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr) == EINTR) {
    }
}

// Times each of `calls` inferences: back to back, or one every `period_ns`, where a late call is
// followed by the next one at once.
void time_calls(Session& session, std::int64_t calls, std::optional<std::int64_t> period_ns,
                std::vector<std::int64_t>& elapsed) {
    if (!period_ns) {
        for (std::int64_t i = 0; i < calls; ++i) {
            const std::int64_t start = now_ns();
            session.run();
            elapsed.push_back(now_ns() - start);
        }
        return;
    }
    // Wait before the first call too: it follows the previous block.
    std::int64_t due = now_ns() + *period_ns;
    for (std::int64_t i = 0; i < calls; ++i) {
        if (due > now_ns()) sleep_until(due);
        const std::int64_t start = now_ns();
        session.run();
        elapsed.push_back(now_ns() - start);
        due = std::max(due + *period_ns, now_ns());
    }
}

class Worker {
 public:
    // The response to one request. Throws Failure, Refusal and NotAMessage.
    std::string handle(const json::Value& request) {
        const std::string& type = json::text(request, "type");
        if (type == "open") return open(request);
        if (type == "time") return time(request);
        if (type == "time_operators") {
            json::integer(request, "calls");
            live("outputs");
            return json::Members().text("type", "operators_timed").raw("profile", "null").done();
        }
        if (type == "outputs") return outputs();
        if (type == "close") {
            closed_ = true;
            session_.reset();
            return json::Members().text("type", "closed").done();
        }
        if (const auto told = answer_about_machine(request)) return *told;
        if (type == "capabilities") return capabilities(request);
        if (type == "signal") return signal_worker(request);
        if (type == "reserve") return reserve(request);
        throw NotAMessage("unknown type " + shown(type));
    }

    bool closed() const { return closed_; }

    // The stage of a failure that says none itself.
    static std::string stage_of(const json::Value& request) {
        const std::string& type = json::text(request, "type");
        if (type == "time" || type == "time_operators") return "time";
        if (type == "outputs" || type == "close") return "outputs";
        return type == "open" ? "open" : "probe";
    }

 private:
    // Restrict this process to the CPUs of a request; `pinned`, to the last `threads` of them.
    void restrict(const std::optional<std::vector<std::int64_t>>& cpus, bool pinned, int threads) {
        if (!cpus && !pinned && !all_cpus_) return;
        if (!all_cpus_) all_cpus_ = affinity();
        if (!all_cpus_) {
            throw Failure("open", "this system cannot restrict a process to CPUs",
                          "leave out --cpus, or use another protocol: latbench protocols",
                          "unavailable");
        }
        std::vector<std::int64_t> wanted = cpus.value_or(*all_cpus_);
        restrict_to(wanted);
        const auto count = static_cast<std::size_t>(threads);
        if (!pinned || wanted.size() <= count) return;
        wanted.erase(wanted.begin(), wanted.end() - threads);
        restrict_to(wanted);
    }

    std::string open(const json::Value& request) {
        const json::Value& artifact = json::member(request, "artifact");
        Opening opening;
        opening.format = json::text(artifact, "format");
        opening.precision = json::text(artifact, "precision");
        opening.inputs = tensors(artifact, "inputs");
        opening.outputs = tensors(artifact, "outputs");
        opening.path = path_of(json::text(request, "path"));
        json::integer(request, "process");
        for (const auto& [name, value] : json::object(request, "extra")) {
            const auto* text = std::get_if<std::string>(&value.held);
            if (text == nullptr) throw NotAMessage("the option " + name + " is not a text");
            opening.extra[name] = *text;
        }
        const std::string& backend = json::text(request, "backend");
        const std::int64_t threads = json::integer(request, "threads");
        const std::uint64_t seed = seed_of(request);
        const bool pinned = json::optional_boolean(request, "pinned");
        const auto cpus = requested_cpus(request);
        const auto stored = json::optional_text(request, "inputs");

        session_.reset();
        if (threads < 1 || threads > kMostThreads) {
            throw Refusal("the number of threads cannot be " + std::to_string(threads),
                          "1 to " + std::to_string(kMostThreads));
        }
        opening.threads = static_cast<int>(threads);
        restrict(cpus, pinned, opening.threads);
        Runtime& runtime = loaded(backend);
        const std::string library = library_sha256(backend, runtime);
        opening.arrays =
            make_inputs(opening.inputs, seed, stored ? read_npz(path_of(*stored)) : Stored{});
        const std::int64_t start = now_ns();
        session_ = runtime.open(std::move(opening));
        opened_ns_ = now_ns();
        const std::int64_t load_ns = opened_ns_ - start;
        Settings settings = session_->settings();
        settings["worker"] = "native";
        settings["worker_sha256"] = own_sha256_;
        settings["library_sha256"] = library;
        if (cpus) settings["cpus"] = cpu_list(affinity().value_or(*cpus));
        settings["libc"] = libc_version().value_or("unknown");
        json::Members said;
        for (const auto& [name, value] : settings) said.text(name, value);
        return json::Members()
            .text("type", "opened")
            .number("load_ns", load_ns)
            .text("version", runtime.version())
            .raw("settings", said.done())
            .raw("placement", session_->placement())
            .done();
    }

    std::string time(const json::Value& request) {
        const std::int64_t calls = json::integer(request, "calls");
        const std::int64_t settle = json::optional_integer(request, "settle").value_or(0);
        const auto period_ns = json::optional_integer(request, "period_ns");
        Session& session = live("time");
        if (calls < 0 || calls > kMostCalls || settle < 0 || settle > calls) {
            throw Refusal("a block cannot have " + std::to_string(calls) + " calls of which " +
                              std::to_string(settle) + " are discarded",
                          "at most " + std::to_string(kMostCalls) + " calls");
        }
        if (period_ns && (*period_ns < 0 || *period_ns > 3'600'000'000'000)) {
            throw Refusal("a call cannot start every " + std::to_string(*period_ns) + " ns",
                          "at most one hour");
        }
        std::vector<std::int64_t> elapsed;
        elapsed.reserve(static_cast<std::size_t>(calls));
        const std::int64_t start = now_ns() - opened_ns_;
        time_calls(session, settle, period_ns, elapsed);
        const Snapshot before = snapshot("");
        time_calls(session, calls - settle, period_ns, elapsed);
        const Snapshot after = snapshot("");
        return json::Members()
            .text("type", "timed")
            .number("start_ns", start)
            .raw("sample_ns", json::numbers(elapsed))
            .raw("readings", readings(before, after, ""))
            .raw("beside_ns", "{}")
            .done();
    }

    std::string outputs() {
        std::string given;
        for (const Output& each : live("outputs").outputs()) {
            // Base64 needs no escapes.
            given += (given.empty() ? "" : ",") + json::Members()
                                                      .text("dtype", each.dtype)
                                                      .raw("shape", json::numbers(each.shape))
                                                      .raw("data", "\"" + each.data + "\"")
                                                      .done();
            if (given.size() > kLongestOutputs - 1000) {
                throw Failure("outputs", "the outputs do not fit into a message of 1 GiB",
                              "use a smaller batch or resolution");
            }
        }
        return json::Members()
            .text("type", "outputs_given")
            .raw("tensors", "[" + given + "]")
            .number("peak_rss_bytes", peak_rss_bytes())
            .done();
    }

    Session& live(const char* action) {
        if (!session_) {
            throw Failure("open", std::string(action) + " was requested before a session was open");
        }
        return *session_;
    }

    // The runtime stays: it counts as awake when a session is loaded again.
    Runtime& loaded(const std::string& name) {
        const Loader load = loader(name);
        if (load == nullptr) {
            throw Refusal("unknown backend " + shown(name), "known: onnxruntime, tflite");
        }
        auto& runtime = runtimes_[name];
        if (!runtime) runtime = load();
        return *runtime;
    }

    // Computed once and before a load is timed; reading the file also has the system keep it.
    std::string library_sha256(const std::string& backend, const Runtime& runtime) {
        if (own_sha256_.empty()) own_sha256_ = file_sha256(own_path()).value_or("unknown");
        auto& digest = digests_[backend];
        if (digest.empty()) digest = file_sha256(runtime.path()).value_or("unknown");
        return digest;
    }

    std::map<std::string, std::unique_ptr<Runtime>> runtimes_;
    std::map<std::string, std::string> digests_;
    std::string own_sha256_;
    // Those of this program at its start, once it has restricted itself.
    std::optional<std::vector<std::int64_t>> all_cpus_;
    std::unique_ptr<Session> session_;
    std::int64_t opened_ns_ = 0;
    bool closed_ = false;
};

std::string response(Worker& worker, const json::Value& request) {
    const std::string stage = Worker::stage_of(request);
    try {
        return worker.handle(request);
    } catch (const Failure& failure) {
        return failed(failure);
    } catch (const Refusal& refusal) {
        return refused(refusal);
    } catch (const NotAMessage&) {
        throw;
    } catch (const std::bad_alloc&) {
        return failed(Failure(stage, "MemoryError: memory ran out",
                              "try a smaller batch or resolution, or a machine with more memory",
                              "out_of_memory"));
    } catch (const std::exception& error) {
        return failed(Failure(stage, error.what()));
    }
}

}  // namespace
}  // namespace latbench

int main(int count, char** arguments) {
    using namespace latbench;
    if (count > 1 && std::strcmp(arguments[1], "--version") == 0) {
        std::printf("latbench-native %s, protocol %d\n", LATBENCH_VERSION, kProtocol);
        return 0;
    }
    if (count > 1 && std::strcmp(arguments[1], "script") == 0) return script(count, arguments);
    // Runtimes send nothing, and leave no device id in the user's cache folder.
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    setenv("DO_NOT_TRACK", "1", 0);
    // Both live until the process ends: another thread uses the lines, and runtimes have threads.
    static auto& lines = *new Lines;
    static auto& worker = *new Worker;
    lines.send(json::Members()
                   .text("type", "hello")
                   .number("protocol", std::int64_t{kProtocol})
                   .text("program", "latbench-native")
                   .text("version", LATBENCH_VERSION)
                   .number("pid", std::int64_t{getpid()})
                   .boolean("stoppable", true)
                   .done());
    try {
        while (true) {
            lines.send(response(worker, json::parse(lines.next())));
            if (worker.closed()) _exit(0);
        }
    } catch (const NotAMessage& error) {
        std::fprintf(stderr, "latbench-native: %s\n", error.what());
        _exit(1);
    }
}
