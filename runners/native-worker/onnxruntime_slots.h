// The functions of ONNX Runtime's C interface that are used, each with its place in the table
// OrtApi.
//
// The table only grows, so a place never changes; tests/native compares them with a published
// header. Handles are opaque, and enumerations are ints.
#pragma once

#include <cstddef>
#include <cstdint>

// The version of the table that is requested, of ONNX Runtime 1.16.
#define LATBENCH_ORT_API_VERSION 16

#define LATBENCH_ORT_FUNCTIONS(X)                                                           \
    X(1, GetErrorCode, int, (const Status*))                                                \
    X(2, GetErrorMessage, const char*, (const Status*))                                     \
    X(3, CreateEnv, Status*, (int, const char*, Handle**))                                  \
    X(6, DisableTelemetryEvents, Status*, (const Handle*))                                  \
    X(7, CreateSession, Status*, (const Handle*, const char*, const Handle*, Handle**))     \
    X(10, CreateSessionOptions, Status*, (Handle**))                                        \
    X(13, SetSessionExecutionMode, Status*, (Handle*, int))                                 \
    X(14, EnableProfiling, Status*, (Handle*, const char*))                                  \
    X(23, SetSessionGraphOptimizationLevel, Status*, (Handle*, int))                        \
    X(24, SetIntraOpNumThreads, Status*, (Handle*, int))                                    \
    X(25, SetInterOpNumThreads, Status*, (Handle*, int))                                    \
    X(30, SessionGetInputCount, Status*, (const Handle*, std::size_t*))                     \
    X(31, SessionGetOutputCount, Status*, (const Handle*, std::size_t*))                    \
    X(33, SessionGetInputTypeInfo, Status*, (const Handle*, std::size_t, Handle**))         \
    X(36, SessionGetInputName, Status*, (const Handle*, std::size_t, Handle*, char**))      \
    X(37, SessionGetOutputName, Status*, (const Handle*, std::size_t, Handle*, char**))     \
    X(49, CreateTensorWithDataAsOrtValue, Status*,                                          \
      (const Handle*, void*, std::size_t, const std::int64_t*, std::size_t, int, Handle**)) \
    X(50, IsTensor, Status*, (const Handle*, int*))                                         \
    X(51, GetTensorMutableData, Status*, (Handle*, void**))                                 \
    X(55, CastTypeInfoToTensorInfo, Status*, (const Handle*, const Handle**))               \
    X(60, GetTensorElementType, Status*, (const Handle*, int*))                             \
    X(61, GetDimensionsCount, Status*, (const Handle*, std::size_t*))                       \
    X(62, GetDimensions, Status*, (const Handle*, std::int64_t*, std::size_t))              \
    X(65, GetTensorTypeAndShape, Status*, (const Handle*, Handle**))                        \
    X(69, CreateCpuMemoryInfo, Status*, (int, int, Handle**))                               \
    X(76, AllocatorFree, Status*, (Handle*, void*))                                         \
    X(78, GetAllocatorWithDefaultOptions, Status*, (Handle**))                              \
    X(93, ReleaseStatus, void, (Status*))                                                   \
    X(95, ReleaseSession, void, (Handle*))                                                  \
    X(96, ReleaseValue, void, (Handle*))                                                    \
    X(98, ReleaseTypeInfo, void, (Handle*))                                                 \
    X(99, ReleaseTensorTypeAndShapeInfo, void, (Handle*))                                   \
    X(100, ReleaseSessionOptions, void, (Handle*))                                          \
    X(110, SessionEndProfiling, Status*, (Handle*, Handle*, char**))                        \
    X(125, GetAvailableProviders, Status*, (char***, int*))                                 \
    X(126, ReleaseAvailableProviders, Status*, (char**, int))                               \
    X(130, AddSessionConfigEntry, Status*, (Handle*, const char*, const char*))             \
    X(133, RunWithBinding, Status*, (Handle*, const Handle*, const Handle*))                \
    X(134, CreateIoBinding, Status*, (Handle*, Handle**))                                   \
    X(135, ReleaseIoBinding, void, (Handle*))                                               \
    X(136, BindInput, Status*, (Handle*, const char*, const Handle*))                       \
    X(138, BindOutputToDevice, Status*, (Handle*, const char*, const Handle*))              \
    X(140, GetBoundOutputValues, Status*, (const Handle*, Handle*, Handle***, std::size_t*)) \
    X(216, SessionOptionsAppendExecutionProvider, Status*,                                   \
      (Handle*, const char*, const char* const*, const char* const*, std::size_t))

namespace latbench::ort {

struct Handle;
struct Status;

struct Functions {
#define LATBENCH_ORT_MEMBER(slot, name, result, arguments) result(*name) arguments;
    LATBENCH_ORT_FUNCTIONS(LATBENCH_ORT_MEMBER)
#undef LATBENCH_ORT_MEMBER
};

// What `OrtGetApiBase` returns.
struct Base {
    const void* const* (*get_api)(std::uint32_t version);
    const char* (*version)();
};

// Numbers of the enumerations.
constexpr int kWarnings = 2, kParallel = 1, kArenaAllocator = 1, kDefaultMemory = 0;

}  // namespace latbench::ort
