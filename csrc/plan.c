/* plan.c: description -> parameter blocks, arena layout, choice of instance.  No arithmetic on data. */
#include "plan.h"
#include "threads.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *bptt_message(bptt_status status) {
    static const char *const text[] = {
#define STATUS(name, text) text,
#include "status.def"
#undef STATUS
    };
    return (size_t)status < sizeof text / sizeof *text ? text[status] : "unknown status";
}

/* Instances: one list of instruction sets, each for both dtypes, the best last. */
#if defined(__x86_64__)
#define EACH_ISA(X) X(base, 1) X(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) \
    X(avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && \
              __builtin_cpu_supports("avx512dq"))
#else
#define EACH_ISA(X) X(base, 1)
#endif
#define DECLARE(isa, has) extern const kernels kernels_f32_##isa, kernels_f64_##isa;
EACH_ISA(DECLARE)

int bptt_supports(const char *isa) {
#define CHECK(name, has) if (!strcmp(isa, #name)) return (has) != 0;
    EACH_ISA(CHECK)
    return 0;
}
static const kernels *find_kernels(const char *isa, int f64, const char **chosen) {
    const kernels *found = NULL;
#define CONSIDER(name, has) \
    if ((!isa || !strcmp(isa, #name)) && (has)) found = f64 ? &kernels_f64_##name : &kernels_f32_##name, *chosen = #name;
    EACH_ISA(CONSIDER)
    return found;
}

/* Position of a name in a list that ends with NULL; the first where none is given; -1 where it is unknown. */
static int find(const char *name, const char *const *list) {
    if (!name) return 0;
    for (int i = 0; list[i]; i++) if (!strcmp(name, list[i])) return i;
    return -1;
}
static const char *const cell_names[] = {
#define CELL_ROW(c) #c,
#include "cells/all.h"
#undef CELL_ROW
    NULL };
static const char *const loss_names[] = { "mse", "mae", "huber", "cross_entropy", "binary_cross_entropy", NULL };
static const char *const act_names[] = { "tanh", "relu", "sigmoid", "linear", NULL };
static const char *const dtype_names[] = { "float32", "float64", NULL };

/* Sizes above 2^62 become 2^62: they fit nowhere, and products of them stay positive. */
static const int64_t HUGE_SIZE = (int64_t)1 << 62;
static int64_t times(int64_t a, int64_t b) {
    int64_t c;
    return __builtin_mul_overflow(a, b, &c) || c > HUGE_SIZE ? HUGE_SIZE : c;
}
static int64_t plus(int64_t a, int64_t b) { return a > HUGE_SIZE - b ? HUGE_SIZE : a + b; }

static int64_t blocks_of(const bptt_plan *p, int64_t columns) { return (columns - 1) / p->k->lanes + 1; }
static int64_t padded(const bptt_plan *p, int64_t columns) { return times(blocks_of(p, columns), p->k->lanes); }

/* The parameter blocks in the order of the flat vector: one walk gives names, shapes and both offsets. */
typedef struct {
    bptt_plan *p;
    bptt_piece *out;
    int64_t max, count;
    char suffix[24];
} declaration;
static void block(declaration *d, matrix *m, const char *name, int64_t gates, int64_t units, int64_t cols, int64_t segments) {
    bptt_plan *p = d->p;
    const int64_t columns = cols ? cols : 1;
    *m = (matrix){ .gates = gates, .units = units, .cols = columns, .segments = segments, .flat = p->flat_size,
        .work = p->work_size, .bias = !cols, .block = d->count, .first = p->flat_size };
    m->K = columns / segments, m->vectors = times(gates, blocks_of(p, units)), m->width = gates == 1 ? 2 : gates;
    m->size = times(times(m->vectors, p->k->lanes), columns);
    if (d->count < d->max) {
        bptt_piece *piece = &d->out[d->count];
        *piece = (bptt_piece){ .rows = times(gates, units), .cols = cols, .offset = p->flat_size };
        snprintf(piece->name, sizeof piece->name, "%s%s", name, d->suffix);
    }
    d->count++;
    p->flat_size = plus(p->flat_size, times(times(gates, units), columns));
    p->work_size = plus(p->work_size, m->size);
}
static void dense_layer(declaration *d, dense *l, const char *part, int64_t number, int64_t out, int64_t in, int64_t segments) {
    char name[40];
    snprintf(name, sizeof name, "%s.%d.weight", part, (int)number);
    block(d, &l->w, name, 1, out, in, segments);
    snprintf(name, sizeof name, "%s.%d.bias", part, (int)number);
    block(d, &l->b, name, 1, out, 0, 1);
}
/* One block of three gates as two matrices: the first two gates, and the third.  The whole is then no matrix of its own. */
static void split_rows(matrix *whole, matrix *two, matrix *one) {
    const int64_t each = whole->size / 3;
    *two = *one = *whole;
    two->gates = two->width = 2, two->vectors = whole->vectors / 3 * 2, two->size = 2 * each;
    one->gates = 1, one->width = 2, one->vectors = whole->vectors / 3, one->size = each;
    one->flat += 2 * whole->units * whole->cols, one->work += 2 * each;
    whole->size = 0;
}
static int64_t declare(bptt_plan *p, const bptt_desc *desc, bptt_piece *out, int64_t max) {
    declaration d = { .p = p, .out = out, .max = max };
    p->flat_size = p->work_size = 0;
    for (int64_t l = 0; l < p->layers; l++)
        for (int dir = 0; dir < p->directions; dir++) {
            const int64_t n = l * p->directions + dir, in = l ? p->R * p->directions : p->I, gates = p->cell->gates;
            frame *f = &p->layer[n];
            const int64_t first = p->depth ? desc->width[0] : p->H;
            snprintf(d.suffix, sizeof d.suffix, "_l%d%s", (int)l, dir ? "_reverse" : "");
            block(&d, &f->ih, "weight_ih", gates, first, in, l ? p->directions : 1);
            block(&d, &f->hh, "weight_hh", gates, first, p->R, 1);
            block(&d, &f->b_ih, "bias_ih", gates, first, 0, 1);
            block(&d, &f->b_hh, "bias_hh", gates, first, 0, 1);
            if (desc->proj_size) block(&d, &f->hr, "weight_hr", 1, p->R, p->H, 1);
            if (p->cell->peeps) block(&d, &f->peep, "weight_peephole", p->cell->peeps, p->H, 0, 1);
            if (p->trained_state) block(&d, &f->initial[0], "initial_h", 1, p->R, 0, 1);
            if (p->trained_state && p->cell->states > 1) block(&d, &f->initial[1], "initial_c", 1, p->H, 0, 1);
            f->peep.bias = 0;
            if (p->two_products) split_rows(&f->hh, &p->inner[n][0].w, &p->inner[n][1].w);
            for (int64_t i = 0; i < p->depth; i++)
                dense_layer(&d, &p->inner[n][i], "f", i + 1, i + 1 < p->depth ? desc->width[i + 1] : p->H, desc->width[i], 1);
        }
    d.suffix[0] = 0;
    for (int64_t i = 0; i < p->head_layers; i++)
        dense_layer(&d, &p->head[i], "head", i, i + 1 < p->head_layers ? desc->head_width[i] : p->O,
                    i ? desc->head_width[i - 1] : p->R * p->directions, i ? 1 : p->directions);
    return d.count;
}

static int size_ok(int64_t n) { return n >= 1 && n <= (int64_t)1 << 40; }

/* The plan of the residuals' way back: it begins in dLoss/dh of the top layer, for both directions at any step. */
static bptt_desc rows_desc(const bptt_desc *d) {
    bptt_desc rows = *d;
    rows.batch = d->residuals, rows.area = rows.residuals = 0, rows.every = d->every && d->bidirectional, rows.input_gradient = 0;
    return rows;
}
int unfolds_in_parts(const bptt_plan *p) {
    return p->k1 || p->k2 || p->segment || p->checkpoints || p->own_inputs != 0 || p->stride;
}
/* How training unfolds time.  Only over all steps at once can a layer also run backwards. */
static int unfolding_ok(const bptt_plan *p) {
    const int truncated = p->k1 || p->k2, checkpointed = p->segment || p->checkpoints, closed = p->own_inputs != 0;
    if (truncated + checkpointed + closed > 1 || p->stride < 0 || (p->stride && (truncated || checkpointed || closed))) return 0;
    if (truncated) return p->directions == 1 && size_ok(p->k1) && size_ok(p->k2) && p->k1 <= p->k2;
    if (checkpointed) return p->directions == 1 && size_ok(p->segment) && p->checkpoints >= 0;
    if (closed) return p->directions == 1 && p->every && p->I == p->O && p->own_inputs > 0 && p->own_inputs <= 1;
    return 1;
}

/* Names and numbers of the description into the plan; everything but the arena. */
static bptt_status resolve(bptt_plan *p, const bptt_desc *d, bptt_piece *out, int64_t max, int64_t *count) {
    const int named = find(d->cell, cell_names), gru = find("gru", cell_names), lstm = find("lstm", cell_names);
    const int cell = d->reset_before ? find("reset_before", cell_names) : d->peephole ? find("peephole", cell_names) : named;
    const int dtype = find(d->dtype, dtype_names), act = find(d->head_activation, act_names);
    p->loss = find(d->loss, loss_names);
    if (cell < 0 || dtype < 0 || act < 0 || p->loss < 0) return BPTT_BAD_DESC;
    if (!(p->k = find_kernels(d->isa, dtype, &p->isa))) return BPTT_UNSUPPORTED;
    p->cell = &p->k->cell[cell];
    p->layers = d->layers ? d->layers : 1;
    p->directions = d->bidirectional ? 2 : 1;
    p->depth = d->depth, p->head_layers = d->output_size || d->head_depth ? d->head_depth + 1 : 0;
    p->I = d->input_size, p->H = d->hidden_size, p->O = d->output_size;
    p->batch = d->batch ? d->batch : 1, p->steps = d->steps ? d->steps : 1;
    p->every = d->every != 0, p->input_gradient = d->input_gradient || d->own_inputs > 0, p->trained_state = d->trained_state != 0;
    p->k1 = d->update_every, p->k2 = d->look_back, p->segment = d->segment, p->checkpoints = d->slots;
    p->own_inputs = d->own_inputs, p->stride = d->window_stride;
    p->grouped = d->area > 0 && d->area < times(p->batch, p->steps), p->area = p->grouped ? d->area : HUGE_SIZE;
    p->R = d->proj_size ? d->proj_size : p->H;
    if (!p->head_layers) p->O = p->R * p->directions, p->every = 1;
    p->two_products = cell == find("reset_before", cell_names);
    p->dropout = d->dropout, p->recurrent_dropout = d->recurrent_dropout, p->seed = d->seed;
    const int is_mlp = cell == find("mlp", cell_names);
    if (p->layers < 1 || p->layers > BPTT_MAX_LAYERS || p->depth < 0 || p->depth >= BPTT_MAX_DEPTH || (p->depth && !is_mlp) ||
        d->head_depth < 0 || d->head_depth >= BPTT_MAX_DEPTH || !size_ok(p->I) || !size_ok(p->H) || !size_ok(p->O) ||
        !size_ok(p->batch) || !size_ok(p->steps) || (d->reset_before && named != gru) || (d->peephole && named != lstm) ||
        (d->proj_size && named != lstm) || d->proj_size < 0 || d->proj_size > p->H || !(d->dropout >= 0 && d->dropout < 1) ||
        !(d->recurrent_dropout >= 0 && d->recurrent_dropout < 1) || !unfolding_ok(p) || d->area < 0 ||
        (p->grouped && (p->area < p->steps || p->k1 || p->segment || p->stride)))
        return BPTT_BAD_DESC;
    for (int64_t i = 0; i < p->depth; i++) if (!size_ok(d->width[i])) return BPTT_BAD_DESC;
    for (int64_t i = 0; i < d->head_depth; i++) if (!size_ok(d->head_width[i])) return BPTT_BAD_DESC;
    for (int64_t i = 0; i <= p->depth; i++) if (find(d->activation[i], act_names) < 0) return BPTT_BAD_DESC;
    *count = declare(p, d, out, max);
    if (d->residuals) {
        if (!size_ok(d->residuals) || unfolds_in_parts(p) || p->trained_state || !p->head_layers) return BPTT_BAD_DESC;
        const bptt_desc rows = rows_desc(d);
        p->residuals = d->residuals;
        p->gram_width = padded(p, plus(p->flat_size, 1)), p->tangent_width = padded(p, p->head[0].w.flat);
        if (!(p->rows_bytes = bptt_bytes(&rows))) return BPTT_TOO_LARGE;
        p->tangents = p->cell->tangent && p->layers * p->directions == 1 && !d->proj_size && p->every;
    }
    p->state_size = p->layers * p->directions * (p->R + (p->cell->states - 1) * p->H);
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        frame *f = &p->layer[n];
        f->H = p->H, f->R = p->R, f->gates = p->cell->gates, f->states = p->cell->states, f->saved_count = p->cell->saved;
        f->act = find(d->activation[0], act_names), f->reverse = (int)(n % p->directions);
        f->depth = p->two_products ? 2 : p->depth, f->inner = p->inner[n];
        for (int64_t i = 0; i < p->depth; i++) p->inner[n][i].act = find(d->activation[i + 1], act_names);
    }
    for (int64_t i = 0; i < p->head_layers; i++) p->head[i].act = i + 1 < p->head_layers ? act : find("linear", act_names);
    return BPTT_OK;
}

/* The one walk over the arena.  With base NULL it only counts; with `out` it also names the pieces. */
typedef struct {
    char *base;
    int64_t at;
    bptt_piece *out;
    int64_t max, count;
} cursor;
static void *take(cursor *c, int64_t bytes, const char *name, int64_t number) {
    if (c->out && c->count < c->max) {
        bptt_piece *piece = &c->out[c->count];
        *piece = (bptt_piece){ .offset = c->at, .bytes = bytes };
        if (number < 0) snprintf(piece->name, sizeof piece->name, "%s", name);
        else snprintf(piece->name, sizeof piece->name, "%s[%d]", name, (int)number);
    }
    c->count++;
    void *p = c->base ? c->base + c->at : NULL;
    c->at = plus(c->at, plus(bytes, 63) / 64 * 64);
    return p;
}
static field take_field(cursor *c, const bptt_plan *p, int64_t T, int64_t B, int64_t blocks, const char *name, int64_t number) {
    const int64_t row = p->k->lanes, block = times(B, row), step = times(blocks, block);
    return (field){ take(c, times(times(T, step), p->k->bytes), name, number), step, block, row };
}
static void take_turned(cursor *c, const bptt_plan *p, matrix *m, const char *name, int64_t number) {
    const int64_t columns = times(m->segments, padded(p, m->K));
    m->turned = take(c, times(times(columns, m->gates * m->units), p->k->bytes), name, number);
}
static int64_t width_of(const dense *l) { return l->w.units; }

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t parts_of(int64_t whole, int64_t part) { return (whole - 1) / part + 1; }

/* Truncated with k1 < k2: the last k2 - k1 steps are needed again, and move to the front only when the tape is full. */
int64_t tape_steps(const bptt_plan *p, int64_t T) {
    if (p->segment) return least(T, p->segment);
    if (p->k1) return least(T, p->k1 == p->k2 ? p->k1 : plus(p->k2, times(parts_of(p->k2, p->k1), p->k1)));
    return T;
}
int64_t series_rows(const bptt_plan *p, int64_t B, int64_t T) { return B + (T - 1) / p->stride; }
static int64_t stored_states(const bptt_plan *p) {
    const int64_t segments = parts_of(p->steps, p->segment);
    return p->checkpoints ? least(p->checkpoints, segments) : segments;
}

/* Pieces that depend on the network alone, then those that depend on the batch. */
static void walk_fixed(bptt_plan *p, cursor *c) {
    const int64_t real = p->k->bytes;
    take(c, sizeof *p, "plan", -1);
    p->work = take(c, times(p->work_size, real), "work", -1);
    p->grad = take(c, times(p->work_size, real), "grad", -1);
    p->slots = take(c, times(times(MAX_SLOTS, p->work_size), real), "slots", -1);
    p->norms = take(c, times(norm_slices(p), sizeof *p->norms), "norms", -1);
    p->row_loss = take(c, times(p->batch, sizeof *p->row_loss), "row_loss", -1);
    p->row = take(c, times(p->batch, sizeof *p->row), "row", -1);
    p->living = take(c, times(tape_steps(p, p->steps) + 1, sizeof *p->living), "living", -1);
    if (p->stride) {
        p->series_row = take(c, times(plus(p->batch, p->steps), sizeof *p->series_row), "series_row", -1);
        p->series_offset = take(c, times(plus(p->batch, p->steps), sizeof *p->series_offset), "series_offset", -1);
        p->series_living = take(c, times(p->steps, sizeof *p->series_living), "series_living", -1);
    }
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        if (p->layer[n].hh.size) take_turned(c, p, &p->layer[n].hh, "hh_turned", n);
        if (p->layer[n].hr.size) take_turned(c, p, &p->layer[n].hr, "hr_turned", n);
        if (n >= p->directions || p->input_gradient) take_turned(c, p, &p->layer[n].ih, "ih_turned", n);
        for (int64_t i = 0; i < p->layer[n].depth; i++) take_turned(c, p, &p->inner[n][i].w, "f_turned", n * p->layer[n].depth + i);
        p->layer[n].work = p->work;
    }
    for (int64_t i = 0; i < p->head_layers; i++) take_turned(c, p, &p->head[i].w, "head_turned", i);
    if (p->residuals) {
        p->jacobian = take(c, times(times(p->residuals, p->gram_width), real), "jacobian", -1);
        p->gram = take(c, times(times(p->gram_width, p->gram_width), real), "gram", -1);
        p->residual = take(c, times(p->residuals, sizeof *p->residual), "residual", -1);
        p->rows = take(c, (int64_t)p->rows_bytes, "rows", -1);
    }
    if (p->tangents) {
        const int64_t states = times(p->cell->states, padded(p, p->H));
        for (int i = 0; i < 2; i++) p->tangent[i] = take(c, times(times(states, p->tangent_width), real), "tangent", i);
        p->transition = take(c, times(times(p->H, states), real), "transition", -1);
    }
}
static void walk_batch(bptt_plan *p, cursor *c, int64_t B, int64_t T) {
    const int64_t Hb = blocks_of(p, p->H), Rb = blocks_of(p, p->R), count = p->layers * p->directions;
    const int64_t rows = p->stride ? series_rows(p, B, T) : 0;
    p->x = take_field(c, p, p->batch == 1 ? T + WINDOW : T, B, blocks_of(p, p->I), "x", -1);
    if (p->shared) p->x.block = rows * p->x.row, p->x.step = blocks_of(p, p->I) * p->x.block;
    if (p->input_gradient) p->dx = take_field(c, p, T, B, blocks_of(p, p->I), "dx", -1);
    for (int64_t n = 0; n < count; n++) {
        frame *f = &p->layer[n];
        const int64_t zb = f->gates * blocks_of(p, f->hh.units);
        f->zx = f->kept = f->dzx = take_field(c, p, T, B, zb, "z", n);
        if (p->k1 < p->k2 || p->residuals) f->dzx = take_field(c, p, T, B, zb, "dz", n);
        f->phases = p->shared && n < p->directions ? p->stride : 0;
        if (p->stride && n < p->directions) {
            p->folded[n] = take_field(c, p, 1, least(times(p->stride, rows), times(T, B)), zb, "folded", n);
            p->folded[n].block = rows * p->x.row, p->folded[n].step = zb * p->folded[n].block;
            if (p->shared) f->zx = p->folded[n];
        }
        f->dzr = p->cell->split ? take_field(c, p, T, B, zb, "dzr", n) : f->dzx;
        f->s = take_field(c, p, T + 1, B, Rb + (f->states - 1) * Hb, "s", n);
        f->saved = take_field(c, p, T, B, f->saved_count * Hb, "saved", n);
        if (p->purpose == INFER && !p->two_products) f->saved.p = NULL;
        f->ds = take_field(c, p, 1, B, Rb + (f->states - 1) * Hb, "ds", n);
        if (p->segment) p->stored[n] = take_field(c, p, stored_states(p), B, Rb + (f->states - 1) * Hb, "stored", n);
        f->dy = (field){0};
        if (p->every || n < count - p->directions) f->dy = take_field(c, p, T, B, Rb, "dy", n);
        if (f->hr.size) f->m = take_field(c, p, T, B, Hb, "m", n), f->dh = take_field(c, p, T, B, Rb, "dh", n);
        if (p->recurrent_dropout > 0) {
            f->mask = take_field(c, p, 1, B, Rb, "mask", n), f->masked = take_field(c, p, T + 1, B, Rb, "masked", n);
            if (p->purpose != TRAIN) f->mask.p = f->masked.p = NULL;
        }
        if (p->dropout > 0 && n < count - p->directions) p->dropped[n] = take_field(c, p, T, B, Rb, "dropped", n);
        if (p->two_products) {
            f->dh = take_field(c, p, 1, B, Hb, "dh", n);
            for (int i = 0; i < 2; i++) {
                f->a[i] = take_field(c, p, T, B, (2 - i) * Hb, "a", 2 * n + i);
                f->da[i] = take_field(c, p, T, B, (2 - i) * Hb, "da", 2 * n + i);
            }
        } else for (int64_t i = 0; i < p->depth; i++) {
            f->a[i] = take_field(c, p, T, B, blocks_of(p, p->inner[n][i].w.cols), "a", n * p->depth + i);
            f->da[i] = take_field(c, p, T, B, blocks_of(p, width_of(&p->inner[n][i])), "da", n * p->depth + i);
        }
    }
    for (int d = 0; d < p->directions; d++) p->last[d] = take_field(c, p, 1, B, Rb, "last", d);
    for (int64_t i = 0; i < p->head_layers; i++) {
        const int64_t blocks = blocks_of(p, width_of(&p->head[i])), steps = p->every ? T : 1;
        p->value[i] = take_field(c, p, steps, B, blocks, "value", i);
        if (i + 1 < p->head_layers) p->slope[i] = take_field(c, p, steps, B, blocks, "slope", i);
    }
    p->B = B, p->T = p->laid = T;
}
/* At full capacity: no group takes more than batch rows of area / batch steps, as (T + 1) B <= area + B.  Groups may lie one after
   the other (bptt_forward), each piece at a multiple of 64 bytes. */
static void walk_capacity(bptt_plan *p, cursor *c) {
    const int64_t before = c->count;
    p->begin = c->at;
    walk_batch(p, c, p->batch, tape_steps(p, p->grouped ? least(p->steps, parts_of(p->area, p->batch)) : p->steps));
    if (p->grouped) c->at = plus(c->at, (c->count - before) * 64 * TAPES);
    p->end = c->at;
}
void lay_out_at(bptt_plan *p, int64_t begin, int64_t B, int64_t T, int purpose, int shared) {
    p->taped = 0;
    if (begin == p->begin && B == p->B && T == p->laid && purpose == p->purpose && shared == p->shared) {
        p->T = T;
        return;
    }
    p->purpose = purpose, p->shared = shared, p->begin = begin;
    cursor c = { .base = p->arena, .at = begin };
    walk_batch(p, &c, B, T);
    p->end = c.at;
}
void lay_out(bptt_plan *p, int64_t B, int64_t T, int purpose, int shared) {
    lay_out_at(p, (int64_t)p->fixed, B, T, purpose, shared);
}

int64_t norm_slices(const bptt_plan *p) { return (p->work_size + NORM_SLICE - 1) / NORM_SLICE; }

/* Multiply-adds of one batch, forward, backward and gradient: small work does not pay for the barriers. */
static int choose_threads(const bptt_plan *p, int wanted) {
    const double area = fmin((double)p->batch * (double)p->steps, (double)p->area);
    const double work = 3.0 * (double)p->work_size * area, each = 4e5;
    int64_t n = wanted > 1 ? wanted : 1;
    if (n > THREADS_MAX - 1) n = THREADS_MAX - 1;
    const int64_t few = p->batch >= 4 && p->work_size >= 1 << 17 ? 2 : 1;   /* two rows a thread pay if a step has many weights */
    if (n > p->batch / 4) n = p->batch / 4 > few ? p->batch / 4 : few;
    if (n > work / each) n = (int64_t)(work / each);
    return n < 1 ? 1 : (int)n;
}

static size_t arena_bytes(bptt_plan *p) {
    cursor c = {0};
    walk_fixed(p, &c);
    walk_capacity(p, &c);
    return c.at >= (int64_t)1 << 56 ? 0 : (size_t)c.at;
}
int64_t bptt_blocks(const bptt_desc *desc, bptt_piece *out, int64_t max) {
    bptt_plan p = {0};
    int64_t count;
    return resolve(&p, desc, out, max, &count) ? -1 : count;
}
int64_t bptt_size(const bptt_desc *desc) {
    bptt_plan p = {0};
    int64_t count;
    return resolve(&p, desc, NULL, 0, &count) || p.flat_size >= (int64_t)1 << 56 ? -1 : p.flat_size;
}
int64_t bptt_state_size(const bptt_desc *desc) {
    bptt_plan p = {0};
    int64_t count;
    return resolve(&p, desc, NULL, 0, &count) ? -1 : p.state_size;
}
size_t bptt_bytes(const bptt_desc *desc) {
    bptt_plan p = {0};
    int64_t count;
    return resolve(&p, desc, NULL, 0, &count) ? 0 : arena_bytes(&p);
}
bptt_status bptt_make_plan(const bptt_desc *desc, void *arena, size_t bytes, bptt_plan **plan) {
    bptt_plan *p = arena;
    int64_t count;
    if (!arena || (uintptr_t)arena % 64 || bytes < sizeof *p) return BPTT_BAD_ARENA;
    memset(p, 0, sizeof *p);
    const bptt_status status = resolve(p, desc, NULL, 0, &count);
    if (status) return status;
    p->bytes = arena_bytes(p);
    if (!p->bytes) return BPTT_TOO_LARGE;
    if (bytes < p->bytes) return BPTT_BAD_ARENA;
    p->arena = arena;
    p->threads = choose_threads(p, desc->threads);
    cursor c = { .base = p->arena };
    walk_fixed(p, &c);
    p->fixed = (size_t)c.at;
    walk_capacity(p, &c);
    *plan = p;
    if (!p->residuals) return BPTT_OK;
    const bptt_desc rows = rows_desc(desc);
    return bptt_make_plan(&rows, p->rows, p->rows_bytes, &p->rows);
}
int64_t bptt_views(const bptt_plan *plan, bptt_piece *out, int64_t max) {
    bptt_plan p = *plan;
    cursor c = { .base = p.arena, .out = out, .max = max };
    walk_fixed(&p, &c);
    p.shared = 0;
    walk_capacity(&p, &c);
    return c.count;
}
const char *bptt_isa(const bptt_plan *p) { return p->isa; }
int bptt_threads(const bptt_plan *p) { return p->threads; }

int bptt_apply(const char *function, const char *dtype, const char *isa, const void *x, void *y, int64_t n) {
    static const char *const functions[] = { "tanh", "sigmoid", "exp", NULL };
    const char *chosen;
    const int f = find(function, functions), d = find(dtype, dtype_names);
    const kernels *k = f < 0 || d < 0 ? NULL : find_kernels(isa, d, &chosen);
    if (k) k->apply(f, x, y, n);
    return k != NULL;
}
