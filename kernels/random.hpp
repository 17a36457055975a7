// Counter-based random numbers: what a walker gets depends on nothing but seed, walker, step and component.
//
// Philox4x32-10 of Salmon et al., SC'11, doi:10.1145/2063384.2063405; normal numbers by Box and Muller.
#pragma once

#include "simd.hpp"

namespace gibbsian::GIBBSIAN_ISA {

// One block of four 32-bit words for each lane.
template <int kCount>
struct Philox {
    std::uint32_t word[4][kCount];

    // word holds the counter and becomes the random block.
    GIBBSIAN_INLINE void mix(std::uint32_t key0, std::uint32_t key1) {
        for (int round = 0; round < 10; ++round) {
            for (int k = 0; k < kCount; ++k) {
                const std::uint64_t first = std::uint64_t(0xD2511F53u) * word[0][k];
                const std::uint64_t second = std::uint64_t(0xCD9E8D57u) * word[2][k];
                word[0][k] = std::uint32_t(second >> 32) ^ word[1][k] ^ key0;
                word[1][k] = std::uint32_t(second);
                word[2][k] = std::uint32_t(first >> 32) ^ word[3][k] ^ key1;
                word[3][k] = std::uint32_t(first);
            }
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
    }
};

// Four standard normal numbers per lane.
template <class T>
GIBBSIAN_INLINE void four_normals(std::uint64_t seed, std::uint64_t step, std::uint32_t draw,
                                  const std::size_t* walkers, Vec<T> (&normal)[4]) {
    constexpr int lanes = kLanes<T>;
    Philox<lanes> block;
    for (int k = 0; k < lanes; ++k) {
        block.word[0][k] = std::uint32_t(step);
        block.word[1][k] = std::uint32_t(step >> 32);
        block.word[2][k] = std::uint32_t(walkers[k]);
        block.word[3][k] = draw;
    }
    block.mix(std::uint32_t(seed), std::uint32_t(seed >> 32));
    Vec<T> uniform[4];
    for (int word = 0; word < 4; ++word) {
        for (int k = 0; k < lanes; ++k) {
            // The upper 31 bits, as a signed number, convert with one instruction; the half keeps off zero.
            uniform[word][k] = (T(std::int32_t(block.word[word][k] >> 1)) + T(0.5)) * T(1.0 / 2147483648.0);
        }
    }
    for (int half = 0; half < 2; ++half) {
        // In single precision the largest uniform number rounds to one, whose logarithm may be a trifle above zero.
        const Vec<T> size = square_root(larger(-2 * logarithm(uniform[2 * half]), Vec<T>{}));
        Vec<T> sine, cosine;
        sine_cosine_of_turn(uniform[2 * half + 1], sine, cosine);
        normal[2 * half] = size * cosine;
        normal[2 * half + 1] = size * sine;
    }
}

}  // namespace gibbsian::GIBBSIAN_ISA
