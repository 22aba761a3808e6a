// Answers of a worker that loads no model: what runs here, and signals to other workers.
#pragma once

#include <optional>
#include <string>

#include "json.h"

namespace latbench {

// The response to `machine` and `conditions`; nothing for another request.
std::optional<std::string> answer_about_machine(const json::Value& request);

// The response to `capabilities`. Each library is loaded in a process of its own: it may crash, and
// it would stay in memory here. Throws Failure.
std::string capabilities(const json::Value& request);

// The response to `signal`: to the process group of another worker of the same owner. Throws
// Refusal for a process of someone else.
std::string signal_worker(const json::Value& request);

// Take the lock at `path`, write `owner` into it and return its file, which holds the lock while it
// is open. Throws Failure, of the kind `unavailable` while another program has it.
int take_lock(const std::string& path, const std::string& owner);

// The response to `reserve`: take a lock until this process ends. Throws Failure.
std::string reserve(const json::Value& request);

}  // namespace latbench
