// Messages that more than one part of the program sends.
#pragma once

#include <string>

#include "failure.h"

namespace latbench {

// Version of the worker protocol (docs/PROTOCOL.md).
constexpr int kProtocol = 2;

// The response `failed`, and `refused`.
std::string failed(const Failure& failure);
std::string refused(const Refusal& refusal);

}  // namespace latbench
