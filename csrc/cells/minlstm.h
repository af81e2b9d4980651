/* minlstm.h:  f = s(zx_f),  i = s(zx_i),  n = g(zx_n),  z = i / (f + i),
   h = h_prev + z * (n - h_prev)      (Feng et al. 2024; there f' = 1 - z, i' = z)
   g(v) = v + 1/2 where v >= 0, else s(v)
   gates f i n      saved in their place: 1-f 1-i n      saved besides: z */
#define GATES 3
#define STATES 1
#define GATE_VALUES 3
#define SAVED 1
#define PASSES_STATE 1
#define KEEP_GATE 0
#define RECURRENT 0

/* s: h;  saved: 1-f 1-i n z.  With not_f = exp(-zx_f), 1 - f = not_f / (1 + not_f), and likewise of i;
   z = (1 + not_f) / (2 + not_f + not_i).  All three terms are divided by the largest of them, so that
   none overflows and z is right where f and i would both be 0. */
INLINE void minlstm_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                            V *saved) {
    (void)act;
    (void)peep;
    (void)zr;
    V largest = v_max(v_set(0), v_max(-zx[0], -zx[1]));
    V one = v_exp(-largest), not_f = v_exp(-zx[0] - largest), not_i = v_exp(-zx[1] - largest);
    V n = v_positive(zx[2]);
    V z = (one + not_f) / ((one + not_f) + (one + not_i));
    s[0] = s_prev[0] + z * (n - s_prev[0]);
    saved[0] = not_f / (one + not_f);
    saved[1] = not_i / (one + not_i);
    saved[2] = n;
    saved[3] = z;
}

/* From ds: dh, to the gradients of zx, and to dh_prev.  d: dLoss/d(log i) and -dLoss/d(log f). */
INLINE void minlstm_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s,
                             V *ds, V *dzx, V *dzr) {
    (void)act;
    (void)peep;
    (void)s;
    (void)dzr;
    V not_f = saved[0], not_i = saved[1], n = saved[2], z = saved[3];
    V d = ds[0] * (n - s_prev[0]) * z * (1 - z);
    dzx[0] = -d * not_f;
    dzx[1] = d * not_i;
    dzx[2] = ds[0] * z * v_positive_slope(n);
    ds[0] = ds[0] * (1 - z);
}
