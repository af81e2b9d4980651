/* ctrnn_potential.h: a continuous-time rate network, equation="potential":
   v = (1 - alpha) v_prev + alpha (zx + zr) + noise,  h = act(v)
   peep: alpha = dt/tau      Nothing is saved: the derivative of act follows from h. */
#define GATES 1
#define STATES 2
#define FOLLOWS 1
#define ACTIVATION 1
#define LEAK 1

/* s: h, and noise, then v. */
INLINE void ctrnn_potential_forward(int act, const V *peep, const V *zx, const V *zr,
                                    const V *s_prev, V *s, V *saved) {
    (void)saved;
    s[1] += (1 - peep[0]) * s_prev[1] + peep[0] * (zx[0] + zr[0]);
    s[0] = v_act(act, s[1]);
}

/* dv += dh . act'(h),  dz = alpha dv,  and (1 - alpha) dv to v_prev */
INLINE void ctrnn_potential_backward(int act, const V *peep, const V *saved, const V *s_prev,
                                     const V *s, V *ds, V *dzx, V *dzr) {
    (void)saved;
    (void)s_prev;
    V dv = ds[1] + ds[0] * v_dact(act, s[0]);
    dzx[0] = dzr[0] = peep[0] * dv;
    ds[1] = (1 - peep[0]) * dv;
}
