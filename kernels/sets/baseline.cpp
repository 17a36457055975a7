#define GIBBSIAN_ISA baseline
#define GIBBSIAN_BYTES 16
#include "../kernels.inl"
