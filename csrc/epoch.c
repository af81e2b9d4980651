/* epoch.c: training in batches.  Read this first: an epoch is batches x groups x passes; a pass is
   forward, loss, backward and weight gradients (truncated.c or checkpoint.c); the last group of a
   batch is followed by an update (update.c).  bptt_loss_grad is the same without updates. */
#include "training.h"
#include <string.h>

/* Which dropout masks the next batch has: the number of updates so far. */
uint64_t draw_of(const training *t) { return t->updater ? (uint64_t)t->updater->hyper->step : 0; }

/* Opens the group that begins at order[from], and lays out the fields for it.  By thread 0. */
static void open_group(training *t, int64_t from) {
    run *r = &t->run;
    bptt_plan *p = r->p;
    batch *b = &r->batch;
    if (begin_group(r, from, p->steps, draw_of(t))) {
        b->weight_sum = chunk_weight(r, b->size, 0, b->longest);
        b->steps = chunk_steps(r, b->size, 0, b->longest);
    }
    place_outputs(r);
    lay_out(p, b->rows, tape_steps(p, b->longest), TRAIN, find_windows(r, b->rows));
}

/* dLoss/dstate0 of the span, as the backward pass left it in ds, to the caller. */
static void store_initial_grads(const training *t, span at) {
    const bptt_plan *p = t->run.p;
    for (int64_t n = 0; t->dstate && n < p->layers * p->directions; n++)
        store_states(&t->run, n, &p->layer[n].ds, 0, at, t->dstate, NULL);
}

/* dLoss/dx and dLoss/dstate0 of the span where no target weighs anything: zeros. */
static void store_zero_grads(const training *t, span at) {
    const bptt_plan *p = t->run.p;
    const source *s = &t->run.batch.source;
    const int64_t bytes = p->I * p->k->bytes, state_bytes = p->state_size * p->k->bytes;
    for (int64_t b = at.r0; b < at.r1; b++) {
        const int64_t i = s->row[b];
        if (t->dx) memset((char *)t->dx + s->offset[i] * bytes, 0, (size_t)(s->length[i] * bytes));
        if (t->dstate) memset((char *)t->dstate + i * state_bytes, 0, (size_t)state_bytes);
    }
}

/* What the caller wants of the inputs and initial states after a pass. */
static void store_input_grads(const training *t, team *team, int rank, int size) {
    if (!t->dx && !t->dstate) return; /* thread 0 may already open the next pass */
    const span at = rows_of(&t->run, rank, size);
    if (t->run.batch.loss_desc.scale > 0)
        store_initial_grads(t, at);
    else
        store_zero_grads(t, at);
    team_barrier(team);
}

/* Update of a batch whose gradient and loss are complete.  Returns 0 if they are not finite, or
   there was no update: the run is over. */
int finish_update(training *t, double loss, team *team, int rank, int size) {
    run *r = &t->run;
    const double norm = gradient_norm(r->p, t->updater, team, rank, size);
    if (rank == 0) {
        if (t->updater)
            t->loss[r->done] = loss;
        else
            *t->loss += loss;
    }
    if (!may_update(r->p, t->updater, loss, norm)) {
        if (rank == 0) r->status = BPTT_DIVERGED;
        return 0;
    }
    if (t->updater) return apply_update(t->updater, r, loss, norm, team, rank, size);
    team_barrier(team); /* before the losses of the next pass are written */
    return 1;
}

/* All passes of the group that open_group opened at order[from].  *added: 1 once a pass of the run
   had a gradient.  Returns 0 where the run is over. */
static int run_group(training *t, team *team, int rank, int size, int64_t from, int *added) {
    run *r = &t->run;
    const bptt_plan *p = r->p;
    const batch *b = &r->batch;
    const int64_t T = b->longest, pass_steps = p->k1 ? p->k1 : T;
    const int is_first = from == b->end - b->size, is_last = from + p->B == b->end;
    int going = 1;
    for (int64_t begin = 0; begin < T && going; begin += pass_steps) {
        if (rank == 0) open_pass(t, begin, T);
        team_barrier(team);
        const int targets = b->loss_desc.scale > 0;
        /* an update follows each batch; without one the gradient is the sum over all passes */
        const int add = t->updater ? !is_first : *added;
        const int64_t first = p->segment ? 0 : b->source.first;
        const span at = { .t0 = first, .t1 = p->segment ? T : first + p->T, .r1 = b->rows };
        if (!make_tables(r, &at, add ? NEW_TABLES : NEW_GRADS, team, rank, size)) return 0;
        if (!p->segment)
            gradient_of_pass(t, team, rank, size, add);
        else if (targets)
            gradient_by_segments(t, team, rank, size, T);
        going = !stopped(r);
        if (going) store_input_grads(t, team, rank, size);
        /* also where !going: thread 0 polls in it, and another thread may see that before it */
        if (targets) going &= collect_tables(r, team, rank, size);
        if (going && targets && is_last)
            going = finish_update(t, total_loss(r) * b->loss_desc.scale, team, rank, size);
        *added |= targets;
        if (going && t->state && !p->segment) {
            store_final_states(r, rows_of(r, rank, size), t->state, NULL);
            team_barrier(team);
        }
        if (rank == 0) r->done += going && is_last;
    }
    return going;
}

/* What the caller gets at the end of a run: new weights, if there was an update, or the gradient. */
void store_results(training *t, team *team, int rank, int size, int added) {
    run *r = &t->run;
    const bptt_plan *p = r->p;
    if (t->updater) {
        team_barrier(team); /* r->done is complete */
        if (r->done > 0) store_parameters(t->updater, r->abandoned, team, rank, size);
        return;
    }
    if (stopped(r)) return;
    if (rank == 0 && !added) memset(p->grad, 0, (size_t)(p->packed_size * p->k->bytes));
    team_barrier(team);
    move_blocks(r, p->k->unpack, p->grad, t->grad, rank, size);
}

/* The groups from t->next on, as many as make a part of the run, of every thread.  What a thread
   needs after the last barrier of a group is in its own variables: thread 0 may already have opened
   the next group. */
static void train_part(void *context, team *team, int rank, int size) {
    training *t = context;
    run *r = &t->run;
    int64_t from = t->next;
    int going = 1, added = t->added; /* the same in every thread */
    if (from == 0) {
        going = load_parameters(r, t->params, t->updater, team, rank, size);
        renew_transposed(r, rank, size);
    }
    for (double work = 0; from < r->n && going && work < PART_WORK;) {
        if (rank == 0) open_group(t, from);
        team_barrier(team);
        touch_fields(r, team, rank, size);
        const int64_t rows = r->p->B;
        from += rows;
        work += 3 * step_work(r->p) * (double)r->batch.longest;
        going = run_group(t, team, rank, size, from - rows, &added);
    }
    if (from >= r->n || !going) store_results(t, team, rank, size, added);
    if (rank > 0) return;
    t->next = going ? from : t->n;
    t->added = added;
}

/* The whole run. */
static void train(training *t) {
    const team_function part = t->run.data->shards ? train_shards : train_part;
    do team_run(&t->run.p->crew, part, t);
    while (t->next < t->n);
}

/* -- the interface -- */

/* One update per batch or, truncated, per k1 steps of its longest sequence. */
int64_t bptt_updates(const bptt_plan *p, const bptt_data *data, const int64_t *order, int64_t n) {
    const int64_t batch = data->shards ? max64(1, data->shards->batch) : p->batch;
    int64_t updates = 0;
    for (int64_t from = 0, to; from < n; from = to) {
        int64_t longest = 0;
        to = min64(n, from + batch);
        for (int64_t i = from; i < to; i++) longest = max64(longest, data->length[order[i]]);
        updates += p->k1 ? (longest - 1) / p->k1 + 1 : 1;
    }
    return updates;
}

/* set_clip for all plans of the run. */
static void clip_states(const training *t, double clip) {
    set_clip(t->run.p, clip);
    for (int64_t i = 1; i < plans_of(t); i++) set_clip(plan_of(t, i), clip);
}

/* The context and the updater lie on this stack; the clip is reset, as the plan outlives them. */
bptt_status bptt_epoch(bptt_plan *p, void *params, void *opt_state, bptt_hyper *hyper,
                       const bptt_data *data, const int64_t *order, int64_t n, double *loss,
                       double *weight, void *state, int64_t *done, bptt_poll poll, void *context) {
    updater updater = { .p = p, .hyper = hyper, .params = params, .opt_state = opt_state };
    training t = {
        .run = { .p = p, .data = data, .order = order, .n = n, .poll = poll, .context = context },
        .n = n,
        .params = params,
        .updater = &updater,
        .loss = loss,
        .weight = weight,
        .state = state,
    };
    if (!has_targets(p, data, 1) || !all_fit(p, data, order, n, 0)) return BPTT_CAPACITY;
    if (data->shards && !may_shard(&t)) return BPTT_CAPACITY;
    const bptt_status status = prepare_updater(&updater);
    if (status) return status;
    clip_states(&t, hyper->clip_state);
    train(&t);
    clip_states(&t, 0);
    *done = t.run.done;
    return t.run.status;
}

/* train() without an updater.  The gradient is that of the mean over the whole batch. */
bptt_status bptt_loss_grad(bptt_plan *p, const void *params, const bptt_data *data,
                           const int64_t *order, int64_t n, double *loss, void *grad, void *dx,
                           void *dstate, bptt_poll poll, void *context) {
    training t = {
        .run = { .p = p, .data = data, .order = order, .n = n, .poll = poll, .context = context },
        .n = n,
        .params = params,
        .loss = loss,
        .grad = grad,
        .dx = dx,
        .dstate = dstate,
    };
    t.run.wants_initial_grad = dstate != NULL;
    if (n > p->batch || (dx && !p->input_gradient) || (p->k1 && (dx || dstate)) ||
        (p->stride && dx) || data->shards || !has_targets(p, data, 1) ||
        !all_fit(p, data, order, n, 0))
        return BPTT_CAPACITY;
    *loss = 0;
    train(&t);
    return t.run.status;
}
