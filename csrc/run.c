/* run.c: batches, phases, who does which rows or tiles.  The only caller of threads; no arithmetic on data.

   phase A, by rows:    gather, project, scan forward, readout, loss, back through g, scan backward
   phase B, by tiles:   collect the weight gradients over all rows
   phase C, by slices:  norm, update, then the packed copies for the way back
   A run of one thread collects each block of steps as soon as its gradient is there, while it is in the cache; the blocks
   and their order are the same for any number of threads. */
#include "plan.h"
#include "threads.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { BLOCK_BYTES = 384 << 10 };              /* of activations that a block of steps may touch: it should stay in the L2 cache */
static const double POLL_WORK = 2e7;           /* multiply-adds between two looks at the caller's poll: some milliseconds */

typedef struct {
    bptt_plan *p;
    const bptt_data *data;
    const int64_t *order;
    int64_t n, done;                           /* sequences in order; finished batches or patterns */
    bptt_hyper *hyper;
    double *loss;
    bptt_poll poll;
    void *context;
    double unpolled;                           /* multiply-adds since the last poll */
    bptt_status status;
    atomic_int stop;
    update update;
    int slots;                                 /* vectors that this optimiser, with these numbers, keeps */
    double reach;                              /* the largest change of a weight, over the norm of the gradient (Adam: itself) */
    const void *params;
    void *trained, *opt_state;                 /* training: params, to be written, and the optimiser's slots */
    void *grad, *dx, *dstate;                  /* loss_grad: wanted, or NULL */
    int every;                                 /* predict: what g reads */
    void *y, *state;                           /* predict: outputs */
    double loss_sum, weight_sum;               /* evaluate */
    int64_t k, lead;                           /* slide */
    source source;
    loss_desc loss_desc;
} run;

static void ask(run *r, double work) {
    r->unpolled += work;
    if (r->unpolled < POLL_WORK || !r->poll) return;
    r->unpolled = 0;
    if (!atomic_load_explicit(&r->stop, memory_order_relaxed) && r->poll(r->context, r->done)) {
        r->status = BPTT_INTERRUPTED;
        atomic_store_explicit(&r->stop, 1, memory_order_relaxed);
    }
}
static int stopped(const run *r) { return atomic_load_explicit(&r->stop, memory_order_relaxed); }

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
    const int64_t a_step = (p->x.step + f->z.step * (1 + p->cell->split) + f->s.step + f->saved.step) * p->k->bytes;
    const int64_t steps = BLOCK_BYTES / a_step;
    return steps < 1 ? 1 : steps > T ? T : steps;
}
static double step_work(const bptt_plan *p) { return (double)p->work_size * (double)p->B; }

/* Blocks of steps in the order of time (of the layer), or against it. */
static int next_block(const bptt_plan *p, const frame *f, int backward, int64_t number, span *at) {
    const int64_t size = block_steps(p, p->T), count = (p->T + size - 1) / size;
    if (number >= count) return 0;
    const int64_t i = (f->reverse ^ backward) ? count - 1 - number : number;
    at->t0 = i * size, at->t1 = (i + 1) * size < p->T ? (i + 1) * size : p->T;
    return 1;
}

/* -- phase A -- */

/* h (q = 0) or c in a field of states; its width; where it begins in the state of a sequence */
static field state_kind(const bptt_plan *p, const frame *f, const field *s, int q) {
    field kind = *s;
    kind.p = (char *)s->p + q * ((f->R - 1) / p->k->lanes + 1) * s->block * p->k->bytes;
    return kind;
}
static int64_t kind_width(const frame *f, int q) { return q ? f->H : f->R; }
static int64_t kind_at(const frame *f, int64_t n, int q) { return n * (f->R + (f->states - 1) * f->H) + (q ? f->R : 0); }
/* One field of states (S*H columns) of a layer direction into the caller's rows. */
static void give_states(const run *r, int64_t n, const field *s, int64_t t, span rows, void *out) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    for (int q = 0; q < f->states; q++) {
        const field kind = state_kind(p, f, s, q);
        p->k->store_state(&r->source, p->state_size, kind_at(f, n, q), kind_width(f, q), &kind, t, &rows, out);
    }
}
/* A dropout mask of this batch: between layers (kind 0) or in the recurrence (1), of one layer direction. */
static dropout mask_of(const run *r, int64_t n, int kind) {
    const uint64_t step = r->hyper ? (uint64_t)r->hyper->step : 0;
    return (dropout){ r->p->seed * 0x9e3779b97f4a7c15u + step * 0xd1342543de82ef95u + (uint64_t)(2 * n + kind),
                      kind ? r->p->recurrent_dropout : r->p->dropout };
}
static void set_states(run *r, span at) {      /* chunk 0; in reverse, the chunk after each row's last step */
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
            for (int q = 0; q < f->states; q++) {
                const field s = state_kind(p, f, &f->s, q);
                p->k->load_state(&r->source, p->state_size, kind_at(f, n, q), kind_width(f, q), &s, t, &rows);
            }
            if (f->mask.p) p->k->multiply(&f->s, &f->mask, &f->masked, t, rows.r0, rows.r1);
        }
    }
}
static void layers_forward(run *r, span at) {
    const bptt_plan *p = r->p;
    const int main_thread = at.r0 == 0;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        field in[2];
        const int segments = inputs_of(p, n, in);
        for (int64_t i = 0; next_block(p, f, 0, i, &at) && !stopped(r); i++) {
            if (n == 0) p->k->gather(&r->source, p->I, &p->x, &at);
            for (int g = 0; g < segments; g++)
                p->k->forward(&f->ih, p->work, g ? NULL : &f->b_ih, g, ACT_LINEAR, &in[g], g ? &f->z : NULL, &f->z, &at);
            p->cell->forward(f, &at);
            if (drops(p) && n < (p->layers - 1) * p->directions) {
                const dropout mask = mask_of(r, n, 0);
                field h = f->s;
                h.p = (char *)h.p + !f->reverse * h.step * p->k->bytes;
                p->k->drop(&mask, &r->source, &h, &p->dropped[n], &at, 0);
            }
            if (main_thread) ask(r, step_work(p) * (double)(at.t1 - at.t0));
        }
    }
}
/* Where g works: on the steps of the span, or once on the last states. */
static span readout_span(int every, span at) {
    return every ? at : (span){ .t0 = 0, .t1 = 1, .r0 = at.r0, .r1 = at.r1, .single = at.single ? ONE_STEP : BATCH };
}
/* Copy the states after the last step of the rows that end within this run of T steps. */
static void take_last(run *r, span at) {
    const bptt_plan *p = r->p;
    for (int d = 0; d < p->directions; d++) {
        const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
        for (int64_t b = at.r0; b < at.r1; b++) {
            const int64_t steps = r->source.length[r->source.row[b]] - r->source.first;
            if (steps > 0 && steps <= p->T) p->k->copy_rows(&f->s, f->reverse ? 0 : steps, &p->last[d], 0, b, b + 1);
        }
    }
}
static void head_forward(const bptt_plan *p, int every, span at) {
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
/* From dy, which the loss left in place of y, to dLoss/dh: into dy of the top layers, or (last) their carried ds. */
static void head_backward(const bptt_plan *p, span at) {
    const span to = readout_span(p->every, at);
    for (int64_t l = p->head_layers - 1; l >= 0; l--) {
        const field *dz = l + 1 < p->head_layers ? &p->slope[l] : &p->value[l];
        if (l) p->k->backward(&p->head[l].w, 0, dz, &p->slope[l - 1], 0, p->head[l - 1].act, &p->value[l - 1], &to);
        else for (int d = 0; d < p->directions; d++) {
            const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
            p->k->backward(&p->head[0].w, d, dz, p->every ? &f->dy : &f->ds, 0, ACT_LINEAR, NULL, &to);
        }
    }
}
static void clear_carried(const bptt_plan *p, span at) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) p->k->zero_rows(&p->layer[n].ds, 0, at.r0, at.r1);
}

/* Weight gradients of one block of steps of one layer direction. */
void collect_layer(const bptt_plan *p, int64_t n, int add, const span *at, int64_t part, int64_t parts) {
    const frame *f = &p->layer[n];
    field in[2];
    const int segments = inputs_of(p, n, in);
    for (int g = 0; g < segments; g++) p->k->collect(&f->ih, g, &in[g], &f->z, p->grad, add, at, part, parts);
    p->cell->collect(f, p->grad, add, at, part, parts);
    p->k->collect_bias(&f->b_ih, p->cell->split ? NULL : &f->b_hh, &f->z, p->grad, add, at, part, parts);
    if (p->cell->split) p->k->collect_bias(&f->b_hh, NULL, &f->dzr, p->grad, add, at, part, parts);
}
static void collect_head(const bptt_plan *p, span all, int64_t part, int64_t parts) {
    field in[2];
    readout_of(p, p->every, in);
    const span at = readout_span(p->every, all);
    for (int64_t l = 0; l < p->head_layers; l++) {
        const dense *g = &p->head[l];
        const field *dz = l + 1 < p->head_layers ? &p->slope[l] : &p->value[l];
        for (int s = 0; s < (l ? 1 : p->directions); s++)
            p->k->collect(&g->w, s, l ? &p->value[l - 1] : &in[s], dz, p->grad, 0, &at, part, parts);
        p->k->collect_bias(&g->b, NULL, dz, p->grad, 0, &at, part, parts);
    }
}
/* collect: 1 when this thread is alone, so that it may collect a block as soon as it is there. */
static void layers_backward(run *r, span at, int collect) {
    const bptt_plan *p = r->p;
    const int main_thread = at.r0 == 0;
    for (int64_t n = p->layers * p->directions - 1; n >= 0; n--) {
        const frame *f = &p->layer[n];
        for (int64_t i = 0; next_block(p, f, 1, i, &at) && !stopped(r); i++) {
            if (drops(p) && n < (p->layers - 1) * p->directions) {
                const dropout mask = mask_of(r, n, 0);
                p->k->drop(&mask, &r->source, &f->dy, &f->dy, &at, 0);
            }
            p->cell->backward(f, &at);
            if (n >= p->directions)
                for (int d = 0; d < p->directions; d++) {
                    const int64_t below = n / p->directions * p->directions - p->directions + d;
                    p->k->backward(&f->ih, d, &f->z, &p->layer[below].dy, (n + 1) % p->directions != 0, ACT_LINEAR, NULL, &at);
                }
            else if (p->input_gradient) p->k->backward(&f->ih, 0, &f->z, &p->dx, n + 1 < p->directions, ACT_LINEAR, NULL, &at);
            if (collect) collect_layer(p, n, i > 0, &at, 0, 1);
            if (main_thread) ask(r, step_work(p) * (double)(at.t1 - at.t0) * (1 + collect));
        }
        if (r->dstate) p->cell->finish(f, &at);
    }
}

/* -- phase B -- */

static void collect_all(run *r, span at, int rank, int size) {
    const bptt_plan *p = r->p;
    if (size > 1)
        for (int64_t n = p->layers * p->directions - 1; n >= 0; n--)
            for (int64_t i = 0; next_block(p, &p->layer[n], 1, i, &at) && !stopped(r); i++) {
                collect_layer(p, n, i > 0, &at, rank, size);
                if (rank == 0) ask(r, step_work(p) * (double)(at.t1 - at.t0) / size);
            }
    at.t0 = 0, at.t1 = p->T;
    collect_head(p, at, rank, size);
}

/* -- phase C -- */

void turn_all(const bptt_plan *p, int rank, int size) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        if (f->hh.size) p->k->turn(&f->hh, p->work, rank, size);
        if (f->hr.size) p->k->turn(&f->hr, p->work, rank, size);
        if (f->ih.turned) p->k->turn(&f->ih, p->work, rank, size);
        for (int64_t i = 0; i < f->depth; i++) p->k->turn(&f->inner[i].w, p->work, rank, size);
    }
    for (int64_t l = 0; l < p->head_layers; l++) p->k->turn(&p->head[l].w, p->work, rank, size);
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
/* Whether loss and gradient are finite, and the weights still will be after an update: it is refused before it is written.
   Weight decay only adds to the weights where learning_rate * weight_decay > 1. */
static int may_update(const run *r, double loss, double norm) {
    const bptt_plan *p = r->p;
    const double limit = p->k->bytes == 8 ? 1e290 : 1e25;   /* of one change: it takes 1e13 of them to overflow a weight */
    if (!isfinite(loss) || !isfinite(norm)) return 0;
    if (!r->hyper) return 1;
    const bptt_hyper *h = r->hyper;
    double g = h->clip_norm > 0 && norm > h->clip_norm ? h->clip_norm : norm;
    if (h->learning_rate * h->weight_decay > 1) g += h->weight_decay * sqrt(p->k->norm2(p->work, 0, p->work_size));
    return h->learning_rate < limit && r->reach * (r->update.kind == OPT_ADAM ? 1 : g) < limit;
}
/* The numbers of the next update. */
static void prepare_update(run *r, double norm) {
    const bptt_hyper *h = r->hyper;
    r->update.scale = h->clip_norm > 0 && norm > h->clip_norm ? h->clip_norm / norm : 1;
    r->hyper->step++;
    if (r->update.kind == OPT_ADAM)
        r->update.correct1 = 1 - pow(h->beta1, (double)h->step), r->update.correct2 = 1 - pow(h->beta2, (double)h->step);
}
static void update_slice(const run *r, int rank, int size) {
    const bptt_plan *p = r->p;
    const int64_t vectors = p->work_size / p->k->lanes;
    p->k->optimise(&r->update, p->work, p->grad, p->slots, p->work_size, vectors * rank / size * p->k->lanes,
                   vectors * (rank + 1) / size * p->k->lanes);
}

/* Between the flat vectors of the caller and the packed ones of the arena, each thread its share. */
void each_block(const bptt_plan *p, void (*move)(const matrix *, const void *, void *, int64_t, int64_t), const void *from,
                void *to, int rank, int size) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        const matrix *const own[] = { &f->ih, &f->hh, &f->b_ih, &f->b_hh, &f->hr, &f->peep };
        for (size_t i = 0; i < sizeof own / sizeof *own; i++) if (own[i]->size) move(own[i], from, to, rank, size);
        for (int64_t i = 0; i < f->depth; i++) {
            move(&f->inner[i].w, from, to, rank, size);
            if (f->inner[i].b.size) move(&f->inner[i].b, from, to, rank, size);
        }
    }
    for (int64_t l = 0; l < p->head_layers; l++)
        move(&p->head[l].w, from, to, rank, size), move(&p->head[l].b, from, to, rank, size);
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
/* Into the arena and, for training, back. */
static void take_in(const run *r, team *team, int rank, int size) {
    each_block(r->p, r->p->k->pack, r->params, r->p->work, rank, size);
    if (r->hyper) move_slots(r, 1, rank, size);
    team_barrier(team);
}
static void give_back(const run *r, team *team, int rank, int size) {
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
static void count_living(bptt_plan *p, const source *s, int64_t T) {
    int64_t b = p->B;
    for (int64_t t = 0; t <= T; t++) {
        while (b > 0 && s->length[s->row[b - 1]] - s->first <= t) b--;
        p->living[t] = t < T ? b : 0;
    }
}
/* The batch that begins at order[from]: its rows by length.  Gives their number. */
static int64_t begin_batch(run *r, int64_t from) {
    bptt_plan *p = r->p;
    const bptt_data *d = r->data;
    const int64_t B = r->n - from < p->batch ? r->n - from : p->batch;
    r->source = (source){ d->values, d->targets, d->weight, d->state, d->classes, d->offset, d->length, d->target_offset,
        p->row, 0 };
    for (int64_t b = 0; b < B; b++) p->row[b] = r->order[from + b];
    sort_rows(d->length, p->row, B);
    return B;
}
/* Before a run: every sequence has a step, and (unless long ones run in blocks) no more than the plan's. */
static int all_fit(const bptt_plan *p, const bptt_data *data, const int64_t *order, int64_t n, int blocks) {
    for (int64_t i = 0; i < n; i++)
        if (data->length[order[i]] < 1 || (!blocks && data->length[order[i]] > p->steps)) return 0;
    return 1;
}
/* Sum of the weights of all target rows of the batch. */
static double batch_weight(const run *r) {
    const bptt_plan *p = r->p;
    double sum = 0;
    for (int64_t b = 0; b < p->B; b++) {
        const int64_t i = r->source.row[b], rows = p->every ? r->source.length[i] : 1;
        if (!r->source.weight) sum += (double)rows;
        else for (int64_t t = 0; t < rows; t++) sum += p->k->weight(r->source.weight, r->source.target_offset[i] + t);
    }
    return sum;
}
static span all_rows(const bptt_plan *p) {
    return (span){ .t0 = 0, .t1 = p->T, .r0 = 0, .r1 = p->B, .living = p->living, .single = p->B == 1 ? SINGLE : BATCH };
}
/* The rows of one thread, in fours where there are enough, so that tiles stay high. */
static span rows_of(const bptt_plan *p, int rank, int size) {
    const int64_t unit = p->B >= 4 * size ? 4 : 1, units = (p->B + unit - 1) / unit;
    span at = all_rows(p);
    at.r0 = units * rank / size * unit, at.r1 = units * (rank + 1) / size * unit;
    if (at.r1 > p->B) at.r1 = p->B;
    return at;
}
static double total_loss(const bptt_plan *p) {
    double sum = 0;
    for (int64_t b = 0; b < p->B; b++) sum += p->row_loss[b];
    return sum;
}
/* Outputs, losses and the way back through g, a block of steps at a time; with readout last, once. */
static void readout(run *r, span at) {
    const bptt_plan *p = r->p;
    const field *y = &p->value[p->head_layers - 1];
    const int main_thread = at.r0 == 0;
    for (int64_t i = 0; (p->every ? next_block(p, &p->layer[0], 0, i, &at) : i == 0) && !stopped(r); i++) {
        const span to = readout_span(p->every, at);
        head_forward(p, p->every, at);
        p->k->loss(&r->loss_desc, &r->source, p->O, y, &to, p->row_loss, 1);
        head_backward(p, at);
        if (main_thread) ask(r, step_work(p) * (double)(at.t1 - at.t0));
    }
}
static void phase_a(run *r, int rank, int size) {
    const bptt_plan *p = r->p;
    const span at = rows_of(p, rank, size);
    if (at.r1 <= at.r0) return;
    set_states(r, at);
    layers_forward(r, at);
    if (!p->every) take_last(r, at);
    memset(p->row_loss + at.r0, 0, (size_t)(at.r1 - at.r0) * sizeof *p->row_loss);
    clear_carried(p, at);
    readout(r, at);
    layers_backward(r, at, size == 1);
    if (r->dx) p->k->scatter(&r->source, p->I, &p->dx, &at, -1, r->dx);
}

static void train(void *context, team *team, int rank, int size) {
    run *r = context;
    bptt_plan *p = r->p;
    take_in(r, team, rank, size);
    turn_all(p, rank, size);
    for (int64_t from = 0; from < r->n; from += p->batch) {
        if (rank == 0) {
            const int64_t B = begin_batch(r, from), T = r->data->length[p->row[0]];
            lay_out(p, B, T, TRAIN);
            count_living(p, &r->source, T);
            const double weight = batch_weight(r);
            r->loss_desc = (loss_desc){ p->loss, p->every, 0, weight > 0 ? 1 / weight : 0 };
        }
        team_barrier(team);
        if (!stopped(r)) phase_a(r, rank, size);
        team_barrier(team);
        if (!stopped(r)) collect_all(r, all_rows(p), rank, size);
        team_barrier(team);
        if (stopped(r)) break;
        partial_norms(p, rank, size);
        team_barrier(team);
        const double norm = total_norm(p), loss = total_loss(p) * r->loss_desc.scale;
        if (rank == 0) r->loss[r->done] = loss;
        if (!may_update(r, loss, norm)) {
            if (rank == 0) r->status = BPTT_DIVERGED;
            break;
        }
        if (!r->hyper) break;                  /* loss_grad: one batch, no update */
        if (rank == 0) prepare_update(r, norm);
        team_barrier(team);
        update_slice(r, rank, size);
        team_barrier(team);
        turn_all(p, rank, size);
        if (rank == 0) r->done++;
    }
    if (r->hyper) give_back(r, team, rank, size);
    else if (r->status == BPTT_OK || r->status == BPTT_DIVERGED) each_block(p, p->k->unpack, p->grad, r->grad, rank, size);
}

static const struct { const char *name; int slots; } optimizers[] = { { "sgd", 1 }, { "adam", 2 } };
static int find_optimizer(const char *name) {
    if (!name) return 0;
    for (int i = 0; i < (int)(sizeof optimizers / sizeof *optimizers); i++) if (!strcmp(optimizers[i].name, name)) return i;
    return -1;
}
int bptt_slots(const char *name) {
    const int i = find_optimizer(name);
    return i < 0 ? -1 : optimizers[i].slots;
}

static bptt_status prepare_training(run *r) {
    const bptt_hyper *h = r->hyper;
    const int kind = find_optimizer(h->optimizer);
    r->update = (update){ kind, h->nesterov, h->learning_rate, h->momentum, h->weight_decay, h->beta1, h->beta2, h->eps, 1, 1, 1 };
    r->slots = kind < 0 || (kind == OPT_SGD && h->momentum == 0) ? 0 : optimizers[kind].slots;   /* plain SGD keeps nothing */
    r->reach = kind == OPT_ADAM ? h->learning_rate / sqrt(1 - h->beta2) : h->learning_rate / (1 - h->momentum);
    return kind < 0 ? BPTT_BAD_DESC : BPTT_OK;
}

bptt_status bptt_epoch(bptt_plan *p, void *params, void *opt_state, bptt_hyper *hyper, const bptt_data *data,
                       const int64_t *order, int64_t n, double *loss, int64_t *done, bptt_poll poll, void *context) {
    run r = { .p = p, .data = data, .order = order, .n = n, .hyper = hyper, .loss = loss, .poll = poll, .context = context,
              .params = params, .trained = params, .opt_state = opt_state };
    if (!all_fit(p, data, order, n, 0)) return BPTT_CAPACITY;
    const bptt_status status = prepare_training(&r);
    if (status) return status;
    team_run(p->threads, train, &r);
    *done = r.done;
    return r.status;
}

bptt_status bptt_loss_grad(bptt_plan *p, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                           double *loss, void *grad, void *dx, void *dstate, bptt_poll poll, void *context) {
    run r = { .p = p, .data = data, .order = order, .n = n, .loss = loss, .poll = poll, .context = context,
              .params = params, .grad = grad, .dx = dx, .dstate = dstate };
    if (n > p->batch || (dx && !p->input_gradient) || !all_fit(p, data, order, n, 0)) return BPTT_CAPACITY;
    team_run(p->threads, train, &r);
    if (r.status && r.status != BPTT_DIVERGED) return r.status;
    for (int64_t l = 0; dstate && l < p->layers * p->directions; l++) give_states(&r, l, &p->layer[l].ds, 0, all_rows(p), dstate);
    return r.status;
}

/* -- prediction and evaluation: forward only, long sequences in blocks of the plan's steps -- */

/* After a block: outputs and states of rows that end in it, the other rows' states to where the next block starts. */
static void keep_states(run *r, span at) {
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        for (int64_t b = at.r0; b < at.r1; b++) {
            const int64_t steps = r->source.length[r->source.row[b]] - r->source.first;
            const span one = { .r0 = b, .r1 = b + 1 };
            if (steps > p->T) p->k->copy_rows(&f->s, p->T, &f->s, 0, b, b + 1);
            else if (steps > 0 && r->state) give_states(r, n, &f->s, f->reverse ? 0 : steps, one, r->state);
        }
    }
}
static void forward_block(run *r, int rank, int size, int every) {
    const bptt_plan *p = r->p;
    span at = rows_of(p, rank, size);
    const field *y = &p->value[p->head_layers - 1];
    if (at.r1 <= at.r0) return;
    if (r->source.first == 0) {
        set_states(r, at);
        memset(p->row_loss + at.r0, 0, (size_t)(at.r1 - at.r0) * sizeof *p->row_loss);
    }
    layers_forward(r, at);
    if (every) {
        head_forward(p, 1, at);
        if (r->y) p->k->scatter(&r->source, p->O, y, &at, 1, r->y);
        else p->k->loss(&r->loss_desc, &r->source, p->O, y, &at, p->row_loss, 0);
    } else take_last(r, at);
    keep_states(r, at);
    if (!every && r->source.first + p->T >= r->source.length[r->source.row[0]]) {
        const span one = readout_span(0, at);
        head_forward(p, 0, at);
        if (r->y) p->k->scatter(&r->source, p->O, y, &one, 0, r->y);
        else p->k->loss(&r->loss_desc, &r->source, p->O, y, &one, p->row_loss, 0);
    }
}
static void forward_only(void *context, team *team, int rank, int size) {
    run *r = context;
    bptt_plan *p = r->p;
    take_in(r, team, rank, size);
    for (int64_t from = 0; from < r->n; from += p->batch) {
        if (rank == 0) {
            const int64_t B = begin_batch(r, from), T = r->data->length[p->row[0]];
            lay_out(p, B, T < p->steps ? T : p->steps, INFER);
            r->loss_desc = (loss_desc){ p->loss, p->every, 0, 1 };
        }
        team_barrier(team);
        const int64_t longest = r->data->length[p->row[0]], steps = p->T;   /* of this batch: rank 0 may go on to the next */
        for (int64_t first = 0; first < longest; first += steps) {
            if (rank == 0) {
                r->source.first = first;
                count_living(p, &r->source, steps);
            }
            team_barrier(team);
            forward_block(r, rank, size, r->every);
            team_barrier(team);
            if (stopped(r)) return;
        }
        if (rank == 0 && !r->y) r->loss_sum += total_loss(p), r->weight_sum += batch_weight(r);
        if (rank == 0) r->done++;
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
    if (!all_fit(p, data, order, n, p->directions == 1)) return BPTT_CAPACITY;
    team_run(p->threads, forward_only, &r);
    *loss = r.weight_sum > 0 ? r.loss_sum / r.weight_sum : 0;
    return r.status;
}

/* -- the online algorithm: one thread, one row, an update after every pattern -- */

static char *at_step(const bptt_plan *p, const field *f, int64_t t) { return (char *)f->p + t * f->step * p->k->bytes; }
static field state_of(const bptt_plan *p, const frame *f, int64_t t) {
    return (field){ at_step(p, &f->s, t), f->s.step, f->s.block, f->s.row };
}

/* `steps` instances of f from the states in chunk 0. */
static void unfold(const bptt_plan *p, const char *x, int64_t steps, const span *at) {
    for (int64_t n = 0; n < p->layers; n++) {
        const frame *f = &p->layer[n];
        const field below = n ? state_of(p, &p->layer[n - 1], 1) : p->x;
        p->k->row_forward(&f->ih, p->work, &f->b_ih, ACT_LINEAR, n ? below.p : x, below.step, f->z.p, f->z.step, steps);
        p->cell->forward(f, at);
    }
}
/* Loss and gradient of one pattern: k instances of f and one g. */
static void pattern(run *r, const char *x, const span *at, const span *one) {
    const bptt_plan *p = r->p;
    const kernels *k = p->k;
    const int64_t last = p->head_layers - 1;
    const frame *top = &p->layer[p->layers - 1];
    unfold(p, x, r->k, at);
    const void *in = at_step(p, &top->s, r->k), *h = in;
    for (int64_t l = 0; l <= last; in = p->value[l].p, l++)
        k->row_forward(&p->head[l].w, p->work, &p->head[l].b, p->head[l].act, in, 0, p->value[l].p, 0, 1);
    p->row_loss[0] = 0;
    k->loss(&r->loss_desc, &r->source, p->O, &p->value[last], one, p->row_loss, 1);
    for (int64_t n = 0; n < p->layers; n++) k->zero_rows(&p->layer[n].ds, 0, 0, 1);
    for (int64_t l = last; l >= 0; l--) {
        const void *dz = l < last ? p->slope[l].p : p->value[l].p, *below = l ? p->value[l - 1].p : h;
        k->row_collect(&p->head[l].w, &p->head[l].b, NULL, below, 0, dz, 0, 1, p->grad);
        if (l) k->row_backward(&p->head[l].w, dz, p->head[l - 1].act, below, p->slope[l - 1].p);
        else k->row_backward(&p->head[l].w, dz, ACT_LINEAR, NULL, top->ds.p);
    }
    for (int64_t n = p->layers - 1; n >= 0; n--) {
        const frame *f = &p->layer[n];
        const field below = n ? state_of(p, &p->layer[n - 1], 1) : p->x;
        p->cell->backward(f, at);
        if (n) p->k->backward(&f->ih, 0, &f->z, &p->layer[n - 1].dy, 0, ACT_LINEAR, NULL, at);
        k->row_collect(&f->ih, &f->b_ih, p->cell->split ? NULL : &f->b_hh, n ? below.p : x, below.step, f->z.p, f->z.step,
                       r->k, p->grad);
        if (p->cell->split) k->collect_bias(&f->b_hh, NULL, &f->dzr, p->grad, 0, at, 0, 1);
        if (f->depth || f->hr.size || p->cell->peeps) p->cell->collect(f, p->grad, 0, at, 0, 1);
        else k->row_collect(&f->hh, NULL, NULL, f->s.p, f->s.step, f->dzr.p, f->dzr.step, r->k, p->grad);
    }
}
static void slide_patterns(run *r) {
    bptt_plan *p = r->p;
    const bptt_data *d = r->data;
    lay_out(p, 1, r->k, SLIDE);
    for (int64_t t = 0; t <= r->k; t++) p->living[t] = t < r->k;
    const span all = all_rows(p), one = readout_span(0, all), first = { 0, 1, 0, 1, p->living, SINGLE };
    const double work = 3 * step_work(p) * (double)r->k;
    for (int64_t i = 0; i < r->n; i++) {
        p->row[0] = r->order[i];
        r->source = (source){ d->values, d->targets, d->weight, d->state, d->classes, d->offset, d->length, d->target_offset,
            p->row, 0 };
        const int64_t patterns = d->length[p->row[0]] - r->k - r->lead + 1;
        set_states(r, all);
        for (int64_t t = 0; t < patterns; t++) {
            if (t % WINDOW == 0) {                     /* the inputs of the next patterns, which overlap */
                const int64_t left = patterns - t < WINDOW ? patterns - t : WINDOW;
                const span window = { 0, left - 1 + r->k, 0, 1, NULL, BATCH };
                r->source.first = t;
                p->k->gather(&r->source, p->I, &p->x, &window);
            }
            const char *x = at_step(p, &p->x, t % WINDOW);
            r->loss_desc = (loss_desc){ p->loss, 0, t + r->k - 1 + r->lead, 1 };
            const double weight = d->weight ? p->k->weight(d->weight, d->target_offset[p->row[0]] + r->loss_desc.shift) : 1;
            r->loss[r->done] = 0;
            if (weight > 0) {                          /* a step without a target only moves the context */
                pattern(r, x, &all, &one);
                partial_norms(p, 0, 1);
                const double norm = total_norm(p);
                r->loss[r->done] = p->row_loss[0];
                if (!may_update(r, p->row_loss[0], norm)) {
                    r->status = BPTT_DIVERGED;
                    return;
                }
                prepare_update(r, norm);
                update_slice(r, 0, 1);
                turn_all(p, 0, 1);
            }
            r->done++;
            unfold(p, x, 1, &first);
            for (int64_t n = 0; n < p->layers; n++) p->k->copy_rows(&p->layer[n].s, 1, &p->layer[n].s, 0, 0, 1);
            ask(r, work);
            if (stopped(r)) return;
        }
    }
}
/* Recurrent weights that a cache of 48 KB does not hold are read to and fro. */
static void set_zigzag(bptt_plan *p, int on) {
    enum { NEAR = 40 << 10 };
    for (int64_t n = 0; n < p->layers; n++) {
        frame *f = &p->layer[n];
        f->zigzag = on && f->R == f->H && f->H % p->k->lanes == 0 && p->k->lanes >= 4 && f->hh.size * p->k->bytes > NEAR;
    }
}
static void slide(void *context, team *team, int rank, int size) {
    run *r = context;
    set_zigzag(r->p, 1);
    take_in(r, team, rank, size);
    turn_all(r->p, rank, size);
    slide_patterns(r);
    set_zigzag(r->p, 0);
    give_back(r, team, rank, size);
}
bptt_status bptt_slide(bptt_plan *p, void *params, void *opt_state, bptt_hyper *hyper, const bptt_data *data,
                       const int64_t *order, int64_t n, int64_t k, int64_t lead, double *loss, int64_t *done,
                       bptt_poll poll, void *context) {
    run r = { .p = p, .data = data, .order = order, .n = n, .hyper = hyper, .loss = loss, .poll = poll, .context = context,
              .params = params, .trained = params, .opt_state = opt_state, .k = k, .lead = lead };
    if (p->directions > 1 || p->every || k < 1 || k > p->steps || lead < 0) return BPTT_CAPACITY;
    const bptt_status status = prepare_training(&r);
    if (status) return status;
    team_run(1, slide, &r);
    *done = r.done;
    return r.status;
}
