/* autodiff.c: for a program that takes derivatives of its own: forward, then from dLoss/dy
   backward, each in a call.  In between the tape stays in the arena; groups of similar lengths lie
   one after the other. */
#include "run.h"
#include "update.h"
#include <string.h>

typedef struct {
    run run;
    const bptt_forward_arrays *forward; /* the caller's; NULL in bptt_backward */
    const bptt_backward_arrays *backward; /* the caller's; NULL in bptt_forward */
} autodiff;

/* -- the caller's blocks of parameters -- */

/* For each_block: the caller's block into the packed vector, or zeros. */
static void pack_block(const matrix *m, const void *from, void *work, int64_t rank, int64_t size) {
    const autodiff *a = from;
    const bptt_plan *p = a->run.p;
    const char *own = a->forward->params[m->block];
    if (own)
        p->k->pack(m, own - m->first * p->k->bytes, work, rank, size);
    else if (rank == 0)
        memset(real_at(p, work, m->packed), 0, (size_t)(m->size * p->k->bytes));
}

/* For each_block: the packed gradient into the caller's block, if it is wanted. */
static void unpack_block(const matrix *m, const void *from, void *unused, int64_t rank,
                         int64_t size) {
    const autodiff *a = from;
    const bptt_plan *p = a->run.p;
    char *own = a->backward->grad[m->block];
    (void)unused;
    if (own) p->k->unpack(m, p->grad, own - m->first * p->k->bytes, rank, size);
}

/* -- groups -- */

/* Rows [from, to) of the sorted batch are a group: all of them or, with an `area`, those at least
   half as long as the first.  Returns `to`. */
static int64_t group_end(const run *r, int64_t from) {
    const int64_t *length = r->data->length, *row = r->p->row;
    int64_t to = r->p->grouped ? from + 1 : r->n;
    while (to < r->n && 2 * length[row[to]] >= length[row[from]]) to++;
    return to;
}

/* 1: the tapes of all groups fit the arena at once. */
static int tape_fits(const run *r) {
    int64_t left = r->p->area;
    for (int64_t from = 0, to; from < r->n && left >= 0; from = to) {
        to = group_end(r, from);
        left -= (to - from) * r->data->length[r->p->row[from]];
    }
    return left >= 0;
}

/* Opens the group that begins at row `from`; its tape lies behind that of the group before.  By
   thread 0. */
static void open_group(run *r, int64_t from, int purpose) {
    bptt_plan *p = r->p;
    batch *b = &r->batch;
    b->source.row = p->row + from;
    b->longest = r->data->length[p->row[from]];
    b->rows = group_end(r, from) - from;
    lay_out_at(p, from ? p->end : (int64_t)p->fixed, b->rows, b->longest, purpose, 0);
    begin_chunk(r, 0, b->longest);
}

/* -- forward -- */

/* bptt_forward, of every thread. */
static void forward_groups(void *context, team *team, int rank, int size) {
    autodiff *a = context;
    run *r = &a->run;
    bptt_plan *p = r->p;
    const int keeps = a->forward->keep || p->dropout > 0 || p->recurrent_dropout > 0 ||
        p->recurrent_noise > 0 || p->input_noise > 0;
    move_blocks(r, pack_block, a, p->packed, rank, size);
    if (is_over(r, team, rank)) return;
    if (p->trained_tau && rank == 0) derive_time_constants(p);
    const span all = { .t1 = p->steps, .r1 = r->n };
    if (!make_tables(r, &all, keeps ? NEW_GRADS : NEW_TABLES, team, rank, size)) return;
    for (int64_t from = 0, rows; from < r->n && !stopped(r); from += rows) {
        if (rank == 0) open_group(r, from, keeps ? TRAIN : INFER);
        team_barrier(team);
        touch_fields(r, team, rank, size);
        rows = p->B;
        const span at = rows_of(r, rank, size);
        if (at.r1 > at.r0) {
            init_states(r, at);
            layers_forward(r, team, at, rank, size);
            if (!p->every) gather_last_states(r, at);
            outputs_or_losses(r, p->every, at, a->forward->y);
            if (a->forward->final) store_final_states(r, at, NULL, a->forward->final);
        }
        team_barrier(team);
    }
}

/* What backward must know of this call is kept in the plan: p->taped, p->given, p->draw; its sorted
   rows are in p->row. */
bptt_status bptt_forward(bptt_plan *p, const bptt_data *data, int64_t n,
                         const bptt_forward_arrays *arrays, bptt_poll poll, void *context) {
    autodiff a = {
        .run = { .p = p, .data = data, .n = n, .poll = poll, .context = context },
        .forward = arrays,
    };
    run *r = &a.run;
    if (n < 1 || n > p->batch || unfolds_in_parts(p) || !all_fit(p, data, NULL, n, 0))
        return BPTT_CAPACITY;
    r->batch.initial = arrays->initial;
    begin_batch(r, 0, arrays->draw);
    if (!tape_fits(r)) return BPTT_CAPACITY;
    p->crew.hosted = 1;
    team_run(&p->crew, forward_groups, &a);
    p->draw = arrays->draw;
    p->given = data->state || arrays->initial;
    p->taped = !r->status && arrays->keep ? n : 0;
    return r->status;
}

/* -- backward -- */

/* dLoss/ds after the last step: the caller's, or zeros. */
static void load_final_grads(const autodiff *a, span at) {
    const bptt_plan *p = a->run.p;
    const void *const *dfinal = a->backward->dfinal;
    clear_state_grads(p, at);
    for (int64_t n = 0; dfinal && n < p->layers * p->directions; n++)
        for (int q = p->cell->follows; q < p->cell->states; q++) {
            const field kind = state_kind(p, &p->layer[n], &p->layer[n].ds, q);
            if (dfinal[q - p->cell->follows]) load_kind(&a->run, n, q, dfinal, &kind, 0, at);
        }
}

/* The present group.  All threads. */
static void backward_group(autodiff *a, team *team, int rank, int size, int add) {
    run *r = &a->run;
    const bptt_plan *p = r->p;
    const bptt_backward_arrays *b = a->backward;
    const span at = rows_of(r, rank, size);
    const int any = at.r1 > at.r0;
    if (any) {
        load_final_grads(a, at);
        outputs_backward(r, b->dy, at);
    }
    layers_backward(r, team, at, add, rank, size);
    if (any && b->dx) p->k->scatter(&r->batch.source, p->I, p->I, &p->dx, &at, -1, b->dx);
    for (int64_t n = 0; any && b->dinitial && n < p->layers * p->directions; n++)
        store_states(r, n, &p->layer[n].ds, 0, at, NULL, b->dinitial);
    team_barrier(team);
    collect_rest(r, add, rank, size);
    collect_readout(r, add, rank, size);
    team_barrier(team);
}

/* bptt_backward, of every thread. */
static void backward_groups(void *context, team *team, int rank, int size) {
    autodiff *a = context;
    run *r = &a->run;
    bptt_plan *p = r->p;
    renew_transposed(r, rank, size);
    if (is_over(r, team, rank)) return;
    for (int64_t from = 0, rows; from < r->n && !stopped(r); from += rows) {
        if (rank == 0) open_group(r, from, TRAIN);
        team_barrier(team);
        rows = p->B;
        backward_group(a, team, rank, size, from > 0);
    }
    if (!collect_tables(r, team, rank, size)) return;
    move_blocks(r, unpack_block, a, NULL, rank, size);
}

/* Consumes the tape: a second backward is refused. */
bptt_status bptt_backward(bptt_plan *p, const bptt_data *data, int64_t n,
                          const bptt_backward_arrays *arrays, bptt_poll poll, void *context) {
    autodiff a = {
        .run = { .p = p, .data = data, .n = n, .poll = poll, .context = context },
        .backward = arrays,
    };
    run *r = &a.run;
    if (!p->taped || n != p->taped || (arrays->dx && !p->input_gradient)) return BPTT_CAPACITY;
    p->taped = 0;
    r->wants_initial_grad = arrays->dinitial != NULL;
    r->batch.given = p->given;
    r->batch.draw = p->draw;
    r->batch.source = source_of(p, data);
    if (!all_fit(p, data, NULL, n, 0) || !tape_fits(r)) return BPTT_CAPACITY;
    p->crew.hosted = 1;
    team_run(&p->crew, backward_groups, &a);
    return r->status;
}
