#include "json.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "failure.h"

namespace latbench::json {
namespace {

// The length of the well-formed UTF-8 sequence at the start of `text`; 0 if there is none.
std::size_t sequence(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto follows = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
        return i < text.size() && byte(i) >= low && byte(i) <= high;
    };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
    if (first >= 0xE0 && first <= 0xEF) {
        // Neither overlong forms nor surrogates.
        const unsigned low = first == 0xE0 ? 0xA0 : 0x80, high = first == 0xED ? 0x9F : 0xBF;
        return follows(1, low, high) && follows(2) ? 3 : 0;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        const unsigned low = first == 0xF0 ? 0x90 : 0x80, high = first == 0xF4 ? 0x8F : 0xBF;
        return follows(1, low, high) && follows(2) && follows(3) ? 4 : 0;
    }
    return 0;
}

void append_utf8(std::string& out, std::uint32_t point) {
    const auto add = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (point < 0x80) {
        add(point);
    } else if (point < 0x800) {
        add(0xC0 | point >> 6);
        add(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
        add(0xE0 | point >> 12);
        add(0x80 | (point >> 6 & 0x3F));
        add(0x80 | (point & 0x3F));
    } else {
        add(0xF0 | point >> 18);
        add(0x80 | (point >> 12 & 0x3F));
        add(0x80 | (point >> 6 & 0x3F));
        add(0x80 | (point & 0x3F));
    }
}

class Reader {
 public:
    explicit Reader(std::string_view text) : text_(text) {}

    Value whole() {
        Value value = any(0);
        skip();
        if (at_ != text_.size()) fail("more than one value");
        return value;
    }

 private:
    [[noreturn]] void fail(const char* why) const {
        throw NotAMessage("not JSON: " + std::string(why) + " at byte " + std::to_string(at_));
    }

    bool more() const { return at_ < text_.size(); }

    void skip() {
        while (more() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' ||
                          text_[at_] == '\r')) {
            ++at_;
        }
    }

    char peek() const {
        if (!more()) fail("it ends early");
        return text_[at_];
    }

    bool take(char wanted) {
        if (!more() || text_[at_] != wanted) return false;
        ++at_;
        return true;
    }

    void expect(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) fail("an unknown word");
        at_ += word.size();
    }

    Value any(int depth) {
        if (depth > kDeepest) fail("too many levels");
        skip();
        switch (peek()) {
            case '{':
                return {members(depth)};
            case '[':
                return {items(depth)};
            case '"':
                return {string()};
            case 't':
                expect("true");
                return {true};
            case 'f':
                expect("false");
                return {false};
            case 'n':
                expect("null");
                return {nullptr};
            default:
                return number();
        }
    }

    Object members(int depth) {
        Object found;
        ++at_;
        skip();
        if (take('}')) return found;
        do {
            skip();
            if (peek() != '"') fail("a member without a name");
            std::string name = string();
            skip();
            if (!take(':')) fail("no colon after a name");
            found.emplace_back(std::move(name), any(depth + 1));
            skip();
        } while (take(','));
        if (!take('}')) fail("an object without its end");
        return found;
    }

    Array items(int depth) {
        Array found;
        ++at_;
        skip();
        if (take(']')) return found;
        do {
            found.push_back(any(depth + 1));
            skip();
        } while (take(','));
        if (!take(']')) fail("an array without its end");
        return found;
    }

    std::uint32_t four_digits() {
        std::uint32_t value = 0;
        for (int i = 0; i < 4; ++i) {
            const char digit = peek();
            value <<= 4;
            if (digit >= '0' && digit <= '9') {
                value |= static_cast<std::uint32_t>(digit - '0');
            } else if (digit >= 'a' && digit <= 'f') {
                value |= static_cast<std::uint32_t>(digit - 'a' + 10);
            } else if (digit >= 'A' && digit <= 'F') {
                value |= static_cast<std::uint32_t>(digit - 'A' + 10);
            } else {
                fail("an escape without four digits");
            }
            ++at_;
        }
        return value;
    }

    void escape(std::string& out) {
        const char kind = peek();
        ++at_;
        switch (kind) {
            case '"':
            case '\\':
            case '/':
                out.push_back(kind);
                return;
            case 'b':
                out.push_back('\b');
                return;
            case 'f':
                out.push_back('\f');
                return;
            case 'n':
                out.push_back('\n');
                return;
            case 'r':
                out.push_back('\r');
                return;
            case 't':
                out.push_back('\t');
                return;
            case 'u':
                break;
            default:
                fail("an unknown escape");
        }
        std::uint32_t point = four_digits();
        if (point >= 0xDC00 && point <= 0xDFFF) fail("half of a surrogate pair");
        if (point >= 0xD800 && point <= 0xDBFF) {
            if (!take('\\') || !take('u')) fail("half of a surrogate pair");
            const std::uint32_t low = four_digits();
            if (low < 0xDC00 || low > 0xDFFF) fail("half of a surrogate pair");
            point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
        }
        append_utf8(out, point);
    }

    std::string string() {
        std::string out;
        ++at_;
        while (true) {
            const auto byte = static_cast<unsigned char>(peek());
            if (byte == '"') {
                ++at_;
                return out;
            }
            if (byte == '\\') {
                ++at_;
                escape(out);
                continue;
            }
            if (byte < 0x20) fail("a control character in a string");
            const std::size_t length = sequence(text_.substr(at_));
            if (length == 0) fail("text that is not UTF-8");
            out.append(text_.substr(at_, length));
            at_ += length;
        }
    }

    std::size_t digits() {
        const std::size_t start = at_;
        while (more() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
        return at_ - start;
    }

    Value number() {
        const std::size_t start = at_;
        const bool negative = take('-');
        const bool zero = more() && text_[at_] == '0';
        const std::size_t first = at_, whole = digits();
        if (whole == 0) fail("an unknown word");
        if (zero && whole > 1) fail("a number that starts with 0");
        bool exact = true;
        if (take('.')) {
            exact = false;
            if (digits() == 0) fail("a number without digits");
        }
        if (more() && (text_[at_] == 'e' || text_[at_] == 'E')) {
            exact = false;
            ++at_;
            if (!take('+')) take('-');
            if (digits() == 0) fail("a number without digits");
        }
        if (exact) return integer(text_.substr(first, whole), negative);
        const double value =
            std::strtod(std::string(text_.substr(start, at_ - start)).c_str(), nullptr);
        if (!std::isfinite(value)) fail("a number that is too large");
        return {value};
    }

    Value integer(std::string_view digits, bool negative) const {
        std::uint64_t value = 0;
        for (const char digit : digits) {
            const auto next = static_cast<std::uint64_t>(digit - '0');
            if (value > (std::numeric_limits<std::uint64_t>::max() - next) / 10) {
                fail("a number that does not fit into 64 bits");
            }
            value = value * 10 + next;
        }
        constexpr std::uint64_t border = std::uint64_t{1} << 63;
        if (negative) {
            if (value > border) fail("a number that does not fit into 64 bits");
            return {static_cast<std::int64_t>(0 - value)};
        }
        if (value >= border) return {value};
        return {static_cast<std::int64_t>(value)};
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

template <typename T>
const T& held(const Value& object, std::string_view name, const char* kind) {
    const auto* found = std::get_if<T>(&member(object, name).held);
    if (found == nullptr) {
        throw NotAMessage("the field " + std::string(name) + " is not " + kind);
    }
    return *found;
}

}  // namespace

Value parse(std::string_view text) { return Reader(text).whole(); }

const Value* find(const Value& object, std::string_view name) {
    const auto* members = std::get_if<Object>(&object.held);
    if (members == nullptr) throw NotAMessage("not an object where one is required");
    for (auto each = members->rbegin(); each != members->rend(); ++each) {
        if (each->first == name) return &each->second;
    }
    return nullptr;
}

const Value& member(const Value& object, std::string_view name) {
    const Value* found = find(object, name);
    if (found == nullptr) throw NotAMessage("the field " + std::string(name) + " is missing");
    return *found;
}

const std::string& text(const Value& object, std::string_view name) {
    return held<std::string>(object, name, "a text");
}

std::int64_t integer(const Value& object, std::string_view name) {
    return held<std::int64_t>(object, name, "a whole number of 63 bits");
}

std::optional<std::string> optional_text(const Value& object, std::string_view name) {
    const Value* found = find(object, name);
    if (found == nullptr || found->is_null()) return std::nullopt;
    return text(object, name);
}

std::optional<std::int64_t> optional_integer(const Value& object, std::string_view name) {
    const Value* found = find(object, name);
    if (found == nullptr || found->is_null()) return std::nullopt;
    return integer(object, name);
}

bool optional_boolean(const Value& object, std::string_view name) {
    return find(object, name) != nullptr && held<bool>(object, name, "true or false");
}

const Array& array(const Value& object, std::string_view name) {
    return held<Array>(object, name, "an array");
}

const Object& object(const Value& object, std::string_view name) {
    return held<Object>(object, name, "an object");
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = sequence(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

std::string quoted(std::string_view text) {
    std::string out = "\"";
    while (!text.empty()) {
        const auto byte = static_cast<unsigned char>(text[0]);
        const std::size_t length = sequence(text);
        if (byte == '"' || byte == '\\') {
            out.push_back('\\');
            out.push_back(text[0]);
        } else if (byte < 0x20 || byte == 0x7F) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", byte);
            out += escaped;
        } else if (length == 0) {
            out += "\\ufffd";
        } else {
            out.append(text.substr(0, length));
        }
        text.remove_prefix(length == 0 ? 1 : length);
    }
    out.push_back('"');
    return out;
}

std::string written(const Value& value) {
    struct Write {
        std::string operator()(std::nullptr_t) const { return "null"; }
        std::string operator()(bool held) const { return held ? "true" : "false"; }
        std::string operator()(std::int64_t held) const { return std::to_string(held); }
        std::string operator()(std::uint64_t held) const { return std::to_string(held); }
        std::string operator()(double held) const {
            char buffer[40];
            std::snprintf(buffer, sizeof buffer, "%.17g", held);
            // Without a point it would be read as a whole number.
            const std::string plain = buffer;
            return plain.find_first_of(".e") == std::string::npos ? plain + ".0" : plain;
        }
        std::string operator()(const std::string& held) const { return quoted(held); }
        std::string operator()(const Array& held) const {
            std::string out = "[";
            for (const Value& each : held) {
                if (out.size() > 1) out.push_back(',');
                out += written(each);
            }
            return out + "]";
        }
        std::string operator()(const Object& held) const {
            Members out;
            for (const auto& [name, each] : held) out.raw(name, written(each));
            return out.done();
        }
    };
    return std::visit(Write{}, value.held);
}

Members& Members::raw(std::string_view name, std::string_view json) {
    if (text_.size() > 1) text_.push_back(',');
    text_ += quoted(name);
    text_.push_back(':');
    text_.append(json);
    return *this;
}

Members& Members::text(std::string_view name, const std::optional<std::string>& value) {
    return raw(name, value ? quoted(*value) : "null");
}

Members& Members::number(std::string_view name, std::int64_t value) {
    return raw(name, std::to_string(value));
}

Members& Members::number(std::string_view name, const std::optional<std::int64_t>& value) {
    return raw(name, value ? std::to_string(*value) : "null");
}

Members& Members::boolean(std::string_view name, const std::optional<bool>& value) {
    return raw(name, !value ? "null" : *value ? "true" : "false");
}

std::string numbers(const std::vector<std::int64_t>& values) {
    std::string out = "[";
    for (const std::int64_t value : values) {
        if (out.size() > 1) out.push_back(',');
        out += std::to_string(value);
    }
    return out + "]";
}

std::string texts(const std::vector<std::string>& values) {
    std::string out = "[";
    for (const std::string& value : values) {
        if (out.size() > 1) out.push_back(',');
        out += quoted(value);
    }
    return out + "]";
}

}  // namespace latbench::json
