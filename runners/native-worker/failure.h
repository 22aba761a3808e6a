// The two ways in which a request is not met, and the end of the conversation.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace latbench {

// A step failed after the request was accepted: the response `failed`.
struct Failure : std::runtime_error {
    Failure(std::string stage, std::string message, std::optional<std::string> hint = std::nullopt,
            std::string kind = "error", std::optional<std::string> detail = std::nullopt)
        : std::runtime_error(message),
          stage(std::move(stage)),
          kind(std::move(kind)),
          message(std::move(message)),
          hint(std::move(hint)),
          detail(std::move(detail)) {}

    std::string stage, kind, message;
    // The end of what a failed program wrote to its standard error.
    std::optional<std::string> hint, detail;
};

// The request is invalid: the response `refused`.
struct Refusal : std::runtime_error {
    explicit Refusal(std::string message, std::optional<std::string> hint = std::nullopt)
        : std::runtime_error(message), message(std::move(message)), hint(std::move(hint)) {}

    std::string message;
    std::optional<std::string> hint;
};

// A line is not a message of the protocol, which ends the conversation.
struct NotAMessage : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace latbench
