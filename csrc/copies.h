/* copies.h: the products of a pattern of the online algorithm where a vector holds one unit of VL
   copies of a network, each with weights of its own: what rows.h is for a single network, under the
   same names.  Each copy's sums are those of the single network, in the same order.  Weights and
   gradients lie in the caller's order, (P, VL).  pattern.h calls these. */

/* part[q] += x[j] w[j], j modulo 4 being q, as in row_product; what is left of n goes into
   part[0]. */
INLINE void add_products(int64_t n, const real *x, int64_t x_apart, const real *w, int64_t w_apart,
                         V part[4]) {
    int64_t j = 0;
    for (; j + 4 <= n; j += 4)
        UNROLL_FOR (int q = 0; q < 4; q++)
            part[q] = v_fma(v_load(x + (j + q) * x_apart), v_load(w + (j + q) * w_apart), part[q]);
    for (; j < n; j++) part[0] = v_fma(v_load(x + j * x_apart), v_load(w + j * w_apart), part[0]);
}

/* The sum of x[j] w[j] over n. */
INLINE V copies_product(int64_t n, const real *x, int64_t x_apart, const real *w, int64_t w_apart) {
    V part[4] = { v_set(0), v_set(0), v_set(0), v_set(0) };
    add_products(n, x, x_apart, w, w_apart, part);
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* The sum of dz w over the rows of a matrix, of its column c.  The columns are read where they are:
   m->transposed are the weights themselves. */
INLINE V copies_product_back(const matrix *m, const real *dz, int64_t c) {
    const real *w = (const real *)m->transposed + c * VL;
    V part[4] = { v_set(0), v_set(0), v_set(0), v_set(0) };
    for (int64_t u = 0; u < m->units; u += VL)
        for (int64_t g = 0; g < m->gates; g++)
            add_products(min64(VL, m->units - u), dz + (u * m->gates + g) * VL, m->gates * VL,
                         w + (g * m->units + u) * m->K * VL, m->K * VL, part);
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* y[t] = x[t] W' + b;  inputs (steps, K), outputs (steps, units, gates). */
INLINE void rows_forward(const matrix *m, const void *packed, const matrix *bias, int act,
                         const void *inputs, int64_t x_step, void *outputs, int64_t y_step,
                         int64_t steps) {
    const real *b = (const real *)packed + bias->flat * VL;
    (void)act;
    for (int64_t u = 0; u < m->units; u++)
        for (int64_t g = 0; g < m->gates; g++) {
            const int64_t row = g * m->units + u;
            const real *w = (const real *)packed + (m->flat + row * m->K) * VL;
            const real *x = inputs;
            real *y = (real *)outputs + (u * m->gates + g) * VL;
            for (int64_t t = 0; t < steps; t++, x += x_step, y += y_step) {
                V part[4] = { v_set(0) };
                add_products(m->K, x, VL, w, VL, part);
                if (m->K >= 4) part[0] = (part[0] + part[1]) + (part[2] + part[3]);
                v_store(y, v_load(b + row * VL) + part[0]);
            }
        }
}

/* dx = dz W, of one step: dz (units, gates), dx (K). */
INLINE void rows_backward(const matrix *m, const void *dz, int act, const void *a,
                          void *input_grads) {
    (void)act;
    (void)a;
    for (int64_t c = 0; c < m->K; c++)
        v_store((real *)input_grads + c * VL, v_set(0) + copies_product_back(m, dz, c));
}

/* The gradients of `columns` weights of a row: the sum over the steps of x[t] dz[t]. */
INLINE void collect_columns(const int columns, const real *x, int64_t x_step, const real *dz,
                            int64_t z_step, int64_t steps, real *grad) {
    V acc[8];
    UNROLL_FOR (int i = 0; i < columns; i++) acc[i] = v_set(0);
    for (int64_t t = 0; t < steps; t++, x += x_step, dz += z_step) {
        const V d = v_load(dz);
        UNROLL_FOR (int i = 0; i < columns; i++) acc[i] += v_load(x + i * VL) * d;
    }
    UNROLL_FOR (int i = 0; i < columns; i++) v_store(grad + i * VL, acc[i]);
}

/* dW and the gradient of the bias and of its twin; either of these may be NULL.  inputs (steps, K),
   output_grads (steps, units, gates). */
INLINE void rows_collect(const matrix *m, const matrix *bias, const matrix *twin,
                         const void *inputs, int64_t x_step, const void *output_grads,
                         int64_t z_step, int64_t steps, void *grad) {
    const real *x = inputs;
    for (int64_t u = 0; u < m->units; u++)
        for (int64_t g = 0; g < m->gates; g++) {
            const int64_t row = g * m->units + u;
            const real *dz = (const real *)output_grads + (u * m->gates + g) * VL;
            real *dw = (real *)grad + (m->flat + row * m->K) * VL;
            int64_t c = 0;
            for (; c + 8 <= m->K; c += 8)
                collect_columns(8, x + c * VL, x_step, dz, z_step, steps, dw + c * VL);
            for (; c < m->K; c++)
                collect_columns(1, x + c * VL, x_step, dz, z_step, steps, dw + c * VL);
            if (!bias) continue;
            V sum = v_set(0);
            for (int64_t t = 0; t < steps; t++) sum += v_load(dz + t * z_step);
            v_store((real *)grad + (bias->flat + row) * VL, sum);
            if (twin) v_store((real *)grad + (twin->flat + row) * VL, sum);
        }
}
