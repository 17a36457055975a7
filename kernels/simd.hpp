// Vectors with one conformation per lane, and elementary functions on them.
//
// Included once per instruction set, with GIBBSIAN_ISA (a namespace) and GIBBSIAN_BYTES (the vector width) defined.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "series.hpp"

#define GIBBSIAN_INLINE inline __attribute__((always_inline))

namespace gibbsian::GIBBSIAN_ISA {

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(GIBBSIAN_BYTES)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
template <class T>
using IntegerVec = Vec<Integer<T>>;

template <class T>
inline constexpr int kLanes = GIBBSIAN_BYTES / sizeof(T);

template <class T>
GIBBSIAN_INLINE Vec<T> splat(T value) {
    return Vec<T>{} + value;
}

template <class V>
GIBBSIAN_INLINE V larger(V a, V b) {
    return a > b ? a : b;
}

template <class V>
GIBBSIAN_INLINE V smaller(V a, V b) {
    return a < b ? a : b;
}

template <class V>
GIBBSIAN_INLINE V absolute(V a) {
    return a < 0 ? -a : a;
}

// Whether a < b in any lane.
template <class V>
GIBBSIAN_INLINE bool any_less(V a, V b) {
#if defined(__AVX512F__) && GIBBSIAN_BYTES == 64
    if constexpr (sizeof(a[0]) == 4) return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ) != 0;
    else return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ) != 0;
#elif defined(__AVX2__) && GIBBSIAN_BYTES == 32
    return _mm256_movemask_epi8((__m256i)(a < b)) != 0;
#elif defined(__SSE2__) && GIBBSIAN_BYTES == 16
    return _mm_movemask_epi8((__m128i)(a < b)) != 0;
#elif defined(__aarch64__) && GIBBSIAN_BYTES == 16
    return vmaxvq_u32((uint32x4_t)(a < b)) != 0;
#else
    auto mask = a < b;
    bool found = false;
    for (std::size_t k = 0; k < sizeof(a) / sizeof(a[0]); ++k) found |= mask[k] != 0;
    return found;
#endif
}

template <class V>
GIBBSIAN_INLINE V square_root(V x) {
    V result;
    for (std::size_t k = 0; k < sizeof(x) / sizeof(x[0]); ++k) result[k] = std::sqrt(x[k]);
    return result;
}

// 1/sqrt(x) for finite x > 0.
template <class V>
GIBBSIAN_INLINE V inverse_root(V x) {
    using T = std::decay_t<decltype(x[0])>;
    [[maybe_unused]] auto sharpen = [x](V y) {
        V error = 1 - x * y * y;  // cubic convergence
        return y + y * error * (T(0.5) + T(0.375) * error);
    };
#if defined(__AVX512F__) && GIBBSIAN_BYTES == 64
    if constexpr (sizeof(T) == 4) return sharpen((V)_mm512_rsqrt14_ps((__m512)x));
    else return sharpen(sharpen((V)_mm512_rsqrt14_pd((__m512d)x)));
#elif defined(__AVX2__) && GIBBSIAN_BYTES == 32
    if constexpr (sizeof(T) == 4) return sharpen((V)_mm256_rsqrt_ps((__m256)x));
    else return 1 / square_root(x);
#elif defined(__SSE2__) && GIBBSIAN_BYTES == 16
    if constexpr (sizeof(T) == 4) return sharpen((V)_mm_rsqrt_ps((__m128)x));
    else return 1 / square_root(x);
#elif defined(__aarch64__) && GIBBSIAN_BYTES == 16
    if constexpr (sizeof(T) == 4) return sharpen(sharpen((V)vrsqrteq_f32((float32x4_t)x)));
    else return 1 / square_root(x);
#else
    return 1 / square_root(x);
#endif
}

// 1/x for finite x != 0.
template <class V>
GIBBSIAN_INLINE V reciprocal(V x) {
#if defined(__AVX512F__) && GIBBSIAN_BYTES == 64
    if constexpr (sizeof(x[0]) == 4) {
        V y = (V)_mm512_rcp14_ps((__m512)x);
        return y * (2 - x * y);
    }
#endif
    return 1 / x;
}

// c[0] + c[1] x + ... + c[n-1] x^(n-1)
template <class V, class T, std::size_t n>
GIBBSIAN_INLINE V polynomial(const T (&c)[n], V x) {
    V value = splat<T>(c[n - 1]);
#pragma GCC unroll 32
    for (int k = int(n) - 2; k >= 0; --k) value = value * x + c[k];
    return value;
}

// 2^x; beyond the range of normal numbers, its ends.
template <class V>
GIBBSIAN_INLINE V power_of_two(V x) {
    using T = std::decay_t<decltype(x[0])>;
    constexpr T end = sizeof(T) == 4 ? T(126) : T(1022);
    constexpr int mantissa = sizeof(T) == 4 ? 23 : 52;
    constexpr T magic = T(3) * (std::uint64_t(1) << (mantissa - 1));  // adding it rounds to integers
    x = smaller(larger(x, splat<T>(-end)), splat<T>(end));
    V shifted = x + magic;
    V fraction = x - (shifted - magic);
    auto scale = (IntegerVec<T>)shifted << mantissa;
    return (V)((IntegerVec<T>)polynomial(series::Table<T>::exp2, fraction) + scale);
}

template <class V>
GIBBSIAN_INLINE V exponential(V x) {
    using T = std::decay_t<decltype(x[0])>;
    return power_of_two(x * T(1.4426950408889634074));
}

// Natural logarithm of normal x > 0.
template <class V>
GIBBSIAN_INLINE V logarithm(V x) {
    using T = std::decay_t<decltype(x[0])>;
    using I = Integer<T>;
    constexpr int mantissa = sizeof(T) == 4 ? 23 : 52;
    constexpr T root_half = T(0.70710678118654752440);
    auto bits = (IntegerVec<T>)x;
    I anchor;
    __builtin_memcpy(&anchor, &root_half, sizeof(T));
    auto exponent = (bits - anchor) >> mantissa;             // x = m 2^e with m in [sqrt(1/2), sqrt(2))
    V m = (V)(bits - (exponent << mantissa));
    V s = (m - 1) * reciprocal(m + 1);
    V e = __builtin_convertvector(exponent, V);
    return s * polynomial(series::Table<T>::artanh, s * s) + e * T(0.69314718055994530942);
}

// Angle of the point (x, y), in (-pi, pi].
template <class V>
GIBBSIAN_INLINE V angle(V y, V x) {
    using T = std::decay_t<decltype(x[0])>;
    constexpr T pi = T(3.14159265358979323846);
    constexpr T tiny = sizeof(T) == 4 ? T(1e-37) : T(1e-300);
    V ay = absolute(y), ax = absolute(x);
    V low = smaller(ax, ay), high = larger(larger(ax, ay), splat<T>(tiny));
    // Beyond tan(pi/8), arctan(t) = pi/4 + arctan((t - 1)/(t + 1)).
    auto steep = low > high * T(0.41421356237309504880);
    V t = (steep ? low - high : low) / (steep ? low + high : high);
    V value = t * polynomial(series::Table<T>::arctan, t * t) + (steep ? splat<T>(pi / 4) : V{});
    value = ay > ax ? pi / 2 - value : value;
    value = x < 0 ? pi - value : value;
    return y < 0 ? -value : value;
}

// Sine and cosine of 2 pi u for 0 <= u <= 1.
template <class V>
GIBBSIAN_INLINE void sine_cosine_of_turn(V u, V& sine, V& cosine) {
    using T = std::decay_t<decltype(u[0])>;
    constexpr T magic = T(3) * (std::uint64_t(1) << (sizeof(T) == 4 ? 22 : 51));
    V quarters = 4 * u, shifted = quarters + magic;
    V f = quarters - (shifted - magic), z = f * f;
    auto k = (IntegerVec<T>)shifted;
    V s = f * polynomial(series::Table<T>::sine, z), c = polynomial(series::Table<T>::cosine, z);
    auto odd = (k & 1) != 0;
    V first = odd ? c : s, second = odd ? s : c;
    sine = (k & 2) != 0 ? -first : first;
    cosine = ((k + 1) & 2) != 0 ? -second : second;
}

template <class T>
GIBBSIAN_INLINE Vec<T> load(const T* rows, std::size_t row) {
    return *reinterpret_cast<const Vec<T>*>(rows + row * kLanes<T>);
}

template <class T>
GIBBSIAN_INLINE void store(T* rows, std::size_t row, Vec<T> value) {
    *reinterpret_cast<Vec<T>*>(rows + row * kLanes<T>) = value;
}

template <class T>
GIBBSIAN_INLINE void add_to(T* rows, std::size_t row, Vec<T> value) {
    *reinterpret_cast<Vec<T>*>(rows + row * kLanes<T>) += value;
}

// Adds energies in double precision.
template <class T>
GIBBSIAN_INLINE void add_energy(double* energy, Vec<T> value) {
    for (int k = 0; k < kLanes<T>; ++k) energy[k] += double(value[k]);
}

// Three components.
template <class T>
struct Vec3 {
    Vec<T> x, y, z;
};

template <class T>
GIBBSIAN_INLINE Vec3<T> load3(const T* rows, std::size_t atom) {
    return {load(rows, 3 * atom), load(rows, 3 * atom + 1), load(rows, 3 * atom + 2)};
}

template <class T>
GIBBSIAN_INLINE void add3(T* rows, std::size_t atom, Vec3<T> a) {
    add_to(rows, 3 * atom, a.x), add_to(rows, 3 * atom + 1, a.y), add_to(rows, 3 * atom + 2, a.z);
}

template <class T>
GIBBSIAN_INLINE Vec3<T> operator+(Vec3<T> a, Vec3<T> b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z};
}

template <class T>
GIBBSIAN_INLINE Vec3<T> operator-(Vec3<T> a, Vec3<T> b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}

template <class T>
GIBBSIAN_INLINE Vec3<T> operator-(Vec3<T> a) {
    return {-a.x, -a.y, -a.z};
}

template <class T, class V>
GIBBSIAN_INLINE Vec3<T> operator*(V s, Vec3<T> a) {
    return {s * a.x, s * a.y, s * a.z};
}

template <class T>
GIBBSIAN_INLINE Vec<T> dot(Vec3<T> a, Vec3<T> b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

template <class T>
GIBBSIAN_INLINE Vec3<T> cross(Vec3<T> a, Vec3<T> b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

}  // namespace gibbsian::GIBBSIAN_ISA
