/* instances.c: the copies of the kernels, one per dtype and instruction set, and the choice of one.
   csrc/instances has a file for each. */
#include "plan.h"
#include <string.h>

/* The instruction sets, each with an instance for both dtypes, the best last: X(name, whether this
   processor has it, YES or NO: whether it has instances with lanes along rows). */
#if defined(__x86_64__)
#define EACH_ISA(X)                                                                 \
    X(base, 1, NO)                                                                  \
    X(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), YES)   \
    X(avx512,                                                                       \
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&    \
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"), \
      YES)
#elif defined(__aarch64__)
#define EACH_ISA(X) X(base, 1, NO) X(neon, 1, NO)
#else
#define EACH_ISA(X) X(base, 1, NO)
#endif
#define BY_ROWS_YES(kernels) kernels
#define BY_ROWS_NO(kernels) NULL
#define DECLARE(isa, has, rows)                                \
    extern const kernels kernels_f32_##isa, kernels_f64_##isa; \
    extern const kernels kernels_f32_##isa##_rows, kernels_f64_##isa##_rows;
EACH_ISA(DECLARE)

/* Number i of those that this processor has; NULL: there is none. */
const char *bptt_supported_isa(int i) {
#define COUNT(name, has, rows) \
    if ((has) && i-- == 0) return #name;
    EACH_ISA(COUNT)
    return NULL;
}

/* The instance for a dtype, with lanes along units or by_rows, on `isa` or, if that is NULL, on the
   best instruction set, whose name goes to *chosen.  NULL: there is none. */
const kernels *find_kernels(const char *isa, int f64, int by_rows, const char **chosen) {
    const kernels *found = NULL;
#define CONSIDER(name, has, rows)                           \
    if ((!isa || !strcmp(isa, #name)) && (has)) {           \
        const kernels *const of[2][2] = {                   \
            { &kernels_f32_##name, &kernels_f64_##name },   \
            { BY_ROWS_##rows(&kernels_f32_##name##_rows),   \
              BY_ROWS_##rows(&kernels_f64_##name##_rows) }, \
        };                                                  \
        found = of[by_rows][f64];                           \
        *chosen = #name;                                    \
    }
    EACH_ISA(CONSIDER)
    return found;
}

/* The vector functions by themselves, in the order of kernels.apply. */
static const char *function_name(int i) { return i == 0 ? "exp" : bptt_activation(i - 1); }

int bptt_apply(const char *function, const char *dtype, const char *isa, const void *x, void *y,
               int64_t n) {
    const char *chosen;
    const int f = find(function, function_name), d = find(dtype, dtype_name);
    const kernels *k = f < 0 || d < 0 ? NULL : find_kernels(isa, d, 0, &chosen);
    if (k) k->apply(f, x, y, n);
    return k != NULL;
}
