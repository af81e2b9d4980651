/* instances.c: the copies of the kernels, one per dtype and instruction set, and the choice of one.
   csrc/instances has a file for each. */
#include "plan.h"
#include <string.h>

/* The instruction sets, each with an instance for both dtypes, the best last: X(name, whether this
   processor has it). */
#if defined(__x86_64__)
#define EACH_ISA(X)                                                              \
    X(base, 1)                                                                   \
    X(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))     \
    X(avx512,                                                                    \
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && \
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
#elif defined(__aarch64__)
#define EACH_ISA(X) X(base, 1) X(neon, 1)
#else
#define EACH_ISA(X) X(base, 1)
#endif
#define DECLARE(isa, has) extern const kernels kernels_f32_##isa, kernels_f64_##isa;
EACH_ISA(DECLARE)

/* Number i of those that this processor has; NULL: there is none. */
const char *bptt_supported_isa(int i) {
#define COUNT(name, has) \
    if ((has) && i-- == 0) return #name;
    EACH_ISA(COUNT)
    return NULL;
}

/* The instance for a dtype on `isa` or, if that is NULL, on the best instruction set, whose name
   goes to *chosen.  NULL: there is none. */
const kernels *find_kernels(const char *isa, int f64, const char **chosen) {
    const kernels *found = NULL;
#define CONSIDER(name, has)                                      \
    if ((!isa || !strcmp(isa, #name)) && (has)) {                \
        found = f64 ? &kernels_f64_##name : &kernels_f32_##name; \
        *chosen = #name;                                         \
    }
    EACH_ISA(CONSIDER)
    return found;
}

/* The vector functions by themselves, in the order of kernels.apply. */
static const char *function_name(int i) {
    static const char *const names[] = { "tanh", "sigmoid", "exp", NULL };
    return names[i];
}

int bptt_apply(const char *function, const char *dtype, const char *isa, const void *x, void *y,
               int64_t n) {
    const char *chosen;
    const int f = find(function, function_name), d = find(dtype, dtype_name);
    const kernels *k = f < 0 || d < 0 ? NULL : find_kernels(isa, d, &chosen);
    if (k) k->apply(f, x, y, n);
    return k != NULL;
}
