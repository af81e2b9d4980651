/* tangent.h: one step of real-time recurrent learning (Williams and Zipser 1989), once per gated
   cell:
     ds'[q] = sum over i of ds'[q]/ds[i] ds[i]  +  the parameters' own part,
   and h = s[0] also comes by way of zr = W_hh h + b_hh.  ds'[q]/dzx, /dzr and /ds are what the
   cell's backward gives for a unit gradient of s'[q]: no cell has them twice.  curvature.c calls
   <cell>_tangent through the table of cells, on its one thread. */

/* The cell's derivatives for block u of the units, around one row of the tape: by_zx[q], by_zr[q],
   by_s[q] are those of the new state q; by alpha, that of a cell with a LEAK follows in by_zr[q]. */
INLINE void C(derivatives)(const frame *f, const C(step) *step, int64_t u, V by_zx[][GATES],
                           V by_zr[][GATES + LEAK], V by_s[][STATES]) {
    enum { G = C(G), S = C(S), K = C(K) };
    const int64_t h_to_c = blocks_of(f->R) * f->s.block;
    V s_prev[S], s_new[S], saved[K + 1], peep[2 * LEAK + 1];
    s_prev[0] = v_load(step->s_prev + u * f->s.block);
    s_new[0] = v_load(step->h + u * f->s.block);
    UNROLL_FOR (int q = 1; q < S; q++) {
        s_prev[q] = v_load(step->s_prev + q * h_to_c + u * f->s.block);
        s_new[q] = v_load(step->s + q * h_to_c + u * f->s.block);
    }
    UNROLL_FOR (int q = 0; q < GATE_VALUES; q++)
        saved[q] = v_load(step->gate_values + (u * G + q) * f->gate_values.block);
    UNROLL_FOR (int q = GATE_VALUES; q < K; q++)
        saved[q] = v_load(step->saved + (u * SAVED + q - GATE_VALUES) * f->saved.block);
    C(load_peepholes)(f, u, peep);
    UNROLL_FOR (int q = 0; q < S; q++) {
        UNROLL_FOR (int i = 0; i < S; i++) by_s[q][i] = v_set(i == q);
        C(backward)(f->act, peep, saved, s_prev, s_new, by_s[q], by_zx[q], by_zr[q]);
    }
}

/* Tangents (S*Hp, width) of the states, a row each, along f's parameters, around row b of the tape,
   `before` and `after` step t.  transition (H, S*Hp): ds'/dh transposed, scratch.  Hp: H padded. */
static void C(NAME(tangent))(const frame *f, const field *x, int64_t t, int64_t b, void *transition,
                             const void *before, void *after, int64_t width) {
    enum { G = C(G), S = C(S) };
    const row_part row = { .r = b, .vectors = 1 };
    const C(step) step = C(step_at)(f, t, &row);
    const int64_t Hp = blocks_of(f->H) * VL;
    for (int64_t u = 0; u < blocks_of(f->H); u++) {
        V by_zx[S][G], by_zr[S][G + LEAK], by_s[S][S];
        const real *w[G];
        int64_t stride = 0;
        C(derivatives)(f, &step, u, by_zx, by_zr, by_s);

        /* ds'/dh by way of zr: the column of each unit k of h */
        UNROLL_FOR (int g = 0; g < G; g++)
            w[g] = packed_row(&f->hh, (void *)f->packed, u, g, &stride);
        for (int64_t k = 0; k < f->H; k++)
            UNROLL_FOR (int q = 0; q < S; q++) {
                V sum = v_set(0);
                UNROLL_FOR (int g = 0; g < G; g++) sum += by_zr[q][g] * v_load(w[g] + k * stride);
                v_store((real *)transition + (k * S + q) * Hp + u * VL, sum);
            }

        /* by way of the unit's own states, and the parameters' own part */
        const int64_t units = min64(VL, f->H - u * VL);
        for (int64_t j = 0, unit = u * VL; j < units; j++, unit++)
            UNROLL_FOR (int q = 0; q < S; q++) {
                real *to = (real *)after + (q * Hp + unit) * width;
                if (PASSES_STATE) ((real *)transition)[(unit * S + q) * Hp + unit] += by_s[q][0][j];
                for (int64_t c = 0; c < width; c += VL) {
                    V sum = v_set(0);
                    UNROLL_FOR (int i = 1; i < S; i++) {
                        const real *from = (const real *)before + (i * Hp + unit) * width;
                        sum += by_s[q][i][j] * v_load(from + c);
                    }
                    v_store(to + c, sum);
                }
                UNROLL_FOR (int g = 0; g < G; g++) {
                    const int64_t row = g * f->H + unit;
                    const real dzx = by_zx[q][g][j], dzr = by_zr[q][g][j];
                    add_row(to + f->ih.flat + row * f->ih.cols, chunk(x, t, b, 0), x->block,
                            f->ih.cols, dzx);
                    add_row(to + f->hh.flat + row * f->H, step.h_prev, f->s.block, f->H, dzr);
                    to[f->b_ih.flat + row] += dzx;
                    to[f->b_hh.flat + row] += dzr;
                }
                if (LEAK && f->raw_tau.size)
                    to[f->raw_tau.flat + unit] +=
                        by_zr[q][G][j] * ((const real *)f->alpha_slope)[unit];
            }
    }

    /* after += (ds'/dh) before */
    for (int64_t c = 0, wide; c < width; c += wide * VL) {
        wide = min64(3, (width - c) / VL);
        UNROLL_FOR (int q = 0; q < S; q++)
            add_panel((const real *)transition + q * Hp, S * Hp, f->H, (const real *)before + c,
                      width, wide, f->H, (real *)after + q * Hp * width + c);
    }
}
