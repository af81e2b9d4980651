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
/* dp_i = sum of dz_i * c_prev,  dp_f = sum of dz_f * c_prev,  dp_o = sum of dz_o * c, over steps
   and rows of the span; of its threads this one has part `part` of `parts`. */
static void NAME(lstm_peephole_peephole_gradient)(const frame *f, void *grad, int add,
                                                  const span *at, int64_t part, int64_t parts) {
    static const int gate[] = { 0, 1, 3 }, new_c[] = { 0, 0, 1 };
    const int64_t blocks = blocks_of(f->H), c = blocks_of(f->R);
    for (int64_t n = 3 * blocks * part / parts; n < 3 * blocks * (part + 1) / parts; n++) {
        real *g = (real *)grad + f->peep.packed + n * CL;
        const int64_t b = n / 3, q = n % 3;
        V sum = add ? v_load_part(g, CL) : v_set(0);
        for (int64_t t = at->t0; t < at->t1; t++) {
            const int64_t end = last_row(at, t), t_c = t + (f->reverse ^ new_c[q]);
            for (row_part of = first_vector(at->r0, end); of.vectors > 0;
                 of = next_vector(&of, end)) {
                const V dz = v_load_lanes(chunk(&f->dzx, t, of.r, b * 4 + gate[q]), lanes_of(&of));
                sum += dz * v_load_lanes(chunk(&f->s, t_c, of.r, c + b), lanes_of(&of));
            }
        }
        w_store(g, w_sum_rows(sum));
    }
}
