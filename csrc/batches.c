/* batches.c: which sequences, rows and steps come next, and when the caller is polled.

   A batch is sorted by decreasing length, so that the active rows at each step are the first ones.
   A batch of very different lengths is cut into groups of its rows so that rows x steps of each fit
   the plan; the gradient is the sum over the groups, in this order, with one update after the last.
   A group runs in chunks of steps: all of them, the steps of a pass, or a segment.  Within a chunk
   a layer direction runs in blocks of steps whose activations fit the cache.  No arithmetic on
   data. */
#include "run.h"
#include <math.h>

enum { BLOCK_BYTES = 384 << 10 }; /* activations of a block: they should stay in the L2 cache */
enum { OUTPUT_WORK = 50 }; /* multiply-adds that the loss of one output takes as long as */
enum { MOVE_WORK = 30 }; /* and to write one real: the system clears new pages */

static const double BLOCK_WORK = 1e9; /* multiply-adds of a block of more than one step, at most */

/* -- the caller's poll -- */

/* Stops the run for its caller.  By thread 0. */
static void stop_run(run *r) {
    r->status = BPTT_INTERRUPTED;
    atomic_store_explicit(&r->stop, 1, memory_order_relaxed);
}

/* Calls the caller's poll, if there is one; a true answer stops the run. */
void call_poll(run *r) {
    r->unpolled = 0;
    const int answer = r->poll && !stopped(r) ? r->poll(r->context, r->done) : 0;
    r->abandoned |= answer < 0;
    if (answer) stop_run(r);
}

/* -- a loss of the caller's own -- */

/* The outputs of the batch go to the caller's y, sequence after sequence.  By thread 0, after the
   weights of the targets were read. */
void place_outputs(run *r) {
    batch *b = &r->batch;
    const bptt_own_loss *own = r->data->own_loss;
    int64_t row = 0;
    for (int64_t i = b->end - b->size; own && i < b->end; i++) {
        const int64_t sequence = r->order ? r->order[i] : i;
        own->row[sequence] = row;
        row += r->p->every ? r->data->length[sequence] : 1;
    }
    if (own) b->source.target_offset = own->row;
}

/* For call_outside. */
static int call_function(void *context) {
    const run *r = context;
    const batch *b = &r->batch;
    const bptt_own_loss *own = r->data->own_loss;
    return own->function(own->context, b->end - b->size, b->size, b->row_loss);
}

/* From the outputs in the caller's y to the loss of the batch, in place of that of its first row, and
   dLoss/dy.  By thread 0. */
void call_own_loss(run *r) {
    r->batch.loss_desc.scale = 1;
    if (!stopped(r) && call_outside(call_function, r)) stop_run(r);
}

/* What a call of one of the functions of shards takes and gives. */
typedef struct {
    const bptt_shards *shards;
    int64_t shard, row;
    double loss;
} shard_call;

/* For call_outside. */
static int add_shard(void *context) {
    shard_call *c = context;
    c->row = c->shards->add(c->shards->context, c->shard, c->loss);
    return c->row < 0;
}
static int exchange(void *context) {
    shard_call *c = context;
    return c->shards->exchange(c->shards->context, &c->loss);
}

/* After a shard with this sum of losses: the row for the sum of the next one.  By thread 0. */
int64_t call_add(run *r, int64_t shard, double loss) {
    shard_call c = { .shards = r->data->shards, .shard = shard, .loss = loss };
    if (!stopped(r) && call_outside(add_shard, &c)) stop_run(r);
    return c.row;
}

/* By thread 0: puts the sum over all shards in place of the first; returns that of their losses. */
double call_exchange(run *r) {
    shard_call c = { .shards = r->data->shards };
    if (!stopped(r) && call_outside(exchange, &c)) stop_run(r);
    return c.loss;
}

/* Multiply-adds that take as long as to write so many reals into memory that may be new. */
double move_work(int64_t reals) { return MOVE_WORK * (double)reals; }

enum { PAGE_BYTES = 4096, TOUCHED_BYTES = 1 << 20, FRESH_BYTES = 16 << 20 };

/* Writes to each page of the group's fields that no group before it had, if these are many: the system
   clears a page at the first write, and a slice of rows writes to the pages of all rows.  All threads,
   after a barrier, in pieces between which thread 0 polls. */
void touch_fields(run *r, team *team, int rank, int size) {
    bptt_plan *p = r->p;
    const int64_t begin = max64(p->touched, (int64_t)p->fixed), end = p->end;
    if (end - begin < FRESH_BYTES) return;
    for (int64_t from = begin + rank * TOUCHED_BYTES; from < end && !stopped(r);
         from += size * TOUCHED_BYTES) {
        for (int64_t i = from; i < min64(from + TOUCHED_BYTES, end); i += PAGE_BYTES) {
            volatile char *at = p->arena + i;
            *at = *at;
        }
        if (rank == 0) poll_caller(r, size * move_work(TOUCHED_BYTES / p->k->bytes));
    }
    team_barrier(team);
    if (rank == 0) p->touched = end;
}

/* Multiply-adds of one step, forward. */
double step_work(const bptt_plan *p) { return p->step_size * (double)p->B; }

/* Reals of the weight matrices of one layer direction, and multiply-adds of its step. */
int64_t layer_size(const frame *f) {
    int64_t size = f->ih.size + f->hh.size + f->hr.size;
    for (int64_t i = 0; i < f->depth; i++) size += f->inner[i].w.size;
    return size;
}
double layer_work(const bptt_plan *p, const frame *f) {
    return (double)layer_size(f) * (double)p->B;
}

/* Multiply-adds of g and of the loss for one target, forward. */
double head_work(const bptt_plan *p) {
    int64_t size = OUTPUT_WORK * p->O;
    for (int64_t l = 0; l < p->head_layers; l++) size += p->head[l].w.size;
    return (double)size;
}

/* Steps between two polls where a run takes only a few rows. */
int64_t poll_steps(const bptt_plan *p) { return max64(1, (int64_t)(POLL_WORK / step_work(p))); }

/* Multiply-adds of a slice of work between two polls, and its fewest rows where rows are cut: much, as
   each slice reads all weights or all rows.  Half as many rows, if these would be more work than
   LONG_WORK. */
static const double SLICE_WORK = 2e8;
static const double LONG_WORK = 1e9;
enum { FEWEST_ROWS = 128 };

/* The number of slices of a thread's tiles, between which the caller is polled. */
int slices_of(double work) { return 1 + (int)fmin(work / SLICE_WORK, 1000); }

/* -- what a run is given -- */

/* 1: the network has a g, and the targets lie so that a loss of ours can be computed; or, for a verb
   that takes one, the caller's own: of a batch that is one group, unfolded over all its steps. */
int has_targets(const bptt_plan *p, const bptt_data *data, int takes_own) {
    const int whole = !p->k1 && !p->segment && !p->grouped && p->sampling_probability == 0;
    return p->head_layers > 0 && !data->start && (!data->own_loss || (takes_own && whole));
}

/* 1: every sequence has a step and (unless long ones run in blocks) no more than the plan's. */
int all_fit(const bptt_plan *p, const bptt_data *data, const int64_t *order, int64_t n,
            int blocks) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t length = data->length[order ? order[i] : i];
        if (length < 1 || (!blocks && length > p->steps)) return 0;
    }
    return 1;
}

/* The rows of a batch, p->row, in the caller's arrays. */
source source_of(const bptt_plan *p, const bptt_data *d) {
    return (source){
        .values = d->values,
        .targets = d->targets,
        .weight = d->weight,
        .state = d->state,
        .classes = d->classes,
        .offset = d->offset,
        .length = d->length,
        .target_offset = d->target_offset,
        .start = d->start,
        .number = d->number,
        .row = p->row,
    };
}

/* -- batches, groups and chunks: thread 0 opens them, before a barrier -- */

/* Shell sort by decreasing length; a batch of equal lengths stays as it is, and is not gone through
   but once. */
static void sort_rows(const int64_t *length, int64_t *row, int64_t B) {
    int64_t sorted = 1;
    while (sorted < B && length[row[sorted - 1]] >= length[row[sorted]]) sorted++;
    if (sorted >= B) return;
    for (int64_t gap = B / 2; gap > 0; gap /= 2)
        for (int64_t i = gap; i < B; i++) {
            const int64_t moved = row[i];
            int64_t j = i;
            for (; j >= gap && length[row[j - gap]] < length[moved]; j -= gap)
                row[j] = row[j - gap];
            row[j] = moved;
        }
}

/* The batch that begins at order[from]: its rows by length.  By thread 0. */
void begin_batch(run *r, int64_t from, uint64_t draw) {
    bptt_plan *p = r->p;
    batch *b = &r->batch;
    b->size = min64(r->n - from, p->batch);
    b->end = from + b->size;
    b->source = source_of(p, r->data);
    b->given = r->data->state != NULL;
    b->draw = draw;
    for (int64_t i = 0; i < b->size; i++) p->row[i] = r->order ? r->order[from + i] : from + i;
    sort_rows(r->data->length, p->row, b->size);
}

/* The group that begins at order[from], with as many of the batch's rows as fit at once, max_steps
   steps of them.  Returns 1 if it is the first group of its batch.  By thread 0. */
int begin_group(run *r, int64_t from, int64_t max_steps, uint64_t draw) {
    bptt_plan *p = r->p;
    batch *b = &r->batch;
    const int first = from == b->end;
    if (first) begin_batch(r, from, draw);
    const int64_t begin = from - (b->end - b->size);
    b->source.row = p->row + begin;
    b->source.first = 0;
    b->row_loss = p->row_loss + begin;
    b->longest = r->data->length[p->row[begin]];
    b->rows = min64(b->end - from, p->area / min64(b->longest, max_steps));
    return first;
}

/* Writes p->batch_sizes, the active rows at each of T steps.  Returns how many rows have steps
   after them. */
int64_t count_batch_sizes(bptt_plan *p, const source *s, int64_t T) {
    int64_t b = p->B;
    for (int64_t t = 0; t <= T; t++) {
        while (b > 0 && s->length[s->row[b - 1]] - s->first <= t) b--;
        p->batch_sizes[t] = t < T ? b : 0;
    }
    return b;
}

/* The chunk of T steps that begins at step `first` of the sequences, all new.  By thread 0. */
void begin_chunk(run *r, int64_t first, int64_t T) {
    batch *b = &r->batch;
    b->source.first = first;
    b->new_begin = b->grad_begin = 0;
    r->p->T = T;
    b->ended = count_batch_sizes(r->p, &b->source, T);
}

/* 1: the B rows are consecutive windows into one series, and to project each row of the series once
   is less work than to project those of all windows.  Fills the plan's series_ arrays.  By
   thread 0. */
int find_windows(run *r, int64_t B) {
    bptt_plan *p = r->p;
    const bptt_data *d = r->data;
    const int64_t T = d->length[p->row[0]], first = d->offset[p->row[0]], stride = p->stride;
    if (!stride || B < 2 || stride >= T || stride * series_rows(p, B, T) > T * B) return 0;
    for (int64_t b = 0; b < B; b++)
        if (d->offset[p->row[b]] != first + b * stride || d->length[p->row[b]] != T) return 0;
    const int64_t rows = series_rows(p, B, T), count = (B - 1) * stride + T;
    for (int64_t i = 0; i < rows; i++) {
        p->series_row[i] = i;
        p->series_offset[i] = first + i * stride;
    }
    for (int64_t i = 0; i < stride; i++) p->series_batch_sizes[i] = (count - i - 1) / stride + 1;
    return 1;
}

/* Rows [r0, r1) of the series under the windows, in all its phases. */
span series_span(const bptt_plan *p, int64_t r0, int64_t r1) {
    return (span){ .t1 = p->stride,
                   .r0 = r0,
                   .r1 = r1,
                   .batch_sizes = p->series_batch_sizes,
                   .reduction = REDUCE_ROWS };
}

/* -- sums over a batch -- */

/* Sum of the weights of the targets that the steps [from, to) after s->first have, over the first
   `rows` rows. */
double sum_weights(const bptt_plan *p, const source *s, int64_t rows, int64_t from, int64_t to) {
    double sum = 0;
    for (int64_t b = 0; b < rows; b++) {
        const int64_t i = s->row[b], left = s->length[i] - s->first;
        const int64_t begin = p->every ? from : 0, end = p->every ? min64(left, to) : 1;
        const int64_t target = s->target_offset[i] + (p->every ? s->first : 0);
        if (!p->every && (left <= from || left > to)) continue;
        if (!s->weight) {
            sum += (double)max64(0, end - begin);
            continue;
        }
        for (int64_t t = begin; t < end; t++) sum += p->k->weight(s->weight, target + t);
    }
    return sum;
}

/* The number of those steps that the first `rows` rows have. */
double count_steps(const source *s, int64_t rows, int64_t from, int64_t to) {
    double sum = 0;
    for (int64_t b = 0; b < rows; b++)
        sum += (double)max64(0, min64(s->length[s->row[b]] - s->first, to) - from);
    return sum;
}

/* The same of the steps [from, to) of the chunk. */
double chunk_weight(const run *r, int64_t rows, int64_t from, int64_t to) {
    return sum_weights(r->p, &r->batch.source, rows, from, to);
}
double chunk_steps(const run *r, int64_t rows, int64_t from, int64_t to) {
    return count_steps(&r->batch.source, rows, from, to);
}

/* Sum of the losses of all rows of the batch. */
double total_loss(const run *r) {
    double sum = 0;
    for (int64_t b = 0; b < r->batch.size; b++) sum += r->p->row_loss[b];
    return sum;
}

/* -- spans: rows for threads, blocks of steps for the cache -- */

/* The rows and steps of the chunk. */
span all_rows(const run *r) {
    const bptt_plan *p = r->p;
    const int is_single = p->B == 1 && !r->batch.several && p->k->rows == 1;
    return (span){ .t0 = 0,
                   .t1 = p->T,
                   .r0 = 0,
                   .r1 = r->batch.rows,
                   .rows = p->B,
                   .batch_sizes = p->batch_sizes,
                   .reduction = is_single ? REDUCE_SEQUENCE : REDUCE_ROWS };
}

/* The rows of one thread: whole vectors of rows; in fours where there are enough, so that tiles stay
   high.  Thread 0 always has some. */
span rows_of(const run *r, int rank, int size) {
    const int64_t rows = r->batch.rows;
    const int64_t unit = max64(rows >= 4 * size ? 4 : 1, r->p->k->rows);
    const int64_t units = (rows + unit - 1) / unit;
    span at = all_rows(r);
    at.r0 = (units * rank + size - 1) / size * unit;
    at.r1 = min64(rows, (units * (rank + 1) + size - 1) / size * unit);
    return at;
}

/* The rows of a thread in slices for so much work, between which the caller is polled: where one
   step of a large batch is much.  Tiles of four rows stay whole. */
static int64_t row_unit(const bptt_plan *p) { return max64(4, p->k->rows); }
int64_t slices_of_rows(const bptt_plan *p, span at, double work) {
    const int64_t rows = at.r1 - at.r0;
    const int64_t fewest =
        work * FEWEST_ROWS > LONG_WORK * (double)rows ? FEWEST_ROWS / 2 : FEWEST_ROWS;
    const int64_t most = rows / max64(fewest, row_unit(p));
    return most > 1 ? min64(slices_of(work), most) : 1;
}
span slice_of_rows(const bptt_plan *p, span at, int64_t slice, int64_t slices) {
    const int64_t unit = row_unit(p), first = at.r0 / unit, units = (at.r1 - 1) / unit + 1 - first;
    span part = at;
    if (slice > 0) part.r0 = (first + units * slice / slices) * unit;
    if (slice + 1 < slices) part.r1 = (first + units * (slice + 1) / slices) * unit;
    return part;
}

/* Where g works: on the steps of the span or, without `every`, once on the last states. */
span readout_span(int every, span at) {
    if (every) return at;
    at.t0 = 0;
    at.t1 = 1;
    at.batch_sizes = NULL;
    at.reduction = at.reduction ? REDUCE_STEP : REDUCE_ROWS;
    return at;
}

/* Block `number` of the steps [from, to), or the one that is as far from the end.  A step has so
   many activations, those of a block fit the cache together, and takes so much work.  A block's
   size depends on the problem, not on the threads.  Returns 0 after the last. */
static int block_at(const bptt_plan *p, int64_t reals, double work, int from_end, int64_t number,
                    int64_t from, int64_t to, span *at) {
    const int64_t most = min64(BLOCK_BYTES / (reals * p->k->bytes), (int64_t)(BLOCK_WORK / work));
    const int64_t size = max64(1, min64(most, to - from));
    const int64_t count = (to - from + size - 1) / size;
    if (number >= count) return 0;
    at->t0 = from + (from_end ? count - 1 - number : number) * size;
    at->t1 = min64(at->t0 + size, to);
    return 1;
}

/* The next block in the order in which layer direction f runs through time (backward: in the
   opposite one). */
int next_block(const bptt_plan *p, const frame *f, int backward, int64_t number, int64_t from,
               int64_t to, span *at) {
    const frame *first = &p->layer[0];
    const int64_t x = ((p->I - 1) / p->k->lanes + 1) * p->k->lanes * p->B;
    const int64_t gates = first->gate_values.step * (1 + p->cell->separate_dzr);
    const int64_t reals = x + gates + first->s.step + first->saved.step;
    return block_at(p, reals, layer_work(p, f), f->reverse ^ backward, number, from, to, at);
}

/* The same for g, and the given rows: the blocks of the steps [from, p->T) or, without `every`, the
   last states, each in slices of rows. */
int next_readout(const bptt_plan *p, int every, int64_t number, int64_t from, span rows, span *at) {
    const double work = 3 * head_work(p);
    const int64_t slices = slices_of_rows(p, rows, work * (double)(rows.r1 - rows.r0));
    *at = slice_of_rows(p, rows, number % slices, slices);
    if (!every) return number < slices;
    int64_t reals = p->layer[0].s.step * p->directions + p->skip * p->x.step;
    for (int64_t l = 0; l < p->head_layers; l++) reals += p->value[l].step;
    return block_at(p, reals, work * (double)p->B, 0, number / slices, from, p->T, at);
}

/* -- the online algorithm -- */

/* All patterns of sequence i, for all rows of the batch: k steps each, with the target `lead` steps
   after the last one.  Returns 0 where the run is over. */
int slide_sequence(run *r, int64_t i, int64_t k, int64_t lead, on_pattern *next, void *context) {
    const bptt_plan *p = r->p;
    const bptt_data *d = r->data;
    const int64_t patterns = d->length[i] - k - lead + 1;
    for (int64_t b = 0; b < r->batch.rows; b++) p->row[b] = i;
    r->batch.source = source_of(p, d);
    r->batch.loss_desc = (loss_desc){ .loss = &p->loss, .scale = 1 };
    init_states(r, all_rows(r));
    for (int64_t t = 0; t < patterns; t++) {
        const int64_t target = t + k - 1 + lead;
        const double weight = d->weight ? p->k->weight(d->weight, d->target_offset[i] + target) : 1;
        r->batch.loss_desc.shift = target;
        if (!next(context, real_at(p, d->values, (d->offset[i] + t) * p->I), weight)) return 0;
        r->done++;
        if (stopped(r)) return 0;
    }
    return 1;
}
