/* rules.h: what rules on parameters do to a slice of the packed vector: bounds, L1 and the group
   lasso.  update.c calls the functions with NAME through the table of kernels.  A parameter is fixed
   if its bounds are equal; padding is. */

/* Where a parameter is fixed. */
INLINE VI is_fixed(const bounds *b, int64_t i) {
    return v_load((const real *)b->low + i) == v_load((const real *)b->high + i);
}
/* Both bounds of fixed parameters become their present weights. */
static void NAME(hold)(const bounds *b, const void *packed, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i += VL) {
        const VI fixed = is_fixed(b, i);
        const V w = v_load((const real *)packed + i);
        v_store((real *)b->low + i, v_select(fixed, w, v_load((real *)b->low + i)));
        v_store((real *)b->high + i, v_select(fixed, w, v_load((real *)b->high + i)));
    }
}
/* The gradient of fixed parameters becomes zero. */
static void NAME(zero_fixed)(const bounds *b, void *grad, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i += VL) {
        real *g = (real *)grad + i;
        v_store(g, v_select(is_fixed(b, i), v_set(0), v_load(g)));
    }
}
/* The proximal map of threshold |w|: towards zero by `threshold`, and not past it. */
static void NAME(soft_threshold)(double threshold, void *packed, int64_t from, int64_t to) {
    const V t = v_set((real)threshold), zero = v_set(0);
    for (int64_t i = from; i < to; i += VL) {
        real *to_w = (real *)packed + i;
        const V w = v_load(to_w);
        v_store(to_w, v_max(w - t, zero) + v_min(w + t, zero));
    }
}
/* The nearest weights within the bounds, after `hold`: fixed ones get their bits back. */
static void NAME(project)(const bounds *b, void *packed, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i += VL) {
        real *w = (real *)packed + i;
        v_store(w, v_within(b, i, v_load(w)));
    }
}

/* The factor of a group's weights by the proximal map of threshold |group|, from the sum of their
   squares. */
INLINE double group_factor(double threshold, double square) {
    const double norm = sqrt(square);
    return norm > threshold ? 1 - threshold / norm : 0;
}
/* Adds the squares of the weights of one vector that are not fixed. */
INLINE void add_squares(const bounds *b, const real *packed, int64_t i, double *sum) {
    const real *low = (const real *)b->low + i, *high = (const real *)b->high + i;
    UNROLL_FOR (int j = 0; j < CL; j++) {
        const double w = low[j] == high[j] ? 0 : packed[i + j];
        sum[j] += w * w;
    }
}
/* The group lasso over the rows of a block, each thread for its share of the rows. */
static void NAME(shrink_rows)(const bounds *b, const matrix *m, double threshold, void *packed,
                              int64_t part, int64_t parts) {
    const int64_t last = share(m->vectors, part + 1, parts);
    for (int64_t v = share(m->vectors, part, parts); v < last; v++) {
        int64_t stride;
        real *w = packed_row(m, packed, v / m->gates, v % m->gates, &stride);
        const int64_t first = w - (real *)packed;
        double sum[CL] = { 0 };
        for (int64_t c = 0; c < m->cols; c++) add_squares(b, packed, first + c * stride, sum);
        UNROLL_FOR (int j = 0; j < CL; j++) sum[j] = group_factor(threshold, sum[j]);
        for (int64_t c = 0; c < m->cols; c++, w += stride)
            UNROLL_FOR (int j = 0; j < CL; j++) w[j] *= (real)sum[j];
    }
}
/* The same over its columns, in two calls, each thread for its share of the columns: first the sums
   of squares (cols), added to those of an earlier matrix of the same block. */
static void NAME(square_columns)(const bounds *b, const matrix *m, const void *packed,
                                 double *squares, int64_t part, int64_t parts) {
    const int64_t from = share(m->cols, part, parts), to = share(m->cols, part + 1, parts);
    for (int64_t c = from; c < to && m->flat == m->first; c++) squares[c] = 0;
    for (int64_t v = 0; v < m->vectors; v++) {
        int64_t stride;
        const real *w = packed_row(m, (void *)packed, v / m->gates, v % m->gates, &stride);
        const int64_t first = w - (const real *)packed;
        for (int64_t c = from; c < to; c++) {
            double sum[CL] = { 0 };
            add_squares(b, packed, first + c * stride, sum);
            UNROLL_FOR (int j = 0; j < CL; j++) squares[c] += sum[j];
        }
    }
}
static void NAME(shrink_columns)(const matrix *m, double threshold, const double *squares,
                                 void *packed, int64_t part, int64_t parts) {
    const int64_t from = share(m->cols, part, parts), to = share(m->cols, part + 1, parts);
    for (int64_t v = 0; v < m->vectors; v++) {
        int64_t stride;
        real *w = packed_row(m, packed, v / m->gates, v % m->gates, &stride);
        for (int64_t c = from; c < to; c++) {
            const real factor = (real)group_factor(threshold, squares[c]);
            UNROLL_FOR (int j = 0; j < CL; j++) w[c * stride + j] *= factor;
        }
    }
}
