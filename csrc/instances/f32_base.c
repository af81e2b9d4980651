#define REAL_BITS 32
#define VBYTES 16
#define TILE 12
#define SUFFIX f32_base
#include "../kernels.h"
