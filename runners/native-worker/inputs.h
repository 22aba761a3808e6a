// Inputs as a function of a seed: the same bits as latbench.schema.seeded_inputs gives.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tensor.h"

namespace latbench {

using Stored = std::map<std::string, Tensor>;

// A tensor for each of `specs`. `stored` holds those that come from a file, by name; they are moved
// out of it. Throws Refusal for a content that does not fit the shape or the type.
std::vector<Tensor> make_inputs(const std::vector<TensorSpec>& specs, std::uint64_t seed,
                                Stored stored);

// `text` as Python shows a string, for messages.
std::string shown(const std::string& text);

}  // namespace latbench
