/* pattern.h: a pattern of the online algorithm in two functions, for a network of one layer and a
   linear g: of a single one, of a cell with one gate, or BY_ROWS of copies, each with weights of its
   own, that lie in the rows of a vector.  The mathematics is that of rows.h (of copies copies.h),
   scan.h and gemm.h; here the frame says what such a network lacks, and frequent sizes are constants,
   so that the compiler keeps only what is left.  cell.h includes it once per such cell; online.c and
   copies.c call the functions with NAME through the table of cells. */

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
        for (; u + 4 <= units; u += 4) C(forward_tile)(4, f, step, 0, 1, ub + u, zr + u * VL);
        for (; u < units; u++) C(forward_tile)(1, f, step, 0, 1, ub + u, zr + u * VL);
    }
}

/* Backward: the same.  next: the gradient of a step after it reaches this one. */
INLINE void C(backward_copies)(const frame *f, const C(step) *step, int next) {
    for (int64_t ub = 0, units; ub < f->H; ub += units) {
        real dh[C(AT_ONCE) *VL];
        units = min64(C(AT_ONCE), f->H - ub);
        if (next) columns_product(&f->hh, step->below, ub, units, dh);
        for (int64_t u = 0; u < units; u++)
            C(backward_tile)(1, f, step, 0, 1, ub + u, next ? dh + u * VL : NULL, next, 0);
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

/* The gradients of all weights. */
INLINE void C(collect_pattern)(const frame *f, const matrix *w, const matrix *b, const pattern *p) {
    const matrix *const twin = SEPARATE_DZR ? NULL : &f->b_hh;
    rows_collect(w, b, NULL, C(states)(f, p->k), 0, p->y->p, 0, 1, p->grad);
    rows_collect(&f->ih, &f->b_ih, twin, p->x, p->x_step, f->dzx.p, f->dzx.step, p->k, p->grad);
    rows_collect(&f->hh, SEPARATE_DZR ? &f->b_hh : NULL, NULL, f->s.p, f->s.step, f->dzr.p,
                 f->dzr.step, p->k, p->grad);
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

/* Loss and gradient of a pattern: k instances of f, one g, and backward.  H units; outputs that take
   `vectors` vectors. */
INLINE void C(gradient_of_pattern)(const int64_t H, const int act, const int64_t vectors,
                                   const pattern *p) {
    const frame f = C(single_frame)(p->f, H, act);
    matrix w = C(matrix_of)(&f, &p->g->w, 1, p->outputs, H);
    matrix b = C(matrix_of)(&f, &p->g->b, 1, p->outputs, 1);
    w.vectors = b.vectors = vectors;
    C(unfold)(&f, p, p->k);
    rows_forward(&w, f.packed, &b, ACT_LINEAR, C(states)(&f, p->k), 0, p->y->p, 0, 1);
    C(loss_of_pattern)(p);
    for (int64_t q = 0; q < f.ds.step; q += VL) v_store((real *)f.ds.p + q, v_set(0));
    rows_backward(&w, p->y->p, ACT_LINEAR, NULL, f.ds.p);
    for (int64_t t = p->k - 1; t >= 0; t--) {
        const row_part row = first_part(0, RL);
        const C(step) step = C(step_at)(&f, t, &row);
        C(pattern_backward)(&f, &step, t & 1, t < p->k - 1);
    }
    C(collect_pattern)(&f, &w, &b, p);
#if BY_ROWS
    v_store(p->bound, C(bound_of_gradient)(&f, p));
#endif
}

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

/* Sizes, and of copies tanh, that are constants; each is a copy of the code. */
#define OF_SIZE(function, size, ...)                                                    \
    if (p->f->H == (size) && p->outputs <= CL && (!BY_ROWS || p->f->act == ACT_TANH)) { \
        C(function)(size, BY_ROWS ? ACT_TANH : p->f->act, __VA_ARGS__);                 \
        return;                                                                         \
    }
static void C(NAME(gradient_of_pattern))(const pattern *p) {
    OF_SIZE(gradient_of_pattern, 8, 1, p)
    OF_SIZE(gradient_of_pattern, 16, 1, p)
    C(gradient_of_pattern)(p->f->H, p->f->act, blocks_of(p->outputs), p);
}
static void C(NAME(advance))(const pattern *p) {
    OF_SIZE(advance, 8, p)
    OF_SIZE(advance, 16, p)
    C(advance)(p->f->H, p->f->act, p);
}
#undef OF_SIZE
