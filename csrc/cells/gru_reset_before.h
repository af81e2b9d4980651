/* gru_reset_before.h: the GRU of Cho et al. 2014, reset before the product:
     [r z] = sigmoid(zx_rz + U_rz h_prev + b_rz),   v = r * h_prev,
     n = tanh(zx_n + U_n v + b_n),                  h = n + z * (h_prev - n)

   The cell has its own loops over time, since U_n waits for r: a step is a product, the gates, a
   second product, the state; and backward the same in mirrored order.
   f->inner[0].w: U_rz;  f->inner[1].w: U_n (the rows of weight_hh). */
#define GATES 3
#define STATES 1
#define SAVED 1
#define KEEP_GATE 1
#define OWN_LOOP 1
#define TWO_PRODUCTS 1

/* The frame's fields by what this cell has in them, each (T, B, width); and for one step t of a
   span its rows [r0, r1). */
typedef struct {
    /* width H: h[t-1], and times the mask of recurrent dropout, which the products read; h[t] */
    field state;
    field h_prev;
    field h;
    /* width 3H: the input projection; its gradient */
    field zx;
    field dzx;
    /* width 2H: U_rz h_prev, then r and z; gradients of their pre-activations */
    field rz;
    field dz_rz;
    /* width H: v;  U_n v, then n;  gradient of n's pre-activation */
    field v;
    field n;
    field dz_n;
    /* width H, one chunk: dLoss/dh carried; dLoss/dv, then all that reaches h_prev by products */
    field ds;
    field dv;
    int64_t t;
    int64_t r0;
    int64_t r1;
} gru_reset_before_step;

INLINE gru_reset_before_step gru_reset_before_at(const frame *f, const span *at, int64_t t) {
    return (gru_reset_before_step){
        .state = later(&f->s, f->reverse),
        .h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse),
        .h = later(&f->s, !f->reverse),
        .zx = inputs_at(f, t),
        .dzx = f->dzx,
        .rz = f->a[0],
        .dz_rz = f->da[0],
        .v = f->a[1],
        .n = f->saved,
        .dz_n = f->da[1],
        .ds = later(&f->ds, -t),
        .dv = later(&f->dh, -t),
        .t = t,
        .r0 = at->r0,
        .r1 = last_row(at, t),
    };
}

/* A vector of the fields: step t, row r, block b of the units. */
typedef struct {
    int64_t t;
    int64_t r;
    int64_t b;
} gru_reset_before_place;

/* The vector there: of a field of width H; of gate RESET or UPDATE in one of width 2H; of gate RESET,
   UPDATE or NEW in one of width 3H. */
enum { RESET, UPDATE, NEW };
INLINE real *of_unit(const field *x, gru_reset_before_place i) { return chunk(x, i.t, i.r, i.b); }
INLINE real *of_rz(const field *x, int gate, gru_reset_before_place i) {
    return chunk(x, i.t, i.r, 2 * i.b + gate);
}
INLINE real *of_rzn(const field *x, int gate, gru_reset_before_place i) {
    return chunk(x, i.t, i.r, 3 * i.b + gate);
}

/* [r z] = sigmoid(zx_rz + U_rz h_prev + b_rz),  v = r * h_prev.  bias: b_hh, laid out as zx. */
INLINE void gru_reset_before_gates(const gru_reset_before_step *s, int64_t blocks,
                                   const real *bias) {
    for (int64_t b = 0; b < blocks; b++)
        for (row_part of = first_vector(s->r0, s->r1); of.vectors > 0;
             of = next_vector(&of, s->r1)) {
            const gru_reset_before_place i = { s->t, of.r, b };
            const VI *lanes = lanes_of(&of);
            UNROLL_FOR (int gate = RESET; gate <= UPDATE; gate++) {
                const V z = v_load(of_rz(&s->rz, gate, i)) + v_load(of_rzn(&s->zx, gate, i));
                v_store_lanes(of_rz(&s->rz, gate, i),
                              v_sigmoid(z + v_weight(bias + (3 * b + gate) * CL)), lanes);
            }
            v_store_lanes(of_unit(&s->v, i),
                          v_load(of_rz(&s->rz, RESET, i)) * v_load(of_unit(&s->h_prev, i)), lanes);
        }
}

/* n = tanh(zx_n + U_n v + b_n),  h = n + z * (h_prev - n) */
INLINE void gru_reset_before_state(const gru_reset_before_step *s, int64_t blocks,
                                   const real *bias) {
    for (int64_t b = 0; b < blocks; b++)
        for (row_part of = first_vector(s->r0, s->r1); of.vectors > 0;
             of = next_vector(&of, s->r1)) {
            const gru_reset_before_place i = { s->t, of.r, b };
            const VI *lanes = lanes_of(&of);
            const V product = v_load(of_unit(&s->n, i)) + v_load(of_rzn(&s->zx, NEW, i));
            const V n = v_tanh(product + v_weight(bias + (3 * b + NEW) * CL));
            const V z = v_load(of_rz(&s->rz, UPDATE, i));
            v_store_lanes(of_unit(&s->n, i), n, lanes);
            v_store_lanes(of_unit(&s->h, i), n + z * (v_load(of_unit(&s->state, i)) - n), lanes);
        }
}

/* From dh to the pre-activations of n and z, and to h_prev by way of z. */
INLINE void gru_reset_before_state_backward(const gru_reset_before_step *s, const frame *f) {
    for (int64_t b = 0; b < blocks_of(f->H); b++)
        for (row_part of = first_vector(s->r0, s->r1); of.vectors > 0;
             of = next_vector(&of, s->r1)) {
            const gru_reset_before_place i = { s->t, of.r, b };
            const VI *lanes = lanes_of(&of);
            V dh = v_load(of_unit(&s->ds, i));
            if (f->dy.p) dh += v_load(chunk(&f->dy, s->t, of.r, b));
            if (f->clip > 0) dh = v_clip(dh, (real)f->clip);
            const V n = v_load(of_unit(&s->n, i));
            const V z = v_load(of_rz(&s->rz, UPDATE, i));
            v_store_lanes(of_unit(&s->dz_n, i), dh * (1 - z) * (1 - n * n), lanes);
            v_store_lanes(of_rz(&s->dz_rz, UPDATE, i),
                          dh * (v_load(of_unit(&s->state, i)) - n) * z * (1 - z), lanes);
            v_store_lanes(of_unit(&s->ds, i), dh * z, lanes);
        }
}

/* From dv to the pre-activation of r, and to h_prev by way of v; and dzx, which is that of all
   three pre-activations. */
INLINE void gru_reset_before_gates_backward(const gru_reset_before_step *s, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++)
        for (row_part of = first_vector(s->r0, s->r1); of.vectors > 0;
             of = next_vector(&of, s->r1)) {
            const gru_reset_before_place i = { s->t, of.r, b };
            const VI *lanes = lanes_of(&of);
            const V dv = v_load(of_unit(&s->dv, i));
            const V reset = v_load(of_rz(&s->rz, RESET, i));
            v_store_lanes(of_rz(&s->dz_rz, RESET, i),
                          dv * v_load(of_unit(&s->h_prev, i)) * reset * (1 - reset), lanes);
            v_store_lanes(of_unit(&s->dv, i), dv * reset, lanes);
            v_store_lanes(of_rzn(&s->dzx, RESET, i), v_load(of_rz(&s->dz_rz, RESET, i)), lanes);
            v_store_lanes(of_rzn(&s->dzx, UPDATE, i), v_load(of_rz(&s->dz_rz, UPDATE, i)), lanes);
            v_store_lanes(of_rzn(&s->dzx, NEW, i), v_load(of_unit(&s->dz_n, i)), lanes);
        }
}

/* The steps and rows of the span, in the direction of the layer. */
static void NAME(gru_reset_before_scan_forward)(const frame *f, const span *at) {
    const int64_t blocks = blocks_of(f->H);
    const real *bias = (const real *)f->packed + f->b_hh.packed;
    const matrix *U_rz = &f->inner[0].w, *U_n = &f->inner[1].w;
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t1 - 1 - n : at->t0 + n;
        const span here = one_step(at, t);
        const gru_reset_before_step s = gru_reset_before_at(f, at, t);
        NAME(forward)(U_rz, f->packed, NULL, 0, ACT_LINEAR, &s.h_prev, NULL, &s.rz, &here);
        gru_reset_before_gates(&s, blocks, bias);
        NAME(forward)(U_n, f->packed, NULL, 0, ACT_LINEAR, &s.v, NULL, &s.n, &here);
        gru_reset_before_state(&s, blocks, bias);
        if (f->mask.p) NAME(multiply)(&f->s, &f->mask, &f->masked, t + !f->reverse, s.r0, s.r1);
    }
}

/* The same steps in the opposite direction. */
static void NAME(gru_reset_before_scan_backward)(const frame *f, const span *at) {
    const int64_t blocks = blocks_of(f->H);
    const matrix *U_rz = &f->inner[0].w, *U_n = &f->inner[1].w;
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t0 + n : at->t1 - 1 - n;
        const span here = one_step(at, t);
        const gru_reset_before_step step = gru_reset_before_at(f, at, t), *s = &step;
        gru_reset_before_state_backward(s, f);
        NAME(backward)(U_n, 0, &s->dz_n, &s->dv, 0, ACT_LINEAR, NULL, &here);
        gru_reset_before_gates_backward(s, blocks);
        NAME(backward)(U_rz, 0, &s->dz_rz, &s->dv, 1, ACT_LINEAR, NULL, &here);
        if (f->mask.p) NAME(multiply)(&f->dh, &f->mask, &f->dh, 0, s->r0, s->r1);
        for (int64_t b = 0; b < blocks; b++)
            for (row_part of = first_vector(s->r0, s->r1); of.vectors > 0;
                 of = next_vector(&of, s->r1)) {
                const gru_reset_before_place i = { t, of.r, b };
                const V ds = v_load(of_unit(&s->ds, i)) + v_load(of_unit(&s->dv, i));
                v_store_lanes(of_unit(&s->ds, i), ds, lanes_of(&of));
            }
    }
}

/* Nothing is left after step 0: ds is complete. */
static void NAME(gru_reset_before_scan_finish)(const frame *f, const span *at) {
    (void)f;
    (void)at;
}

/* dU_rz = sum of dz_rz' h_prev,  dU_n = sum of dz_n' v;  part `part` of `parts` of each. */
static void NAME(gru_reset_before_collect)(const frame *f, void *grad, int add, const span *at,
                                           int64_t part, int64_t parts) {
    const field h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse);
    NAME(collect)(&f->inner[0].w, 0, &h_prev, &f->da[0], grad, add, at, part, parts);
    NAME(collect)(&f->inner[1].w, 0, &f->a[1], &f->da[1], grad, add, at, part, parts);
}
