/* ctrnn.h: a continuous-time rate network, equation="rate":
   a = act(zx + zr),  h = (1 - alpha) h_prev + alpha a + noise
   peep: alpha = dt/tau, slope of log(noise)      saved in the place of zx: a */
#define GATES 1
#define STATES 1
#define GATE_VALUES 1
#define PASSES_STATE 1
#define ACTIVATION 1
#define LEAK 1

/* s: noise, then h;  saved: a. */
INLINE void ctrnn_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                          V *saved) {
    V a = v_act(act, zx[0] + zr[0]);
    s[0] += (1 - peep[0]) * s_prev[0] + peep[0] * a;
    saved[0] = a;
}

/* dz = alpha dh . act'(a),  (1 - alpha) dh to h_prev,  and with a - h_prev = pull
   dalpha = dh (pull + slope noise),  noise = h - h_prev - alpha pull */
INLINE void ctrnn_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s,
                           V *ds, V *dzx, V *dzr) {
    V pull = saved[0] - s_prev[0];
    dzr[1] = ds[0] * (pull + peep[1] * (s[0] - s_prev[0] - peep[0] * pull));
    dzx[0] = dzr[0] = peep[0] * ds[0] * v_dact(act, saved[0]);
    ds[0] = (1 - peep[0]) * ds[0];
}
