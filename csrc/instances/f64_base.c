#define REAL_BITS 64
#define VBYTES 16
#define TILE 12
#define SUFFIX f64_base
#include "../kernels.h"
