/* gru_reset_before.h: the GRU of Cho et al. 2014, reset before the product:
   [r z] = s(zx_rz + U_rz h_prev + b_rz),  v = r * h_prev,  n = tanh(zx_n + U_n v + b_n),  h = n + z
   * (h_prev - n) A cell with its own loop over time, since U_n waits for r.  inner[0].w: U_rz,
   inner[1].w: U_n (rows of weight_hh). a[0]: r z (T, B, 2H);  a[1]: v;  saved: n;  da[0]: gradients
   of z_r z_z;  da[1]: of z_n;  dh: scratch (B, H) */
#define GATES 3
#define STATES 1
#define SAVED 1
#define KEEP_GATE 1
#define OWN_LOOP 1
#define TWO_PRODUCTS 1

static void NAME(gru_reset_before_scan_forward)(const frame *f, const span *at) {
    const field h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse), state = later(&f->s, f->reverse),
        h = later(&f->s, !f->reverse);
    for (int64_t i = 0; i < at->t1 - at->t0; i++) {
        const int64_t t = f->reverse ? at->t1 - 1 - i : at->t0 + i, rows = last_row(at, t);
        const span here = one_step(at, t);
        const field zx = inputs_at(f, t);
        NAME(forward)(&f->inner[0].w, f->packed, NULL, 0, ACT_LINEAR, &h_prev, NULL, &f->a[0], &here);
        const real *bias = (const real *)f->packed + f->b_hh.packed;
        for (int64_t b = 0; b < blocks_of(f->H); b++)
            for (int64_t r = at->r0; r < rows; r++) {
                real *reset = chunk(&f->a[0], t, r, 2 * b), *update = chunk(&f->a[0], t, r, 2 * b + 1);
                v_store(reset, v_sigmoid(v_load(reset) + v_load(chunk(&zx, t, r, 3 * b)) + v_load(bias + 3 * b * VL)));
                v_store(update, v_sigmoid(v_load(update) + v_load(chunk(&zx, t, r, 3 * b + 1)) +
                                          v_load(bias + (3 * b + 1) * VL)));
                v_store(chunk(&f->a[1], t, r, b), v_load(reset) * v_load(chunk(&h_prev, t, r, b)));
            }
        NAME(forward)(&f->inner[1].w, f->packed, NULL, 0, ACT_LINEAR, &f->a[1], NULL, &f->saved, &here);
        for (int64_t b = 0; b < blocks_of(f->H); b++)
            for (int64_t r = at->r0; r < rows; r++) {
                const V n = v_tanh(v_load(chunk(&f->saved, t, r, b)) + v_load(chunk(&zx, t, r, 3 * b + 2)) +
                                   v_load(bias + (3 * b + 2) * VL));
                const V before = v_load(chunk(&state, t, r, b)), z = v_load(chunk(&f->a[0], t, r, 2 * b + 1));
                v_store(chunk(&f->saved, t, r, b), n);
                v_store(chunk(&h, t, r, b), n + z * (before - n));
            }
        if (f->mask.p) NAME(multiply)(&f->s, &f->mask, &f->masked, t + !f->reverse, at->r0, rows);
    }
}
static void NAME(gru_reset_before_scan_backward)(const frame *f, const span *at) {
    const field h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse), state = later(&f->s, f->reverse);
    for (int64_t i = 0; i < at->t1 - at->t0; i++) {
        const int64_t t = f->reverse ? at->t0 + i : at->t1 - 1 - i, rows = last_row(at, t);
        const span here = one_step(at, t);
        const field ds = later(&f->ds, -t), dv = later(&f->dh, -t);              /* one chunk each */
        for (int64_t b = 0; b < blocks_of(f->H); b++)
            for (int64_t r = at->r0; r < rows; r++) {
                V dh = v_load(chunk(&ds, t, r, b));
                if (f->dy.p) dh += v_load(chunk(&f->dy, t, r, b));
                if (f->clip > 0) dh = v_clip(dh, (real)f->clip);
                const V n = v_load(chunk(&f->saved, t, r, b)), z = v_load(chunk(&f->a[0], t, r, 2 * b + 1));
                v_store(chunk(&f->da[1], t, r, b), dh * (1 - z) * (1 - n * n));
                v_store(chunk(&f->da[0], t, r, 2 * b + 1), dh * (v_load(chunk(&state, t, r, b)) - n) * z * (1 - z));
                v_store(chunk(&ds, t, r, b), dh * z);
            }
        NAME(backward)(&f->inner[1].w, 0, &f->da[1], &dv, 0, ACT_LINEAR, NULL, &here);
        for (int64_t b = 0; b < blocks_of(f->H); b++)
            for (int64_t r = at->r0; r < rows; r++) {
                const V d = v_load(chunk(&dv, t, r, b)), reset = v_load(chunk(&f->a[0], t, r, 2 * b));
                v_store(chunk(&f->da[0], t, r, 2 * b), d * v_load(chunk(&h_prev, t, r, b)) * reset * (1 - reset));
                v_store(chunk(&dv, t, r, b), d * reset);
                for (int g = 0; g < 3; g++)
                    v_store(chunk(&f->dzx, t, r, 3 * b + g),
                            v_load(g < 2 ? chunk(&f->da[0], t, r, 2 * b + g) : chunk(&f->da[1], t, r, b)));
            }
        NAME(backward)(&f->inner[0].w, 0, &f->da[0], &dv, 1, ACT_LINEAR, NULL, &here);   /* all that reaches h_prev by products */
        if (f->mask.p) NAME(multiply)(&f->dh, &f->mask, &f->dh, 0, at->r0, rows);
        for (int64_t b = 0; b < blocks_of(f->H); b++)
            for (int64_t r = at->r0; r < rows; r++)
                v_store(chunk(&ds, t, r, b), v_load(chunk(&ds, t, r, b)) + v_load(chunk(&dv, t, r, b)));
    }
}
static void NAME(gru_reset_before_scan_finish)(const frame *f, const span *at) { (void)f, (void)at; }   /* ds is complete */
static void NAME(gru_reset_before_collect)(const frame *f, void *grad, int add, const span *at, int64_t part, int64_t parts) {
    const field h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse);
    NAME(collect)(&f->inner[0].w, 0, &h_prev, &f->da[0], grad, add, at, part, parts);
    NAME(collect)(&f->inner[1].w, 0, &f->a[1], &f->da[1], grad, add, at, part, parts);
}
