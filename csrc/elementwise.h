/* elementwise.h: the loops over time of a cell without a recurrent product (RECURRENT 0), in place of
   those of scan.h, which includes it:

   forward, t upwards:     s[t], saved[t] = cell(zx[t], s[t-1])
   backward, t downwards:  dzx[t], ds[t-1] = cell'(dy[t] + ds[t], saved[t], ...)

   A unit reads nothing but its own state.  All products are outside, over many steps at once; here a
   step costs what its activations cost to read and to write. */

/* Forward: the steps and rows of the span, in the direction of the layer. */
static void C(NAME(scan_forward))(const frame *f, const span *at) {
    const int64_t blocks = blocks_of(f->H);
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t1 - 1 - n : at->t0 + n;
        const int64_t end = last_padded_row(at, t);
        for (row_part of = first_part(at->r0, end); of.vectors > 0; of = next_part(&of, end)) {
            const C(step) step = C(step_at)(f, t, &of);
            for (int64_t b = 0; b < blocks; b++)
                C(forward_tile)(1, f, &step, 0, of.vectors, b, NULL, 0);
        }
    }
}

/* Backward: the same steps in the opposite direction.  Where a sequence ends, ds is what its final
   state was given. */
static void C(NAME(scan_backward))(const frame *f, const span *at) {
    const int64_t blocks = blocks_of(f->H);
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        const int64_t t = f->reverse ? at->t0 + n : at->t1 - 1 - n;
        const int64_t end = last_padded_row(at, t);
        for (row_part of = first_part(at->r0, end); of.vectors > 0; of = next_part(&of, end)) {
            const C(step) step = C(step_at)(f, t, &of);
            for (int64_t b = 0; b < blocks; b++)
                C(backward_tile)(1, f, &step, 0, of.vectors, b, NULL, 0, 0, 0);
        }
    }
}

/* Nothing is left after step 0: ds is complete. */
static void C(NAME(scan_finish))(const frame *f, const span *at) {
    (void)f;
    (void)at;
}

/* Gradients of the weights inside the loop: those per unit, if there are any. */
static void C(NAME(collect))(const frame *f, void *grad, int add, const span *at, int64_t part,
                             int64_t parts) {
#if PEEPHOLES
    C(NAME(peephole_gradient))(f, grad, add, at, part, parts);
#else
    (void)f, (void)grad, (void)add, (void)at, (void)part, (void)parts;
#endif
}
