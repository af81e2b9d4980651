/* integers.h: minimum, maximum and shares of sizes. */
#ifndef BPTT_INTEGERS_H
#define BPTT_INTEGERS_H
#include <stdint.h>

static inline __attribute__((always_inline)) int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline __attribute__((always_inline)) int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
/* Where part `part` of `parts` equal shares of n begins.  A single part divides nothing: it may be
   one of the online algorithm's small updates. */
static inline __attribute__((always_inline)) int64_t share(int64_t n, int64_t part, int64_t parts) {
    return parts > 1 ? n * part / parts : part ? n : 0;
}
#endif
