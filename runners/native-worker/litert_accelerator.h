// Units besides the CPU on which LiteRT executes: what it calls them, and the libraries that they
// need.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace latbench {

struct Accelerator {
    // Value of the option `accelerator`, and the unit in placements.
    const char *name, *unit;
    // Bit in LiteRT's set of accelerators, and whether the CPU is permitted beside it.
    int bit;
    bool divided;
    // Options of LiteRT's environment that name the folder of its libraries.
    std::vector<std::int64_t> folders;
    // How the names of its libraries start and end, and one that is such.
    const char *start, *end, *example;
};

// The one named by the option; null for the CPU. Throws Refusal for an unknown name.
const Accelerator* accelerator_named(const std::string& name);

// Names of the accelerator's libraries in `folder`. Throws Failure of the kind `unavailable` if
// there are none.
std::vector<std::string> accelerator_libraries(const Accelerator& accelerator,
                                               const std::string& folder);

// How LiteRT divides a file between an accelerator and the CPU, as its delegate reports it.
struct Division {
    std::int64_t accelerated = 0, left = 0;
    // Why operators are left to the CPU: one text for each kind of operator.
    std::vector<std::string> reasons;
};

// The division that LiteRT's messages on compilation state; nothing if they state none.
std::optional<Division> division_in(const std::string& messages);

// Loaded libraries in `folder`, besides the runtime's own at `runtime`, with their digests:
// `NAME sha256:DIGEST`, separated by `, `.
std::string loaded_libraries(const std::string& folder, const std::string& runtime);

// The payload of LiteRT's GPU options that asks for a precision: that of the artifact, if it is
// one of `fp32` and `fp16`; else LiteRT chooses, and it is empty.
std::string gpu_options(const std::string& precision);

}  // namespace latbench
