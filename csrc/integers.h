/* integers.h: minimum and maximum of sizes. */
#ifndef BPTT_INTEGERS_H
#define BPTT_INTEGERS_H
#include <stdint.h>

static inline __attribute__((always_inline)) int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline __attribute__((always_inline)) int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
#endif
