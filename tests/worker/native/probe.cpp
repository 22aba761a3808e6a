// Calls the parts of the native worker that need no runtime, for tests: compiled with sanitizers.

#include <cstdio>
#include <cstring>
#include <iostream>
#include <iterator>
#include <string>

#include "digest.h"
#include "failure.h"
#include "host.h"
#include "inputs.h"
#include "json.h"
#include "npz.h"

namespace {

using namespace latbench;

std::string described(const Tensor& tensor) {
    return json::Members()
        .text("dtype", type_name(tensor.type()))
        .raw("shape", json::numbers(tensor.shape()))
        .text("data", base64(tensor.data(), tensor.bytes()))
        .done();
}

// The answer to one document: what was read, or why it was not.
template <typename Answer>
std::string answer(Answer make) {
    try {
        return "ok " + make();
    } catch (const Refusal& refusal) {
        return "refused " + refusal.message + " | " + refusal.hint.value_or("");
    } catch (const Failure& failure) {
        return "failed " + failure.message;
    } catch (const NotAMessage& error) {
        return std::string("error ") + error.what();
    } catch (const std::bad_alloc&) {
        return "memory";
    }
}

std::string inputs(const json::Value& request) {
    std::vector<TensorSpec> specs;
    for (const json::Value& each : json::array(request, "inputs")) {
        TensorSpec spec{json::text(each, "name"),
                        {},
                        json::text(each, "dtype"),
                        json::optional_text(each, "content")};
        for (const json::Value& size : json::array(each, "shape")) {
            spec.shape.push_back(std::get<std::int64_t>(size.held));
        }
        specs.push_back(spec);
    }
    const auto seed = static_cast<std::uint64_t>(json::integer(request, "seed"));
    const auto file = json::optional_text(request, "file");
    std::string out;
    for (const Tensor& each : make_inputs(specs, seed, file ? read_npz(*file) : Stored{})) {
        out += (out.empty() ? "" : ",") + described(each);
    }
    return "[" + out + "]";
}

std::string arrays(const std::string& path) {
    json::Members out;
    for (const auto& [name, tensor] : read_npz(path)) out.raw(name, described(tensor));
    return out.done();
}

}  // namespace

int main(int count, char** arguments) {
    const std::string what = count > 1 ? arguments[1] : "";
    const std::string root = count > 2 ? arguments[2] : "";
    if (what == "host") {
        const Snapshot before = snapshot(root);
        std::cout << "{\"machine\":" << machine(root) << ",\"conditions\":" << conditions(root)
                  << ",\"oom_kills\":"
                  << (oom_kills(root) ? std::to_string(*oom_kills(root)) : "null")
                  << ",\"readings\":" << readings(before, snapshot(root), root) << "}\n";
        return 0;
    }
    // Documents of any bytes, each after its length.
    std::string document;
    std::uint32_t size = 0;
    while (std::fread(&size, sizeof size, 1, stdin) == 1) {
        document.resize(size);
        if (std::fread(document.data(), 1, size, stdin) != size) return 1;
        std::string told;
        if (what == "json") {
            told = answer([&] { return json::written(json::parse(document)); });
        } else if (what == "inputs") {
            told = answer([&] { return inputs(json::parse(document)); });
        } else if (what == "npz") {
            told = answer([&] { return arrays(document); });
        } else if (what == "sha256") {
            told = answer([&] { return sha256(document.data(), document.size()); });
        } else {
            return 1;
        }
        for (char& letter : told) {
            if (letter == '\n') letter = ' ';
        }
        std::cout << told << "\n";
    }
}
