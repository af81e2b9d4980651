#ifdef __x86_64__
#include "../target.h"
TARGET("avx2,fma", "")
#define REAL_BITS 32
#define VBYTES 32
#define TILE 12
#define SUFFIX f32_avx2_rows
#define BY_ROWS 1
#include "../kernels.h"
END_TARGET
#endif
