/* stream.c: the rows of a batch a step per call, forward only, on one thread.  The states of all
   sequences stay in chunk 0 of the plan's fields between calls.  No arithmetic on data. */
#include "run.h"
#include "update.h"
#include <math.h>

/* A run over all rows of a stream's plan. */
static run stream_run(const bptt_plan *p) {
    return (run){
        .p = (bptt_plan *)p,
        .batch = { .rows = p->batch, .source = { .row = p->row } },
    };
}

/* bptt_stream_run's context. */
typedef struct {
    run run;
    const char *x; /* (batch, I) input of the next step */
    char *y; /* (batch, O) where its output goes */
    int64_t steps;
} stream;

/* bptt_stream_start's context. */
typedef struct {
    run run;
    const void *params;
} stream_start;

/* bptt_stream_start, on its one thread. */
static void start_stream(void *context, team *team, int rank, int size) {
    stream_start *s = context;
    load_parameters(&s->run, s->params, NULL, team, rank, size);
    use_no_values(s->run.p);
    init_states(&s->run, all_rows(&s->run));
}

/* The fields are laid out here, once for all steps.  Row b of the batch is row b of the arrays. */
bptt_status bptt_stream_start(bptt_plan *p, const void *params) {
    if (p->directions > 1 || !p->head_layers) return BPTT_CAPACITY;
    lay_out(p, p->batch, 1, INFER, 0);
    for (int64_t b = 0; b < p->batch; b++) p->row[b] = b;
    p->batch_sizes[0] = p->batch;
    p->batch_sizes[1] = 0;
    stream_start s = { .run = stream_run(p), .params = params };
    team_run_alone(start_stream, &s);
    return BPTT_OK;
}

/* 1: the reals of a step's output are finite. */
static int all_finite(const void *y, int64_t count, int64_t bytes) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(bytes == 8 ? ((const double *)y)[i] : (double)((const float *)y)[i]))
            return 0;
    return 1;
}

/* A step of some rows, from x in chunk 0 to y in the last value of g. */
static void step_rows(const run *r, span at) {
    const bptt_plan *p = r->p;
    const field *top = &p->layer[p->layers - 1].s;
    make_tables_of_step(r->p, at.r0, at.r1);
    for (int64_t n = 0; n < p->layers; n++) layer_forward(r, n, &at);
    p->k->copy_rows(top, 1, &p->last[0], 0, at.r0, at.r1);
    if (p->skip) p->k->copy_rows(&p->x, 0, &p->last_x, 0, at.r0, at.r1);
    head_forward(p, 0, at);
}

/* bptt_stream_run, on its one thread.  After a step its output is the next input, and its state
   moves from chunk 1 to chunk 0, unless an output is not finite. */
static void stream_steps(void *context, team *team, int rank, int size) {
    stream *s = context;
    run *r = &s->run;
    const bptt_plan *p = r->p;
    const span at = all_rows(r);
    const int64_t slices = slices_of_rows(p, at, step_work(p));
    const field *out = &p->value[p->head_layers - 1];
    const int64_t bytes = p->B * p->O * p->k->bytes;
    (void)team;
    (void)rank;
    (void)size;
    for (int64_t i = 0; i < s->steps && !stopped(r); i++) {
        const source rows = { .state = s->x, .row = p->row };
        p->k->load_state(&rows, p->I, 0, p->I, &p->x, 0, &at);
        for (int64_t slice = 0; slice < slices && !stopped(r); slice++) {
            step_rows(r, slices > 1 ? slice_of_rows(p, at, slice, slices) : at);
            poll_caller(r, step_work(p) / (double)slices);
        }
        if (stopped(r)) return;
        p->k->store_state(&rows, p->O, 0, p->O, out, 0, &at, s->y);
        if (!all_finite(s->y, p->B * p->O, p->k->bytes)) {
            r->status = BPTT_DIVERGED;
            return;
        }
        for (int64_t n = 0; n < p->layers; n++)
            p->k->copy_rows(&p->layer[n].s, 1, &p->layer[n].s, 0, 0, p->B);
        s->x = s->y;
        s->y += bytes;
    }
}

/* All steps in one team, so that the poll and the modes of the processor are set once. */
bptt_status bptt_stream_run(bptt_plan *p, const void *x, int64_t steps, void *y, bptt_poll poll,
                            void *context) {
    stream s = { .run = stream_run(p), .x = x, .y = y, .steps = steps };
    if (steps > 1 && (p->I != p->O || p->choices)) return BPTT_CAPACITY;
    s.run.poll = poll;
    s.run.context = context;
    team_run_alone(stream_steps, &s);
    return s.run.status;
}

bptt_status bptt_stream_step(bptt_plan *p, const void *x, void *y) {
    return bptt_stream_run(p, x, 1, y, NULL, NULL);
}

/* The state of every sequence: the given ones, or with NULL the initial ones. */
void bptt_stream_set(bptt_plan *p, const void *state) {
    run r = stream_run(p);
    r.batch.source.state = state;
    init_states(&r, all_rows(&r));
}

/* Writes the state of every sequence. */
void bptt_stream_get(const bptt_plan *p, void *state) {
    const run r = stream_run(p);
    for (int64_t n = 0; n < p->layers; n++)
        store_states(&r, n, &p->layer[n].s, 0, all_rows(&r), state, NULL);
}
