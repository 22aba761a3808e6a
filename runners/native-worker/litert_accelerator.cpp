#include "litert_accelerator.h"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "digest.h"
#include "failure.h"
#include "inputs.h"
#include "text.h"

namespace latbench {
namespace {

// Folders of libraries, by the numbers of the options.
constexpr std::int64_t kPlugins = 0, kDispatch = 1, kRuntime = 22;

// Numbers of accelerators as bits.
constexpr int kGpu = 2, kNpu = 4;

const Accelerator kAccelerators[] = {
    {"gpu", "GPU", kGpu, false, {kRuntime}, "libLiteRt", "Accelerator.so",
     "libLiteRtGpuAccelerator.so"},
    {"gpu|cpu", "GPU", kGpu, true, {kRuntime}, "libLiteRt", "Accelerator.so",
     "libLiteRtGpuAccelerator.so"},
    {"npu", "NPU", kNpu, false, {kPlugins, kDispatch}, "libLiteRtDispatch", ".so",
     "libLiteRtDispatch_Qualcomm.so"},
    {"npu|cpu", "NPU", kNpu, true, {kPlugins, kDispatch}, "libLiteRtDispatch", ".so",
     "libLiteRtDispatch_Qualcomm.so"},
};

bool is_between(const std::string& name, const std::string& start, const std::string& end) {
    return name.size() >= start.size() + end.size() &&
           name.compare(0, start.size(), start) == 0 &&
           name.compare(name.size() - end.size(), end.size(), end) == 0;
}

// As the system names mapped files.
std::string real_path(const std::string& path) {
    char found[PATH_MAX];
    return realpath(path.c_str(), found) == nullptr ? path : found;
}

}  // namespace

const Accelerator* accelerator_named(const std::string& name) {
    if (name == "cpu") return nullptr;
    for (const Accelerator& each : kAccelerators) {
        if (name == each.name) return &each;
    }
    throw Refusal("accelerator cannot be " + shown(name), "one of: cpu, gpu, gpu|cpu, npu, npu|cpu");
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

std::optional<Division> division_in(const std::string& messages) {
    Division found;
    bool stated = false;
    for (const std::string& line : split(messages, '\n')) {
        const std::string text(stripped(line));
        long long first = 0, second = 0;
        if (std::sscanf(text.c_str(),
                        "%lld operations will run on the GPU, and the remaining %lld", &first,
                        &second) == 2) {
            found.accelerated = first, found.left = second, stated = true;
        } else if (std::sscanf(text.c_str(), "No operations will run on the GPU, and all %lld",
                               &second) == 1) {
            found.accelerated = 0, found.left = second, stated = true;
        } else if (!stated && text.find(": ") != std::string::npos) {
            found.reasons.push_back(text);
        }
    }
    if (!stated) return std::nullopt;
    return found;
}

std::string loaded_libraries(const std::string& folder, const std::string& runtime) {
    std::set<std::string> mapped;
    for (const std::string& line : split(read_text("/proc/self/maps").value_or(""), '\n')) {
        const std::size_t slash = line.find('/');
        if (slash != std::string::npos) mapped.insert(line.substr(slash));
    }
    // Its own digest is recorded apart.
    mapped.erase(real_path(runtime));
    std::string listed;
    for (const std::string& name : names_in(folder)) {
        const std::string path = real_path(folder + name);
        if (!is_between(name, "lib", ".so") || mapped.count(path) == 0) continue;
        listed += (listed.empty() ? "" : ", ") + name +
                  " sha256:" + file_sha256(path).value_or("unknown");
    }
    return listed;
}

std::string gpu_options(const std::string& precision) {
    if (precision == "fp16") return "precision = 1\n";
    if (precision == "fp32") return "precision = 2\n";
    return "";
}

}  // namespace latbench
