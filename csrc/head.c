/* head.c: g, the dense layers between h of the top layer, with `skip` and the input x of the same
   step, and the outputs y: forward, losses, backward, and the gradients of its weights.  No arithmetic
   on data.

   g works on every step or, without readout_every_step, once on the last states.  Each thread calls
   these for its rows, collect_readout for its tiles. */
#include "run.h"

/* What g reads: per direction h after every step, or the last one; the input of that step.  Each is a
   column group of its first layer.  Returns their number. */
static int readout_of(const bptt_plan *p, int every, field in[3]) {
    for (int d = 0; d < p->directions; d++) {
        const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
        in[d] = every ? from_step(p, &f->s, !f->reverse) : p->last[d];
    }
    if (p->skip) in[p->directions] = every ? p->x : p->last_x;
    return p->directions + p->skip;
}

/* Multiply-adds of the span, forward. */
static double readout_work(const bptt_plan *p, int every, span at) {
    const span to = readout_span(every, at);
    return head_work(p) * (double)((to.r1 - to.r0) * (to.t1 - to.t0));
}

/* y of the span, into the last p->value.  In the first layer x is summed before h: its integers choose
   columns after an activation. */
void head_forward(const bptt_plan *p, int every, span at) {
    field in[3];
    const int inputs = readout_of(p, every, in);
    const span to = readout_span(every, at);
    for (int64_t l = 0; l < p->head_layers; l++) {
        const dense *g = &p->head[l];
        const field *y = &p->value[l];
        const int column_groups = l ? 1 : inputs;
        for (int i = 0; i < column_groups; i++) {
            const int s = (i + p->directions) % column_groups;
            p->k->forward(&g->w, p->packed, i ? NULL : &g->b, s,
                          i + 1 < column_groups ? ACT_LINEAR : g->act,
                          l ? &p->value[l - 1] : &in[s], i ? y : NULL, y, &to);
        }
    }
}

/* 1: layers_backward runs the backward pass through g, block by block: dLoss/dh goes into the cache and
   from there into the top layer.  With two directions, which need it in opposite orders, it is run
   before. */
int head_is_in_layers(const bptt_plan *p) {
    return p->every && p->head_layers > 0 && p->directions == 1;
}

/* From dLoss/dy, in place of y, to dLoss/dh: into dy of the top layers or, for the last states,
   added to their ds. */
void head_backward(const bptt_plan *p, span at) {
    const span to = readout_span(p->every, at);
    const int64_t top = (p->layers - 1) * p->directions;
    for (int64_t l = p->head_layers - 1; l > 0; l--)
        p->k->backward(&p->head[l].w, 0, pre_activation_grad(p, l), &p->head_grad[l - 1], 0,
                       p->head[l - 1].act, &p->value[l - 1], &to);
    for (int d = 0; p->head_layers && d < p->directions; d++) {
        const frame *f = &p->layer[top + d];
        p->k->backward(&p->head[0].w, d, pre_activation_grad(p, 0), p->every ? &f->dy : &f->ds,
                       !p->every, ACT_LINEAR, NULL, &to);
    }
}

/* Adds g's part to dLoss/dx of the chunk, which the layers left in p->dx: of its new steps or, for the
   last states, of the last steps of the rows that end there. */
void head_input_grads(const run *r, span at) {
    const bptt_plan *p = r->p;
    if (!p->skip || !p->input_gradient || at.r1 <= at.r0) return;
    const field *dz = pre_activation_grad(p, 0);
    const matrix *w = &p->head[0].w;
    if (p->every) {
        p->k->backward(w, p->directions, dz, &p->dx, 1, ACT_LINEAR, NULL, &at);
        return;
    }
    for (int64_t b = at.r0; b < at.r1; b++) {
        const int64_t steps = steps_left(r, b);
        span one = readout_span(0, at);
        one.r0 = b;
        one.r1 = b + 1;
        if (steps <= 0 || steps > p->T) continue;
        const field dx = from_step(p, &p->dx, steps - 1);
        p->k->backward(w, p->directions, dz, &dx, 1, ACT_LINEAR, NULL, &one);
    }
}

/* -- forward only -- */

/* The outputs of the span, of g or (without one) of the top layer, to the caller's y. */
static void store_outputs(const run *r, int every, span at, void *y) {
    const bptt_plan *p = r->p;
    const source *s = &r->batch.source;
    const span from = readout_span(every, at);
    field h[3];
    if (p->head_layers) {
        p->k->scatter(s, p->O, p->O, &p->value[p->head_layers - 1], &from, every, y);
        return;
    }
    readout_of(p, every, h);
    for (int d = 0; d < p->directions; d++)
        p->k->scatter(s, p->O, p->R, &h[d], &from, every, real_at(p, y, d * p->R));
}

/* The outputs of the chunk to y or, if y is NULL, their losses into row_loss: a block of steps at a
   time, or once for the last states. */
void outputs_or_losses(run *r, int every, span rows, void *y) {
    const bptt_plan *p = r->p;
    const int main_thread = rows.r0 == 0;
    span at;
    for (int64_t i = 0; next_readout(p, every, i, 0, rows, &at) && !stopped(r); i++) {
        const span to = readout_span(every, at);
        head_forward(p, every, at);
        if (y)
            store_outputs(r, every, at, y);
        else
            p->k->loss(&r->batch.loss_desc, &r->batch.source, p->O, &p->value[p->head_layers - 1],
                       &to, r->batch.row_loss, 0);
        if (main_thread) poll_caller(r, readout_work(p, every, at));
    }
}

/* -- forward and backward -- */

/* Losses (into row_loss, or nowhere if it is NULL) and, unless head_is_in_layers, the backward pass
   through g: a block of new steps at a time, or once for the last states. */
void readout(run *r, span rows, double *row_loss) {
    const bptt_plan *p = r->p;
    const field *y = &p->value[p->head_layers - 1];
    const int main_thread = rows.r0 == 0;
    span at;
    if (!p->every) rows.r0 = max64(rows.r0, r->batch.ended);
    for (int64_t i = 0; next_readout(p, p->every, i, r->batch.new_begin, rows, &at); i++) {
        const span to = readout_span(p->every, at);
        if (stopped(r) || at.r1 <= at.r0) return;
        head_forward(p, p->every, at);
        p->k->loss(&r->batch.loss_desc, &r->batch.source, p->O, y, &to, row_loss, 1);
        if (!head_is_in_layers(p)) head_backward(p, at);
        if (main_thread) poll_caller(r, 3 * readout_work(p, p->every, at));
    }
}

/* dLoss/dy of the span from the caller's array, to where the backward pass begins: in place of y
   or, without g, into dy of the top layer. */
static void load_output_grads(const run *r, const void *dy, span at) {
    const bptt_plan *p = r->p;
    const span to = readout_span(p->every, at);
    const int64_t top = (p->layers - 1) * p->directions;
    source from = r->batch.source;
    from.offset = from.target_offset;
    from.values = dy;
    if (!p->every) from.start = NULL;
    if (p->head_layers) p->k->gather(&from, p->O, p->O, &p->value[p->head_layers - 1], &to);
    for (int d = 0; !p->head_layers && d < p->directions; d++) {
        from.values = real_at(p, dy, d * p->R);
        p->k->gather(&from, p->O, p->R, &p->layer[top + d].dy, &to);
    }
}

/* From the caller's dLoss/dy to dLoss/dh of the top layer, unless head_is_in_layers: then to where that
   begins. */
void outputs_backward(run *r, const void *dy, span rows) {
    const bptt_plan *p = r->p;
    const int main_thread = rows.r0 == 0;
    span at;
    for (int64_t i = 0; next_readout(p, p->every, i, 0, rows, &at) && !stopped(r); i++) {
        load_output_grads(r, dy, at);
        if (!head_is_in_layers(p)) head_backward(p, at);
        if (main_thread) poll_caller(r, step_work(p) * (double)(at.t1 - at.t0));
    }
}

/* -- weight gradients -- */

/* The gradients of g's weights over the span, part `part` of `parts` of the tiles. */
void collect_head(const bptt_plan *p, int add, span all, int64_t part, int64_t parts) {
    field in[3];
    const int inputs = readout_of(p, p->every, in);
    const span at = readout_span(p->every, all);
    for (int64_t l = 0; l < p->head_layers; l++) {
        const dense *g = &p->head[l];
        const field *dz = pre_activation_grad(p, l);
        for (int s = 0; s < (l ? 1 : inputs); s++)
            p->k->collect(&g->w, s, l ? &p->value[l - 1] : &in[s], dz, p->grad, add, &at, part,
                          parts);
        p->k->collect_bias(&g->b, NULL, dz, p->grad, add, &at, part, parts);
    }
}

/* The same over the new steps, or over the last states of the rows that end in the chunk.  All
   threads, each its tiles, in slices between which thread 0 polls. */
void collect_readout(run *r, int add, int rank, int size) {
    const bptt_plan *p = r->p;
    span at = all_rows(r);
    at.t0 = r->batch.new_begin;
    if (!p->every) at.r0 = r->batch.ended;
    const double work = readout_work(p, p->every, at) / size;
    const int slices = slices_of(work);
    for (int i = 0; i < slices && !stopped(r); i++) {
        collect_head(p, add, at, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
}
