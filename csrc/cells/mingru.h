/* mingru.h:  z = s(zx_z),  n = g(zx_n),  h = h_prev + z * (n - h_prev)      (Feng et al. 2024)
   g(v) = v + 1/2 where v >= 0, else s(v)
   gates z n      saved in their place: z n */
#define GATES 2
#define STATES 1
#define GATE_VALUES 2
#define PASSES_STATE 1
#define RECURRENT 0

/* s: h;  saved: z n. */
INLINE void mingru_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                           V *saved) {
    (void)act;
    (void)peep;
    (void)zr;
    V z = v_sigmoid(zx[0]);
    V n = v_positive(zx[1]);
    s[0] = s_prev[0] + z * (n - s_prev[0]);
    saved[0] = z;
    saved[1] = n;
}

/* From ds: dh, to the gradients of zx, and to dh_prev. */
INLINE void mingru_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s,
                            V *ds, V *dzx, V *dzr) {
    (void)act;
    (void)peep;
    (void)s;
    (void)dzr;
    V z = saved[0], n = saved[1];
    dzx[0] = ds[0] * (n - s_prev[0]) * z * (1 - z);
    dzx[1] = ds[0] * z * v_positive_slope(n);
    ds[0] = ds[0] * (1 - z);
}
