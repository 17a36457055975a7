// Python bindings of the compiled kernels.
#include <nanobind/nanobind.h>

namespace {

// Widest vector instruction set of the processor that runs this, by the names the engines use.
const char* instruction_set() {
#if defined(__x86_64__) || defined(_M_X64)
#if defined(__GNUC__) || defined(__clang__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "sse2";
#elif defined(__aarch64__) || defined(_M_ARM64)
    return "neon";
#else
    return "scalar";
#endif
}

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "Compiled kernels of gibbsian.";
    m.def("instruction_set", &instruction_set,
          "Widest vector instruction set of this processor: avx512, avx2, sse2, neon or scalar.");
}
