/* copies.h: the products of a pattern of the online algorithm where a vector holds one unit of VL
   copies of a network, each with weights of its own: what rows.h is for a single network, under the
   same names.  Each copy's sums are those of the single network, in the same order.  Weights and
   gradients lie in the caller's order, (P, VL).  pattern.h calls these. */

/* The sums that one pass over the inputs makes, as many as the registers hold. */
enum { SUMS = TILE > 12 ? 4 : 2 };
/* The units whose gradients are summed together. */
enum { UNITS = 8 };

/* sum[r] = the sum of x[j] w_r[j] over n, for `sums` sums whose weights lie `apart` reals from each
   other: as in row_product four parts, j modulo 4, the first of which takes what is left of n.
   few: all products are in that one. */
INLINE void sum_products(const int sums, const int few, int64_t n, const real *x, int64_t x_step,
                         const real *w, int64_t w_step, int64_t apart, V sum[]) {
    V part[SUMS][4];
    int64_t j = 0;
    UNROLL_FOR (int r = 0; r < sums; r++)
        UNROLL_FOR (int q = 0; q < 4; q++) part[r][q] = v_set(0);
    for (; j + 4 <= n; j += 4, x += 4 * x_step, w += 4 * w_step)
        UNROLL_FOR (int q = 0; q < 4; q++) {
            const V v = v_load(x + q * x_step);
            UNROLL_FOR (int r = 0; r < sums; r++)
                part[r][q] = v_fma(v, v_load(w + q * w_step + r * apart), part[r][q]);
        }
    for (; j < n; j++, x += x_step, w += w_step) {
        const V v = v_load(x);
        UNROLL_FOR (int r = 0; r < sums; r++)
            part[r][0] = v_fma(v, v_load(w + r * apart), part[r][0]);
    }
    UNROLL_FOR (int r = 0; r < sums; r++)
        sum[r] = few ? part[r][0] : (part[r][0] + part[r][1]) + (part[r][2] + part[r][3]);
}

/* out[r] = b[r] + x W', of `rows` rows of a matrix, W being the first of them. */
INLINE void units_product(int64_t rows, int64_t K, const real *x, const real *w, const real *b,
                          real *out) {
    int64_t u = 0;
    V sum[SUMS];
    for (; u + SUMS <= rows; u += SUMS) {
        sum_products(SUMS, 0, K, x, VL, w + u * K * VL, VL, K * VL, sum);
        UNROLL_FOR (int r = 0; r < SUMS; r++)
            v_store(out + (u + r) * VL, v_load(b + (u + r) * VL) + sum[r]);
    }
    for (; u < rows; u++) {
        sum_products(1, 0, K, x, VL, w + u * K * VL, VL, 0, sum);
        v_store(out + u * VL, v_load(b + u * VL) + sum[0]);
    }
}

/* out[c] = dz W, of `columns` columns from c on.  The columns are read where they are:
   m->transposed are the weights themselves. */
INLINE void columns_product(const matrix *m, const real *dz, int64_t c, int64_t columns,
                            real *out) {
    const real *w = (const real *)m->transposed + c * VL;
    int64_t i = 0;
    V sum[SUMS];
    for (; i + SUMS <= columns; i += SUMS) {
        sum_products(SUMS, 0, m->units, dz, VL, w + i * VL, m->K * VL, VL, sum);
        UNROLL_FOR (int r = 0; r < SUMS; r++) v_store(out + (i + r) * VL, v_set(0) + sum[r]);
    }
    for (int64_t left = columns % SUMS; left > 0; left--, i++) {
        sum_products(1, 0, m->units, dz, VL, w + i * VL, m->K * VL, 0, sum);
        v_store(out + i * VL, v_set(0) + sum[0]);
    }
}

/* y = x W' + b of one step;  few, as sum_products. */
INLINE void forward_step(const int few, int64_t units, int64_t K, const real *x, const real *w,
                         const real *b, real *y) {
    UNROLL_4_FOR (int64_t u = 0; u < units; u++) {
        V sum[1];
        sum_products(1, few, K, x, VL, w + u * K * VL, VL, 0, sum);
        v_store(y + u * VL, v_load(b + u * VL) + sum[0]);
    }
}

/* y[t] = x[t] W' + b;  inputs (steps, K), outputs (steps, units). */
INLINE void rows_forward(const matrix *m, const void *packed, const matrix *bias, int act,
                         const void *inputs, int64_t x_step, void *outputs, int64_t y_step,
                         int64_t steps) {
    const real *b = (const real *)packed + bias->flat * VL;
    const real *w = (const real *)packed + m->flat * VL;
    const real *x = inputs;
    real *y = outputs;
    (void)act;
    for (int64_t t = 0; t < steps; t++, x += x_step, y += y_step) {
        if (m->K == 1)
            forward_step(1, m->units, 1, x, w, b, y);
        else if (m->K < 4)
            forward_step(1, m->units, m->K, x, w, b, y);
        else
            forward_step(0, m->units, m->K, x, w, b, y);
    }
}

/* dx = dz W, of one step: dz (units), dx (K). */
INLINE void rows_backward(const matrix *m, const void *dz, int act, const void *a,
                          void *input_grads) {
    (void)act;
    (void)a;
    columns_product(m, dz, 0, m->K, input_grads);
}

/* A gradient into *to or, if there are rates, the weights there less rate times the gradient. */
INLINE void keep_sum(const V *rate, V sum, real *to) {
    v_store(to, rate ? v_fma(-*rate, sum, v_load(to)) : sum);
}

/* The gradients of the weights of some units, and of their biases: the sums over the steps of
   x[t] dz[t], and of dz[t].  to (units, K); either of the biases' may be NULL. */
INLINE void collect_units(const int units, int64_t K, const real *x, int64_t x_step, const real *dz,
                          int64_t z_step, int64_t steps, const V *rate, real *to, real *bias,
                          real *twin) {
    V sum[UNITS];
    for (int64_t c = 0; c < K; c++, x += VL, to += VL) {
        UNROLL_FOR (int u = 0; u < units; u++) sum[u] = v_set(0);
        for (int64_t t = 0; t < steps; t++) {
            const V v = v_load(x + t * x_step);
            UNROLL_FOR (int u = 0; u < units; u++) sum[u] += v * v_load(dz + t * z_step + u * VL);
        }
        UNROLL_FOR (int u = 0; u < units; u++) keep_sum(rate, sum[u], to + u * K * VL);
    }
    if (!bias) return;
    UNROLL_FOR (int u = 0; u < units; u++) sum[u] = v_set(0);
    for (int64_t t = 0; t < steps; t++)
        UNROLL_FOR (int u = 0; u < units; u++) sum[u] += v_load(dz + t * z_step + u * VL);
    UNROLL_FOR (int u = 0; u < units; u++) {
        keep_sum(rate, sum[u], bias + u * VL);
        if (twin) keep_sum(rate, sum[u], twin + u * VL);
    }
}

/* dW and the gradient of the bias and of its twin, either of which may be NULL, into `to`; with a
   rate for each copy, the step of sgd by them in the weights `to`.  inputs (steps, K), output_grads
   (steps, units). */
INLINE void rows_collect(const matrix *m, const matrix *bias, const matrix *twin,
                         const void *inputs, int64_t x_step, const void *output_grads,
                         int64_t z_step, int64_t steps, const V *rate, void *to) {
    const real *x = inputs, *dz = output_grads;
    real *dw = (real *)to + m->flat * VL;
    real *db = bias ? (real *)to + bias->flat * VL : NULL;
    real *db_twin = twin ? (real *)to + twin->flat * VL : NULL;
    int64_t u = 0;
#define COLLECT(n)                                                                              \
    for (; u + (n) <= m->units; u += (n))                                                       \
        collect_units(n, m->K, x, x_step, dz + u * VL, z_step, steps, rate, dw + u * m->K * VL, \
                      bias ? db + u * VL : NULL, twin ? db_twin + u * VL : NULL);
    COLLECT(UNITS)
    COLLECT(1)
#undef COLLECT
}

/* The sum of the squares of n vectors, in any order. */
INLINE V sum_squares(const real *v, int64_t n) {
    V sum[2] = { v_set(0), v_set(0) };
    int64_t i = 0;
    for (; i + 2 <= n; i += 2)
        UNROLL_FOR (int q = 0; q < 2; q++)
            sum[q] += v_load(v + (i + q) * VL) * v_load(v + (i + q) * VL);
    for (; i < n; i++) sum[0] += v_load(v + i * VL) * v_load(v + i * VL);
    return sum[0] + sum[1];
}
