/* layers.c: a chunk of steps through the recurrent layers, forward, backward and for the gradients
   of their weights.  No arithmetic on data.

   Layer direction n = layer * directions + direction.  Forward and backward run by rows, each
   thread its own, but where rows are few, loops over time by units; weight gradients by tiles, each
   thread its tiles over all rows. */
#include "run.h"

/* 1: dropout between layers in this run. */
static int drops(const bptt_plan *p) { return p->purpose == TRAIN && p->dropout > 0; }

/* 1: what layer direction n computes goes through such a mask. */
static int drops_output(const bptt_plan *p, int64_t n) {
    return drops(p) && n < (p->layers - 1) * p->directions;
}

/* 1: layer direction n reads windows into one series, which project_series projected. */
static int shares_input(const bptt_plan *p, int64_t n) { return p->shared && n < p->directions; }

/* The inputs of layer direction n: the data, or h of both directions of the layer below.  Each is a
   column group of weight_ih.  Returns their number. */
static int inputs_of(const bptt_plan *p, int64_t n, field in[2]) {
    if (n < p->directions) {
        in[0] = p->x;
        return 1;
    }
    for (int d = 0; d < p->directions; d++) {
        const int64_t below = n / p->directions * p->directions - p->directions + d;
        const frame *f = &p->layer[below];
        in[d] = drops(p) ? p->dropped[below] : from_step(p, &f->s, !f->reverse);
    }
    return p->directions;
}

/* -- loops over time by units -- */

/* Fewer rows than this for each thread: their tiles are low, so that reading the weights counts.
   Multiply-adds of a step, for each thread: some barriers. */
enum { FEW_ROWS = 8 };
static const double SHARED_STEP_WORK = 1e5;

/* 1: in this group the threads share the units of a loop over time, not the rows.  Then each of
   them has some rows. */
static int shares_units(const run *r, int size) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[0];
    const int64_t rows = r->batch.rows;
    const double work = (double)rows * (double)f->hh.size / size;
    return size > 1 && rows >= size && rows < FEW_ROWS * size && work >= SHARED_STEP_WORK &&
        p->k->rows == 1 && p->cell->splits_units && !f->hr.size && !f->mask.p &&
        all_rows(r).reduction == REDUCE_ROWS;
}

/* The steps [t0, t1) of `scan`, forward or backward, by units, with a barrier after each step.
   Before them all threads agree on whether to stop; then it returns 0. */
static int scan_units(run *r, team *team, const frame *f, const span *at, int backward, int rank,
                      int size) {
    const cell_kernels *cell = r->p->cell;
    span now = all_rows(r);
    now.part = rank;
    now.parts = size;
    if (is_over(r, team, rank)) return 0;
    for (int64_t n = 0; n < at->t1 - at->t0; n++) {
        now.t0 = (f->reverse ^ backward) ? at->t1 - 1 - n : at->t0 + n;
        now.t1 = now.t0 + 1;
        (backward ? cell->backward : cell->forward)(f, &now);
        team_barrier(team);
        if (backward && f->reverse) cell->finish(f, &now);
    }
    return 1;
}

/* -- forward -- */

/* Multiply-adds of the input projections of windows that share a series, of one thread. */
static double series_work(const bptt_plan *p, int size) {
    const double rows = (double)series_rows(p, p->B, p->T) * (double)p->stride;
    return rows * (double)p->layer[0].ih.size * (double)p->directions / size;
}

/* These projections: each row of the series once.  All threads, each its rows of the series, in
   slices between which thread 0 polls; a barrier must follow. */
void project_series(run *r, int rank, int size) {
    const bptt_plan *p = r->p;
    const int64_t rows = series_rows(p, p->B, p->T);
    const double work = series_work(p, size);
    const int slices = slices_of(work);
    source series = r->batch.source;
    series.offset = p->series_offset;
    series.row = p->series_row;
    for (int64_t i = 0; i < slices && !stopped(r); i++) {
        const int64_t part = rank * slices + i, parts = (int64_t)size * slices;
        const span at = series_span(p, rows * part / parts, rows * (part + 1) / parts);
        p->k->gather(&series, p->I, p->I, &p->x, &at);
        for (int64_t n = 0; n < p->directions; n++) {
            const frame *f = &p->layer[n];
            p->k->forward(&f->ih, p->packed, &f->b_ih, 0, ACT_LINEAR, &p->x, NULL, &p->window_zx[n],
                          &at);
        }
        if (rank == 0) poll_caller(r, work / slices);
    }
}

/* Noise of the inputs of these steps, in training. */
void add_input_noise(const run *r, const span *at) {
    const bptt_plan *p = r->p;
    const dropout noise = mask_of(r, 2 * BPTT_MAX_LAYERS, 1);
    if (p->purpose == TRAIN && p->input_noise > 0)
        p->k->noise(&noise, &r->batch.source, p->I, p->input_amplitude, 1, &p->x, at);
}

/* Before and after the loop over time of one layer direction: the projections of its inputs, and
   dropout of its outputs. */
static void project_inputs(const run *r, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    field in[2];
    const int column_groups = shares_input(p, n) ? 0 : inputs_of(p, n, in);
    for (int g = 0; g < column_groups; g++)
        p->k->forward(&f->ih, p->packed, g ? NULL : &f->b_ih, g, ACT_LINEAR, &in[g],
                      g ? &f->zx : NULL, &f->zx, at);
}
/* The noise of the recurrence, to where the states of these steps will be. */
static void draw_noise(const run *r, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    if (!f->amplitude) return;
    const dropout noise = mask_of(r, 2 * BPTT_MAX_LAYERS + 1 + n, 0);
    const field last = state_kind(p, f, &f->s, f->states - 1);
    const field to = from_step(p, &last, !f->reverse);
    p->k->noise(&noise, &r->batch.source, f->H, f->amplitude, 0, &to, at);
}
static void drop_outputs(const run *r, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    if (!drops_output(p, n)) return;
    const dropout mask = mask_of(r, n, 0);
    const field h = from_step(p, &f->s, !f->reverse);
    p->k->drop(&mask, &r->batch.source, &h, &p->dropped[n], at, 0);
}

/* One layer direction, one block of steps, for the rows of the span. */
void layer_forward(const run *r, int64_t n, const span *at) {
    project_inputs(r, n, at);
    draw_noise(r, n, at);
    r->p->cell->forward(&r->p->layer[n], at);
    drop_outputs(r, n, at);
}

/* All layers, for the new steps of the chunk and the rows of the span.  All threads that have rows;
   barriers only where they share the units, and there all have rows. */
void layers_forward(run *r, team *team, span at, int rank, int size) {
    const bptt_plan *p = r->p;
    const int by_units = shares_units(r, size);
    for (int64_t n = 0; n < p->layers * p->directions; n++) {
        const frame *f = &p->layer[n];
        for (int64_t i = 0; next_block(p, f, 0, i, r->batch.new_begin, p->T, &at); i++) {
            const double work = layer_work(p, f) * (double)(at.t1 - at.t0);
            const int64_t slices = by_units ? 1 : slices_of_rows(p, at, work / size);
            for (int64_t slice = 0; slice < slices; slice++) {
                const span part = slice_of_rows(p, at, slice, slices);
                if (!by_units && stopped(r)) return;
                if (n == 0 && !p->shared) {
                    p->k->gather(&r->batch.source, p->I, p->I, &p->x, &part);
                    add_input_noise(r, &part);
                }
                if (!stopped(r)) project_inputs(r, n, &part); /* else scan_units returns 0 */
                draw_noise(r, n, &part);
                if (!by_units)
                    p->cell->forward(f, &part);
                else if (!scan_units(r, team, f, &part, 0, rank, size))
                    return;
                drop_outputs(r, n, &part);
                if (rank == 0) poll_caller(r, work / (double)slices);
            }
        }
    }
}

/* -- backward -- */

/* 1: dLoss/d(state before the chunk) is needed: by the caller, by trained initial states, or by the
   segment before. */
int needs_start_grad(const run *r) {
    const bptt_plan *p = r->p;
    const int segment_before = p->segment && r->batch.source.first > 0;
    return r->batch.grad_begin == 0 &&
        (r->wants_initial_grad || p->trained_state || segment_before);
}

/* After the backward pass through step 0 of layer direction n: leaves dLoss/d(state before it) in
   ds. */
void finish_layer(const run *r, int64_t n, span at) {
    r->p->cell->finish(&r->p->layer[n], &at);
    if (r->batch.source.first == 0) initial_grads(r, n, at);
}

/* Before and after the loop over time of one layer direction: dropout of dLoss/dh, the penalty of
   its rates, and dLoss/dx into dy of the layer below or, from the first layer, into p->dx.  The
   second direction adds to the first one's. */
static void drop_output_grads(const run *r, int64_t n, const span *at) {
    const frame *f = &r->p->layer[n];
    if (!drops_output(r->p, n)) return;
    const dropout mask = mask_of(r, n, 0);
    r->p->k->drop(&mask, &r->batch.source, &f->dy, &f->dy, at, 0);
}
/* The penalty of the rates of the new steps: its gradient is added to dLoss/dh from above, its value
   to the losses. */
static void penalise_rates(const run *r, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    const batch *b = &r->batch;
    const frame *f = &p->layer[n];
    const field h = from_step(p, &f->s, !f->reverse);
    const int from_above = p->every || n < (p->layers - 1) * p->directions;
    span now = *at;
    now.t0 = max64(at->t0, b->new_begin);
    if (p->rate_penalty == 0) return;
    for (int64_t t = at->t0; !from_above && t < at->t1; t++)
        p->k->zero_rows(&f->dy, t, at->r0, at->r1);
    if (b->rate_share > 0)
        p->k->penalise(p->R, p->rate_target, b->rate_share, b->rate_share / b->loss_desc.scale, &h,
                       &f->dy, &now, b->row_loss);
}
/* dLoss/dh of the new steps of the top layer. */
static void head_grads(const run *r, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    span now = *at;
    now.t0 = max64(at->t0, r->batch.new_begin);
    if (n == p->layers - 1 && head_is_in_layers(p) && now.t0 < now.t1) head_backward(p, now);
}
static void input_grads(const run *r, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    const frame *f = &p->layer[n];
    const int last_direction = (n + 1) % p->directions == 0;
    if (n >= p->directions) {
        const int64_t below = n / p->directions * p->directions - p->directions;
        for (int d = 0; d < p->directions; d++)
            p->k->backward(&f->ih, d, &f->dzx, &p->layer[below + d].dy, !last_direction, ACT_LINEAR,
                           NULL, at);
    } else if (p->input_gradient)
        p->k->backward(&f->ih, 0, &f->dzx, &p->dx, !last_direction, ACT_LINEAR, NULL, at);
}

/* One layer direction, one block of steps, for the rows of the span. */
void layer_backward(const run *r, int64_t n, const span *at) {
    drop_output_grads(r, n, at);
    penalise_rates(r, n, at);
    r->p->cell->backward(&r->p->layer[n], at);
    input_grads(r, n, at);
}

/* The same by units.  All threads. */
static void layer_backward_units(run *r, team *team, int64_t n, const span *at, int rank,
                                 int size) {
    head_grads(r, n, at);
    drop_output_grads(r, n, at);
    penalise_rates(r, n, at);
    if (scan_units(r, team, &r->p->layer[n], at, 1, rank, size)) input_grads(r, n, at);
}

/* The same by rows, in slices between which thread 0 polls.  Each thread; `work` is its part. */
static void layer_backward_rows(run *r, int64_t n, span at, double work, int rank) {
    const int64_t slices = slices_of_rows(r->p, at, work);
    for (int64_t i = 0; i < slices && at.r1 > at.r0 && !stopped(r); i++) {
        const span part = slice_of_rows(r->p, at, i, slices);
        head_grads(r, n, &part);
        layer_backward(r, n, &part);
        if (rank == 0) poll_caller(r, work / (double)slices);
    }
}

/* The weight gradients of these steps: the tiles of each thread, in such slices; `work` is the part of
   their products. */
void collect_block(run *r, int64_t n, int add, const span *at, double work, int rank, int size) {
    work += move_work(layer_size(&r->p->layer[n])) / size;
    const int slices = slices_of(work);
    for (int i = 0; i < slices && !stopped(r); i++) {
        collect_layer(r->p, n, add, at, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
}

/* The chunk backward down to grad_begin, and the weight gradients, added to p->grad if `add`.

   Each thread runs a block backward for its rows.  After a barrier all threads sum the block's
   weight gradients, each for its tiles, while the block is in the cache.  No second barrier is
   needed: the next block lies in other memory.  So a thread may be one block ahead, and whether to
   stop, on which all threads must agree, has two places, used alternately. */
void layers_backward(run *r, team *team, span at, int add, int rank, int size) {
    const bptt_plan *p = r->p;
    const int by_units = shares_units(r, size);
    int turn = 0;
    for (int64_t n = p->layers * p->directions - 1; n >= 0; n--) {
        const frame *f = &p->layer[n];
        for (int64_t i = 0; next_block(p, f, 1, i, r->batch.grad_begin, p->T, &at); i++) {
            const double work = layer_work(p, f) * (double)(at.t1 - at.t0) / size;
            span tiles = all_rows(r);
            tiles.t0 = at.t0;
            tiles.t1 = at.t1;
            if (by_units)
                layer_backward_units(r, team, n, &at, rank, size);
            else
                layer_backward_rows(r, n, at, work, rank);
            if (rank == 0) r->halt[turn] = stopped(r);
            team_barrier(team);
            if (r->halt[turn]) return;
            turn = !turn;
            collect_block(r, n, add || i > 0, &tiles, work, rank, size);
        }
        if (at.r1 > at.r0 && needs_start_grad(r)) finish_layer(r, n, at);
    }
    at.t0 = r->batch.new_begin;
    at.t1 = p->T;
    head_input_grads(r, at);
}

/* -- weight gradients -- */

/* One block of steps of one layer direction, part `part` of `parts` of the tiles.  Where windows
   share a series, the gradients of the input weights wait for collect_rest. */
void collect_layer(const bptt_plan *p, int64_t n, int add, const span *at, int64_t part,
                   int64_t parts) {
    const frame *f = &p->layer[n];
    const int shared = shares_input(p, n), split = p->cell->separate_dzr;
    field in[2];
    const int column_groups = shared ? 0 : inputs_of(p, n, in);
    for (int g = 0; g < column_groups; g++)
        p->k->collect(&f->ih, g, &in[g], &f->dzx, p->grad, add, at, part, parts);
    p->cell->collect(f, p->grad, add, at, part, parts);
    if (!shared)
        p->k->collect_bias(&f->b_ih, twin_of_bias(p, f), &f->dzx, p->grad, add, at, part, parts);
    if (split) p->k->collect_bias(&f->b_hh, NULL, &f->dzr, p->grad, add, at, part, parts);
    if (p->trained_tau)
        p->k->collect_bias(&f->raw_tau, NULL, &f->draw_tau, p->grad, add, at, part, parts);
}

/* Gradients of the projections of a series: sums over its windows.  All threads, each its columns, in
   slices between which thread 0 polls: to read a gradient takes as long as some multiply-adds. */
void sum_series(run *r, int rank, int size) {
    const bptt_plan *p = r->p;
    for (int64_t n = 0; n < p->directions; n++) {
        const frame *f = &p->layer[n];
        const double work = 10 * (double)f->dzx.step * (double)p->T / size;
        const int slices = slices_of(work);
        for (int i = 0; i < slices && !stopped(r); i++) {
            p->k->sum_windows(&f->dzx, &p->window_zx[n], p->stride, p->T, p->B, rank * slices + i,
                              size * slices);
            if (rank == 0) poll_caller(r, work / slices);
        }
    }
}

/* Part `part` of `parts` of the gradients of the input weights, where windows share a series. */
static void collect_series(const bptt_plan *p, int add, int64_t part, int64_t parts) {
    const span series = series_span(p, 0, series_rows(p, p->B, p->T));
    for (int64_t n = 0; n < p->directions; n++) {
        const frame *f = &p->layer[n];
        const field *dz = &p->window_zx[n];
        p->k->collect(&f->ih, 0, &p->x, dz, p->grad, add, &series, part, parts);
        p->k->collect_bias(&f->b_ih, twin_of_bias(p, f), dz, p->grad, add, &series, part, parts);
    }
}

/* What is summed after all blocks of the chunk: gradients of trained states and, where windows
   share a series, of the input weights.  All threads, each its tiles, in slices between which
   thread 0 polls. */
void collect_rest(run *r, int add, int rank, int size) {
    const bptt_plan *p = r->p;
    if (p->trained_state) collect_initial(r, add, rank, size);
    const double work = p->shared ? series_work(p, size) : 0;
    const int slices = slices_of(work);
    for (int i = 0; p->shared && i < slices && !stopped(r); i++) {
        collect_series(p, add, rank * slices + i, size * slices);
        if (rank == 0) poll_caller(r, work / slices);
    }
}
