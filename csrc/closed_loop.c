/* closed_loop.c: scheduled sampling.  A step's input may be the output of the step before, so that
   forward and backward run step by step through all layers and g, and nothing can be taken out of
   the loop over time but the weight gradients. */
#include "training.h"

/* Which inputs are outputs of the step before: one draw per sequence and step. */
static dropout sampling_of(const run *r) {
    dropout draws = mask_of(r, 2 * BPTT_MAX_LAYERS, 0);
    draws.p = r->p->sampling_probability;
    return draws;
}

/* A whole chunk forward, then backward; the caller collects the weight gradients.  Each thread for
   its rows, without barriers. */
void closed_loop(run *r, span at) {
    const bptt_plan *p = r->p;
    const source *s = &r->batch.source;
    const dropout draws = sampling_of(r);
    const field *y = &p->value[p->head_layers - 1];
    span now = at;
    for (int64_t t = 0; t < p->T && !stopped(r); t++) {
        now.t0 = t;
        now.t1 = t + 1;
        p->k->gather(s, p->I, p->I, &p->x, &now);
        p->k->feed_back(&draws, s, y, &p->x, &now, 0);
        add_input_noise(r, &now);
        for (int64_t n = 0; n < p->layers; n++) layer_forward(r, n, &now);
        head_forward(p, 1, now);
        if (at.r0 == 0) poll_caller(r, step_work(p));
    }
    clear_state_grads(p, at);
    for (int64_t i = 0; next_readout(p, 1, i, 0, at, &now) && !stopped(r); i++) {
        p->k->loss(&r->batch.loss_desc, s, p->O, y, &now, r->batch.row_loss, 1);
        if (at.r0 == 0) poll_caller(r, step_work(p) * (double)(now.t1 - now.t0));
    }
    now = at;
    for (int64_t t = p->T - 1; t >= 0 && !stopped(r); t--) {
        /* dLoss/dx of step t + 1 is added to dLoss/dy of step t */
        now.t0 = t + 1;
        now.t1 = t + 2;
        if (t + 1 < p->T) p->k->feed_back(&draws, s, y, &p->dx, &now, 1);
        now.t0 = t;
        now.t1 = t + 1;
        head_backward(p, now);
        for (int64_t n = p->layers - 1; n >= 0; n--) layer_backward(r, n, &now);
        head_input_grads(r, now);
        if (at.r0 == 0) poll_caller(r, step_work(p));
    }
    for (int64_t n = 0; needs_start_grad(r) && n < p->layers; n++) finish_layer(r, n, at);
}
