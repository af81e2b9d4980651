#ifdef __x86_64__
#pragma GCC target("avx2,fma")
#define REAL_BITS 32
#define VBYTES 32
#define TILE 12
#define SUFFIX f32_avx2
#include "../kernels.h"
#endif
