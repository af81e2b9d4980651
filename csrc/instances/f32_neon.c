#ifdef __aarch64__
#define REAL_BITS 32
#define VBYTES 16
#define TILE 20
#define SUFFIX f32_neon
#include "../kernels.h"
#endif
