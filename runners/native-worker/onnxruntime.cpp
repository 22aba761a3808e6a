#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "failure.h"
#include "inputs.h"
#include "json.h"
#include "onnxruntime_slots.h"
#include "runtime.h"
#include "text.h"

namespace latbench {
namespace {

using ort::Handle;
using ort::Status;

constexpr const char* kBackend = "onnxruntime";
constexpr const char* kCpu = "CPUExecutionProvider";
constexpr int kBfloat16 = 16;

// Element types of ONNX.
struct Element {
    Type type;
    int number;
};
constexpr Element kElements[] = {
    {Type::float32, 1},  {Type::uint8, 2},    {Type::int8, 3},    {Type::uint16, 4},
    {Type::int16, 5},    {Type::int32, 6},    {Type::int64, 7},   {Type::boolean, 9},
    {Type::float16, 10}, {Type::float64, 11}, {Type::uint32, 12}, {Type::uint64, 13},
};

int element_of(Type type) {
    for (const Element& each : kElements) {
        if (each.type == type) return each.number;
    }
    return 0;
}

std::optional<Type> type_of(int number) {
    for (const Element& each : kElements) {
        if (each.number == number) return each.type;
    }
    return std::nullopt;
}

// The table of functions and what lives as long as the program.
class Api {
 public:
    Api() : library("LATBENCH_ORT", "libonnxruntime.so", "libonnxruntime.so.1") {
        using Get = const ort::Base* (*)();
        const ort::Base* base = reinterpret_cast<Get>(library.function("OrtGetApiBase"))();
        version = base->version();
        const void* const* table = base->get_api(LATBENCH_ORT_API_VERSION);
        if (table == nullptr) {
            throw Failure("open", "ONNX Runtime " + version + " is too old for the native worker",
                          "it requires 1.16 or newer", "unavailable");
        }
#define LATBENCH_ORT_READ(slot, name, result, arguments) \
    call.name = reinterpret_cast<result(*) arguments>(const_cast<void*>(table[slot]));
        LATBENCH_ORT_FUNCTIONS(LATBENCH_ORT_READ)
#undef LATBENCH_ORT_READ
        check(call.CreateEnv(ort::kWarnings, "latbench", &environment));
        check(call.DisableTelemetryEvents(environment));
        check(call.GetAllocatorWithDefaultOptions(&allocator));
        check(call.CreateCpuMemoryInfo(ort::kArenaAllocator, ort::kDefaultMemory, &memory));
    }

    // The message of a call that failed, as ONNX Runtime's Python package words it.
    std::optional<std::string> problem(Status* status) const {
        if (status == nullptr) return std::nullopt;
        constexpr const char* names[] = {"SUCCESS",           "FAIL",
                                         "INVALID_ARGUMENT",  "NO_SUCHFILE",
                                         "NO_MODEL",          "ENGINE_ERROR",
                                         "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
                                         "MODEL_LOADED",      "NOT_IMPLEMENTED",
                                         "INVALID_GRAPH",     "EP_FAIL"};
        const int code = call.GetErrorCode(status);
        const bool known = code >= 0 && code < static_cast<int>(std::size(names));
        std::string text = "[ONNXRuntimeError] : " + std::to_string(code) + " : " +
                           (known ? names[code] : "GENERAL ERROR") + " : " +
                           call.GetErrorMessage(status);
        call.ReleaseStatus(status);
        return text;
    }

    void check(Status* status, const char* stage = "open") const {
        if (const auto message = problem(status)) foreign_failure(stage, *message);
    }

    Library library;
    ort::Functions call{};
    std::string version;
    Handle *environment = nullptr, *allocator = nullptr, *memory = nullptr;
};

// A handle that is released at the end of its scope.
class Held {
 public:
    explicit Held(void (*release)(Handle*), Handle* handle = nullptr)
        : release_(release), handle_(handle) {}
    Held(Held&& other) noexcept : release_(other.release_), handle_(other.handle_) {
        other.handle_ = nullptr;
    }
    Held& operator=(Held&&) = delete;
    ~Held() {
        if (handle_ != nullptr) release_(handle_);
    }
    Handle** out() { return &handle_; }
    Handle* get() const { return handle_; }

 private:
    void (*release_)(Handle*);
    Handle* handle_;
};

std::string named(const Api& api, Status* status, char* name) {
    api.check(status);
    std::string found = name;
    api.check(api.call.AllocatorFree(api.allocator, name));
    return found;
}

// The main file of an artifact, which may be a folder.
std::string main_file(const std::string& path) {
    struct stat facts{};
    const bool folder = stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
    return folder ? path + "/model.onnx" : path;
}

class OnnxSession final : public Session {
 public:
    OnnxSession(const Api& api, Opening opening, Settings settings)
        : api_(api),
          opening_(std::move(opening)),
          settings_(std::move(settings)),
          session_(api.call.ReleaseSession),
          binding_(api.call.ReleaseIoBinding) {
        load();
        bind();
    }

    void run() override {
        api_.check(api_.call.RunWithBinding(session_.get(), nullptr, binding_.get()), "time");
        ran_ = true;
    }

    std::vector<Output> outputs() override {
        if (!ran_) throw Failure("outputs", "outputs were requested before an inference");
        Handle** values = nullptr;
        std::size_t count = 0;
        api_.check(api_.call.GetBoundOutputValues(binding_.get(), api_.allocator, &values, &count),
                   "outputs");
        std::vector<Held> held;
        for (std::size_t i = 0; i < count; ++i)
            held.emplace_back(api_.call.ReleaseValue, values[i]);
        if (values != nullptr)
            api_.check(api_.call.AllocatorFree(api_.allocator, values), "outputs");
        std::vector<Output> found;
        for (const TensorSpec& spec : opening_.outputs) {
            const auto at = std::find(names_.begin(), names_.end(), spec.name) - names_.begin();
            if (static_cast<std::size_t>(at) >= held.size()) {
                throw Failure("outputs", "the session has no output " + shown(spec.name));
            }
            found.push_back(read(held[static_cast<std::size_t>(at)].get(), spec.name));
        }
        return found;
    }

    Settings settings() override { return settings_; }

    std::string placement() override {
        return json::Members()
            .raw("units", json::Members().raw(kCpu, "null").done())
            .text("known", "proven")
            .text("note", "the only provider in the session")
            .done();
    }

 private:
    void load() {
        Held options(api_.call.ReleaseSessionOptions);
        api_.check(api_.call.CreateSessionOptions(options.out()));
        const int between = std::stoi(settings_.at("inter_op_threads"));
        api_.check(api_.call.SetIntraOpNumThreads(options.get(), opening_.threads));
        api_.check(api_.call.SetInterOpNumThreads(options.get(), between));
        if (between > 1) {
            api_.check(api_.call.SetSessionExecutionMode(options.get(), ort::kParallel));
        }
        static const std::map<std::string, int> levels = {
            {"disabled", 0}, {"basic", 1}, {"extended", 2}, {"all", 99}};
        api_.check(api_.call.SetSessionGraphOptimizationLevel(
            options.get(), levels.at(settings_.at("graph_optimization"))));
        api_.check(api_.call.AddSessionConfigEntry(options.get(), "session.intra_op.allow_spinning",
                                                   settings_.at("spinning") == "on" ? "1" : "0"));
        const auto message = api_.problem(api_.call.CreateSession(
            api_.environment, main_file(opening_.path).c_str(), options.get(), session_.out()));
        if (!message) return;
        if (says_out_of_memory(*message)) foreign_failure("open", *message);
        throw Failure(
            "open",
            "ONNX Runtime cannot load the file on " + std::string(kCpu) + ": " +
                first_line(*message),
            "a damaged file, an operator unknown to this version, or an option unknown to "
            "the provider");
    }

    void bind() {
        api_.check(api_.call.CreateIoBinding(session_.get(), binding_.out()));
        const std::vector<std::string> narrow = bfloat16_inputs();
        for (std::size_t i = 0; i < opening_.inputs.size(); ++i) {
            const std::string& name = opening_.inputs[i].name;
            Tensor& array = opening_.arrays[i];
            int element = element_of(array.type());
            if (std::find(narrow.begin(), narrow.end(), name) != narrow.end() &&
                array.type() == Type::float32) {
                // In place: each element becomes half as wide.
                for (std::size_t k = 0; k < array.count(); ++k) {
                    const std::uint16_t bits = bfloat16_of(array.as<float>()[k]);
                    std::memcpy(array.as<char>() + 2 * k, &bits, sizeof bits);
                }
                element = kBfloat16;
            }
            const std::size_t bytes = element == kBfloat16 ? array.count() * 2 : array.bytes();
            values_.emplace_back(api_.call.ReleaseValue);
            api_.check(api_.call.CreateTensorWithDataAsOrtValue(
                api_.memory, array.data(), bytes, array.shape().data(), array.shape().size(),
                element, values_.back().out()));
            api_.check(api_.call.BindInput(binding_.get(), name.c_str(), values_.back().get()));
        }
        std::size_t count = 0;
        api_.check(api_.call.SessionGetOutputCount(session_.get(), &count));
        for (std::size_t i = 0; i < count; ++i) {
            char* name = nullptr;
            Status* status =
                api_.call.SessionGetOutputName(session_.get(), i, api_.allocator, &name);
            names_.push_back(named(api_, status, name));
            api_.check(
                api_.call.BindOutputToDevice(binding_.get(), names_.back().c_str(), api_.memory));
        }
    }

    // Inputs of bfloat16, whose arrays are of float32.
    std::vector<std::string> bfloat16_inputs() const {
        std::vector<std::string> found;
        std::size_t count = 0;
        api_.check(api_.call.SessionGetInputCount(session_.get(), &count));
        for (std::size_t i = 0; i < count; ++i) {
            Held kind(api_.call.ReleaseTypeInfo);
            api_.check(api_.call.SessionGetInputTypeInfo(session_.get(), i, kind.out()));
            const Handle* tensor = nullptr;
            api_.check(api_.call.CastTypeInfoToTensorInfo(kind.get(), &tensor));
            if (tensor == nullptr) continue;
            int element = 0;
            api_.check(api_.call.GetTensorElementType(tensor, &element));
            if (element != kBfloat16) continue;
            char* name = nullptr;
            Status* status =
                api_.call.SessionGetInputName(session_.get(), i, api_.allocator, &name);
            found.push_back(named(api_, status, name));
        }
        return found;
    }

    Output read(Handle* value, const std::string& name) const {
        int is_tensor = 0;
        if (value != nullptr) api_.check(api_.call.IsTensor(value, &is_tensor), "outputs");
        if (is_tensor == 0) {
            throw Failure("outputs", "output " + shown(name) + " is not a tensor");
        }
        Held facts(api_.call.ReleaseTensorTypeAndShapeInfo);
        api_.check(api_.call.GetTensorTypeAndShape(value, facts.out()), "outputs");
        int element = 0;
        std::size_t rank = 0;
        api_.check(api_.call.GetTensorElementType(facts.get(), &element), "outputs");
        api_.check(api_.call.GetDimensionsCount(facts.get(), &rank), "outputs");
        Output output;
        output.shape.resize(rank);
        api_.check(api_.call.GetDimensions(facts.get(), output.shape.data(), rank), "outputs");
        void* data = nullptr;
        api_.check(api_.call.GetTensorMutableData(value, &data), "outputs");
        const std::size_t count = element_count(output.shape);
        if (element == kBfloat16) {
            Tensor wide(Type::float32, output.shape);
            for (std::size_t i = 0; i < count; ++i) {
                wide.as<float>()[i] = float_of_bfloat16(static_cast<std::uint16_t*>(data)[i]);
            }
            output.dtype = type_name(Type::float32);
            output.data = base64(wide.data(), wide.bytes());
            return output;
        }
        const auto type = type_of(element);
        if (!type) {
            throw Failure("outputs", "output " + shown(name) + " has elements of ONNX type " +
                                         std::to_string(element) +
                                         ", which the native worker does not read");
        }
        output.dtype = type_name(*type);
        output.data = base64(data, count * type_bytes(*type));
        return output;
    }

    const Api& api_;
    Opening opening_;
    Settings settings_;
    Held session_;
    std::vector<Held> values_;
    Held binding_;
    std::vector<std::string> names_;
    bool ran_ = false;
};

class OnnxRuntime final : public Runtime {
 public:
    std::optional<std::string> version() const override { return api_.version; }
    const std::string& path() const override { return api_.library.path(); }

    std::unique_ptr<Session> open(Opening opening) override {
        Settings settings = chosen(kBackend,
                                   {{"provider", kCpu},
                                    {"provider_options", ""},
                                    {"strict_placement", "no"},
                                    {"graph_optimization", "all"},
                                    {"spinning", "on"},
                                    {"inter_op_threads", "1"}},
                                   opening.extra,
                                   {"provider", "provider_options", "strict_placement",
                                    "graph_optimization", "spinning", "inter_op_threads"});
        settings["threads"] = std::to_string(opening.threads);
        choice(settings, "graph_optimization", {"disabled", "basic", "extended", "all"});
        choice(settings, "spinning", {"on", "off"});
        choice(settings, "strict_placement", {"yes", "no"});
        const std::string& between = settings["inter_op_threads"];
        const bool digits = !between.empty() && between.size() < 7 &&
                            between.find_first_not_of("0123456789") == std::string::npos;
        if (!digits || std::stoi(between) < 1) {
            throw Refusal("inter_op_threads must be a positive integer");
        }
        settings["provider"] = provider(settings["provider"]);
        if (settings["provider_options"].find_first_not_of(" \t\r\n") != std::string::npos) {
            throw Refusal("provider_options requires a provider other than CPU");
        }
#ifdef __x86_64__
        // It casts to fp32 and back around every operator.
        if (opening.precision == "fp16") settings["precision"] = "fp32";
#endif
        return std::make_unique<OnnxSession>(api_, std::move(opening), std::move(settings));
    }

 private:
    // `cpu` -> `CPUExecutionProvider`. Throws Failure for every other one.
    std::string provider(const std::string& asked) const {
        char** names = nullptr;
        int count = 0;
        api_.check(api_.call.GetAvailableProviders(&names, &count));
        const std::vector<std::string> present(names, names + count);
        api_.check(api_.call.ReleaseAvailableProviders(names, count));
        std::string listed;
        for (const std::string& name : present) {
            listed += (listed.empty() ? "" : ", ") + name;
            const std::string suffix = "ExecutionProvider", whole = lower(name);
            const std::string brief =
                whole.substr(0, name.size() - std::min(name.size(), suffix.size()));
            if (lower(asked) != whole && lower(asked) != brief) continue;
            if (name == kCpu) return name;
            throw Failure("open",
                          "the native worker runs ONNX Runtime on the CPU only, not on " + name,
                          "use the Python worker", "unavailable");
        }
        throw Failure(
            "open", "this onnxruntime has no provider " + asked,
            "available: " + listed + "; others are in separate packages, such as onnxruntime-gpu",
            "unavailable");
    }

    Api api_;
};

}  // namespace

std::unique_ptr<Runtime> load_onnxruntime() { return std::make_unique<OnnxRuntime>(); }

}  // namespace latbench
