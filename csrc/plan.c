/* plan.c: the arena: how large a plan is and where each piece lies.  One walk counts bytes and sets
   pointers, so that the two cannot differ.  No arithmetic on data. */
#include "plan.h"
#include "integers.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* -- the walk -- */

/* Where the walk is.  With base NULL it only counts; with `out` it names the pieces. */
typedef struct {
    char *base; /* the arena, or NULL */
    int64_t at; /* bytes so far */
    bptt_block *out; /* (max) the caller's, or NULL */
    int64_t max;
    int64_t count; /* pieces so far */
} cursor;

/* The next piece, at a multiple of 64 bytes.  number < 0: it is the only one of its name. */
static void *take(cursor *c, int64_t bytes, const char *name, int64_t number) {
    if (c->out && c->count < c->max) {
        bptt_block *piece = &c->out[c->count];
        *piece = (bptt_block){ .offset = c->at, .bytes = bytes };
        if (number < 0)
            snprintf(piece->name, sizeof piece->name, "%s", name);
        else
            snprintf(piece->name, sizeof piece->name, "%s[%d]", name, (int)number);
    }
    c->count++;
    void *p = c->base ? c->base + c->at : NULL;
    c->at = plus(c->at, plus(bytes, 63) / 64 * 64);
    return p;
}

/* `count` items of `size` bytes. */
static void *take_items(cursor *c, int64_t count, size_t size, const char *name) {
    return take(c, times(count, (int64_t)size), name, -1);
}

/* A field of T chunks, B rows (padded to whole vectors) and so many blocks of columns. */
static field take_field(cursor *c, const bptt_plan *p, int64_t T, int64_t B, int64_t blocks,
                        const char *name, int64_t number) {
    const int64_t rows = times((B - 1) / p->k->rows + 1, p->k->rows), row = p->k->lanes;
    const int64_t block = times(rows, row), step = times(blocks, block);
    return (field){ take(c, times(times(T, step), p->k->bytes), name, number), step, block, row };
}

/* The transposed copy of matrix m, for the backward pass. */
static void take_transposed(cursor *c, const bptt_plan *p, matrix *m, const char *name,
                            int64_t number) {
    const int64_t columns = plus(times(m->column_groups - 1, padded(p, m->K)), padded(p, m->last));
    const int64_t reals = times(columns, m->gates * m->units);
    m->transposed = take(c, times(reals, p->k->bytes), name, number);
}

/* -- sizes -- */

/* How many parts of so many steps cover the whole. */
static int64_t parts_of(int64_t whole, int64_t part) { return (whole - 1) / part + 1; }

/* The steps that the tape holds at once in training with sequences of T steps.  Truncated with
   k1 < k2, the last k2 - k1 steps are needed again; they move to the front only when the tape is
   full. */
int64_t tape_steps(const bptt_plan *p, int64_t T) {
    if (p->segment) return min64(T, p->segment);
    if (p->k1 && p->k1 == p->k2) return min64(T, p->k1);
    if (p->k1) return min64(T, plus(p->k2, times(parts_of(p->k2, p->k1), p->k1)));
    return T;
}

/* Rows of each phase of the series under B consecutive windows of T steps. */
int64_t series_rows(const bptt_plan *p, int64_t B, int64_t T) { return B + (T - 1) / p->stride; }

/* Slices of the working vector, each with a partial norm. */
int64_t norm_slices(const bptt_plan *p) { return parts_of(p->packed_size, NORM_SLICE); }

/* States that a checkpointed plan stores. */
static int64_t stored_states(const bptt_plan *p) {
    const int64_t segments = parts_of(p->steps, p->segment);
    return p->checkpoints ? min64(p->checkpoints, segments) : segments;
}

/* Blocks of columns of a field of states: h, then c. */
static int64_t state_blocks(const bptt_plan *p) {
    return blocks_of(p, p->R) + (p->cell->states - 1) * blocks_of(p, p->H);
}

/* -- pieces that depend on the network alone -- */

/* The transposed copies of all weights that the backward pass reads. */
static void walk_transposed(bptt_plan *p, cursor *c) {
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        frame *f = &p->layer[n];
        if (f->hh.size) take_transposed(c, p, &f->hh, "hh_transposed", n);
        if (f->hr.size) take_transposed(c, p, &f->hr, "hr_transposed", n);
        if (n >= p->directions || p->input_gradient)
            take_transposed(c, p, &f->ih, "ih_transposed", n);
        for (int64_t i = 0; i < f->depth; i++)
            take_transposed(c, p, &p->inner[n][i].w, "f_transposed", n * f->depth + i);
    }
    for (int64_t i = 0; i < p->head_layers; i++)
        take_transposed(c, p, &p->head[i].w, "head_transposed", i);
}

/* The embeddings, and the tables of products with them. */
static void walk_embeddings(bptt_plan *p, cursor *c) {
    enum { FEWEST_VALUES = 256 }; /* values that a stream keeps */
    const int64_t lanes = p->k->lanes, most = min64(times(p->batch, p->steps), p->area);
    for (int64_t q = 0; p->embeds && q < p->choices; q++) {
        embedding *e = &p->embedding[q];
        const int64_t at = e->weight.packed * p->k->bytes, width = blocks_of(p, e->weight.units);
        if (!e->size) continue;
        e->rows = (field){ .step = e->size, .block = times(e->values, lanes), .row = lanes };
        e->row_grads = e->rows;
        e->rows.p = c->base ? (char *)p->packed + at : NULL;
        e->row_grads.p = c->base ? (char *)p->grad + at : NULL;
        e->capacity = min64(e->values, max64(FEWEST_VALUES, most));
        e->used = take_field(c, p, 1, e->capacity, width, "used", q);
        e->used_grads = take_field(c, p, 1, e->capacity, width, "used_grads", q);
        e->value = take_items(c, e->capacity, sizeof *e->value, "value_in_use");
        e->slot = take_items(c, e->values, sizeof *e->slot, "slot");
        for (int64_t n = 0; n < p->readers; n++) {
            lookup *l = &p->lookup[n][q];
            l->slot = e->slot;
            l->table = take_field(c, p, 1, e->capacity, l->weight.vectors, "table", 3 * q + n);
            l->table_grads =
                take_field(c, p, 1, e->capacity, l->weight.vectors, "table_grads", 3 * q + n);
            take_transposed(c, p, &l->weight, "embedding_transposed", 3 * q + n);
        }
    }
}

/* What second order needs. */
static void walk_second_order(bptt_plan *p, cursor *c) {
    const size_t real = (size_t)p->k->bytes;
    if (p->residuals) {
        p->jacobian = take_items(c, times(p->residuals, p->gram_width), real, "jacobian");
        p->gram = take_items(c, times(p->gram_width, p->gram_width), real, "gram");
        p->residual = take_items(c, p->residuals, sizeof *p->residual, "residual");
        p->rows = take(c, (int64_t)p->rows_bytes, "rows", -1);
    }
    if (p->tangents) {
        const int64_t states = times(p->cell->states, padded(p, p->H));
        const int64_t tangent = times(times(states, p->tangent_width), p->k->bytes);
        for (int i = 0; i < 2; i++) p->tangent[i] = take(c, tangent, "tangent", i);
        p->transition = take_items(c, times(p->H, states), real, "transition");
    }
}

/* The part of layer direction n of an array of constants of the units; NULL: there is none. */
static void *leak_of(const bptt_plan *p, void *array, int64_t n) {
    const int64_t reals = p->trained_tau ? n * padded(p, p->H) : 0;
    return array ? (char *)array + reals * p->k->bytes : NULL;
}

/* All of them. */
static void walk_fixed(bptt_plan *p, cursor *c) {
    const size_t real = (size_t)p->k->bytes;
    const int64_t weights = p->copies ? times(p->flat_size, p->k->rows) : p->packed_size;
    take(c, sizeof *p, "plan", -1);
    p->packed = take_items(c, weights, real, "work");
    p->grad = take_items(c, weights, real, "grad");
    p->opt_state = take_items(c, times(MAX_OPT_STATE, weights), real, "opt_state");
    if (p->copies) {
        p->bound = take_items(c, p->k->rows, real, "bound");
        p->numbers = take_items(c, NUMBERS_MAX * p->k->rows, real, "numbers");
        p->norm_order = take_items(c, p->norm_size, sizeof *p->norm_order, "norm_order");
    }
    p->norms = take_items(c, norm_slices(p), sizeof *p->norms, "norms");
    p->row_loss = take_items(c, p->batch, sizeof *p->row_loss, "row_loss");
    p->row = take_items(c, p->batch, sizeof *p->row, "row");
    const int64_t sizes = tape_steps(p, p->steps) + 1;
    p->batch_sizes = take_items(c, sizes, sizeof *p->batch_sizes, "batch_sizes");
    if (p->stride) {
        const int64_t rows = plus(p->batch, p->steps);
        p->series_row = take_items(c, rows, sizeof *p->series_row, "series_row");
        p->series_offset = take_items(c, rows, sizeof *p->series_offset, "series_offset");
        p->series_batch_sizes =
            take_items(c, p->steps, sizeof *p->series_batch_sizes, "series_batch_sizes");
    }
    const int64_t leaks = times(p->trained_tau ? p->layers * p->directions : 1, padded(p, p->H));
    if (p->cell->leak) p->alpha = take_items(c, leaks, real, "alpha");
    if (p->recurrent_noise > 0) p->amplitude = take_items(c, leaks, real, "amplitude");
    if (p->trained_tau) p->alpha_slope = take_items(c, leaks, real, "alpha_slope");
    if (p->trained_tau && p->recurrent_noise > 0)
        p->noise_slope = take_items(c, leaks, real, "noise_slope");
    if (p->input_noise > 0)
        p->input_amplitude = take_items(c, padded(p, p->I), real, "input_amplitude");
    if (p->may_have_rules) {
        p->bounds.low = take_items(c, p->packed_size, real, "low");
        p->bounds.high = take_items(c, p->packed_size, real, "high");
        p->penalty = take_items(c, p->blocks, sizeof *p->penalty, "penalty");
        p->squares = take_items(c, p->columns, sizeof *p->squares, "squares");
    }
    walk_transposed(p, c);
    walk_embeddings(p, c);
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        p->layer[n].packed = p->packed;
        p->layer[n].alpha = leak_of(p, p->alpha, n);
        p->layer[n].alpha_slope = leak_of(p, p->alpha_slope, n);
    }
    walk_second_order(p, c);
}

/* -- pieces that depend on the batch -- */

/* A field of projections or their gradients laid out for the series, not for its windows. */
static field as_series(const bptt_plan *p, field f, int64_t rows, int64_t blocks) {
    f.block = rows * p->k->lanes;
    f.step = blocks * f.block;
    return f;
}

/* Pre-activations of layer direction n, and their gradients. */
static void walk_gates(bptt_plan *p, cursor *c, int64_t n, int64_t B, int64_t T) {
    frame *f = &p->layer[n];
    const int64_t blocks = f->gates * blocks_of(p, f->ih.units);
    const int windows = p->stride && n < p->directions;
    f->zx = f->gate_values = f->dzx = take_field(c, p, T, B, blocks, "z", n);
    if (p->k1 < p->k2 || p->residuals) f->dzx = take_field(c, p, T, B, blocks, "dz", n);
    f->phases = p->shared && windows ? p->stride : 0;
    if (windows) {
        const int64_t rows = series_rows(p, B, T);
        const int64_t size = min64(times(p->stride, rows), times(T, B));
        const field zx = take_field(c, p, 1, size, blocks, "window_zx", n);
        p->window_zx[n] = as_series(p, zx, rows, blocks);
        if (p->shared) f->zx = p->window_zx[n];
    }
    f->dzr = p->cell->separate_dzr ? take_field(c, p, T, B, blocks, "dzr", n) : f->dzx;
    if (p->trained_tau) f->draw_tau = take_field(c, p, T, B, blocks_of(p, p->H), "draw_tau", n);
}

/* The hidden layers of f in layer direction n, or the two products. */
static void walk_inner(bptt_plan *p, cursor *c, int64_t n, int64_t B, int64_t T) {
    frame *f = &p->layer[n];
    const int64_t Hb = blocks_of(p, p->H);
    if (p->two_products) f->dh = take_field(c, p, 1, B, Hb, "dh", n);
    for (int64_t i = 0; i < f->depth; i++) {
        const matrix *w = &p->inner[n][i].w;
        const int64_t in = p->two_products ? (2 - i) * Hb : blocks_of(p, w->cols);
        const int64_t out = p->two_products ? (2 - i) * Hb : blocks_of(p, w->units);
        f->a[i] = take_field(c, p, T, B, in, "a", n * f->depth + i);
        f->da[i] = take_field(c, p, T, B, out, "da", n * f->depth + i);
    }
}

/* 1: the backward pass reads nothing but dy of what lies in the place of dzx: each vector of dzx may
   replace that of dy. */
static int overwrites_dy(const bptt_plan *p, const frame *f) {
    const int reads = p->cell->gate_values > 0 && (!p->cell->leak_values || p->trained_tau);
    return p->cell->splits_units && p->cell->gates == 1 && !reads && !f->hr.size;
}

/* The fields of layer direction n. */
static void walk_layer(bptt_plan *p, cursor *c, int64_t n, int64_t B, int64_t T) {
    frame *f = &p->layer[n];
    const int64_t Hb = blocks_of(p, p->H), Rb = blocks_of(p, p->R), Sb = state_blocks(p);
    const int is_top = n >= (p->layers - 1) * p->directions;
    walk_gates(p, c, n, B, T);
    f->s = take_field(c, p, T + 1, B, Sb, "s", n);
    f->saved = take_field(c, p, T, B, f->saved_count * Hb, "saved", n);
    if (p->purpose == INFER && !p->two_products) f->saved.p = NULL;
    f->ds = take_field(c, p, 1, B, Sb, "ds", n);
    f->amplitude = p->purpose == TRAIN ? leak_of(p, p->amplitude, n) : NULL;
    f->noise_slope = p->purpose == TRAIN ? leak_of(p, p->noise_slope, n) : NULL;
    if (p->segment) p->stored[n] = take_field(c, p, stored_states(p), B, Sb, "stored", n);
    f->dy = (field){ 0 };
    if (p->every || !is_top || p->rate_penalty > 0)
        f->dy = overwrites_dy(p, f) ? f->dzx : take_field(c, p, T, B, Rb, "dy", n);
    if (!p->every && is_top && p->purpose != TRAIN) f->dy.p = NULL;
    if (f->hr.size) {
        f->m = take_field(c, p, T, B, Hb, "m", n);
        f->dh = take_field(c, p, T, B, Rb, "dh", n);
    }
    if (p->recurrent_dropout > 0) {
        f->mask = take_field(c, p, 1, B, Rb, "mask", n);
        f->masked = take_field(c, p, T + 1, B, Rb, "masked", n);
        if (p->purpose != TRAIN) f->mask.p = f->masked.p = NULL;
    }
    if (p->dropout > 0 && !is_top) p->dropped[n] = take_field(c, p, T, B, Rb, "dropped", n);
    walk_inner(p, c, n, B, T);
}

/* All of them, for a group of B rows and T steps. */
static void walk_group(bptt_plan *p, cursor *c, int64_t B, int64_t T) {
    const int64_t Ib = blocks_of(p, p->I);
    p->x = take_field(c, p, p->batch == 1 ? T + WINDOW : T, B, Ib, "x", -1);
    if (p->shared) p->x = as_series(p, p->x, series_rows(p, B, T), Ib);
    if (p->input_gradient) p->dx = take_field(c, p, T, B, Ib, "dx", -1);
    for (int64_t n = 0; n < p->layers * p->directions; n++) walk_layer(p, c, n, B, T);
    for (int d = 0; d < p->directions; d++)
        p->last[d] = take_field(c, p, 1, B, blocks_of(p, p->R), "last", d);
    if (p->skip) p->last_x = take_field(c, p, 1, B, Ib, "last_x", -1);
    for (int64_t i = 0; i < p->head_layers; i++) {
        const int64_t blocks = blocks_of(p, p->head[i].w.units), steps = p->every ? T : 1;
        p->value[i] = take_field(c, p, steps, B, blocks, "value", i);
        if (i + 1 < p->head_layers)
            p->head_grad[i] = take_field(c, p, steps, B, blocks, "head_grad", i);
    }
    p->B = B;
    p->T = T;
    p->layout_steps = T;
}

/* At full capacity: no group takes more than batch rows of area / batch steps, as
   (T + 1) B <= area + B.  Groups may lie one after the other (bptt_forward), each piece at a
   multiple of 64 bytes. */
static void walk_capacity(bptt_plan *p, cursor *c) {
    const int64_t before = c->count;
    const int64_t steps = p->grouped ? min64(p->steps, parts_of(p->area, p->batch)) : p->steps;
    p->begin = c->at;
    walk_group(p, c, p->batch, tape_steps(p, steps));
    if (p->grouped) c->at = plus(c->at, (c->count - before) * 64 * TAPES);
    p->end = c->at;
}

/* Lays out the fields for a group of B rows and T steps, within capacity, from byte `begin` of the
   arena on.  By one thread, before a barrier. */
void lay_out_at(bptt_plan *p, int64_t begin, int64_t B, int64_t T, int purpose, int shared) {
    const int same_size = begin == p->begin && B == p->B && T == p->layout_steps;
    p->taped = 0;
    if (same_size && purpose == p->purpose && shared == p->shared) {
        p->T = T;
        return;
    }
    p->purpose = purpose;
    p->shared = shared;
    p->begin = begin;
    cursor c = { .base = p->arena, .at = begin };
    walk_group(p, &c, B, T);
    p->end = c.at;
}

/* The same for the only group. */
void lay_out(bptt_plan *p, int64_t B, int64_t T, int purpose, int shared) {
    lay_out_at(p, (int64_t)p->fixed, B, T, purpose, shared);
}

/* -- plans -- */

/* The threads of a run, of those that are wanted.  Small work does not pay for the barriers. */
static int choose_threads(const bptt_plan *p, int64_t wanted) {
    const double area = fmin((double)p->batch * (double)p->steps, (double)p->area);
    /* multiply-adds of one batch: forward, backward and gradient, and the update */
    const double work = 3.0 * (p->step_size * area + (double)p->packed_size), each = 3e6;
    /* a row per thread, or some units of all rows, pays if a step has many weights */
    const int64_t few = p->batch >= 2 && p->step_size >= 1 << 17 ? 2 : 1;
    int64_t n = min64(max64(wanted, 1), THREADS_MAX - 1);
    n = min64(n, max64(p->batch / 4, few));
    if (n > work / each) n = (int64_t)(work / each);
    return n < 1 ? 1 : (int)n;
}

/* A real of an array of the plan's reals. */
static void set_real(const bptt_plan *p, void *array, int64_t i, double value) {
    if (p->k->bytes == 8)
        ((double *)array)[i] = value;
    else
        ((float *)array)[i] = (float)value;
}

/* What a step adds of xi ~ N(0, 1): the amplitude, and the slope of its logarithm by alpha. */
static double amplitude_of(const bptt_plan *p, double alpha, double *slope) {
    const double sigma = p->recurrent_noise;
    switch (p->noise) {
    case NOISE_SDE: *slope = 0.5 / alpha; return sqrt(2 * alpha) * sigma;
    case NOISE_SCALED: *slope = 1 / alpha; return alpha * sigma;
    default: *slope = 0; return sigma;
    }
}

/* alpha of a unit, number i of the arrays, and what follows from it. */
static void set_alpha(const bptt_plan *p, int64_t i, double alpha) {
    double slope;
    set_real(p, p->alpha, i, alpha);
    if (!p->amplitude) return;
    set_real(p, p->amplitude, i, amplitude_of(p, alpha, &slope));
    if (p->noise_slope) set_real(p, p->noise_slope, i, slope);
}

/* What follows from trained time constants, whose packed weights must be complete.  By one thread,
   before a barrier. */
void derive_time_constants(const bptt_plan *p) {
    for (int64_t n = 0; p->trained_tau && n < p->layers * p->directions; n++) {
        const int64_t first = p->layer[n].raw_tau.packed, to = n * padded(p, p->H);
        for (int64_t i = 0; i < p->H; i++) {
            double slope;
            set_alpha(p, to + i, p->k->leak(p->packed, first + i, &slope));
            set_real(p, p->alpha_slope, to + i, slope);
        }
    }
}

/* The constants of the units and inputs into the arena, zeros into their padding; any place for
   each value of an embedding. */
static void set_constants(bptt_plan *p, const double *alpha) {
    const int64_t leaks = padded(p, p->H) * (p->trained_tau ? p->layers * p->directions : 1);
    void *const of_units[] = { p->alpha, p->amplitude, p->alpha_slope, p->noise_slope };
    for (size_t i = 0; i < sizeof of_units / sizeof *of_units; i++)
        if (of_units[i]) memset(of_units[i], 0, (size_t)(leaks * p->k->bytes));
    for (int64_t i = 0; p->cell->leak && !p->trained_tau && i < p->H; i++)
        set_alpha(p, i, alpha ? alpha[i] : 1);
    for (int64_t i = 0; p->input_amplitude && i < padded(p, p->I); i++)
        set_real(p, p->input_amplitude, i, i < p->I - p->choices ? p->input_noise : 0);
    for (int64_t q = 0; q < p->choices; q++) {
        const embedding *e = &p->embedding[q];
        if (e->size) memset(e->slot, 0, (size_t)e->values * sizeof *e->slot);
    }
}

/* Bytes of the arena of a resolved plan; 0: too large. */
static size_t arena_bytes(bptt_plan *p) {
    cursor c = { 0 };
    walk_fixed(p, &c);
    walk_capacity(p, &c);
    return c.at >= (int64_t)1 << 56 ? 0 : (size_t)c.at;
}

/* 0 for a bad description, too. */
size_t bptt_bytes(const bptt_desc *desc) {
    bptt_plan p = { 0 };
    int64_t count;
    return resolve(&p, desc, NULL, 0, &count, &SILENT) ? 0 : arena_bytes(&p);
}

/* The plan is written before the arena is known to be large enough for its fields; at least
   sizeof(bptt_plan) is checked before. */
bptt_status bptt_make_plan(const bptt_desc *desc, void *arena, size_t bytes, bptt_plan **plan) {
    bptt_plan *p = arena;
    int64_t count;
    if (!arena || (uintptr_t)arena % 64 || bytes < sizeof *p) return BPTT_BAD_ARENA;
    memset(p, 0, sizeof *p);
    const bptt_status status = resolve(p, desc, NULL, 0, &count, &SILENT);
    if (status) return status;
    p->bytes = arena_bytes(p);
    if (!p->bytes) return BPTT_TOO_LARGE;
    if (bytes < p->bytes) return BPTT_BAD_ARENA;
    p->arena = arena;
    p->crew.wanted = choose_threads(p, desc->threads);
    cursor c = { .base = p->arena };
    walk_fixed(p, &c);
    p->fixed = (size_t)c.at;
    walk_capacity(p, &c);
    set_constants(p, desc->alpha);
    *plan = p;
    if (p->copies) order_norm(p, desc);
    if (!p->residuals) return BPTT_OK;
    const bptt_desc rows = rows_desc(desc);
    return bptt_make_plan(&rows, p->rows, p->rows_bytes, &p->rows);
}

/* The same walk once more, over a copy of the plan, with names. */
int64_t bptt_views(const bptt_plan *plan, bptt_block *out, int64_t max) {
    bptt_plan p = *plan;
    cursor c = { .base = p.arena, .out = out, .max = max };
    walk_fixed(&p, &c);
    p.shared = 0;
    walk_capacity(&p, &c);
    return c.count;
}

const char *bptt_isa(const bptt_plan *p) { return p->isa; }
const char *bptt_lanes(const bptt_plan *p) { return lanes_name((p->k->lanes == 1) + p->copies); }
int bptt_copies(const bptt_plan *p) { return p->copies ? (int)p->k->rows : 0; }
int bptt_threads(const bptt_plan *p) { return p->crew.wanted; }
int64_t bptt_sum_size(const bptt_plan *p) { return p->packed_size; }

void bptt_use_threads(bptt_parallel parallel, bptt_team_size size) {
    team_use_host(parallel, size);
}
