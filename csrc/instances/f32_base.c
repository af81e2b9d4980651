#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC optimize("Os") /* processors since 2013 have avx2: here size counts more */
#endif
#define REAL_BITS 32
#define VBYTES 16
#define TILE 12
#define SUFFIX f32_base
#include "../kernels.h"
