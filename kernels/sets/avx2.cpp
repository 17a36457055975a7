#define GIBBSIAN_ISA avx2
#define GIBBSIAN_BYTES 32
#include "../kernels.inl"
