/* run.c: batches, groups, phases, who does which rows or tiles.  No arithmetic on data.

   by rows:    gather, project, scan forward, readout, loss, back through g; then a block of steps after the other
               scan backward (by rows) and collect its weight gradients over all rows (by tiles), while it is in the cache
   by slices:  norm, update, then the packed copies for the backward pass
   The blocks and their order are the same for any number of threads, so the bits are.

   A batch is unfolded over all its steps at once; or (truncated) in passes, each an update of its own; or (checkpointed) in
   segments, forwards once to store states, then each again, from the last to the first.  A batch of very different lengths is
   cut into groups of its rows, which are sorted by length, so that rows x steps of each fit the plan; the gradient is the sum
   over the groups, in this order, with one update after the last. */
#include "run.h"
#include <math.h>
#include <string.h>

enum { BLOCK_BYTES = 384 << 10 };              /* of activations that a block of steps may touch: it should stay in the L2 cache */
static const double POLL_WORK = 2e7;           /* multiply-adds between two looks at the caller's poll: some milliseconds */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* By the caller's thread alone. */
void poll_caller(run *r, double work) {
    r->unpolled += work;
    if (r->unpolled < POLL_WORK || !r->poll) return;
    r->unpolled = 0;
    if (!atomic_load_explicit(&r->stop, memory_order_relaxed) && r->poll(r->context, r->done)) {
        r->status = BPTT_INTERRUPTED;
        atomic_store_explicit(&r->stop, 1, memory_order_relaxed);
    }
}
/* Dropout between layers, in this run. */
static int drops(const bptt_plan *p) { return p->purpose == TRAIN && p->dropout > 0; }

/* A layer direction's input: the data, or both directions of the layer below (segments of its columns). */
static int inputs_of(const bptt_plan *p, int64_t n, field in[2]) {
    if (n < p->directions) return in[0] = p->x, 1;
    for (int d = 0; d < p->directions; d++) {
        const frame *below = &p->layer[n / p->directions * p->directions - p->directions + d];
        in[d] = below->s;
        in[d].p = (char *)below->s.p + !below->reverse * below->s.step * p->k->bytes;
        if (drops(p)) in[d] = p->dropped[below - p->layer];
    }
    return p->directions;
}
/* What g reads: the state after every step, or the last one. */
static void readout_of(const bptt_plan *p, int every, field in[2]) {
    for (int d = 0; d < p->directions; d++) {
        const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
        in[d] = p->last[d];
        if (every) in[d] = f->s, in[d].p = (char *)f->s.p + !f->reverse * f->s.step * p->k->bytes;
    }
}
/* Steps whose activations fit the cache together; a matter of the problem, not of the threads. */
static int64_t block_steps(const bptt_plan *p, int64_t T) {
    const frame *f = &p->layer[0];
    const int64_t x = ((p->I - 1) / p->k->lanes + 1) * p->k->lanes * p->B;
    const int64_t a_step = (x + f->kept.step * (1 + p->cell->split) + f->s.step + f->saved.step) * p->k->bytes;
    const int64_t steps = BLOCK_BYTES / a_step;
    return steps < 1 ? 1 : steps > T ? T : steps;
}
double step_work(const bptt_plan *p) { return (double)p->work_size * (double)p->B; }

/* Blocks of the steps [from, to) in the order of time (of the layer), or against it. */
int next_block(const bptt_plan *p, const frame *f, int backward, int64_t number, int64_t from, int64_t to, span *at) {
    const int64_t size = block_steps(p, to - from), count = (to - from + size - 1) / size;
    if (number >= count) return 0;
    const int64_t i = (f->reverse ^ backward) ? count - 1 - number : number;
    at->t0 = from + i * size, at->t1 = least(at->t0 + size, to);
    return 1;
}

/* -- by rows: forward -- */

field state_kind(const bptt_plan *p, const frame *f, const field *s, int q) {
    field kind = *s;
    kind.p = (char *)s->p + q * ((f->R - 1) / p->k->lanes + 1) * s->block * p->k->bytes;
    return kind;
}
/* its width; where it begins in the state of a sequence */
static int64_t kind_width(const frame *f, int q) { return q ? f->H : f->R; }
static int64_t kind_at(const frame *f, int64_t n, int q) { return n * (f->R + (f->states - 1) * f->H) + (q ? f->R : 0); }
/* To the caller's rows (n, state size), or if `kinds` is not NULL to his arrays of each kind, (layers*directions, n, width). */
void store_states(const run *r, int64_t n, const field *s, int64_t t, span rows, void *out, void *const *kinds) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    for (int q = 0; q < f->states; q++) {
        const int64_t width = kind_width(f, q);
        const field kind = state_kind(p, f, s, q);
        if (kinds) p->k->store_state(&r->source, width, n * r->n * width, width, &kind, t, &rows, kinds[q]);
        else p->k->store_state(&r->source, p->state_size, kind_at(f, n, q), width, &kind, t, &rows, out);
    }
}
static void load_kind(const run *r, int64_t n, int q, const void *const *in, const field *to, int64_t t, span rows) {
    const int64_t width = kind_width(&r->p->layer[n], q);
    source from = r->source;
    from.state = in[q];
    r->p->k->load_state(&from, width, n * r->n * width, width, to, t, &rows);
}
/* A dropout mask of this batch: between layers (kind 0) or in the recurrence (1), of one layer direction. */
static dropout mask_of(const run *r, int64_t n, int kind) {
    return (dropout){ r->p->seed * 0x9e3779b97f4a7c15u + r->first_update * 0xd1342543de82ef95u + (uint64_t)(2 * n + kind),
                      kind ? r->p->recurrent_dropout : r->p->dropout };
}
/* The states before the first step of kind q: the sequences' own, or the trained ones, or zeros. */
static void init_kind(const run *r, int64_t n, int q, int64_t t, span rows) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    field to = state_kind(p, f, &f->s, q);
    if (r->forward && r->forward->initial) {
        load_kind(r, n, q, r->forward->initial, &to, t, rows);
        return;
    }
    if (r->source.state || !p->trained_state) {
        p->k->load_state(&r->source, p->state_size, kind_at(f, n, q), kind_width(f, q), &to, t, &rows);
        return;
    }
    const field from = { (char *)p->work + f->initial[q].work * p->k->bytes, 0, p->k->lanes, 0 };   /* for all rows the same */
    to.p = (char *)to.p + t * to.step * p->k->bytes, to.step = f->initial[q].vectors * to.block;
    p->k->copy_rows(&from, 0, &to, 0, rows.r0, rows.r1);
}
void init_states(run *r, span at) {             /* chunk 0; in reverse, the chunk after each row's last step */
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        if (f->mask.p) {
            const dropout mask = mask_of(r, n, 1);
            const span once = { .t1 = 1, .r0 = at.r0, .r1 = at.r1 };
            p->k->drop(&mask, &r->source, NULL, &f->mask, &once, 1);
        }
        for (int64_t b = at.r0; b < (f->reverse ? at.r1 : at.r0 + 1); b++) {
            const span rows = { .r0 = b, .r1 = f->reverse ? b + 1 : at.r1 };
            const int64_t t = f->reverse ? r->source.length[r->source.row[b]] : 0;
            for (int q = 0; q < f->states; q++) init_kind(r, n, q, t, rows);
            if (f->mask.p) p->k->multiply(&f->s, &f->mask, &f->masked, t, rows.r0, rows.r1);
        }
    }
}
/* Windows that share: the input projection of each row of the series once. */
static span series_rows_of(const bptt_plan *p, int64_t r0, int64_t r1) {
    return (span){ .t1 = p->stride, .r0 = r0, .r1 = r1, .batch_sizes = p->series_batch_sizes, .single = BATCH };
}
static void project_series(run *r, int rank, int size) {
    const bptt_plan *p = r->p;
    const int64_t rows = series_rows(p, p->B, p->T);
    const span at = series_rows_of(p, rows * rank / size, rows * (rank + 1) / size);
    source series = r->source;
    series.offset = p->series_offset, series.row = p->series_row;
    p->k->gather(&series, p->I, p->I, &p->x, &at);
    for (int64_t n = 0; n < p->directions; n++) {
        const frame *f = &p->layer[n];
        p->k->forward(&f->ih, p->work, &f->b_ih, 0, ACT_LINEAR, &p->x, NULL, &p->window_zx[n], &at);
    }
}
void layer_forward(run *r, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    field in[2];
    const int segments = p->shared && n < p->directions ? 0 : inputs_of(p, n, in);
    for (int g = 0; g < segments; g++)
        p->k->forward(&f->ih, p->work, g ? NULL : &f->b_ih, g, ACT_LINEAR, &in[g], g ? &f->zx : NULL, &f->zx, at);
    p->cell->forward(f, at);
    if (drops(p) && n < (p->layers - 1) * p->directions) {
        const dropout mask = mask_of(r, n, 0);
        field h = f->s;
        h.p = (char *)h.p + !f->reverse * h.step * p->k->bytes;
        p->k->drop(&mask, &r->source, &h, &p->dropped[n], at, 0);
    }
}
static void layers_forward(run *r, span at) {  /* the new steps of the chunk */
    const bptt_plan *p = r->p;
    const int main_thread = at.r0 == 0;
    for (int64_t n = 0; n < p->layers * p->directions; n++)
        for (int64_t i = 0; next_block(p, &p->layer[n], 0, i, r->fresh, p->T, &at) && !stopped(r); i++) {
            if (n == 0 && !p->shared) p->k->gather(&r->source, p->I, p->I, &p->x, &at);
            layer_forward(r, n, &at);
            if (main_thread) poll_caller(r, step_work(p) * (double)(at.t1 - at.t0));
        }
}
span readout_span(int every, span at) {
    return every ? at : (span){ .t0 = 0, .t1 = 1, .r0 = at.r0, .r1 = at.r1, .single = at.single ? ONE_STEP : BATCH };
}
/* Copy the states after the last step of the rows that end within this run of T steps. */
static void gather_last_states(run *r, span at) {
    const bptt_plan *p = r->p;
    for (int d = 0; d < p->directions; d++) {
        const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
        for (int64_t b = at.r0; b < at.r1; b++) {
            const int64_t steps = r->source.length[r->source.row[b]] - r->source.first;
            if (steps > 0 && steps <= p->T) p->k->copy_rows(&f->s, f->reverse ? 0 : steps, &p->last[d], 0, b, b + 1);
        }
    }
}
void head_forward(const bptt_plan *p, int every, span at) {
    field in[2];
    readout_of(p, every, in);
    const span to = readout_span(every, at);
    for (int64_t l = 0; l < p->head_layers; l++) {
        const dense *g = &p->head[l];
        const int segments = l ? 1 : p->directions;
        for (int s = 0; s < segments; s++)
            p->k->forward(&g->w, p->work, s ? NULL : &g->b, s, s + 1 < segments ? ACT_LINEAR : g->act,
                          l ? &p->value[l - 1] : &in[s], s ? &p->value[l] : NULL, &p->value[l], &to);
    }
}
/* The outputs, of g or (without one) of the top layer, to the caller, and his dLoss/dy to where the backward pass begins. */
static void store_outputs(const run *r, int every, span at) {
    const bptt_plan *p = r->p;
    const span from = readout_span(every, at);
    field h[2];
    if (p->head_layers) {
        p->k->scatter(&r->source, p->O, p->O, &p->value[p->head_layers - 1], &from, every, r->y);
        return;
    }
    readout_of(p, every, h);
    for (int d = 0; d < p->directions; d++)
        p->k->scatter(&r->source, p->O, p->R, &h[d], &from, every, (char *)r->y + d * p->R * p->k->bytes);
}
/* Outputs, or their losses, a block of steps at a time; of the last states once. */
static void give_results(run *r, int every, span at) {
    const bptt_plan *p = r->p;
    const int main_thread = at.r0 == 0;
    for (int64_t i = 0; (every ? next_block(p, &p->layer[0], 0, i, 0, p->T, &at) : i == 0) && !stopped(r); i++) {
        const span to = readout_span(every, at);
        head_forward(p, every, at);
        if (r->y) store_outputs(r, every, at);
        else p->k->loss(&r->loss_desc, &r->source, p->O, &p->value[p->head_layers - 1], &to, r->row_loss, 0);
        if (main_thread) poll_caller(r, step_work(p) * (double)(at.t1 - at.t0));
    }
}
static void load_output_grads(const run *r, span at) {
    const bptt_plan *p = r->p;
    const span to = readout_span(p->every, at);
    source dy = r->source;
    dy.values = r->output_grads->dy, dy.offset = dy.target_offset;
    if (!p->every) dy.start = NULL;
    if (p->head_layers) p->k->gather(&dy, p->O, p->O, &p->value[p->head_layers - 1], &to);
    for (int d = 0; !p->head_layers && d < p->directions; d++) {
        dy.values = (const char *)r->output_grads->dy + d * p->R * p->k->bytes;
        p->k->gather(&dy, p->O, p->R, &p->layer[(p->layers - 1) * p->directions + d].dy, &to);
    }
}
/* From dLoss/dy, in place of y, to dLoss/dh: into dy of the top layers, or (last) added to their carried ds. */
static void head_backward(const bptt_plan *p, span at) {
    const span to = readout_span(p->every, at);
    for (int64_t l = p->head_layers - 1; l >= 0; l--) {
        const field *dz = l + 1 < p->head_layers ? &p->head_grad[l] : &p->value[l];
        if (l) p->k->backward(&p->head[l].w, 0, dz, &p->head_grad[l - 1], 0, p->head[l - 1].act, &p->value[l - 1], &to);
        else for (int d = 0; d < p->directions; d++) {
            const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
            p->k->backward(&p->head[0].w, d, dz, p->every ? &f->dy : &f->ds, !p->every, ACT_LINEAR, NULL, &to);
        }
    }
}
static void clear_carried(const bptt_plan *p, span at) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) p->k->zero_rows(&p->layer[n].ds, 0, at.r0, at.r1);
}

/* Weight gradients of one block of steps of one layer direction.  Where windows share, the input weights' come last. */
void collect_layer(const bptt_plan *p, int64_t n, int add, const span *at, int64_t part, int64_t parts) {
    const frame *f = &p->layer[n];
    const int shared = p->shared && n < p->directions;
    field in[2];
    const int segments = shared ? 0 : inputs_of(p, n, in);
    for (int g = 0; g < segments; g++) p->k->collect(&f->ih, g, &in[g], &f->dzx, p->grad, add, at, part, parts);
    p->cell->collect(f, p->grad, add, at, part, parts);
    if (!shared) p->k->collect_bias(&f->b_ih, p->cell->split ? NULL : &f->b_hh, &f->dzx, p->grad, add, at, part, parts);
    if (p->cell->split) p->k->collect_bias(&f->b_hh, NULL, &f->dzr, p->grad, add, at, part, parts);
}
static void collect_head(const bptt_plan *p, int add, span all, int64_t part, int64_t parts) {
    field in[2];
    readout_of(p, p->every, in);
    const span at = readout_span(p->every, all);
    for (int64_t l = 0; l < p->head_layers; l++) {
        const dense *g = &p->head[l];
        const field *dz = l + 1 < p->head_layers ? &p->head_grad[l] : &p->value[l];
        for (int s = 0; s < (l ? 1 : p->directions); s++)
            p->k->collect(&g->w, s, l ? &p->value[l - 1] : &in[s], dz, p->grad, add, &at, part, parts);
        p->k->collect_bias(&g->b, NULL, dz, p->grad, add, &at, part, parts);
    }
}
/* Into how many slices a thread's tiles go, between which the caller is asked: few, as each reads all rows. */
static int slices_of(double work) { return 1 + (int)fmin(work / (50 * POLL_WORK), 1000); }
/* Gradients of the trained initial states: sums over the rows, where the backward pass came to the first step. */
static void collect_initial(const run *r, int add, int part, int parts) {
    const bptt_plan *p = r->p;
    const int reached = r->source.first == 0 && r->back == 0 && !r->given;
    const span once = { .t1 = 1, .r1 = r->rows, .single = all_rows(r).single };
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        for (int q = 0; q < f->states; q++) {
            const field ds = state_kind(p, f, &f->ds, q);
            const matrix *m = &f->initial[q];
            if (reached) p->k->collect_bias(m, NULL, &ds, p->grad, add, &once, part, parts);
            else if (!add && part == 0) memset((char *)p->grad + m->work * p->k->bytes, 0, (size_t)(m->size * p->k->bytes));
        }
    }
}
/* One layer direction, one block of steps, backward: dLoss/dx into the layer below or, from the first layer, into dx. */
static void layer_backward(run *r, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    if (drops(p) && n < (p->layers - 1) * p->directions) {
        const dropout mask = mask_of(r, n, 0);
        p->k->drop(&mask, &r->source, &f->dy, &f->dy, at, 0);
    }
    p->cell->backward(f, at);
    if (n >= p->directions)
        for (int d = 0; d < p->directions; d++) {
            const int64_t below = n / p->directions * p->directions - p->directions + d;
            p->k->backward(&f->ih, d, &f->dzx, &p->layer[below].dy, (n + 1) % p->directions != 0, ACT_LINEAR, NULL, at);
        }
    else if (p->input_gradient) p->k->backward(&f->ih, 0, &f->dzx, &p->dx, n + 1 < p->directions, ACT_LINEAR, NULL, at);
}
/* What reaches the states before the chunk is wanted: by the caller, by the weights, or by the segment before. */
static int wants_start(const run *r) {
    const int asked = r->dstate || (r->output_grads && r->output_grads->dinitial);
    return r->back == 0 && (asked || r->p->trained_state || (r->p->segment && r->source.first > 0));
}
/* A block of steps goes back by rows, then all threads collect its weight gradients by tiles while it is in the cache; added to
   what grad holds, if `add`.  Who is done goes on with the next block, which nobody collects yet; so whether to stop, which all
   threads must agree on, has two places in turn. */
static void layers_backward(run *r, team *team, span at, int add, int rank, int size) {
    const bptt_plan *p = r->p;
    int pack_transposed = 0;
    for (int64_t n = p->layers * p->directions - 1; n >= 0; n--) {
        for (int64_t i = 0; next_block(p, &p->layer[n], 1, i, r->back, p->T, &at); i++) {
            span tiles = all_rows(r);
            tiles.t0 = at.t0, tiles.t1 = at.t1;
            if (at.r1 > at.r0 && !stopped(r)) layer_backward(r, n, &at);
            if (rank == 0) r->halt[pack_transposed] = stopped(r);
            team_barrier(team);
            if (r->halt[pack_transposed]) return;
            pack_transposed = !pack_transposed;
            if (!stopped(r)) collect_layer(p, n, add || i > 0, &tiles, rank, size);
            if (rank == 0) poll_caller(r, 2 * step_work(p) * (double)(at.t1 - at.t0) / size);
        }
        if (at.r1 > at.r0 && wants_start(r)) p->cell->finish(&p->layer[n], &at);
    }
}

/* What is collected when all blocks are done: trained states, and the input weights where windows share. */
static void collect_rest(run *r, int add, int rank, int size) {
    const bptt_plan *p = r->p;
    if (p->trained_state) collect_initial(r, add, rank, size);
    for (int64_t n = 0; p->shared && n < p->directions; n++) {
        const frame *f = &p->layer[n];
        const span series = series_rows_of(p, 0, series_rows(p, p->B, p->T));
        p->k->collect(&f->ih, 0, &p->x, &p->window_zx[n], p->grad, add, &series, rank, size);
        p->k->collect_bias(&f->b_ih, p->cell->split ? NULL : &f->b_hh, &p->window_zx[n], p->grad, add, &series, rank, size);
    }
}
/* The gradient of g: over the new steps, or over the last states of the rows that end. */
static void collect_readout(run *r, int add, int rank, int size) {
    span at = all_rows(r);
    at.t0 = r->fresh;
    if (!r->p->every) at.r0 = r->ended;
    double work = (double)((at.r1 - at.r0) * (r->p->every ? at.t1 - at.t0 : 1)), weights = 0;
    for (int64_t l = 0; l < r->p->head_layers; l++) weights += (double)r->p->head[l].w.size;
    work *= weights;
    const int slices = slices_of(work / size);
    for (int i = 0; i < slices && !stopped(r); i++) {
        collect_head(r->p, add, at, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / size / slices);
    }
}

/* -- by slices -- */

void pack_transposed_all(const bptt_plan *p, int rank, int size) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        if (f->hh.size) p->k->pack_transposed(&f->hh, p->work, rank, size);
        if (f->hr.size) p->k->pack_transposed(&f->hr, p->work, rank, size);
        if (f->ih.transposed) p->k->pack_transposed(&f->ih, p->work, rank, size);
        for (int64_t i = 0; i < f->depth; i++) p->k->pack_transposed(&f->inner[i].w, p->work, rank, size);
    }
    for (int64_t l = 0; l < p->head_layers; l++) p->k->pack_transposed(&p->head[l].w, p->work, rank, size);
}
static void partial_norms(const bptt_plan *p, int rank, int size) {
    const int64_t slices = norm_slices(p);
    for (int64_t i = slices * rank / size; i < slices * (rank + 1) / size; i++) {
        const int64_t from = i * NORM_SLICE, to = from + NORM_SLICE < p->work_size ? from + NORM_SLICE : p->work_size;
        p->norms[i] = p->k->norm2(p->grad, from, to);
    }
}
static double total_norm(const bptt_plan *p) {
    double sum = 0;
    for (int64_t i = 0; i < norm_slices(p); i++) sum += p->norms[i];
    return sqrt(sum);
}
/* Whether loss and gradient are finite, and the weights still will be after an update: it is refused before it is written. */
static int may_update(const run *r, double loss, double norm) {
    const bptt_plan *p = r->p;
    const double limit = p->k->bytes == 8 ? 1e290 : 1e25;   /* of one change: it takes 1e13 of them to overflow a weight */
    if (!isfinite(loss) || !isfinite(norm)) return 0;
    if (!r->hyper) return 1;
    const bptt_hyper *h = r->hyper;
    double g = h->clip_norm > 0 && norm > h->clip_norm ? h->clip_norm : norm;
    if (h->clip_value > 0 && g > h->clip_value) g = h->clip_value;
    if (h->noise > 0) g += 8.6 * sqrt(h->noise);
    const double decay = r->amplifies ? h->weight_decay * sqrt(p->k->norm2(p->work, 0, p->work_size)) : 0;
    g += decay;
    return h->learning_rate < limit && g < limit && fmin(r->most, r->gain * g) + h->learning_rate * decay < limit;
}
/* The numbers of the next update. */
static void prepare_update(run *r, double norm) {
    bptt_hyper *h = r->hyper;
    update *u = &r->update;
    const double rate = h->rates ? h->rates[r->done] : h->learning_rate, loss = r->loss[r->done];
    u->rate = u->size = rate;
    u->loss = loss;
    u->scale = h->clip_norm > 0 && norm > h->clip_norm ? h->clip_norm / norm : 1;
    if (h->noise > 0) {
        const int64_t update = h->noise_from + h->step;
        u->noise = sqrt(h->noise / pow(1 + (double)update, 0.55));
        u->key = h->noise_seed + (uint64_t)update * 0xd1342543de82ef95u;
    }
    u->t = (double)++h->step;
    kernels_f64_base.prepare(h, u);            /* the same numbers on every instruction set */
}
/* This thread's share of the working vector, as far as it lies in one block. */
static void update_part(const run *r, int decays, const matrix *m, int64_t rank, int64_t size) {
    const bptt_plan *p = r->p;
    const int64_t vectors = p->work_size / p->k->lanes;
    int64_t from = vectors * rank / size * p->k->lanes, to = vectors * (rank + 1) / size * p->k->lanes;
    if (m && from < m->work) from = m->work;
    if (m && to > m->work + m->size) to = m->work + m->size;
    if (from >= to) return;
    if (m && r->update.needs_preprocessing) p->k->clip_and_add_noise(r->hyper, &r->update, m, p->grad, from, to);
    p->k->optimise(r->hyper, &r->update, decays, p->work, p->grad, p->slots, p->work_size, from, to);
}
static void update_block(const matrix *m, const void *of_run, void *unused, int64_t rank, int64_t size) {
    const run *r = of_run;
    (void)unused;
    update_part(r, !(m->bias && r->hyper->no_bias_decay), m, rank, size);
}

/* Between the flat vectors of the caller and the packed ones of the arena, each thread its share. */
void each_block(const bptt_plan *p, void (*move)(const matrix *, const void *, void *, int64_t, int64_t), const void *from,
                void *to, int rank, int size) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        const matrix *const own[] = { &f->ih, &f->hh, &f->b_ih, &f->b_hh, &f->hr, &f->peep, &f->initial[0], &f->initial[1] };
        for (size_t i = 0; i < sizeof own / sizeof *own; i++) if (own[i]->size) move(own[i], from, to, rank, size);
        for (int64_t i = 0; i < f->depth; i++) {
            move(&f->inner[i].w, from, to, rank, size);
            if (f->inner[i].b.size) move(&f->inner[i].b, from, to, rank, size);
        }
    }
    for (int64_t l = 0; l < p->head_layers; l++)
        move(&p->head[l].w, from, to, rank, size), move(&p->head[l].b, from, to, rank, size);
}
static void update_slice(const run *r, int rank, int size) {
    if (r->by_block) each_block(r->p, update_block, r, NULL, rank, size);
    else update_part(r, 1, NULL, rank, size);
}
int update_alone(run *r, double loss) {
    partial_norms(r->p, 0, 1);
    const double norm = total_norm(r->p);
    if (!may_update(r, loss, norm)) return 0;
    prepare_update(r, norm);
    update_slice(r, 0, 1);
    pack_transposed_all(r->p, 0, 1);
    return 1;
}
static void move_slots(const run *r, int into_arena, int rank, int size) {
    const bptt_plan *p = r->p;
    for (int i = 0; i < r->slots; i++) {
        char *theirs = (char *)r->opt_state + i * p->flat_size * p->k->bytes,
            *ours = (char *)p->slots + i * p->work_size * p->k->bytes;
        if (into_arena) each_block(p, p->k->pack, theirs, ours, rank, size);
        else each_block(p, p->k->unpack, ours, theirs, rank, size);
    }
}
void load_parameters(const run *r, team *team, int rank, int size) {
    each_block(r->p, r->p->k->pack, r->params, r->p->work, rank, size);
    if (r->hyper) move_slots(r, 1, rank, size);
    team_barrier(team);
}
void store_parameters(const run *r, team *team, int rank, int size) {
    team_barrier(team);
    each_block(r->p, r->p->k->unpack, r->p->work, r->trained, rank, size);
    move_slots(r, 0, rank, size);
}

/* -- batches -- */

/* By decreasing length; a batch of equal lengths stays as it is. */
static void sort_rows(const int64_t *length, int64_t *row, int64_t B) {
    for (int64_t gap = B / 2; gap > 0; gap /= 2)
        for (int64_t i = gap; i < B; i++) {
            const int64_t moved = row[i];
            int64_t j = i;
            for (; j >= gap && length[row[j - gap]] < length[moved]; j -= gap) row[j] = row[j - gap];
            row[j] = moved;
        }
}
/* active[t] for the steps of the chunk, and how many rows go on after it. */
static int64_t count_batch_sizes(bptt_plan *p, const source *s, int64_t T) {
    int64_t b = p->B;
    for (int64_t t = 0; t <= T; t++) {
        while (b > 0 && s->length[s->row[b - 1]] - s->first <= t) b--;
        p->batch_sizes[t] = t < T ? b : 0;
    }
    return b;
}
source source_of(const bptt_plan *p, const bptt_data *d) {
    return (source){ d->values, d->targets, d->weight, d->state, d->classes, d->offset, d->length, d->target_offset,
                     d->start, p->row, 0 };
}
/* The batch that begins at order[from]: its rows by length. */
static void begin_batch(run *r, int64_t from) {
    bptt_plan *p = r->p;
    const int64_t B = least(r->n - from, p->batch);
    r->batch = B, r->end = from + B;
    r->source = source_of(p, r->data), r->given = r->data->state != NULL;
    r->first_update = r->hyper ? (uint64_t)r->hyper->step : r->forward ? r->forward->draw : 0;
    for (int64_t b = 0; b < B; b++) p->row[b] = r->order ? r->order[from + b] : from + b;
    sort_rows(r->data->length, p->row, B);
}
/* By thread 0: the group that begins at order[from], with as many of the batch's rows as fit at once, `most_steps` steps of
   them.  1: it is the first one of its batch. */
static int begin_group(run *r, int64_t from, int64_t most_steps) {
    bptt_plan *p = r->p;
    const int first = from == r->end;
    if (first) begin_batch(r, from);
    const int64_t begin = from - (r->end - r->batch);
    r->source.row = p->row + begin, r->source.first = 0, r->row_loss = p->row_loss + begin;
    r->longest = r->data->length[p->row[begin]];
    r->rows = least(r->end - from, p->area / least(r->longest, most_steps));
    return first;
}
/* Whether the batch's rows are consecutive windows into one series, whose projection is less work than theirs. */
static int windows(run *r, int64_t B) {
    bptt_plan *p = r->p;
    const int64_t *offset = r->data->offset, T = r->data->length[p->row[0]], first = offset[p->row[0]], stride = p->stride;
    if (!stride || B < 2 || stride >= T || stride * series_rows(p, B, T) > T * B) return 0;
    for (int64_t b = 0; b < B; b++)
        if (offset[p->row[b]] != first + b * stride || r->data->length[p->row[b]] != T) return 0;
    const int64_t rows = series_rows(p, B, T), count = (B - 1) * stride + T;
    for (int64_t i = 0; i < rows; i++) p->series_row[i] = i, p->series_offset[i] = first + i * stride;
    for (int64_t i = 0; i < stride; i++) p->series_batch_sizes[i] = (count - i - 1) / stride + 1;
    return 1;
}
/* Before a run: every sequence has a step, and (unless long ones run in blocks) no more than the plan's. */
static int all_fit(const bptt_plan *p, const bptt_data *data, const int64_t *order, int64_t n, int blocks) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t length = data->length[order ? order[i] : i];
        if (length < 1 || (!blocks && length > p->steps)) return 0;
    }
    return 1;
}
int has_targets(const bptt_plan *p, const bptt_data *data) { return p->head_layers > 0 && !data->start; }
/* Sum of the weights of the targets that the steps [from, to) of so many rows have. */
static double chunk_weight(const run *r, int64_t rows, int64_t from, int64_t to) {
    const bptt_plan *p = r->p;
    double sum = 0;
    for (int64_t b = 0; b < rows; b++) {
        const int64_t i = r->source.row[b], left = r->source.length[i] - r->source.first, end = p->every ? least(left, to) : 1;
        const int64_t row = r->source.target_offset[i] + (p->every ? r->source.first : 0);
        if (!p->every && (left <= from || left > to)) continue;
        if (!r->source.weight) sum += (double)most(0, end - (p->every ? from : 0));
        else for (int64_t t = p->every ? from : 0; t < end; t++) sum += p->k->weight(r->source.weight, row + t);
    }
    return sum;
}
span all_rows(const run *r) {
    const bptt_plan *p = r->p;
    return (span){ .t0 = 0, .t1 = p->T, .r0 = 0, .r1 = r->rows, .batch_sizes = p->batch_sizes,
                   .single = p->B == 1 && !r->several ? SINGLE : BATCH };
}
/* The rows of one thread, in fours where there are enough, so that tiles stay high.  Thread 0, the caller's, always has some. */
static span rows_of(const run *r, int rank, int size) {
    const int64_t unit = r->rows >= 4 * size ? 4 : 1, units = (r->rows + unit - 1) / unit;
    span at = all_rows(r);
    at.r0 = (units * rank + size - 1) / size * unit, at.r1 = least(r->rows, (units * (rank + 1) + size - 1) / size * unit);
    return at;
}
/* Of the whole batch. */
static double total_loss(const run *r) {
    double sum = 0;
    for (int64_t b = 0; b < r->batch; b++) sum += r->p->row_loss[b];
    return sum;
}
/* By thread 0: the chunk of T steps that begins at step `first` of the sequences. */
static void set_chunk(run *r, int64_t first, int64_t T) {
    r->source.first = first, r->p->T = T, r->fresh = r->back = 0;
    r->ended = count_batch_sizes(r->p, &r->source, T);
}
/* Outputs, losses (into row_loss, or nowhere) and the backward pass through g, a block of new steps at a time; of the last states
   once. */
static void readout(run *r, span at, double *row_loss) {
    const bptt_plan *p = r->p;
    const field *y = &p->value[p->head_layers - 1];
    const int main_thread = at.r0 == 0;
    if (!p->every) at.r0 = most(at.r0, r->ended);
    for (int64_t i = 0; (p->every ? next_block(p, &p->layer[0], 0, i, r->fresh, p->T, &at) : i == 0) && !stopped(r); i++) {
        const span to = readout_span(p->every, at);
        if (at.r1 <= at.r0) return;
        head_forward(p, p->every, at);
        p->k->loss(&r->loss_desc, &r->source, p->O, y, &to, row_loss, 1);
        head_backward(p, at);
        if (main_thread) poll_caller(r, step_work(p) * (double)(at.t1 - at.t0));
    }
}
/* Steps of a pass that bring no error of their own. */
static void clear_old(const run *r, span at) {
    const bptt_plan *p = r->p;
    const field *dy = &p->layer[p->layers * p->directions - 1].dy;
    for (int64_t t = r->back; p->every && t < r->fresh; t++) p->k->zero_rows(dy, t, at.r0, at.r1);
}

/* -- the closed loop: a step's input may be the output of the step before, so that nothing leaves the loop over time -- */

static dropout sampling_of(const run *r) {
    dropout draws = mask_of(r, 2 * BPTT_MAX_LAYERS, 0);
    draws.p = r->p->sampling_probability;
    return draws;
}
static void closed_loop(run *r, span at) {
    const bptt_plan *p = r->p;
    const dropout draws = sampling_of(r);
    const field *y = &p->value[p->head_layers - 1];
    span now = at;
    for (int64_t t = 0; t < p->T && !stopped(r); t++) {
        now.t0 = t, now.t1 = t + 1;
        p->k->gather(&r->source, p->I, p->I, &p->x, &now);
        p->k->feed_back(&draws, &r->source, y, &p->x, &now, 0);
        for (int64_t n = 0; n < p->layers; n++) layer_forward(r, n, &now);
        head_forward(p, 1, now);
        if (at.r0 == 0) poll_caller(r, step_work(p));
    }
    clear_carried(p, at);
    p->k->loss(&r->loss_desc, &r->source, p->O, y, &at, r->row_loss, 1);
    for (int64_t t = p->T - 1; t >= 0 && !stopped(r); t--) {
        now.t0 = t + 1, now.t1 = t + 2;
        if (t + 1 < p->T) p->k->feed_back(&draws, &r->source, y, &p->dx, &now, 1);
        now.t0 = t, now.t1 = t + 1;
        head_backward(p, now);
        for (int64_t n = p->layers - 1; n >= 0; n--) layer_backward(r, n, &now);
        if (at.r0 == 0) poll_caller(r, step_work(p));
    }
    for (int64_t n = 0; wants_start(r) && n < p->layers; n++) p->cell->finish(&p->layer[n], &at);
}

/* -- passes: all steps at once, or k1 new ones and an update -- */

/* By thread 0: the last `keep` steps before step `from` move to the front of the tape, with all that they need once more. */
static void move_tape(bptt_plan *p, int64_t from, int64_t keep) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        frame *f = &p->layer[n];
        const struct { const field *f; int64_t steps; } tape[] = {
            { &f->s, keep + 1 }, { &f->masked, keep + 1 }, { &f->kept, keep }, { &f->saved, keep }, { &f->m, keep },
            { &p->dropped[n], keep }, { n ? NULL : &p->x, keep },
        };
        for (size_t i = 0; i < sizeof tape / sizeof *tape; i++) {
            if (!tape[i].f || !tape[i].f->p) continue;
            const int64_t step = tape[i].f->step * p->k->bytes;
            memmove(tape[i].f->p, (char *)tape[i].f->p + (from - keep) * step, (size_t)(tape[i].steps * step));
        }
        for (int64_t i = 0; i < f->depth; i++) {
            const int64_t step = f->a[i].step * p->k->bytes;
            memmove(f->a[i].p, (char *)f->a[i].p + (from - keep) * step, (size_t)(keep * step));
        }
    }
}
/* The loss is a mean over the target weights of an update; the gradient alone is that of the mean over the whole batch. */
static void set_scale(run *r, double weight) {
    r->loss_desc = (loss_desc){ r->p->loss, r->p->every, 0, weight > 0 ? 1 / (r->hyper ? weight : r->weight_sum) : 0 };
    if (r->hyper) r->weight[r->done] = weight, r->loss[r->done] = 0;
    memset(r->row_loss, 0, (size_t)r->p->B * sizeof *r->row_loss);
}
/* By thread 0: the pass with the new steps from `begin` on, of a batch of T steps. */
static void open_pass(run *r, int64_t begin, int64_t T) {
    bptt_plan *p = r->p;
    if (p->segment) {
        set_scale(r, r->weight_sum);
        return;
    }
    const int64_t steps = p->k1 ? least(p->k1, T - begin) : T, old = p->k1 ? least(begin, p->k2 - p->k1) : 0;
    int64_t fresh = begin - r->source.first;
    if (fresh + steps > p->laid) {
        move_tape(p, fresh, old);
        r->source.first = begin - old, fresh = old;
    }
    set_chunk(r, r->source.first, fresh + steps);
    r->fresh = fresh, r->back = fresh - old;
    r->rows = p->batch_sizes[fresh];
    set_scale(r, p->k1 ? chunk_weight(r, p->B, fresh, p->T) : r->weight_sum);
}
static void by_rows(run *r, team *team, int rank, int size, int add) {
    const bptt_plan *p = r->p;
    const span at = rows_of(r, rank, size);
    const int any = at.r1 > at.r0, targets = r->loss_desc.scale > 0;
    if (any && r->source.first + r->fresh == 0) init_states(r, at);
    if (any && p->sampling_probability > 0) closed_loop(r, at);
    else if (any) {
        layers_forward(r, at);
        if (!p->every) gather_last_states(r, at);
        if (targets) {
            clear_carried(p, at);
            clear_old(r, at);
            readout(r, at, r->row_loss);
        }
    }
    if (targets && p->sampling_probability == 0) layers_backward(r, team, at, add, rank, size);
    if (any && r->dx && targets) p->k->scatter(&r->source, p->I, p->I, &p->dx, &at, -1, r->dx);
}
/* The states after the chunk, of the rows that take part in it. */
static void store_final_states(run *r, span at) {
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        for (int64_t b = at.r0; b < at.r1; b++) {
            const int64_t steps = r->source.length[r->source.row[b]] - r->source.first;
            const span one = { .r0 = b, .r1 = b + 1 };
            void *const *kinds = r->forward ? r->forward->final : NULL;
            if (steps > 0) store_states(r, n, &f->s, f->reverse ? 0 : least(steps, p->T), one, r->state, kinds);
        }
    }
}
static void gradient_of_pass(run *r, team *team, int rank, int size, int add) {
    bptt_plan *p = r->p;
    if (p->shared) {
        project_series(r, rank, size);
        team_barrier(team);
    }
    by_rows(r, team, rank, size, add);
    team_barrier(team);
    if (p->shared) {
        for (int64_t n = 0; n < p->directions; n++)
            p->k->sum_windows(&p->layer[n].dzx, &p->window_zx[n], p->stride, p->T, p->B, rank, size);
        team_barrier(team);
    }
    if (!stopped(r) && r->loss_desc.scale > 0) {
        const span all = all_rows(r);
        const double work = step_work(p) * (double)p->T / size;
        const int slices = slices_of(work);
        for (int64_t n = 0; p->sampling_probability > 0 && n < p->layers; n++)
            for (int i = 0; i < slices && !stopped(r); i++) {
                collect_layer(p, n, add, &all, rank * slices + i, size * slices);
                if (rank == 0) poll_caller(r, work / slices);
            }
        collect_rest(r, add, rank, size);
        collect_readout(r, add, rank, size);
    }
    team_barrier(team);
}

/* -- checkpoints: the states at the start of segments, and in the backward pass each segment once more --
   Every thread keeps its rows for the whole batch. */

typedef struct {
    run *r;
    team *team;
    int rank, size;
    int64_t count, steps;                      /* segments; steps of the whole batch */
    int64_t slots, seen, done;                 /* stored states; segments [0, seen) were run forwards, `done` backwards */
} segments;

static span open_segment(segments *s, int64_t number) {
    run *r = s->r;
    team_barrier(s->team);
    if (s->rank == 0) {
        const int64_t first = number * r->p->segment;
        set_chunk(r, first, least(r->p->segment, s->steps - first));
        r->over = stopped(r);
        if (number == s->count - 1) r->ended = 0;          /* g reads the last states of all rows at once, after the last step */
    }
    team_barrier(s->team);
    return rows_of(r, s->rank, s->size);
}
static void load_slot(segments *s, int64_t slot) {
    const bptt_plan *p = s->r->p;
    const span at = rows_of(s->r, s->rank, s->size);
    for (int64_t n = 0; n < p->layers; n++) {
        const frame *f = &p->layer[n];
        p->k->copy_rows(&p->stored[n], slot, &f->s, 0, at.r0, at.r1);
        if (f->mask.p) p->k->multiply(&f->s, &f->mask, &f->masked, 0, at.r0, at.r1);
    }
}
static void store_slot(segments *s, int64_t slot) {
    const bptt_plan *p = s->r->p;
    const span at = rows_of(s->r, s->rank, s->size);
    for (int64_t n = 0; n < p->layers; n++) p->k->copy_rows(&p->layer[n].s, 0, &p->stored[n], slot, at.r0, at.r1);
}
/* Forwards through a segment, for the state behind it (and, the first time, its losses). */
static void advance(segments *s, int64_t number) {
    run *r = s->r;
    const bptt_plan *p = r->p;
    const span at = open_segment(s, number);
    if (r->over) return;
    layers_forward(r, at);
    if (number >= s->seen && p->every) give_results(r, 1, at);
    else if (number >= s->seen) gather_last_states(r, at);
    if (number >= s->seen && r->state) store_final_states(r, at);
    s->seen = most(s->seen, number + 1);
    for (int64_t n = 0; n < p->layers; n++) {
        const frame *f = &p->layer[n];
        p->k->copy_rows(&f->s, p->T, &f->s, 0, at.r0, at.r1);
        if (f->mask.p) p->k->multiply(&f->s, &f->mask, &f->masked, 0, at.r0, at.r1);
    }
}
/* Forwards and backwards through a segment whose first state is there. */
static void reverse_segment(segments *s, int64_t number) {
    run *r = s->r;
    const bptt_plan *p = r->p;
    const span at = open_segment(s, number);
    const int add = s->done > 0, last = number == s->count - 1;
    if (r->over) return;
    layers_forward(r, at);
    if (!p->every && last) gather_last_states(r, at);
    if (p->every || last) readout(r, at, number >= s->seen ? r->row_loss : NULL);
    layers_backward(r, s->team, at, add, s->rank, s->size);
    if (r->dx) p->k->scatter(&r->source, p->I, p->I, &p->dx, &at, -1, r->dx);
    if (last && r->state) store_final_states(r, at);
    s->seen = most(s->seen, number + 1), s->done++;
    team_barrier(s->team);
    if (!stopped(r)) {
        collect_rest(r, add, s->rank, s->size);
        if (p->every || last) collect_readout(r, add, s->rank, s->size);
    }
    team_barrier(s->team);                     /* before the next states come into chunk 0 */
}
/* C(s + r, s): how many segments s slots can reverse if none is run forwards more than r times (below 2^62). */
static int64_t reach_of(int64_t s, int64_t r) {
    double exact = 1;
    for (int64_t i = 1; i <= least(s, r) && exact < 4e18; i++) exact = exact * (double)(most(s, r) + i) / (double)i;
    return r < 0 || s < 0 ? 0 : exact < 4e18 ? (int64_t)(exact + 0.5) : INT64_MAX / 2;
}
/* How far to go before the next state is stored, so that the fewest segments are run again (Griewank 1992). */
static int64_t advance_length(int64_t count, int64_t slots) {
    int64_t r = 0;
    if (slots >= count) return 1;
    while (reach_of(slots, r) < count) r++;
    return most(1, most(reach_of(slots, r - 2), count - reach_of(slots - 1, r)));
}
/* Segments [from, to) backwards; the state before `from` is in slot `top`. */
static void reverse_segments(segments *s, int64_t from, int64_t to, int64_t top) {
    while (to - from > 1 && !s->r->over) {
        const int64_t slots = s->slots - top, ahead = slots > 1 ? advance_length(to - from, slots) : to - from - 1;
        load_slot(s, top);
        for (int64_t i = from; i < from + ahead && !s->r->over; i++) advance(s, i);
        if (slots > 1) {
            store_slot(s, top + 1);
            reverse_segments(s, from + ahead, to, top + 1);
        } else reverse_segment(s, to - 1);
        to = from + ahead;
    }
    load_slot(s, top);
    reverse_segment(s, from);
}
static void gradient_by_segments(run *r, team *team, int rank, int size, int64_t T) {
    const bptt_plan *p = r->p;
    segments s = { r, team, rank, size, .count = (T - 1) / p->segment + 1, .steps = T };
    s.slots = p->checkpoints ? least(p->checkpoints, s.count) : s.count;
    const span at = rows_of(r, rank, size);
    if (at.r1 > at.r0) {
        init_states(r, at);
        clear_carried(p, at);
    }
    store_slot(&s, 0);
    reverse_segments(&s, 0, s.count, 0);
}

/* -- training -- */

/* Norm, update, packed copies.  0: refused, the run is over. */
static int finish_update(run *r, team *team, int rank, int size) {
    bptt_plan *p = r->p;
    partial_norms(p, rank, size);
    team_barrier(team);
    const double norm = total_norm(p), loss = total_loss(r) * r->loss_desc.scale;
    if (rank == 0) {
        if (r->hyper) r->loss[r->done] = loss;
        else *r->loss += loss;
    }
    if (!may_update(r, loss, norm)) {
        if (rank == 0) r->status = BPTT_DIVERGED;
        return 0;
    }
    if (!r->hyper) return 1;                   /* the gradient alone */
    if (rank == 0) prepare_update(r, norm);
    team_barrier(team);
    update_slice(r, rank, size);
    team_barrier(team);
    pack_transposed_all(p, rank, size);
    return 1;
}
/* dLoss/dstate0, as the backward pass left it. */
static void give_start(const run *r, span at) {
    const bptt_plan *p = r->p;
    for (int64_t n = 0; r->dstate && n < p->layers * p->directions; n++)
        store_states(r, n, &p->layer[n].ds, 0, at, r->dstate, NULL);
}
/* No target weighs anything: dLoss/dx and dLoss/dstate0 are zero. */
static void give_zeros(const run *r, span at) {
    const bptt_plan *p = r->p;
    const int64_t x = p->I * p->k->bytes, s = p->state_size * p->k->bytes;
    for (int64_t b = at.r0; b < at.r1; b++) {
        const int64_t i = r->source.row[b];
        if (r->dx) memset((char *)r->dx + r->source.offset[i] * x, 0, (size_t)(r->source.length[i] * x));
        if (r->dstate) memset((char *)r->dstate + i * s, 0, (size_t)s);
    }
}
static void train(void *context, team *team, int rank, int size) {
    run *r = context;
    bptt_plan *p = r->p;
    int going = 1, added = 0;
    load_parameters(r, team, rank, size);
    pack_transposed_all(p, rank, size);
    for (int64_t from = 0, rows; from < r->n && going; from += rows) {
        if (rank == 0) {
            const int first = begin_group(r, from, p->steps);
            if (first) r->weight_sum = chunk_weight(r, r->batch, 0, r->longest);
            lay_out(p, r->rows, tape_steps(p, r->longest), TRAIN, windows(r, r->rows));
        }
        team_barrier(team);
        rows = p->B;
        const int64_t T = r->longest, each = p->k1 ? p->k1 : T;
        const int more = from > r->end - r->batch, ends = from + rows == r->end;   /* groups before this one, and after it */
        for (int64_t begin = 0; begin < T && going; begin += each) {
            if (rank == 0) open_pass(r, begin, T);
            team_barrier(team);
            const int targets = r->loss_desc.scale > 0, add = r->hyper ? more : added;
            if (!p->segment) gradient_of_pass(r, team, rank, size, add);
            else if (targets) gradient_by_segments(r, team, rank, size, T);
            going = !stopped(r);
            if (going && (r->dx || r->dstate)) {
                if (targets) give_start(r, rows_of(r, rank, size));
                else give_zeros(r, rows_of(r, rank, size));
                team_barrier(team);
            }
            going = going && (!targets || !ends || finish_update(r, team, rank, size));
            added |= targets;
            if (going && r->state && !p->segment) {
                store_final_states(r, rows_of(r, rank, size));
                team_barrier(team);
            }
            if (rank == 0) r->done += going && ends;
        }
    }
    if (r->hyper) store_parameters(r, team, rank, size);
    else if (r->status != BPTT_INTERRUPTED) {
        if (rank == 0 && !added) memset(p->grad, 0, (size_t)(p->work_size * p->k->bytes));
        team_barrier(team);
        each_block(p, p->k->unpack, p->grad, r->grad, rank, size);
    }
}

/* Bounds of a mean of gradients, and of the last one, over the root of the mean of their squares (by Cauchy and Schwarz). */
static double mean_bound(const bptt_hyper *h) {
    const double b1 = h->beta1, b2 = h->beta2;
    return b1 * b1 < b2 ? 1 / sqrt((1 - b2) * (1 - b1 * b1 / b2)) : INFINITY;
}
static double square_bound(const bptt_hyper *h) { return h->centered ? INFINITY : 1 / sqrt(1 - h->beta2); }

bptt_status prepare_training(run *r) {
    const bptt_hyper *h = r->hyper;
    const double rate = h->learning_rate, decay = h->weight_decay;
    const int kind = find(h->optimizer, bptt_optimizer);
    if (kind < 0) return BPTT_BAD_DESC;
    r->each = most(1, (int64_t)(POLL_WORK / step_work(r->p)));
    r->update = (update){ .kind = kind, .needs_preprocessing = h->clip_value > 0 || h->noise > 0 };
    switch (kind) {
#define OPTIMIZER(name, vectors, in_use, step_bound, gain_bound) \
    case OPTIMIZER_##name: r->slots = in_use, r->most = rate * (step_bound), r->gain = rate * (gain_bound); break;
#include "optimizers.def"
    }
    r->amplifies = decay > 1 || (decay > 0 && fmin(r->most, r->gain * decay) > 1);
    r->by_block = r->update.needs_preprocessing || (decay > 0 && h->no_bias_decay);
    return BPTT_OK;
}
void set_clip(bptt_plan *p, double clip) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) p->layer[n].clip = clip;
}

int64_t bptt_updates(const bptt_plan *p, const bptt_data *data, const int64_t *order, int64_t n) {
    int64_t updates = 0, longest = 0;
    for (int64_t i = 0; i < n; i++) {
        longest = most(i % p->batch ? longest : 0, data->length[order[i]]);
        if (i + 1 == n || (i + 1) % p->batch == 0) updates += p->k1 ? (longest - 1) / p->k1 + 1 : 1;
    }
    return updates;
}
bptt_status bptt_epoch(bptt_plan *p, void *params, void *opt_state, bptt_hyper *hyper, const bptt_data *data,
                       const int64_t *order, int64_t n, double *loss, double *weight, void *state, int64_t *done,
                       bptt_poll poll, void *context) {
    run r = { .p = p, .data = data, .order = order, .n = n, .hyper = hyper, .loss = loss, .weight = weight, .state = state,
              .poll = poll, .context = context, .params = params, .trained = params, .opt_state = opt_state };
    if (!has_targets(p, data) || !all_fit(p, data, order, n, 0)) return BPTT_CAPACITY;
    const bptt_status status = prepare_training(&r);
    if (status) return status;
    set_clip(p, hyper->clip_state);
    team_run(p->threads, train, &r);
    set_clip(p, 0);
    *done = r.done;
    return r.status;
}
bptt_status bptt_loss_grad(bptt_plan *p, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                           double *loss, void *grad, void *dx, void *dstate, bptt_poll poll, void *context) {
    run r = { .p = p, .data = data, .order = order, .n = n, .loss = loss, .poll = poll, .context = context,
              .params = params, .grad = grad, .dx = dx, .dstate = dstate };
    if (n > p->batch || (dx && !p->input_gradient) || (p->k1 && (dx || dstate)) || (p->stride && dx) ||
        !has_targets(p, data) || !all_fit(p, data, order, n, 0))
        return BPTT_CAPACITY;
    *loss = 0;
    team_run(p->threads, train, &r);
    return r.status;
}

/* -- for a program that takes derivatives of its own -- */

/* Between the caller's blocks and the packed vectors. */
static void pack_block(const matrix *m, const void *of_run, void *work, int64_t rank, int64_t size) {
    const run *r = of_run;
    const char *own = r->forward->params[m->block];
    const int64_t bytes = r->p->k->bytes;
    if (own) r->p->k->pack(m, own - m->first * bytes, work, rank, size);
    else if (rank == 0) memset((char *)work + m->work * bytes, 0, (size_t)(m->size * bytes));
}
static void unpack_block(const matrix *m, const void *of_run, void *unused, int64_t rank, int64_t size) {
    const run *r = of_run;
    char *own = r->output_grads->grad[m->block];
    (void)unused;
    if (own) r->p->k->unpack(m, r->p->grad, own - m->first * r->p->k->bytes, rank, size);
}
/* Rows [from, to) of the batch that go together: all, or with an `area` those at least half as long as the first. */
static int64_t tape_end(const run *r, int64_t from) {
    const int64_t *length = r->data->length, *row = r->p->row;
    int64_t to = r->p->grouped ? from + 1 : r->n;
    while (to < r->n && 2 * length[row[to]] >= length[row[from]]) to++;
    return to;
}
static int tape_fits(const run *r) {
    int64_t left = r->p->area;
    for (int64_t from = 0, to; from < r->n && left >= 0; from = to) {
        to = tape_end(r, from);
        left -= (to - from) * r->data->length[r->p->row[from]];
    }
    return left >= 0;
}
/* By thread 0: such a group, behind the one before: its tape is kept. */
static void open_tape(run *r, int64_t from, int purpose) {
    bptt_plan *p = r->p;
    r->source.row = p->row + from, r->longest = r->data->length[p->row[from]], r->rows = tape_end(r, from) - from;
    lay_out_at(p, from ? p->end : (int64_t)p->fixed, r->rows, r->longest, purpose, 0);
    set_chunk(r, 0, r->longest);
}
static void forward_taped(void *context, team *team, int rank, int size) {
    run *r = context;
    bptt_plan *p = r->p;
    const int purpose = r->forward->keep || p->dropout > 0 || p->recurrent_dropout > 0 ? TRAIN : INFER;
    each_block(p, pack_block, r, p->work, rank, size);
    for (int64_t from = 0, rows; from < r->n && !stopped(r); from += rows) {
        if (rank == 0) open_tape(r, from, purpose);
        team_barrier(team);
        rows = p->B;
        const span at = rows_of(r, rank, size);
        if (at.r1 > at.r0) {
            init_states(r, at);
            layers_forward(r, at);
            if (!p->every) gather_last_states(r, at);
            give_results(r, p->every, at);
            if (r->forward->final) store_final_states(r, at);
        }
        team_barrier(team);
    }
}
static void backward_group(run *r, team *team, int rank, int size, int add) {
    const bptt_plan *p = r->p;
    const bptt_backward_arrays *b = r->output_grads;
    const span at = rows_of(r, rank, size);
    const int any = at.r1 > at.r0;
    if (any) {
        clear_carried(p, at);
        for (int64_t n = 0; b->dfinal && n < p->layers * p->directions; n++)
            for (int q = 0; q < p->cell->states; q++) {
                const field kind = state_kind(p, &p->layer[n], &p->layer[n].ds, q);
                if (b->dfinal[q]) load_kind(r, n, q, b->dfinal, &kind, 0, at);
            }
        span now = at;
        for (int64_t i = 0; (p->every ? next_block(p, &p->layer[0], 0, i, 0, p->T, &now) : i == 0) && !stopped(r); i++) {
            load_output_grads(r, now);
            head_backward(p, now);
            if (rank == 0) poll_caller(r, step_work(p) * (double)(now.t1 - now.t0));
        }
    }
    layers_backward(r, team, at, add, rank, size);
    if (any && b->dx) p->k->scatter(&r->source, p->I, p->I, &p->dx, &at, -1, b->dx);
    for (int64_t n = 0; any && b->dinitial && n < p->layers * p->directions; n++)
        store_states(r, n, &p->layer[n].ds, 0, at, NULL, b->dinitial);
    team_barrier(team);
    collect_rest(r, add, rank, size);
    collect_readout(r, add, rank, size);
    team_barrier(team);
}
static void backward_taped(void *context, team *team, int rank, int size) {
    run *r = context;
    bptt_plan *p = r->p;
    pack_transposed_all(p, rank, size);
    for (int64_t from = 0, rows; from < r->n && !stopped(r); from += rows) {
        if (rank == 0) open_tape(r, from, TRAIN);
        team_barrier(team);
        rows = p->B;
        backward_group(r, team, rank, size, from > 0);
    }
    each_block(p, unpack_block, r, NULL, rank, size);
}
bptt_status bptt_forward(bptt_plan *p, const bptt_data *data, int64_t n, const bptt_forward_arrays *arrays, bptt_poll poll,
                         void *context) {
    run r = { .p = p, .data = data, .n = n, .forward = arrays, .y = arrays->y, .poll = poll, .context = context };
    if (n < 1 || n > p->batch || unfolds_in_parts(p) || !all_fit(p, data, NULL, n, 0)) return BPTT_CAPACITY;
    begin_batch(&r, 0);
    if (!tape_fits(&r)) return BPTT_CAPACITY;
    team_run(p->threads, forward_taped, &r);
    p->draw = arrays->draw, p->given = data->state || arrays->initial, p->taped = !r.status && arrays->keep ? n : 0;
    return r.status;
}
bptt_status bptt_backward(bptt_plan *p, const bptt_data *data, int64_t n, const bptt_backward_arrays *arrays, bptt_poll poll,
                          void *context) {
    run r = { .p = p, .data = data, .n = n, .output_grads = arrays, .poll = poll, .context = context,
              .given = p->given, .first_update = p->draw };
    if (!p->taped || n != p->taped || (arrays->dx && !p->input_gradient)) return BPTT_CAPACITY;
    p->taped = 0;
    r.source = source_of(p, data);
    if (!all_fit(p, data, NULL, n, 0) || !tape_fits(&r)) return BPTT_CAPACITY;
    team_run(p->threads, backward_taped, &r);
    return r.status;
}

/* -- prediction and evaluation: forward only, long sequences in blocks of the plan's steps -- */

/* After a block: outputs and states of rows that end in it, the other rows' states to where the next block starts. */
static void carry_states(run *r, span at) {
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        for (int64_t b = at.r0; b < at.r1; b++) {
            const int64_t steps = r->source.length[r->source.row[b]] - r->source.first;
            const span one = { .r0 = b, .r1 = b + 1 };
            if (steps > p->T) p->k->copy_rows(&f->s, p->T, &f->s, 0, b, b + 1);
            else if (steps > 0 && r->state) store_states(r, n, &f->s, f->reverse ? 0 : steps, one, r->state, NULL);
        }
    }
}
static void forward_block(run *r, int rank, int size, int every) {
    const bptt_plan *p = r->p;
    const span at = rows_of(r, rank, size);
    if (at.r1 <= at.r0) return;
    if (r->source.first == 0) {
        init_states(r, at);
        memset(r->row_loss + at.r0, 0, (size_t)(at.r1 - at.r0) * sizeof *r->row_loss);
    }
    layers_forward(r, at);
    if (every) give_results(r, 1, at);
    else gather_last_states(r, at);
    carry_states(r, at);
    if (!every && r->source.first + p->T >= r->longest) give_results(r, 0, at);
}
static void forward_only(void *context, team *team, int rank, int size) {
    run *r = context;
    bptt_plan *p = r->p;
    load_parameters(r, team, rank, size);
    for (int64_t from = 0, rows; from < r->n; from += rows) {
        if (rank == 0) {
            const int64_t most_steps = tape_steps(p, p->steps);
            const int first = begin_group(r, from, most_steps);
            lay_out(p, r->rows, least(r->longest, most_steps), INFER, 0);
            r->loss_desc = (loss_desc){ p->loss, p->every, 0, 1 };
            r->fresh = 0, r->several = r->n > 1;       /* a sequence gives the same bits in every batch */
            if (!r->y && first) r->weight_sum += chunk_weight(r, r->batch, 0, r->longest);
        }
        team_barrier(team);
        const int64_t longest = r->longest, steps = p->T;   /* of this group: rank 0 may go on to the next */
        rows = p->B;
        for (int64_t first = 0; first < longest; first += steps) {
            if (rank == 0) {
                r->source.first = first;
                count_batch_sizes(p, &r->source, steps);
            }
            team_barrier(team);
            forward_block(r, rank, size, r->every);
            team_barrier(team);
            if (stopped(r)) return;
        }
        if (rank > 0 || from + rows < r->end) continue;
        if (!r->y) r->loss_sum += total_loss(r);
        r->done++;
    }
}
bptt_status bptt_predict(bptt_plan *p, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                         int every, void *y, void *state, bptt_poll poll, void *context) {
    run r = { .p = p, .data = data, .order = order, .n = n, .every = every, .y = y, .state = state, .poll = poll,
        .context = context,
              .params = params };
    if ((every && !p->every) || !all_fit(p, data, order, n, p->directions == 1)) return BPTT_CAPACITY;
    team_run(p->threads, forward_only, &r);
    return r.status;
}
bptt_status bptt_evaluate(bptt_plan *p, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                          double *loss, bptt_poll poll, void *context) {
    run r = { .p = p, .data = data, .order = order, .n = n, .every = p->every, .poll = poll, .context = context, .params = params };
    if (!has_targets(p, data) || !all_fit(p, data, order, n, p->directions == 1)) return BPTT_CAPACITY;
    team_run(p->threads, forward_only, &r);
    *loss = r.weight_sum > 0 ? r.loss_sum / r.weight_sum : 0;
    return r.status;
}

