#ifdef __x86_64__
#include "../target.h"
TARGET("avx2,fma", "")
#define REAL_BITS 64
#define VBYTES 32
#define TILE 12
#define SUFFIX f64_avx2_rows
#define BY_ROWS 1
#include "../kernels.h"
END_TARGET
#endif
