/* pattern.h: a pattern of the online algorithm in two functions, for a network of one layer of a cell
   with one gate and a linear g.  The mathematics is that of rows.h, scan.h and gemm.h; here the
   frame says what such a network lacks, and frequent sizes are constants, so that the compiler keeps
   only what is left.  cell.h includes it once per such cell; online.c calls the functions with NAME
   through the table of cells. */

/* The matrix, which has so many gates of `units` units, K columns and one group of them. */
INLINE matrix C(matrix_of)(const matrix *m, int64_t gates, int64_t units, int64_t K) {
    matrix sized = *m;
    sized.gates = gates;
    sized.units = units;
    sized.cols = sized.K = K;
    sized.column_groups = 1;
    sized.vectors = gates * blocks_of(units);
    sized.width = gates == 1 ? 2 : gates;
    return sized;
}

/* The field, which has a single row of so many vectors at each step. */
INLINE field C(single_row)(const field *f, int64_t vectors) {
    return (field){ .p = f->p, .step = vectors * VL, .block = VL, .row = VL };
}

/* The frame, which has H units, a single row, and nothing above or below it. */
INLINE frame C(single_frame)(const frame *of, const int64_t H) {
    const int64_t blocks = blocks_of(H);
    frame f = *of;
    f.H = f.R = H;
    f.reverse = f.phases = 0;
    f.hr.size = 0;
    f.mask.p = f.dy.p = NULL;
    if (C(G) *H * blocks * VBYTES <= ZIGZAG_BYTES) f.zigzag = 0;
    f.ih = C(matrix_of)(&of->ih, C(G), H, of->ih.K);
    f.hh = C(matrix_of)(&of->hh, C(G), H, H);
    f.b_ih = C(matrix_of)(&of->b_ih, C(G), H, 1);
    f.b_hh = C(matrix_of)(&of->b_hh, C(G), H, 1);
    f.zx = C(single_row)(&of->zx, C(G) *blocks);
    f.gate_values = C(single_row)(&of->gate_values, C(G) *blocks);
    f.dzx = C(single_row)(&of->dzx, C(G) *blocks);
    f.dzr = C(single_row)(&of->dzr, C(G) *blocks);
    f.saved = C(single_row)(&of->saved, SAVED * blocks);
    f.s = C(single_row)(&of->s, C(S) *blocks);
    f.ds = C(single_row)(&of->ds, C(S) *blocks);
    return f;
}

/* `steps` instances of f from the context. */
INLINE void C(unfold)(const frame *f, const pattern *p, int64_t steps) {
    rows_forward(&f->ih, f->packed, &f->b_ih, ACT_LINEAR, p->x, p->x_step, f->zx.p, f->zx.step,
                 steps);
    for (int64_t t = 0; t < steps; t++) {
        const row_part row = first_part(0, 1);
        const C(step) step = C(step_at)(f, t, &row);
        C(forward_single)(f, &step, t & 1);
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

/* Loss and gradient of a pattern: k instances of f, one g, and backward.  H units; outputs that take
   `vectors` vectors. */
INLINE void C(gradient_of_pattern)(const int64_t H, const int64_t vectors, const pattern *p) {
    const span one = { .t1 = 1, .r1 = 1 };
    const frame f = C(single_frame)(p->f, H);
    matrix w = C(matrix_of)(&p->g->w, 1, p->outputs, H);
    matrix b = C(matrix_of)(&p->g->b, 1, p->outputs, 1);
    w.vectors = b.vectors = vectors;
    C(unfold)(&f, p, p->k);
    rows_forward(&w, f.packed, &b, ACT_LINEAR, C(states)(&f, p->k), 0, p->y->p, 0, 1);
    *p->loss = 0;
    NAME(loss)(p->loss_desc, p->source, p->outputs, p->y, &one, p->loss, 1);
    for (int64_t q = 0; q < f.ds.step; q += VL) v_store((real *)f.ds.p + q, v_set(0));
    rows_backward(&w, p->y->p, ACT_LINEAR, NULL, f.ds.p);
    for (int64_t t = p->k - 1; t >= 0; t--) {
        const row_part row = first_part(0, 1);
        const C(step) step = C(step_at)(&f, t, &row);
        C(backward_single)(&f, &step, t & 1, t < p->k - 1, 0);
    }
    C(collect_pattern)(&f, &w, &b, p);
}

/* After the update: the transposed copies, and the context moves on by a step. */
INLINE void C(advance)(const int64_t H, const pattern *p) {
    const frame f = C(single_frame)(p->f, H);
    const matrix w = C(matrix_of)(&p->g->w, 1, p->outputs, H);
    C(unfold)(&f, p, 1);
    for (int64_t q = 0; q < f.s.step; q += VL)
        v_store(C(states)(&f, 0) + q, v_load(C(states)(&f, 1) + q));
    transpose_weights(&f.hh, f.packed, 0, 1);
    transpose_weights(&w, f.packed, 0, 1);
}

/* Sizes that are constants; each is a copy of the code. */
#define OF_SIZE(function, size, ...)             \
    if (p->f->H == (size) && p->outputs <= VL) { \
        C(function)(size, __VA_ARGS__);          \
        return;                                  \
    }
static void C(NAME(gradient_of_pattern))(const pattern *p) {
    OF_SIZE(gradient_of_pattern, 8, 1, p)
    OF_SIZE(gradient_of_pattern, 16, 1, p)
    C(gradient_of_pattern)(p->f->H, blocks_of(p->outputs), p);
}
static void C(NAME(advance))(const pattern *p) {
    OF_SIZE(advance, 8, p)
    OF_SIZE(advance, 16, p)
    C(advance)(p->f->H, p);
}
#undef OF_SIZE
