/* copies.c: the classical online algorithm for several copies of a network at once, on one thread.
   Lane j of every vector is copy j, with weights of its own; where there are fewer copies than
   lanes, or some have stopped, the other lanes repeat what the first active copy does.  Patterns
   are those of online.c; the kernel updates all copies, or to each happens what update_alone does.
   No arithmetic on data. */
#include "run.h"
#include "update.h"
#include <math.h>
#include <string.h>

enum { LANES_MAX = 16 };

/* The context of bptt_slide_copies. */
typedef struct {
    run run;
    bptt_copy *copy;
    int64_t count; /* of the copies */
    int64_t k;
    int64_t lead;
    int64_t first; /* the first active copy; == count: there is none */
    int alike; /* 1: all copies have the same numbers, which are computed for the first active one */
    int has_schedule; /* 1: learning rates change during the run */
    double small, small_step; /* of all copies, see updater and small_step */
    updater updater[LANES_MAX];
    /* of each lane: where the losses of the copy go that it repeats; the norm of its gradient, if
       it was asked for; the factor of its gradient; the learning rate of the next update */
    double *loss[LANES_MAX];
    double norm[LANES_MAX];
    double scale[LANES_MAX];
    double rate[LANES_MAX];
    pattern pattern;
} copies;

/* 1: copy j has not stopped. */
static int is_active(const copies *s, int64_t j) {
    return j < s->count && s->copy[j].status == BPTT_OK;
}

/* The copy that lane j repeats: itself, if it is active. */
static int64_t copy_in(const copies *s, int64_t lane) {
    return is_active(s, lane) ? lane : s->first;
}

/* -- between the caller's vectors, one per copy, and those of the arena, (P, lanes) -- */

/* P reals of one vector into lane `to` of an array in lanes, or out of it. */
static void move_lane(const bptt_plan *p, void *theirs, void *ours, int64_t lane, int into_arena) {
    const size_t real = (size_t)p->k->bytes;
    for (int64_t i = 0; i < p->flat_size; i++) {
        char *const one = real_at(p, theirs, i),
                    *const many = real_at(p, ours, i * p->k->rows + lane);
        if (into_arena)
            memcpy(many, one, real);
        else
            memcpy(one, many, real);
    }
}

/* Weights and optimiser state of copy j into lane `lane`, or out of its own. */
static void move_copy(const copies *s, int64_t j, int64_t lane, int into_arena) {
    const bptt_plan *p = s->run.p;
    move_lane(p, s->copy[j].params, p->packed, lane, into_arena);
    for (int i = 0; i < s->updater[j].vectors; i++)
        move_lane(p, real_at(p, s->copy[j].opt_state, i * p->flat_size),
                  real_at(p, p->opt_state, i * p->flat_size * p->k->rows), lane, into_arena);
}

/* Lane `from` of `vectors` vectors of an array is copied to lane `to`. */
static void repeat_lane(const bptt_plan *p, void *array, int64_t vectors, int64_t from,
                        int64_t to) {
    for (int64_t i = 0; i < vectors; i++)
        memcpy(real_at(p, array, i * p->k->rows + to), real_at(p, array, i * p->k->rows + from),
               (size_t)p->k->bytes);
}

/* -- the numbers of the optimisers -- */

/* 1: what all copies must have in common they have. */
static int are_compatible(const copies *s) {
    const bptt_hyper *h = s->copy[0].numbers;
    for (int64_t j = 0; j < s->count; j++) {
        const bptt_hyper *other = s->copy[j].numbers;
        if (s->updater[j].update.kind != s->updater[0].update.kind || other->noise > 0 ||
            other->nesterov != h->nesterov || other->centered != h->centered ||
            (other->momentum != 0) != (h->momentum != 0) ||
            other->no_bias_decay != h->no_bias_decay || other->clip_value != h->clip_value ||
            other->clip_state != h->clip_state)
            return 0;
    }
    return 1;
}

/* 1: two copies have the same numbers in this run of so many patterns.  Those of rprop follow their
   losses. */
static int are_alike(const copies *s, int64_t j, int64_t patterns) {
    bptt_hyper a = *s->copy[0].numbers, b = *s->copy[j].numbers;
    const double *x = a.rates, *y = b.rates;
    if (s->updater[j].update.kind == OPTIMIZER_rprop || !x != !y) return 0;
    if (x && memcmp(x, y, (size_t)patterns * sizeof *x)) return 0;
    a.rates = b.rates = NULL;
    a.optimizer = b.optimizer = NULL;
    a.noise_seed = b.noise_seed; /* there is no noise */
    return !memcmp(&a, &b, sizeof a);
}

/* What the first active copy carries from update to update, to the others, if it was computed for all
   of them. */
static void share_numbers(const copies *s) {
    for (int64_t j = 0; s->alike && j < s->count; j++) {
        if (!is_active(s, j) || j == s->first) continue;
        const char *from = (const char *)s->copy[s->first].numbers;
        char *to = (char *)s->copy[j].numbers;
        for (const bptt_field *f = bptt_hyper_fields; f->name; f++) /* integers and reals */
            if (f->carried) memcpy(to + f->offset, from + f->offset, sizeof(double));
    }
}

/* -- the copies -- */

/* Copy j ends here: what is in its lane goes back to the caller. */
static void end_copy(copies *s, int64_t j, bptt_status status) {
    move_copy(s, j, j, 0);
    s->copy[j].status = status;
    s->copy[j].done = s->run.done;
}

/* After an end: the lanes without an active copy repeat what the first one does. */
static void repeat_first(copies *s) {
    const bptt_plan *p = s->run.p;
    while (s->first < s->count && !is_active(s, s->first)) s->first++;
    for (int64_t lane = 0; s->first < s->count && lane < p->k->rows; lane++) {
        if (is_active(s, lane)) continue;
        repeat_lane(p, p->packed, p->flat_size, s->first, lane);
        repeat_lane(p, p->grad, p->flat_size, s->first, lane);
        repeat_lane(p, p->opt_state, s->updater[0].vectors * p->flat_size, s->first, lane);
        repeat_lane(p, p->layer[0].s.p, p->layer[0].s.step / p->k->rows, s->first, lane);
        s->loss[lane] = s->copy[s->first].loss;
        s->scale[lane] = s->scale[s->first];
        s->rate[lane] = s->rate[s->first];
    }
}

/* The squared norms of all copies of a vector of the arena. */
static void square_norms(const copies *s, const void *vector, double *norm2) {
    const bptt_plan *p = s->run.p;
    p->k->norm2_of_copies(vector, p->norm_order, p->norm_size, p->norm_lanes, norm2);
}

/* The norms of the gradients.  Ends the copies that may not update. */
static void refuse_updates(copies *s) {
    const bptt_plan *p = s->run.p;
    double norm2[LANES_MAX], weights2[LANES_MAX] = { 0 };
    int amplifies = 0, refused[LANES_MAX], any = 0;
    for (int64_t j = 0; j < s->count; j++) amplifies |= s->updater[j].amplifies;
    square_norms(s, p->grad, norm2);
    if (amplifies) square_norms(s, p->packed, weights2);
    for (int64_t lane = 0; lane < p->k->rows; lane++) {
        s->norm[lane] = sqrt(norm2[lane]);
        s->scale[lane] = clip_scale(s->copy[copy_in(s, lane)].numbers, s->norm[lane]);
    }
    for (int64_t j = 0; j < s->count; j++) {
        refused[j] = is_active(s, j) &&
            !update_is_finite(&s->updater[j], p->row_loss[j], s->norm[j], sqrt(weights2[j]));
        any |= refused[j];
    }
    if (!any) return;
    share_numbers(s);
    for (int64_t j = 0; j < s->count; j++)
        if (refused[j]) end_copy(s, j, BPTT_DIVERGED);
    repeat_first(s);
}

/* The constants of the next update, for each lane. */
static void prepare_updates(copies *s) {
    const bptt_plan *p = s->run.p;
    for (int64_t j = s->first; j < (s->alike ? s->first + 1 : s->count); j++)
        if (is_active(s, j))
            prepare_update(&s->updater[j], s->run.done, p->row_loss[j], s->norm[j]);
    for (int64_t lane = 0; !s->alike && lane < p->k->rows; lane++) {
        const int64_t j = copy_in(s, lane);
        p->k->set_numbers(s->copy[j].numbers, &s->updater[j].update, lane, lane + 1, p->numbers);
    }
    if (s->alike)
        p->k->set_numbers(s->copy[s->first].numbers, &s->updater[s->first].update, 0, p->k->rows,
                          p->numbers);
}

/* The update of the parameters [from, to). */
static void update_parameters(const copies *s, int decays, int64_t from, int64_t to) {
    const bptt_plan *p = s->run.p;
    const int64_t lanes = p->k->rows;
    p->k->optimise_copies(s->copy[s->first].numbers, &s->updater[s->first].update, decays,
                          p->numbers, s->scale, p->packed, p->grad, p->opt_state,
                          p->flat_size * lanes, from * lanes, to * lanes);
}

/* For each_block: one block, biases without weight decay. */
static void update_block(const matrix *m, const void *from, void *unused, int64_t rank,
                         int64_t size) {
    (void)unused;
    (void)rank;
    (void)size;
    update_parameters(from, !m->bias, m->flat, m->flat + m->gates * m->units * m->cols);
}

/* The update of all copies by the gradients of a pattern, but of those that may not. */
static void update_copies(copies *s) {
    const bptt_plan *p = s->run.p;
    if (!(s->small > 0) || !p->k->are_below(p->bound, s->small)) refuse_updates(s);
    if (s->first == s->count) return;
    prepare_updates(s);
    if (s->copy[s->first].numbers->no_bias_decay)
        each_block(p, update_block, s, NULL, 0, 1);
    else
        update_parameters(s, 1, 0, p->flat_size);
}

/* The learning rates of the next update. */
static void set_rates(copies *s) {
    for (int64_t lane = 0; lane < s->run.p->k->rows; lane++)
        s->rate[lane] = rate_of(s->copy[copy_in(s, lane)].numbers, s->run.done);
}

/* The kernel has updated all copies. */
static void count_updates(const copies *s) {
    for (int64_t j = s->first; j < (s->alike ? s->first + 1 : s->count); j++)
        if (is_active(s, j)) s->copy[j].numbers->step++;
}

/* -- over series -- */

/* The losses of all copies; 0: without a gradient they are zero. */
static void record_losses(const copies *s, int gradient) {
    const bptt_plan *p = s->run.p;
    const int64_t done = s->run.done;
    for (int64_t lane = 0; lane < p->k->rows; lane++)
        s->loss[lane][done] = gradient ? p->row_loss[lane] : 0;
}

/* For slide_sequence: the next pattern, whose inputs lie at x, as in online.c.  Returns 0 where the
   run is over. */
static int next_pattern(void *context, const void *x, double weight) {
    copies *s = context;
    run *r = &s->run;
    const bptt_plan *p = r->p;
    p->k->spread(x, s->k * p->I, p->x.p);
    if (weight > 0) {
        poll_caller(r, 3 * step_work(p) * (double)s->k);
        if (stopped(r)) return 0;
        if (s->has_schedule) set_rates(s);
        const int updated = p->cell->gradient_of_pattern(&s->pattern);
        record_losses(s, 1);
        if (updated) {
            count_updates(s);
            return 1;
        }
        update_copies(s);
        if (s->first == s->count) return 0;
    } else
        record_losses(s, 0);
    p->cell->advance(&s->pattern);
    return 1;
}

/* bptt_slide_copies, on its one thread. */
static void slide_copies(void *context, team *team, int rank, int size) {
    copies *s = context;
    run *r = &s->run;
    bptt_plan *p = r->p;
    (void)team;
    (void)rank;
    (void)size;
    for (int64_t lane = 0; lane < p->k->rows; lane++) {
        const int64_t j = copy_in(s, lane);
        move_copy(s, j, lane, 1);
        s->loss[lane] = s->copy[j].loss;
        s->scale[lane] = 1;
    }
    set_rates(s);
    lay_out(p, p->batch, s->k, SLIDE, 0);
    r->batch.rows = p->batch;
    s->pattern = (pattern){
        .f = &p->layer[0],
        .g = &p->head[0],
        .y = &p->value[0],
        .outputs = p->O,
        .k = s->k,
        .x = p->x.p,
        .x_step = p->x.step,
        .loss_desc = &r->batch.loss_desc,
        .source = &r->batch.source,
        .loss = p->row_loss,
        .grad = p->grad,
        .small = s->small_step,
        .rates = s->rate,
        .bound = p->bound,
    };
    for (int64_t i = 0; i < r->n; i++)
        if (!slide_sequence(r, r->order[i], s->k, s->lead, next_pattern, s)) break;
    share_numbers(s);
    for (int64_t j = 0; j < s->count; j++)
        if (is_active(s, j)) end_copy(s, j, r->status);
}

/* The sum of the patterns of the sequences. */
static int64_t patterns_of(const copies *s) {
    int64_t sum = 0;
    for (int64_t i = 0; i < s->run.n; i++)
        sum += max64(0, s->run.data->length[s->run.order[i]] - s->k - s->lead + 1);
    return sum;
}

bptt_status bptt_slide_copies(bptt_plan *p, bptt_copy *copy, int64_t count, const bptt_data *data,
                              const int64_t *order, int64_t n, int64_t k, int64_t lead,
                              bptt_poll poll, void *context) {
    copies s = {
        .run = { .p = p, .data = data, .order = order, .n = n, .poll = poll, .context = context },
        .copy = copy,
        .count = count,
        .k = k,
        .lead = lead,
        .alike = 1,
        .small = INFINITY,
        .small_step = INFINITY,
    };
    if (!p->copies || p->ruled || !has_targets(p, data, 0) || count < 1 || count > p->batch ||
        k < 1 || lead < 0 || k > p->steps)
        return BPTT_CAPACITY;
    const int64_t patterns = patterns_of(&s);
    for (int64_t j = 0; j < count; j++) {
        updater *u = &s.updater[j];
        *u = (updater){ .p = p, .hyper = copy[j].numbers };
        const bptt_status status = prepare_updater(u);
        if (status) return status;
        copy[j].status = BPTT_OK;
        copy[j].done = 0;
        s.alike &= are_alike(&s, j, patterns);
        s.small = fmin(s.small, u->small);
        s.small_step = fmin(s.small_step, small_step(u));
        s.has_schedule |= copy[j].numbers->rates != NULL;
    }
    if (!are_compatible(&s)) return BPTT_BAD_DESC;
    set_clip(p, copy[0].numbers->clip_state);
    team_run_alone(slide_copies, &s);
    set_clip(p, 0);
    return s.run.status;
}

/* -- at the start of a plan -- */

/* Fills p->norm_order: where a single network packs each parameter, found by packing their numbers,
   from 1 on. */
void order_norm(bptt_plan *p, const bptt_desc *desc) {
    const bptt_desc d = single_desc(desc);
    bptt_plan single = { 0 };
    int64_t count;
    if (resolve(&single, &d, NULL, 0, &count, &SILENT)) return;
    for (int64_t i = 0; i < p->flat_size; i++)
        single.k->fill_row(p->grad, i, i + 1, (double)(i + 1));
    each_block(&single, single.k->pack, p->grad, p->packed, 0, 1);
    for (int64_t i = 0; i < p->norm_size; i++)
        p->norm_order[i] = (int64_t)p->k->weight(p->packed, i) - 1;
}
