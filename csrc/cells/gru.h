/* gru.h:  n = tanh(zx_n + r * zr_n),  h = n + z * (h_prev - n)      (reset after the product)
   gates r z n      saved in their place: r z n      saved besides: zr_n */
#define GATES 3
#define STATES 1
#define GATE_VALUES 3
#define SAVED 1
#define SEPARATE_DZR 1
#define PASSES_STATE 1
#define KEEP_GATE 1

/* s: h;  saved: r z n zr_n. */
INLINE void gru_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                        V *saved) {
    (void)act;
    (void)peep;
    V r = v_sigmoid(zx[0] + zr[0]);
    V z = v_sigmoid(zx[1] + zr[1]);
    V n = v_tanh(zx[2] + r * zr[2]);
    s[0] = n + z * (s_prev[0] - n);
    saved[0] = r;
    saved[1] = z;
    saved[2] = n;
    saved[3] = zr[2];
}

/* From ds: dh, to the gradients of zx and zr, and to the part of dh_prev that does not come by zr.
   */
INLINE void gru_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s, V *ds,
                         V *dzx, V *dzr) {
    (void)act;
    (void)peep;
    (void)s;
    V r = saved[0], z = saved[1], n = saved[2], zr_n = saved[3];
    V dn = ds[0] * (1 - z) * (1 - n * n);
    dzx[0] = dzr[0] = dn * zr_n * r * (1 - r);
    dzx[1] = dzr[1] = ds[0] * (s_prev[0] - n) * z * (1 - z);
    dzx[2] = dn;
    dzr[2] = dn * r;
    ds[0] = ds[0] * z;
}
