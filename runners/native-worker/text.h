// Small texts: those of /proc and /sys, and of messages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace latbench {

// `text` without white space and zero bytes around it.
std::string_view stripped(std::string_view text);

bool is_decimal(std::string_view text);

// A number of at most 63 bits that is not negative, written in digits alone.
std::optional<std::int64_t> decimal(std::string_view text);

std::vector<std::string> split(std::string_view text, char at);

// Parts between white space.
std::vector<std::string> words(std::string_view text);

bool starts_with(std::string_view text, std::string_view start);

// ASCII letters in lower case.
std::string lower(std::string text);

// All bytes of a file, also of one in /proc, which says nothing about its size. Without one, errno
// says why.
std::optional<std::string> read_bytes(const std::string& path);

// The text of a small file without white space around it; nothing if it cannot be read or is not
// UTF-8.
std::optional<std::string> read_text(const std::string& path);

// A file with one number that is not negative.
std::optional<std::int64_t> read_number(const std::string& path);

// Names in a folder, sorted; empty if it cannot be read.
std::vector<std::string> names_in(const std::string& folder);

}  // namespace latbench
