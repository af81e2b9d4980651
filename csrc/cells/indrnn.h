/* indrnn.h:  h = act(zx + u * h_prev)      (Li et al. 2018)
   Each unit sees of the state before only its own.  peep: u
   Nothing is saved: the derivative of act follows from h. */
#define GATES 1
#define STATES 1
#define PASSES_STATE 1
#define PEEPHOLES 1
#define PEEPHOLE_TERMS \
    { 0, 0, 0 }
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
