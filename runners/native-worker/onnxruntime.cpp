#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

#include "failure.h"
#include "inputs.h"
#include "json.h"
#include "onnxruntime_slots.h"
#include "process.h"
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

// Providers that are added by their name -> the name that the C interface takes.
const std::map<std::string, std::string> kProviders = {
    {"XnnpackExecutionProvider", "XNNPACK"}, {"QNNExecutionProvider", "QNN"},
    {"SNPEExecutionProvider", "SNPE"},       {"WebGpuExecutionProvider", "WebGPU"},
    {"AzureExecutionProvider", "AZURE"},     {"OpenVINOExecutionProvider", "OpenVINO"},
    {"VitisAIExecutionProvider", "VitisAI"}, {"CoreMLExecutionProvider", "CoreML"},
};
constexpr const char* kNnapi = "NnapiExecutionProvider";
// Providers with their own threads -> option that sets the number.
const std::map<std::string, std::string> kThreads = {
    {"XnnpackExecutionProvider", "intra_op_num_threads"},
    {"OpenVINOExecutionProvider", "num_of_threads"},
};
// Options of NNAPI, which are bits.
const std::map<std::string, std::uint32_t> kNnapiBits = {
    {"use_fp16", 1}, {"use_nchw", 2}, {"cpu_disabled", 4}, {"cpu_only", 8}};

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() >= end.size() &&
           text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::string trimmed(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return "";
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// Options of the provider itself. Throws Refusal.
std::map<std::string, std::string> provider_options(const Settings& settings) {
    std::map<std::string, std::string> found;
    const std::string& provider = settings.at("provider");
    if (provider == kCpu && !trimmed(settings.at("provider_options")).empty()) {
        throw Refusal("provider_options requires a provider other than CPU");
    }
    if (const auto own = kThreads.find(provider); own != kThreads.end()) {
        found[own->second] = settings.at("threads");
    }
    for (const std::string& part : split(settings.at("provider_options"), ';')) {
        const std::string pair = trimmed(part);
        if (pair.empty()) continue;
        const std::size_t at = pair.find('=');
        const std::string key = trimmed(pair.substr(0, at));
        if (at == std::string::npos || key.empty()) {
            throw Refusal("provider_options: " + shown(pair) + " is not of the form key=value",
                          "for example provider_options='device_id=0;use_tf32=1'");
        }
        for (const auto& [name, option] : kThreads) {
            if (key == option) {
                throw Refusal("provider_options cannot set " + key, "use --threads N");
            }
        }
        found[key] = trimmed(pair.substr(at + 1));
        if (provider == kNnapi && (kNnapiBits.count(key) == 0 ||
                                   (found[key] != "0" && found[key] != "1"))) {
            throw Refusal("provider_options: NNAPI has no option " + shown(pair),
                          "use_fp16, use_nchw, cpu_disabled and cpu_only, each 0 or 1");
        }
    }
    return found;
}

std::uint32_t nnapi_flags(const std::map<std::string, std::string>& given) {
    std::uint32_t flags = 0;
    for (const auto& [name, value] : given) flags |= value == "1" ? kNnapiBits.at(name) : 0;
    return flags;
}

// The precision that the provider uses, or may use, instead of fp32. It cannot be read back.
bool computes_in_fp16(const Settings& settings) {
    const auto options = provider_options(settings);
    const auto given = [&](const char* name, const char* otherwise) {
        const auto found = options.find(name);
        return lower(found == options.end() ? otherwise : found->second);
    };
    const auto on = [&](const char* name, const char* otherwise) {
        const std::string value = given(name, otherwise);
        return value == "1" || value == "true";
    };
    const std::string& provider = settings.at("provider");
    if (provider == "CoreMLExecutionProvider") return true;
    if (provider == kNnapi) return on("use_fp16", "0");
    if (provider == "QNNExecutionProvider") return on("enable_htp_fp16_precision", "1");
    if (provider == "OpenVINOExecutionProvider") {
        const std::string device = given("device_type", "cpu"), exact = given("precision", "");
        const bool other = device.find("gpu") != std::string::npos ||
                           device.find("npu") != std::string::npos;
        return other && exact != "fp32" && exact != "accuracy";
    }
    return false;
}

class OnnxSession final : public Session {
 public:
    OnnxSession(const Api& api, Opening opening, Settings settings)
        : api_(api),
          opening_(std::move(opening)),
          settings_(std::move(settings)),
          session_(load("")),
          binding_(api.call.ReleaseIoBinding) {
        place_inputs();
        name_outputs();
        bind(session_, binding_);
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

    // Observed in a short profile of a second session, unless the CPU is the only provider.
    std::string placement() override {
        const std::string& provider = settings_.at("provider");
        if (provider == kCpu) {
            return json::Members()
                .raw("units", json::Members().raw(kCpu, "null").done())
                .text("known", "proven")
                .text("note", "the only provider in the session")
                .done();
        }
        std::map<std::string, std::int64_t> units = {{provider, 0}, {kCpu, 0}};
        const std::vector<std::string> order = profiled();
        std::int64_t partitions = 0;
        for (std::size_t i = 0; i < order.size(); ++i) {
            ++units[order[i]];
            partitions += i == 0 || order[i] != order[i - 1] ? 1 : 0;
        }
        json::Members counts;
        for (const auto& [name, count] : units) {
            if (order.empty()) {
                counts.raw(name, "null");
            } else {
                counts.number(name, count);
            }
        }
        json::Members placed;
        placed.raw("units", counts.done());
        if (order.empty()) {
            return placed.text("known", "unknown")
                .text("note", "the profile of an inference could not be read")
                .done();
        }
        return placed.text("known", "proven")
            .text("note", "nodes after optimization, in a profile of one inference")
            .number("partitions", partitions)
            .done();
    }

 private:
    // A session of the file, which writes a profile if a `prefix` for its file is given.
    Held load(const std::string& prefix) const {
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
        if (!prefix.empty()) api_.check(api_.call.EnableProfiling(options.get(), prefix.c_str()));
        const std::string& provider = settings_.at("provider");
        const bool strict = provider != kCpu && settings_.at("strict_placement") == "yes";
        if (strict) {
            api_.check(api_.call.AddSessionConfigEntry(options.get(),
                                                       "session.disable_cpu_ep_fallback", "1"));
        }
        if (provider != kCpu) append(options.get(), provider);
        Held session(api_.call.ReleaseSession);
        const auto message = api_.problem(api_.call.CreateSession(
            api_.environment, main_file(opening_.path).c_str(), options.get(), session.out()));
        if (!message) return session;
        if (says_out_of_memory(*message)) foreign_failure("open", *message);
        throw Failure("open",
                      "ONNX Runtime cannot load the file on " + provider + ": " +
                          first_line(*message),
                      strict ? "strict_placement=no runs nodes that the provider does not support "
                               "on the CPU"
                             : "a damaged file, an operator unknown to this version, or an option "
                               "unknown to the provider");
    }

    // Adds a provider in front of the CPU's.
    void append(Handle* options, const std::string& provider) const {
        const auto given = provider_options(settings_);
        std::optional<std::string> message;
        if (provider == kNnapi) {
            using Append = Status* (*)(Handle*, std::uint32_t);
            const auto call = reinterpret_cast<Append>(
                api_.library.function("OrtSessionOptionsAppendExecutionProvider_Nnapi"));
            message = api_.problem(call(options, nnapi_flags(given)));
        } else {
            std::vector<const char*> keys, values;
            for (const auto& [key, value] : given) {
                keys.push_back(key.c_str());
                values.push_back(value.c_str());
            }
            message = api_.problem(api_.call.SessionOptionsAppendExecutionProvider(
                options, kProviders.at(provider).c_str(), keys.data(), values.data(), keys.size()));
        }
        if (!message) return;
        throw Failure("open",
                      provider + " is part of this onnxruntime but could not be loaded: " +
                          first_line(*message),
                      "its driver or libraries are missing, or it does not know an option",
                      "unavailable");
    }

    // The provider of each node in the order of execution; empty if that cannot be read.
    std::vector<std::string> profiled() const {
        std::string folder = environment("TMPDIR");
        folder = (folder.empty() ? "/tmp" : folder) + "/latbench-profile-XXXXXX";
        if (mkdtemp(folder.data()) == nullptr) return {};
        std::string file;
        {
            Held session = load(folder + "/profile"), binding(api_.call.ReleaseIoBinding);
            bind(session, binding);
            for (int i = 0; i < 2; ++i) {
                api_.check(api_.call.RunWithBinding(session.get(), nullptr, binding.get()));
            }
            char* name = nullptr;
            Status* status = api_.call.SessionEndProfiling(session.get(), api_.allocator, &name);
            file = named(api_, status, name);
        }
        const std::string content = read_text(file).value_or("");
        unlink(file.c_str());
        rmdir(folder.c_str());
        try {
            return providers_in(json::parse(content));
        } catch (const NotAMessage&) {
            return {};
        }
    }

    // Of the last inference in a profile, each node once.
    static std::vector<std::string> providers_in(const json::Value& events) {
        std::vector<std::string> found, complete;
        std::set<std::string> seen;
        const auto* list = std::get_if<json::Array>(&events.held);
        if (list == nullptr) return {};
        for (const json::Value& event : *list) {
            const std::string& name = json::text(event, "name");
            if (name == "model_run") {
                complete.swap(found);
                found.clear();
                seen.clear();
            }
            const json::Value* arguments = json::find(event, "args");
            if (json::optional_text(event, "cat").value_or("") != "Node" || arguments == nullptr ||
                !ends_with(name, "_kernel_time")) {
                continue;
            }
            const auto index = json::optional_text(*arguments, "node_index");
            if (!seen.insert(name + "/" + index.value_or("")).second) continue;
            found.push_back(json::optional_text(*arguments, "provider").value_or("unknown"));
        }
        return complete;
    }

    void place_inputs() {
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
        }
    }

    void name_outputs() {
        std::size_t count = 0;
        api_.check(api_.call.SessionGetOutputCount(session_.get(), &count));
        for (std::size_t i = 0; i < count; ++i) {
            char* name = nullptr;
            Status* status =
                api_.call.SessionGetOutputName(session_.get(), i, api_.allocator, &name);
            names_.push_back(named(api_, status, name));
        }
    }

    void bind(const Held& session, Held& binding) const {
        api_.check(api_.call.CreateIoBinding(session.get(), binding.out()));
        for (std::size_t i = 0; i < values_.size(); ++i) {
            api_.check(api_.call.BindInput(binding.get(), opening_.inputs[i].name.c_str(),
                                           values_[i].get()));
        }
        for (const std::string& name : names_) {
            api_.check(api_.call.BindOutputToDevice(binding.get(), name.c_str(), api_.memory));
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
        provider_options(settings);
        if (opening.precision == "fp32" && computes_in_fp16(settings)) {
            settings["precision"] = "fp16";
        }
#ifdef __x86_64__
        // It casts to fp32 and back around every operator.
        if (opening.precision == "fp16" && settings["provider"] == kCpu) {
            settings["precision"] = "fp32";
        }
#endif
        return std::make_unique<OnnxSession>(api_, std::move(opening), std::move(settings));
    }

 private:
    // `cpu` -> `CPUExecutionProvider`. Throws Failure if it is not available.
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
            if (name == kCpu || name == kNnapi || kProviders.count(name) > 0) return name;
            throw Failure("open", "the native worker cannot add the provider " + name,
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
