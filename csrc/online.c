/* online.c: the classical online algorithm, over series or observation by observation: single rows
   on one thread.  No arithmetic on data.

   A pattern at step t is k instances of f, from the context (the state before step t), one g and
   one target.  Chunk 0 of p->s holds the context, chunks 1 .. k the states after it.  The inputs
   of the k steps lie one after the other: in the caller's series, or within p->x.

   One layer of a cell with one gate and a linear g have kernels for a whole pattern (pattern.h);
   other networks are computed layer by layer, with the same sums in the same order. */
#include "run.h"
#include "update.h"
#include <math.h>
#include <string.h>

/* The context of both forms of the online algorithm. */
typedef struct {
    run run;
    updater updater;
    const void *params; /* the caller's (P), to be read */
    int64_t k; /* instances of f */
    int64_t lead; /* steps from the last input of a pattern to its target */
    int64_t poll_steps; /* steps between two polls */
    double *loss; /* (patterns) */
    field x; /* (k, I) the inputs of the pattern */
    int whole; /* 1: `pattern` is for the kernels of a whole pattern */
    double work; /* multiply-adds of such a one */
    pattern pattern;
} sliding;

/* The address of chunk t of a field. */
static char *at_step(const bptt_plan *p, const field *f, int64_t t) {
    return real_at(p, f->p, t * f->step);
}

/* What layer n reads: the inputs, or h of the layer below after each step. */
static field input_of(const sliding *s, int64_t n) {
    return n ? from_step(s->run.p, &s->run.p->layer[n - 1].s, 1) : s->x;
}

/* Layer n through the steps of the span. */
static void unfold_layer(const sliding *s, int64_t n, const span *at) {
    const bptt_plan *p = s->run.p;
    const frame *f = &p->layer[n];
    const field in = input_of(s, n);
    p->k->row_forward(&f->ih, p->packed, &f->b_ih, ACT_LINEAR, at_step(p, &in, at->t0), in.step,
                      at_step(p, &f->zx, at->t0), f->zx.step, at->t1 - at->t0);
    p->cell->forward(f, at);
}

/* Instances of f from the context, for the steps of the span, which begins at step 0. */
static void unfold(sliding *s, const span *at) {
    run *r = &s->run;
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->layers; n++) {
        span now = *at;
        for (int64_t t = 0; t < at->t1 && !stopped(r); t = now.t1) {
            now.t0 = t;
            now.t1 = min64(t + s->poll_steps, at->t1);
            unfold_layer(s, n, &now);
            poll_caller(r, step_work(p) * (double)(now.t1 - t));
        }
    }
}

/* g on the state after step k, its loss, and backward to dLoss/dh in ds of the top layer, with g's
   weight gradients; the second form for a g that reads the input of that step, too. */
static void head_of_pattern(sliding *s, const span *one) {
    const bptt_plan *p = s->run.p;
    const batch *b = &s->run.batch;
    const kernels *k = p->k;
    const int64_t last = p->head_layers - 1;
    const frame *top = &p->layer[p->layers - 1];
    const void *const h = at_step(p, &top->s, s->k);
    for (int64_t l = 0; l <= last; l++)
        k->row_forward(&p->head[l].w, p->packed, &p->head[l].b, p->head[l].act,
                       l ? p->value[l - 1].p : h, 0, p->value[l].p, 0, 1);
    p->row_loss[0] = 0;
    k->loss(&b->loss_desc, &b->source, p->O, &p->value[last], one, p->row_loss, 1);
    for (int64_t n = 0; n < p->layers; n++) k->zero_rows(&p->layer[n].ds, 0, 0, 1);
    for (int64_t l = last; l >= 0; l--) {
        const dense *g = &p->head[l];
        const void *dz = pre_activation_grad(p, l)->p;
        const void *below = l ? p->value[l - 1].p : h;
        k->row_collect(&g->w, &g->b, NULL, below, 0, dz, 0, 1, p->grad);
        if (l)
            k->row_backward(&g->w, dz, p->head[l - 1].act, below, p->head_grad[l - 1].p);
        else
            k->row_backward(&g->w, dz, ACT_LINEAR, NULL, top->ds.p);
    }
}

static void head_with_input(sliding *s, span all) {
    const bptt_plan *p = s->run.p;
    const batch *b = &s->run.batch;
    const span one = readout_span(0, all);
    const int64_t zero = 0;
    const source x = { .values = at_step(p, &s->x, s->k - 1), .offset = &zero, .row = &zero };
    p->k->gather(&x, p->I, p->I, &p->last_x, &one);
    p->k->copy_rows(&p->layer[p->layers - 1].s, s->k, &p->last[0], 0, 0, 1);
    head_forward(p, 0, all);
    p->row_loss[0] = 0;
    p->k->loss(&b->loss_desc, &b->source, p->O, &p->value[p->head_layers - 1], &one, p->row_loss,
               1);
    clear_state_grads(p, all);
    head_backward(p, all);
    collect_head(p, 0, all, 0, 1);
}

/* Layer n through all steps of a pattern, backward. */
static void layer_of_pattern_backward(sliding *s, int64_t n, const span *at) {
    run *r = &s->run;
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    span now = *at;
    for (int64_t t = at->t1; t > 0 && !stopped(r); t = now.t0) {
        now.t1 = t;
        now.t0 = max64(t - s->poll_steps, 0);
        p->cell->backward(f, &now);
        if (n) p->k->backward(&f->ih, 0, &f->dzx, &p->layer[n - 1].dy, 0, ACT_LINEAR, NULL, &now);
        poll_caller(r, step_work(p) * (double)(t - now.t0));
    }
}

/* The weight gradients of layer n over a pattern. */
static void collect_layer_of_pattern(sliding *s, int64_t n, const span *at) {
    const bptt_plan *p = s->run.p;
    const kernels *k = p->k;
    const frame *f = &p->layer[n];
    const field in = input_of(s, n);
    const int split = p->cell->separate_dzr;
    k->row_collect(&f->ih, &f->b_ih, twin_of_bias(p, f), in.p, in.step, f->dzx.p, f->dzx.step, s->k,
                   p->grad);
    if (split) k->collect_bias(&f->b_hh, NULL, &f->dzr, p->grad, 0, at, 0, 1);
    if (p->trained_tau) k->collect_bias(&f->raw_tau, NULL, &f->draw_tau, p->grad, 0, at, 0, 1);
    if (f->depth || f->hr.size || p->cell->peepholes || !p->cell->recurrent)
        p->cell->collect(f, p->grad, 0, at, 0, 1);
    else
        k->row_collect(&f->hh, NULL, NULL, f->s.p, f->s.step, f->dzr.p, f->dzr.step, s->k, p->grad);
}

/* Loss and gradient of one pattern, layer by layer. */
static void pattern_by_layers(sliding *s) {
    run *r = &s->run;
    const bptt_plan *p = r->p;
    const span all = all_rows(r), *at = &all, one = readout_span(0, all);
    unfold(s, at);
    if (p->skip)
        head_with_input(s, all);
    else
        head_of_pattern(s, &one);
    for (int64_t n = p->layers - 1; n >= 0 && !stopped(r); n--) {
        layer_of_pattern_backward(s, n, at);
        if (stopped(r)) return;
        collect_layer_of_pattern(s, n, at);
        poll_caller(r, step_work(p) * (double)s->k);
    }
}

/* What is made of the new weights, and the context moves on by one step: without a poll, as
   it belongs to the update. */
static void advance_by_layers(const sliding *s, const bptt_plan *p) {
    const span first = {
        .t1 = 1, .r1 = 1, .batch_sizes = p->batch_sizes, .reduction = REDUCE_SEQUENCE
    };
    pack_transposed_all(p, 0, 1);
    make_part_of_tables(p, MORE_TABLES, 0, 1);
    for (int64_t n = 0; n < p->layers; n++) unfold_layer(s, n, &first);
    for (int64_t n = 0; n < p->layers; n++)
        p->k->copy_rows(&p->layer[n].s, 1, &p->layer[n].s, 0, 0, 1);
}

/* The update by the gradient of a pattern.  Returns 0 if it was refused: the run diverged. */
static int update_by_pattern(sliding *s, double *loss) {
    run *r = &s->run;
    *loss = r->p->row_loss[0];
    if (update_alone(&s->updater, r->done, *loss)) return 1;
    r->status = BPTT_DIVERGED;
    return 0;
}

/* one_pattern by the kernels of a whole pattern. */
static int whole_pattern(sliding *s, double weight, double *loss) {
    run *r = &s->run;
    const bptt_plan *p = r->p;
    if (weight > 0) {
        poll_caller(r, s->work);
        if (stopped(r)) return 0;
        s->pattern.rate = rate_of(s->updater.hyper, r->done);
        if (p->cell->gradient_of_pattern(&s->pattern)) {
            *loss = p->row_loss[0];
            s->updater.hyper->step++;
            return 1;
        }
        if (!update_by_pattern(s, loss)) return 0;
    }
    p->cell->advance(&s->pattern);
    return 1;
}

/* The next pattern, whose inputs lie at x: gradient and update, unless its target weighs nothing,
   then the context moves on by one step.  Returns 0 if the run diverged or was stopped. */
static int one_pattern(sliding *s, const void *x, double weight, double *loss) {
    run *r = &s->run;
    bptt_plan *p = r->p;
    s->pattern.x = s->x.p = (void *)x;
    if (s->whole) return whole_pattern(s, weight, loss);
    use_values(p, &s->x, 0, s->k);
    if (weight > 0) {
        make_part_of_tables(p, NEW_GRADS, 0, 1);
        pattern_by_layers(s);
        if (stopped(r)) return 0;
        collect_part_of_tables(p, 0, 1);
        if (!update_by_pattern(s, loss)) return 0;
    }
    advance_by_layers(s, p);
    return 1;
}

/* How patterns are computed whose inputs lie x_step reals apart.  The kernels of a whole pattern do
   not poll. */
static void set_pattern(sliding *s, int64_t x_step) {
    run *r = &s->run;
    const bptt_plan *p = r->p;
    s->x.step = x_step;
    s->x.block = p->k->lanes;
    s->whole = p->cell->gradient_of_pattern && p->layers == 1 && !p->layer[0].hr.size &&
        p->head_layers == 1 && !p->choices && !p->skip && s->k <= s->poll_steps;
    const double small = small_step(&s->updater);
    s->work = 3 * step_work(p) * (double)s->k;
    s->pattern = (pattern){
        .f = &p->layer[0],
        .g = &p->head[0],
        .y = &p->value[0],
        .outputs = p->O,
        .k = s->k,
        .x_step = x_step,
        .loss_desc = &r->batch.loss_desc,
        .source = &r->batch.source,
        .loss = p->row_loss,
        .grad = p->grad,
        .size = p->packed_size,
        .small = small,
        .small_part = sqrt(small) / 64, /* the sum over the lanes of a vector, and more */
    };
}

/* Fields for patterns of k steps with `window` inputs, in addition to those gathered ahead. */
static void open_patterns(sliding *s, int64_t window) {
    run *r = &s->run;
    bptt_plan *p = r->p;
    lay_out(p, 1, window, SLIDE, 0);
    p->T = s->k;
    r->batch.rows = 1;
    for (int64_t t = 0; t <= s->k; t++) p->batch_sizes[t] = t < s->k;
}

/* Large recurrent weights are read to and fro. */
static void set_zigzag(bptt_plan *p, int on) {
    for (int64_t n = 0; n < p->layers; n++) {
        frame *f = &p->layer[n];
        const int is_whole = f->R == f->H && f->H % p->k->lanes == 0 && p->k->lanes >= 4;
        f->zigzag = on && is_whole && f->hh.size * p->k->bytes > ZIGZAG_BYTES;
    }
}

/* -- over series -- */

/* For slide_sequence: a pattern, and its loss. */
static int next_pattern(void *context, const void *x, double weight) {
    sliding *s = context;
    double *loss = &s->loss[s->run.done];
    *loss = 0;
    return one_pattern(s, x, weight, loss);
}

/* bptt_slide, on its one thread. */
static void slide(void *context, team *team, int rank, int size) {
    sliding *s = context;
    run *r = &s->run;
    bptt_plan *p = r->p;
    set_zigzag(p, 1);
    int going = load_parameters(r, s->params, &s->updater, team, rank, size);
    renew_transposed(r, rank, size);
    open_patterns(s, s->k);
    set_pattern(s, p->I);
    for (int64_t i = 0; i < r->n && going; i++)
        going = slide_sequence(r, r->order[i], s->k, s->lead, next_pattern, s);
    set_zigzag(p, 0);
    if (r->done > 0) store_parameters(&s->updater, r->abandoned, team, rank, size);
}

/* 1: the plan is for single rows and can run the online algorithm with tapes of so many steps. */
static int can_slide(const bptt_plan *p, int64_t k, int64_t lead, int64_t steps) {
    return p->directions == 1 && !p->every && p->batch == 1 && k >= 1 && lead >= 0 &&
        steps <= tape_steps(p, p->steps);
}

/* The context lies on this stack; the clip is reset, as the plan outlives it. */
bptt_status bptt_slide(bptt_plan *p, void *params, void *opt_state, bptt_hyper *hyper,
                       const bptt_data *data, const int64_t *order, int64_t n, int64_t k,
                       int64_t lead, double *loss, int64_t *done, bptt_poll poll, void *context) {
    sliding s = {
        .run = { .p = p, .data = data, .order = order, .n = n, .poll = poll, .context = context },
        .updater = { .p = p, .hyper = hyper, .params = params, .opt_state = opt_state },
        .params = params,
        .k = k,
        .lead = lead,
        .poll_steps = poll_steps(p),
        .loss = loss,
    };
    if (!has_targets(p, data, 0) || !can_slide(p, k, lead, k)) return BPTT_CAPACITY;
    const bptt_status status = prepare_updater(&s.updater);
    if (status) return status;
    set_clip(p, hyper->clip_state);
    team_run_alone(slide, &s);
    set_clip(p, 0);
    *done = s.run.done;
    return s.run.status;
}

/* -- observation by observation -- */

/* bptt_learn's context. */
typedef struct {
    sliding sliding;
    bptt_learner *learner;
    const void *x; /* (I) the caller's observation */
    double weight; /* of its target */
} observation;

/* bptt_learn_start, on its one thread. */
static void start_learner(void *context, team *team, int rank, int size) {
    sliding *s = context;
    run *r = &s->run;
    set_zigzag(r->p, 1);
    load_parameters(r, s->params, &s->updater, team, rank, size);
    pack_transposed_all(r->p, rank, size);
    open_patterns(s, s->k + s->lead);
    r->p->row[0] = 0;
    init_states(r, all_rows(r));
}

/* Weights, context and clip stay in the plan until the next start; the numbers of the updates are
   passed to each call of bptt_learn. */
bptt_status bptt_learn_start(bptt_plan *p, const void *params, const void *opt_state,
                             const bptt_hyper *hyper, bptt_learner *l, const void *window,
                             const void *state) {
    bptt_hyper numbers = *hyper;
    const bptt_data data = { .state = state };
    sliding s = {
        .run = { .p = p, .data = &data },
        .updater = { .p = p, .hyper = &numbers, .opt_state = (void *)opt_state },
        .params = params,
        .k = l->k,
        .lead = l->lead,
        .poll_steps = poll_steps(p),
    };
    if (!can_slide(p, l->k, l->lead, l->k + l->lead) || l->rows < 0 || l->rows >= l->k + l->lead)
        return BPTT_CAPACITY;
    const bptt_status status = prepare_updater(&s.updater);
    if (status) return status;
    s.run.batch.source = source_of(p, &data);
    set_clip(p, hyper->clip_state);
    team_run_alone(start_learner, &s);
    const int64_t offset = 0, row = 0;
    const source rows = { .values = window, .offset = &offset, .row = &row };
    const span at = { .t1 = l->rows, .r1 = 1 };
    p->k->gather(&rows, p->I, p->I, &p->x, &at);
    l->first = 0;
    return BPTT_OK;
}

/* bptt_learn, on its one thread: the observation joins the inputs and may complete a pattern. */
static void observe(void *context, team *team, int rank, int size) {
    observation *o = context;
    bptt_plan *p = o->sliding.run.p;
    bptt_learner *l = o->learner;
    (void)team;
    (void)rank;
    (void)size;
    if (l->first + l->rows == l->k + l->lead + WINDOW) {
        /* p->x is full: the inputs that are still needed move to the front */
        memmove(p->x.p, at_step(p, &p->x, l->first), (size_t)(l->rows * p->x.step * p->k->bytes));
        l->first = 0;
    }
    const int64_t chunk = l->first + l->rows, offset = -chunk; /* row 0 of x into that chunk */
    const source one = { .values = o->x, .offset = &offset, .row = p->row };
    const span at = { .t0 = chunk, .t1 = chunk + 1, .r1 = 1 };
    p->k->gather(&one, p->I, p->I, &p->x, &at);
    l->rows++;
    if (l->rows < l->k + l->lead) return;
    set_pattern(&o->sliding, p->x.step);
    one_pattern(&o->sliding, at_step(p, &p->x, l->first), o->weight, o->sliding.loss);
    l->first += o->sliding.run.status != BPTT_INTERRUPTED;
    l->rows--;
}

/* A sequence of one target, row 0, whatever the caller's arrays look like. */
bptt_status bptt_learn(bptt_plan *p, bptt_hyper *hyper, bptt_learner *l, const void *x,
                       const void *y, int64_t class, double weight, double *loss, bptt_poll poll,
                       void *context) {
    const int64_t zero = 0;
    const float rounded = (float)weight;
    observation o = {
        .sliding = {
            .run = { .p = p, .poll = poll, .context = context },
            .updater = { .p = p, .hyper = hyper },
            .k = l->k,
            .poll_steps = poll_steps(p),
            .loss = loss,
        },
        .learner = l,
        .x = x,
        .weight = weight,
    };
    batch *b = &o.sliding.run.batch;
    b->rows = 1;
    b->source = (source){ .targets = y, .classes = &class, .target_offset = &zero, .row = p->row };
    b->source.weight = p->k->bytes == sizeof rounded ? (const void *)&rounded : &weight;
    b->loss_desc = (loss_desc){ .loss = &p->loss, .scale = 1 };
    *loss = NAN;
    prepare_updater(&o.sliding.updater);
    team_run_alone(observe, &o);
    return o.sliding.run.status;
}

/* bptt_learn_store, on its one thread. */
static void store_learner(void *context, team *team, int rank, int size) {
    store_parameters(context, 0, team, rank, size);
}

/* The plan stays as it is: only what the updater points to is written. */
void bptt_learn_store(const bptt_plan *p, const bptt_hyper *hyper, void *params, void *opt_state) {
    bptt_hyper numbers = *hyper;
    updater u = {
        .p = (bptt_plan *)p,
        .hyper = &numbers,
        .params = params,
        .opt_state = opt_state,
    };
    prepare_updater(&u);
    team_run_alone(store_learner, &u);
}

/* The inputs lie from chunk l->first on: row 0 of `window` is that chunk. */
void bptt_learn_window(const bptt_plan *p, const bptt_learner *l, void *window, void *state) {
    const int64_t offset = -l->first, length = l->rows + l->first, row = 0;
    const source rows = { .offset = &offset, .length = &length, .row = &row };
    const run r = { .p = (bptt_plan *)p, .batch = { .rows = 1, .source = rows } };
    const span at = { .t0 = l->first, .t1 = l->first + l->rows, .r1 = 1 };
    p->k->scatter(&rows, p->I, p->I, &p->x, &at, -1, window);
    for (int64_t n = 0; n < p->layers; n++)
        store_states(&r, n, &p->layer[n].s, 0, all_rows(&r), state, NULL);
}
