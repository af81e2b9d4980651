/* optimizers.h: one update of a slice of the packed vector: the formulas of the optimisers,
   clipping and noise.  update.c calls the functions with NAME through the table of kernels, each
   thread for its own slice. */
#include "bptt.h"

#include <float.h>
#include <math.h>

/* Sums of squares of grad[from .. to), lane by lane; not finite if any of the numbers is not. */
INLINE V squares(const void *grad, int64_t from, int64_t to) {
    const real *g = (const real *)grad;
    V sum[4] = { 0 };
    int64_t i = from;
    for (; i + 4 * VL <= to; i += 4 * VL)
        UNROLL_FOR (int q = 0; q < 4; q++) {
            const V v = v_load(g + i + q * VL);
            sum[q] += v * v;
        }
    for (; i < to; i += VL) sum[0] += v_load(g + i) * v_load(g + i);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}
/* The sum of squares of grad[from .. to). */
static double NAME(norm2)(const void *grad, int64_t from, int64_t to) {
    return v_sum(squares(grad, from, to));
}
/* 1: every lane is below the limit, and finite. */
INLINE int all_below(V v, double limit) {
    const double most = REAL_BITS == 64 ? 1e300 : 1e38;
    return v_all(v < (real)(limit < most ? limit : most));
}
/* 1: that sum is surely below `limit`: each lane's is below its share.  Quicker than the sum. */
static int NAME(is_small)(const void *grad, int64_t from, int64_t to, double limit) {
    return all_below(squares(grad, from, to), limit / VL);
}
/* If so, the step of sgd without momentum, decay and clipping: the numbers of optimise.  1: it was
   taken. */
INLINE int take_small_step(double rate, double limit, real *packed, const real *grad,
                           int64_t size) {
    const V by = v_set((real)rate);
    if (!all_below(squares(grad, 0, size), limit / VL)) return 0;
    for (int64_t i = 0; i < size; i += VL)
        v_store(packed + i, v_load(packed + i) - by * v_load(grad + i));
    return 1;
}

/* A smaller eps would be zero, or be taken for it, and a step without a gradient 0 / 0. */
#define MIN_EPS (REAL_BITS == 64 ? DBL_MIN : FLT_MIN)

/* The numbers of a step, of h and u; in vectors, as copies of a network may each have their own. */
#define EACH_NUMBER(X)            \
    X(rate, u->rate)              \
    X(size, u->size)              \
    X(ahead, u->ahead)            \
    X(root, u->root)              \
    X(start, u->start)            \
    X(worse, u->worse)            \
    X(momentum, h->momentum)      \
    X(decay, h->weight_decay)     \
    X(b1, h->beta1)               \
    X(c1, 1 - h->beta1)           \
    X(b2, h->beta2)               \
    X(c2, 1 - h->beta2)           \
    X(eps, fmax(h->eps, MIN_EPS)) \
    X(eta_minus, h->eta_minus)    \
    X(eta_plus, h->eta_plus)      \
    X(step_min, h->step_min)      \
    X(step_max, h->step_max)
typedef struct {
#define NUMBER_FIELD(name, value) V name;
    EACH_NUMBER(NUMBER_FIELD)
} numbers;

/* Each optimiser of optimizers.def is two functions.
   name_prepare(h, u), once per update, in double: what is derived from h and from u's rate, t and
   loss.  name_step(h, n, g, w, s, stride): what a weight w with gradient g loses; its own vectors
   lie at s, s + stride, ...; of h it reads what it has or has not.  Where g and w are zero so is
   the step: padding stays zero.  The formulas are PyTorch's. */

/* m = momentum m + g;  rate m, or with Nesterov's rate (g + momentum m) */
static void sgd_prepare(bptt_hyper *h, update *u) {
    (void)h;
    (void)u;
}
INLINE V sgd_step(const bptt_hyper *h, const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)w;
    (void)stride;
    if (h->momentum == 0) return n->rate * g;
    const V m = n->momentum * v_load(s) + g;
    v_store(s, m);
    return n->rate * (h->nesterov ? g + n->momentum * m : m);
}

/* m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2;  size m / (sqrt(v) root + eps),
   size = rate / (1 - b1^t),  root = 1 / sqrt(1 - b2^t) */
static void adam_prepare(bptt_hyper *h, update *u) {
    u->size = u->rate / (1 - pow(h->beta1, u->t));
    u->root = 1 / sqrt(1 - pow(h->beta2, u->t));
}
INLINE V adam_step(const bptt_hyper *h, const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)h;
    (void)w;
    const V m = n->b1 * v_load(s) + n->c1 * g;
    const V v = n->b2 * v_load(s + stride) + n->c2 * (g * g);
    v_store(s, m);
    v_store(s + stride, v);
    return n->size * m / (v_sqrt(v) * n->root + n->eps);
}

/* The same, and the decay acts on the weight itself. */
static void adamw_prepare(bptt_hyper *h, update *u) {
    adam_prepare(h, u);
    u->decoupled = 1;
}
INLINE V adamw_step(const bptt_hyper *h, const numbers *n, V g, V w, real *s, int64_t stride) {
    return n->rate * n->decay * w + adam_step(h, n, g, w, s, stride);
}

/* The same m and v;  (size g + ahead m) / (sqrt(v) root + eps).  The momentum of update t is warmed
   up, b1 (1 - 0.96^(t momentum_decay) / 2), and their product takes the place of b1^t. */
static void nadam_prepare(bptt_hyper *h, update *u) {
    const double now = h->beta1 * (1 - 0.5 * pow(0.96, u->t * h->momentum_decay));
    const double next = h->beta1 * (1 - 0.5 * pow(0.96, (u->t + 1) * h->momentum_decay));
    h->product = (u->t == 1 ? 1 : h->product) * now;
    u->size = u->rate * (1 - now) / (1 - h->product);
    u->ahead = u->rate * next / (1 - h->product * next);
    u->root = 1 / sqrt(1 - pow(h->beta2, u->t));
}
INLINE V nadam_step(const bptt_hyper *h, const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)h;
    (void)w;
    const V m = n->b1 * v_load(s) + n->c1 * g;
    const V v = n->b2 * v_load(s + stride) + n->c2 * (g * g);
    v_store(s, m);
    v_store(s + stride, v);
    return (n->size * g + n->ahead * m) / (v_sqrt(v) * n->root + n->eps);
}

/* v = b2 v + (1 - b2) g^2,  centered: less the square of the mean of g;
   m = momentum m + g / (sqrt(v) + eps);  rate m */
static void rmsprop_prepare(bptt_hyper *h, update *u) {
    (void)h;
    (void)u;
}
INLINE V rmsprop_step(const bptt_hyper *h, const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)w;
    V v = n->b2 * v_load(s) + n->c2 * (g * g);
    v_store(s, v);
    if (h->centered) {
        const V mean = n->b2 * v_load(s + 2 * stride) + n->c2 * g;
        v_store(s + 2 * stride, mean);
        v = v_max(v_set(0), v - mean * mean); /* rounding may take it below zero */
    }
    V m = g / (v_sqrt(v) + n->eps);
    if (h->momentum != 0) {
        m += n->momentum * v_load(s + stride);
        v_store(s + stride, m);
    }
    return n->rate * m;
}

/* v = v + g^2, from initial_accumulator on;  size g / (sqrt(v) + eps),
   size = rate / (1 + (t - 1) rate_decay) */
static void adagrad_prepare(bptt_hyper *h, update *u) {
    u->size = u->rate / (1 + (u->t - 1) * h->rate_decay);
    u->start = u->t == 1 ? h->initial_accumulator : 0;
}
INLINE V adagrad_step(const bptt_hyper *h, const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)h;
    (void)w;
    (void)stride;
    const V v = v_load(s) + n->start + g * g;
    v_store(s, v);
    return n->size * g / (v_sqrt(v) + n->eps);
}

/* Each weight's own step d, and the last gradient p: d grows where g has the sign of p; where it
   has the other one d shrinks, g counts as zero and, where the loss is worse, the last step is
   taken back.  The weight loses sign(g) d. */
static void rprop_prepare(bptt_hyper *h, update *u) {
    u->start = u->rate;
    u->worse = h->backtrack && u->t > 1 && u->loss > h->previous;
    h->previous = u->loss;
}
INLINE V rprop_step(const bptt_hyper *h, const numbers *n, V g, V w, real *s, int64_t stride) {
    (void)h;
    (void)w;
    const V zero = v_set(0), p = v_load(s + stride), last = v_load(s);
    const V d = v_select(last == zero, n->start, last);
    const VI up = g > zero;
    const VI down = g < zero;
    const VI before_up = p > zero;
    const VI before_down = p < zero;
    const VI same = (up & before_up) | (down & before_down);
    const VI reversed = (up & before_down) | (down & before_up);
    const V longer = v_min(n->step_max, d * n->eta_plus);
    const V shorter = v_max(n->step_min, d * n->eta_minus);
    const V next = v_select(same, longer, v_select(reversed, shorter, d));
    v_store(s, next);
    v_store(s + stride, v_select(reversed, zero, g));
    const V back = v_select(n->worse != zero, v_select(before_up, -d, d), zero);
    return v_select(reversed, back, v_select(up, next, v_select(down, -next, zero)));
}

/* The nearest weight within the bounds of place i; a fixed one has its value as both bounds. */
INLINE V v_within(const bounds *b, int64_t i, V w) {
    const V low = v_load((const real *)b->low + i), high = v_load((const real *)b->high + i);
    return v_select(low == high, low, v_min(v_max(w, low), high));
}

/* What an update's step needs, once per update; u->size is the rate already. */
static void NAME(prepare)(bptt_hyper *h, update *u) {
    switch (u->kind) {
#define OPTIMIZER(name, ...)  \
    case OPTIMIZER_##name:    \
        name##_prepare(h, u); \
        break;
#include "optimizers.def"
    }
}
/* The numbers of all lanes. */
INLINE numbers numbers_of(const bptt_hyper *h, const update *u) {
#define NUMBER_OF(name, value) .name = v_set((real)(value)),
    return (numbers){ EACH_NUMBER(NUMBER_OF) };
}

/* What optimise does with one optimiser, name_step, in line in the loop, `each`; is_bounded: whether
   the new weights stay within `b`. */
#define UPDATE_EACH(each, name, is_bounded, b)                                   \
    each(int64_t i = from; i < to; i += VL) {                                    \
        real *to_w = (real *)packed + i;                                         \
        const V w = v_load(to_w);                                                \
        const V g = v_load((const real *)grad + i) * scale + coupled * w;        \
        const V next = w - name##_step(&h, &n, g, w, (real *)slots + i, stride); \
        v_store(to_w, is_bounded ? v_within(b, i, next) : next);                 \
    }

/* One update of [from, to) of the packed vector.  slots: the optimiser's vectors, `stride` reals
   apart; decays: whether weight decay is for this slice; l2: of its rule; is_bounded: whether the new
   weights stay within `b`.  hyper and of are copied, so that what the loop stores cannot change
   them. */
INLINE void optimise_slice(const bptt_hyper *hyper, const update *of, int decays, double l2,
                           int is_bounded, const bounds *b, void *packed, const void *grad,
                           void *slots, int64_t stride, int64_t from, int64_t to) {
    bptt_hyper h = *hyper;
    const update u = *of;
    if (!decays) h.weight_decay = 0;
    real shrink = u.decoupled ? 0 : (real)h.weight_decay;
    if (l2 > 0) shrink += (real)l2;
    const V coupled = v_set(shrink);
    const V scale = v_set(u.needs_preprocessing ? 1 : (real)u.scale);
    switch (u.kind) {
#define OPTIMIZER(name, ...)                  \
    case OPTIMIZER_##name: {                  \
        const numbers n = numbers_of(&h, &u); \
        UPDATE_EACH(for, name, is_bounded, b) \
        break;                                \
    }
#include "optimizers.def"
    }
}
static void NAME(optimise)(const bptt_hyper *h, const update *u, int decays, double l2,
                           void *packed, const void *grad, void *slots, int64_t stride,
                           int64_t from, int64_t to) {
    optimise_slice(h, u, decays, l2, 0, NULL, packed, grad, slots, stride, from, to);
}
static void NAME(optimise_within)(const bounds *b, const bptt_hyper *h, const update *u, int decays,
                                  void *packed, const void *grad, void *slots, int64_t stride,
                                  int64_t from, int64_t to) {
    optimise_slice(h, u, decays, 0, 1, b, packed, grad, slots, stride, from, to);
}

#if BY_ROWS
/* -- copies of a network, one in each lane: weights, gradients and slots (P, VL) -- */

/* 1: every copy's number is below the limit. */
static int NAME(are_below)(const void *bound, double limit) {
    return all_below(v_load(bound), limit);
}

/* Lanes [first, last) of the numbers. */
static void NAME(set_numbers)(const bptt_hyper *h, const update *u, int64_t first, int64_t last,
                              void *to) {
    numbers *n = to;
    if (last - first == VL) {
        *n = numbers_of(h, u);
        return;
    }
    for (int64_t lane = first; lane < last; lane++) {
#define SET_NUMBER(name, value) n->name[lane] = (real)(value);
        EACH_NUMBER(SET_NUMBER)
    }
}

/* As optimise, but with numbers for each copy (set_numbers) and a scale of its gradient (VL).  What
   hyper and of say otherwise, they say of all copies. */
static void NAME(optimise_copies)(const bptt_hyper *hyper, const update *of, int decays,
                                  const void *given, const double *scales, void *packed, void *grad,
                                  void *slots, int64_t stride, int64_t from, int64_t to) {
    const bptt_hyper h = *hyper;
    numbers n = *(const numbers *)given;
    const real limit = (real)h.clip_value;
    V scale;
    for (int j = 0; j < VL; j++) scale[j] = (real)scales[j];
    if (!decays) n.decay = v_set(0);
    const V coupled = of->decoupled ? v_set(0) : n.decay;
    if (limit > 0) {
        for (int64_t i = from; i < to; i += VL)
            v_store((real *)grad + i, v_clip(v_load((real *)grad + i) * scale, limit));
        scale = v_set(1);
    }
    switch (of->kind) {
#define OPTIMIZER(name, ...)                                     \
    case OPTIMIZER_##name: {                                     \
        UPDATE_EACH(UNROLL_4_FOR, name, 0, (const bounds *)NULL) \
        break;                                                   \
    }
#include "optimizers.def"
    }
}

/* The squared norm of each copy's vector, in the order of norm2 for a single network, whose packed
   vector has `lanes` lanes: there parameter order[i] lies at place i; -1: padding. */
static void NAME(norm2_of_copies)(const void *vector, const int64_t *order, int64_t size,
                                  int64_t lanes, double *norm2) {
    V sum[4][64 / sizeof(real)] = { 0 }, total = v_set(0);
    const int64_t whole = size / (4 * lanes) * (4 * lanes);
    for (int64_t i = 0; i < size; i++) {
        if (order[i] < 0) continue;
        const V v = v_load((const real *)vector + order[i] * VL);
        sum[i < whole ? i / lanes % 4 : 0][i % lanes] += v * v;
    }
    for (int64_t j = 0; j < lanes; j++) total += (sum[0][j] + sum[1][j]) + (sum[2][j] + sum[3][j]);
    for (int j = 0; j < VL; j++) norm2[j] = total[j];
}
#endif

/* A number of the standard normal distribution (Box and Muller), a function of key and index; its
   magnitude is below 8.6. */
INLINE double normal(uint64_t key, uint64_t index) {
    const uint64_t a = hash64(key + hash64(index + 0x9e3779b97f4a7c15u));
    const uint64_t b = hash64(a + 0x9e3779b97f4a7c15u);
    const double u = ((double)(a >> 11) + 1) * 0x1p-53;
    const double v = (double)(b >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586477 * v);
}
/* What an update does to the gradient of one block before the optimiser sees it, in [from, to) of
   the packed vector: the scale of clip_norm, the clip by value, and noise keyed by the parameter's
   place in the flat vector. */
static void NAME(clip_and_add_noise)(const bptt_hyper *h, const update *u, const matrix *m,
                                     void *grad, int64_t from, int64_t to) {
    const real scale = (real)u->scale, limit = (real)h->clip_value;
    for (int64_t i = from; i < to; i += VL) {
        const V g = v_load((real *)grad + i) * scale;
        v_store((real *)grad + i, limit > 0 ? v_clip(g, limit) : g);
    }
    if (u->noise <= 0) return;
    for (int64_t v = 0; v < m->vectors; v++) {
        const int64_t ub = v / m->gates, gate = v % m->gates;
        const int64_t units = min64(CL, m->units - ub * CL);
        int64_t stride;
        real *g = packed_row(m, grad, ub, gate, &stride);
        for (int64_t c = 0; c < m->cols; c++, g += stride) {
            const int64_t offset = g - (real *)grad;
            if (offset < from || offset >= to) continue;
            for (int64_t j = 0; j < units; j++) {
                const int64_t row = gate * m->units + ub * CL + j;
                const uint64_t place = (uint64_t)(m->flat + row * m->cols + c);
                g[j] += (real)(u->noise * normal(u->key, place));
            }
        }
    }
}
