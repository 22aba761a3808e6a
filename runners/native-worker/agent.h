// Answers of a worker that loads no model: what runs here, and signals to other workers.
#pragma once

#include <string>

#include "json.h"

namespace latbench {

// The response to `capabilities`. Each library is loaded in a process of its own: it may crash, and
// it would stay in memory here. Throws Failure.
std::string capabilities(const json::Value& request);

// The response to `signal`: to the process group of another worker of the same owner. Throws
// Refusal for a process of someone else.
std::string signal_worker(const json::Value& request);

// The response to `reserve`: take a lock until this process ends. Throws Failure if it is held.
std::string reserve(const json::Value& request);

}  // namespace latbench
