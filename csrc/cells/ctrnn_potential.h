/* ctrnn_potential.h: a continuous-time rate network, equation="potential":
   v = (1 - alpha) v_prev + alpha (zx + zr) + noise,  h = act(v)
   peep: alpha = dt/tau, slope of log(noise)      saved in the place of zx: zx + zr
   The derivative of act follows from h. */
#define GATES 1
#define STATES 2
#define GATE_VALUES 1
#define FOLLOWS 1
#define ACTIVATION 1
#define LEAK 1
#define LEAK_VALUES 1

/* s: h, and noise, then v. */
INLINE void ctrnn_potential_forward(int act, const V *peep, const V *zx, const V *zr,
                                    const V *s_prev, V *s, V *saved) {
    V drive = zx[0] + zr[0];
    s[1] += (1 - peep[0]) * s_prev[1] + peep[0] * drive;
    s[0] = v_act(act, s[1]);
    saved[0] = drive;
}

/* dv += dh . act'(h),  dz = alpha dv,  (1 - alpha) dv to v_prev,  and with zx + zr - v_prev = pull
   dalpha = dv (pull + slope noise),  noise = v - v_prev - alpha pull */
INLINE void ctrnn_potential_backward(int act, const V *peep, const V *saved, const V *s_prev,
                                     const V *s, V *ds, V *dzx, V *dzr) {
    V dv = ds[1] + ds[0] * v_dact(act, s[0]), pull = saved[0] - s_prev[1];
    dzr[1] = dv * (pull + peep[1] * (s[1] - s_prev[1] - peep[0] * pull));
    dzx[0] = dzr[0] = peep[0] * dv;
    ds[1] = (1 - peep[0]) * dv;
}
