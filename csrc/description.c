/* description.c: the rules of a description, and the plan's numbers that follow from it.  A rule
   that does not hold is reported with the name of the field. */
#include "plan.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* -- the reason of a refusal -- */

/* Writes the reason, if why->size > 0.  Returns BPTT_BAD_DESC. */
static bptt_status refuse(const reason *why, const char *format, ...) {
    va_list values;
    va_start(values, format);
    if (why->size) vsnprintf(why->text, why->size, format, values);
    va_end(values);
    return BPTT_BAD_DESC;
}

/* The place of a name in a list; -1 and the reason if it is not there. */
static int choose(const reason *why, const char *field, const char *name, name_of list) {
    const int place = find(name, list);
    if (place >= 0 || !why->size) return place;
    size_t used = (size_t)snprintf(why->text, why->size, "%s: expected ", field);
    for (int i = 0; list(i) && used < why->size; i++) {
        char *end = why->text + used;
        used += (size_t)snprintf(end, why->size - used, "%s'%s'", i ? ", " : "", list(i));
    }
    if (used < why->size) snprintf(why->text + used, why->size - used, ", got '%.40s'", name);
    return -1;
}

/* -- rules -- */

/* The bounds of desc.def, and that what follows the end of a list is zero. */
static bptt_status check_fields(const bptt_desc *d, const reason *why) {
    for (const bptt_field *f = bptt_desc_fields; f->name; f++) {
        if (f->kind != BPTT_INTEGER && f->kind != BPTT_REAL) continue;
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

/* The number of widths before the 0 that ends a list. */
static int64_t length_of(const int64_t *widths) {
    int64_t n = 0;
    while (widths[n]) n++;
    return n;
}

/* Description of the inner plan that takes residuals backward.  Its backward pass begins in
   dLoss/dh of the top layer: with both directions at any step, else at the last one. */
bptt_desc rows_desc(const bptt_desc *d) {
    bptt_desc rows = *d;
    rows.batch = d->residuals;
    rows.area = 0;
    rows.residuals = 0;
    rows.rules = 0;
    rows.lanes = "units";
    rows.readout_every_step = d->readout_every_step && d->bidirectional;
    rows.input_gradient = 0;
    return rows;
}

/* 1: training does not simply unfold over all steps of a batch at once. */
int unfolds_in_parts(const bptt_plan *p) {
    return p->k1 || p->k2 || p->segment || p->checkpoints || p->stride ||
        p->sampling_probability != 0;
}

/* How training unfolds time.  A reverse direction needs all steps at once. */
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
    if (sampled && p->choices)
        return refuse(why, "categories: expected none with sampling_probability");
    if (sampled && p->loss.outputs > 1)
        return refuse(why, "loss: expected one of one output per target with sampling_probability");
    if (sampled && p->I != p->O)
        return refuse(
            why, "output_size: expected input_size with sampling_probability, got %lld and %lld",
            (long long)p->O, (long long)p->I);
    return BPTT_OK;
}

/* The loss and its parameters; 0 means the default. */
static bptt_status choose_loss(chosen_loss *l, const bptt_desc *d, const reason *why) {
    l->kind = choose(why, "loss", d->loss, loss_name);
    if (l->kind < 0) return BPTT_BAD_DESC;
    bptt_loss loss;
    bptt_describe_loss(l->kind, &loss);
    const int is_list = loss.outputs == 0, rows = BPTT_MAX_LOSS_PARAMETERS;
    l->classes = loss.targets == BPTT_CLASSES;
    l->outputs = loss.outputs;
    for (int i = 0; i < BPTT_MAX_LOSS_VALUES; i++) {
        const bptt_loss_parameter *of = is_list ? loss.parameter
            : i < rows                          ? &loss.parameter[i]
                                                : NULL;
        const double given = d->loss_parameter[i];
        if (is_list && i > 0 && given == 0) return BPTT_OK;
        if (!of || !of->name) {
            if (given != 0) return refuse(why, "loss_parameter: %s has only %d", loss.name, i);
            return BPTT_OK;
        }
        const double value = given != 0 ? given : of->initial;
        if (!(value > of->low && value < of->high) && value != of->initial)
            return refuse(why, "%s(%s): expected above %g and below %g, got %g", loss.name,
                          of->name, of->low, of->high, value);
        l->parameter[i] = value;
        if (is_list) l->outputs = i + 1;
    }
    return BPTT_OK;
}

/* The rules that are about more than one field, and what the cell allows.  Reads the numbers that
   resolve_numbers set; the first rule that does not hold is reported. */
static bptt_status check_sizes(const bptt_plan *p, const bptt_desc *d, const reason *why) {
    if (p->depth && !p->cell->hidden_layers)
        return refuse(why, "f: expected no hidden layers with cell %s", p->cell->name);
    if (p->choices > p->I)
        return refuse(why, "categories: expected at most input_size=%lld, got %lld",
                      (long long)p->I, (long long)p->choices);
    if (length_of(d->embeddings) > p->choices)
        return refuse(why, "embeddings: expected at most one for each of %lld categories, got %lld",
                      (long long)p->choices, (long long)length_of(d->embeddings));
    if (d->proj_size && !p->cell->projection)
        return refuse(why, "proj_size: expected 0 with cell %s", p->cell->name);
    if (d->recurrent_dropout > 0 && !p->cell->recurrent)
        return refuse(why,
                      "recurrent_dropout: expected 0 with cell %s, which has no recurrent product",
                      p->cell->name);
    if (d->recurrent_noise > 0 && !p->cell->leak)
        return refuse(why, "recurrent_noise: expected 0 with cell %s", p->cell->name);
    if (d->alpha && !p->cell->leak)
        return refuse(why, "alpha: expected none with cell %s", p->cell->name);
    if (d->train_tau && !p->cell->leak)
        return refuse(why, "train_tau: expected 0 with cell %s", p->cell->name);
    if (d->train_tau && d->alpha)
        return refuse(why, "alpha: expected none with train_tau, which has it as a parameter");
    for (int64_t i = 0; d->alpha && i < p->H; i++)
        if (!(d->alpha[i] > 0 && d->alpha[i] <= 1))
            return refuse(why, "alpha: expected above 0 and at most 1, got %g for unit %lld",
                          d->alpha[i], (long long)i);
    if (d->proj_size > d->hidden_size)
        return refuse(why, "proj_size: expected at most hidden_size, got %lld and %lld",
                      (long long)d->proj_size, (long long)d->hidden_size);
    if (d->head[0] && !d->output_size)
        return refuse(why, "output_size: expected at least 1 with hidden layers of g");
    if (d->skip && !d->output_size)
        return refuse(why, "output_size: expected at least 1 with skip");
    if (d->output_size % p->loss.outputs)
        return refuse(
            why,
            "output_size: expected a multiple of %d, the outputs of each target with %s, got %lld",
            p->loss.outputs, loss_name(p->loss.kind), (long long)d->output_size);
    if (d->dropout >= 1) return refuse(why, "dropout: expected less than 1, got %g", d->dropout);
    if (d->recurrent_dropout >= 1)
        return refuse(why, "recurrent_dropout: expected less than 1, got %g", d->recurrent_dropout);
    if (d->residuals && unfolds_in_parts(p))
        return refuse(
            why, "residuals: expected 0 where training does not unfold over all steps at once");
    if (d->residuals && p->trained_state)
        return refuse(why, "residuals: expected 0 with initial_state trained");
    if (d->residuals && d->rate_penalty > 0)
        return refuse(why, "residuals: expected 0 with rate_penalty");
    if (!(isfinite(d->rate_penalty) && isfinite(d->rate_target)))
        return refuse(why, "rate_penalty, rate_target: expected finite numbers, got %g and %g",
                      d->rate_penalty, d->rate_target);
    if (d->residuals && !p->head_layers)
        return refuse(why, "residuals: expected 0 without outputs");
    if (p->grouped && p->area < p->steps)
        return refuse(why, "area: expected at least steps=%lld, got %lld", (long long)p->steps,
                      (long long)p->area);
    if (p->grouped && (p->k1 || p->segment || p->stride))
        return refuse(why, "area: expected 0 with update_every, segment or window_stride");
    return check_unfolding(p, why);
}

/* -- from the description to the plan -- */

/* The kernels of the cell in an instance; NULL and the reason: it has none. */
static const cell_kernels *find_cell(const bptt_desc *d, const kernels *k, const reason *why) {
    const bptt_own_cell *own = d->own_cell;
    if (!own) return k->cell[find(d->cell, cell_name)];
    if (own->interface != BPTT_INTERFACE) {
        refuse(why, "own_cell: expected one compiled from the headers of this library");
        return NULL;
    }
    for (const own_instance *at = own->instance; at->instance; at++)
        if (!strcmp(at->instance, k->name)) return *at->cell;
    refuse(why, "own_cell: expected one compiled for %s", k->name);
    return NULL;
}

/* The best instance of those that an own cell was compiled for; none: no change. */
static void choose_compiled(bptt_plan *p, const bptt_desc *d, int f64) {
    const char *isa;
    for (int i = 0; (isa = bptt_supported_isa(i)); i++) {
        const kernels *k = find_kernels(isa, f64, 0, &isa);
        const cell_kernels *cell = find_cell(d, k, &SILENT);
        if (!cell) continue;
        p->k = k;
        p->cell = cell;
        p->isa = isa;
    }
}

/* The names: loss, cell, dtype, instance and activations. */
static bptt_status resolve_names(bptt_plan *p, const bptt_desc *d, const reason *why) {
    const bptt_status status = choose_loss(&p->loss, d, why);
    if (status) return status;
    const int cell = d->own_cell ? 0 : choose(why, "cell", d->cell, cell_name);
    const int dtype = choose(why, "dtype", d->dtype, dtype_name);
    const int act = choose(why, "head_activation", d->head_activation, bptt_activation);
    const int trained = choose(why, "initial_state", d->initial_state, initial_state_name);
    p->noise = choose(why, "noise", d->noise, noise_name);
    if (cell < 0 || dtype < 0 || act < 0 || trained < 0 || p->noise < 0) return BPTT_BAD_DESC;
    p->k = find_kernels(d->isa, dtype, 0, &p->isa);
    if (!p->k) {
        refuse(why, "isa: '%.40s' is not in this build or not of this processor", d->isa);
        return BPTT_UNSUPPORTED;
    }
    p->cell = find_cell(d, p->k, why);
    if (!p->cell && !d->isa) choose_compiled(p, d, dtype);
    if (!p->cell) return BPTT_UNSUPPORTED;
    p->two_products = p->cell->two_products;
    p->trained_state = trained;
    p->head_layers = d->output_size ? length_of(d->head) + 1 : 0;
    for (int64_t i = 0; i < p->head_layers; i++)
        p->head[i].act = i + 1 < p->head_layers ? act : ACT_LINEAR;
    return BPTT_OK;
}

/* The numbers; 0 means the default.  After the names: sizes depend on the cell. */
static void resolve_numbers(bptt_plan *p, const bptt_desc *d) {
    p->layers = d->num_layers ? d->num_layers : 1;
    p->directions = d->bidirectional ? 2 : 1;
    p->skip = d->skip;
    p->readers = p->directions + p->skip;
    p->depth = length_of(d->f);
    p->I = d->input_size;
    p->choices = length_of(d->categories);
    p->encoded = p->I - p->choices;
    for (int64_t q = 0; q < p->choices; q++) {
        const int64_t width = max64(d->embeddings[q], 0), values = d->categories[q];
        p->lookup[0][q] = (lookup){ .values = values, .width = width, .first = p->encoded };
        p->encoded = plus(p->encoded, width ? width : values);
        p->embeds |= width > 0;
    }
    p->H = d->hidden_size;
    p->R = d->proj_size ? d->proj_size : p->H;
    p->O = p->head_layers ? d->output_size : p->R * p->directions;
    p->every = d->readout_every_step || !p->head_layers;
    p->batch = d->batch ? d->batch : 1;
    p->steps = d->steps ? d->steps : 1;
    p->grouped = d->area > 0 && d->area < times(p->batch, p->steps);
    p->area = p->grouped ? d->area : HUGE_SIZE;
    p->input_gradient = d->input_gradient || d->sampling_probability > 0;
    p->k1 = d->update_every;
    p->k2 = d->look_back;
    p->segment = d->segment;
    p->checkpoints = d->checkpoints;
    p->sampling_probability = d->sampling_probability;
    p->stride = d->input_noise > 0 || d->skip ? 0 : d->window_stride;
    p->dropout = d->dropout;
    p->recurrent_dropout = d->recurrent_dropout;
    p->recurrent_noise = d->recurrent_noise;
    p->input_noise = d->input_noise;
    p->trained_tau = (int)d->train_tau;
    p->rate_penalty = d->rate_penalty;
    p->rate_target = d->rate_target;
    p->seed = d->seed;
    p->may_have_rules = d->rules;
    const int64_t kinds = p->cell->states - p->cell->follows; /* for the caller */
    p->state_size = p->layers * p->directions * (p->R + (kinds - 1) * p->H);
}

/* Description of one of the copies, fitted by itself. */
bptt_desc single_desc(const bptt_desc *d) {
    bptt_desc single = *d;
    single.lanes = "units";
    if (d->single_isa) single.isa = d->single_isa;
    return single;
}

/* Whether the rows of an instance can be copies: the cell must have kernels of a whole pattern
   (pattern.h), a single copy a norm of one slice (NORM_SLICE), and where its vectors are others the
   sums over its outputs, of a loss of classes, must fit into one of them.  Then the sizes that
   follow. */
static int resolve_copies(bptt_plan *p, const bptt_desc *d, const kernels *k,
                          const cell_kernels *cell) {
    const bptt_desc desc = single_desc(d);
    bptt_plan single = { 0 };
    int64_t count;
    if (p->layers * p->directions != 1 || p->head_layers != 1 || d->proj_size || p->every ||
        p->skip || p->trained_state || p->batch > 1 || !cell->gradient_of_pattern ||
        resolve(&single, &desc, NULL, 0, &count, &SILENT) || single.packed_size > NORM_SLICE ||
        !find_kernels(single.isa, single.k->bytes == 8, 1, &single.isa) ||
        (single.k->lanes != k->rows && p->loss.classes && p->O > single.k->lanes))
        return 0;
    p->norm_size = single.packed_size;
    p->norm_lanes = single.k->lanes;
    p->batch = k->rows;
    return 1;
}

/* 1: vectors of rows are faster, by the sizes alone, so that results do not depend on the number of
   threads.  In vectors per step, of all layers of f and g but the last: a row of units takes whole
   ones; the caller's targets, which lie by columns, cost a vector per 64 of them.  Both were
   measured; where the gain would be less than two sevenths, or with more than 24 units, it is not
   sure. */
static int rows_are_faster(const bptt_plan *p, const bptt_desc *d) {
    const int64_t layers = p->layers * p->directions, head = length_of(d->head);
    int64_t units = times(layers, p->H), blocks = times(layers, blocks_of(p, p->H));
    for (int64_t i = 0; i < p->depth; i++) {
        units = plus(units, times(layers, d->f[i]));
        blocks = plus(blocks, times(layers, blocks_of(p, d->f[i])));
    }
    for (int64_t i = 0; p->every && i < head; i++) {
        units = plus(units, d->head[i]);
        blocks = plus(blocks, blocks_of(p, d->head[i]));
    }
    const int64_t by_units = times(p->batch, blocks);
    const int64_t vectors = times(units, (p->batch - 1) / p->k->lanes + 1);
    const int64_t by_rows = plus(vectors, times(p->batch, p->O) / 64);
    return p->H <= 24 && times(9, by_rows) < times(7, by_units);
}

/* The direction of the lanes, and the instance for it.  Second order, groups of a batch, integer
   inputs and the online algorithm are laid out for vectors of units; windows share their inputs only
   there. */
static bptt_status choose_lanes(bptt_plan *p, const bptt_desc *d, const reason *why) {
    enum { UNITS, ROWS, COPIES };
    const int lanes = choose(why, "lanes", d->lanes, lanes_name);
    if (lanes < 0) return BPTT_BAD_DESC;
    const int wanted = d->lanes ? lanes != UNITS : rows_are_faster(p, d);
    const kernels *k = find_kernels(p->isa, p->k->bytes == 8, 1, &p->isa);
    const cell_kernels *cell = k ? find_cell(d, k, &SILENT) : NULL;
    if (!wanted || !cell || d->residuals || p->grouped || p->choices) return BPTT_OK;
    p->copies = lanes == COPIES && resolve_copies(p, d, k, cell);
    if (lanes == COPIES ? !p->copies : p->batch == 1) return BPTT_OK;
    p->k = k;
    p->cell = cell;
    p->stride = 0;
    return BPTT_OK;
}

/* What the layer directions are, without their fields. */
static bptt_status resolve_layers(bptt_plan *p, const bptt_desc *d, const reason *why) {
    int activation[BPTT_MAX_DEPTH];
    for (int64_t i = 0; i <= p->depth; i++) {
        activation[i] = choose(why, "activation", d->activation[i], bptt_activation);
        if (activation[i] < 0) return BPTT_BAD_DESC;
    }
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        frame *f = &p->layer[n];
        f->H = p->H;
        f->R = p->R;
        f->gates = p->cell->gates;
        f->states = p->cell->states;
        f->follows = p->cell->follows;
        f->saved_count = p->cell->saved;
        f->act = activation[0];
        f->reverse = (int)(n % p->directions);
        f->depth = p->two_products ? 2 : p->depth;
        f->inner = p->inner[n];
        for (int64_t i = 0; i < p->depth; i++) p->inner[n][i].act = activation[i + 1];
    }
    return BPTT_OK;
}

/* Sizes for second order. */
static bptt_status resolve_residuals(bptt_plan *p, const bptt_desc *d) {
    const bptt_desc rows = rows_desc(d);
    p->residuals = d->residuals;
    if (!p->residuals) return BPTT_OK;
    p->gram_width = padded(p, plus(p->flat_size, 1));
    p->tangent_width = padded(p, p->head[0].w.flat);
    p->rows_bytes = bptt_bytes(&rows);
    if (!p->rows_bytes) return BPTT_TOO_LARGE;
    p->tangents = p->cell->tangent && p->layers * p->directions == 1 && !d->proj_size && p->every &&
        !p->choices;
    return BPTT_OK;
}

/* Fills a plan of zeros with all that follows from the description: everything but the arena.  The
   parameter blocks go to `out`, the first `max` of *count.  Refuses with the reason. */
bptt_status resolve(bptt_plan *p, const bptt_desc *d, bptt_block *out, int64_t max, int64_t *count,
                    const reason *why) {
    bptt_status status = check_fields(d, why);
    if (!status) status = resolve_names(p, d, why);
    if (status) return status;
    resolve_numbers(p, d);
    status = check_sizes(p, d, why);
    if (!status) status = choose_lanes(p, d, why);
    if (!status) status = resolve_layers(p, d, why);
    if (status) return status;
    *count = declare_blocks(p, d, out, max);
    return resolve_residuals(p, d);
}

/* -- questions that need no plan -- */

/* Each resolves into a plan on the stack, which is far smaller than an arena. */

int64_t bptt_blocks(const bptt_desc *desc, bptt_block *out, int64_t max) {
    bptt_plan p = { 0 };
    int64_t count;
    return resolve(&p, desc, out, max, &count, &SILENT) ? -1 : count;
}

int64_t bptt_size(const bptt_desc *desc) {
    bptt_plan p = { 0 };
    int64_t count;
    /* sizes stop growing at 2^62: from 2^56 on they are no longer exact */
    const int refused = resolve(&p, desc, NULL, 0, &count, &SILENT) != BPTT_OK;
    return refused || p.flat_size >= (int64_t)1 << 56 ? -1 : p.flat_size;
}

int64_t bptt_state_size(const bptt_desc *desc) {
    bptt_plan p = { 0 };
    int64_t count;
    return resolve(&p, desc, NULL, 0, &count, &SILENT) ? -1 : p.state_size;
}

bptt_status bptt_why(const bptt_desc *desc, char *text, size_t size) {
    const reason why = { text, size };
    bptt_plan p = { 0 };
    int64_t count;
    if (size) text[0] = 0;
    bptt_status status = resolve(&p, desc, NULL, 0, &count, &why);
    if (!status && !bptt_bytes(desc)) status = BPTT_TOO_LARGE;
    if (size && !text[0] && status) snprintf(text, size, "%s", bptt_message(status));
    return status;
}
