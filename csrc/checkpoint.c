/* checkpoint.c: a batch in segments of steps, in little memory.  States at the start of segments
   are stored; the backward pass takes the segments from the last to the first and runs each
   forward once more for its tape.  With fewer checkpoints than segments, states in between are
   computed again, by the schedule that does so least often (Griewank 1992).

   Every thread keeps its rows for the whole batch; all threads take the same decisions. */
#include "training.h"

/* One thread's view of the batch. */
typedef struct {
    training *t;
    team *team;
    int rank;
    int size;
    int64_t count; /* segments */
    int64_t steps; /* of the whole batch */
    int64_t checkpoints; /* states that can be stored at once */
    int64_t seen; /* segments [0, seen) were run forward, and gave their losses */
    int64_t reversed; /* segments that were run backward */
} segments;

/* Makes segment `number` the present chunk.  Returns this thread's rows. */
static span open_segment(segments *s, int64_t number) {
    run *r = &s->t->run;
    team_barrier(s->team);
    if (s->rank == 0) {
        const int64_t first = number * r->p->segment;
        begin_chunk(r, first, min64(r->p->segment, s->steps - first));
        s->t->over = stopped(r);
        /* g reads the last states of all rows at once, after the last step */
        if (number == s->count - 1) r->batch.ended = 0;
    }
    team_barrier(s->team);
    return rows_of(r, s->rank, s->size);
}

/* Recurrent dropout of the states in chunk 0 of layer n. */
static void mask_states(const bptt_plan *p, int64_t n, span at) {
    const frame *f = &p->layer[n];
    if (f->mask.p) p->k->multiply(&f->s, &f->mask, &f->masked, 0, at.r0, at.r1);
}

/* The states of a checkpoint into chunk 0. */
static void load_checkpoint(segments *s, int64_t number) {
    const bptt_plan *p = s->t->run.p;
    const span at = rows_of(&s->t->run, s->rank, s->size);
    for (int64_t n = 0; n < p->layers; n++) {
        p->k->copy_rows(&p->stored[n], number, &p->layer[n].s, 0, at.r0, at.r1);
        mask_states(p, n, at);
    }
}

/* The states of chunk 0 into a checkpoint. */
static void store_checkpoint(segments *s, int64_t number) {
    const bptt_plan *p = s->t->run.p;
    const span at = rows_of(&s->t->run, s->rank, s->size);
    for (int64_t n = 0; n < p->layers; n++)
        p->k->copy_rows(&p->layer[n].s, 0, &p->stored[n], number, at.r0, at.r1);
}

/* Segment `number` forward, from the states in chunk 0 to those after it, which go into chunk 0;
   the first time with its losses. */
static void advance(segments *s, int64_t number) {
    run *r = &s->t->run;
    const bptt_plan *p = r->p;
    const span at = open_segment(s, number);
    const int is_first = number >= s->seen;
    if (s->t->over) return;
    layers_forward(r, s->team, at, s->rank, s->size);
    if (is_first && p->every)
        outputs_or_losses(r, 1, at, NULL);
    else if (is_first)
        gather_last_states(r, at);
    if (is_first && s->t->state) store_final_states(r, at, s->t->state, NULL);
    s->seen = max64(s->seen, number + 1);
    for (int64_t n = 0; n < p->layers; n++) {
        const frame *f = &p->layer[n];
        p->k->copy_rows(&f->s, p->T, &f->s, 0, at.r0, at.r1);
        mask_states(p, n, at);
    }
}

/* Segment `number` forward and backward, from the states in chunk 0. */
static void reverse_segment(segments *s, int64_t number) {
    training *t = s->t;
    run *r = &t->run;
    const bptt_plan *p = r->p;
    const span at = open_segment(s, number);
    const int add = s->reversed > 0, last = number == s->count - 1;
    if (t->over) return;
    layers_forward(r, s->team, at, s->rank, s->size);
    if (!p->every && last) gather_last_states(r, at);
    if (p->every || last) readout(r, at, number >= s->seen ? r->batch.row_loss : NULL);
    layers_backward(r, s->team, at, add, s->rank, s->size);
    if (t->dx) p->k->scatter(&r->batch.source, p->I, p->I, &p->dx, &at, -1, t->dx);
    if (last && t->state) store_final_states(r, at, t->state, NULL);
    s->seen = max64(s->seen, number + 1);
    s->reversed++;
    team_barrier(s->team);
    if (!stopped(r)) {
        collect_rest(r, add, s->rank, s->size);
        if (p->every || last) collect_readout(r, add, s->rank, s->size);
    }
    team_barrier(s->team); /* before the next states come into chunk 0 */
}

/* -- the schedule -- */

/* C(s + r, s): how many segments s checkpoints can reverse if none is run forward more than r times
   (below 2^62). */
static int64_t reach_of(int64_t s, int64_t r) {
    double exact = 1;
    for (int64_t i = 1; i <= min64(s, r) && exact < 4e18; i++)
        exact = exact * (double)(max64(s, r) + i) / (double)i;
    if (r < 0 || s < 0) return 0;
    return exact < 4e18 ? (int64_t)(exact + 0.5) : INT64_MAX / 2;
}

/* How many of `count` segments to run before the next state is stored, so that the fewest are run
   again. */
static int64_t advance_length(int64_t count, int64_t checkpoints) {
    int64_t r = 0;
    if (checkpoints >= count) return 1;
    while (reach_of(checkpoints, r) < count) r++;
    return max64(1, max64(reach_of(checkpoints, r - 2), count - reach_of(checkpoints - 1, r)));
}

/* Segments [from, to) backward; the state before segment `from` is in checkpoint `top`. */
static void reverse_segments(segments *s, int64_t from, int64_t to, int64_t top) {
    while (to - from > 1 && !s->t->over) {
        const int64_t free = s->checkpoints - top;
        const int64_t ahead = free > 1 ? advance_length(to - from, free) : to - from - 1;
        load_checkpoint(s, top);
        for (int64_t i = from; i < from + ahead && !s->t->over; i++) advance(s, i);
        if (free > 1) {
            store_checkpoint(s, top + 1);
            reverse_segments(s, from + ahead, to, top + 1);
        } else
            reverse_segment(s, to - 1);
        to = from + ahead;
    }
    load_checkpoint(s, top);
    reverse_segment(s, from);
}

/* The gradient of a batch of T steps, for which open_pass set the scale.  All threads. */
void gradient_by_segments(training *t, team *team, int rank, int size, int64_t T) {
    run *r = &t->run;
    const bptt_plan *p = r->p;
    segments s = {
        .t = t,
        .team = team,
        .rank = rank,
        .size = size,
        .count = (T - 1) / p->segment + 1,
        .steps = T,
    };
    s.checkpoints = p->checkpoints ? min64(p->checkpoints, s.count) : s.count;
    const span at = rows_of(r, rank, size);
    if (at.r1 > at.r0) {
        init_states(r, at);
        clear_state_grads(p, at);
    }
    store_checkpoint(&s, 0);
    reverse_segments(&s, 0, s.count, 0);
}
