/* plan.c: description -> parameter blocks, arena layout, choice of instance.  No arithmetic on
   data. */
#include "plan.h"
#include "threads.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* -- the lists of the .def files -- */

const char *bptt_message(bptt_status status) {
    static const char *const text[] = {
#define STATUS(name, text) text,
#include "status.def"
#undef STATUS
    };
    return (size_t)status < BPTT_STATUSES ? text[status] : "unknown status";
}
const char *bptt_status_name(bptt_status status) {
    static const char *const names[] = {
#define STATUS(name, text) #name,
#include "status.def"
#undef STATUS
    };
    return (size_t)status < BPTT_STATUSES ? names[status] : NULL;
}

const bptt_field bptt_desc_fields[] = {
#define ROW(type, field, count, least, largest, what) \
    { .name = #field,                                 \
      .kind = BPTT_##type,                            \
      .items = count,                                 \
      .offset = offsetof(bptt_desc, field),           \
      .low = least,                                   \
      .high = largest,                                \
      .text = what },
#define FIELD(kind, name, low, high, text) ROW(kind, name, 0, low, high, text)
#define LIST(kind, name, low, high, text) ROW(kind, name, BPTT_MAX_DEPTH, low, high, text)
#include "desc.def"
#undef FIELD
#undef LIST
    { .name = NULL }
};
enum { GIVEN, CARRIED };
const bptt_field bptt_hyper_fields[] = {
#define NUMBER(type, field, role, start, what) \
    { .name = #field,                          \
      .kind = BPTT_##type,                     \
      .offset = offsetof(bptt_hyper, field),   \
      .initial = start,                        \
      .carried = role,                         \
      .text = what },
#include "optimizers.def"
    { .name = NULL }
};
#undef ROW

const bptt_field *bptt_find_field(const bptt_field *fields, const char *name) {
    for (; fields->name; fields++)
        if (!strcmp(fields->name, name)) return fields;
    return NULL;
}
/* Address of a field's item. */
static void *item_of(const void *in, const bptt_field *f, int item) {
    static const size_t bytes[] = {
        [BPTT_TEXT] = sizeof(const char *), [BPTT_INTEGER] = sizeof(int64_t),
        [BPTT_FLAG] = sizeof(int),          [BPTT_REAL] = sizeof(double),
        [BPTT_KEY] = sizeof(uint64_t),      [BPTT_REALS] = sizeof(const double *),
    };
    return (char *)in + f->offset + (size_t)item * bytes[f->kind];
}
void bptt_set_pointer(void *in, const bptt_field *f, int item, const void *value) {
    memcpy(item_of(in, f, item), &value, sizeof value);
}
void bptt_set_real(void *in, const bptt_field *f, int item, double value) {
    memcpy(item_of(in, f, item), &value, sizeof value);
}
void bptt_set_integer(void *in, const bptt_field *f, int item, int64_t value) {
    const int flag = value != 0;
    if (f->kind == BPTT_FLAG)
        memcpy(item_of(in, f, item), &flag, sizeof flag);
    else
        memcpy(item_of(in, f, item), &value, sizeof value);
}
double bptt_get_number(const void *in, const bptt_field *f, int item) {
    const void *at = item_of(in, f, item);
    switch (f->kind) {
    case BPTT_INTEGER: return (double)*(const int64_t *)at;
    case BPTT_FLAG: return *(const int *)at;
    case BPTT_REAL: return *(const double *)at;
    case BPTT_KEY: return (double)*(const uint64_t *)at;
    default: return 0;
    }
}

/* Position of a name in a list; the first where none is given; -1 where it is unknown. */
int find(const char *name, name_of list) {
    if (!name) return 0;
    for (int i = 0; list(i); i++)
        if (!strcmp(name, list(i))) return i;
    return -1;
}

static const char *cell_name(int i) {
    const cell_kernels *cell = kernels_f64_base.cell[i]; /* every instance has the same cells */
    return cell ? cell->name : NULL;
}
int bptt_describe_cell(int i, bptt_cell *out) {
    for (int n = 0; n <= i; n++)
        if (!kernels_f64_base.cell[n]) return 0;
    const cell_kernels *cell = kernels_f64_base.cell[i];
    *out = (bptt_cell){
        .name = cell->name,
        .gates = cell->gates,
        .states = cell->states,
        .activation = cell->activation,
        .hidden_layers = cell->hidden_layers,
        .projection = cell->projection,
        .peepholes = cell->peepholes,
        .keep_gate = cell->keep_gate,
    };
    return 1;
}

enum { UNCURVED, CURVED, LEAST_SQUARES };
#define NONE \
    { NULL, 0, 0, 0 }
static const bptt_loss losses[] = {
#define LOSS(text, kind, shape, ...)           \
    { .name = #text,                           \
      .targets = BPTT_##kind,                  \
      .least_squares = shape == LEAST_SQUARES, \
      .curved = shape != UNCURVED,             \
      .parameter = { __VA_ARGS__ } },
#define CLASS_LOSS(text, shape, ...) LOSS(text, CLASSES, shape, __VA_ARGS__)
#include "losses.def"
};
static const char *loss_name(int i) { return i < LOSSES ? losses[i].name : NULL; }
int bptt_describe_loss(int i, bptt_loss *out) {
    if (i < 0 || i >= LOSSES) return 0;
    *out = losses[i];
    return 1;
}
void bptt_curvature(int loss, const double *parameter, int64_t outputs, const double *y,
                    const double *dy, double *product) {
    chosen_loss l = { .kind = loss };
    for (int i = 0; i < BPTT_MAX_LOSS_PARAMETERS && losses[loss].parameter[i].name; i++)
        l.parameter[i] = parameter[i];
    kernels_f64_base.curvature(&l, outputs, y, dy, product);
}

static const struct {
    const char *name;
    int vectors;
} optimizers[] = {
#define OPTIMIZER(name, vectors, ...) { #name, vectors },
#include "optimizers.def"
};
const char *bptt_optimizer(int i) { return i >= 0 && i < OPTIMIZERS ? optimizers[i].name : NULL; }
int bptt_state_vectors(const char *name) {
    const int i = find(name, bptt_optimizer);
    return i < 0 ? -1 : optimizers[i].vectors;
}

static const char *act_name(int i) {
    static const char *const names[] = { "tanh", "relu", "sigmoid", "linear", NULL };
    return names[i];
}
static const char *dtype_name(int i) {
    static const char *const names[] = { "float32", "float64", NULL };
    return names[i];
}
static const char *initial_state_name(int i) {
    static const char *const names[] = { "zeros", "trained", NULL };
    return names[i];
}
static const char *function_name(int i) {
    static const char *const names[] = { "tanh", "sigmoid", "exp", NULL };
    return names[i];
}

/* Instances: one list of instruction sets, each for both dtypes, the best last. */
#if defined(__x86_64__)
#define EACH_ISA(X)                                                              \
    X(base, 1)                                                                   \
    X(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))     \
    X(avx512,                                                                    \
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && \
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
#else
#define EACH_ISA(X) X(base, 1)
#endif
#define DECLARE(isa, has) extern const kernels kernels_f32_##isa, kernels_f64_##isa;
EACH_ISA(DECLARE)

int bptt_supports(const char *isa) {
#define CHECK(name, has) \
    if (!strcmp(isa, #name)) return (has) != 0;
    EACH_ISA(CHECK)
    return 0;
}
static const kernels *find_kernels(const char *isa, int f64, const char **chosen) {
    const kernels *found = NULL;
#define CONSIDER(name, has)                     \
    if ((!isa || !strcmp(isa, #name)) && (has)) \
        found = f64 ? &kernels_f64_##name : &kernels_f32_##name, *chosen = #name;
    EACH_ISA(CONSIDER)
    return found;
}

/* Sizes above 2^62 become 2^62: they fit nowhere, and products of them stay positive. */
static const int64_t HUGE_SIZE = (int64_t)1 << 62;
static int64_t times(int64_t a, int64_t b) {
    int64_t c;
    return __builtin_mul_overflow(a, b, &c) || c > HUGE_SIZE ? HUGE_SIZE : c;
}
static int64_t plus(int64_t a, int64_t b) { return a > HUGE_SIZE - b ? HUGE_SIZE : a + b; }

static int64_t blocks_of(const bptt_plan *p, int64_t columns) {
    return (columns - 1) / p->k->lanes + 1;
}
static int64_t padded(const bptt_plan *p, int64_t columns) {
    return times(blocks_of(p, columns), p->k->lanes);
}

/* The parameter blocks in the order of the flat vector: one walk gives names, shapes and both
   offsets. */
typedef struct {
    bptt_plan *p;
    bptt_block *out;
    int64_t max, count;
    char suffix[24];
} declaration;
static void block(declaration *d, matrix *m, const char *name, int64_t gates, int64_t units,
                  int64_t cols, int64_t segments) {
    bptt_plan *p = d->p;
    const int64_t columns = cols ? cols : 1;
    *m = (matrix){ .gates = gates,
                   .units = units,
                   .cols = columns,
                   .column_groups = segments,
                   .flat = p->flat_size,
                   .packed = p->packed_size,
                   .bias = !cols,
                   .block = d->count,
                   .first = p->flat_size };
    m->K = columns / segments, m->vectors = times(gates, blocks_of(p, units)),
    m->width = gates == 1 ? 2 : gates;
    m->size = times(times(m->vectors, p->k->lanes), columns);
    if (d->count < d->max) {
        bptt_block *piece = &d->out[d->count];
        *piece = (bptt_block){ .rows = times(gates, units), .cols = cols, .offset = p->flat_size };
        snprintf(piece->name, sizeof piece->name, "%s%s", name, d->suffix);
    }
    d->count++;
    p->flat_size = plus(p->flat_size, times(times(gates, units), columns));
    p->packed_size = plus(p->packed_size, m->size);
}
static void dense_layer(declaration *d, dense *l, const char *part, int64_t number, int64_t out,
                        int64_t in, int64_t segments) {
    char name[40];
    snprintf(name, sizeof name, "%s.%d.weight", part, (int)number);
    block(d, &l->w, name, 1, out, in, segments);
    snprintf(name, sizeof name, "%s.%d.bias", part, (int)number);
    block(d, &l->b, name, 1, out, 0, 1);
}
/* One block of three gates as two matrices: the first two gates, and the third.  The whole is then
   no matrix of its own. */
static void split_rows(matrix *whole, matrix *two, matrix *one) {
    const int64_t each = whole->size / 3;
    *two = *one = *whole;
    two->gates = two->width = 2, two->vectors = whole->vectors / 3 * 2, two->size = 2 * each;
    one->gates = 1, one->width = 2, one->vectors = whole->vectors / 3, one->size = each;
    one->flat += 2 * whole->units * whole->cols, one->packed += 2 * each;
    whole->size = 0;
}
static int64_t declare(bptt_plan *p, const bptt_desc *desc, bptt_block *out, int64_t max) {
    declaration d = { .p = p, .out = out, .max = max };
    p->flat_size = p->packed_size = 0;
    for (int64_t l = 0; l < p->layers; l++)
        for (int dir = 0; dir < p->directions; dir++) {
            const int64_t n = l * p->directions + dir, in = l ? p->R * p->directions : p->I,
                          gates = p->cell->gates;
            frame *f = &p->layer[n];
            const int64_t first = p->depth ? desc->f[0] : p->H;
            snprintf(d.suffix, sizeof d.suffix, "_l%d%s", (int)l, dir ? "_reverse" : "");
            block(&d, &f->ih, "weight_ih", gates, first, in, l ? p->directions : 1);
            block(&d, &f->hh, "weight_hh", gates, first, p->R, 1);
            block(&d, &f->b_ih, "bias_ih", gates, first, 0, 1);
            block(&d, &f->b_hh, "bias_hh", gates, first, 0, 1);
            if (desc->proj_size) block(&d, &f->hr, "weight_hr", 1, p->R, p->H, 1);
            if (p->cell->peepholes) block(&d, &f->peep, "weight_peephole", p->cell->peepholes, p->H, 0, 1);
            if (p->trained_state) block(&d, &f->initial[0], "initial_h", 1, p->R, 0, 1);
            if (p->trained_state && p->cell->states > 1)
                block(&d, &f->initial[1], "initial_c", 1, p->H, 0, 1);
            f->peep.bias = 0;
            if (p->two_products) split_rows(&f->hh, &p->inner[n][0].w, &p->inner[n][1].w);
            for (int64_t i = 0; i < p->depth; i++)
                dense_layer(&d, &p->inner[n][i], "f", i + 1,
                            i + 1 < p->depth ? desc->f[i + 1] : p->H, desc->f[i], 1);
        }
    d.suffix[0] = 0;
    for (int64_t i = 0; i < p->head_layers; i++)
        dense_layer(&d, &p->head[i], "head", i, i + 1 < p->head_layers ? desc->head[i] : p->O,
                    i ? desc->head[i - 1] : p->R * p->directions, i ? 1 : p->directions);
    return d.count;
}

/* Why a description is refused, for the caller: at most `size` bytes of text. */
typedef struct {
    char *text;
    size_t size;
} reason;
static bptt_status refuse(const reason *why, const char *format, ...) {
    va_list values;
    va_start(values, format);
    if (why->size) vsnprintf(why->text, why->size, format, values);
    va_end(values);
    return BPTT_BAD_DESC;
}
/* The place of a name in a list, -1 and the reason where it is not there. */
static int choose(const reason *why, const char *field, const char *name, name_of list) {
    const int place = find(name, list);
    if (place >= 0 || !why->size) return place;
    size_t used = (size_t)snprintf(why->text, why->size, "%s: expected ", field);
    for (int i = 0; list(i) && used < why->size; i++)
        used +=
            (size_t)snprintf(why->text + used, why->size - used, "%s'%s'", i ? ", " : "", list(i));
    if (used < why->size) snprintf(why->text + used, why->size - used, ", got '%.40s'", name);
    return -1;
}
/* The bounds of desc.def, and that what follows the end of a list is zero. */
static bptt_status check_fields(const bptt_desc *d, const reason *why) {
    for (const bptt_field *f = bptt_desc_fields; f->name; f++) {
        if (f->kind == BPTT_TEXT || f->kind == BPTT_KEY || f->kind == BPTT_FLAG) continue;
        int ended = 0;
        for (int i = 0; i < (f->items ? f->items : 1); i++) {
            const double value = bptt_get_number(d, f, i);
            if (!(value >= f->low && value <= f->high))
                return refuse(why, "%s: expected %.15g to %.15g, got %.15g", f->name, f->low,
                              f->high, value);
            if (f->items && f->kind == BPTT_INTEGER && ended && value > 0)
                return refuse(why, "%s: expected no width after a 0, got %.15g", f->name, value);
            ended |= value == 0;
        }
        if (f->items && f->kind == BPTT_INTEGER && !ended)
            return refuse(why, "%s: expected at most %d widths", f->name, f->items - 1);
    }
    return BPTT_OK;
}
static int64_t length_of(const int64_t *widths) {
    int64_t n = 0;
    while (widths[n]) n++;
    return n;
}

/* The plan of the residuals' backward pass: it begins in dLoss/dh of the top layer, for both
   directions at any step. */
static bptt_desc rows_desc(const bptt_desc *d) {
    bptt_desc rows = *d;
    rows.batch = d->residuals;
    rows.area = 0;
    rows.residuals = 0;
    rows.readout_every_step = d->readout_every_step && d->bidirectional;
    rows.input_gradient = 0;
    return rows;
}
int unfolds_in_parts(const bptt_plan *p) {
    return p->k1 || p->k2 || p->segment || p->checkpoints || p->sampling_probability != 0 || p->stride;
}
/* How training unfolds time.  Only over all steps at once can a layer also run backwards. */
static bptt_status check_unfolding(const bptt_plan *p, const reason *why) {
    const int truncated = p->k1 || p->k2, checkpointed = p->segment || p->checkpoints;
    const int sampled = p->sampling_probability != 0, windows = p->stride != 0;
    if (truncated + checkpointed + sampled + windows > 1)
        return refuse(
            why,
            "update_every, segment, sampling_probability, window_stride: expected at most one "
            "way to unfold time");
    if (p->directions > 1 && (truncated || checkpointed || sampled))
        return refuse(
            why, "bidirectional: expected 0 where training does not unfold over all steps at once");
    if (truncated && !(p->k1 >= 1 && p->k1 <= p->k2))
        return refuse(why,
                      "look_back: expected update_every >= 1 and look_back >= update_every, got "
                      "%lld and %lld",
                      (long long)p->k1, (long long)p->k2);
    if (checkpointed && !p->segment)
        return refuse(why, "segment: expected at least 1 with checkpoints");
    if (sampled && !p->every)
        return refuse(why, "readout_every_step: expected 1 with sampling_probability");
    if (sampled && p->I != p->O)
        return refuse(
            why, "output_size: expected input_size with sampling_probability, got %lld and %lld",
            (long long)p->O, (long long)p->I);
    return BPTT_OK;
}
/* The loss and its parameters, 0 being the default. */
static bptt_status choose_loss(chosen_loss *l, const bptt_desc *d, const reason *why) {
    l->kind = choose(why, "loss", d->loss, loss_name);
    if (l->kind < 0) return BPTT_BAD_DESC;
    const bptt_loss *loss = &losses[l->kind];
    l->classes = loss->targets == BPTT_CLASSES;
    for (int i = 0; i < BPTT_MAX_DEPTH; i++) {
        const bptt_loss_parameter *of = i < BPTT_MAX_LOSS_PARAMETERS ? &loss->parameter[i] : NULL;
        const double given = d->loss_parameter[i], value = given != 0 || !of ? given : of->initial;
        if (!of || !of->name) {
            if (given != 0) return refuse(why, "loss_parameter: %s has only %d", loss->name, i);
            return BPTT_OK;
        }
        if (!(value > of->low && value < of->high) && value != of->initial)
            return refuse(why, "%s(%s): expected above %g and below %g, got %g", loss->name,
                          of->name, of->low, of->high, value);
        l->parameter[i] = value;
    }
    return BPTT_OK;
}

/* The rules that are about more than one field. */
static bptt_status check_sizes(const bptt_plan *p, const bptt_desc *d, const reason *why) {
    if (p->depth && !p->cell->hidden_layers)
        return refuse(why, "f: expected no hidden layers with cell %s", p->cell->name);
    if (d->proj_size && !p->cell->projection)
        return refuse(why, "proj_size: expected 0 with cell %s", p->cell->name);
    if (d->proj_size > d->hidden_size)
        return refuse(why, "proj_size: expected at most hidden_size, got %lld and %lld",
                      (long long)d->proj_size, (long long)d->hidden_size);
    if (d->head[0] && !d->output_size)
        return refuse(why, "output_size: expected at least 1 with hidden layers of g");
    if (d->dropout >= 1) return refuse(why, "dropout: expected less than 1, got %g", d->dropout);
    if (d->recurrent_dropout >= 1)
        return refuse(why, "recurrent_dropout: expected less than 1, got %g", d->recurrent_dropout);
    if (d->residuals && unfolds_in_parts(p))
        return refuse(
            why, "residuals: expected 0 where training does not unfold over all steps at once");
    if (d->residuals && p->trained_state)
        return refuse(why, "residuals: expected 0 with initial_state trained");
    if (d->residuals && !p->head_layers)
        return refuse(why, "residuals: expected 0 without outputs");
    if (p->grouped && p->area < p->steps)
        return refuse(why, "area: expected at least steps=%lld, got %lld", (long long)p->steps,
                      (long long)p->area);
    if (p->grouped && (p->k1 || p->segment || p->stride))
        return refuse(why, "area: expected 0 with update_every, segment or window_stride");
    return check_unfolding(p, why);
}

/* Names and numbers of the description into the plan; everything but the arena. */
static bptt_status resolve(bptt_plan *p, const bptt_desc *d, bptt_block *out, int64_t max,
                           int64_t *count, const reason *why) {
    bptt_status status = check_fields(d, why);
    if (status || (status = choose_loss(&p->loss, d, why))) return status;
    const int cell = choose(why, "cell", d->cell, cell_name);
    const int dtype = choose(why, "dtype", d->dtype, dtype_name);
    const int act = choose(why, "head_activation", d->head_activation, act_name);
    const int trained = choose(why, "initial_state", d->initial_state, initial_state_name);
    if (cell < 0 || dtype < 0 || act < 0 || trained < 0) return BPTT_BAD_DESC;
    if (!(p->k = find_kernels(d->isa, dtype, &p->isa))) {
        refuse(why, "isa: '%.40s' is not in this build or not of this processor", d->isa);
        return BPTT_UNSUPPORTED;
    }
    p->cell = p->k->cell[cell];
    p->two_products = p->cell->two_products;
    p->layers = d->num_layers ? d->num_layers : 1;
    p->directions = d->bidirectional ? 2 : 1;
    p->depth = length_of(d->f);
    p->head_layers = d->output_size ? length_of(d->head) + 1 : 0;
    p->I = d->input_size;
    p->H = d->hidden_size;
    p->O = d->output_size;
    p->R = d->proj_size ? d->proj_size : p->H;
    p->batch = d->batch ? d->batch : 1;
    p->steps = d->steps ? d->steps : 1;
    p->every = d->readout_every_step != 0;
    p->input_gradient = d->input_gradient || d->sampling_probability > 0;
    p->trained_state = trained;
    p->k1 = d->update_every;
    p->k2 = d->look_back;
    p->segment = d->segment;
    p->checkpoints = d->checkpoints;
    p->sampling_probability = d->sampling_probability;
    p->stride = d->window_stride;
    p->grouped = d->area > 0 && d->area < times(p->batch, p->steps);
    p->area = p->grouped ? d->area : HUGE_SIZE;
    p->dropout = d->dropout;
    p->recurrent_dropout = d->recurrent_dropout;
    p->seed = d->seed;
    if (!p->head_layers) p->O = p->R * p->directions, p->every = 1;
    if ((status = check_sizes(p, d, why))) return status;
    int activation[BPTT_MAX_DEPTH];
    for (int64_t i = 0; i <= p->depth; i++)
        if ((activation[i] = choose(why, "activation", d->activation[i], act_name)) < 0)
            return BPTT_BAD_DESC;
    *count = declare(p, d, out, max);
    if (d->residuals) {
        const bptt_desc rows = rows_desc(d);
        p->residuals = d->residuals;
        p->gram_width = padded(p, plus(p->flat_size, 1)),
        p->tangent_width = padded(p, p->head[0].w.flat);
        if (!(p->rows_bytes = bptt_bytes(&rows))) return BPTT_TOO_LARGE;
        p->tangents =
            p->cell->tangent && p->layers * p->directions == 1 && !d->proj_size && p->every;
    }
    p->state_size = p->layers * p->directions * (p->R + (p->cell->states - 1) * p->H);
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        frame *f = &p->layer[n];
        f->H = p->H, f->R = p->R, f->gates = p->cell->gates, f->states = p->cell->states,
        f->saved_count = p->cell->saved;
        f->act = activation[0], f->reverse = (int)(n % p->directions);
        f->depth = p->two_products ? 2 : p->depth, f->inner = p->inner[n];
        for (int64_t i = 0; i < p->depth; i++) p->inner[n][i].act = activation[i + 1];
    }
    for (int64_t i = 0; i < p->head_layers; i++)
        p->head[i].act = i + 1 < p->head_layers ? act : ACT_LINEAR;
    return BPTT_OK;
}

/* The one walk over the arena.  With base NULL it only counts; with `out` it names the pieces. */
typedef struct {
    char *base;
    int64_t at;
    bptt_block *out;
    int64_t max, count;
} cursor;
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
static field take_field(cursor *c, const bptt_plan *p, int64_t T, int64_t B, int64_t blocks,
                        const char *name, int64_t number) {
    const int64_t row = p->k->lanes, block = times(B, row), step = times(blocks, block);
    return (field){ take(c, times(times(T, step), p->k->bytes), name, number), step, block, row };
}
static void take_transposed(cursor *c, const bptt_plan *p, matrix *m, const char *name,
                        int64_t number) {
    const int64_t columns = times(m->column_groups, padded(p, m->K));
    m->transposed = take(c, times(times(columns, m->gates * m->units), p->k->bytes), name, number);
}
static int64_t width_of(const dense *l) { return l->w.units; }

static int64_t parts_of(int64_t whole, int64_t part) { return (whole - 1) / part + 1; }

/* Truncated with k1 < k2: the last k2 - k1 steps are needed again, and move to the front only when
   the tape is full. */
int64_t tape_steps(const bptt_plan *p, int64_t T) {
    if (p->segment) return min64(T, p->segment);
    if (p->k1)
        return min64(T, p->k1 == p->k2 ? p->k1 : plus(p->k2, times(parts_of(p->k2, p->k1), p->k1)));
    return T;
}
int64_t series_rows(const bptt_plan *p, int64_t B, int64_t T) { return B + (T - 1) / p->stride; }
static int64_t stored_states(const bptt_plan *p) {
    const int64_t segments = parts_of(p->steps, p->segment);
    return p->checkpoints ? min64(p->checkpoints, segments) : segments;
}

/* Pieces that depend on the network alone, then those that depend on the batch. */
static void walk_fixed(bptt_plan *p, cursor *c) {
    const int64_t real = p->k->bytes;
    take(c, sizeof *p, "plan", -1);
    p->packed = take(c, times(p->packed_size, real), "work", -1);
    p->grad = take(c, times(p->packed_size, real), "grad", -1);
    p->slots = take(c, times(times(MAX_SLOTS, p->packed_size), real), "slots", -1);
    p->norms = take(c, times(norm_slices(p), sizeof *p->norms), "norms", -1);
    p->row_loss = take(c, times(p->batch, sizeof *p->row_loss), "row_loss", -1);
    p->row = take(c, times(p->batch, sizeof *p->row), "row", -1);
    p->batch_sizes = take(c, times(tape_steps(p, p->steps) + 1, sizeof *p->batch_sizes), "batch_sizes", -1);
    if (p->stride) {
        p->series_row =
            take(c, times(plus(p->batch, p->steps), sizeof *p->series_row), "series_row", -1);
        p->series_offset =
            take(c, times(plus(p->batch, p->steps), sizeof *p->series_offset), "series_offset", -1);
        p->series_batch_sizes = take(c, times(p->steps, sizeof *p->series_batch_sizes), "series_batch_sizes", -1);
    }
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        if (p->layer[n].hh.size) take_transposed(c, p, &p->layer[n].hh, "hh_turned", n);
        if (p->layer[n].hr.size) take_transposed(c, p, &p->layer[n].hr, "hr_turned", n);
        if (n >= p->directions || p->input_gradient)
            take_transposed(c, p, &p->layer[n].ih, "ih_turned", n);
        for (int64_t i = 0; i < p->layer[n].depth; i++)
            take_transposed(c, p, &p->inner[n][i].w, "f_turned", n * p->layer[n].depth + i);
        p->layer[n].packed = p->packed;
    }
    for (int64_t i = 0; i < p->head_layers; i++) take_transposed(c, p, &p->head[i].w, "head_turned", i);
    if (p->residuals) {
        p->jacobian = take(c, times(times(p->residuals, p->gram_width), real), "jacobian", -1);
        p->gram = take(c, times(times(p->gram_width, p->gram_width), real), "gram", -1);
        p->residual = take(c, times(p->residuals, sizeof *p->residual), "residual", -1);
        p->rows = take(c, (int64_t)p->rows_bytes, "rows", -1);
    }
    if (p->tangents) {
        const int64_t states = times(p->cell->states, padded(p, p->H));
        for (int i = 0; i < 2; i++)
            p->tangent[i] = take(c, times(times(states, p->tangent_width), real), "tangent", i);
        p->transition = take(c, times(times(p->H, states), real), "transition", -1);
    }
}
static void walk_batch(bptt_plan *p, cursor *c, int64_t B, int64_t T) {
    const int64_t Hb = blocks_of(p, p->H), Rb = blocks_of(p, p->R),
                  count = p->layers * p->directions;
    const int64_t rows = p->stride ? series_rows(p, B, T) : 0;
    p->x = take_field(c, p, p->batch == 1 ? T + WINDOW : T, B, blocks_of(p, p->I), "x", -1);
    if (p->shared) p->x.block = rows * p->x.row, p->x.step = blocks_of(p, p->I) * p->x.block;
    if (p->input_gradient) p->dx = take_field(c, p, T, B, blocks_of(p, p->I), "dx", -1);
    for (int64_t n = 0; n < count; n++) {
        frame *f = &p->layer[n];
        const int64_t zb = f->gates * blocks_of(p, f->hh.units);
        f->zx = f->gate_values = f->dzx = take_field(c, p, T, B, zb, "z", n);
        if (p->k1 < p->k2 || p->residuals) f->dzx = take_field(c, p, T, B, zb, "dz", n);
        f->phases = p->shared && n < p->directions ? p->stride : 0;
        if (p->stride && n < p->directions) {
            p->window_zx[n] =
                take_field(c, p, 1, min64(times(p->stride, rows), times(T, B)), zb, "window_zx", n);
            p->window_zx[n].block = rows * p->x.row, p->window_zx[n].step = zb * p->window_zx[n].block;
            if (p->shared) f->zx = p->window_zx[n];
        }
        f->dzr = p->cell->separate_dzr ? take_field(c, p, T, B, zb, "dzr", n) : f->dzx;
        f->s = take_field(c, p, T + 1, B, Rb + (f->states - 1) * Hb, "s", n);
        f->saved = take_field(c, p, T, B, f->saved_count * Hb, "saved", n);
        if (p->purpose == INFER && !p->two_products) f->saved.p = NULL;
        f->ds = take_field(c, p, 1, B, Rb + (f->states - 1) * Hb, "ds", n);
        if (p->segment)
            p->stored[n] =
                take_field(c, p, stored_states(p), B, Rb + (f->states - 1) * Hb, "stored", n);
        f->dy = (field){ 0 };
        if (p->every || n < count - p->directions) f->dy = take_field(c, p, T, B, Rb, "dy", n);
        if (f->hr.size)
            f->m = take_field(c, p, T, B, Hb, "m", n), f->dh = take_field(c, p, T, B, Rb, "dh", n);
        if (p->recurrent_dropout > 0) {
            f->mask = take_field(c, p, 1, B, Rb, "mask", n),
            f->masked = take_field(c, p, T + 1, B, Rb, "masked", n);
            if (p->purpose != TRAIN) f->mask.p = f->masked.p = NULL;
        }
        if (p->dropout > 0 && n < count - p->directions)
            p->dropped[n] = take_field(c, p, T, B, Rb, "dropped", n);
        if (p->two_products) {
            f->dh = take_field(c, p, 1, B, Hb, "dh", n);
            for (int i = 0; i < 2; i++) {
                f->a[i] = take_field(c, p, T, B, (2 - i) * Hb, "a", 2 * n + i);
                f->da[i] = take_field(c, p, T, B, (2 - i) * Hb, "da", 2 * n + i);
            }
        } else
            for (int64_t i = 0; i < p->depth; i++) {
                f->a[i] = take_field(c, p, T, B, blocks_of(p, p->inner[n][i].w.cols), "a",
                                     n * p->depth + i);
                f->da[i] = take_field(c, p, T, B, blocks_of(p, width_of(&p->inner[n][i])), "da",
                                      n * p->depth + i);
            }
    }
    for (int d = 0; d < p->directions; d++) p->last[d] = take_field(c, p, 1, B, Rb, "last", d);
    for (int64_t i = 0; i < p->head_layers; i++) {
        const int64_t blocks = blocks_of(p, width_of(&p->head[i])), steps = p->every ? T : 1;
        p->value[i] = take_field(c, p, steps, B, blocks, "value", i);
        if (i + 1 < p->head_layers) p->head_grad[i] = take_field(c, p, steps, B, blocks, "head_grad", i);
    }
    p->B = B, p->T = p->laid = T;
}
/* At full capacity: no group takes more than batch rows of area / batch steps, as (T + 1) B <= area + B.  Groups may lie one after
   the other (bptt_forward), each piece at a multiple of 64 bytes. */
static void walk_capacity(bptt_plan *p, cursor *c) {
    const int64_t before = c->count;
    p->begin = c->at;
    walk_batch(p, c, p->batch, tape_steps(p, p->grouped ? min64(p->steps, parts_of(p->area, p->batch)) : p->steps));
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

int64_t norm_slices(const bptt_plan *p) { return (p->packed_size + NORM_SLICE - 1) / NORM_SLICE; }

/* Multiply-adds of one batch, forward, backward and gradient: small work does not pay for the
   barriers. */
static int choose_threads(const bptt_plan *p, int64_t wanted) {
    const double area = fmin((double)p->batch * (double)p->steps, (double)p->area);
    const double work = 3.0 * (double)p->packed_size * area, each = 4e5;
    int64_t n = wanted > 1 ? wanted : 1;
    if (n > THREADS_MAX - 1) n = THREADS_MAX - 1;
    const int64_t few = p->batch >= 4 && p->packed_size >= 1 << 17
        ? 2
        : 1; /* two rows a thread pay if a step has many weights */
    if (n > p->batch / 4) n = p->batch / 4 > few ? p->batch / 4 : few;
    if (n > work / each) n = (int64_t)(work / each);
    return n < 1 ? 1 : (int)n;
}

static size_t arena_bytes(bptt_plan *p) {
    cursor c = { 0 };
    walk_fixed(p, &c);
    walk_capacity(p, &c);
    return c.at >= (int64_t)1 << 56 ? 0 : (size_t)c.at;
}
static const reason SILENT = { NULL, 0 }; /* where nobody asks why */

int64_t bptt_blocks(const bptt_desc *desc, bptt_block *out, int64_t max) {
    bptt_plan p = { 0 };
    int64_t count;
    return resolve(&p, desc, out, max, &count, &SILENT) ? -1 : count;
}
int64_t bptt_size(const bptt_desc *desc) {
    bptt_plan p = { 0 };
    int64_t count;
    return resolve(&p, desc, NULL, 0, &count, &SILENT) || p.flat_size >= (int64_t)1 << 56
        ? -1
        : p.flat_size;
}
int64_t bptt_state_size(const bptt_desc *desc) {
    bptt_plan p = { 0 };
    int64_t count;
    return resolve(&p, desc, NULL, 0, &count, &SILENT) ? -1 : p.state_size;
}
size_t bptt_bytes(const bptt_desc *desc) {
    bptt_plan p = { 0 };
    int64_t count;
    return resolve(&p, desc, NULL, 0, &count, &SILENT) ? 0 : arena_bytes(&p);
}
bptt_status bptt_why(const bptt_desc *desc, char *text, size_t size) {
    const reason why = { text, size };
    bptt_plan p = { 0 };
    int64_t count;
    if (size) text[0] = 0;
    bptt_status status = resolve(&p, desc, NULL, 0, &count, &why);
    if (!status && !arena_bytes(&p)) status = BPTT_TOO_LARGE;
    if (size && !text[0] && status) snprintf(text, size, "%s", bptt_message(status));
    return status;
}
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
int64_t bptt_views(const bptt_plan *plan, bptt_block *out, int64_t max) {
    bptt_plan p = *plan;
    cursor c = { .base = p.arena, .out = out, .max = max };
    walk_fixed(&p, &c);
    p.shared = 0;
    walk_capacity(&p, &c);
    return c.count;
}
const char *bptt_isa(const bptt_plan *p) { return p->isa; }
int bptt_threads(const bptt_plan *p) { return p->threads; }

int bptt_apply(const char *function, const char *dtype, const char *isa, const void *x, void *y,
               int64_t n) {
    const char *chosen;
    const int f = find(function, function_name), d = find(dtype, dtype_name);
    const kernels *k = f < 0 || d < 0 ? NULL : find_kernels(isa, d, &chosen);
    if (k) k->apply(f, x, y, n);
    return k != NULL;
}
