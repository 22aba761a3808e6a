#include "inputs.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "failure.h"
#include "text.h"

// Products and sums must be rounded one by one, as numpy does; this program is compiled with
// -ffp-contract=off, because compilers for ARM would fuse them.

namespace latbench {
namespace {

__extension__ typedef __int128 Wide;

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }

// Where a number that starts at `at` ends; `at` if none does.
std::size_t number_end(const std::string& text, std::size_t at) {
    const auto digits = [&](std::size_t from) {
        while (from < text.size() && is_digit(text[from])) ++from;
        return from;
    };
    std::size_t start = at;
    if (start < text.size() && (text[start] == '+' || text[start] == '-')) ++start;
    std::size_t end = digits(start);
    const bool whole = end > start;
    if (end < text.size() && text[end] == '.') {
        const std::size_t fraction = digits(end + 1);
        if (!whole && fraction == end + 1) return at;
        end = fraction;
    } else if (!whole) {
        return at;
    }
    if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
        std::size_t exponent = end + 1;
        if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
        if (const std::size_t last = digits(exponent); last > exponent) end = last;
    }
    return end;
}

double real(const std::string& text) { return std::strtod(text.c_str(), nullptr); }

// What an input holds, read from its text.
struct Content {
    enum { noise, uniform, values, unknown } kind = unknown;
    std::uint64_t seed = 0;
    std::vector<std::string> texts;
};

Content read_content(std::string text) {
    const std::string word = lower(text);
    if (word == "true" || word == "false") text = word == "true" ? "1" : "0";
    const std::string random = "random:";
    if (starts_with(text, random)) {
        Content content{Content::noise, 0, {}};
        const std::string digits = text.substr(random.size());
        if (!is_decimal(digits)) {
            throw Refusal(shown(text) + " is not random:SEED with a whole number");
        }
        // Modulo 2**64: the formula uses no more of it.
        for (const char digit : digits) {
            content.seed = content.seed * 10 + static_cast<std::uint64_t>(digit - '0');
        }
        return content;
    }
    const std::size_t first = number_end(text, 0);
    if (first == 0) return {};
    if (first < text.size() && text[first] == ':') {
        const std::size_t last = number_end(text, first + 1);
        if (last == first + 1 || last != text.size()) return {};
        Content content{Content::uniform, 0, {text.substr(0, first), text.substr(first + 1)}};
        const double low = real(content.texts[0]), high = real(content.texts[1]);
        if (!(low <= high && high < HUGE_VAL)) {
            throw Refusal(shown(text) + " is not a range LOW:HIGH with LOW up to HIGH");
        }
        return content;
    }
    Content content{Content::values, 0, {}};
    std::size_t start = 0;
    while (true) {
        const std::size_t end = number_end(text, start);
        if (end == start) return {};
        content.texts.push_back(text.substr(start, end - start));
        if (end == text.size()) return content;
        if (text[end] != ',') return {};
        start = end + 1;
    }
}

std::uint64_t mixed(std::uint64_t counter) {
    std::uint64_t z = counter * 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

std::uint64_t start_of(std::uint64_t seed, std::size_t k) {
    return (seed << 32) + (static_cast<std::uint64_t>(k) << 56);
}

float unit(std::uint64_t bits) { return static_cast<float>(bits >> 40) * 0x1p-24f; }

bool is_float(Type type) {
    return type == Type::float16 || type == Type::float32 || type == Type::float64;
}

void store(Tensor& tensor, std::size_t i, float value) {
    switch (tensor.type()) {
        case Type::float16:
            tensor.as<std::uint16_t>()[i] = half_of(value);
            return;
        case Type::float64:
            tensor.as<double>()[i] = value;
            return;
        default:
            tensor.as<float>()[i] = value;
    }
}

// The low bits of `value`, as two's complement.
void store(Tensor& tensor, std::size_t i, std::uint64_t value) {
    switch (tensor.type()) {
        case Type::boolean:
            tensor.as<std::uint8_t>()[i] = value != 0;
            return;
        case Type::int8:
        case Type::uint8:
            tensor.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(value);
            return;
        case Type::int16:
        case Type::uint16:
            tensor.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(value);
            return;
        case Type::int32:
        case Type::uint32:
            tensor.as<std::uint32_t>()[i] = static_cast<std::uint32_t>(value);
            return;
        default:
            tensor.as<std::uint64_t>()[i] = value;
    }
}

void fill_noise(Tensor& tensor, std::uint64_t seed, std::size_t k) {
    const auto root = static_cast<float>(std::sqrt(3.0));
    const std::uint64_t start = start_of(seed, k);
    for (std::size_t i = 0; i < tensor.count(); ++i) {
        const std::uint64_t z = mixed(start + i);
        if (is_float(tensor.type())) {
            store(tensor, i, (unit(z) * 2 - 1) * root);
        } else {
            store(tensor, i, z >> 63);
        }
    }
}

std::pair<Wide, Wide> limits(Type type) {
    const auto bits = static_cast<int>(type_bytes(type) * 8);
    switch (type) {
        case Type::boolean:
            return {0, 1};
        case Type::int8:
        case Type::int16:
        case Type::int32:
        case Type::int64:
            return {-(Wide{1} << (bits - 1)), (Wide{1} << (bits - 1)) - 1};
        default:
            return {0, (Wide{1} << bits) - 1};
    }
}

std::string decimal(Wide value) {
    if (value < 0) return "-" + decimal(-value);
    std::string out;
    do {
        out.insert(out.begin(), static_cast<char>('0' + static_cast<int>(value % 10)));
        value /= 10;
    } while (value > 0);
    return out;
}

[[noreturn]] void beyond(const TensorSpec& spec, const std::string& text,
                         const std::string& limits) {
    throw Refusal(
        text + " is out of range for input " + shown(spec.name) + " of type " + spec.dtype,
        spec.dtype + " holds " + limits);
}

// A whole number in the range of `type`.
Wide whole(const TensorSpec& spec, const std::string& text, Type type) {
    constexpr Wide huge = Wide{1} << 100;
    const std::size_t sign = text[0] == '+' || text[0] == '-' ? 1 : 0;
    Wide value = 0;
    if (std::all_of(text.begin() + static_cast<std::ptrdiff_t>(sign), text.end(), is_digit)) {
        for (std::size_t i = sign; i < text.size(); ++i) {
            value = std::min(value * 10 + (text[i] - '0'), huge);
        }
        if (text[0] == '-') value = -value;
    } else {
        const double found = real(text);
        if (found != std::trunc(found)) {
            throw Refusal("input " + shown(spec.name) + " holds whole numbers (" + spec.dtype +
                          "), not " + text);
        }
        value = std::fabs(found) < 1e30 ? static_cast<Wide>(found) : found < 0 ? -huge : huge;
    }
    const auto [low, high] = limits(type);
    if (value < low || value > high) beyond(spec, text, decimal(low) + " to " + decimal(high));
    return value;
}

// A real number in the range of `type`.
double fraction(const TensorSpec& spec, const std::string& text, Type type) {
    const double limit = type == Type::float16   ? 65504.0
                         : type == Type::float32 ? static_cast<double>(FLT_MAX)
                                                 : DBL_MAX;
    const double value = real(text);
    if (std::fabs(value) > limit) {
        char bound[40];
        std::snprintf(bound, sizeof bound, "%g", limit);
        beyond(spec, text, "-" + std::string(bound) + " to " + bound);
    }
    return value;
}

void fill_values(Tensor& tensor, const TensorSpec& spec, const std::vector<std::string>& texts) {
    if (texts.size() != 1 && texts.size() != tensor.count()) {
        throw Refusal("input " + shown(spec.name) + " has " + std::to_string(tensor.count()) +
                          " elements, but " + std::to_string(texts.size()) + " values are given",
                      "give one value for all elements, or one for each");
    }
    for (std::size_t i = 0; i < std::max(tensor.count(), std::size_t{1}); ++i) {
        const std::string& text = texts[texts.size() == 1 ? 0 : i];
        if (!is_float(tensor.type())) {
            const Wide value = whole(spec, text, tensor.type());
            if (i < tensor.count()) store(tensor, i, static_cast<std::uint64_t>(value));
            continue;
        }
        const double value = fraction(spec, text, tensor.type());
        if (i >= tensor.count()) continue;
        switch (tensor.type()) {
            case Type::float16:
                tensor.as<std::uint16_t>()[i] = half_of(value);
                break;
            case Type::float64:
                tensor.as<double>()[i] = value;
                break;
            default:
                tensor.as<float>()[i] = static_cast<float>(value);
        }
    }
}

// A real number as the type of the tensor holds it, in 32 bits.
float rounded(double value, Type type) {
    return type == Type::float16 ? float_of_half(half_of(value)) : static_cast<float>(value);
}

void fill_uniform(Tensor& tensor, const TensorSpec& spec, const std::vector<std::string>& ends,
                  std::uint64_t start) {
    const Type type = tensor.type();
    if (is_float(type)) {
        const float low = rounded(fraction(spec, ends[0], type), type);
        const float span = rounded(fraction(spec, ends[1], type), type) - low;
        for (std::size_t i = 0; i < tensor.count(); ++i) {
            const float scaled = unit(mixed(start + i)) * span;
            store(tensor, i, scaled + low);
        }
        return;
    }
    const Wide low = whole(spec, ends[0], type), high = whole(spec, ends[1], type);
    const Wide count = high - low + 1;
    if (count < 1)
        throw Refusal(shown(*spec.content) + " is not a range LOW:HIGH with LOW up to HIGH");
    for (std::size_t i = 0; i < tensor.count(); ++i) {
        std::uint64_t offset = mixed(start + i);
        if (count < Wide{1} << 64) offset %= static_cast<std::uint64_t>(count);
        store(tensor, i, offset + static_cast<std::uint64_t>(low));
    }
}

Tensor make(const TensorSpec& spec, std::uint64_t seed, std::size_t k, Stored& stored) {
    const std::string file = "sha256:";
    if (spec.content && spec.content->compare(0, file.size(), file) == 0) {
        const auto found = stored.find(spec.name);
        if (found == stored.end()) {
            throw Refusal("the array of input " + shown(spec.name) +
                          " is missing: " + *spec.content);
        }
        return std::move(found->second);
    }
    const std::optional<Type> type = type_named(spec.dtype);
    if (!type) {
        throw Refusal("input " + shown(spec.name) + " has elements of " + spec.dtype +
                          ", which the native worker does not support",
                      "use the Python worker");
    }
    const Content content =
        spec.content ? read_content(*spec.content) : Content{Content::noise, seed, {}};
    if (content.kind == Content::unknown) {
        throw Refusal("input " + shown(spec.name) + " cannot hold " + shown(*spec.content));
    }
    Tensor tensor(*type, spec.shape);
    switch (content.kind) {
        case Content::noise:
            fill_noise(tensor, content.seed, k);
            break;
        case Content::uniform:
            fill_uniform(tensor, spec, content.texts, start_of(seed, k));
            break;
        default:
            fill_values(tensor, spec, content.texts);
    }
    return tensor;
}

}  // namespace

std::vector<Tensor> make_inputs(const std::vector<TensorSpec>& specs, std::uint64_t seed,
                                Stored stored) {
    std::vector<Tensor> made;
    for (std::size_t k = 0; k < specs.size(); ++k) made.push_back(make(specs[k], seed, k, stored));
    return made;
}

std::string shown(const std::string& text) {
    const bool single = text.find('\'') != std::string::npos;
    const char quote = single && text.find('"') == std::string::npos ? '"' : '\'';
    std::string out(1, quote);
    for (const char letter : text) {
        const auto byte = static_cast<unsigned char>(letter);
        if (letter == quote || letter == '\\') {
            out += {'\\', letter};
        } else if (letter == '\n') {
            out += "\\n";
        } else if (byte < 0x20 || byte == 0x7F) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
            out += escaped;
        } else {
            out.push_back(letter);
        }
    }
    return out + quote;
}

}  // namespace latbench
