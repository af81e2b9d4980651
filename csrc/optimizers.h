/* optimizers.h: one update of a slice of the working vector.  Each optimiser of optimizers.def is one function here:
   name_step(n, g, w, s, stride) is what a weight w with gradient g loses; its own vectors lie at s, s + stride, ...
   The formulas are PyTorch's.  Where g and w are zero so is the step: padding stays zero. */
INLINE V v_sqrt(V v) {
#ifdef X86
    return CAT(X86(sqrt, ), PACKED)(v);
#else
    UNROLL for (int i = 0; i < VL; i++) v[i] = REAL_BITS == 64 ? sqrt(v[i]) : sqrtf(v[i]);
    return v;
#endif
}
/* Sum of squares of grad[from .. to); not finite if any of them is not. */
static double NAME(norm2)(const void *grad, int64_t from, int64_t to) {
    const real *g = (const real *)grad;
    V sum[4] = {0};
    int64_t i = from;
    for (; i + 4 * VL <= to; i += 4 * VL)
        UNROLL for (int q = 0; q < 4; q++) {
            const V v = v_load(g + i + q * VL);
            sum[q] += v * v;
        }
    for (; i < to; i += VL) sum[0] += v_load(g + i) * v_load(g + i);
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* The numbers of an update in the kernel's precision. */
typedef struct {
    int nesterov, centered, worse;
    real lr, decay, momentum, b1, b2, c1, c2, eps, size, ahead, root, begin, less, more, low, high;
} numbers;

/* m = momentum m + g;  lr m, or with Nesterov's lr (g + momentum m) */
INLINE V sgd_step(const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)w, (void)stride;
    if (n->momentum == 0) return n->lr * g;
    const V m = n->momentum * v_load(s) + g;
    v_store(s, m);
    return n->lr * (n->nesterov ? g + n->momentum * m : m);
}
/* m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2;  size = lr / (1 - b1^t),  root = 1 / sqrt(1 - b2^t) */
INLINE V adam_step(const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)w;
    const V m = n->b1 * v_load(s) + n->c1 * g, v = n->b2 * v_load(s + stride) + n->c2 * (g * g);
    v_store(s, m), v_store(s + stride, v);
    return n->size * m / (v_sqrt(v) * n->root + n->eps);
}
/* The same, and the decay acts on the weight itself. */
INLINE V adamw_step(const numbers *n, V g, V w, real *s, int64_t stride) {
    return n->lr * n->decay * w + adam_step(n, g, w, s, stride);
}
/* The same m and v;  size: of the gradient,  ahead: of m, with the momentum of the next step */
INLINE V nadam_step(const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)w;
    const V m = n->b1 * v_load(s) + n->c1 * g, v = n->b2 * v_load(s + stride) + n->c2 * (g * g);
    v_store(s, m), v_store(s + stride, v);
    return (n->size * g + n->ahead * m) / (v_sqrt(v) * n->root + n->eps);
}
/* v = b2 v + (1 - b2) g^2,  centered: less the square of the mean of g;  m = momentum m + g / (sqrt(v) + eps);  lr m */
INLINE V rmsprop_step(const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)w;
    V v = n->b2 * v_load(s) + n->c2 * (g * g);
    v_store(s, v);
    if (n->centered) {
        const V mean = n->b2 * v_load(s + 2 * stride) + n->c2 * g;
        v_store(s + 2 * stride, mean);
        v = v_max(v_set(0), v - mean * mean);            /* rounding may take it below zero */
    }
    V m = g / (v_sqrt(v) + n->eps);
    if (n->momentum != 0) {
        m += n->momentum * v_load(s + stride);
        v_store(s + stride, m);
    }
    return n->lr * m;
}
/* v = v + g^2;  size g / (sqrt(v) + eps);  begin: of v, at the first update only */
INLINE V adagrad_step(const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)w, (void)stride;
    const V v = v_load(s) + n->begin + g * g;
    v_store(s, v);
    return n->size * g / (v_sqrt(v) + n->eps);
}
/* Each weight's own step d, and the last gradient p: d grows where g has the sign of p; where it has the other one d
   shrinks, g counts as zero and, where the loss is worse, the last step is taken back.  The weight loses sign(g) d. */
INLINE V rprop_step(const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)w;
    const V zero = v_set(0), p = v_load(s + stride), last = v_load(s), d = v_select(last == zero, v_set(n->begin), last);
    const VI up = g > zero, down = g < zero, before_up = p > zero, before_down = p < zero;
    const VI same = (up & before_up) | (down & before_down), turned = (up & before_down) | (down & before_up);
    const V next = v_select(same, v_min(v_set(n->high), d * n->more), v_select(turned, v_max(v_set(n->low), d * n->less), d));
    v_store(s, next), v_store(s + stride, v_select(turned, zero, g));
    const V back = n->worse ? v_select(before_up, -d, d) : zero;
    return v_select(turned, back, v_select(up, next, v_select(down, -next, zero)));
}

/* slots: the optimiser's vectors, `stride` reals apart; decays: whether weight decay is for this slice */
#define OPTIMIZER(KIND, name, ...)                                                                                  \
    case OPT_##KIND:                                                                                                \
        for (int64_t i = from; i < to; i += VL) {                                                                   \
            real *to_w = (real *)work + i;                                                                          \
            const V w = v_load(to_w), g = v_load((const real *)grad + i) * scale + coupled * w;                     \
            v_store(to_w, w - name##_step(&n, g, w, (real *)slots + i, stride));                                    \
        }                                                                                                           \
        break;
static void NAME(optimise)(const update *u, int decays, void *work, const void *grad, void *slots, int64_t stride, int64_t from,
                           int64_t to) {
    const real decay = decays ? (real)u->weight_decay : 0, coupled = u->kind == OPT_ADAMW ? 0 : decay;
    const real scale = u->tempered ? 1 : (real)u->scale;
    const numbers n = {
        .nesterov = u->nesterov, .centered = u->centered, .worse = u->worse, .lr = (real)u->learning_rate, .decay = decay,
        .momentum = (real)u->momentum, .b1 = (real)u->beta1, .b2 = (real)u->beta2, .c1 = (real)(1 - u->beta1),
        .c2 = (real)(1 - u->beta2), .eps = (real)u->eps, .size = (real)u->size, .ahead = (real)u->ahead, .root = (real)u->root,
        .begin = (real)u->begin, .less = (real)u->eta_minus, .more = (real)u->eta_plus, .low = (real)u->step_min,
        .high = (real)u->step_max,
    };
    switch (u->kind) {
#include "optimizers.def"
    }
}
#undef OPTIMIZER

/* A number of the standard normal distribution (Box and Muller), a function of key and index: |it| < 8.6. */
INLINE double normal(uint64_t key, uint64_t index) {
    const uint64_t a = hash64(key + hash64(index + 0x9e3779b97f4a7c15u)), b = hash64(a + 0x9e3779b97f4a7c15u);
    const double u = ((double)(a >> 11) + 1) * 0x1p-53, v = (double)(b >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586477 * v);
}
/* What an update does to the gradient of one block before the optimiser sees it, in [from, to) of the working vector:
   the scale of clip_norm, the clip by value, and noise keyed by the parameter's place in the flat vector. */
static void NAME(temper)(const update *u, const matrix *m, void *grad, int64_t from, int64_t to) {
    const real scale = (real)u->scale, limit = (real)u->clip_value;
    for (int64_t i = from; i < to; i += VL) {
        const V g = v_load((real *)grad + i) * scale;
        v_store((real *)grad + i, limit > 0 ? v_clip(g, limit) : g);
    }
    if (u->noise > 0)
        for (int64_t v = 0; v < m->vectors; v++) {
            int64_t stride;
            const int64_t ub = v / m->gates, gate = v % m->gates, units = least(VL, m->units - ub * VL);
            real *g = packed_row(m, grad, ub, gate, &stride);
            for (int64_t c = 0; c < m->cols; c++, g += stride) {
                const int64_t at = g - (real *)grad;
                if (at < from || at >= to) continue;
                for (int64_t j = 0; j < units; j++)
                    g[j] += (real)(u->noise * normal(u->key, (uint64_t)(m->flat + (gate * m->units + ub * VL + j) * m->cols + c)));
            }
        }
}
