/* embeddings.c: inputs that are looked up as rows of a parameter E (values, width), which W reads: columns
   of the input weights of a direction or, with `skip`, of g.  The products P = E W' of the values in
   use are in a table of each W, from which forward takes a row per step; backward adds dz to the rows
   of dP, and then  dE = the sum of dP W over the tables,  dW = dP' E.  The values in use are those of
   the present group, so that this is less work than a product per step, however many values there
   are.  No arithmetic on data. */
#include "run.h"

/* -- the values in use: by one thread, before a barrier -- */

static void use_none(embedding *e) {
    for (int64_t i = 0; i < e->count; i++) e->slot[e->value[i]] = -1;
    e->count = 0;
}

static void use(embedding *e, int64_t value) {
    if (e->slot[value] >= 0) return;
    e->slot[value] = e->count;
    e->value[e->count++] = value;
}

/* All of them, where the inputs to come are not known. */
void use_all_values(bptt_plan *p) {
    for (int64_t q = 0; p->embeds && q < p->choices; q++) {
        embedding *e = &p->embedding[q];
        use_none(e);
        for (int64_t value = 0; e->size && value < e->values; value++) use(e, value);
    }
}

/* Those of `steps` steps of a row of inputs, in addition; as chosen_value (gemm.h) reads them. */
static void use_row(bptt_plan *p, const field *x, int64_t row, int64_t steps) {
    const int64_t lanes = p->k->lanes;
    for (int64_t t = 0; t < steps; t++)
        for (int64_t q = 0; q < p->choices; q++) {
            embedding *e = &p->embedding[q];
            const int64_t c = p->I - p->choices + q;
            const int64_t reals = t * x->step + c / lanes * x->block + row * x->row + c % lanes;
            const void *at = real_at(p, x->p, reals);
            if (!e->size) continue;
            const double value = p->k->bytes == 8 ? *(const double *)at : *(const float *)at;
            use(e, value >= 0 && value < (double)e->values ? (int64_t)value : 0);
        }
}

/* Those of one row alone. */
void use_values(bptt_plan *p, const field *x, int64_t row, int64_t steps) {
    if (!p->embeds) return;
    for (int64_t q = 0; q < p->choices; q++) use_none(&p->embedding[q]);
    use_row(p, x, row, steps);
}

/* Those of the present group. */
void use_values_of_group(run *r) {
    bptt_plan *p = r->p;
    const source *s = &r->batch.source;
    if (!p->embeds) return;
    for (int64_t q = 0; q < p->choices; q++) use_none(&p->embedding[q]);
    for (int64_t b = 0; b < r->batch.rows; b++) {
        const int64_t i = s->row[b], at_once = s->start ? 1 : s->length[i];
        for (int64_t t = 0; t < s->length[i]; t += at_once) {
            const int64_t first = s->offset[i] + (s->start ? s->start[t] : 0);
            void *const values = real_at(p, s->values, first * p->I);
            const field x = { .p = values, .step = p->I, .block = p->k->lanes };
            use_row(p, &x, 0, at_once);
        }
    }
}

/* -- tables -- */

/* Part `part` of `parts` of the values in use. */
static span share_of(const embedding *e, int64_t part, int64_t parts) {
    return (span){ .t1 = 1,
                   .r0 = share(e->count, part, parts),
                   .r1 = share(e->count, part + 1, parts),
                   .reduction = REDUCE_ROWS };
}

/* Rows between E, or its gradient, and those of the values in use. */
static void move_rows(const bptt_plan *p, const embedding *e, const span *at, const field *all,
                      const field *used, int out) {
    for (int64_t r = at->r0; r < at->r1; r++) {
        field row = *all;
        row.p = real_at(p, all->p, (e->value[r] - r) * all->row);
        p->k->copy_rows(out ? used : &row, 0, out ? &row : used, 0, r, r + 1);
    }
}

/* A part of the tables of the values in use, from complete weights, and zeros for their gradients;
   `first`: for those of the embeddings, too. */
void make_part_of_tables(const bptt_plan *p, int first, int64_t part, int64_t parts) {
    for (int64_t q = 0; p->embeds && q < p->choices; q++) {
        const embedding *e = &p->embedding[q];
        const span at = share_of(e, part, parts);
        if (!e->size) continue;
        move_rows(p, e, &at, &e->rows, &e->used, 0);
        if (first)
            p->k->zero_rows(&e->row_grads, 0, share(e->values, part, parts),
                            share(e->values, part + 1, parts));
        for (int n = 0; n < p->readers; n++) {
            const lookup *l = &p->lookup[n][q];
            p->k->forward(&l->weight, p->packed, NULL, 0, ACT_LINEAR, &e->used, NULL, &l->table,
                          &at);
            p->k->zero_rows(&l->table_grads, 0, at.r0, at.r1);
        }
    }
}

/* A part of the way from complete gradients of the tables to those of embeddings and weights, which
   are added. */
void collect_part_of_tables(const bptt_plan *p, int64_t part, int64_t parts) {
    for (int64_t q = 0; p->embeds && q < p->choices; q++) {
        const embedding *e = &p->embedding[q];
        const span at = share_of(e, part, parts), all = share_of(e, 0, 1);
        if (!e->size) continue;
        move_rows(p, e, &at, &e->row_grads, &e->used_grads, 0);
        for (int n = 0; n < p->readers; n++) {
            const lookup *l = &p->lookup[n][q];
            p->k->collect(&l->weight, 0, &e->used, &l->table_grads, p->grad, 1, &all, part, parts);
            p->k->backward(&l->weight, 0, &l->table_grads, &e->used_grads, 1, ACT_LINEAR, NULL,
                           &at);
        }
        move_rows(p, e, &at, &e->row_grads, &e->used_grads, 1);
    }
}

/* Multiply-adds of the tables, forward. */
static double table_work(const bptt_plan *p) {
    double work = 0;
    for (int64_t q = 0; q < p->choices; q++) {
        const embedding *e = &p->embedding[q];
        double columns = 0;
        if (!e->size) continue;
        for (int n = 0; n < p->readers; n++)
            columns += (double)(p->lookup[n][q].weight.vectors * p->k->lanes);
        work += columns * (double)(e->count * e->weight.units) + move_work(e->size);
    }
    return work;
}

/* Parts of the tables by all threads, between which thread 0 polls; complete where it returns 1.  0: the
   run is over, for all threads alike. */
int make_tables(run *r, int first, team *team, int rank, int size) {
    if (!r->p->embeds) return 1;
    const double work = table_work(r->p) / size;
    const int slices = slices_of(work);
    for (int i = 0; i < slices && !stopped(r); i++) {
        make_part_of_tables(r->p, first, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
    return !is_over_at(r, 3, team, rank);
}
int collect_tables(run *r, team *team, int rank, int size) {
    if (!r->p->embeds) return 1;
    const double work = 2 * table_work(r->p) / size;
    const int slices = slices_of(work);
    for (int i = 0; i < slices && !stopped(r); i++) {
        collect_part_of_tables(r->p, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
    return !is_over_at(r, 3, team, rank);
}
