/* rows.h: the products of a single sequence over a few steps, for the online algorithm.  With one
   row a field is a plain matrix (T, columns), so pointers and the distance of two steps are all
   there is to say.  online.c calls the functions with NAME, on its one thread. */

/* row_product of fewer than four inputs: all of them are in the first of its sums. */
INLINE void few_product(const int nv, int64_t K, const real *x, const real *w, V acc[][PANEL_MAX]) {
    V part[PANEL_MAX];
    UNROLL_FOR (int v = 0; v < nv; v++) part[v] = v_set(0);
    for (int64_t j = 0; j < K; j++) row_step(nv, 1, 0, x + j, w + j * nv * VL, part);
    UNROLL_FOR (int v = 0; v < nv; v++) acc[0][v] += part[v];
}

/* One panel of nv vectors: y[t] = act(x[t] W' + b). */
INLINE void row_forward_panel(const int nv, int64_t K, const real *x, int64_t x_step, const real *w,
                              const real *b, int act, real *y, int64_t y_step, int64_t steps) {
    for (int64_t t = 0; t < steps; t++, x += x_step, y += y_step) {
        V acc[1][PANEL_MAX];
        UNROLL_FOR (int v = 0; v < nv; v++) acc[0][v] = v_load(b + v * VL);
        if (K < 4)
            few_product(nv, K, x, w, acc);
        else
            row_product(nv, 1, 0, K, 1, x, VL, w, 0, acc);
        UNROLL_FOR (int v = 0; v < nv; v++) v_store(y + v * VL, acc[0][v]);
        if (act != ACT_LINEAR)
            for (int v = 0; v < nv; v++) v_store(y + v * VL, v_act(act, v_load(y + v * VL)));
    }
}

/* y[t] = act(x[t] W' + b);  inputs (steps, K), outputs (steps, units).  The form of these loops is
   measured: others cost the online algorithm with few units 3 to 4 % with AVX2. */
INLINE void rows_forward(const matrix *m, const void *packed, const matrix *bias, int act,
                         const void *inputs, int64_t x_step, void *outputs, int64_t y_step,
                         int64_t steps) {
    const real *x = inputs, *w = (const real *)packed + m->packed;
    const real *b = (const real *)packed + bias->packed;
    for (int64_t n = 0; n < m->vectors;
         n += m->width, w += m->width * VL * m->cols, b += m->width * VL) {
        real *out = (real *)outputs + n * VL;
        switch (min64(m->width, m->vectors - n)) {
        case 1: row_forward_panel(1, m->K, x, x_step, w, b, act, out, y_step, steps); break;
        case 2: row_forward_panel(2, m->K, x, x_step, w, b, act, out, y_step, steps); break;
        case 3: row_forward_panel(3, m->K, x, x_step, w, b, act, out, y_step, steps); break;
        case 4: row_forward_panel(4, m->K, x, x_step, w, b, act, out, y_step, steps); break;
        }
    }
}

static void NAME(row_forward)(const matrix *m, const void *packed, const matrix *bias, int act,
                              const void *inputs, int64_t x_step, void *outputs, int64_t y_step,
                              int64_t steps) {
    rows_forward(m, packed, bias, act, inputs, x_step, outputs, y_step, steps);
    const field x = { .p = (void *)inputs, .step = x_step, .block = CL };
    const field y = { .p = outputs, .step = y_step, .block = CL };
    const span at = { .t1 = steps, .r1 = 1 };
    if (m->choices) add_chosen_columns(m, packed, bias, &x, &y, &at);
}

/* dx = (dz W) . act'(a), of one step: dz (gates*units), a and dx (K).  a NULL: without act'. */
INLINE void rows_backward(const matrix *m, const void *dz, int act, const void *a,
                          void *input_grads) {
    const int64_t vectors = blocks_of(m->K);
    for (int64_t n = 0; n < vectors; n += 2) {
        const real *w = (const real *)m->transposed + n * VL * m->gates * m->units;
        real *dx = (real *)input_grads + n * VL;
        V acc[1][PANEL_MAX] = { { v_set(0), v_set(0) } };
        if (vectors - n >= 2)
            row_product(2, 1, 0, m->units, m->gates, dz, VL, w, 0, acc);
        else
            row_product(1, 1, 0, m->units, m->gates, dz, VL, w, 0, acc);
        for (int v = 0; v < min64(2, vectors - n); v++)
            v_store(dx + v * VL,
                    a ? acc[0][v] * v_dact(act, v_load((const real *)a + (n + v) * VL))
                      : acc[0][v]);
    }
}

static void NAME(row_backward)(const matrix *m, const void *dz, int act, const void *a,
                               void *input_grads) {
    rows_backward(m, dz, act, a, input_grads);
}

/* A tile of the weight gradient, mr columns of x by nv vectors of dz, as in tile_collect:
   grad = sum over the steps of x[t]' dz[t]. */
typedef void row_collector(const real *x, int64_t x_step, const real *dz, int64_t z_step,
                           int64_t steps, real *grad);
INLINE void rows_tile(const int mr, const int nv, const real *x, int64_t x_step, const real *dz,
                      int64_t z_step, int64_t steps, real *grad) {
    V acc[HEIGHT_MAX][PANEL_MAX];
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int v = 0; v < nv; v++) acc[i][v] = v_set(0);
    for (int64_t t = 0; t < steps; t++, x += x_step, dz += z_step) {
        V d[PANEL_MAX];
        UNROLL_FOR (int v = 0; v < nv; v++) d[v] = v_load(dz + v * VL);
        UNROLL_FOR (int i = 0; i < mr; i++)
            UNROLL_FOR (int v = 0; v < nv; v++) acc[i][v] += v_set(x[i]) * d[v];
    }
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int v = 0; v < nv; v++) v_store(grad + (i * nv + v) * VL, acc[i][v]);
}
#define ROW_COLLECTOR(mr, nv)                                                          \
    static void row_collect_##mr##x##nv(const real *x, int64_t x_step, const real *dz, \
                                        int64_t z_step, int64_t steps, real *grad) {   \
        rows_tile(mr, nv, x, x_step, dz, z_step, steps, grad);                         \
    }
EACH_SHAPE(ROW_COLLECTOR)
#define ROW_HIGH(nv) (TALL(nv) < 8 ? TALL(nv) : 8)
#define ROW_ENTRY(mr, nv) [nv][mr] = (mr) <= ROW_HIGH(nv) ? row_collect_##mr##x##nv : NULL,
static row_collector *const row_collectors[PANEL_MAX + 1][HEIGHT_MAX + 1] = { EACH_SHAPE(
    ROW_ENTRY) };

/* dW and the gradient of the bias and of its twin; either of these may be NULL.  inputs (steps, K),
   output_grads (steps, gates*units). */
INLINE void rows_collect(const matrix *m, const matrix *bias, const matrix *twin,
                         const void *inputs, int64_t x_step, const void *output_grads,
                         int64_t z_step, int64_t steps, void *grad) {
    const real *x = inputs;
    const real *dz = output_grads;
    real *g = (real *)grad + m->packed;
    for (int64_t n = 0; n < m->vectors;
         n += m->width, dz += m->width * VL, g += m->width * VL * m->cols) {
        const int64_t nv = min64(m->width, m->vectors - n);
        if (nv == 1 && m->K == 1) {
            rows_tile(1, 1, x, x_step, dz, z_step, steps, g);
            continue;
        }
        if (nv == 1 && __builtin_constant_p(m->K) && m->K <= ROW_HIGH(1)) {
            rows_tile((int)m->K, 1, x, x_step, dz, z_step, steps, g);
            continue;
        }
        for (int64_t i = 0, height; i < m->K; i += height) {
            height = tile_height(ROW_HIGH(nv), m->K - i);
            row_collectors[nv][height](x + i, x_step, dz, z_step, steps, g + i * nv * VL);
        }
    }
    for (int64_t n = 0; bias && n < bias->vectors; n++) {
        V sum = v_set(0);
        for (int64_t t = 0; t < steps; t++)
            sum += v_load((const real *)output_grads + t * z_step + n * VL);
        v_store((real *)grad + bias->packed + n * VL, sum);
        if (twin) v_store((real *)grad + twin->packed + n * VL, sum);
    }
}
static void NAME(row_collect)(const matrix *m, const matrix *bias, const matrix *twin,
                              const void *inputs, int64_t x_step, const void *output_grads,
                              int64_t z_step, int64_t steps, void *grad) {
    rows_collect(m, bias, twin, inputs, x_step, output_grads, z_step, steps, grad);
    const field x = { .p = (void *)inputs, .step = x_step, .block = CL };
    const field dz = { .p = (void *)output_grads, .step = z_step, .block = CL };
    const span at = { .t1 = steps, .r1 = 1 };
    if (m->choices) collect_chosen_columns(m, &x, &dz, grad, 0, &at, 0, 1);
}
