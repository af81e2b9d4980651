/* truncated.c: the gradient of one pass over a batch.

   Unfolded over all steps at once, a batch is one pass.  Truncated, each pass has k1 new steps, its
   errors travel back over at most k2 steps through activations as they were computed, and the
   weights are updated after it.  The tape keeps the last k2 - k1 steps for the passes to come. */
#include "training.h"
#include <string.h>

/* -- by thread 0, before a barrier -- */

/* Moves `keep` chunks of field f, those before chunk `from`, to its front. */
static void move_chunks(const bptt_plan *p, const field *f, int64_t from, int64_t keep,
                        int64_t chunks) {
    if (!f->p) return;
    memmove(f->p, real_at(p, f->p, (from - keep) * f->step),
            (size_t)(chunks * f->step * p->k->bytes));
}

/* Moves the last `keep` steps before step `from` to the front of the tape: all that later passes
   read of them. */
static void move_tape(bptt_plan *p, int64_t from, int64_t keep) {
    move_chunks(p, &p->x, from, keep, keep);
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        move_chunks(p, &f->s, from, keep, keep + 1);
        move_chunks(p, &f->masked, from, keep, keep + 1);
        move_chunks(p, &f->gate_values, from, keep, keep);
        move_chunks(p, &f->saved, from, keep, keep);
        move_chunks(p, &f->m, from, keep, keep);
        move_chunks(p, &p->dropped[n], from, keep, keep);
        for (int64_t i = 0; i < f->depth; i++) move_chunks(p, &f->a[i], from, keep, keep);
    }
}

/* The scale of the loss, and zeros to sum losses into.  The loss is a mean over the target weights
   of an update, the penalty of rates one over its new steps; the gradient alone is that of the means
   over the whole batch. */
static void set_scale(training *t, double weight, double steps) {
    run *r = &t->run;
    const bptt_plan *p = r->p;
    batch *b = &r->batch;
    const double rates = (double)(p->layers * p->directions * p->R);
    b->rate_share = p->rate_penalty / (rates * (t->updater ? steps : b->steps));
    b->loss_desc = (loss_desc){
        .loss = &r->p->loss,
        .every = r->p->every,
        .scale = weight > 0 ? 1 / (t->updater ? weight : b->weight_sum) : 0,
    };
    if (t->updater) {
        t->weight[r->done] = weight;
        t->loss[r->done] = 0;
    }
    memset(b->row_loss, 0, (size_t)r->p->B * sizeof *b->row_loss);
}

/* Opens the pass with the new steps from `begin` on, of a batch of T steps. */
void open_pass(training *t, int64_t begin, int64_t T) {
    run *r = &t->run;
    bptt_plan *p = r->p;
    batch *b = &r->batch;
    if (p->segment) { /* gradient_by_segments opens its chunks */
        set_scale(t, b->weight_sum, b->steps);
        return;
    }
    const int64_t steps = p->k1 ? min64(p->k1, T - begin) : T;
    const int64_t old = p->k1 ? min64(begin, p->k2 - p->k1) : 0;
    int64_t new_begin = begin - b->source.first;
    if (new_begin + steps > p->layout_steps) {
        move_tape(p, new_begin, old);
        b->source.first = begin - old;
        new_begin = old;
    }
    begin_chunk(r, b->source.first, new_begin + steps);
    b->new_begin = new_begin;
    b->grad_begin = new_begin - old;
    b->rows = p->batch_sizes[new_begin];
    if (p->k1 && !r->data->shards)
        set_scale(t, chunk_weight(r, p->B, new_begin, p->T), chunk_steps(r, p->B, new_begin, p->T));
    else
        set_scale(t, b->weight_sum, b->steps);
}

/* -- by all threads -- */

/* Zeros into dLoss/dh from above at the steps of the pass that are not new. */
static void clear_old(const run *r, span at) {
    const bptt_plan *p = r->p;
    const field *dy = &p->layer[p->layers * p->directions - 1].dy;
    for (int64_t t = r->batch.grad_begin; p->every && t < r->batch.new_begin; t++)
        p->k->zero_rows(dy, t, at.r0, at.r1);
}

/* Outputs, the caller's own loss of them, and the backward pass through g. */
static void own_readout(run *r, team *team, span at, int rank) {
    const int any = at.r1 > at.r0;
    void *y = r->data->own_loss->y;
    if (any) outputs_or_losses(r, r->p->every, at, y);
    team_barrier(team);
    if (rank == 0) call_own_loss(r);
    team_barrier(team);
    if (any) outputs_backward(r, y, at);
}

/* Forward, losses and backward for this thread's rows, then (within layers_backward) its tiles of
   the layers' weight gradients. */
static void forward_backward(training *t, team *team, int rank, int size, int add) {
    run *r = &t->run;
    const bptt_plan *p = r->p;
    const batch *b = &r->batch;
    const span at = rows_of(r, rank, size);
    const int any = at.r1 > at.r0, targets = b->loss_desc.scale > 0;
    const int own = r->data->own_loss != NULL;
    const int sampled = p->sampling_probability > 0;
    if (any && b->source.first + b->new_begin == 0) init_states(r, at);
    if (any && sampled)
        closed_loop(r, at);
    else if (any) {
        layers_forward(r, team, at, rank, size);
        if (!p->every) gather_last_states(r, at);
        if (targets) {
            clear_state_grads(p, at);
            clear_old(r, at);
            if (!own) readout(r, at, b->row_loss);
        }
    }
    if (targets && own) own_readout(r, team, at, rank);
    if (targets && !sampled) layers_backward(r, team, at, add, rank, size);
    if (any && t->dx && targets) p->k->scatter(&b->source, p->I, p->I, &p->dx, &at, -1, t->dx);
}

/* The layers' weight gradients after a closed loop. */
static void collect_closed_loop(run *r, int add, int rank, int size) {
    const bptt_plan *p = r->p;
    const span all = all_rows(r);
    for (int64_t n = 0; n < p->layers; n++) {
        const double work = layer_work(p, &p->layer[n]) * (double)p->T / size;
        collect_block(r, n, add, &all, work, rank, size);
    }
}

/* The gradient of the pass that open_pass opened, into p->grad, added to what is there if `add`. */
void gradient_of_pass(training *t, team *team, int rank, int size, int add) {
    run *r = &t->run;
    bptt_plan *p = r->p;
    if (p->shared) {
        project_series(r, rank, size);
        team_barrier(team);
    }
    forward_backward(t, team, rank, size, add);
    team_barrier(team);
    if (p->shared) {
        sum_series(r, rank, size);
        team_barrier(team);
    }
    if (!stopped(r) && r->batch.loss_desc.scale > 0) {
        if (p->sampling_probability > 0) collect_closed_loop(r, add, rank, size);
        collect_rest(r, add, rank, size);
        collect_readout(r, add, rank, size);
    }
    team_barrier(team);
}
