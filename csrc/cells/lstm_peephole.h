/* lstm_peephole.h: the LSTM whose gates also see the cell state (Gers and Schmidhuber 2000):
   i = s(z_i + p_i * c_prev),  f = s(z_f + p_f * c_prev),  c = f * c_prev + i * g,
   o = s(z_o + p_o * c),  h = o * tanh(c)
   gates i f g o      peep: p_i p_f p_o      saved in their place: i f g o      saved besides:
   tanh(c) */
#define GATES 4
#define STATES 2
#define GATE_VALUES 4
#define SAVED 1
#define PEEPHOLES 3
#define PEEPHOLE_TERMS \
    { 0, 1, 0 }, { 1, 1, 0 }, { 3, 1, 1 }
#define PROJECTION 1
#define KEEP_GATE 1

/* s: h c;  saved: i f g o tanh(c). */
INLINE void lstm_peephole_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev,
                                  V *s, V *saved) {
    (void)act;
    V i = v_sigmoid(zx[0] + zr[0] + peep[0] * s_prev[1]);
    V f = v_sigmoid(zx[1] + zr[1] + peep[1] * s_prev[1]);
    V g = v_tanh(zx[2] + zr[2]);
    V c = f * s_prev[1] + i * g;
    V tanh_c = v_tanh(c);
    V o = v_sigmoid(zx[3] + zr[3] + peep[2] * c);
    s[0] = o * tanh_c;
    s[1] = c;
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = o;
    saved[4] = tanh_c;
}

/* From ds: dh dc, to the gradients of zx and zr, and to dc_prev. */
INLINE void lstm_peephole_backward(int act, const V *peep, const V *saved, const V *s_prev,
                                   const V *s, V *ds, V *dzx, V *dzr) {
    (void)act;
    (void)s;
    V i = saved[0], f = saved[1], g = saved[2], o = saved[3], tanh_c = saved[4];
    V dz_o = ds[0] * tanh_c * o * (1 - o);
    V dc = ds[1] + ds[0] * o * (1 - tanh_c * tanh_c) + peep[2] * dz_o;
    V dz_f = dc * s_prev[1] * f * (1 - f);
    V dz_i = dc * g * i * (1 - i);
    dzx[0] = dzr[0] = dz_i;
    dzx[1] = dzr[1] = dz_f;
    dzx[2] = dzr[2] = dc * i * (1 - g * g);
    dzx[3] = dzr[3] = dz_o;
    ds[1] = dc * f + peep[0] * dz_i + peep[1] * dz_f;
}
