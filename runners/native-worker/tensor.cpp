#include "tensor.h"

#include <cmath>
#include <cstring>
#include <new>

#include "failure.h"

namespace latbench {
namespace {

struct Row {
    Type type;
    const char* name;
    std::size_t bytes;
};
constexpr Row kTypes[] = {
    {Type::float16, "float16", 2}, {Type::float32, "float32", 4}, {Type::float64, "float64", 8},
    {Type::int8, "int8", 1},       {Type::int16, "int16", 2},     {Type::int32, "int32", 4},
    {Type::int64, "int64", 8},     {Type::uint8, "uint8", 1},     {Type::uint16, "uint16", 2},
    {Type::uint32, "uint32", 4},   {Type::uint64, "uint64", 8},   {Type::boolean, "bool", 1},
};

template <typename To, typename From>
To bits_of(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

}  // namespace

const char* type_name(Type type) { return kTypes[static_cast<int>(type)].name; }

std::size_t type_bytes(Type type) { return kTypes[static_cast<int>(type)].bytes; }

std::optional<Type> type_named(std::string_view name) {
    for (const Row& row : kTypes) {
        if (name == row.name) return row.type;
    }
    return std::nullopt;
}

std::size_t element_count(const std::vector<std::int64_t>& shape) {
    // Eight bytes for each element must fit into the address space.
    constexpr std::uint64_t most = std::uint64_t{1} << 59;
    std::uint64_t count = 1;
    bool empty = false;
    for (const std::int64_t size : shape) {
        if (size < 0) throw Refusal("a shape has a negative size");
        empty = empty || size == 0;
    }
    if (empty) return 0;
    for (const std::int64_t size : shape) {
        if (static_cast<std::uint64_t>(size) > most / count) throw std::bad_alloc();
        count *= static_cast<std::uint64_t>(size);
    }
    return count;
}

Tensor::Tensor(Type type, std::vector<std::int64_t> shape)
    : type_(type), shape_(std::move(shape)), count_(element_count(shape_)) {
    constexpr std::size_t aligned = 64;
    data_.reset(std::aligned_alloc(aligned, (bytes() + aligned) / aligned * aligned));
    if (!data_) throw std::bad_alloc();
}

std::uint16_t half_of(double value) {
    constexpr std::uint64_t infinity = 0x7FF0000000000000;
    std::uint64_t bits = bits_of<std::uint64_t>(value);
    const auto sign = static_cast<std::uint16_t>(bits >> 63 << 15);
    bits &= 0x7FFFFFFFFFFFFFFF;
    if (bits > infinity) return sign | 0x7E00;
    const int exponent = static_cast<int>(bits >> 52) - 1023;
    if (exponent >= 16) return sign | 0x7C00;
    if (exponent < -25) return sign;
    const std::uint64_t mantissa = (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000;
    const bool subnormal = exponent < -14;
    const int dropped = subnormal ? 42 - 14 - exponent : 42;
    const std::uint64_t rest = mantissa & ((std::uint64_t{1} << dropped) - 1);
    const std::uint64_t half = std::uint64_t{1} << (dropped - 1);
    std::uint64_t kept = mantissa >> dropped;
    if (rest > half || (rest == half && (kept & 1) != 0)) ++kept;
    // The leading one of a normal number adds one to the exponent, and so does a carry.
    if (!subnormal) kept += static_cast<std::uint64_t>(exponent + 14) << 10;
    return static_cast<std::uint16_t>(sign | kept);
}

float float_of_half(std::uint16_t bits) {
    const int exponent = bits >> 10 & 0x1F, mantissa = bits & 0x3FF;
    float value;
    if (exponent == 0x1F) {
        value = mantissa != 0 ? NAN : INFINITY;
    } else if (exponent == 0) {
        value = std::ldexp(static_cast<float>(mantissa), -24);
    } else {
        value = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
    }
    return (bits & 0x8000) != 0 ? -value : value;
}

std::uint16_t bfloat16_of(float value) {
    // Rounding the bits of a NaN may give an infinity.
    if (std::isnan(value)) return 0x7FC0;
    const auto bits = bits_of<std::uint32_t>(value);
    return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float float_of_bfloat16(std::uint16_t bits) {
    return bits_of<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::string base64(const void* data, std::size_t size) {
    constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto* bytes = static_cast<const unsigned char*>(data);
    std::string out;
    out.reserve((size + 2) / 3 * 4);
    for (std::size_t i = 0; i < size; i += 3) {
        const std::size_t left = size - i;
        const std::uint32_t three = std::uint32_t{bytes[i]} << 16 |
                                    (left > 1 ? std::uint32_t{bytes[i + 1]} << 8 : 0) |
                                    (left > 2 ? std::uint32_t{bytes[i + 2]} : 0);
        out.push_back(letters[three >> 18]);
        out.push_back(letters[three >> 12 & 63]);
        out.push_back(left > 1 ? letters[three >> 6 & 63] : '=');
        out.push_back(left > 2 ? letters[three & 63] : '=');
    }
    return out;
}

}  // namespace latbench
