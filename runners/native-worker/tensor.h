// Tensors in memory, with the element types of numpy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace latbench {

enum class Type {
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
    boolean
};

// The numpy name, such as `float32`.
const char* type_name(Type type);
std::optional<Type> type_named(std::string_view name);
std::size_t type_bytes(Type type);

// Name, shape and element type, as an artifact states them.
struct TensorSpec {
    std::string name;
    std::vector<std::int64_t> shape;
    std::string dtype;
    std::optional<std::string> content;
};

// Elements in C order, at an address that is a multiple of 64.
class Tensor {
 public:
    Tensor() = default;
    // Throws std::bad_alloc, and Refusal for a shape that is not one.
    Tensor(Type type, std::vector<std::int64_t> shape);

    Type type() const { return type_; }
    const std::vector<std::int64_t>& shape() const { return shape_; }
    std::size_t count() const { return count_; }
    std::size_t bytes() const { return count_ * type_bytes(type_); }
    void* data() { return data_.get(); }
    const void* data() const { return data_.get(); }
    template <typename T>
    T* as() {
        return static_cast<T*>(data_.get());
    }
    template <typename T>
    const T* as() const {
        return static_cast<const T*>(data_.get());
    }

 private:
    struct Free {
        void operator()(void* data) const { std::free(data); }
    };
    Type type_ = Type::float32;
    std::vector<std::int64_t> shape_;
    std::size_t count_ = 0;
    std::unique_ptr<void, Free> data_;
};

// Number of elements. Throws Refusal for a negative size and for more than memory can hold.
std::size_t element_count(const std::vector<std::int64_t>& shape);

// Conversions, to the nearest value with ties to even.
std::uint16_t half_of(double value);
float float_of_half(std::uint16_t bits);
std::uint16_t bfloat16_of(float value);
float float_of_bfloat16(std::uint16_t bits);

std::string base64(const void* data, std::size_t size);

}  // namespace latbench
