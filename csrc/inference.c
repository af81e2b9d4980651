/* inference.c: prediction and evaluation: forward only, long sequences in chunks of the plan's
   steps, between which the states are carried. */
#include "run.h"
#include "update.h"
#include <string.h>

typedef struct {
    run run;
    const void *params; /* the caller's (P) */
    int every; /* 1: g reads every step; 0: the last one */
    void *y; /* outputs; NULL: losses are wanted */
    void *state; /* final states (n, state size), or NULL */
    double loss_sum; /* of all finished batches */
    double weight_sum;
    double *loss; /* NULL, or where the mean of their losses goes */
    int64_t next; /* where in `order` the next part of the run begins */
} inference;

/* Activations of a chunk that stay in the caches, and take few new pages; its fewest steps, and what
   their number is a multiple of: see frame.zigzag. */
enum { CHUNK_BYTES = 4 << 20, CHUNK_STEPS = 8 };

/* Lays out the fields for chunks of so many rows and at most so many steps: of fewer, if those are
   large. */
static void lay_out_chunk(bptt_plan *p, int64_t rows, int64_t steps) {
    lay_out(p, rows, steps, INFER, 0);
    const int64_t bytes = p->end - p->begin;
    if (p->directions > 1 || bytes <= CHUNK_BYTES) return;
    const int64_t fit = (int64_t)((double)steps * CHUNK_BYTES / (double)bytes);
    lay_out(p, rows, min64(steps, max64(1, fit / CHUNK_STEPS) * CHUNK_STEPS), INFER, 0);
}

/* Opens the group that begins at order[from].  By thread 0. */
static void open_group(inference *f, int64_t from) {
    run *r = &f->run;
    bptt_plan *p = r->p;
    batch *b = &r->batch;
    const int64_t max_steps = tape_steps(p, p->steps);
    const int first = begin_group(r, from, max_steps, 0);
    lay_out_chunk(p, b->rows, min64(b->longest, max_steps));
    b->loss_desc = (loss_desc){ .loss = &p->loss, .every = p->every, .scale = 1 };
    b->new_begin = 0;
    b->several = r->n > 1; /* a sequence gives the same bits in every batch */
    if (!f->y && first) f->weight_sum += chunk_weight(r, b->size, 0, b->longest);
}

/* The present chunk, for this thread's rows. */
static void forward_chunk(inference *f, team *team, int rank, int size) {
    run *r = &f->run;
    batch *b = &r->batch;
    const span at = rows_of(r, rank, size);
    if (at.r1 <= at.r0) return;
    if (b->source.first == 0) {
        init_states(r, at);
        memset(b->row_loss + at.r0, 0, (size_t)(at.r1 - at.r0) * sizeof *b->row_loss);
    }
    layers_forward(r, team, at, rank, size);
    if (f->every)
        outputs_or_losses(r, 1, at, f->y);
    else
        gather_last_states(r, at);
    carry_states(r, at, f->state);
    if (!f->every && b->source.first + r->p->T >= b->longest) outputs_or_losses(r, 0, at, f->y);
}

/* The groups from f->next on, as many as make a part of the run, of every thread. */
static void forward_part(void *context, team *team, int rank, int size) {
    inference *f = context;
    run *r = &f->run;
    bptt_plan *p = r->p;
    int64_t from = f->next;
    if (from == 0 && rank == 0) use_no_values(p);
    if (from == 0 && !load_parameters(r, f->params, NULL, team, rank, size)) return;
    for (double work = 0; from < r->n && work < PART_WORK;) {
        if (rank == 0) open_group(f, from);
        team_barrier(team);
        touch_fields(r, team, rank, size);
        /* of this group: thread 0 may already open the next one */
        const int64_t longest = r->batch.longest, steps = p->T;
        from += p->B;
        work += step_work(p) * (double)longest;
        for (int64_t first = 0; first < longest; first += steps) {
            if (rank == 0) {
                r->batch.source.first = first;
                count_batch_sizes(p, &r->batch.source, steps);
            }
            team_barrier(team);
            const span at = { .t0 = first, .t1 = first + steps, .r1 = r->batch.rows };
            if (!make_tables(r, &at, MORE_TABLES, team, rank, size)) return;
            forward_chunk(f, team, rank, size);
            team_barrier(team);
            if (stopped(r)) return;
        }
        if (rank > 0 || from < r->batch.end) continue;
        if (!f->y) f->loss_sum += total_loss(r);
        r->done++;
    }
    if (rank == 0 && f->loss) *f->loss = f->weight_sum > 0 ? f->loss_sum / f->weight_sum : 0;
    if (rank == 0) f->next = from;
}

/* The whole run. */
static void forward_only(inference *f) {
    do team_run(&f->run.p->crew, forward_part, f);
    while (f->next < f->run.n && !stopped(&f->run));
}

/* Only one direction can run long sequences in chunks: a reverse one begins at the end. */
bptt_status bptt_predict(bptt_plan *p, const void *params, const bptt_data *data,
                         const int64_t *order, int64_t n, int every, void *y, void *state,
                         bptt_poll poll, void *context) {
    inference f = {
        .run = { .p = p, .data = data, .order = order, .n = n, .poll = poll, .context = context },
        .params = params,
        .every = every,
        .y = y,
        .state = state,
    };
    if ((every && !p->every) || !all_fit(p, data, order, n, p->directions == 1))
        return BPTT_CAPACITY;
    forward_only(&f);
    return f.run.status;
}

/* The weighted mean over all batches. */
bptt_status bptt_evaluate(bptt_plan *p, const void *params, const bptt_data *data,
                          const int64_t *order, int64_t n, double *loss, bptt_poll poll,
                          void *context) {
    inference f = {
        .run = { .p = p, .data = data, .order = order, .n = n, .poll = poll, .context = context },
        .params = params,
        .every = p->every,
        .loss = loss,
    };
    if (!has_targets(p, data, 0) || !all_fit(p, data, order, n, p->directions == 1))
        return BPTT_CAPACITY;
    *loss = 0;
    forward_only(&f);
    return f.run.status;
}
