// The instruction sets that were compiled, and which of them this processor has.
#pragma once

#include <string>
#include <vector>

#include "../tables.hpp"

namespace gibbsian {

#if defined(__x86_64__)
namespace avx512 {
template <class T>
Kernels<T> kernels();
}
namespace avx2 {
template <class T>
Kernels<T> kernels();
}
#endif
namespace baseline {
template <class T>
Kernels<T> kernels();
}

// Names of what runs here, the widest first; the last is what every processor of this family has.
inline std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        names.push_back("avx512");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.push_back("avx2");
    names.push_back("sse2");
#elif defined(__aarch64__)
    names.push_back("neon");
#else
    names.push_back("baseline");
#endif
    return names;
}

template <class T>
Kernels<T> find_kernels(const std::string& name) {
#if defined(__x86_64__)
    if (name == "avx512") return avx512::kernels<T>();
    if (name == "avx2") return avx2::kernels<T>();
#endif
    return baseline::kernels<T>();
}

}  // namespace gibbsian
