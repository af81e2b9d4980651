/* update.c: from a gradient to new weights.  By slices: each thread computes its part of the norm,
   then updates its part of the weights, then packs its part of the transposed copies that the
   backward pass reads; a barrier lies between these.  The formulas are in optimizers.h; here are
   only bounds and constants of whole updates. */
#include "update.h"
#include "integers.h"
#include <math.h>
#include <string.h>

/* -- parameters: the caller's flat vectors and the packed ones of the arena -- */

/* Calls move for every parameter block; the threads share each block. */
void each_block(const bptt_plan *p, block_function move, const void *from, void *to, int rank,
                int size) {
    for (int64_t q = 0; q < p->choices; q++)
        if (p->embedding[q].size) move(&p->embedding[q].weight, from, to, rank, size);
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        const matrix *const own[] = {
            &f->ih,   &f->hh,      &f->b_ih,       &f->b_hh,       &f->hr,
            &f->peep, &f->raw_tau, &f->initial[0], &f->initial[1],
        };
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            if (own[i]->size) move(own[i], from, to, rank, size);
        for (int64_t i = 0; i < f->depth; i++) {
            move(&f->inner[i].w, from, to, rank, size);
            if (f->inner[i].b.size) move(&f->inner[i].b, from, to, rank, size);
        }
    }
    for (int64_t l = 0; l < p->head_layers; l++) {
        move(&p->head[l].w, from, to, rank, size);
        move(&p->head[l].b, from, to, rank, size);
    }
}

/* The same in slices, between which thread 0 polls; none is begun once the run is to end. */
void move_blocks(run *r, block_function move, const void *from, void *to, int rank, int size) {
    const double work = move_work(r->p->packed_size) / size;
    const int slices = slices_of(work);
    for (int i = 0; i < slices && !stopped(r); i++) {
        each_block(r->p, move, from, to, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
}

/* Part `part` of `parts` of what follows from the weights: their transposed copies, for the backward
   pass, and in part 0 time constants.  The packed weights must be complete (a barrier before), and a
   barrier must follow. */
void pack_transposed_all(const bptt_plan *p, int part, int parts) {
    const kernels *k = p->k;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        if (f->hh.size) k->pack_transposed(&f->hh, p->packed, part, parts);
        if (f->hr.size) k->pack_transposed(&f->hr, p->packed, part, parts);
        if (f->ih.transposed) k->pack_transposed(&f->ih, p->packed, part, parts);
        for (int64_t i = 0; i < f->depth; i++)
            k->pack_transposed(&f->inner[i].w, p->packed, part, parts);
    }
    for (int64_t l = 0; l < p->head_layers; l++)
        k->pack_transposed(&p->head[l].w, p->packed, part, parts);
    for (int n = 0; p->embeds && n < p->readers; n++)
        for (int64_t q = 0; q < p->choices; q++)
            if (p->lookup[n][q].width)
                k->pack_transposed(&p->lookup[n][q].weight, p->packed, part, parts);
    if (part == 0) derive_time_constants(p);
}

/* All of them by all threads, in such slices. */
void renew_transposed(run *r, int rank, int size) {
    const double work = move_work(r->p->packed_size) / size;
    const int slices = slices_of(work);
    for (int i = 0; i < slices && !stopped(r); i++) {
        pack_transposed_all(r->p, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
}

/* This thread's share of the packed vector, in whole vectors. */
static void slice_of(const bptt_plan *p, int64_t rank, int64_t size, int64_t *from, int64_t *to) {
    const int64_t vector = p->k->lanes * p->k->rows; /* a power of two */
    *from = share(p->packed_size, rank, size) & -vector;
    *to = share(p->packed_size, rank + 1, size) & -vector;
}

/* Vector i of the optimiser state, the caller's and ours. */
static void *their_vector(const updater *u, int i) {
    return real_at(u->p, u->opt_state, i * u->p->flat_size);
}
static void *our_vector(const bptt_plan *p, int i) {
    return real_at(p, p->opt_state, i * p->packed_size);
}

/* The weights and, with an updater, the optimiser state into the arena.  All threads; complete when
   it returns, unless it returns 0: the run is over. */
int load_parameters(run *r, const void *params, const updater *u, team *team, int rank, int size) {
    const bptt_plan *p = r->p;
    move_blocks(r, p->k->pack, params, p->packed, rank, size);
    /* where columns have no padding, blocks have some at their ends, which no gradient writes */
    if (rank == 0 && p->k->lanes == 1) memset(p->grad, 0, (size_t)(p->packed_size * p->k->bytes));
    for (int i = 0; u && i < u->vectors; i++)
        move_blocks(r, p->k->pack, their_vector(u, i), our_vector(p, i), rank, size);
    if (is_over(r, team, rank)) return 0;
    if (p->trained_tau) {
        if (rank == 0) derive_time_constants(p);
        team_barrier(team);
    }
    if (!u || !p->ruled) return 1;
    int64_t from, to;
    slice_of(p, rank, size, &from, &to);
    p->k->hold(&p->bounds, p->packed, from, to);
    team_barrier(team);
    return 1;
}

/* The same back to the caller's vectors, without a poll; abandoned: the weights alone.  All threads. */
void store_parameters(const updater *u, int abandoned, team *team, int rank, int size) {
    const bptt_plan *p = u->p;
    team_barrier(team);
    each_block(p, p->k->unpack, p->packed, u->params, rank, size);
    for (int i = 0; i < u->vectors && !abandoned; i++)
        each_block(p, p->k->unpack, our_vector(p, i), their_vector(u, i), rank, size);
}

/* -- rules on parameters -- */

/* The context of a packing on one thread. */
typedef struct {
    const bptt_plan *p;
    const void *low, *high; /* the caller's (P) */
} flat_bounds;

/* bptt_set_rules, on its one thread. */
static void pack_bounds(void *context, team *team, int rank, int size) {
    const flat_bounds *b = context;
    (void)team;
    each_block(b->p, b->p->k->pack, b->low, b->p->bounds.low, rank, size);
    each_block(b->p, b->p->k->pack, b->high, b->p->bounds.high, rank, size);
}

/* 1: the strengths are finite and not negative, and one of both groups is 0. */
static int is_penalty(const bptt_penalty *of) {
    const double strength[] = { of->l1, of->l2, of->rows, of->columns };
    for (size_t i = 0; i < sizeof strength / sizeof *strength; i++)
        if (!(strength[i] >= 0 && isfinite(strength[i]))) return 0;
    return of->rows == 0 || of->columns == 0;
}

bptt_status bptt_set_rules(bptt_plan *p, const void *low, const void *high,
                           const bptt_penalty *penalty) {
    if (!p->may_have_rules) return BPTT_CAPACITY;
    for (int64_t i = 0; i < p->blocks; i++)
        if (!is_penalty(&penalty[i])) return BPTT_BAD_DESC;
    p->ruled = 1;
    p->penalised = p->grouped_weights = 0;
    p->largest_l2 = 0;
    for (int64_t i = 0; i < p->blocks; i++) {
        const bptt_penalty *of = &penalty[i];
        p->penalty[i] = *of;
        p->grouped_weights |= of->rows + of->columns > 0;
        p->penalised |= of->l1 + of->l2 + of->rows + of->columns > 0;
        p->largest_l2 = fmax(p->largest_l2, of->l2);
    }
    flat_bounds b = { p, low, high };
    team_run_alone(pack_bounds, &b);
    return BPTT_OK;
}

/* -- what an optimiser may do, before the first update -- */

/* By Cauchy and Schwarz: the bound of a mean of gradients with beta1 over the root of the mean of
   their squares with beta2. */
static double mean_bound(const bptt_hyper *h) {
    const double b1 = h->beta1, b2 = h->beta2;
    return b1 * b1 < b2 ? 1 / sqrt((1 - b2) * (1 - b1 * b1 / b2)) : INFINITY;
}

/* The bound of the last gradient over that root. */
static double square_bound(const bptt_hyper *h) {
    return h->centered ? INFINITY : 1 / sqrt(1 - h->beta2);
}

/* Bound of one change: it takes 1e13 changes of this size to overflow a weight. */
static double change_limit(const bptt_plan *p) { return p->k->bytes == 8 ? 1e290 : 1e25; }

/* A squared norm of the gradient below which may_update need not be asked, nor the norm be known: a
   root and its consequences are long for a small pattern of the online algorithm.  0: none. */
static double small_square(const updater *u) {
    const bptt_hyper *h = u->hyper;
    const double limit = change_limit(u->p), most = limit / u->step_per_gradient;
    const double norm = u->max_step < limit || most > limit ? limit : most;
    if (u->amplifies || h->clip_norm > 0 || h->clip_value > 0 || h->noise > 0) return 0;
    return h->learning_rate < limit ? 0.25 * norm * norm : 0;
}

/* The same for an update that is nothing but the learning rate times the gradient; 0: another one. */
double small_step(const updater *u) {
    const bptt_hyper *h = u->hyper;
    const int is_plain = u->update.kind == OPTIMIZER_sgd && h->momentum == 0 && u->decay == 0;
    return is_plain && !u->by_block && !u->p->ruled ? u->small : 0;
}

/* Fills what depends on u->hyper.  Before a run; refuses an unknown optimiser. */
bptt_status prepare_updater(updater *u) {
    const bptt_hyper *h = u->hyper;
    const double rate = h->learning_rate, decay = h->weight_decay + u->p->largest_l2;
    const int kind = find(h->optimizer, bptt_optimizer);
    if (kind < 0) return BPTT_BAD_DESC;
    u->update = (update){
        .kind = kind,
        .needs_preprocessing = h->clip_value > 0 || h->noise > 0,
    };
    switch (kind) {
#define OPTIMIZER(name, state_vectors, in_use, step_bound, gain_bound) \
    case OPTIMIZER_##name:                                             \
        u->vectors = in_use;                                           \
        u->max_step = rate * (step_bound);                             \
        u->step_per_gradient = rate * (gain_bound);                    \
        break;
#include "optimizers.def"
    }
    u->decay = decay;
    u->amplifies = decay > 1 || (decay > 0 && fmin(u->max_step, u->step_per_gradient * decay) > 1);
    u->small = small_square(u);
    u->by_block = u->update.needs_preprocessing || u->p->penalised ||
        (h->weight_decay > 0 && h->no_bias_decay);
    return BPTT_OK;
}

/* Clips dLoss/dh to +-clip at every step of the backward passes to come; 0: not at all. */
void set_clip(bptt_plan *p, double clip) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) p->layer[n].clip = clip;
}

/* -- one update -- */

/* The squared norm of slice i. */
static inline double slice_norm(const bptt_plan *p, int64_t i) {
    const int64_t from = i * NORM_SLICE;
    return p->k->norm2(p->grad, from, min64(from + NORM_SLICE, p->packed_size));
}

/* The gradient of parameters that may not change becomes zero. */
static inline void zero_fixed(const bptt_plan *p, int64_t from, int64_t to) {
    if (p->ruled) p->k->zero_fixed(&p->bounds, p->grad, from, to);
}

/* The norm of the gradient, from its slices, whose bounds do not depend on the threads; for an
   updater (u not NULL) without parameters that may not change, whose gradient becomes zero.  All
   threads, with a barrier; every one computes the same. */
double gradient_norm(const bptt_plan *p, const updater *u, team *team, int rank, int size) {
    const int64_t slices = norm_slices(p), to = share(slices, rank + 1, size);
    double sum = 0;
    for (int64_t i = share(slices, rank, size); i < to; i++) {
        if (u) zero_fixed(p, i * NORM_SLICE, min64((i + 1) * NORM_SLICE, p->packed_size));
        p->norms[i] = slice_norm(p, i);
    }
    team_barrier(team);
    for (int64_t i = 0; i < slices; i++) sum += p->norms[i];
    return sqrt(sum);
}

/* The same on one thread. */
static double norm_alone(const bptt_plan *p) {
    double sum = slice_norm(p, 0);
    for (int64_t i = 1; i < norm_slices(p); i++) sum += slice_norm(p, i);
    return sqrt(sum);
}

/* The factor of the gradient by clip_norm. */
double clip_scale(const bptt_hyper *h, double norm) {
    return h->clip_norm > 0 && norm > h->clip_norm ? h->clip_norm / norm : 1;
}

/* 1: loss and gradient are finite, and after the update the weights, whose norm is asked for if
   u->amplifies, will be. */
int update_is_finite(const updater *u, double loss, double norm, double weights) {
    const bptt_hyper *h = u->hyper;
    const double limit = change_limit(u->p);
    if (!isfinite(loss) || !isfinite(norm)) return 0;
    double g = h->clip_norm > 0 && norm > h->clip_norm ? h->clip_norm : norm;
    if (h->clip_value > 0 && g > h->clip_value) g = h->clip_value;
    if (h->noise > 0) g += 8.6 * sqrt(h->noise);
    const double decay = u->amplifies ? u->decay * weights : 0;
    g += decay;
    return h->learning_rate < limit && g < limit &&
        fmin(u->max_step, u->step_per_gradient * g) + h->learning_rate * decay < limit;
}

/* The same of the whole network, without an update (u NULL) of loss and gradient alone: an update is
   refused before it is written.  Every thread computes the same. */
int may_update(const bptt_plan *p, const updater *u, double loss, double norm) {
    if (!u) return isfinite(loss) && isfinite(norm);
    const double weights = u->amplifies ? sqrt(p->k->norm2(p->packed, 0, p->packed_size)) : 0;
    return update_is_finite(u, loss, norm, weights);
}

/* The constants of update `number` of the run: rate, scale of the gradient, noise, and what the
   optimiser derives from them.  Advances hyper->step.  By thread 0. */
void prepare_update(updater *u, int64_t number, double loss, double norm) {
    bptt_hyper *h = u->hyper;
    update *constants = &u->update;
    const double rate = rate_of(h, number);
    constants->rate = rate;
    constants->size = rate;
    constants->loss = loss;
    constants->scale = clip_scale(h, norm);
    if (h->noise > 0) {
        const int64_t step = h->noise_from + h->step;
        constants->noise = sqrt(h->noise / pow(1 + (double)step, 0.55));
        constants->key = h->noise_seed + (uint64_t)step * 0xd1342543de82ef95u;
    }
    constants->t = (double)++h->step;
    kernels_f64_base.prepare(h, constants); /* the same numbers on every instruction set */
}

/* The optimiser's step in [from, to) of the working vector; without penalties, it keeps the weights
   within their bounds. */
static inline void step_of_slice(const updater *u, int decays, double l2, int64_t from,
                                 int64_t to) {
    const bptt_plan *p = u->p;
    if (p->ruled && !p->penalised)
        p->k->optimise_within(&p->bounds, u->hyper, &u->update, decays, p->packed, p->grad,
                              p->opt_state, p->packed_size, from, to);
    else
        p->k->optimise(u->hyper, &u->update, decays, l2, p->packed, p->grad, p->opt_state,
                       p->packed_size, from, to);
}

/* For each_block: the step of this thread's share of the working vector, as far as it lies in block
   m; biases perhaps without weight decay. */
static void step_of_block(const matrix *m, const void *updating, void *unused, int64_t rank,
                          int64_t size) {
    const updater *u = updating;
    const bptt_plan *p = u->p;
    const int decays = !(m->bias && u->hyper->no_bias_decay);
    const bptt_penalty none = { 0 }, *of = p->penalised ? &p->penalty[m->block] : &none;
    int64_t from, to;
    (void)unused;
    slice_of(p, rank, size, &from, &to);
    from = max64(from, m->packed);
    to = min64(to, m->packed + m->size);
    if (from >= to) return;
    if (u->update.needs_preprocessing)
        p->k->clip_and_add_noise(u->hyper, &u->update, m, p->grad, from, to);
    step_of_slice(u, decays, of->l2, from, to);
    if (of->l1 > 0) p->k->soft_threshold(u->update.rate * of->l1, p->packed, from, to);
}

/* For each_block: the group lasso of one block, over its rows; over its columns in two calls. */
static void shrink_rows(const matrix *m, const void *updating, void *packed, int64_t rank,
                        int64_t size) {
    const updater *u = updating;
    const bptt_plan *p = u->p;
    const double threshold = u->update.rate * p->penalty[m->block].rows;
    if (threshold > 0) p->k->shrink_rows(&p->bounds, m, threshold, packed, rank, size);
}
static void square_columns(const matrix *m, const void *updating, void *packed, int64_t rank,
                           int64_t size) {
    const updater *u = updating;
    const bptt_plan *p = u->p;
    if (p->penalty[m->block].columns > 0)
        p->k->square_columns(&p->bounds, m, packed, p->squares + m->column, rank, size);
}
static void shrink_columns(const matrix *m, const void *updating, void *packed, int64_t rank,
                           int64_t size) {
    const updater *u = updating;
    const bptt_plan *p = u->p;
    const double threshold = u->update.rate * p->penalty[m->block].columns;
    if (threshold > 0)
        p->k->shrink_columns(m, threshold, p->squares + m->column, packed, rank, size);
}

/* This thread's share of the weights within their bounds. */
static void project(const bptt_plan *p, int rank, int size) {
    int64_t from, to;
    slice_of(p, rank, size, &from, &to);
    p->k->project(&p->bounds, p->packed, from, to);
}

/* This thread's share of the update.  All threads, with barriers for the group lasso. */
static void update_slice(const updater *u, team *team, int rank, int size) {
    const bptt_plan *p = u->p;
    if (u->by_block) {
        each_block(p, step_of_block, u, NULL, rank, size);
    } else {
        int64_t from, to;
        slice_of(p, rank, size, &from, &to);
        step_of_slice(u, 1, 0, from, to);
    }
    if (!p->penalised) return;
    if (p->grouped_weights) {
        if (team) team_barrier(team);
        each_block(p, shrink_rows, u, p->packed, rank, size);
        each_block(p, square_columns, u, p->packed, rank, size);
        each_block(p, shrink_columns, u, p->packed, rank, size);
        if (team) team_barrier(team);
    }
    project(p, rank, size);
}

/* Update r->done, which may_update allows, and the transposed copies.  All threads.  The last poll is
   before it, as an update is whole or not at all: returns 0 if there was none, as the run is over. */
int apply_update(updater *u, run *r, double loss, double norm, team *team, int rank, int size) {
    if (rank == 0) {
        poll_caller(r, move_work(r->p->packed_size));
        r->halt[2] = stopped(r);
        if (!r->halt[2]) prepare_update(u, r->done, loss, norm);
    }
    team_barrier(team);
    if (r->halt[2]) return 0;
    update_slice(u, team, rank, size);
    team_barrier(team);
    renew_transposed(r, rank, size);
    return 1;
}

/* Update `number` on one thread, without the transposed copies.  Returns 0 if it was refused: the
   run diverged. */
int update_alone(updater *u, int64_t number, double loss) {
    const bptt_plan *p = u->p;
    double norm = 0; /* nobody asks for a small one */
    if (!isfinite(loss) ||
        !(u->small > 0 && p->k->is_small(p->grad, 0, p->packed_size, u->small))) {
        zero_fixed(p, 0, p->packed_size);
        norm = norm_alone(p);
        if (!may_update(p, u, loss, norm)) return 0;
    }
    prepare_update(u, number, loss, norm);
    update_slice(u, NULL, 0, 1);
    return 1;
}
