// What the conversation needs of a runtime: one session, in the middle of which only `run` is
// timed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tensor.h"

namespace latbench {

using Settings = std::map<std::string, std::string>;

// What a session is opened with.
struct Opening {
    std::string format, precision, path;
    std::vector<TensorSpec> inputs, outputs;
    std::vector<Tensor> arrays;
    int threads = 1;
    Settings extra;
};

// An output as the message carries it.
struct Output {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::string data;
};

class Session {
 public:
    virtual ~Session() = default;
    // One inference; returns when the outputs can be read. Throws Failure.
    virtual void run() = 0;
    virtual std::vector<Output> outputs() = 0;
    // Actual settings, and the placement as JSON.
    virtual Settings settings() = 0;
    virtual std::string placement() = 0;
};

// A loaded runtime.
class Runtime {
 public:
    virtual ~Runtime() = default;
    virtual std::optional<std::string> version() const = 0;
    // The library's file.
    virtual const std::string& path() const = 0;
    // Throws Failure, and Refusal for an invalid option.
    virtual std::unique_ptr<Session> open(Opening opening) = 0;
};

// Load the library. Throw Failure of the kind `unavailable`.
std::unique_ptr<Runtime> load_onnxruntime();
std::unique_ptr<Runtime> load_litert();

// What loads the runtime of a backend; null for an unknown one.
using Loader = std::unique_ptr<Runtime> (*)();
Loader loader(const std::string& backend);

// A library opened for good, and the path of its file.
class Library {
 public:
    // The file that the environment variable `variable` names; else one beside this program whose
    // name starts with `name`; else what the system finds as `name` or `soname`.
    Library(const char* variable, const std::string& name, const std::string& soname);

    const std::string& path() const { return path_; }
    // Throws Failure if the library has no such function.
    void* function(const char* name) const;
    // The same; null if it has none.
    void* optional_function(const char* name) const;

 private:
    void* handle_ = nullptr;
    std::string path_;
};

// The path of this program.
std::string own_path();

// The command that starts this program again, which begins with a loader if it was started by one.
std::vector<std::string> own_command();

// `value` of option `name`, one of `allowed`. Throws Refusal.
const std::string& choice(const Settings& settings, const std::string& name,
                          const std::vector<std::string>& allowed);

// The settings with their defaults replaced by `extra`. Throws Refusal for an unknown option.
Settings chosen(const std::string& backend, Settings defaults, const Settings& extra,
                const std::vector<std::string>& options);

// The first line of a message of foreign code, which may be pages long.
std::string first_line(const std::string& text);

// Whether a message of foreign code says that memory ran out.
bool says_out_of_memory(const std::string& text);

// A failure in foreign code.
[[noreturn]] void foreign_failure(const std::string& stage, const std::string& message);

}  // namespace latbench
