#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>

#include "failure.h"
#include "inputs.h"
#include "json.h"
#include "litert_accelerator.h"
#include "process.h"
#include "runtime.h"

// LiteRT's C interface (litert/c), declared by hand: its packages have no headers. It is not
// versioned; these declarations are those of 2.3.

namespace latbench {
namespace {

constexpr const char* kBackend = "tflite";
constexpr const char* kRuntime = "ai-edge-litert";
constexpr const char* kKnownVersion = "2.3.";
constexpr const char* kXnnpack = "XNNPACK";
constexpr const char* kKernels = "TFLite kernels";

struct Handle;
using Index = std::size_t;

constexpr int kCpuAccelerator = 1, kGpuAccelerator = 2, kRead = 0, kWrite = 1;
constexpr int kMostAxes = 8;
// The status of a file with operators that none of the permitted accelerators executes.
constexpr int kCompilation = 504;
// An option of the environment, and the types of its value.
constexpr std::int64_t kRegistered = 24, kNumber = 2, kText = 8;

struct EnvironmentOption {
    std::int64_t tag, type;
    union {
        const char* text;
        std::int64_t number;
    };

    EnvironmentOption(std::int64_t option, const char* value)
        : tag(option), type(kText), text(value) {}
    EnvironmentOption(std::int64_t option, std::int64_t value)
        : tag(option), type(kNumber), number(value) {}
};
static_assert(sizeof(EnvironmentOption) == 24);

// Element type, rank in the low 7 bits, sizes and strides.
struct TensorType {
    int element;
    std::uint32_t rank;
    std::int32_t sizes[kMostAxes];
    std::uint32_t strides[kMostAxes];
};
static_assert(sizeof(TensorType) == 72);

// Numbers of element types in TFLite's C interface.
struct Element {
    Type type;
    int number;
};
constexpr Element kElements[] = {
    {Type::float32, 1},  {Type::int32, 2},   {Type::uint8, 3},   {Type::int64, 4},
    {Type::boolean, 6},  {Type::int16, 7},   {Type::int8, 9},    {Type::float16, 10},
    {Type::float64, 11}, {Type::uint64, 13}, {Type::uint32, 16}, {Type::uint16, 17},
};

#define LATBENCH_LITERT_FUNCTIONS(X)                                                         \
    X(CreateEnvironment, int, (int, const void*, Handle**))                                  \
    X(GetNumAccelerators, int, (Handle*, Index*))                                            \
    X(GetAccelerator, int, (Handle*, Index, Handle**))                                       \
    X(GetAcceleratorName, int, (Handle*, const char**))                                      \
    X(GetAcceleratorHardwareSupport, int, (Handle*, int*))                                   \
    X(CreateModelFromFile, int, (Handle*, const char*, Handle**))                            \
    X(CreateOptions, int, (Handle**))                                                        \
    X(SetOptionsHardwareAccelerators, int, (Handle*, int))                                   \
    X(CreateOpaqueOptions, int, (const char*, void*, void (*)(void*), Handle**))             \
    X(AddOpaqueOptions, int, (Handle*, Handle*))                                             \
    X(CreateCompiledModel, int, (Handle*, Handle*, Handle*, Handle**))                       \
    X(CompiledModelIsFullyAccelerated, int, (Handle*, bool*))                                \
    X(GetMainModelSubgraphIndex, int, (Handle*, Index*))                                     \
    X(GetModelSubgraph, int, (Handle*, Index, Handle**))                                     \
    X(GetNumSubgraphOps, int, (Handle*, Index*))                                             \
    X(GetNumSubgraphInputs, int, (Handle*, Index*))                                          \
    X(GetSubgraphInput, int, (Handle*, Index, Handle**))                                     \
    X(GetNumSubgraphOutputs, int, (Handle*, Index*))                                         \
    X(GetSubgraphOutput, int, (Handle*, Index, Handle**))                                    \
    X(GetNumModelSignatures, int, (Handle*, Index*))                                         \
    X(GetModelSignature, int, (Handle*, Index, Handle**))                                    \
    X(GetSignatureSubgraph, int, (Handle*, Handle**))                                        \
    X(GetNumSignatureInputs, int, (Handle*, Index*))                                         \
    X(GetSignatureInputTensorByIndex, int, (Handle*, Index, Handle**))                       \
    X(GetNumSignatureOutputs, int, (Handle*, Index*))                                        \
    X(GetSignatureOutputTensorByIndex, int, (Handle*, Index, Handle**))                      \
    X(GetRankedTensorType, int, (Handle*, TensorType*))                                      \
    X(GetCompiledModelInputBufferRequirements, int, (Handle*, Index, Index, Handle**))       \
    X(GetCompiledModelOutputBufferRequirements, int, (Handle*, Index, Index, Handle**))      \
    X(CreateManagedTensorBufferFromRequirements, int,                                        \
      (Handle*, const TensorType*, Handle*, Handle**))                                       \
    X(GetTensorBufferSize, int, (Handle*, std::size_t*))                                     \
    X(LockTensorBuffer, int, (Handle*, void**, int))                                         \
    X(UnlockTensorBuffer, int, (Handle*))                                                    \
    X(RunCompiledModel, int, (Handle*, Index, std::size_t, Handle**, std::size_t, Handle**)) \
    X(DestroyModel, void, (Handle*))                                                         \
    X(DestroyOptions, void, (Handle*))                                                       \
    X(DestroyCompiledModel, void, (Handle*))                                                 \
    X(DestroyTensorBuffer, void, (Handle*))

struct Functions {
#define LATBENCH_LITERT_MEMBER(name, result, arguments) result(*name) arguments;
    LATBENCH_LITERT_FUNCTIONS(LATBENCH_LITERT_MEMBER)
#undef LATBENCH_LITERT_MEMBER
};

void check(int status, const char* what, const char* stage = "open") {
    if (status == 0) return;
    throw Failure(
        stage, std::string("LiteRT: LiteRt") + what + " returned status " + std::to_string(status));
}

// Bits of the accelerators on which operators may run; without an accelerator, the CPU's.
int permitted(const Accelerator* accelerator) {
    if (accelerator == nullptr) return kCpuAccelerator;
    return accelerator->bit | (accelerator->divided ? kCpuAccelerator : 0);
}

class Api {
 public:
    Api() : library("LATBENCH_LITERT", "libLiteRt.so", "libLiteRt.so") {
        // The library does not say its version; who put it here does.
        if (const std::string stated = environment("LATBENCH_LITERT_VERSION"); !stated.empty()) {
            if (stated.compare(0, std::strlen(kKnownVersion), kKnownVersion) != 0) {
                throw Failure("open", "the native worker does not know LiteRT " + stated,
                              "use ai-edge-litert 2.3, or the Python worker", "unavailable");
            }
            version = stated;
        }
#define LATBENCH_LITERT_READ(name, result, arguments) \
    call.name = reinterpret_cast<result(*) arguments>(library.function("LiteRt" #name));
        LATBENCH_LITERT_FUNCTIONS(LATBENCH_LITERT_READ)
#undef LATBENCH_LITERT_READ
        get_messages = reinterpret_cast<int (*)(Handle*, char**)>(
            library.optional_function("LiteRtCompiledModelGetErrorMessages"));
        is_off_cpu = reinterpret_cast<int (*)(Handle*, bool*)>(
            library.optional_function("LiteRtCompiledModelIsNonCpuFullyAccelerated"));
        create_environment(kCpuAccelerator, {});
    }

    Handle* environment_of(const Accelerator* accelerator) const {
        return environments_.at(permitted(accelerator));
    }

    std::string folder() const {
        return library.path().substr(0, library.path().rfind('/') + 1);
    }

    // Load the accelerator from the folder of LiteRT's own library, and return the name that it
    // has in LiteRT.
    std::string load(const Accelerator& accelerator) {
        const std::string folder = this->folder();
        const std::vector<std::string> files = accelerator_libraries(accelerator, folder);
        std::vector<EnvironmentOption> folders;
        for (const std::int64_t tag : accelerator.folders) {
            folders.emplace_back(tag, folder.c_str());
        }
        Handle* made = create_environment(permitted(&accelerator), folders);
        Index count = 0;
        check(call.GetNumAccelerators(made, &count), "GetNumAccelerators");
        for (Index i = 0; i < count; ++i) {
            Handle* each = nullptr;
            int bits = 0;
            const char* name = nullptr;
            check(call.GetAccelerator(made, i, &each), "GetAccelerator");
            check(call.GetAcceleratorHardwareSupport(each, &bits),
                  "GetAcceleratorHardwareSupport");
            if ((bits & accelerator.bit) == 0) continue;
            check(call.GetAcceleratorName(each, &name), "GetAcceleratorName");
            return name;
        }
        throw Failure("open",
                      "LiteRT cannot load its accelerator for the " +
                          std::string(accelerator.unit) + " from " + folder + files.front(),
                      "it must be of the version of libLiteRt.so, for this system, and find the "
                      "libraries that it needs",
                      "unavailable");
    }

    // The type of a tensor. A library with another layout of it writes elsewhere.
    TensorType tensor_type(Handle* tensor) const {
        struct {
            TensorType type;
            unsigned char after[256];
        } read;
        std::memset(&read, 0xA5, sizeof read);
        check(call.GetRankedTensorType(tensor, &read.type), "GetRankedTensorType");
        const bool beyond = std::any_of(std::begin(read.after), std::end(read.after),
                                        [](unsigned char byte) { return byte != 0xA5; });
        read.type.rank &= 0x7F;
        if (beyond || read.type.rank > kMostAxes) {
            throw Failure("open", "this LiteRT describes tensors in an unknown way",
                          "use ai-edge-litert 2.3, or the Python worker", "unavailable");
        }
        return read.type;
    }

    Library library;
    Functions call{};
    // Of divided files only; null in a library without them.
    int (*get_messages)(Handle*, char**) = nullptr;
    int (*is_off_cpu)(Handle*, bool*) = nullptr;
    std::optional<std::string> version;

 private:
    // One in which there is no other accelerator: loading takes time and memory.
    Handle* create_environment(std::int64_t bit, std::vector<EnvironmentOption> options) {
        options.emplace_back(kRegistered, bit);
        Handle*& made = environments_[static_cast<int>(bit)];
        if (made == nullptr) {
            check(call.CreateEnvironment(static_cast<int>(options.size()), options.data(), &made),
                  "CreateEnvironment");
        }
        return made;
    }

    // By the bits of their accelerators.
    std::map<int, Handle*> environments_;
};

// A handle that is destroyed at the end of its scope.
class Held {
 public:
    explicit Held(void (*destroy)(Handle*)) : destroy_(destroy) {}
    Held(Held&& other) noexcept : destroy_(other.destroy_), handle_(other.handle_) {
        other.handle_ = nullptr;
    }
    Held& operator=(Held&&) = delete;
    ~Held() {
        if (handle_ != nullptr) destroy_(handle_);
    }
    Handle** out() { return &handle_; }
    Handle* get() const { return handle_; }

 private:
    void (*destroy_)(Handle*);
    Handle* handle_ = nullptr;
};

// An input or output: its buffer, and what it holds.
struct Buffer {
    Held held;
    Type type = Type::float32;
    std::vector<std::int64_t> shape;
};

std::string shape_text(const std::vector<std::int64_t>& shape) {
    std::string out;
    for (const std::int64_t size : shape) out += (out.empty() ? "" : "x") + std::to_string(size);
    return out.empty() ? "scalar" : out;
}

class LitertSession final : public Session {
 public:
    LitertSession(const Api& api, const Accelerator* accelerator, Opening opening,
                  Settings settings)
        : api_(api),
          accelerator_(accelerator),
          environment_(api.environment_of(accelerator)),
          opening_(std::move(opening)),
          settings_(std::move(settings)),
          file_(api.call.DestroyModel),
          model_(api.call.DestroyCompiledModel) {
        compile();
        make_buffers();
    }

    void run() override {
        check(api_.call.RunCompiledModel(model_.get(), signature_, given_.size(), given_.data(),
                                         taken_.size(), taken_.data()),
              "RunCompiledModel", "time");
        // An accelerator may still be at work, and its outputs are in its own memory.
        if (accelerator_ != nullptr) {
            for (Handle* each : taken_) {
                void* data = nullptr;
                check(api_.call.LockTensorBuffer(each, &data, kRead), "LockTensorBuffer", "time");
                check(api_.call.UnlockTensorBuffer(each), "UnlockTensorBuffer", "time");
            }
        }
        ran_ = true;
    }

    std::vector<Output> outputs() override {
        if (!ran_) throw Failure("outputs", "outputs were requested before an inference");
        std::vector<Output> found;
        for (Buffer& each : outputs_) {
            const std::size_t bytes = element_count(each.shape) * type_bytes(each.type);
            void* data = nullptr;
            check(api_.call.LockTensorBuffer(each.held.get(), &data, kRead), "LockTensorBuffer",
                  "outputs");
            found.push_back({type_name(each.type), each.shape, base64(data, bytes)});
            check(api_.call.UnlockTensorBuffer(each.held.get()), "UnlockTensorBuffer", "outputs");
        }
        return found;
    }

    // As the Python runner: 16-bit weights are widened where the processor, or the file, says so.
    Settings settings() override {
        if (accelerator_ != nullptr) {
            Settings told = settings_;
            told["accelerator_libraries"] =
                loaded_libraries(api_.folder(), api_.library.path());
            return told;
        }
        if (opening_.precision != "fp16") return settings_;
        bool widened = true;
#ifndef __x86_64__
        if (settings_.at("xnnpack") == "on") {
            std::ifstream file(opening_.path, std::ios::binary);
            const std::string all{std::istreambuf_iterator<char>(file), {}};
            widened = all.find("reduced_precision_support") == std::string::npos;
        }
#endif
        Settings told = settings_;
        if (widened) told["precision"] = "fp32";
        return told;
    }

    std::string placement() override {
        json::Members units;
        if (accelerator_ != nullptr) return accelerator_->divided ? divided() : accelerated();
        if (settings_.at("xnnpack") == "off") {
            units.number(kKernels, static_cast<std::int64_t>(operators_));
            return json::Members()
                .raw("units", units.done())
                .text("known", "planned")
                .text("note", "the only kernels that the options permit")
                .number("partitions", std::int64_t{1})
                .done();
        }
        if (fully_) {
            units.number(kXnnpack, static_cast<std::int64_t>(operators_));
            return json::Members()
                .raw("units", units.done())
                .text("known", "planned")
                .text("note", "LiteRT reports that all operators are delegated")
                .number("partitions", std::int64_t{1})
                .done();
        }
        units.raw(kXnnpack, "null").raw(kKernels, "null");
        return json::Members()
            .raw("units", units.done())
            .text("known", "unknown")
            .text("note", "LiteRT's C interface does not report which operators are delegated")
            .done();
    }

 private:
    // As far as LiteRT reports it. The CPU was not permitted, so nothing is on it.
    std::string accelerated() const {
        json::Members units;
        if (!fully_) {
            return json::Members()
                .raw("units", units.raw(accelerator_->unit, "null").done())
                .text("known", "unknown")
                .text("note", "LiteRT does not report that all operators are delegated")
                .done();
        }
        units.number(accelerator_->unit, static_cast<std::int64_t>(operators_));
        return json::Members()
            .raw("units", units.done())
            .text("known", "planned")
            .text("note", "LiteRT reports that all operators are delegated to " +
                              settings_.at("accelerator_name") + "; the CPU is not permitted")
            .number("partitions", std::int64_t{1})
            .done();
    }

    // As far as LiteRT's plan says it; what ran where is not reported.
    std::string divided() const {
        json::Members units;
        const std::string name = settings_.at("accelerator_name");
        bool whole = false;
        if (api_.is_off_cpu != nullptr) {
            check(api_.is_off_cpu(model_.get(), &whole), "CompiledModelIsNonCpuFullyAccelerated");
        }
        if (whole) {
            units.number(accelerator_->unit, static_cast<std::int64_t>(operators_));
            return planned(units, "LiteRT reports that all operators are delegated to " + name);
        }
        // The text belongs to nobody else, and is not freed: by which function is not stated.
        char* said = nullptr;
        if (api_.get_messages != nullptr) api_.get_messages(model_.get(), &said);
        const auto plan = division_in(said == nullptr ? "" : said);
        if (!plan || plan->accelerated + plan->left != static_cast<std::int64_t>(operators_)) {
            return json::Members()
                .raw("units", units.raw(accelerator_->unit, "null").raw("CPU", "null").done())
                .text("known", "unknown")
                .text("note", "LiteRT does not report how it divides the file")
                .done();
        }
        if (plan->accelerated > 0) units.number(accelerator_->unit, plan->accelerated);
        units.number("CPU", plan->left);
        std::string note = "LiteRT divides the file between " + name + " and the CPU";
        for (const std::string& each : plan->reasons) note += "; " + each;
        return planned(units, note);
    }

    static std::string planned(json::Members& units, const std::string& note) {
        return json::Members()
            .raw("units", units.done())
            .text("known", "planned")
            .text("note", note)
            .done();
    }

    void compile() {
        const auto load = [&](int status, const char* what, bool model = false) {
            if (status == 0) return;
            if (accelerator_ != nullptr && model) not_accelerated(status);
            throw Failure("open",
                          std::string(kRuntime) + " cannot load the file: LiteRt" + what +
                              " returned status " + std::to_string(status),
                          "damaged, newer than the runtime, or with an unsupported operator");
        };
        load(api_.call.CreateModelFromFile(environment_, opening_.path.c_str(),
                                           file_.out()),
             "CreateModelFromFile");
        Held options(api_.call.DestroyOptions);
        check(api_.call.CreateOptions(options.out()), "CreateOptions");
        check(api_.call.SetOptionsHardwareAccelerators(options.get(), permitted(accelerator_)),
              "SetOptionsHardwareAccelerators");
        if (accelerator_ == nullptr || accelerator_->divided) {
            std::string text = "num_threads = " + std::to_string(opening_.threads) + "\n";
            if (settings_.count("xnnpack") != 0 && settings_.at("xnnpack") == "off") {
                text += "kernel_mode = \"builtin\"\n";
            }
            add(options.get(), "xnnpack", text);
        }
        if (settings_.count("gpu_precision") != 0) {
            add(options.get(), "gpu_options", gpu_options(settings_.at("gpu_precision")));
        }
        // Messages are kept, since they state how the file is divided.
        if (accelerator_ != nullptr && accelerator_->divided) {
            add(options.get(), "runtime_options_string", "error_reporter_mode = 2\n");
        }
        load(api_.call.CreateCompiledModel(environment_, file_.get(), options.get(),
                                           model_.out()),
             "CreateCompiledModel", true);
        check(api_.call.CompiledModelIsFullyAccelerated(model_.get(), &fully_),
              "CompiledModelIsFullyAccelerated");
        if (fully_ && accelerator_ == nullptr && settings_.at("xnnpack") == "off") {
            throw Failure("open", "this LiteRT ignores the option that keeps XNNPACK out",
                          "use ai-edge-litert 2.3, or the Python worker", "unavailable");
        }
    }

    // Add options in the form of text.
    void add(Handle* options, const char* kind, const std::string& text) const {
        char* payload = strdup(text.c_str());
        if (payload == nullptr) throw std::bad_alloc();
        Handle* opaque = nullptr;
        check(api_.call.CreateOpaqueOptions(
                  kind, payload, [](void* data) { std::free(data); }, &opaque),
              "CreateOpaqueOptions");
        // From here on it belongs to the options.
        check(api_.call.AddOpaqueOptions(options, opaque), "AddOpaqueOptions");
    }

    [[noreturn]] void not_accelerated(int status) const {
        const std::string unit = accelerator_->unit;
        if (status == kCompilation) {
            throw Failure("open",
                          "LiteRT cannot execute all operators of the file on the " + unit +
                              " (" + settings_.at("accelerator_name") + ")",
                          "accelerator='" + std::string(accelerator_->name) +
                              "|cpu' leaves those to the CPU. A library of the vendor may also be "
                              "missing");
        }
        throw Failure("open",
                      "LiteRT cannot prepare the file for the " + unit + " (" +
                          settings_.at("accelerator_name") +
                          "): LiteRtCreateCompiledModel returned status " + std::to_string(status),
                      "there is no " + unit + " or driver that the accelerator can use, or it "
                      "does not support an operator; accelerator=cpu executes the file");
    }

    // Artifacts list the inputs and outputs of the main graph, and a signature has an order of its
    // own.
    void make_buffers() {
        Index main = 0, signatures = 0, inputs = 0, outputs = 0;
        Handle* graph = nullptr;
        check(api_.call.GetMainModelSubgraphIndex(file_.get(), &main), "GetMainModelSubgraphIndex");
        check(api_.call.GetModelSubgraph(file_.get(), main, &graph), "GetModelSubgraph");
        check(api_.call.GetNumSubgraphOps(graph, &operators_), "GetNumSubgraphOps");
        check(api_.call.GetNumModelSignatures(file_.get(), &signatures), "GetNumModelSignatures");
        Handle* signature = nullptr;
        for (Index i = 0; i < signatures && signature == nullptr; ++i) {
            Handle *one = nullptr, *of = nullptr;
            check(api_.call.GetModelSignature(file_.get(), i, &one), "GetModelSignature");
            check(api_.call.GetSignatureSubgraph(one, &of), "GetSignatureSubgraph");
            if (of == graph) signature = one, signature_ = i;
        }
        if (signature == nullptr) {
            throw Failure("open", "the file has no signature of its main graph",
                          "use the Python worker");
        }
        check(api_.call.GetNumSubgraphInputs(graph, &inputs), "GetNumSubgraphInputs");
        if (inputs != opening_.arrays.size()) {
            throw Failure("open", "the file has " + std::to_string(inputs) + " inputs, and " +
                                      std::to_string(opening_.arrays.size()) + " are given");
        }
        std::vector<Handle*> tensors = listed(graph, inputs, api_.call.GetSubgraphInput);
        given_ = ordered(signature, api_.call.GetNumSignatureInputs,
                         api_.call.GetSignatureInputTensorByIndex, tensors,
                         api_.call.GetCompiledModelInputBufferRequirements, inputs_);
        for (std::size_t i = 0; i < inputs_.size(); ++i) fill(inputs_[i], opening_.arrays[i], i);
        check(api_.call.GetNumSubgraphOutputs(graph, &outputs), "GetNumSubgraphOutputs");
        tensors = listed(graph, outputs, api_.call.GetSubgraphOutput);
        taken_ = ordered(signature, api_.call.GetNumSignatureOutputs,
                         api_.call.GetSignatureOutputTensorByIndex, tensors,
                         api_.call.GetCompiledModelOutputBufferRequirements, outputs_);
    }

    static std::vector<Handle*> listed(Handle* graph, Index count,
                                       int (*get)(Handle*, Index, Handle**)) {
        std::vector<Handle*> found(count);
        for (Index i = 0; i < count; ++i) check(get(graph, i, &found[i]), "GetSubgraph");
        return found;
    }

    // Makes a buffer for each of `tensors`, in their order, and returns them in the signature's.
    std::vector<Handle*> ordered(Handle* signature, int (*number)(Handle*, Index*),
                                 int (*get)(Handle*, Index, Handle**),
                                 const std::vector<Handle*>& tensors,
                                 int (*requirements)(Handle*, Index, Index, Handle**),
                                 std::vector<Buffer>& buffers) {
        Index count = 0;
        check(number(signature, &count), "GetNumSignature");
        std::vector<Index> places(tensors.size(), count);
        for (Index i = 0; i < count; ++i) {
            Handle* tensor = nullptr;
            check(get(signature, i, &tensor), "GetSignatureTensorByIndex");
            const auto at = std::find(tensors.begin(), tensors.end(), tensor);
            if (at != tensors.end()) places[static_cast<std::size_t>(at - tensors.begin())] = i;
        }
        std::vector<Handle*> found(count, nullptr);
        for (std::size_t k = 0; k < tensors.size(); ++k) {
            if (places[k] < count) {
                buffers.push_back(buffer(tensors[k], places[k], requirements));
                found[places[k]] = buffers.back().held.get();
            }
        }
        if (buffers.size() != tensors.size() ||
            std::find(found.begin(), found.end(), nullptr) != found.end()) {
            throw Failure("open", "the signature and the main graph have different tensors",
                          "use the Python worker");
        }
        return found;
    }

    Buffer buffer(Handle* tensor, Index place,
                  int (*requirements)(Handle*, Index, Index, Handle**)) {
        const TensorType kind = api_.tensor_type(tensor);
        Buffer made{Held(api_.call.DestroyTensorBuffer), Type::float32, {}};
        made.shape.assign(kind.sizes, kind.sizes + kind.rank);
        const auto element =
            std::find_if(std::begin(kElements), std::end(kElements),
                         [&](const Element& e) { return e.number == kind.element; });
        const bool open = std::any_of(made.shape.begin(), made.shape.end(),
                                      [](std::int64_t size) { return size < 0; });
        if (element == std::end(kElements) || open) {
            throw Failure(
                "open",
                open ? "a tensor has an open axis: " + shape_text(made.shape)
                     : "a tensor has elements of TFLite type " + std::to_string(kind.element),
                "use the Python worker", "unavailable");
        }
        made.type = element->type;
        Handle* needs = nullptr;
        check(requirements(model_.get(), signature_, place, &needs),
              "GetCompiledModelRequirements");
        check(api_.call.CreateManagedTensorBufferFromRequirements(environment_, &kind,
                                                                  needs, made.held.out()),
              "CreateManagedTensorBufferFromRequirements");
        std::size_t bytes = 0;
        check(api_.call.GetTensorBufferSize(made.held.get(), &bytes), "GetTensorBufferSize");
        if (bytes < element_count(made.shape) * type_bytes(made.type)) {
            throw Failure("open", "LiteRT made a buffer that is smaller than its tensor");
        }
        return made;
    }

    void fill(Buffer& into, const Tensor& array, std::size_t i) const {
        if (array.type() != into.type || array.shape() != into.shape) {
            throw Failure("open", "input " + shown(opening_.inputs[i].name) + " of the file is " +
                                      type_name(into.type) + " " + shape_text(into.shape) +
                                      ", and the array is " + type_name(array.type()) + " " +
                                      shape_text(array.shape()));
        }
        void* data = nullptr;
        check(api_.call.LockTensorBuffer(into.held.get(), &data, kWrite), "LockTensorBuffer");
        if (array.bytes() > 0) std::memcpy(data, array.data(), array.bytes());
        check(api_.call.UnlockTensorBuffer(into.held.get()), "UnlockTensorBuffer");
    }

    const Api& api_;
    const Accelerator* accelerator_;
    Handle* environment_;
    Opening opening_;
    Settings settings_;
    Held file_, model_;
    std::vector<Buffer> inputs_, outputs_;
    std::vector<Handle*> given_, taken_;
    Index signature_ = 0, operators_ = 0;
    bool fully_ = false, ran_ = false;
};

class Litert final : public Runtime {
 public:
    std::optional<std::string> version() const override { return api_.version; }
    const std::string& path() const override { return api_.library.path(); }

    std::unique_ptr<Session> open(Opening opening) override {
        Settings settings =
            chosen(kBackend, {{"runtime", kRuntime}, {"xnnpack", "on"}, {"accelerator", "cpu"}},
                   opening.extra,
                   {"runtime", "xnnpack", "accelerator", "delegate", "delegate_options"});
        settings["threads"] = std::to_string(opening.threads);
        choice(settings, "runtime", {kRuntime, "tflite-runtime"});
        choice(settings, "xnnpack", {"on", "off"});
        if (settings.count("delegate_options") != 0 && settings.count("delegate") == 0) {
            throw Refusal("delegate_options requires a delegate", "use --option delegate=FILE");
        }
        if (settings["runtime"] != kRuntime || settings.count("delegate") != 0) {
            throw Failure("open", "the native worker runs ai-edge-litert without other delegates",
                          "use the Python worker", "unavailable");
        }
        if (api_.version) settings["runtime_version"] = *api_.version;
        const Accelerator* accelerator = accelerated(settings, opening);
        return std::make_unique<LitertSession>(api_, accelerator, std::move(opening),
                                               std::move(settings));
    }

 private:
    // The accelerator of the settings, loaded, with its own settings in place of the CPU's; null
    // for the CPU. Throws Failure and Refusal.
    const Accelerator* accelerated(Settings& settings, const Opening& opening) {
        const std::string name = settings["accelerator"];
        const Accelerator* found = accelerator_named(name);
        if (found == nullptr) {
            settings.erase("accelerator");
            return nullptr;
        }
        if (opening.extra.count("xnnpack") != 0) {
            throw Refusal("xnnpack is an option of accelerator=cpu", "omit xnnpack");
        }
        settings.erase("xnnpack");
        settings["accelerator_name"] = api_.load(*found);
        const std::string& exported = opening.precision;
        if (found->bit == kGpuAccelerator && !gpu_options(exported).empty()) settings["gpu_precision"] = exported;
        // NPUs have no other floats. It cannot be read back.
        if (found->bit != kGpuAccelerator && exported == "fp32") settings["precision"] = "fp16";
        return found;
    }

    Api api_;
};

}  // namespace

std::unique_ptr<Runtime> load_litert() { return std::make_unique<Litert>(); }

}  // namespace latbench
