// A strict reader and a small writer of JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace latbench::json {

// Deeper values are refused: the reader calls itself for each level.
constexpr int kDeepest = 128;

struct Value;
using Array = std::vector<Value>;
using Object = std::vector<std::pair<std::string, Value>>;

// Unsigned numbers are those from 2**63 to 2**64 - 1.
struct Value {
    std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string, Array,
                 Object>
        held = nullptr;

    bool is_null() const { return std::holds_alternative<std::nullptr_t>(held); }
};

// The value in `text`. Throws NotAMessage for anything that is not exactly one JSON value, for
// integers that do not fit into 64 bits and for text that is not UTF-8.
Value parse(std::string_view text);

// The member `name`, the last one if there are several; null if there is none.
const Value* find(const Value& object, std::string_view name);

// Members of a message, each with the type that the protocol requires. Throw NotAMessage.
const Value& member(const Value& object, std::string_view name);
const std::string& text(const Value& object, std::string_view name);
std::int64_t integer(const Value& object, std::string_view name);
std::optional<std::string> optional_text(const Value& object, std::string_view name);
std::optional<std::int64_t> optional_integer(const Value& object, std::string_view name);
bool optional_boolean(const Value& object, std::string_view name);
const Array& array(const Value& object, std::string_view name);
const Object& object(const Value& object, std::string_view name);

// Whether `text` is well-formed UTF-8.
bool is_utf8(std::string_view text);

// `text` as a JSON string. Bytes that are not UTF-8 become U+FFFD: runtimes may print anything.
std::string quoted(std::string_view text);

// `value` in JSON again, as it was read.
std::string written(const Value& value);

// Builds one object, member by member.
class Members {
 public:
    Members& raw(std::string_view name, std::string_view json);
    Members& text(std::string_view name, const std::optional<std::string>& value);
    Members& number(std::string_view name, std::int64_t value);
    Members& number(std::string_view name, const std::optional<std::int64_t>& value);
    Members& boolean(std::string_view name, const std::optional<bool>& value);
    std::string done() const { return text_ + "}"; }

 private:
    std::string text_ = "{";
};

std::string numbers(const std::vector<std::int64_t>& values);
std::string texts(const std::vector<std::string>& values);

}  // namespace latbench::json
