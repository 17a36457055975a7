#define GIBBSIAN_ISA avx512
#define GIBBSIAN_BYTES 64
#include "../kernels.inl"
