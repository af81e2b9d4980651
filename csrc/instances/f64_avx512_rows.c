#ifdef __x86_64__
#include "../target.h"
TARGET("avx512f,avx512bw,avx512vl,avx512dq,fma", ",prefer-vector-width=512")
#define REAL_BITS 64
#define VBYTES 64
#define TILE 24
#define SUFFIX f64_avx512_rows
#define BY_ROWS 1
#include "../kernels.h"
END_TARGET
#endif
