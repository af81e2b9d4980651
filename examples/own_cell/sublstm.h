/* sublstm.h: the subtractive LSTM (Costa et al. 2017), whose gates inhibit instead of multiply:
   f = s(zx_f + zr_f), z, o, i likewise,  c = f * c_prev + z - i,  h = s(c) - o
   gates f z o i      saved in their place: f z o i      s(c) = h + o follows */
#define GATES 4
#define STATES 2
#define GATE_VALUES 4
#define KEEP_GATE 0

/* s: h c;  saved: f z o i. */
INLINE void sublstm_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                            V *saved) {
    (void)act, (void)peep;
    V f = v_sigmoid(zx[0] + zr[0]), z = v_sigmoid(zx[1] + zr[1]);
    V o = v_sigmoid(zx[2] + zr[2]), i = v_sigmoid(zx[3] + zr[3]);
    V c = f * s_prev[1] + z - i;
    s[0] = v_sigmoid(c) - o;
    s[1] = c;
    saved[0] = f, saved[1] = z, saved[2] = o, saved[3] = i;
}

/* From ds: dh dc, to the gradients of zx and zr, and to dc_prev. */
INLINE void sublstm_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s,
                             V *ds, V *dzx, V *dzr) {
    (void)act, (void)peep;
    V f = saved[0], z = saved[1], o = saved[2], i = saved[3];
    V open = s[0] + o;
    V dc = ds[1] + ds[0] * open * (1 - open);
    dzx[0] = dzr[0] = dc * s_prev[1] * f * (1 - f);
    dzx[1] = dzr[1] = dc * z * (1 - z);
    dzx[2] = dzr[2] = -ds[0] * o * (1 - o);
    dzx[3] = dzr[3] = -dc * i * (1 - i);
    ds[1] = dc * f;
}
