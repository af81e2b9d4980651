/* states.c: the states before the first step and after the last, between the caller's arrays and
   the plan's fields.  A layer direction has one kind of state, h, or two, h and c; in a field of
   states c lies after h.  Where h follows from c, the caller has c alone, as the only kind.  Each
   thread calls these for its own rows. */
#include "run.h"
#include <string.h>

/* Kind q of a field of states: h (q = 0) or c. */
field state_kind(const bptt_plan *p, const frame *f, const field *s, int q) {
    field kind = *s;
    kind.p = real_at(p, s->p, q * ((f->R - 1) / p->k->lanes + 1) * s->block);
    return kind;
}

/* The width of kind q. */
static int64_t kind_width(const frame *f, int q) { return q ? f->H : f->R; }

/* Where kind q of layer direction n begins in the state of a sequence. */
static int64_t kind_at(const frame *f, int64_t n, int q) {
    const int after = q - f->follows, kinds = f->states - f->follows;
    return n * (f->R + (kinds - 1) * f->H) + (after ? f->R : 0);
}

/* A dropout mask of this batch: of one layer direction, between layers (kind 0) or in the
   recurrence (kind 1). */
dropout mask_of(const run *r, int64_t n, int kind) {
    const bptt_plan *p = r->p;
    const uint64_t place = (uint64_t)(2 * n + kind);
    return (dropout){ .key = p->seed * 0x9e3779b97f4a7c15u + r->batch.draw * 0xd1342543de82ef95u +
                          place,
                      .p = kind ? p->recurrent_dropout : p->dropout };
}

/* -- before the first step -- */

/* Chunk t of kind q, from the caller's array of that kind (layers*directions, n, width). */
void load_kind(const run *r, int64_t n, int q, const void *const *in, const field *to, int64_t t,
               span rows) {
    const int64_t width = kind_width(&r->p->layer[n], q);
    source from = r->batch.source;
    from.state = in[q - r->p->layer[n].follows];
    r->p->k->load_state(&from, width, n * r->n * width, width, to, t, &rows);
}

/* Chunk t of kind q before the first step: the caller's states, the trained ones, or zeros. */
static void init_kind(const run *r, int64_t n, int q, int64_t t, span rows) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    const source *s = &r->batch.source;
    field to = state_kind(p, f, &f->s, q);
    if (r->batch.initial) {
        load_kind(r, n, q, r->batch.initial, &to, t, rows);
        return;
    }
    if (s->state || !p->trained_state) {
        p->k->load_state(s, p->state_size, kind_at(f, n, q), kind_width(f, q), &to, t, &rows);
        return;
    }
    /* the packed vector, as a field whose rows are all the same */
    const field from = { .p = real_at(p, p->packed, f->initial[q].packed), .block = p->k->lanes };
    to.p = real_at(p, to.p, t * to.step);
    to.step = f->initial[q].vectors * to.block;
    p->k->copy_rows(&from, 0, &to, 0, rows.r0, rows.r1);
}

/* The states before the first step, and the masks of recurrent dropout.  They go into chunk 0 or,
   for a reverse direction, into the chunk after each row's last step. */
void init_states(run *r, span at) {
    const bptt_plan *p = r->p;
    const source *s = &r->batch.source;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        if (f->mask.p) {
            const dropout mask = mask_of(r, n, 1);
            const span once = { .t1 = 1, .r0 = at.r0, .r1 = at.r1 };
            p->k->drop(&mask, s, NULL, &f->mask, &once, 1);
        }
        for (int64_t b = at.r0; b < (f->reverse ? at.r1 : at.r0 + 1); b++) {
            const span rows = { .r0 = b, .r1 = f->reverse ? b + 1 : at.r1 };
            const int64_t t = f->reverse ? s->length[s->row[b]] : 0;
            for (int q = f->follows; q < f->states; q++) init_kind(r, n, q, t, rows);
            if (f->follows) {
                const field c = state_kind(p, f, &f->s, 1);
                p->k->activate(f->act, f->H, &c, &f->s, t, rows.r0, rows.r1);
            }
            if (f->mask.p) p->k->multiply(&f->s, &f->mask, &f->masked, t, rows.r0, rows.r1);
        }
    }
}

/* -- after the last step -- */

/* Chunk t of the states (or of their gradients) of layer direction n, to the caller's rows `out`
   (n, state size) or, if `kinds` is not NULL, to its arrays (layers*directions, n, width). */
void store_states(const run *r, int64_t n, const field *s, int64_t t, span rows, void *out,
                  void *const *kinds) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    for (int q = f->follows; q < f->states; q++) {
        const int64_t width = kind_width(f, q);
        const int64_t size = kinds ? width : p->state_size;
        const int64_t place = kinds ? n * r->n * width : kind_at(f, n, q);
        const field kind = state_kind(p, f, s, q);
        p->k->store_state(&r->batch.source, size, place, width, &kind, t, &rows,
                          kinds ? kinds[q - f->follows] : out);
    }
}

/* The number of steps that row b has from the beginning of the chunk on; <= 0: it ended before. */
int64_t steps_left(const run *r, int64_t b) {
    const source *s = &r->batch.source;
    return s->length[s->row[b]] - s->first;
}

/* The states after the chunk, of the rows that take part in it; out and kinds as for
   store_states. */
void store_final_states(const run *r, span at, void *out, void *const *kinds) {
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        for (int64_t b = at.r0; b < at.r1; b++) {
            const int64_t steps = steps_left(r, b);
            const span one = { .r0 = b, .r1 = b + 1 };
            if (steps > 0)
                store_states(r, n, &f->s, f->reverse ? 0 : min64(steps, p->T), one, out, kinds);
        }
    }
}

/* Between two chunks of a forward pass: the states of rows that end in this one to the caller
   (unless out is NULL), those of the other rows to where the next chunk starts. */
void carry_states(const run *r, span at, void *out) {
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        for (int64_t b = at.r0; b < at.r1; b++) {
            const int64_t steps = steps_left(r, b);
            const span one = { .r0 = b, .r1 = b + 1 };
            if (steps > p->T)
                p->k->copy_rows(&f->s, p->T, &f->s, 0, b, b + 1);
            else if (steps > 0 && out)
                store_states(r, n, &f->s, f->reverse ? 0 : steps, one, out, NULL);
        }
    }
}

/* For g, of each row that ends in the chunk: the top layer's h after its last step, into p->last, and
   the input of that step. */
void gather_last_states(const run *r, span at) {
    const bptt_plan *p = r->p;
    for (int64_t b = at.r0; b < at.r1; b++) {
        const int64_t steps = steps_left(r, b);
        if (steps <= 0 || steps > p->T) continue;
        for (int d = 0; d < p->directions; d++) {
            const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
            p->k->copy_rows(&f->s, f->reverse ? 0 : steps, &p->last[d], 0, b, b + 1);
        }
        if (p->skip) p->k->copy_rows(&p->x, steps - 1, &p->last_x, 0, b, b + 1);
    }
}

/* -- gradients of states -- */

/* dLoss/ds after the last step: zeros. */
void clear_state_grads(const bptt_plan *p, span at) {
    for (int64_t n = 0; n < p->layers * p->directions; n++)
        p->k->zero_rows(&p->layer[n].ds, 0, at.r0, at.r1);
}

/* Where h follows from c, dLoss/dc of the state before the first step of layer direction n, of which
   the backward pass left the part by way of h in dLoss/dh. */
void initial_grads(const run *r, int64_t n, span at) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    const source *s = &r->batch.source;
    const field dc = state_kind(p, f, &f->ds, 1);
    for (int64_t b = at.r0; f->follows && b < at.r1; b++)
        p->k->activate_backward(f->act, f->H, &f->s, f->reverse ? s->length[s->row[b]] : 0, &f->ds,
                                &dc, b, b + 1);
}

/* Gradients of the trained initial states: sums over the rows, if the backward pass came to the
   first step of the sequences.  All threads, each its part of every block. */
void collect_initial(const run *r, int add, int part, int parts) {
    const bptt_plan *p = r->p;
    const batch *b = &r->batch;
    const int reached = b->source.first == 0 && b->grad_begin == 0 && !b->given;
    const span once = { .t1 = 1, .r1 = b->rows, .reduction = all_rows(r).reduction };
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        for (int q = f->follows; q < f->states; q++) {
            const field ds = state_kind(p, f, &f->ds, q);
            const matrix *m = &f->initial[q];
            if (reached)
                p->k->collect_bias(m, NULL, &ds, p->grad, add, &once, part, parts);
            else if (!add && part == 0)
                memset(real_at(p, p->grad, m->packed), 0, (size_t)(m->size * p->k->bytes));
        }
    }
}
