/* lstm.h:  c = f * c_prev + i * g,  h = o * tanh(c)
   gates i f g o      saved in their place: i f g o      saved besides: tanh(c) */
#define GATES 4
#define STATES 2
#define GATE_VALUES 4
#define SAVED 1
#define PROJECTION 1
#define KEEP_GATE 1

/* s: h c;  saved: i f g o tanh(c). */
INLINE void lstm_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                         V *saved) {
    (void)act;
    (void)peep;
    V i = v_sigmoid(zx[0] + zr[0]);
    V f = v_sigmoid(zx[1] + zr[1]);
    V g = v_tanh(zx[2] + zr[2]);
    V o = v_sigmoid(zx[3] + zr[3]);
    V c = f * s_prev[1] + i * g;
    V tanh_c = v_tanh(c);
    s[0] = o * tanh_c;
    s[1] = c;
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = o;
    saved[4] = tanh_c;
}

/* From ds: dh dc, to the gradients of zx and zr, and to dc_prev. */
INLINE void lstm_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s,
                          V *ds, V *dzx, V *dzr) {
    (void)act;
    (void)peep;
    (void)s;
    V i = saved[0], f = saved[1], g = saved[2], o = saved[3], tanh_c = saved[4];
    V dc = ds[1] + ds[0] * o * (1 - tanh_c * tanh_c);
    dzx[0] = dzr[0] = dc * g * i * (1 - i);
    dzx[1] = dzr[1] = dc * s_prev[1] * f * (1 - f);
    dzx[2] = dzr[2] = dc * i * (1 - g * g);
    dzx[3] = dzr[3] = ds[0] * tanh_c * o * (1 - o);
    ds[1] = dc * f;
}
