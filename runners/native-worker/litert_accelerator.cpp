#include "litert_accelerator.h"

#include <cstring>

#include "failure.h"
#include "inputs.h"
#include "text.h"

namespace latbench {
namespace {

// Folders of libraries, by the numbers of the options.
constexpr std::int64_t kPlugins = 0, kDispatch = 1, kRuntime = 22;

const Accelerator kAccelerators[] = {
    {"gpu", "GPU", 2, {kRuntime}, "libLiteRt", "Accelerator.so", "libLiteRtGpuAccelerator.so"},
    {"npu",
     "NPU",
     4,
     {kPlugins, kDispatch},
     "libLiteRtDispatch",
     ".so",
     "libLiteRtDispatch_Qualcomm.so"},
};

bool is_between(const std::string& name, const std::string& start, const std::string& end) {
    return name.size() >= start.size() + end.size() &&
           name.compare(0, start.size(), start) == 0 &&
           name.compare(name.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

const Accelerator* accelerator_named(const std::string& name) {
    if (name == "cpu") return nullptr;
    for (const Accelerator& each : kAccelerators) {
        if (name == each.name) return &each;
    }
    throw Refusal("accelerator cannot be " + shown(name), "one of: cpu, gpu, npu");
}

std::vector<std::string> accelerator_libraries(const Accelerator& accelerator,
                                               const std::string& folder) {
    std::vector<std::string> found;
    for (const std::string& name : names_in(folder)) {
        if (is_between(name, accelerator.start, accelerator.end)) found.push_back(name);
    }
    if (!found.empty()) return found;
    throw Failure("open",
                  "LiteRT's accelerator for the " + std::string(accelerator.unit) +
                      " is not installed: " + folder + " has no " + accelerator.start + "*" +
                      accelerator.end,
                  "put " + std::string(accelerator.example) +
                      " or another beside libLiteRt.so; on a device: latbench devices install ID "
                      "--library tflite=LITERT.aar --library tflite=FILE",
                  "unavailable");
}

std::string gpu_options(const std::string& precision) {
    if (precision == "fp16") return "precision = 1\n";
    if (precision == "fp32") return "precision = 2\n";
    return "";
}

}  // namespace latbench
