/* elman.h:  h = act(zx + zr)      (Elman 1990)
   Nothing is saved: the derivative of act follows from h. */
#define GATES 1
#define STATES 1
#define ACTIVATION 1

/* s: h. */
INLINE void elman_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                          V *saved) {
    (void)peep;
    (void)s_prev;
    (void)saved;
    s[0] = v_act(act, zx[0] + zr[0]);
}

/* dz = dh . act'(h) */
INLINE void elman_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s,
                           V *ds, V *dzx, V *dzr) {
    (void)peep;
    (void)saved;
    (void)s_prev;
    dzx[0] = dzr[0] = ds[0] * v_dact(act, s[0]);
}
