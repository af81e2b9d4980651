/* scan.h: THE HOT LOOP, shared by every gated cell; cell.h includes it once per cell.

   forward, t upwards:     zr = h[t-1] W_hh' + b_hh
                           s[t], saved[t] = cell(zx[t], zr, s[t-1])
   backward, t downwards:  dh[t] = dy[t] + carried + dzr[t+1] W_hh
                           dzx[t], dzr[t], carried = cell'(dh[t], saved[t], ...)

   A reverse direction runs both the other way.  layers.c, closed_loop.c, online.c and curvature.c
   call <cell>_scan_forward, _scan_backward, _scan_finish and _collect through the table of cells;
   each thread calls them for its own rows.  cell.h explains GATES, STATES, GATE_VALUES and the
   others. */
enum {
    C(G) = GATES,
    C(S) = STATES,
    C(K) = GATE_VALUES + SAVED,
    /* units per panel of the recurrent weights, in vectors */
    C(WIDE) = GATES == 1 ? 2 : 1
};

/* One step: its chunks of the frame's fields, from the first row of a part on.  (rows, width): the
   shape. */
typedef struct {
    /* (rows, R) what the recurrent product reads: h[t-1], times the mask of recurrent dropout */
    const real *h_prev;
    /* (rows, R + (S-1)*H) states before the step; states after it */
    const real *s_prev;
    real *s;
    /* (rows, R) h[t]; with a projection (rows, H) m[t], which is then projected to h[t] */
    real *h;
    /* (rows, G*H) pre-activations from the input; the values that take their place; gradients */
    const real *zx;
    real *gate_values;
    real *dzx;
    /* (rows, G*H) gradient of zr */
    real *dzr;
    /* (rows, H) gradient of raw_tau */
    real *draw_tau;
    /* (rows, SAVED*H) what else the backward pass needs */
    real *saved;
    /* (rows, R + (S-1)*H) dLoss/ds, carried from step to step */
    real *ds;
    /* what the product of the backward pass reads: dzr of the step after, or dh to be projected */
    const real *below;
    /* (rows, R) dLoss/dh from above; factors of recurrent dropout; NULL: none */
    const real *dy;
    const real *mask;
    /* limit of dLoss/dh; 0: none */
    real clip;
    /* 1: this step reads the recurrent weights from their end, see row_product */
    int from_end;
    /* 1: with a projection */
    int projected;
    /* reals from one block of columns to the next, in zx and in the other fields; from h to c */
    int64_t zx_block;
    int64_t block;
    int64_t h_to_c;
    /* of its vectors: how many of rows, and the lanes that are meant; NULL: all */
    int64_t vectors;
    const VI *lanes;
} C(step);

/* The chunks of step t of a part of its rows.  With a projection, projected_rows adds dy, mask and
   clip. */
INLINE C(step) C(step_at)(const frame *f, int64_t t, const row_part *part) {
    const int64_t r = part->r, after = t + (f->reverse ? -1 : 1);
    const field zx = inputs_at(f, t);
    real *s = (real *)f->s.p + r * CL;
    real *s_prev = s + (t + f->reverse) * f->s.step;
    real *s_new = s + (t + !f->reverse) * f->s.step;
    real *dzr = (real *)f->dzr.p + r * CL;
    const int projected = f->hr.size != 0;
    return (C(step)){
        .h_prev = f->mask.p ? chunk(&f->masked, t + f->reverse, r, 0) : s_prev,
        .s_prev = s_prev,
        .s = s_new,
        .h = projected ? chunk(&f->m, t, r, 0) : s_new,
        .zx = chunk(&zx, t, r, 0),
        .gate_values = chunk(&f->gate_values, t, r, 0),
        .dzx = chunk(&f->dzx, t, r, 0),
        .dzr = dzr + t * f->dzr.step,
        .draw_tau = chunk(&f->draw_tau, t, r, 0),
        .saved = chunk(&f->saved, t, r, 0),
        .ds = (real *)f->ds.p + r * CL,
        .below = projected ? chunk(&f->dh, t, r, 0) : dzr + after * f->dzr.step,
        .dy = projected ? NULL : chunk(&f->dy, t, r, 0),
        .mask = projected ? NULL : chunk(&f->mask, 0, r, 0),
        .clip = projected ? 0 : (real)f->clip,
        .from_end = f->zigzag & (int)(t & 1),
        .projected = projected,
        .zx_block = zx.block,
        .block = f->s.block,
        .h_to_c = blocks_of(f->R) * f->s.block,
        .vectors = part->vectors,
        .lanes = lanes_of(part),
    };
}

/* Peephole weights of block b of units, its leak and the slope of its noise: (PEEPHOLES + 2*LEAK)
   vectors. */
INLINE void C(load_peepholes)(const frame *f, int64_t b, V peep[PEEPHOLES + 2 * LEAK + 1]) {
    const real *from = (const real *)f->packed + f->peep.packed;
    UNROLL_FOR (int q = 0; q < PEEPHOLES; q++) peep[q] = v_weight(from + (b * PEEPHOLES + q) * CL);
    if (LEAK) peep[PEEPHOLES] = v_weight((const real *)f->alpha + b * CL);
    if (LEAK && f->noise_slope)
        peep[PEEPHOLES + LEAK] = v_weight((const real *)f->noise_slope + b * CL);
    else if (LEAK)
        peep[PEEPHOLES + LEAK] = v_set(0);
}

/* The cell itself, forward, on a tile: `rows` vectors of rows from vector i on and `units` vectors of
   units from vector ub on.  zr: (units, G) vectors for each row, `zr_row` reals apart; without a
   recurrent product NULL. */
INLINE void C(forward_tile)(const int units, const frame *f, const C(step) *step, int64_t i,
                            int64_t rows, int64_t ub, const real *zr, int64_t zr_row) {
    enum { G = C(G), S = C(S), K = C(K) };
    const int64_t block = step->block, h_to_c = step->h_to_c;
    for (int64_t r = i * VL; r < (i + rows) * VL; r += VL, zr += RECURRENT ? zr_row : 0)
        UNROLL_FOR (int u = 0; u < units; u++) {
            V zx[G], zh[G], s_prev[S], s[S], saved[K + 1], peep[PEEPHOLES + 2 * LEAK + 1];
            const int64_t b = ub + u;
            UNROLL_FOR (int g = 0; g < G; g++) {
                zx[g] = v_load(step->zx + (b * G + g) * step->zx_block + r);
                zh[g] = RECURRENT ? v_load(zr + (u * G + g) * VL) : v_set(0);
            }
            UNROLL_FOR (int q = 0; q < S; q++)
                s_prev[q] = v_load(step->s_prev + q * h_to_c + b * block + r);
            C(load_peepholes)(f, b, peep);
            if (LEAK && f->amplitude)
                s[S - 1] = v_load(step->s + (S - 1) * h_to_c + b * block + r);
            else if (LEAK)
                s[S - 1] = v_set(0);
            C(forward)(f->act, peep, zx, zh, s_prev, s, saved);
            v_store_lanes(step->h + b * block + r, s[0], step->lanes);
            UNROLL_FOR (int q = 1; q < S; q++)
                v_store_lanes(step->s + q * h_to_c + b * block + r, s[q], step->lanes);
            if (!step->saved || (LEAK_VALUES && !f->draw_tau.p)) continue;
            UNROLL_FOR (int q = 0; q < GATE_VALUES; q++)
                v_store_lanes(step->gate_values + (b * G + q) * block + r, saved[q], step->lanes);
            UNROLL_FOR (int q = GATE_VALUES; q < K; q++) {
                const int64_t column = b * SAVED + q - GATE_VALUES;
                v_store_lanes(step->saved + column * block + r, saved[q], step->lanes);
            }
        }
}

/* The cell itself, backward, on a tile as above.
   dh: `units` vectors for each row, `dh_row` reals apart, dLoss/dh by way of the next step
       (next = 1), or with a projection dLoss/dm = dh W_hr; NULL: zeros.
   last: 1: only ds is wanted, since this is the state before the first step. */
INLINE void C(backward_tile)(const int units, const frame *f, const C(step) *step, int64_t i,
                             int64_t rows, int64_t ub, const real *dh, int64_t dh_row, int next,
                             int last) {
    enum { G = C(G), S = C(S), K = C(K) };
    const int64_t block = step->block, h_to_c = step->h_to_c;
    const int needed = !LEAK_VALUES || step->draw_tau;
    const V none = v_set(0);
    for (int64_t n = 0, r = i * VL; n < rows; n++, r += VL)
        UNROLL_FOR (int u = 0; u < units; u++) {
            V ds[S], s_prev[S], s[S], saved[K + 1], dzx[G], dzr[G + LEAK];
            V peep[PEEPHOLES + 2 * LEAK + 1];
            const int64_t b = ub + u;
            UNROLL_FOR (int q = 1; q < S; q++)
                ds[q] = v_load(step->ds + q * h_to_c + b * block + r);
            ds[0] = dh ? v_load(dh + n * dh_row + u * VL) : v_set(0);
            if (step->mask) ds[0] *= v_load(step->mask + b * block + r);
            if (!step->projected && (PASSES_STATE || !next))
                ds[0] += v_load(step->ds + b * block + r);
            if (!last) {
                if (step->dy) ds[0] += v_load(step->dy + b * block + r);
                if (step->clip > 0) ds[0] = v_clip(ds[0], step->clip);
                s_prev[0] = v_load(step->s_prev + b * block + r);
                s[0] = v_load(step->h + b * block + r);
                UNROLL_FOR (int q = 1; q < S; q++) {
                    s_prev[q] = needed ? v_load(step->s_prev + q * h_to_c + b * block + r) : none;
                    s[q] = needed ? v_load(step->s + q * h_to_c + b * block + r) : none;
                }
                UNROLL_FOR (int q = 0; q < GATE_VALUES; q++)
                    saved[q] = needed ? v_load(step->gate_values + (b * G + q) * block + r) : none;
                UNROLL_FOR (int q = GATE_VALUES; q < K; q++) {
                    const int64_t column = b * SAVED + q - GATE_VALUES;
                    saved[q] = needed ? v_load(step->saved + column * block + r) : none;
                }
                C(load_peepholes)(f, b, peep);
                C(backward)(f->act, peep, saved, s_prev, s, ds, dzx, dzr);
                UNROLL_FOR (int g = 0; g < G; g++) {
                    const int64_t gate = b * G + g;
                    v_store_lanes(step->dzx + gate * block + r, dzx[g], step->lanes);
                    if (SEPARATE_DZR)
                        v_store_lanes(step->dzr + gate * block + r, dzr[g], step->lanes);
                }
                if (LEAK && step->draw_tau)
                    v_store_lanes(step->draw_tau + b * block + r,
                                  dzr[G] * v_weight((const real *)f->alpha_slope + b * CL),
                                  step->lanes);
            }
            if (!step->projected && (PASSES_STATE || last))
                v_store_lanes(step->ds + b * block + r, ds[0], step->lanes);
            UNROLL_FOR (int q = 1; q < S; q++)
                v_store_lanes(step->ds + q * h_to_c + b * block + r, ds[q], step->lanes);
        }
}

#if PEEPHOLES
/* Gradients of the weights per unit: each is a sum of products of a gate's dz and a state, over the
   steps and rows of the span; of its threads this one has part `part` of `parts`. */
static void C(NAME(peephole_gradient))(const frame *f, void *grad, int add, const span *at,
                                       int64_t part, int64_t parts) {
    static const struct {
        int gate, state, after; /* of zx; 0 h, 1 c; 1: the state after the step, 0: before it */
    } term[] = { PEEPHOLE_TERMS };
    _Static_assert(sizeof term == PEEPHOLES * sizeof *term, "expected a term for each peephole");
    const int64_t blocks = blocks_of(f->H), all = PEEPHOLES * blocks, c = blocks_of(f->R);
    for (int64_t n = all * part / parts; n < all * (part + 1) / parts; n++) {
        real *g = (real *)grad + f->peep.packed + n * CL;
        const int64_t b = n / PEEPHOLES, q = n % PEEPHOLES, gate = b * GATES + term[q].gate;
        V sum = add ? v_load_part(g, CL) : v_set(0);
        for (int64_t t = at->t0; t < at->t1; t++) {
            const int64_t end = last_row(at, t), of_state = t + (f->reverse ^ term[q].after);
            for (row_part of = first_vector(at->r0, end); of.vectors > 0;
                 of = next_vector(&of, end)) {
                const V dz = v_load_lanes(chunk(&f->dzx, t, of.r, gate), lanes_of(&of));
                const real *s = chunk(&f->s, of_state, of.r, term[q].state * c + b);
                sum += dz * v_load_lanes(s, lanes_of(&of));
            }
        }
        w_store(g, w_sum_rows(sum));
    }
}
#endif

#if !RECURRENT
#include "elementwise.h"
#else

/* forward_tile and backward_tile as functions by themselves, once per cell: tiles of a batch are large
   enough for a call, and a copy for each number of units would be several times the code. */
static NOINLINE void C(NAME(forward_tile))(int64_t units, const frame *f, const C(step) *of,
                                           int64_t i, int64_t rows, int64_t ub, const real *zr) {
    const C(step) step = *of; /* what is stored cannot change it */
    for (int64_t u = 0; u < units; u++)
        C(forward_tile)(1, f, &step, i, rows, ub + u, zr + u * C(G) *VL, units * C(G) *VL);
}
static NOINLINE void C(NAME(backward_tile))(int64_t units, const frame *f, const C(step) *of,
                                            int64_t i, int64_t rows, int64_t ub, const real *dh,
                                            int next, int last) {
    const C(step) step = *of;
    for (int64_t u = 0; u < units; u++, dh += dh ? VL : 0)
        C(backward_tile)(1, f, &step, i, rows, ub + u, dh, units * VL, next, last);
}

/* -- the products of one step, each tile of which goes into the cell while it is in the nearest
      cache -- */

/* The recurrent weights and b_hh of the panel that begins with vector ub of the units. */
INLINE const real *C(panel)(const frame *f, int64_t ub) {
    return (const real *)f->packed + f->hh.packed + ub * C(G) *CL * f->R;
}
INLINE const real *C(panel_bias)(const frame *f, int64_t ub) {
    return (const real *)f->packed + f->b_hh.packed + ub * C(G) *CL;
}

/* What a tile reads and writes AHEAD steps later, which a long tape has not in the second cache: asked
   for while the products keep the processor busy.  `steps`: AHEAD, against time -AHEAD.  Only cells with
   one gate and large steps gain by it. */
enum { C(AHEAD) = 2, C(LARGE_STEP) = (16 << 10) / sizeof(real), C(LINE) = 64 / sizeof(real) };
INLINE void C(prefetch)(const real *p, int64_t step, int64_t steps, int64_t from) {
    const uintptr_t at = (uintptr_t)p + (uintptr_t)((steps * step + from) * (int64_t)sizeof(real));
    if (p) __builtin_prefetch((const void *)at, 1);
}
INLINE void C(prefetch_tile)(int64_t units, const frame *f, const C(step) *step, int64_t i,
                             int64_t rows, int64_t ub, int64_t steps, int backward) {
    if (GATES > 1 || f->s.step < C(LARGE_STEP)) return;
    for (int64_t r = i * VL; r < (i + rows) * VL; r += C(LINE))
        for (int64_t u = 0; u < units; u++) {
            const int64_t at = (ub + u) * step->block + r;
            C(prefetch)(backward ? step->s_prev : step->s, f->s.step, steps, at);
            C(prefetch)(step->dzx, f->dzx.step, steps, at);
            if (backward && step->dy != step->dzx) C(prefetch)(step->dy, f->dy.step, steps, at);
            if (!backward && STATES > 1) C(prefetch)(step->s + step->h_to_c, f->s.step, steps, at);
        }
}

/* Forward: `units` vectors of units, all rows of a batch. */
INLINE void C(forward_units)(int64_t units, const frame *f, const C(step) *step, int64_t ub) {
    enum { G = C(G) };
    _Alignas(VBYTES) real zr[SLICE_ROWS * PANEL_MAX * VL];
    const operands o = {
        .units = f->R,
        .gates = 1,
        .row = VL,
        .block = f->s.block,
        .out_row = units * G * VL,
        .out_block = VL,
    };
    const int64_t tall = TALL(units * G);
    const int64_t slice = slice_units(f->R, 1, units * G, 1, tall, step->vectors);
    for (int64_t i = 0, some; i < step->vectors; i += some) {
        const int64_t left = step->vectors - i;
        some = slice < f->R ? min64(SLICE_ROWS, left) : tile_height(tall, left);
        sliced_product(near_products[units * G], tall, &o, units * G, slice, 1, 0, 0, some,
                       step->h_prev + i * VL, C(panel)(f, ub), C(panel_bias)(f, ub), NULL, zr);
        C(NAME(forward_tile))(units, f, step, i, some, ub, zr);
        C(prefetch_tile)(units, f, step, i, some, ub, f->reverse ? -C(AHEAD) : C(AHEAD), 0);
    }
}

/* Forward: the same, a vector of rows at a time: a single row or, BY_ROWS, so many vectors. */
INLINE void C(forward_by_vector)(const int units, const frame *f, const C(step) *step,
                                 int64_t vectors, int64_t ub) {
    enum { G = C(G), WIDE = C(WIDE) };
    const int per_panel = units < WIDE ? units : WIDE;
    const real *bias = C(panel_bias)(f, ub), *w = C(panel)(f, ub);
    const int64_t R = f->R;
    for (int64_t i = 0; i < vectors; i++) {
        const real *a = step->h_prev + i * VL;
        V acc[1][PANEL_MAX];
        real zr[PANEL_MAX * VL]; /* its address is given to nobody: it stays in registers */
        UNROLL_FOR (int v = 0; v < units * G; v++) acc[0][v] = v_weight(bias + v * CL);
        if (BY_ROWS)
            few_columns_product(1, units * G, 1, R, a, step->block, w, acc);
        else
            row_product(per_panel * G, units / per_panel, WIDE * G * VL * R, R, 1, a, step->block,
                        w, step->from_end, acc);
        UNROLL_FOR (int v = 0; v < units * G; v++) v_store(zr + v * VL, acc[0][v]);
        C(forward_tile)(units, f, step, i, 1, ub, zr, 0);
    }
}

/* The vectors of units, in panels of `width`, that are this part's: [*from, *to). */
INLINE void C(unit_range)(const frame *f, const span *at, int64_t width, int64_t *from,
                          int64_t *to) {
    const int64_t blocks = blocks_of(f->H), panels = (blocks + width - 1) / width;
    *from = share(panels, at->part, at->parts) * width;
    *to = min64(blocks, share(panels, at->part + 1, at->parts) * width);
}

/* Forward: the units of the span, for a batch: one panel at a time. */
INLINE void C(forward_batch)(const frame *f, const span *at, const C(step) *step) {
    int64_t from, blocks;
    C(unit_range)(f, at, C(WIDE), &from, &blocks);
    for (int64_t ub = from; ub < blocks; ub += C(WIDE)) {
        const int two = C(WIDE) > 1 && blocks - ub > 1;
        if (BY_ROWS && two)
            C(forward_by_vector)(2, f, step, step->vectors, ub);
        else if (BY_ROWS)
            C(forward_by_vector)(1, f, step, step->vectors, ub);
        else
            C(forward_units)(two ? 2 : 1, f, step, ub);
    }
}

/* Forward: all units, for a single row.  A cell with one gate takes two panels at once, and at
   every other step in the other order: what was read last is still in the nearest cache. */
INLINE void C(forward_single)(const frame *f, const C(step) *step, int descending) {
    const int64_t blocks = blocks_of(f->H);
    if (C(G) > 1) {
        for (int64_t ub = 0; ub < blocks; ub++) C(forward_by_vector)(1, f, step, 1, ub);
        return;
    }
    for (int64_t n = 0; n < blocks; n += 4) {
        const int64_t ub = descending ? (blocks - 1 - n) / 4 * 4 : n;
        const int64_t left = blocks - ub;
        if (left >= 4) {
            C(forward_by_vector)(4, f, step, 1, ub);
        } else {
            if (left >= 2) C(forward_by_vector)(2, f, step, 1, ub);
            if (left & 1) C(forward_by_vector)(1, f, step, 1, ub + (left & 2));
        }
    }
}

/* What the product of the backward pass multiplies: dzr[t+1] W_hh, (G*H) long, or with a projection
   dh[t] W_hr, (R) long. */
typedef struct {
    const real *w;
    int64_t gates;
    int64_t width;
    int64_t block;
} C(backward_factors);
INLINE C(backward_factors) C(backward_factors_of)(const frame *f, int64_t ub) {
    const int projected = f->hr.size != 0;
    const int64_t gates = projected ? 1 : C(G);
    const int64_t width = projected ? f->R : f->H;
    const real *transposed = projected ? f->hr.transposed : f->hh.transposed;
    return (C(backward_factors)){
        .w = transposed + ub * CL * gates * width,
        .gates = gates,
        .width = width,
        .block = projected ? f->dh.block : f->dzr.block,
    };
}

/* Their product with `units` vectors of columns; outputs (rows, units) vectors. */
INLINE operands C(backward_operands)(int64_t units, const C(backward_factors) *by) {
    return (operands){
        .units = by->width,
        .gates = by->gates,
        .row = VL,
        .block = by->block,
        .out_row = units * VL,
        .out_block = VL,
    };
}

/* Backward: `units` vectors of units, all rows of a batch. */
INLINE void C(backward_units)(int64_t units, const frame *f, const C(step) *step, int64_t ub,
                              int next, int last) {
    const C(backward_factors) by = C(backward_factors_of)(f, ub);
    const operands o = C(backward_operands)(units, &by);
    _Alignas(VBYTES) real dh[HEIGHT_MAX * 2 * VL];
    for (int64_t i = 0, some; i < step->vectors; i += some) {
        some = tile_height(TALL(units), step->vectors - i);
        if (next) near_products[units][some](&o, step->below + i * VL, by.w, NULL, NULL, dh);
        C(NAME(backward_tile))(units, f, step, i, some, ub, next ? dh : NULL, next, last);
        C(prefetch_tile)(units, f, step, i, some, ub, f->reverse ? C(AHEAD) : -C(AHEAD), 1);
    }
}

/* Backward: so many panels of two vectors of units, in slices of so many units, all rows of a
   batch. */
INLINE void C(backward_panels)(const frame *f, const C(step) *step, int64_t ub, int64_t panels,
                               int64_t slice, int last) {
    enum { PANEL = SLICE_ROWS * 2 * VL };
    const C(backward_factors) by = C(backward_factors_of)(f, ub);
    const operands o = C(backward_operands)(2, &by);
    const int64_t apart = 2 * CL * by.gates * by.width;
    _Alignas(VBYTES) real dh[SLICE_PANELS * PANEL];
    for (int64_t i = 0, some; i < step->vectors; i += some) {
        some = min64(SLICE_ROWS, step->vectors - i);
        sliced_product(near_products[2], TALL(2), &o, 2, slice, panels, apart, PANEL, some,
                       step->below + i * VL, by.w, NULL, NULL, dh);
        for (int64_t p = 0; p < panels; p++)
            C(NAME(backward_tile))(2, f, step, i, some, ub + p * 2, dh + p * PANEL, 1, last);
    }
}

/* Backward: the same, a vector of rows at a time: a single row or, BY_ROWS, so many vectors. */
INLINE void C(backward_by_vector)(const int units, const frame *f, const C(step) *step,
                                  int64_t vectors, int64_t ub, int next, int last) {
    const C(backward_factors) by = C(backward_factors_of)(f, ub);
    const int per_panel = units < 2 ? units : 2;
    for (int64_t i = 0; i < vectors; i++) {
        const real *a = step->below + i * VL;
        V acc[1][PANEL_MAX];
        real dh[PANEL_MAX * VL];
        UNROLL_FOR (int v = 0; v < units; v++) acc[0][v] = v_set(0);
        if (next && BY_ROWS && step->projected)
            few_columns_product(1, units, 1, by.width, a, by.block, by.w, acc);
        else if (next && BY_ROWS)
            few_columns_product(1, units, C(G), by.width * C(G), a, by.block, by.w, acc);
        else if (next)
            row_product(per_panel, units / per_panel, 2 * by.gates * VL * by.width, by.width,
                        by.gates, a, by.block, by.w, step->from_end, acc);
        UNROLL_FOR (int v = 0; v < units; v++) v_store(dh + v * VL, acc[0][v]);
        C(backward_tile)(units, f, step, i, 1, ub, dh, 0, next, last);
    }
}

/* Backward: the units of the span, for a batch; panels that are sliced a few at once. */
INLINE void C(backward_batch)(const frame *f, const span *at, const C(step) *step, int next,
                              int last) {
    const C(backward_factors) by = C(backward_factors_of)(f, 0);
    const int64_t slice = slice_units(by.width, by.gates, 2, SLICE_PANELS, TALL(2), step->vectors);
    int64_t from, blocks;
    C(unit_range)(f, at, 2, &from, &blocks);
    for (int64_t ub = from, panels; ub < blocks; ub += 2 * panels) {
        const int two = blocks - ub > 1, sliced = !BY_ROWS && two && next && slice < by.width;
        panels = sliced ? min64(SLICE_PANELS, (blocks - ub) / 2) : 1;
        if (BY_ROWS && two)
            C(backward_by_vector)(2, f, step, step->vectors, ub, next, last);
        else if (BY_ROWS)
            C(backward_by_vector)(1, f, step, step->vectors, ub, next, last);
        else if (sliced)
            C(backward_panels)(f, step, ub, panels, slice, last);
        else
            C(backward_units)(two ? 2 : 1, f, step, ub, next, last);
    }
}

/* Backward: all units, for a single row; in the other order at every other step. */
INLINE void C(backward_single)(const frame *f, const C(step) *step, int descending, int next,
                               int last) {
    const int64_t blocks = blocks_of(f->H);
    for (int64_t n = 0; n < blocks; n += 4) {
        const int64_t ub = descending ? (blocks - 1 - n) / 4 * 4 : n;
        const int64_t left = blocks - ub;
        if (left >= 4) {
            C(backward_by_vector)(4, f, step, 1, ub, next, last);
        } else {
            if (left >= 2) C(backward_by_vector)(2, f, step, 1, ub, next, last);
            if (left & 1) C(backward_by_vector)(1, f, step, 1, ub + (left & 2), next, last);
        }
    }
}

/* -- the loops over time -- */

/* Forward: the steps and rows of the span, in the direction of the layer. */
static void C(NAME(scan_forward))(const frame *f, const span *at) {
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t1 - 1 - n : at->t0 + n;
        const int64_t end = last_row(at, t), padded_end = last_padded_row(at, t);
        if (end <= at->r0) continue;
        for (row_part of = first_part(at->r0, padded_end); of.vectors > 0;
             of = next_part(&of, padded_end)) {
            const C(step) step = C(step_at)(f, t, &of);
            if (BY_ROWS || at->reduction == REDUCE_ROWS)
                C(forward_batch)(f, at, &step);
            else
                C(forward_single)(f, &step, t & 1);
        }
        if (f->hr.size) {
            const span now = one_step(at, t);
            const field h = later(&f->s, !f->reverse);
            NAME(forward)(&f->hr, f->packed, NULL, 0, ACT_LINEAR, &f->m, NULL, &h, &now);
        }
        if (f->mask.p) NAME(multiply)(&f->s, &f->mask, &f->masked, t + !f->reverse, at->r0, end);
    }
}

/* With a projection, before the tiles of step t: dh[t] = dy[t] + carried + (dzr[t+1] W_hh) . mask,
   which the product of the tiles then reads; last: into ds itself. */
static void C(NAME(projected_rows))(const frame *f, const span *at, int64_t t, int64_t r0,
                                    int64_t r1, int next, int last) {
    const span now = {
        .t0 = t,
        .t1 = t + 1,
        .r0 = r0,
        .r1 = r1,
        .rows = at->rows,
        .reduction = at->reduction == REDUCE_ROWS ? REDUCE_ROWS : REDUCE_STEP,
    };
    const field dzr = later(&f->dzr, f->reverse ? -1 : 1);
    const field dh = last ? later(&f->ds, -t) : f->dh;
    if (next) NAME(backward)(&f->hh, 0, &dzr, &dh, 0, ACT_LINEAR, NULL, &now);
    for (int64_t b = 0; b < blocks_of(f->R); b++)
        for (row_part of = first_vector(r0, r1); of.vectors > 0; of = next_vector(&of, r1)) {
            real *d = chunk(&dh, t, of.r, b);
            V v = v_load(next ? d : chunk(&f->ds, 0, of.r, b));
            if (next && f->mask.p) v *= v_load(chunk(&f->mask, 0, of.r, b));
            if (!last && f->dy.p) v += v_load(chunk(&f->dy, t, of.r, b));
            if (!last && f->clip > 0) v = v_clip(v, (real)f->clip);
            v_store_lanes(d, v, lanes_of(&of));
        }
}

/* Backward: rows [r0, r1) of step t.  next: the gradient of a step after it reaches them. */
static NOINLINE void C(NAME(backward_rows))(const frame *f, const span *at, int64_t t, int64_t r0,
                                            int64_t r1, int next, int last) {
    if (r1 <= r0) return;
    if (f->hr.size) {
        C(NAME(projected_rows))(f, at, t, r0, r1, next, last);
        if (last) return;
        next = 1;
    }
    const int64_t padded_end = padded_row(at, r1);
    for (row_part of = first_part(r0, padded_end); of.vectors > 0;
         of = next_part(&of, padded_end)) {
        const C(step) step = C(step_at)(f, t, &of);
        if (BY_ROWS || at->reduction == REDUCE_ROWS)
            C(backward_batch)(f, at, &step, next, last);
        else
            C(backward_single)(f, &step, t & 1, next, last);
    }
}

/* Reverse: of the sequences that start at step t only their initial states are left. */
static void C(NAME(start_rows))(const frame *f, const span *at, int64_t t) {
    const int64_t starting = max64(at->r0, min64(at->r1, at->batch_sizes[t + 1]));
    C(NAME(backward_rows))(f, at, t + 1, starting, last_row(at, t), 1, 1);
}

/* Backward: the steps and rows of the span, against the direction of the layer.  Rows that end at
   step t (their sequence's last step, in the layer's direction) have no next step. */
static void C(NAME(scan_backward))(const frame *f, const span *at) {
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t0 + n : at->t1 - 1 - n;
        const int64_t rows = last_row(at, t);
        /* rows from here on end at step t */
        const int64_t ending = f->reverse ? (t > 0 ? rows : at->r0)
                                          : max64(at->r0, min64(rows, at->batch_sizes[t + 1]));
        C(NAME(backward_rows))(f, at, t, at->r0, ending, 1, 0);
        C(NAME(backward_rows))(f, at, t, ending, rows, 0, 0);
        if (f->reverse && at->parts < 2) C(NAME(start_rows))(f, at, t);
    }
}

/* After backward through step 0: leaves dLoss/dh0 and dLoss/dc0 in ds.  Reverse, that was done
   where sequences start; but a part of the units needs all units of a step for it: it is done here,
   after each step, when all parts have run backward through it. */
static void C(NAME(scan_finish))(const frame *f, const span *at) {
    if (!f->reverse)
        C(NAME(backward_rows))(f, at, -1, at->r0, last_row(at, 0), 1, 1);
    else if (at->parts > 1)
        C(NAME(start_rows))(f, at, at->t0);
}

/* Gradients of the weights inside the loop: dW_hh = sum of dzr[t]' h[t-1], and so on, over the
   steps and rows of the span.  All threads call it, each for part `part` of `parts` of the
   weights. */
static void C(NAME(collect))(const frame *f, void *grad, int add, const span *at, int64_t part,
                             int64_t parts) {
    const field h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse);
    NAME(collect)(&f->hh, 0, &h_prev, &f->dzr, grad, add, at, part, parts);
    if (f->hr.size) NAME(collect)(&f->hr, 0, &f->m, &f->dh, grad, add, at, part, parts);
#if PEEPHOLES
    C(NAME(peephole_gradient))(f, grad, add, at, part, parts);
#endif
}
#endif
