/* optimizers.h: one update of a slice of the working vector, the formulas of PyTorch.  Padding is zero and stays zero. */
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
/* slots: the optimiser's vectors, `stride` reals apart */
static void NAME(optimise)(const update *u, void *work, const void *grad, void *slots, int64_t stride, int64_t from, int64_t to) {
    const real lr = (real)u->learning_rate, decay = (real)u->weight_decay, scale = (real)u->scale, momentum = (real)u->momentum;
    const real b1 = (real)u->beta1, b2 = (real)u->beta2, c1 = (real)(1 - u->beta1), c2 = (real)(1 - u->beta2), eps = (real)u->eps;
    const real size = (real)(u->learning_rate / u->correct1), root = (real)(1 / sqrt(u->correct2));
    for (int64_t i = from; i < to; i += VL) {
        real *w = (real *)work + i, *m = (real *)slots + i, *v = m + stride;
        V g = v_load((const real *)grad + i) * scale + decay * v_load(w), step;
        if (u->kind == OPT_ADAM) {
            const V mean = b1 * v_load(m) + c1 * g, square = b2 * v_load(v) + c2 * (g * g);
            v_store(m, mean), v_store(v, square);
            step = size * mean / (v_sqrt(square) * root + eps);
        } else if (momentum != 0) {
            const V mean = momentum * v_load(m) + g;
            v_store(m, mean);
            step = lr * (u->nesterov ? g + momentum * mean : mean);
        } else step = lr * g;
        v_store(w, v_load(w) - step);
    }
}
