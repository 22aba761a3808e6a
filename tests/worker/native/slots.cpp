// Compares the places and shapes of the declared functions with a published header of ONNX Runtime.

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <type_traits>

#include "onnxruntime_slots.h"

namespace {

template <typename T>
constexpr std::size_t size_of() {
    if constexpr (std::is_void_v<T>) {
        return 0;
    } else {
        return sizeof(T);
    }
}

// Whether two functions have as many parameters, each of the same size, and results of the same.
template <typename One, typename Other>
struct Same : std::false_type {};
template <typename R, typename S, typename... As, typename... Bs>
struct Same<R (*)(As...), S (*)(Bs...)> {
    static constexpr bool value = [] {
        if constexpr (sizeof...(As) != sizeof...(Bs)) {
            return false;
        } else {
            return size_of<R>() == size_of<S>() && ((sizeof(As) == sizeof(Bs)) && ...);
        }
    }();
};
template <typename T>
struct Plain {
    using type = T;
};
template <typename R, typename... As>
struct Plain<R (*)(As...) noexcept> {
    using type = R (*)(As...);
};

using Declared = latbench::ort::Functions;
#define CHECK(slot, name, result, arguments)                                                  \
    static_assert(offsetof(OrtApi, name) == slot * sizeof(void*), "the place of " #name);     \
    static_assert(Same<Plain<decltype(OrtApi::name)>::type, decltype(Declared::name)>::value, \
                  "the parameters of " #name);
LATBENCH_ORT_FUNCTIONS(CHECK)

static_assert(ORT_LOGGING_LEVEL_WARNING == latbench::ort::kWarnings);
static_assert(ORT_PARALLEL == latbench::ort::kParallel);
static_assert(OrtArenaAllocator == latbench::ort::kArenaAllocator);
static_assert(OrtMemTypeDefault == latbench::ort::kDefaultMemory);
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 == 16);
static_assert(ORT_API_VERSION >= LATBENCH_ORT_API_VERSION);
static_assert(offsetof(OrtApiBase, GetApi) == 0);
static_assert(offsetof(OrtApiBase, GetVersionString) == sizeof(void*));

}  // namespace

int main() {}
