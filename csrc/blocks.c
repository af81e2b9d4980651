/* blocks.c: the parameter blocks in the order of the flat vector.  One walk gives their names and
   shapes, and where each lies in the caller's flat vector and in the packed working vector. */
#include "plan.h"
#include <stdio.h>

/* The walk; p->flat_size and p->packed_size are where it is. */
typedef struct {
    bptt_plan *p;
    bptt_block *out; /* (max) the caller's, or NULL */
    int64_t max;
    int64_t count; /* of blocks so far */
    char suffix[24]; /* of their names: layer and direction */
} walk;

/* The next multiple of a vector, which updates take at once. */
static int64_t whole_vectors(const bptt_plan *p, int64_t reals) {
    const int64_t vector = p->k->lanes * p->k->rows;
    return times((reals - 1) / vector + 1, vector);
}

/* The next block, a matrix m (gates*units, cols) of `column_groups` column groups; cols 0: a vector. */
static void declare(walk *w, matrix *m, const char *name, int64_t gates, int64_t units,
                    int64_t cols, int64_t column_groups) {
    bptt_plan *p = w->p;
    const int64_t columns = cols ? cols : 1, vectors = times(gates, blocks_of(p, units));
    const int64_t rows = times(gates, units);
    *m = (matrix){
        .gates = gates,
        .units = units,
        .cols = columns,
        .column_groups = column_groups,
        .K = columns / column_groups,
        .last = columns / column_groups,
        .vectors = vectors,
        .width = gates == 1 ? 2 : gates,
        .flat = p->flat_size,
        .packed = p->packed_size,
        .size = times(gates, whole_vectors(p, times(padded(p, units), columns))),
        .block = w->count,
        .first = p->flat_size,
        .column = p->columns,
        .bias = !cols,
    };
    if (w->count < w->max) {
        bptt_block *out = &w->out[w->count];
        *out = (bptt_block){ .rows = rows, .cols = cols, .offset = p->flat_size };
        snprintf(out->name, sizeof out->name, "%s%s", name, w->suffix);
    }
    w->count++;
    p->flat_size = plus(p->flat_size, times(rows, columns));
    p->packed_size = plus(p->packed_size, m->size);
    p->columns = plus(p->columns, columns);
}

/* Weight and bias of dense layer `number` of f or g (out, in). */
static void declare_dense(walk *w, dense *l, const char *part, int64_t number, int64_t out,
                          int64_t in, int64_t column_groups) {
    char name[24];
    snprintf(name, sizeof name, "%s.%d.weight", part, (int)number);
    declare(w, &l->w, name, 1, out, in, column_groups);
    snprintf(name, sizeof name, "%s.%d.bias", part, (int)number);
    declare(w, &l->b, name, 1, out, 0, 1);
}

/* Splits one block of three gates into two matrices: the first two gates, and the third.  The whole
   is then no matrix of its own. */
static void split_rows(matrix *whole, matrix *two, matrix *one) {
    const int64_t gate_size = whole->size / 3, gate_vectors = whole->vectors / 3;
    *two = *one = *whole;
    two->gates = 2;
    two->width = 2;
    two->vectors = 2 * gate_vectors;
    two->size = 2 * gate_size;
    one->gates = 1;
    one->width = 2;
    one->vectors = gate_vectors;
    one->size = gate_size;
    one->flat += 2 * whole->units * whole->cols;
    one->packed += 2 * gate_size;
    whole->size = 0;
}

/* The embeddings of the inputs: packed as a field (1, values, width). */
static void declare_embeddings(walk *w) {
    bptt_plan *p = w->p;
    for (int64_t q = 0; q < p->choices; q++) {
        const lookup *l = &p->lookup[0][q];
        embedding *e = &p->embedding[q];
        char name[40];
        if (!l->width) continue;
        snprintf(name, sizeof name, "embedding.%lld.weight", (long long)(p->I - p->choices + q));
        declare(w, &e->weight, name, l->values, l->width, 0, 1);
        e->weight.bias = 0;
        e->size = e->weight.size;
        e->values = l->values;
        if (w->count > w->max) continue;
        w->out[w->count - 1].rows = l->values;
        w->out[w->count - 1].cols = l->width;
    }
}

/* What the integers choose of W, reader `reader` of the inputs, which has columns `before`
   theirs: the last ones of its last column group. */
static void read_integers(bptt_plan *p, matrix *w, int64_t reader, int64_t before) {
    w->last = p->I - p->choices;
    w->choices = p->choices;
    w->lookup = p->lookup[reader];
    for (int64_t q = 0; q < p->choices; q++) {
        lookup *l = &p->lookup[reader][q];
        *l = p->lookup[0][q];
        l->first = plus(l->first, before);
        l->weight = *w;
        l->weight.column_groups = 1;
        l->weight.K = l->weight.last = l->width;
        l->weight.before = l->first;
        l->weight.choices = 0;
    }
}

/* The blocks of layer direction n. */
static void declare_layer(walk *w, const bptt_desc *desc, int64_t n) {
    bptt_plan *p = w->p;
    frame *f = &p->layer[n];
    const int64_t layer = n / p->directions, gates = p->cell->gates;
    const int64_t in = layer ? p->R * p->directions : p->encoded;
    const int64_t first = p->depth ? desc->f[0] : p->H; /* units of f's first layer */
    const char *direction = n % p->directions ? "_reverse" : "";
    snprintf(w->suffix, sizeof w->suffix, "_l%d%s", (int)layer, direction);
    declare(w, &f->ih, "weight_ih", gates, first, in, layer ? p->directions : 1);
    if (!layer) {
        f->ih.K = p->I - p->choices;
        read_integers(p, &f->ih, n, 0);
    }
    if (p->cell->recurrent)
        declare(w, &f->hh, "weight_hh", gates, first, p->R, 1);
    else if (p->cell->peepholes)
        declare(w, &f->peep, "weight_hh", p->cell->peepholes, p->H, 0, 1);
    declare(w, &f->b_ih, "bias_ih", gates, first, 0, 1);
    if (p->cell->recurrent) declare(w, &f->b_hh, "bias_hh", gates, first, 0, 1);
    if (desc->proj_size) declare(w, &f->hr, "weight_hr", 1, p->R, p->H, 1);
    if (p->cell->recurrent && p->cell->peepholes)
        declare(w, &f->peep, "weight_peephole", p->cell->peepholes, p->H, 0, 1);
    f->peep.bias = 0;
    if (p->trained_tau) declare(w, &f->raw_tau, "raw_tau", 1, p->H, 0, 1);
    for (int q = p->cell->follows; p->trained_state && q < p->cell->states; q++)
        declare(w, &f->initial[q], q > p->cell->follows ? "initial_c" : "initial_h", 1,
                q ? p->H : p->R, 0, 1);
    if (p->two_products) split_rows(&f->hh, &p->inner[n][0].w, &p->inner[n][1].w);
    for (int64_t i = 0; i < p->depth; i++) {
        const int64_t out = i + 1 < p->depth ? desc->f[i + 1] : p->H;
        declare_dense(w, &p->inner[n][i], "f", i + 1, out, desc->f[i], 1);
    }
}

/* The input of the step is the last column group of g's first layer. */
static void join_input(bptt_plan *p, matrix *w) {
    w->column_groups = p->directions + 1;
    w->K = p->R;
    read_integers(p, w, p->directions, p->directions * p->R);
}

/* The packed weights that a step multiplies: without embeddings, and without columns of one-hot
   vectors. */
static double multiplied_size(const bptt_plan *p) {
    double size = (double)p->packed_size;
    for (int64_t q = 0; q < p->choices; q++) {
        size -= (double)p->embedding[q].size;
        for (int n = 0; n < p->readers; n++) {
            const lookup *l = &p->lookup[n][q];
            const double columns = (double)(l->width ? l->width : l->values);
            size -= (double)l->weight.vectors * (double)p->k->lanes * columns;
        }
    }
    return size > 1 ? size : 1;
}

/* All blocks into the plan and, the first `max`, into `out`.  Returns their number. */
int64_t declare_blocks(bptt_plan *p, const bptt_desc *desc, bptt_block *out, int64_t max) {
    walk w = { .p = p, .out = out, .max = max };
    p->flat_size = 0;
    p->packed_size = 0;
    p->columns = 0;
    declare_embeddings(&w);
    for (int64_t n = 0; n < p->layers * p->directions; n++) declare_layer(&w, desc, n);
    w.suffix[0] = 0;
    for (int64_t i = 0; i < p->head_layers; i++) {
        const int64_t input = p->skip ? p->encoded : 0;
        const int64_t in = i ? desc->head[i - 1] : plus(p->R * p->directions, input);
        const int64_t width = i + 1 < p->head_layers ? desc->head[i] : p->O;
        declare_dense(&w, &p->head[i], "head", i, width, in, i ? 1 : p->directions);
    }
    if (p->skip) join_input(p, &p->head[0].w);
    p->blocks = w.count;
    p->step_size = multiplied_size(p);
    return w.count;
}
