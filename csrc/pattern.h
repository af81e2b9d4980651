/* pattern.h: a pattern of the online algorithm in two functions, the first of which may also take a
   plain step of sgd and what follows it, for a network of one layer and a linear g: of a single one, of
   a cell with one gate, or BY_ROWS of copies, each with weights of its own, that lie in the rows of a
   vector.  The mathematics is that of rows.h (of copies copies.h), scan.h and gemm.h; here the frame
   says what such a network lacks, and frequent sizes are constants, so that the compiler keeps only
   what is left.  cell.h includes it once per such cell; online.c and copies.c call the functions with
   NAME through the table of cells. */

/* The matrix, which has so many gates of `units` units, K columns and one group of them. */
INLINE matrix C(matrix_of)(const frame *f, const matrix *m, int64_t gates, int64_t units,
                           int64_t K) {
    matrix sized = *m;
    sized.gates = gates;
    sized.units = units;
    sized.cols = sized.K = sized.last = K;
    sized.column_groups = 1;
    sized.vectors = gates * blocks_of(units);
    sized.width = gates == 1 ? 2 : gates;
    if (BY_ROWS) sized.transposed = (real *)f->packed + m->flat * VL;
    return sized;
}

/* The field, which has one row (of copies one vector of rows) of so many vectors at each step. */
INLINE field C(single_row)(const field *f, int64_t vectors) {
    return (field){ .p = f->p, .step = vectors * VL, .block = VL, .row = CL };
}

/* The frame, which has H units, a single row, and nothing above or below it. */
INLINE frame C(single_frame)(const frame *of, const int64_t H, const int act) {
    const int64_t blocks = blocks_of(H);
    frame f = *of;
    f.H = f.R = H;
    f.act = act;
    f.reverse = f.phases = 0;
    f.hr.size = 0;
    f.mask.p = f.dy.p = NULL;
    if (C(G) *H * blocks * VBYTES <= ZIGZAG_BYTES) f.zigzag = 0;
    f.ih = C(matrix_of)(of, &of->ih, C(G), H, of->ih.K);
    f.hh = C(matrix_of)(of, &of->hh, C(G), H, H);
    f.b_ih = C(matrix_of)(of, &of->b_ih, C(G), H, 1);
    f.b_hh = C(matrix_of)(of, &of->b_hh, C(G), H, 1);
    f.zx = C(single_row)(&of->zx, C(G) *blocks);
    f.gate_values = C(single_row)(&of->gate_values, C(G) *blocks);
    f.dzx = C(single_row)(&of->dzx, C(G) *blocks);
    f.dzr = C(single_row)(&of->dzr, C(G) *blocks);
    f.saved = C(single_row)(&of->saved, SAVED * blocks);
    f.s = C(single_row)(&of->s, C(S) *blocks);
    f.ds = C(single_row)(&of->ds, C(S) *blocks);
    return f;
}

#if BY_ROWS
/* The units whose products are computed before the cell goes through them. */
enum { C(AT_ONCE) = 8 };

/* Forward: all units of one step, each copy with its own weights. */
INLINE void C(forward_copies)(const frame *f, const C(step) *step) {
    const real *w = (const real *)f->packed + f->hh.flat * VL;
    const real *bias = (const real *)f->packed + f->b_hh.flat * VL;
    for (int64_t ub = 0, units; ub < f->H; ub += units) {
        real zr[C(AT_ONCE) *VL]; /* its address is given to nobody */
        units = min64(C(AT_ONCE), f->H - ub);
        units_product(units, f->H, step->h_prev, w + ub * f->H * VL, bias + ub * VL, zr);
        int64_t u = 0;
        for (; u + 4 <= units; u += 4) C(forward_tile)(4, f, step, 0, 1, ub + u, zr + u * VL, 0);
        for (; u < units; u++) C(forward_tile)(1, f, step, 0, 1, ub + u, zr + u * VL, 0);
    }
}

/* Backward: the same.  next: the gradient of a step after it reaches this one. */
INLINE void C(backward_copies)(const frame *f, const C(step) *step, int next) {
    for (int64_t ub = 0, units; ub < f->H; ub += units) {
        real dh[C(AT_ONCE) *VL];
        units = min64(C(AT_ONCE), f->H - ub);
        if (next) columns_product(&f->hh, step->below, ub, units, dh);
        for (int64_t u = 0; u < units; u++)
            C(backward_tile)(1, f, step, 0, 1, ub + u, next ? dh + u * VL : NULL, 0, next, 0);
    }
}
#endif

/* One step: its product for each copy or for the single row, and the cell. */
INLINE void C(pattern_forward)(const frame *f, const C(step) *step, int descending) {
#if BY_ROWS
    (void)descending;
    C(forward_copies)(f, step);
#else
    C(forward_single)(f, step, descending);
#endif
}
INLINE void C(pattern_backward)(const frame *f, const C(step) *step, int descending, int next) {
#if BY_ROWS
    (void)descending;
    C(backward_copies)(f, step, next);
#else
    C(backward_single)(f, step, descending, next, 0);
#endif
}

/* `steps` instances of f from the context. */
INLINE void C(unfold)(const frame *f, const pattern *p, int64_t steps) {
    rows_forward(&f->ih, f->packed, &f->b_ih, ACT_LINEAR, p->x, p->x_step, f->zx.p, f->zx.step,
                 steps);
    for (int64_t t = 0; t < steps; t++) {
        const row_part row = first_part(0, RL);
        const C(step) step = C(step_at)(f, t, &row);
        C(pattern_forward)(f, &step, t & 1);
    }
}

/* The states before step t. */
INLINE real *C(states)(const frame *f, int64_t t) { return (real *)f->s.p + t * f->s.step; }

/* The gradients of all weights; of copies with rates, the step of sgd by them. */
INLINE void C(collect_pattern)(const frame *f, const matrix *w, const matrix *b, const pattern *p,
                               const V *rate) {
    const matrix *const twin = SEPARATE_DZR ? NULL : &f->b_hh, *const bias = twin ? NULL : &f->b_hh;
#if BY_ROWS
#define COLLECT(...) rows_collect(__VA_ARGS__, rate, rate ? (void *)f->packed : p->grad)
#else
#define COLLECT(...) rows_collect(__VA_ARGS__, p->grad)
    (void)rate;
#endif
    COLLECT(w, b, NULL, C(states)(f, p->k), 0, p->y->p, 0, 1);
    COLLECT(&f->ih, &f->b_ih, twin, p->x, p->x_step, f->dzx.p, f->dzx.step, p->k);
    COLLECT(&f->hh, bias, NULL, f->s.p, f->s.step, f->dzr.p, f->dzr.step, p->k);
#undef COLLECT
}

/* Its loss, and dLoss/dy in place of the outputs. */
INLINE void C(loss_of_pattern)(const pattern *p) {
#if BY_ROWS
    NAME(loss_of_copies)(p->loss_desc, p->source, p->outputs, p->y, p->loss);
#else
    const span one = { .t1 = 1, .r1 = 1 };
    *p->loss = 0;
    NAME(loss)(p->loss_desc, p->source, p->outputs, p->y, &one, p->loss, 1);
#endif
}

#if BY_ROWS
/* A bound of the squared norm of each copy's gradient, as |sum of dz x'| <= |dz| |x|; NaN where the
   loss is not finite. */
INLINE V C(bound_of_gradient)(const frame *f, const pattern *p) {
    V dz = v_set(0), x = v_set(2 * (real)p->k);
    real zero[VL];
    for (int r = 0; r < VL; r++) zero[r] = (real)(0 * p->loss[r]);
    for (int64_t t = 0; t < p->k; t++) {
        dz += sum_squares((const real *)f->dzx.p + t * f->dzx.step, C(G) *f->H);
        if (SEPARATE_DZR) dz += sum_squares((const real *)f->dzr.p + t * f->dzr.step, C(G) *f->H);
        x += sum_squares(C(states)(f, t), f->H);
        x += sum_squares((const real *)p->x + t * p->x_step, f->ih.K);
    }
    const V dy = sum_squares(p->y->p, p->outputs), h = sum_squares(C(states)(f, p->k), f->H);
    return dz * x + dy * (1 + h) + v_load(zero);
}
#endif

#if !BY_ROWS
/* The update by a finite and small gradient.  0: it is another one, or not that simple. */
INLINE int C(take_step)(const frame *f, const pattern *p) {
    return p->small > 0 && isfinite(*p->loss) &&
        take_small_step(p->rate, p->small, (real *)f->packed, p->grad, p->size);
}
#endif

/* After the update: the transposed copies, and the context moves on by a step. */
INLINE void C(advance)(const int64_t H, const int act, const pattern *p) {
    const frame f = C(single_frame)(p->f, H, act);
    const matrix w = C(matrix_of)(&f, &p->g->w, 1, p->outputs, H);
    C(unfold)(&f, p, 1);
    for (int64_t q = 0; q < f.s.step; q += VL)
        v_store(C(states)(&f, 0) + q, v_load(C(states)(&f, 1) + q));
    if (BY_ROWS) return;
    transpose_weights(&f.hh, f.packed, 0, 1);
    transpose_weights(&w, f.packed, 0, 1);
}

/* Loss and gradient of a pattern: k instances of f, one g, and backward; 1: and the update.  H units;
   outputs that take `vectors` vectors. */
INLINE int C(gradient_of_pattern)(const int64_t H, const int act, const int64_t vectors,
                                  const pattern *p) {
    const frame f = C(single_frame)(p->f, H, act);
    matrix w = C(matrix_of)(&f, &p->g->w, 1, p->outputs, H);
    matrix b = C(matrix_of)(&f, &p->g->b, 1, p->outputs, 1);
    w.vectors = b.vectors = vectors;
    C(unfold)(&f, p, p->k);
    rows_forward(&w, f.packed, &b, ACT_LINEAR, C(states)(&f, p->k), 0, p->y->p, 0, 1);
    C(loss_of_pattern)(p);
    rows_backward(&w, p->y->p, ACT_LINEAR, NULL, f.ds.p); /* the first state is h */
    for (int64_t q = f.ds.step / C(S); q < f.ds.step; q += VL)
        v_store((real *)f.ds.p + q, v_set(0));
    for (int64_t t = p->k - 1; t >= 0; t--) {
        const row_part row = first_part(0, RL);
        const C(step) step = C(step_at)(&f, t, &row);
        C(pattern_backward)(&f, &step, t & 1, t < p->k - 1);
    }
#if BY_ROWS
    const V bound = C(bound_of_gradient)(&f, p);
    if (!(p->small > 0 && all_below(bound, p->small))) {
        C(collect_pattern)(&f, &w, &b, p, NULL);
        v_store(p->bound, bound);
        return 0;
    }
    V rate;
    for (int j = 0; j < VL; j++) rate[j] = (real)p->rates[j];
    C(collect_pattern)(&f, &w, &b, p, &rate);
#else
    C(collect_pattern)(&f, &w, &b, p, NULL);
    if (!C(take_step)(&f, p)) return 0;
#endif
    return 1;
}

#if !BY_ROWS
/* -- the smallest networks: the units fill one vector, which stays in a register, and there is one
      output -- */

/* h W', w: a vector for each unit.  The sums are those of row_product, but the units are lanes of a
   register: reading what was just written takes long. */
INLINE V C(product_of_lanes)(V h, const real *w) {
    V part[4];
    UNROLL_FOR (int q = 0; q < 4; q++) part[q] = v_set(0);
    UNROLL_FOR (int j = 0; j < VL; j++)
        part[j % 4] = v_fma(v_lane(h, j), v_load(w + j * VL), part[j % 4]);
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* One step from the input projection that lies in zx and the product of the state and the weights;
   returns the new state. */
INLINE V C(forward_vector)(const frame *f, int64_t t, V product) {
    const row_part row = first_part(0, RL);
    const C(step) step = C(step_at)(f, t, &row);
    real zr[VL];
    v_store(zr, v_load(C(panel_bias)(f, 0)) + product);
    C(forward_tile)(1, f, &step, 0, 1, 0, zr, 0);
    return v_load(step.h);
}
INLINE void C(project_vector)(const frame *f, const pattern *p, int64_t steps) {
    rows_forward(&f->ih, f->packed, &f->b_ih, ACT_LINEAR, p->x, p->x_step, f->zx.p, f->zx.step,
                 steps);
}

/* Loss of the output in lane 0 of y, and dLoss/dy in the same lane.  A square needs no way through
   memory, and its slope, where nothing scales it, none through double: the difference of two reals,
   rounded to double and then to a real, is their difference rounded to a real. */
INLINE V C(loss_of_vector)(const pattern *p, V y) {
    const loss_desc *l = p->loss_desc;
    real *const out = p->y->p;
    v_store(out, y);
    if (l->loss->kind != LOSS_mse) {
        C(loss_of_pattern)(p);
        return v_load(out);
    }
    const int64_t row = target_row(l, p->source, 0, 0);
    const real *weights = p->source->weight, target = ((const real *)p->source->targets)[row];
    const double weight = weights ? (double)weights[row] : 1, factor = weight * l->scale;
    double slope;
    *p->loss = weight * mse_loss(NULL, y[0], target, &slope);
    const V e = y - v_set(target);
    const V dy = factor == 1 ? e + e : v_set((real)(slope * factor));
    out[0] = dy[0];
    return (V){ dy[0] };
}

/* Backward from dLoss/dh after the last step; returns dz of the first one. */
INLINE V C(backward_vector)(const frame *f, const pattern *p, V dh) {
    for (int64_t t = p->k - 1;; t--) {
        const row_part row = first_part(0, RL);
        const C(step) step = C(step_at)(f, t, &row);
        real gradient[VL];
        v_store(gradient, dh);
        C(backward_tile)(1, f, &step, 0, 1, 0, gradient, 0, 1, 0);
        const V dz = v_load(step.dzx);
        if (t == 0) return dz;
        dh = C(product_of_lanes)(dz, f->hh.transposed);
    }
}

/* 1: the squared norm of the gradient is surely below p->small.  It is at most the product of the
   sums of squares of x and dz. */
INLINE int C(is_small_vector)(const frame *f, const pattern *p, V dy) {
    const V context = v_load(C(states)(f, 0));
    V dz = dy * dy, x = v_set(2 * (real)p->k) + context * context;
    for (int64_t t = 0; t < p->k; t++) {
        const V d = v_load((const real *)f->dzx.p + t * f->dzx.step);
        const V h = v_load(C(states)(f, t + 1));
        dz += d * d;
        x += h * h;
        for (int64_t c = 0; c < f->ih.K; c++) {
            const V input = v_set(((const real *)p->x)[t * p->x_step + c]);
            x += input * input;
        }
    }
    return all_below(dz, p->small_part) && all_below(x, p->small_part);
}

/* A vector of weights less `by` times their gradient. */
INLINE void C(step_vector)(V by, V grad, real *w) { v_store(w, v_load(w) - by * grad); }

/* The same for a vector of each of `columns` columns.  Their gradients are sums over the steps as in
   rows_tile, of which `dz` is the first; they stay in registers. */
INLINE void C(step_columns)(const int columns, V by, const real *x, int64_t x_step, V dz,
                            const real *dz_after, int64_t z_step, int64_t steps, real *w) {
    V sum[HEIGHT_MAX];
    UNROLL_FOR (int i = 0; i < columns; i++) sum[i] = v_set(0) + v_set(x[i]) * dz;
    for (int64_t t = 1; t < steps; t++, dz_after += z_step) {
        const V d = v_load(dz_after);
        x += x_step;
        UNROLL_FOR (int i = 0; i < columns; i++) sum[i] += v_set(x[i]) * d;
    }
    UNROLL_FOR (int i = 0; i < columns; i++) C(step_vector)(by, sum[i], w + i * VL);
}

/* The update of all weights by the gradients of collect_pattern.  Returns the product of the context
   and the new recurrent weights: what follows waits for it. */
INLINE V C(update_vector)(const frame *f, const matrix *w, const matrix *b, const pattern *p, V dz,
                          V dy, V context) {
    const V by = v_set((real)p->rate);
    const int64_t z_step = f->dzx.step;
    const real *after = (const real *)f->dzx.p + z_step;
    real *packed = (real *)f->packed, *hh = packed + f->hh.packed;
    C(step_columns)(VL, by, f->s.p, f->s.step, dz, after, z_step, p->k, hh);
    const V product = C(product_of_lanes)(context, hh);
    V sum = v_set(0) + dz;
    for (int64_t t = 1; t < p->k; t++) sum += v_load(after + (t - 1) * z_step);
    C(step_vector)(by, sum, packed + f->b_ih.packed);
    C(step_vector)(by, sum, packed + f->b_hh.packed);
    for (int64_t c = 0; c < f->ih.K; c++)
        C(step_columns)(1, by, (const real *)p->x + c, p->x_step, dz, after, z_step, p->k,
                        packed + f->ih.packed + c * VL);
    C(step_columns)(VL, by, C(states)(f, p->k), 0, dy, NULL, 0, 1, packed + w->packed);
    C(step_vector)(by, dy, packed + b->packed);
    return product;
}

/* gradient_of_pattern, and perhaps the update. */
INLINE int C(train_vector)(const int act, const pattern *p) {
    const frame f = C(single_frame)(p->f, VL, act);
    const matrix w = C(matrix_of)(&f, &p->g->w, 1, 1, VL);
    const matrix b = C(matrix_of)(&f, &p->g->b, 1, 1, 1);
    const real *hh = C(panel)(&f, 0);
    const V context = v_load(C(states)(&f, 0));
    V h = context;
    C(project_vector)(&f, p, p->k);
    for (int64_t t = 0; t < p->k; t++) h = C(forward_vector)(&f, t, C(product_of_lanes)(h, hh));
    const V y = C(product_of_lanes)(h, (const real *)f.packed + w.packed);
    const V dy = C(loss_of_vector)(p, v_load((const real *)f.packed + b.packed) + y);
    const V dz = C(backward_vector)(&f, p, v_set(dy[0]) * v_load(w.transposed));
    if (!(isfinite(*p->loss) && C(is_small_vector)(&f, p, dy))) {
        C(collect_pattern)(&f, &w, &b, p, NULL);
        return 0;
    }
    const V product = C(update_vector)(&f, &w, &b, p, dz, dy, context);
    C(project_vector)(&f, p, 1);
    v_store(C(states)(&f, 0), C(forward_vector)(&f, 0, product));
    transpose_weights(&f.hh, f.packed, 0, 1);
    transpose_weights(&w, f.packed, 0, 1);
    return 1;
}
#endif

/* Sizes, and of copies tanh, that are constants; each is a copy of the code. */
#define IS_SIZE(size) p->f->H == (size) && p->outputs <= CL && (!BY_ROWS || p->f->act == ACT_TANH)
static NOINLINE void C(NAME(advance))(const pattern *p) {
    const int act = BY_ROWS ? ACT_TANH : p->f->act;
    if (IS_SIZE(8))
        C(advance)(8, act, p);
    else if (IS_SIZE(16))
        C(advance)(16, act, p);
    else
        C(advance)(p->f->H, p->f->act, p);
}
/* 1: update and advance have followed. */
static int C(NAME(gradient_of_pattern))(const pattern *p) {
    const int act = BY_ROWS ? ACT_TANH : p->f->act;
    int updated;
#if !BY_ROWS
    if (p->f->H == VL && p->outputs == 1 && p->f->act == ACT_TANH)
        return C(train_vector)(ACT_TANH, p);
#endif
    if (IS_SIZE(8))
        updated = C(gradient_of_pattern)(8, act, 1, p);
    else if (IS_SIZE(16))
        updated = C(gradient_of_pattern)(16, act, 1, p);
    else
        updated = C(gradient_of_pattern)(p->f->H, p->f->act, blocks_of(p->outputs), p);
    if (updated) C(NAME(advance))(p);
    return updated;
}
#undef IS_SIZE
