#include "runtime.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstdio>

#include "failure.h"
#include "inputs.h"
#include "process.h"
#include "text.h"

namespace latbench {
namespace {

std::string joined(std::vector<std::string> names) {
    std::sort(names.begin(), names.end());
    std::string out;
    for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
    return out;
}

std::string link_target(const char* link) {
    char path[PATH_MAX];
    const ssize_t size = readlink(link, path, sizeof path);
    return size > 0 ? std::string(path, static_cast<std::size_t>(size)) : "";
}

// The path of a loaded library that was found by its name. Android's C library has no dlinfo.
std::string mapped_file(const std::string& name) {
    for (const std::string& line : split(read_text("/proc/self/maps").value_or(""), '\n')) {
        const std::size_t slash = line.find('/');
        if (slash == std::string::npos) continue;
        const std::string path = line.substr(slash);
        if (path.compare(path.rfind('/') + 1, name.size(), name) == 0) return path;
    }
    return name;
}

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/') + 1); }

}  // namespace

Loader loader(const std::string& backend) {
    if (backend == "onnxruntime") return load_onnxruntime;
    if (backend == "tflite") return load_litert;
    return nullptr;
}

std::string own_path() {
    // With a loader as the command, /proc/self/exe is the loader.
    const auto here = reinterpret_cast<std::uintptr_t>(&own_path);
    for (const std::string& line : split(read_text("/proc/self/maps").value_or(""), '\n')) {
        unsigned long long start = 0, end = 0;
        if (std::sscanf(line.c_str(), "%llx-%llx", &start, &end) != 2) continue;
        if (here < start || here >= end) continue;
        const std::size_t slash = line.find('/');
        if (slash != std::string::npos) return line.substr(slash);
    }
    return link_target("/proc/self/exe");
}

std::vector<std::string> own_command() {
    const std::string path = own_path(), started = link_target("/proc/self/exe");
    if (path == started || started.empty()) return {path};
    return {started, "--library-path", path.substr(0, path.rfind('/')), path};
}

Library::Library(const char* variable, const std::string& name, const std::string& soname) {
    std::vector<std::string> places;
    if (const std::string named = environment(variable); !named.empty()) {
        places = {named};
    } else {
        const std::string folder = folder_of(own_path());
        for (const std::string& file : names_in(folder)) {
            if (file.compare(0, name.size(), name) == 0) places.push_back(folder + file);
        }
        places.push_back(name);
        if (soname != name) places.push_back(soname);
    }
    std::string reason;
    for (const std::string& place : places) {
        // All symbols at once: none is looked up while an inference is timed.
        handle_ = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle_ != nullptr) {
            path_ = place.find('/') == std::string::npos ? mapped_file(place) : place;
            return;
        }
        if (const char* said = dlerror(); said != nullptr && reason.empty()) reason = said;
    }
    throw Failure("open", "cannot load " + name + ": " + first_line(reason),
                  "set " + std::string(variable) +
                      " to the full path of the library, or put it "
                      "beside the worker",
                  "unavailable");
}

void* Library::function(const char* name) const {
    void* found = optional_function(name);
    if (found == nullptr) {
        throw Failure("open", path_ + " has no function " + name,
                      "another version of the runtime; docs/devices/native-worker.md has the known "
                      "ones",
                      "unavailable");
    }
    return found;
}

void* Library::optional_function(const char* name) const { return dlsym(handle_, name); }

const std::string& choice(const Settings& settings, const std::string& name,
                          const std::vector<std::string>& allowed) {
    const std::string& value = settings.at(name);
    if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
        std::string names;
        for (const std::string& each : allowed) names += (names.empty() ? "" : ", ") + each;
        throw Refusal(name + " cannot be " + shown(value), "one of: " + names);
    }
    return value;
}

Settings chosen(const std::string& backend, Settings defaults, const Settings& extra,
                const std::vector<std::string>& options) {
    for (const auto& [name, value] : extra) {
        if (std::find(options.begin(), options.end(), name) == options.end()) {
            throw Refusal("backend " + shown(backend) + " has no option " + shown(name),
                          "known: " + joined(options));
        }
        defaults[name] = value;
    }
    return defaults;
}

std::string first_line(const std::string& text) {
    const std::size_t start = text.find_first_not_of(" \t\r\n");
    if (start == std::string::npos) return "no reason given";
    return text.substr(start, text.find_first_of("\r\n", start) - start);
}

bool says_out_of_memory(const std::string& text) {
    return text.find("allocate memory") != std::string::npos ||
           text.find("bad_alloc") != std::string::npos;
}

void foreign_failure(const std::string& stage, const std::string& message) {
    if (says_out_of_memory(message)) {
        throw Failure(stage, message,
                      "try a smaller batch or resolution, or a machine with more memory",
                      "out_of_memory");
    }
    throw Failure(stage, message);
}

}  // namespace latbench
