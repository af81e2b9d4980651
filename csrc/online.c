/* online.c: single rows, one thread: the classical online algorithm over series or observation by observation, and streams. */
#include "run.h"
#include <math.h>
#include <string.h>

static char *at_step(const bptt_plan *p, const field *f, int64_t t) { return (char *)f->p + t * f->step * p->k->bytes; }
static field state_of(const bptt_plan *p, const frame *f, int64_t t) {
    return (field){ at_step(p, &f->s, t), f->s.step, f->s.block, f->s.row };
}

/* Instances of f from the states in chunk 0, for the steps of the span. */
static void unfold(run *r, const char *x, const span *at) {
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->layers; n++) {
        const frame *f = &p->layer[n];
        const field below = n ? state_of(p, &p->layer[n - 1], 1) : p->x;
        span now = *at;
        for (now.t1 = 0; now.t1 < at->t1 && !stopped(r); poll_caller(r, step_work(p) * (double)(now.t1 - now.t0))) {
            now.t0 = now.t1, now.t1 = at->t1 - now.t0 < r->each ? at->t1 : now.t0 + r->each;
            p->k->row_forward(&f->ih, p->packed, &f->b_ih, ACT_LINEAR,
                              (n ? (char *)below.p : x) + now.t0 * below.step * p->k->bytes, below.step, at_step(p, &f->zx, now.t0),
                              f->zx.step, now.t1 - now.t0);
            p->cell->forward(f, &now);
        }
    }
}
/* Loss and gradient of one pattern: k instances of f and one g. */
static void pattern(run *r, const char *x, const span *at, const span *one) {
    const bptt_plan *p = r->p;
    const kernels *k = p->k;
    const int64_t last = p->head_layers - 1;
    const frame *top = &p->layer[p->layers - 1];
    unfold(r, x, at);
    const void *in = at_step(p, &top->s, r->k), *h = in;
    for (int64_t l = 0; l <= last; in = p->value[l].p, l++)
        k->row_forward(&p->head[l].w, p->packed, &p->head[l].b, p->head[l].act, in, 0, p->value[l].p, 0, 1);
    p->row_loss[0] = 0;
    k->loss(&r->loss_desc, &r->source, p->O, &p->value[last], one, p->row_loss, 1);
    for (int64_t n = 0; n < p->layers; n++) k->zero_rows(&p->layer[n].ds, 0, 0, 1);
    for (int64_t l = last; l >= 0; l--) {
        const void *dz = l < last ? p->head_grad[l].p : p->value[l].p, *below = l ? p->value[l - 1].p : h;
        k->row_collect(&p->head[l].w, &p->head[l].b, NULL, below, 0, dz, 0, 1, p->grad);
        if (l) k->row_backward(&p->head[l].w, dz, p->head[l - 1].act, below, p->head_grad[l - 1].p);
        else k->row_backward(&p->head[l].w, dz, ACT_LINEAR, NULL, top->ds.p);
    }
    for (int64_t n = p->layers - 1; n >= 0 && !stopped(r); n--, poll_caller(r, step_work(p) * (double)r->k)) {
        const frame *f = &p->layer[n];
        const field below = n ? state_of(p, &p->layer[n - 1], 1) : p->x;
        span now = *at;
        for (now.t0 = at->t1; now.t0 > 0 && !stopped(r); poll_caller(r, step_work(p) * (double)(now.t1 - now.t0))) {
            now.t1 = now.t0, now.t0 = now.t1 < r->each ? 0 : now.t1 - r->each;
            p->cell->backward(f, &now);
            if (n) p->k->backward(&f->ih, 0, &f->dzx, &p->layer[n - 1].dy, 0, ACT_LINEAR, NULL, &now);
        }
        if (stopped(r)) return;
        k->row_collect(&f->ih, &f->b_ih, p->cell->separate_dzr ? NULL : &f->b_hh, n ? below.p : x, below.step, f->dzx.p, f->dzx.step,
                       r->k, p->grad);
        if (p->cell->separate_dzr) k->collect_bias(&f->b_hh, NULL, &f->dzr, p->grad, 0, at, 0, 1);
        if (f->depth || f->hr.size || p->cell->peepholes) p->cell->collect(f, p->grad, 0, at, 0, 1);
        else k->row_collect(&f->hh, NULL, NULL, f->s.p, f->s.step, f->dzr.p, f->dzr.step, r->k, p->grad);
    }
}
/* Pattern t: its gradient and update, unless its target weighs nothing; then the context moves on.  0: diverged, or stopped. */
static int one_pattern(run *r, const char *x, double weight, double *loss) {
    bptt_plan *p = r->p;
    const span all = all_rows(r), one = readout_span(0, all), first = { 0, 1, 0, 1, p->batch_sizes, REDUCE_SEQUENCE };
    if (weight > 0) {
        pattern(r, x, &all, &one);
        if (stopped(r)) return 0;
        *loss = p->row_loss[0];
        if (!update_alone(r, *loss)) {
            r->status = BPTT_DIVERGED;
            return 0;
        }
    }
    unfold(r, x, &first);
    for (int64_t n = 0; n < p->layers; n++) p->k->copy_rows(&p->layer[n].s, 1, &p->layer[n].s, 0, 0, 1);
    return 1;
}
static void open_patterns(run *r, int64_t window) {    /* inputs held at once, beside those gathered ahead */
    bptt_plan *p = r->p;
    lay_out(p, 1, window, SLIDE, 0);
    p->T = r->k, r->rows = 1;
    for (int64_t t = 0; t <= r->k; t++) p->batch_sizes[t] = t < r->k;
}
static void slide_patterns(run *r) {
    bptt_plan *p = r->p;
    const bptt_data *d = r->data;
    open_patterns(r, r->k);
    for (int64_t i = 0; i < r->n; i++) {
        p->row[0] = r->order[i];
        r->source = source_of(p, d);
        const int64_t patterns = d->length[p->row[0]] - r->k - r->lead + 1;
        init_states(r, all_rows(r));
        for (int64_t t = 0; t < patterns; t++) {
            if (t % WINDOW == 0) {                     /* the inputs of the next patterns, which overlap */
                const int64_t left = patterns - t < WINDOW ? patterns - t : WINDOW;
                const span window = { 0, left - 1 + r->k, 0, 1, NULL, REDUCE_ROWS };
                r->source.first = t;
                p->k->gather(&r->source, p->I, p->I, &p->x, &window);
            }
            r->loss_desc = (loss_desc){ p->loss, 0, t + r->k - 1 + r->lead, 1 };
            r->loss[r->done] = 0;
            if (!one_pattern(r, at_step(p, &p->x, t % WINDOW),
                             d->weight ? p->k->weight(d->weight, d->target_offset[p->row[0]] + r->loss_desc.shift) : 1,
                             &r->loss[r->done]))
                return;
            r->done++;
            if (stopped(r)) return;
        }
    }
}
/* Recurrent weights that a cache of 48 KB does not hold are read to and fro. */
static void set_zigzag(bptt_plan *p, int on) {
    enum { NEAR = 40 << 10 };
    for (int64_t n = 0; n < p->layers; n++) {
        frame *f = &p->layer[n];
        f->zigzag = on && f->R == f->H && f->H % p->k->lanes == 0 && p->k->lanes >= 4 && f->hh.size * p->k->bytes > NEAR;
    }
}
static void slide(void *context, team *team, int rank, int size) {
    run *r = context;
    set_zigzag(r->p, 1);
    load_parameters(r, team, rank, size);
    pack_transposed_all(r->p, rank, size);
    slide_patterns(r);
    set_zigzag(r->p, 0);
    store_parameters(r, team, rank, size);
}
bptt_status bptt_slide(bptt_plan *p, void *params, void *opt_state, bptt_hyper *hyper, const bptt_data *data,
                       const int64_t *order, int64_t n, int64_t k, int64_t lead, double *loss, int64_t *done,
                       bptt_poll poll, void *context) {
    run r = { .p = p, .data = data, .order = order, .n = n, .hyper = hyper, .loss = loss, .poll = poll, .context = context,
              .params = params, .trained = params, .opt_state = opt_state, .k = k, .lead = lead };
    if (!has_targets(p, data) || p->directions > 1 || p->every || p->batch > 1 || k < 1 || k > tape_steps(p, p->steps) || lead < 0)
        return BPTT_CAPACITY;
    const bptt_status status = prepare_training(&r);
    if (status) return status;
    set_clip(p, hyper->clip_state);
    team_run(1, slide, &r);
    set_clip(p, 0);
    *done = r.done;
    return r.status;
}

/* -- the same, observation by observation -- */

typedef struct {
    run run;
    bptt_learner *learner;
    const void *x;
    double weight, *loss;
} observation;

static void start_learner(void *context, team *team, int rank, int size) {
    run *r = context;
    set_zigzag(r->p, 1);
    load_parameters(r, team, rank, size);
    pack_transposed_all(r->p, rank, size);
    open_patterns(r, r->k + r->lead);
    r->p->row[0] = 0;
    init_states(r, all_rows(r));
}
bptt_status bptt_learn_start(bptt_plan *p, const void *params, const void *opt_state, const bptt_hyper *hyper,
                             bptt_learner *l, const void *window, const void *state) {
    bptt_hyper numbers = *hyper;
    const bptt_data data = { .state = state };
    run r = { .p = p, .data = &data, .hyper = &numbers, .params = params, .opt_state = (void *)opt_state, .k = l->k,
              .lead = l->lead };
    if (p->directions > 1 || p->every || p->batch > 1 || l->k < 1 || l->lead < 0 || l->k + l->lead > tape_steps(p, p->steps) ||
        l->rows < 0 || l->rows >= l->k + l->lead)
        return BPTT_CAPACITY;
    const bptt_status status = prepare_training(&r);
    if (status) return status;
    r.source = source_of(p, &data);
    set_clip(p, hyper->clip_state);
    team_run(1, start_learner, &r);
    const int64_t offset = 0, row = 0;
    const source rows = { .values = window, .offset = &offset, .row = &row };
    const span at = { 0, l->rows, 0, 1, NULL, REDUCE_ROWS };
    p->k->gather(&rows, p->I, p->I, &p->x, &at);
    l->first = 0;
    return BPTT_OK;
}
static void observe(void *context, team *team, int rank, int size) {
    (void)team, (void)rank, (void)size;
    observation *o = context;
    run *r = &o->run;
    bptt_plan *p = r->p;
    bptt_learner *l = o->learner;
    if (l->first + l->rows == l->k + l->lead + WINDOW) {              /* the inputs' end: what is still needed moves to the front */
        memmove(p->x.p, at_step(p, &p->x, l->first), (size_t)(l->rows * p->x.step * p->k->bytes));
        l->first = 0;
    }
    const int64_t offset = -(l->first + l->rows);           /* row 0 of x into that chunk */
    const source one = { .values = o->x, .offset = &offset, .row = p->row };
    const span at = { -offset, 1 - offset, 0, 1, NULL, REDUCE_ROWS };
    p->k->gather(&one, p->I, p->I, &p->x, &at);
    if (++l->rows < l->k + l->lead) return;
    one_pattern(r, at_step(p, &p->x, l->first), o->weight, o->loss);
    l->first++, l->rows--;
}
bptt_status bptt_learn(bptt_plan *p, bptt_hyper *hyper, bptt_learner *l, const void *x, const void *y, int64_t class,
                       double weight, double *loss) {
    const int64_t zero = 0;
    const bptt_data data = { 0 };
    observation o = { .run = { .p = p, .data = &data, .hyper = hyper, .rows = 1, .k = l->k, .loss = loss },
                      .learner = l, .x = x, .weight = weight, .loss = loss };
    o.run.source = (source){ .targets = y, .classes = &class, .target_offset = &zero, .row = p->row };
    o.run.loss_desc = (loss_desc){ p->loss, 0, 0, 1 };
    *loss = NAN;
    prepare_training(&o.run);
    team_run(1, observe, &o);
    return o.run.status;
}
static void store_learner(void *context, team *team, int rank, int size) { store_parameters(context, team, rank, size); }
void bptt_learn_store(const bptt_plan *p, const bptt_hyper *hyper, void *params, void *opt_state) {
    bptt_hyper numbers = *hyper;
    run r = { .p = (bptt_plan *)p, .hyper = &numbers, .trained = params, .opt_state = opt_state };
    prepare_training(&r);
    team_run(1, store_learner, &r);
}
void bptt_learn_window(const bptt_plan *p, const bptt_learner *l, void *window, void *state) {
    run r = { .p = (bptt_plan *)p, .rows = 1 };
    const int64_t offset = -l->first, length = l->rows + l->first, row = 0;
    r.source = (source){ .offset = &offset, .length = &length, .row = &row };
    const span at = { l->first, l->first + l->rows, 0, 1, NULL, REDUCE_ROWS };
    p->k->scatter(&r.source, p->I, p->I, &p->x, &at, -1, window);
    for (int64_t n = 0; n < p->layers; n++) store_states(&r, n, &p->layer[n].s, 0, all_rows(&r), state, NULL);
}

/* -- streams: a step at a time, forward only -- */

static run stream_of(const bptt_plan *p) {
    run r = { .p = (bptt_plan *)p, .rows = p->batch };
    r.source.row = p->row;
    return r;
}
static void start_stream(void *context, team *team, int rank, int size) {
    run *r = context;
    load_parameters(r, team, rank, size);
    init_states(r, all_rows(r));
}
bptt_status bptt_stream_start(bptt_plan *p, const void *params) {
    if (p->directions > 1 || !p->head_layers) return BPTT_CAPACITY;
    lay_out(p, p->batch, 1, INFER, 0);
    for (int64_t b = 0; b < p->batch; b++) p->row[b] = b;
    p->batch_sizes[0] = p->batch, p->batch_sizes[1] = 0;
    run r = stream_of(p);
    r.params = params;
    team_run(1, start_stream, &r);
    return BPTT_OK;
}
typedef struct {
    run run;
    const char *x;
    char *y;
    int64_t steps;
} stream;
static void stream_steps(void *context, team *team, int rank, int size) {
    (void)team, (void)rank, (void)size;
    stream *s = context;
    run *r = &s->run;
    const bptt_plan *p = r->p;
    const span at = all_rows(r);
    const int64_t top = p->layers - 1, bytes = p->B * p->O * p->k->bytes;
    for (int64_t i = 0; i < s->steps && !stopped(r); i++, s->x = s->y, s->y += bytes) {
        const source rows = { .state = s->x, .row = p->row };
        p->k->load_state(&rows, p->I, 0, p->I, &p->x, 0, &at);
        for (int64_t n = 0; n < p->layers; n++) layer_forward(r, n, &at);
        p->k->copy_rows(&p->layer[top].s, 1, &p->last[0], 0, 0, p->B);
        head_forward(p, 0, at);
        p->k->store_state(&rows, p->O, 0, p->O, &p->value[p->head_layers - 1], 0, &at, s->y);
        for (int64_t n = 0; n < p->layers; n++) p->k->copy_rows(&p->layer[n].s, 1, &p->layer[n].s, 0, 0, p->B);
        poll_caller(r, step_work(p));
    }
}
bptt_status bptt_stream_run(bptt_plan *p, const void *x, int64_t steps, void *y, bptt_poll poll, void *context) {
    stream s = { stream_of(p), x, y, steps };
    if (steps > 1 && p->I != p->O) return BPTT_CAPACITY;
    s.run.poll = poll, s.run.context = context;
    team_run(1, stream_steps, &s);
    return s.run.status;
}
bptt_status bptt_stream_step(bptt_plan *p, const void *x, void *y) { return bptt_stream_run(p, x, 1, y, NULL, NULL); }
void bptt_stream_set(bptt_plan *p, const void *state) {
    run r = stream_of(p);
    r.source.state = state;
    init_states(&r, all_rows(&r));
}
void bptt_stream_get(const bptt_plan *p, void *state) {
    run r = stream_of(p);
    for (int64_t n = 0; n < p->layers; n++) store_states(&r, n, &p->layer[n].s, 0, all_rows(&r), state, NULL);
}
