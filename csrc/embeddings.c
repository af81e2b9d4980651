/* embeddings.c: inputs that are looked up as rows of a parameter E (values, width), which W
   reads: columns of the input weights of a direction or, with `skip`, of g.  The products P = E
   W' of the values in use are in a table of each W, from which forward takes a row per step;
   backward adds dz to the rows of dP, and then  dE = the sum of dP W over the tables,  dW = dP'
   E.  The values in use are those of the present pass, chunk or pattern, so that this is less
   work than a product per step, however many values there are.  No arithmetic on data. */
#include "run.h"

/* -- the values in use: by one thread, before a barrier -- */

void use_no_values(bptt_plan *p) {
    for (int64_t q = 0; q < p->choices; q++) p->embedding[q].count = 0;
}

/* Values of at most so many lookups will be used in addition to those that are, whose rows of
   the tables are made already; `more` 0, or too many: instead of them. */
static void open_values(bptt_plan *p, int more, int64_t lookups) {
    for (int64_t q = 0; q < p->choices; q++) {
        embedding *e = &p->embedding[q];
        const int fits = e->capacity == e->values || e->count + lookups <= e->capacity;
        if (!more || !fits) e->count = 0;
        e->made = e->count;
    }
}

/* A value that is not in use may have the slot of another one. */
static void use(embedding *e, int64_t value) {
    const int64_t slot = e->slot[value];
    if (slot < e->count && e->value[slot] == value) return;
    e->slot[value] = e->count;
    e->value[e->count++] = value;
}

/* Those of `steps` steps of a row of inputs; as chosen_value (gemm.h) reads them. */
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
    open_values(p, 0, steps);
    use_row(p, x, row, steps);
}

/* Those of the rows and steps of the span in the caller's arrays. */
static void use_values_of_rows(run *r, int more, const span *at) {
    enum { AT_ONCE = 4096 }; /* steps between two polls */
    bptt_plan *p = r->p;
    const source *s = &r->batch.source;
    open_values(p, more, times(at->r1 - at->r0, at->t1 - at->t0));
    for (int64_t b = at->r0; b < at->r1; b++) {
        const int64_t i = s->row[b], end = min64(s->length[i], at->t1);
        for (int64_t t = at->t0, count; t < end && !stopped(r); t += count) {
            count = s->start ? 1 : min64(AT_ONCE, end - t);
            const int64_t first = s->offset[i] + (s->start ? s->start[t] : t);
            void *const values = real_at(p, s->values, first * p->I);
            const field x = { .p = values, .step = p->I, .block = p->k->lanes };
            use_row(p, &x, 0, count);
            poll_caller(r, move_work(count * p->choices));
        }
    }
}

/* -- tables -- */

/* Part `part` of `parts` of the values in use from number `first` on. */
static span share_of(const embedding *e, int64_t first, int64_t part, int64_t parts) {
    return (span){ .t1 = 1,
                   .r0 = first + share(e->count - first, part, parts),
                   .r1 = first + share(e->count - first, part + 1, parts),
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

/* A part of the tables of the values in use that are not made, from complete weights. */
void make_part_of_tables(const bptt_plan *p, int tables, int64_t part, int64_t parts) {
    for (int64_t q = 0; p->embeds && q < p->choices; q++) {
        const embedding *e = &p->embedding[q];
        const span at = share_of(e, e->made, part, parts);
        if (!e->size) continue;
        move_rows(p, e, &at, &e->rows, &e->used, 0);
        if (tables == NEW_GRADS)
            p->k->zero_rows(&e->row_grads, 0, share(e->values, part, parts),
                            share(e->values, part + 1, parts));
        for (int n = 0; n < p->readers; n++) {
            const lookup *l = &p->lookup[n][q];
            p->k->forward(&l->weight, p->packed, NULL, 0, ACT_LINEAR, &e->used, NULL, &l->table,
                          &at);
            if (tables != MORE_TABLES) p->k->zero_rows(&l->table_grads, 0, at.r0, at.r1);
        }
    }
}

/* For a stream: the rows [r0, r1) of its inputs. */
void make_tables_of_step(bptt_plan *p, int64_t r0, int64_t r1) {
    if (!p->embeds) return;
    open_values(p, 1, r1 - r0);
    for (int64_t b = r0; b < r1; b++) use_row(p, &p->x, b, 1);
    make_part_of_tables(p, MORE_TABLES, 0, 1);
}

/* A part of the gradients of embeddings and weights, which are added, from complete ones of the
   tables. */
void collect_part_of_tables(const bptt_plan *p, int64_t part, int64_t parts) {
    for (int64_t q = 0; p->embeds && q < p->choices; q++) {
        const embedding *e = &p->embedding[q];
        const span at = share_of(e, 0, part, parts), all = share_of(e, 0, 0, 1);
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

/* Multiply-adds of the tables to be made, and the time of the zeros. */
static double table_work(const bptt_plan *p, int tables) {
    double work = 0;
    for (int64_t q = 0; q < p->choices; q++) {
        const embedding *e = &p->embedding[q];
        double columns = 0;
        if (!e->size) continue;
        for (int n = 0; n < p->readers; n++)
            columns += (double)(p->lookup[n][q].weight.vectors * p->k->lanes);
        work += columns * (double)((e->count - e->made) * e->weight.units);
        if (tables == NEW_GRADS) work += move_work(e->size);
    }
    return work;
}

/* Parts of the tables by all threads, between which thread 0 polls: of the values in the span
   of the batch; complete where it returns 1.  0: the run is over, for all threads alike.  A
   barrier must lie before it. */
int make_tables(run *r, const span *at, int tables, team *team, int rank, int size) {
    if (!r->p->embeds) return 1;
    if (rank == 0) use_values_of_rows(r, tables == MORE_TABLES, at);
    team_barrier(team);
    const double work = table_work(r->p, tables) / size;
    const int slices = slices_of(work);
    for (int i = 0; i < slices && !stopped(r); i++) {
        make_part_of_tables(r->p, tables, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
    return !is_over_at(r, 3, team, rank);
}
int collect_tables(run *r, team *team, int rank, int size) {
    if (!r->p->embeds) return 1;
    const double work = 2 * table_work(r->p, NEW_TABLES) / size;
    const int slices = slices_of(work);
    for (int i = 0; i < slices && !stopped(r); i++) {
        collect_part_of_tables(r->p, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
    return !is_over_at(r, 3, team, rank);
}
