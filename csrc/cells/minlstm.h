/* minlstm.h:  f = s(zx_f),  i = s(zx_i),  n = g(zx_n),  h = (f * h_prev + i * n) / (f + i)
   (Feng et al. 2024)      g(v) = v + 1/2 where v >= 0, else s(v)
   gates f i n      saved in their place: f i n
   The weights of h_prev and n, f / (f + i) and i / (f + i), add up to 1. */
#define GATES 3
#define STATES 1
#define GATE_VALUES 3
#define PASSES_STATE 1
#define KEEP_GATE 0
#define RECURRENT 0

/* s: h;  saved: f i n. */
INLINE void minlstm_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                            V *saved) {
    (void)act;
    (void)peep;
    (void)zr;
    V f = v_sigmoid(zx[0]);
    V i = v_sigmoid(zx[1]);
    V n = v_positive(zx[2]);
    s[0] = n + f / (f + i) * (s_prev[0] - n);
    saved[0] = f;
    saved[1] = i;
    saved[2] = n;
}

/* From ds: dh, to the gradients of zx, and to dh_prev.  keep: f / (f + i). */
INLINE void minlstm_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s,
                             V *ds, V *dzx, V *dzr) {
    (void)act;
    (void)peep;
    (void)s;
    (void)dzr;
    V f = saved[0], i = saved[1], n = saved[2];
    V keep = f / (f + i);
    V d = ds[0] * (s_prev[0] - n) * keep * (1 - keep);
    dzx[0] = d * (1 - f);
    dzx[1] = -d * (1 - i);
    dzx[2] = ds[0] * (1 - keep) * v_positive_slope(n);
    ds[0] = ds[0] * keep;
}
