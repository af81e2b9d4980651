/* scan.h: THE HOT LOOP, shared by every gated cell.  cell.h includes it once per cell.
   forward:   zr = h[t-1] W_hh' + b_hh ;  s[t], saved[t] = cell(zx[t], zr, s[t-1])            t upwards
   backward:  dh[t] = dy[t] + carried + dzr[t+1] W_hh ;  dzx[t], dzr[t], carried = cell'(...)   t downwards
   (a reverse direction runs both the other way).  cells.def explains GATES, STATES, GATE_VALUES and the others. */
enum {
    C(G) = GATES,
    C(S) = STATES,
    C(K) = GATE_VALUES + SAVED,
    C(WIDE) = GATES == 1 ? 2 : 1            /* units per panel, in vectors */
};

/* The chunks of one step, from its first row on. */
typedef struct {
    const real *h_prev, *s_prev, *zx, *below, *dy, *mask;   /* below: what the product in the backward pass reads */
    real *s, *h, *gate_values, *saved, *dzx, *dzr, *ds, clip;
    int back;
} C(step);
INLINE C(step) C(at)(const frame *f, int64_t t, int64_t r) {
    const int64_t back = f->reverse ? -1 : 1;
    real *s = (real *)f->s.p + r * VL;
    const field zx = inputs_at(f, t);
    return (C(step)){
        .s_prev = s + (t + f->reverse) * f->s.step, .s = s + (t + !f->reverse) * f->s.step,
        .h_prev = f->mask.p ? chunk(&f->masked, t + f->reverse, r, 0) : s + (t + f->reverse) * f->s.step,
        .h = f->hr.size ? chunk(&f->m, t, r, 0) : s + (t + !f->reverse) * f->s.step,
        .zx = chunk(&zx, t, r, 0), .gate_values = chunk(&f->gate_values, t, r, 0), .dzx = chunk(&f->dzx, t, r, 0),
        .dzr = (real *)f->dzr.p + t * f->dzr.step + r * VL,
        .below = f->hr.size ? chunk(&f->dh, t, r, 0) : (real *)f->dzr.p + (t + back) * f->dzr.step + r * VL,
        .saved = chunk(&f->saved, t, r, 0), .back = f->zigzag & (int)(t & 1),
        .ds = (real *)f->ds.p + r * VL, .dy = f->hr.size ? NULL : chunk(&f->dy, t, r, 0),
            .mask = f->hr.size ? NULL : chunk(&f->mask, 0, r, 0), .clip = f->hr.size ? 0 : (real)f->clip,
    };
}

/* The cell itself, on `rows` rows from row i on and `units` vectors of units from vector ub on; zr: (rows, units, G) vectors. */
INLINE void C(forward_tile)(const int units, const frame *f, const C(step) *at, int64_t i, int64_t rows, int64_t ub,
                            const real *zr) {
    enum { G = C(G), S = C(S), K = C(K) };
    const int64_t kind = blocks_of(f->R) * f->s.block;           /* from h to c */
    for (int64_t r = i * VL; r < (i + rows) * VL; r += VL)
        UNROLL_FOR (int u = 0; u < units; u++, zr += G * VL) {
            V zx[G], zh[G], s_prev[S], s[S], saved[K + 1], peep[PEEPHOLES + 1];
            const int64_t b = ub + u;
            UNROLL_FOR (int g = 0; g < G; g++) zx[g] = v_load(at->zx + (b * G + g) * f->zx.block + r), zh[g] = v_load(zr + g * VL);
            UNROLL_FOR (int q = 0; q < S; q++) s_prev[q] = v_load(at->s_prev + q * kind + b * f->s.block + r);
            UNROLL_FOR (int q = 0; q < PEEPHOLES; q++)
                peep[q] = v_load((const real *)f->packed + f->peep.packed + (b * PEEPHOLES + q) * VL);
            C(forward)(f->act, peep, zx, zh, s_prev, s, saved);
            v_store(at->h + b * f->s.block + r, s[0]);
            UNROLL_FOR (int q = 1; q < S; q++) v_store(at->s + q * kind + b * f->s.block + r, s[q]);
            if (!f->saved.p) continue;
            UNROLL_FOR (int q = 0; q < GATE_VALUES; q++) v_store(at->gate_values + (b * G + q) * f->gate_values.block + r, saved[q]);
            UNROLL_FOR (int q = GATE_VALUES; q < K; q++) v_store(at->saved + (b * (K - GATE_VALUES) + q - GATE_VALUES) * f->saved.block + r, saved[q]);
        }
}
/* dh (rows, units) vectors: dLoss/dh by way of the next step (next = 1), or with a projection dLoss/dm = dh W_hr; NULL: zeros.
   last: that is all there is to do (dLoss/ds0). */
INLINE void C(backward_tile)(const int units, const frame *f, const C(step) *at, int64_t i, int64_t rows, int64_t ub,
                             const real *dh, int next, int last) {
    enum { G = C(G), S = C(S), K = C(K) };
    const int64_t kind = blocks_of(f->R) * f->s.block, kind_ds = blocks_of(f->R) * f->ds.block;
    for (int64_t r = i * VL; r < (i + rows) * VL; r += VL)
        UNROLL_FOR (int u = 0; u < units; u++) {
            V ds[S], s_prev[S], s[S], saved[K + 1], dzx[G], dzr[G], peep[PEEPHOLES + 1];
            const int64_t b = ub + u;
            UNROLL_FOR (int q = 1; q < S; q++) ds[q] = v_load(at->ds + q * kind_ds + b * f->ds.block + r);
            ds[0] = dh ? v_load(dh + ((r / VL - i) * units + u) * VL) : v_set(0);
            if (at->mask) ds[0] *= v_load(at->mask + b * f->mask.block + r);
            if (!f->hr.size && (PASSES_STATE || !next)) ds[0] += v_load(at->ds + b * f->ds.block + r);
            if (!last) {
                if (at->dy) ds[0] += v_load(at->dy + b * f->dy.block + r);
                if (at->clip > 0) ds[0] = v_clip(ds[0], at->clip);
                s_prev[0] = v_load(at->s_prev + b * f->s.block + r), s[0] = v_load(at->h + b * f->s.block + r);
                UNROLL_FOR (int q = 1; q < S; q++) {
                    s_prev[q] = v_load(at->s_prev + q * kind + b * f->s.block + r);
                    s[q] = v_load(at->s + q * kind + b * f->s.block + r);
                }
                UNROLL_FOR (int q = 0; q < GATE_VALUES; q++) saved[q] = v_load(at->gate_values + (b * G + q) * f->gate_values.block + r);
                UNROLL_FOR (int q = GATE_VALUES; q < K; q++)
                    saved[q] = v_load(at->saved + (b * (K - GATE_VALUES) + q - GATE_VALUES) * f->saved.block + r);
                UNROLL_FOR (int q = 0; q < PEEPHOLES; q++)
                    peep[q] = v_load((const real *)f->packed + f->peep.packed + (b * PEEPHOLES + q) * VL);
                C(backward)(f->act, peep, saved, s_prev, s, ds, dzx, dzr);
                UNROLL_FOR (int g = 0; g < G; g++) {
                    v_store(at->dzx + (b * G + g) * f->dzx.block + r, dzx[g]);
                    if (SEPARATE_DZR) v_store(at->dzr + (b * G + g) * f->dzr.block + r, dzr[g]);
                }
            }
            if (!f->hr.size && (PASSES_STATE || last)) v_store(at->ds + b * f->ds.block + r, ds[0]);
            UNROLL_FOR (int q = 1; q < S; q++) v_store(at->ds + q * kind_ds + b * f->ds.block + r, ds[q]);
        }
}

/* All rows of one step, panel by panel: DO(vectors of units, first).  A single row takes two panels at once, and at every
   other step in the other order: what was read last is still in the nearest cache. */
#define BY_PANEL(blocks, wide, DO)                                                        \
    for (int64_t ub = 0; ub < (blocks); ub += (wide)) {                                   \
        if ((wide) == 1 || (blocks) - ub == 1) DO(1, ub);                                 \
        else DO(2, ub);                                                                   \
    }
#define BY_TWO_PANELS(blocks, backwards, DO)                                              \
    for (int64_t n = 0; n < (blocks); n += 4) {                                           \
        const int64_t ub = (backwards) ? ((blocks) - 1 - n) / 4 * 4 : n, left = (blocks) - ub; \
        if (left >= 4) DO(4, ub);                                                         \
        else {                                                                            \
            if (left >= 2) DO(2, ub);                                                     \
            if (left & 1) DO(1, ub + (left & 2));                                         \
        }                                                                                 \
    }
/* A tile of products goes into the cell while it is in the nearest cache. */
INLINE void C(forward_units)(const int units, const frame *f, const C(step) *at, int64_t rows, int64_t ub, const int single) {
    enum { G = C(G), WIDE = C(WIDE) };
    const real *w = (const real *)f->packed + f->hh.packed + ub * G * VL * f->R;
    const real *bias = (const real *)f->packed + f->b_hh.packed + ub * G * VL;
    if (single) {
        V acc[1][PANEL_MAX];
        real zr[PANEL_MAX * VL];                         /* its address is given to nobody: it stays in registers */
        UNROLL_FOR (int v = 0; v < units * G; v++) acc[0][v] = v_load(bias + v * VL);
        row_product(min64(units, WIDE) * G, units / min64(units, WIDE), WIDE * G * VL * f->R, f->R, 1, at->h_prev, f->s.block, w,
                    at->back, acc);
        UNROLL_FOR (int v = 0; v < units * G; v++) v_store(zr + v * VL, acc[0][v]);
        C(forward_tile)(units, f, at, 0, 1, ub, zr);
        return;
    }
    _Alignas(VBYTES) real zr[HEIGHT_MAX * PANEL_MAX * VL];
    const operands o = { f->R, 1, VL, f->s.block, 0, 0, units * G * VL, VL };
    for (int64_t i = 0, height; i < rows; i += height) {
        height = tile_height(TALL(units * G), rows - i);
        near_products[units * G][height](&o, at->h_prev + i * VL, w, bias, NULL, zr);
        C(forward_tile)(units, f, at, i, height, ub, zr);
    }
}
INLINE void C(backward_units)(const int units, const frame *f, const C(step) *at, int64_t rows, int64_t ub, const int single,
                              int next, int last) {
    const int64_t width = f->hr.size ? f->R : f->H, gates = f->hr.size ? 1 : C(G), block = f->hr.size ? f->dh.block : f->dzr.block;
    const real *w = (const real *)(f->hr.size ? f->hr.transposed : f->hh.transposed) + ub * VL * gates * width;
    if (single) {
        V acc[1][PANEL_MAX];
        real dh[PANEL_MAX * VL];
        UNROLL_FOR (int v = 0; v < units; v++) acc[0][v] = v_set(0);
        if (next) row_product(min64(units, 2), units / min64(units, 2), 2 * gates * VL * width, width, gates, at->below, block, w,
                              at->back, acc);
        UNROLL_FOR (int v = 0; v < units; v++) v_store(dh + v * VL, acc[0][v]);
        C(backward_tile)(units, f, at, 0, 1, ub, dh, next, last);
        return;
    }
    _Alignas(VBYTES) real dh[HEIGHT_MAX * PANEL_MAX * VL];
    const operands o = { width, gates, VL, block, 0, 0, units * VL, VL };
    for (int64_t i = 0, height; i < rows; i += height) {
        height = tile_height(TALL(units), rows - i);
        if (next) near_products[units][height](&o, at->below + i * VL, w, NULL, NULL, dh);
        C(backward_tile)(units, f, at, i, height, ub, next ? dh : NULL, next, last);
    }
}

/* Steps of the span, in the direction of the layer. */
#define FORWARD_ROWS(units, ub) C(forward_units)(units, f, &here, rows, ub, 0)
#define FORWARD_ROW(units, ub) C(forward_units)(units, f, &here, 1, ub, 1)
static void C(NAME(scan_forward))(const frame *f, const span *at) {
    const int64_t blocks = blocks_of(f->H);
    for (int64_t step = 0; step < at->t1 - at->t0; step++) {
        const int64_t t = f->reverse ? at->t1 - 1 - step : at->t0 + step, rows = last_row(at, t) - at->r0;
        if (rows <= 0) continue;
        const C(step) here = C(at)(f, t, at->r0);
        if (!at->reduction) BY_PANEL(blocks, C(WIDE), FORWARD_ROWS)
        else if (C(G) > 1) BY_PANEL(blocks, 1, FORWARD_ROW)
        else BY_TWO_PANELS(blocks, t & 1, FORWARD_ROW)
        if (f->hr.size) {
            const span now = one_step(at, t);
            const field h = later(&f->s, !f->reverse);
            NAME(forward)(&f->hr, f->packed, NULL, 0, ACT_LINEAR, &f->m, NULL, &h, &now);
        }
        if (f->mask.p) NAME(multiply)(&f->s, &f->mask, &f->masked, t + !f->reverse, at->r0, at->r0 + rows);
    }
}
/* With a projection: dh[t] = dy[t] + carried + (dzr[t+1] W_hh) . mask, which the product of the tiles then reads. */
static void C(NAME(projected_rows))(const frame *f, const span *at, int64_t t, int64_t r0, int64_t r1, int next, int last) {
    const int64_t back = f->reverse ? -1 : 1;
    const span now = { t, t + 1, r0, r1, NULL, at->reduction ? REDUCE_STEP : REDUCE_ROWS };
    const field dzr = later(&f->dzr, back), dh = last ? later(&f->ds, -t) : f->dh;
    if (next) NAME(backward)(&f->hh, 0, &dzr, &dh, 0, ACT_LINEAR, NULL, &now);
    for (int64_t b = 0; b < blocks_of(f->R); b++)
        for (int64_t r = r0; r < r1; r++) {
            real *d = chunk(&dh, t, r, b), *carried = chunk(&f->ds, 0, r, b);
            V v = next ? v_load(d) : v_load(carried);
            if (next && f->mask.p) v *= v_load(chunk(&f->mask, 0, r, b));
            if (!last && f->dy.p) v += v_load(chunk(&f->dy, t, r, b));
            if (!last && f->clip > 0) v = v_clip(v, (real)f->clip);
            v_store(d, v);
        }
}
#define BACKWARD_ROWS(units, ub) C(backward_units)(units, f, &here, r1 - r0, ub, 0, next, last)
#define BACKWARD_ROW(units, ub) C(backward_units)(units, f, &here, 1, ub, 1, next, last)
static void C(NAME(backward_rows))(const frame *f, const span *at, int64_t t, int64_t r0, int64_t r1, int next, int last) {
    const int64_t blocks = blocks_of(f->H);
    const C(step) here = C(at)(f, t, r0);
    if (r1 <= r0) return;
    if (f->hr.size) {
        C(NAME(projected_rows))(f, at, t, r0, r1, next, last);
        if (last) return;
        next = 1;
    }
    if (at->reduction) BY_TWO_PANELS(blocks, t & 1, BACKWARD_ROW)
    else BY_PANEL(blocks, 2, BACKWARD_ROWS)
}
/* The steps backwards.  Rows that begin here (their sequence's last step, in the layer's direction) have no next step. */
static void C(NAME(scan_backward))(const frame *f, const span *at) {
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t0 + n : at->t1 - 1 - n, rows = last_row(at, t);
        const int64_t next = f->reverse ? (t > 0 ? rows : at->r0) : max64(at->r0, min64(rows, at->batch_sizes[t + 1]));
        C(NAME(backward_rows))(f, at, t, at->r0, next, 1, 0);
        C(NAME(backward_rows))(f, at, t, next, rows, 0, 0);
        if (f->reverse)                                   /* sequences that start here: their backward pass is done */
            C(NAME(backward_rows))(f, at, t + 1, max64(at->r0, min64(at->r1, at->batch_sizes[t + 1])), rows, 1, 1);
    }
}
/* After the last step backwards: what reaches the initial states. */
static void C(NAME(scan_finish))(const frame *f, const span *at) {
    if (!f->reverse) C(NAME(backward_rows))(f, at, -1, at->r0, last_row(at, 0), 1, 1);
}
/* Gradients of the weights inside the loop. */
static void C(NAME(collect))(const frame *f, void *grad, int add, const span *at, int64_t part, int64_t parts) {
    const field h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse);
    NAME(collect)(&f->hh, 0, &h_prev, &f->dzr, grad, add, at, part, parts);
    if (f->hr.size) NAME(collect)(&f->hr, 0, &f->m, &f->dh, grad, add, at, part, parts);
#if PEEPHOLES
    C(NAME(peephole_gradient))(f, grad, add, at, part, parts);
#endif
}
#undef BY_PANEL
#undef BY_TWO_PANELS
#undef FORWARD_ROWS
#undef FORWARD_ROW
#undef BACKWARD_ROWS
#undef BACKWARD_ROW
