/* tangent.h: one step of a gated cell for tangents, the other way through the same derivatives.  Included once a cell, CELL set.
   With the cell linear around its tape:  ds'[q] = sum of ds[q]/dzx dzx' + ds[q]/dzr dzr' + ds[q]/ds_prev ds_prev'
   and ds[q]/d... is what the cell's backward gives for a unit gradient of s[q]: no cell states its derivatives twice. */
#define C(x) CAT(CAT(CELL, _), x)
/* Tangents of `rows` directions, around row b of the tape at step t: of zx and zr (one field unless the cell splits them), and of
   the states s (1, rows, R + (S-1)*H), from before to after the step, in place. */
static void C(NAME(tangent))(const frame *f, int64_t t, int64_t b, const field *zx, const field *zr, const field *s, int64_t rows) {
    enum { G = C(G), S = C(S), K = C(K), KEPT = C(KEPT) };
    const C(step) at = C(at)(f, t, b);
    const int64_t kind = blocks_of(f->R) * f->s.block, kind_s = blocks_of(f->R) * s->block;
    for (int64_t u = 0; u < blocks_of(f->H); u++) {
        V s_prev[S], s_new[S], saved[K + 1], peep[1], by_zx[S][G], by_zr[S][G], by_s[S][S];
        s_prev[0] = v_load(at.s_prev + u * f->s.block), s_new[0] = v_load(at.h + u * f->s.block);
        UNROLL for (int q = 1; q < S; q++) s_prev[q] = v_load(at.s_prev + q * kind + u * f->s.block);
        UNROLL for (int q = 1; q < S; q++) s_new[q] = v_load(at.s + q * kind + u * f->s.block);
        UNROLL for (int q = 0; q < KEPT; q++) saved[q] = v_load(at.kept + (u * G + q) * f->kept.block);
        UNROLL for (int q = KEPT; q < K; q++) saved[q] = v_load(at.saved + (u * (K - KEPT) + q - KEPT) * f->saved.block);
        UNROLL for (int q = 0; q < S; q++) {
            UNROLL for (int i = 0; i < S; i++) by_s[q][i] = v_set(i == q);
            C(backward)(f->act, peep, saved, s_prev, s_new, by_s[q], by_zx[q], by_zr[q]);
            if (!C(HELD)) by_s[q][0] = v_set(0);
        }
        for (int64_t r = 0; r < rows; r++) {
            V before[S], dzx[G], dzr[G];
            real *to = chunk(s, 0, r, u);
            UNROLL for (int q = 0; q < S; q++) before[q] = v_load(to + q * kind_s);
            UNROLL for (int g = 0; g < G; g++) dzr[g] = v_load(chunk(zr, 0, r, u * G + g));
            UNROLL for (int g = 0; g < G; g++) dzx[g] = C(SPLIT) ? v_load(chunk(zx, 0, r, u * G + g)) : v_set(0);
            UNROLL for (int q = 0; q < S; q++) {
                V sum = v_set(0);
                UNROLL for (int g = 0; g < G; g++) sum += by_zr[q][g] * dzr[g];
                if (C(SPLIT)) UNROLL for (int g = 0; g < G; g++) sum += by_zx[q][g] * dzx[g];
                UNROLL for (int i = 0; i < S; i++) if (i > 0 || C(HELD)) sum += by_s[q][i] * before[i];
                v_store(to + q * kind_s, sum);
            }
        }
    }
}
#undef C
