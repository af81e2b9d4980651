/* mlp.h:  a_1 = act(zx + W_hh h_prev + b_hh),  a_l = act_l(W_l a_(l-1) + b_l),  h = a_L

   f is an MLP of any depth L; L = 1 is the Elman cell.  The cell has its own loops over time, since
   the layers after the first run inside a step.
   f->inner[l]: layer l + 2 (so f->depth is L - 1);  f->a[l]: values of layer l + 1;
   f->dzx, da[0], da[1] ...: gradients of the pre-activations of layers 1, 2, 3 ... */
#define GATES 1
#define STATES 1
#define ACTIVATION 1
#define HIDDEN_LAYERS 1
#define OWN_LOOP 1

/* The steps and rows of the span, in the direction of the layer. */
static void NAME(mlp_scan_forward)(const frame *f, const span *at) {
    const field h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse);
    const field h = later(&f->s, !f->reverse);
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t1 - 1 - n : at->t0 + n;
        const span here = one_step(at, t);
        const field zx = inputs_at(f, t);
        const field *a = f->depth ? &f->a[0] : &h;
        NAME(forward)(&f->hh, f->packed, &f->b_hh, 0, f->act, &h_prev, &zx, a, &here);
        for (int64_t l = 0; l < f->depth; l++) {
            const dense *layer = &f->inner[l];
            const field *above = l + 1 < f->depth ? &f->a[l + 1] : &h;
            NAME(forward)(&layer->w, f->packed, &layer->b, 0, layer->act, a, NULL, above, &here);
            a = above;
        }
        if (f->mask.p)
            NAME(multiply)(&f->s, &f->mask, &f->masked, t + !f->reverse, at->r0, last_row(at, t));
    }
}

/* dz_L = dh . act_L'(h),  dh = dy + carried, of one step t.  ds, dz: shifted to it, (rows, H). */
INLINE void mlp_backward_output(const frame *f, const span *at, int64_t t, int act, const field *ds,
                                const field *dz) {
    const field h = later(&f->s, !f->reverse);
    const int64_t end = last_row(at, t);
    for (int64_t b = 0; b < blocks_of(f->H); b++)
        for (row_part of = first_vector(at->r0, end); of.vectors > 0; of = next_vector(&of, end)) {
            V dh = v_load(chunk(ds, t, of.r, b));
            if (f->dy.p) dh += v_load(chunk(&f->dy, t, of.r, b));
            if (f->clip > 0) dh = v_clip(dh, (real)f->clip);
            const V slope = v_dact(act, v_load(chunk(&h, t, of.r, b)));
            v_store_lanes(chunk(dz, t, of.r, b), dh * slope, lanes_of(&of));
        }
}

/* The same steps in the opposite direction. */
static void NAME(mlp_scan_backward)(const frame *f, const span *at) {
    const int act = f->depth ? f->inner[f->depth - 1].act : f->act;
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t0 + n : at->t1 - 1 - n;
        const span here = one_step(at, t);
        const field ds = later(&f->ds, -t); /* it has one chunk, for every step */
        const field *dz = f->depth ? &f->da[f->depth - 1] : &f->dzx;
        mlp_backward_output(f, at, t, act, &ds, dz);
        for (int64_t l = f->depth - 1; l >= 0; l--) {
            const field *below = l ? &f->da[l - 1] : &f->dzx;
            const int act_below = l ? f->inner[l - 1].act : f->act;
            NAME(backward)(&f->inner[l].w, 0, dz, below, 0, act_below, &f->a[l], &here);
            dz = below;
        }
        NAME(backward)(&f->hh, 0, &f->dzx, &ds, 0, ACT_LINEAR, NULL, &here);
        if (f->mask.p) NAME(multiply)(&f->ds, &f->mask, &f->ds, 0, at->r0, last_row(at, t));
    }
}

/* Nothing is left after step 0: ds is complete. */
static void NAME(mlp_scan_finish)(const frame *f, const span *at) {
    (void)f;
    (void)at;
}

/* Gradients of the weights and biases inside the loop; part `part` of `parts` of each. */
static void NAME(mlp_collect)(const frame *f, void *grad, int add, const span *at, int64_t part,
                              int64_t parts) {
    const field h_prev = later(f->mask.p ? &f->masked : &f->s, f->reverse);
    NAME(collect)(&f->hh, 0, &h_prev, &f->dzx, grad, add, at, part, parts);
    for (int64_t l = 0; l < f->depth; l++) {
        const dense *layer = &f->inner[l];
        NAME(collect)(&layer->w, 0, &f->a[l], &f->da[l], grad, add, at, part, parts);
        NAME(collect_bias)(&layer->b, NULL, &f->da[l], grad, add, at, part, parts);
    }
}
