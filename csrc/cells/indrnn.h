/* indrnn.h:  h = act(zx + u * h_prev)      (Li et al. 2018)
   Each unit sees of the state before only its own.  peep: u
   Nothing is saved: the derivative of act follows from h. */
#define GATES 1
#define STATES 1
#define PASSES_STATE 1
#define PEEPHOLES 1
#define ACTIVATION 1
#define RECURRENT 0

/* s: h. */
INLINE void indrnn_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                           V *saved) {
    (void)zr;
    (void)saved;
    s[0] = v_act(act, zx[0] + peep[0] * s_prev[0]);
}

/* dz = dh . act'(h),  dh_prev = u . dz */
INLINE void indrnn_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s,
                            V *ds, V *dzx, V *dzr) {
    (void)saved;
    (void)s_prev;
    (void)dzr;
    dzx[0] = ds[0] * v_dact(act, s[0]);
    ds[0] = peep[0] * dzx[0];
}
/* du = sum of dz * h_prev over steps and rows of the span; of its threads this one has part `part` of
   `parts`. */
static void NAME(indrnn_peephole_gradient)(const frame *f, void *grad, int add, const span *at,
                                           int64_t part, int64_t parts) {
    const int64_t blocks = blocks_of(f->H);
    for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++) {
        real *g = (real *)grad + f->peep.packed + b * CL;
        V sum = add ? v_load_part(g, CL) : v_set(0);
        for (int64_t t = at->t0; t < at->t1; t++) {
            const int64_t end = last_row(at, t), before = t + f->reverse;
            for (row_part of = first_vector(at->r0, end); of.vectors > 0;
                 of = next_vector(&of, end)) {
                const V dz = v_load_lanes(chunk(&f->dzx, t, of.r, b), lanes_of(&of));
                sum += dz * v_load_lanes(chunk(&f->s, before, of.r, b), lanes_of(&of));
            }
        }
        w_store(g, w_sum_rows(sum));
    }
}
