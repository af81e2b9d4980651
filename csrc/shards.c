/* shards.c: an epoch whose batches are computed in shards (bptt_shards).  For each update: the gradient
   of each shard of this call, one after the other, as that of a batch of its own, but with the loss
   scaled for the whole batch, which the caller adds to those before; the exchange, which sums over all
   shards; the update.

   A shard is a part of `order`, and its gradient does not depend on which call computes it.  A
   truncated batch has several updates, between which each shard keeps its tape: in a plan of its own,
   whose weights are copies of those of the first plan, which is the one that is updated. */
#include "training.h"
#include <string.h>

static const bptt_shards *shards_of(const training *t) { return t->run.data->shards; }

int64_t plans_of(const training *t) {
    const bptt_shards *s = shards_of(t);
    return s && t->run.p->k1 ? s->end - s->begin : 1;
}

/* Plan i of the run: the first is that of the updater. */
bptt_plan *plan_of(const training *t, int64_t i) {
    return i > 0 && t->run.p->k1 ? shards_of(t)->plan[i] : t->updater->p;
}

/* 1: the shards of the call fit its plans. */
int may_shard(const training *t) {
    const run *r = &t->run;
    const bptt_shards *s = shards_of(t);
    if (s->begin < 0 || s->begin >= s->end || s->end > s->count || s->batch < 1) return 0;
    for (int64_t i = 1; i < plans_of(t); i++)
        if (!s->plan || s->plan[i]->fixed != r->p->fixed) return 0;
    return r->order && !t->state && !r->data->own_loss &&
        (s->batch - 1) / s->count + 1 <= r->p->batch;
}

/* -- by thread 0, before a barrier -- */

/* The steps of the longest sequence of the batch order[from, to). */
static int64_t longest_of(const run *r, int64_t from, int64_t to) {
    int64_t longest = 0;
    for (int64_t i = from; i < to; i++) longest = max64(longest, r->data->length[r->order[i]]);
    return longest;
}

/* The sums over the whole batch that the loss of an update over its steps [begin, end) is divided
   by. */
static void open_update(training *t, int64_t from, int64_t to, int64_t begin, int64_t end) {
    run *r = &t->run;
    source all = source_of(r->p, r->data);
    all.row = r->order + from;
    r->batch.weight_sum = sum_weights(r->p, &all, to - from, begin, end);
    r->batch.steps = count_steps(&all, to - from, begin, end);
    t->weight[r->done] = r->batch.weight_sum;
    t->loss[r->done] = 0;
    t->row = 0;
}

/* Makes shard i of this call, order[from, to), the present batch. */
static void open_shard(training *t, int64_t i, int64_t from, int64_t to) {
    run *r = &t->run;
    r->p = plan_of(t, i);
    r->n = to;
    r->batch.end = from; /* for begin_group: the first group of a batch */
}

/* 1: the present pass has no last state of a sequence, whose targets alone count; other shards
   of its batch may have some. */
static int ends_none(const run *r) {
    return !r->p->every && !r->p->segment && r->batch.ended >= r->batch.rows;
}

/* The group of the present shard that begins at order[from], and its pass from step `begin` on. */
static void open_group(training *t, int64_t from, int64_t begin) {
    run *r = &t->run;
    bptt_plan *p = r->p;
    batch *b = &r->batch;
    begin_group(r, from, p->steps, t->draw);
    lay_out(p, b->rows, tape_steps(p, b->longest), TRAIN, find_windows(r, b->rows));
    if (begin >= b->longest) return;
    if (begin > 0) b->source.first = p->first;
    open_pass(t, begin, b->longest);
    p->first = b->source.first;
    if (ends_none(r)) memset(p->grad, 0, (size_t)(p->packed_size * p->k->bytes));
}

/* -- by all threads -- */

/* This thread's share of the bytes of a vector, from one place to another. */
static void copy_share(const bptt_plan *p, void *to, const void *from, int rank, int size) {
    const int64_t bytes = p->packed_size * p->k->bytes;
    const int64_t begin = share(bytes, rank, size), end = share(bytes, rank + 1, size);
    memcpy((char *)to + begin, (const char *)from + begin, (size_t)(end - begin));
}

/* The weights of the first plan, which are complete, into the others.  A barrier must follow. */
static void copy_weights(const training *t, team *team, int rank, int size) {
    const bptt_plan *first = plan_of(t, 0);
    for (int64_t i = 1; i < plans_of(t); i++)
        copy_share(first, plan_of(t, i)->packed, first->packed, rank, size);
    if (plans_of(t) > 1) team_barrier(team);
    for (int64_t i = 1; i < plans_of(t); i++) pack_transposed_all(plan_of(t, i), rank, size);
}

/* Gradient and loss of shard i of this call, order[from, to), in the pass from step `begin` on.
   Returns 0 where the run is over. */
static int run_shard(training *t, team *team, int rank, int size, int64_t i, int64_t from,
                     int64_t to, int64_t begin) {
    run *r = &t->run;
    const bptt_shards *s = shards_of(t);
    int going = 1, added = 0;
    if (rank == 0) open_shard(t, i, from, to);
    for (int64_t next = from; next < to && going;) {
        if (rank == 0) open_group(t, next, begin);
        team_barrier(team);
        const int64_t longest = r->batch.longest;
        const int targets = begin < longest && r->batch.loss_desc.scale > 0;
        next += r->p->B;
        touch_fields(r, team, rank, size);
        const int64_t first = r->p->segment ? 0 : r->batch.source.first;
        const span at = { .t0 = first,
                          .t1 = r->p->segment ? longest : first + r->p->T,
                          .r1 = r->batch.rows };
        const int tables = added || ends_none(r) ? NEW_TABLES : NEW_GRADS;
        if (begin < longest && !make_tables(r, &at, tables, team, rank, size)) return 0;
        if (begin < longest && !r->p->segment) /* g would write no gradient of no rows */
            gradient_of_pass(t, team, rank, size, added || ends_none(r));
        else if (targets)
            gradient_by_segments(t, team, rank, size, longest);
        going = !stopped(r);
        if (targets) going &= collect_tables(r, team, rank, size);
        added |= targets;
        team_barrier(team);
    }
    team_barrier(team); /* of an empty shard: it is open */
    if (!going || !(r->batch.weight_sum > 0)) return going;
    const bptt_plan *p = r->p;
    char *sum = real_at(p, s->sums, t->row * p->packed_size);
    if (added)
        copy_share(p, sum, p->grad, rank, size);
    else if (rank == 0)
        memset(sum, 0, (size_t)(p->packed_size * p->k->bytes));
    team_barrier(team);
    if (rank == 0) t->row = call_add(r, s->begin + i, added ? total_loss(r) : 0);
    return !is_over(r, team, rank);
}

/* The sums over all shards, and the update.  Returns 0 where the run is over. */
static int update_batch(training *t, team *team, int rank, int size) {
    run *r = &t->run;
    const bptt_shards *s = shards_of(t);
    team_barrier(team); /* between two calls of is_over */
    if (rank == 0) {
        r->p = plan_of(t, 0);
        t->total = call_exchange(r);
    }
    if (is_over(r, team, rank)) return 0;
    copy_share(r->p, r->p->grad, s->sums, rank, size);
    team_barrier(team);
    if (!finish_update(t, t->total * (1 / t->weight[r->done]), team, rank, size)) return 0;
    copy_weights(t, team, rank, size);
    return 1;
}

/* All updates of the batch order[from, to).  Returns 0 where the run is over. */
static int run_batch(training *t, team *team, int rank, int size, int64_t from, int64_t to) {
    run *r = &t->run;
    const bptt_shards *s = shards_of(t);
    const int64_t n = to - from, longest = longest_of(r, from, to);
    const int64_t steps = r->p->k1 ? r->p->k1 : longest;
    int going = 1;
    if (rank == 0) t->draw = draw_of(t);
    for (int64_t begin = 0; begin < longest && going; begin += steps) {
        if (rank == 0) open_update(t, from, to, begin, min64(begin + steps, longest));
        team_barrier(team);
        const int targets = r->batch.weight_sum > 0;
        for (int64_t i = s->begin; i < s->end && going; i++)
            going = run_shard(t, team, rank, size, i - s->begin, from + n * i / s->count,
                              from + n * (i + 1) / s->count, begin);
        if (going && targets) going = update_batch(t, team, rank, size);
        team_barrier(team);
        if (rank == 0) r->done += going;
    }
    return going;
}

/* The batches from t->next on, as many as make a part of the run, of every thread. */
void train_shards(void *context, team *team, int rank, int size) {
    training *t = context;
    run *r = &t->run;
    const bptt_shards *s = shards_of(t);
    int64_t from = t->next;
    int going = 1;
    if (from == 0) {
        going = load_parameters(r, t->params, t->updater, team, rank, size);
        renew_transposed(r, rank, size);
        copy_weights(t, team, rank, size);
        for (int64_t i = 1; i < plans_of(t) && rank == 0; i++) /* see load_parameters */
            memset(plan_of(t, i)->grad, 0, (size_t)(r->p->packed_size * r->p->k->bytes));
        team_barrier(team);
    }
    const double step = 3 * (double)r->p->packed_size;
    for (double work = 0; from < t->n && going && work < PART_WORK;) {
        const int64_t to = min64(t->n, from + s->batch);
        work += step * (double)(to - from) * (double)longest_of(r, from, to);
        going = run_batch(t, team, rank, size, from, to);
        from = to;
    }
    if (rank == 0) r->p = plan_of(t, 0);
    team_barrier(team);
    if (from >= t->n || !going) store_results(t, team, rank, size, 1);
    if (rank == 0) t->next = going ? from : t->n;
}
