#ifdef __aarch64__
#define REAL_BITS 64
#define VBYTES 16
#define TILE 20
#define SUFFIX f64_neon
#include "../kernels.h"
#endif
