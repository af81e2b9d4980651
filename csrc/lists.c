/* lists.c: the tables that are made from the .def files, and the names of what a description may
   choose.  Everything here is constant; any thread may call it. */
#include "plan.h"
#include <math.h>
#include <string.h>

/* -- status.def -- */

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

/* -- desc.def and the numbers of optimizers.def: fields of structs by name -- */

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
#define LIST(kind, name, items, low, high, text) ROW(kind, name, items, low, high, text)
#include "desc.def"
#undef FIELD
#undef LIST
    { .name = NULL }
};

enum { GIVEN, CARRIED }; /* role of a number in optimizers.def */
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

/* A table ends with a row without a name. */
const bptt_field *bptt_find_field(const bptt_field *fields, const char *name) {
    for (; fields->name; fields++)
        if (!strcmp(fields->name, name)) return fields;
    return NULL;
}

/* Address of a field's item. */
static void *item_of(const void *in, const bptt_field *f, int item) {
    static const size_t bytes[] = {
        [BPTT_TEXT] = sizeof(const char *),
        [BPTT_INTEGER] = sizeof(int64_t),
        [BPTT_FLAG] = sizeof(int),
        [BPTT_REAL] = sizeof(double),
        [BPTT_KEY] = sizeof(uint64_t),
        [BPTT_REALS] = sizeof(const double *),
        [BPTT_CELL] = sizeof(const bptt_own_cell *),
    };
    return (char *)in + f->offset + (size_t)item * bytes[f->kind];
}

void bptt_set_pointer(void *in, const bptt_field *f, int item, const void *value) {
    memcpy(item_of(in, f, item), &value, sizeof value);
}

void bptt_set_real(void *in, const bptt_field *f, int item, double value) {
    memcpy(item_of(in, f, item), &value, sizeof value);
}

/* Any integer but 0 sets a flag. */
void bptt_set_integer(void *in, const bptt_field *f, int item, int64_t value) {
    const int flag = value != 0;
    if (f->kind == BPTT_FLAG)
        memcpy(item_of(in, f, item), &flag, sizeof flag);
    else
        memcpy(item_of(in, f, item), &value, sizeof value);
}

/* TEXT, REALS and CELL are no numbers: 0. */
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

/* -- names -- */

/* Position of a name in a list: the first for NULL, -1 if it is unknown. */
int find(const char *name, name_of list) {
    if (!name) return 0;
    for (int i = 0; list(i); i++)
        if (!strcmp(name, list(i))) return i;
    return -1;
}

/* -- cells.def -- */

/* Every instance has the same cells. */
const char *cell_name(int i) {
    const cell_kernels *cell = kernels_f64_base.cell[i];
    return cell ? cell->name : NULL;
}

/* What it can do, for the caller. */
static bptt_cell described(const cell_kernels *cell) {
    return (bptt_cell){
        .name = cell->name,
        .gates = cell->gates,
        .states = cell->states - cell->follows,
        .activation = cell->activation,
        .hidden_layers = cell->hidden_layers,
        .projection = cell->projection,
        .peepholes = cell->peepholes,
        .recurrent = cell->recurrent,
        .leak = cell->leak,
        .keep_gate = cell->keep_gate,
    };
}

/* Counts up to row i, as only the end of the list is marked. */
int bptt_describe_cell(int i, bptt_cell *out) {
    if (i < 0) return 0;
    for (int n = 0; n <= i; n++)
        if (!kernels_f64_base.cell[n]) return 0;
    *out = described(kernels_f64_base.cell[i]);
    return 1;
}

/* As described by any of its instances. */
int bptt_describe_own_cell(const bptt_own_cell *own, bptt_cell *out) {
    if (own->interface != BPTT_INTERFACE) return 0;
    *out = described(*own->instance->cell);
    return 1;
}

/* -- losses.def -- */

/* the shape of a loss; NONE: no parameters */
enum { UNCURVED, CURVED, LEAST_SQUARES };
#define NONE \
    { NULL, 0, 0, 0 }
#define EACH_VALUE 0
static const bptt_loss losses[] = {
#define ROW(text, kind, count, shape, ...)     \
    { .name = #text,                           \
      .targets = BPTT_##kind,                  \
      .outputs = count,                        \
      .least_squares = shape == LEAST_SQUARES, \
      .curved = shape != UNCURVED,             \
      .parameter = { __VA_ARGS__ } },
#define LOSS(text, kind, shape, ...) ROW(text, kind, 1, shape, __VA_ARGS__)
#define TARGET_LOSS(text, kind, count, ...) ROW(text, kind, count, UNCURVED, __VA_ARGS__)
#define CLASS_LOSS(text, shape, ...) ROW(text, CLASSES, 1, shape, __VA_ARGS__)
#include "losses.def"
};
#undef ROW

const char *loss_name(int i) { return i < LOSSES ? losses[i].name : NULL; }

int bptt_describe_loss(int i, bptt_loss *out) {
    if (i < 0 || i >= LOSSES) return 0;
    *out = losses[i];
    return 1;
}

/* bptt_curvature's context. */
typedef struct {
    chosen_loss loss;
    int64_t outputs;
    const double *y; /* (outputs) */
    const double *dy; /* (outputs) */
    double *product; /* (outputs) */
} curvature_product;

/* bptt_curvature, on its one thread. */
static void multiply_curvature(void *context, team *team, int rank, int size) {
    const curvature_product *c = context;
    (void)team;
    (void)rank;
    (void)size;
    kernels_f64_base.curvature(&c->loss, c->outputs, c->y, c->dy, c->product);
}

/* On the one instance in every build, in float64: the caller has one row at a time. */
void bptt_curvature(int loss, const double *parameter, int64_t outputs, const double *y,
                    const double *dy, double *product) {
    curvature_product c = { { .kind = loss }, outputs, y, dy, product };
    for (int i = 0; i < BPTT_MAX_LOSS_PARAMETERS && losses[loss].parameter[i].name; i++)
        c.loss.parameter[i] = parameter[i];
    team_run_alone(multiply_curvature, &c);
}

/* -- optimizers.def -- */

static const struct {
    const char *name;
    int vectors; /* of optimiser state, with any hyperparameters */
} optimizers[] = {
#define OPTIMIZER(name, vectors, ...) { #name, vectors },
#include "optimizers.def"
};

const char *bptt_optimizer(int i) { return i >= 0 && i < OPTIMIZERS ? optimizers[i].name : NULL; }

int bptt_state_vectors(const char *name) {
    const int i = find(name, bptt_optimizer);
    return i < 0 ? -1 : optimizers[i].vectors;
}

const char *bptt_activation(int i) {
    static const char *const names[] = {
#define ACTIVATION(id, name) #name,
#include "activations.def"
    };
    return i >= 0 && i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
}

/* -- names that no .def file has: the enums of frame.h, in their order -- */

const char *dtype_name(int i) {
    static const char *const names[] = { "float32", "float64", NULL };
    return names[i];
}

const char *initial_state_name(int i) {
    static const char *const names[] = { "zeros", "trained", NULL };
    return names[i];
}

const char *noise_name(int i) {
    static const char *const names[] = { "sde", "step", "scaled", NULL };
    return names[i];
}

const char *lanes_name(int i) {
    static const char *const names[] = { "units", "rows", "copies", NULL };
    return names[i];
}
