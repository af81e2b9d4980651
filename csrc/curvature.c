/* curvature.c: the Gauss-Newton matrix J'J of the squared error, for second-order training of small
   networks.  No arithmetic on data.

   A residual, sqrt(weight) (y - target) of one output of one target row, is a row of a batch of the
   inner plan p->rows: sqrt(weight) enters g at that output, and the kernels of training take it
   backward to the states.  From there, one of two ways leads to a row of the Jacobian J.
   Backward: the tape of the residual's sequence is copied into the row and run backward; the weight
   gradients of the row are a row of J.  Forward, for long sequences with many targets: the tangents
   of the states along all parameters of f are advanced with time, and the chain rule gives the row
   of J.  [J r]'[J r] is summed over blocks of rows, so that J is never stored as a whole.

   All of this runs on one thread, after bptt_loss_grad left the tape of a batch in the arena. */
#include "run.h"
#include "update.h"
#include <math.h>
#include <string.h>

/* Forward is chosen if its multiply-adds are fewer than those of backward times this: measured. */
static const double FORWARD_COST = 2;

enum { SOLVE_ROWS = 64 }; /* rows between two polls; whole vectors */

/* The context of bptt_gauss_newton. */
typedef struct {
    run run;
    void *gram; /* the caller's (P+1, P+1), or NULL */
    void *jacobian; /* the caller's (target rows, O, P+1), or NULL */
    double weight; /* sum of the batch's weights */
    int64_t count; /* residuals in the present block: p->residual[0..count) */
    int forward; /* 1: J is computed forward, one sequence after the other */
    int64_t pushed; /* steps of the sequence that the tangents have made */
} gauss_newton;

/* A field whose row r is the given one's row b. */
static field row_as(const bptt_plan *p, const field *f, int64_t b, int64_t r) {
    return (field){ real_at(p, f->p, (b - r) * f->row), f->step, f->block, f->row };
}

/* Row r of the block of [J r]. */
static void *row_of(const bptt_plan *p, int64_t r) {
    return real_at(p, p->jacobian, r * p->gram_width);
}

/* -- from the batch's plan p to the residuals' plan q: row q->row[r] of p becomes row r of q -- */

/* What the backward pass reads of layer direction n. */
static void copy_tape(run *r, const bptt_plan *q, int64_t n, const span *at) {
    const bptt_plan *p = r->p;
    const frame *from = &p->layer[n], *to = &q->layer[n];
    const span first = { .t1 = 1, .r0 = at->r0, .r1 = at->r1 };
    const field s_from = from_step(p, &from->s, 1), s_to = from_step(p, &to->s, 1);
    span now = *at;
    p->k->gather_rows(&from->s, q->row, &to->s, &first);
    for (int64_t i = 0; next_block(q, to, 0, i, at->t0, at->t1, &now) && !stopped(r); i++) {
        p->k->gather_rows(&s_from, q->row, &s_to, &now);
        p->k->gather_rows(&from->saved, q->row, &to->saved, &now);
        if (p->cell->gate_values)
            p->k->gather_rows(&from->gate_values, q->row, &to->gate_values, &now);
        if (from->hr.size) p->k->gather_rows(&from->m, q->row, &to->m, &now);
        for (int64_t l = 0; l < from->depth; l++)
            p->k->gather_rows(&from->a[l], q->row, &to->a[l], &now);
        poll_caller(r, step_work(q) * (double)(now.t1 - now.t0));
    }
}

/* What g read and computed at the step of residual r, into chunk 0. */
static void copy_head(const bptt_plan *p, const bptt_plan *q, int64_t r) {
    const int64_t t = p->every ? p->residual[r].step : 0;
    for (int d = 0; d < p->directions; d++) {
        const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
        const field h = row_as(p, p->every ? &f->s : &p->last[d], q->row[r], r);
        p->k->copy_rows(&h, p->every ? t + !f->reverse : 0, &q->last[d], 0, r, r + 1);
    }
    if (p->skip) {
        const field x = row_as(p, p->every ? &p->x : &p->last_x, q->row[r], r);
        p->k->copy_rows(&x, t, &q->last_x, 0, r, r + 1);
    }
    for (int64_t l = 0; l + 1 < p->head_layers; l++) {
        const field value = row_as(p, &p->value[l], q->row[r], r);
        p->k->copy_rows(&value, t, &q->value[l], 0, r, r + 1);
    }
}

/* -- g -- */

/* From the seeds in the last layer of g to dr/dh of the top layer, in ds. */
static void head_to_states(const bptt_plan *q, const span *one) {
    const kernels *k = q->k;
    const int64_t count = q->layers * q->directions, top = count - q->directions;
    for (int64_t n = 0; n < count; n++) k->zero_rows(&q->layer[n].ds, 0, one->r0, one->r1);
    for (int64_t l = q->head_layers - 1; l > 0; l--)
        k->backward(&q->head[l].w, 0, pre_activation_grad(q, l), &q->head_grad[l - 1], 0,
                    q->head[l - 1].act, &q->value[l - 1], one);
    for (int64_t n = top; n < count; n++)
        k->backward(&q->head[0].w, n - top, pre_activation_grad(q, 0), &q->layer[n].ds, 0,
                    ACT_LINEAR, NULL, one);
}

/* g's part of row r of J. */
static void fill_head(const bptt_plan *p, const bptt_plan *q, int64_t r) {
    for (int64_t l = 0; l < q->head_layers; l++) {
        const dense *g = &q->head[l];
        const field *dz = pre_activation_grad(q, l);
        for (int s = 0; s < (l ? 1 : q->directions + q->skip); s++) {
            const field *x = l ? &q->value[l - 1] : s < q->directions ? &q->last[s] : &q->last_x;
            q->k->outer_product(&g->w, s, dz, x, r, row_of(p, r));
        }
        q->k->outer_product(&g->b, 0, dz, NULL, r, row_of(p, r));
    }
}

/* Residual r itself, of batch row `row`, behind its row of J: the loss left
   2 weight (y - target) / (O sum of weights) in place of y. */
static void fill_residual(const gauss_newton *c, int64_t row, int64_t r) {
    const bptt_plan *p = c->run.p;
    const residual *e = &p->residual[r];
    const field *y = &p->value[p->head_layers - 1];
    const double dy = p->k->element(y, p->every ? e->step : 0, row, e->output);
    const double value = dy * (double)p->O * c->weight / (2 * sqrt(e->weight));
    p->k->fill_row(row_of(p, r), p->flat_size, p->gram_width, value);
}

/* -- f's part of J, backward -- */

/* The active rows of q: those whose residuals, sorted by decreasing steps, have step t. */
static void set_batch_sizes(const bptt_plan *p, const bptt_plan *q, const span *at) {
    for (int64_t t = 0, r = at->r1; t <= at->t1; t++) {
        while (r > 0 && p->residual[r - 1].steps <= t) r--;
        q->batch_sizes[t] = r;
    }
}

/* Moves dr/dh from ds, which holds it for the last step of a row, to dy of the top layers, at the
   step of each row's residual. */
static void seed_steps(run *run, const bptt_plan *q, const span *at) {
    const bptt_plan *p = run->p;
    const kernels *k = q->k;
    const int64_t count = q->layers * q->directions;
    for (int64_t n = count - q->directions; n < count; n++) {
        const frame *f = &q->layer[n];
        for (int64_t t = at->t0; t < at->t1 && !stopped(run); t++) {
            k->zero_rows(&f->dy, t, at->r0, at->r1);
            poll_caller(run, (double)(q->B * q->R));
        }
        for (int64_t r = at->r0; r < at->r1; r++)
            k->copy_rows(&f->ds, 0, &f->dy, p->residual[r].step, r, r + 1);
        k->zero_rows(&f->ds, 0, at->r0, at->r1);
    }
}

/* From ds or dy to the gradients of all pre-activations. */
static void layers_to_pre_activations(gauss_newton *c, const bptt_plan *q, const span *at) {
    run *r = &c->run;
    span now = *at;
    for (int64_t n = q->layers * q->directions - 1; n >= 0; n--) {
        const frame *f = &q->layer[n];
        const int64_t below = n / q->directions * q->directions - q->directions;
        const int last_direction = (n + 1) % q->directions == 0;
        for (int64_t i = 0; next_block(q, f, 1, i, at->t0, at->t1, &now) && !stopped(r); i++) {
            q->cell->backward(f, &now);
            for (int d = 0; below >= 0 && d < q->directions; d++)
                q->k->backward(&f->ih, d, &f->dzx, &q->layer[below + d].dy, !last_direction,
                               ACT_LINEAR, NULL, &now);
            poll_caller(r, step_work(q) * (double)(now.t1 - now.t0));
        }
    }
}

/* With `skip`: of the columns of g that its integers choose, of row r, into the gradient. */
static void collect_head_integers(const bptt_plan *q, int64_t r) {
    const span row = { .t1 = 1, .r0 = r, .r1 = r + 1 };
    if (q->skip && q->choices)
        q->k->collect(&q->head[0].w, q->directions, &q->last_x, pre_activation_grad(q, 0), q->grad,
                      0, &row, 0, 1);
}

/* From ds to f's part of the block's rows of J, and to what integers choose of g. */
static void run_backward(gauss_newton *c, bptt_plan *q, const span *at) {
    run *run = &c->run;
    const bptt_plan *p = run->p;
    const int64_t count = q->layers * q->directions;
    set_batch_sizes(p, q, at);
    for (int64_t n = 0; n < count; n++) copy_tape(run, q, n, at);
    if (q->every) seed_steps(run, q, at); /* else a row ends where its residual is */
    layers_to_pre_activations(c, q, at);
    for (int64_t r = at->r0; r < at->r1 && !stopped(run); r++) {
        const span steps = {
            .t1 = p->residual[r].steps,
            .r0 = r,
            .r1 = r + 1,
            .batch_sizes = q->batch_sizes,
        };
        const double work = (double)q->packed_size * (double)steps.t1;
        const int slices = slices_of(work);
        q->x = row_as(p, &p->x, q->row[r], r);
        use_values(q, &q->x, r, steps.t1);
        make_part_of_tables(q, NEW_GRADS, 0, 1);
        for (int i = 0; i < slices && !stopped(run); i++) {
            for (int64_t n = 0; n < count; n++) collect_layer(q, n, 0, &steps, i, slices);
            poll_caller(run, work / slices);
        }
        collect_head_integers(q, r);
        collect_part_of_tables(q, 0, 1);
        each_block(q, q->k->unpack, q->grad, row_of(p, r), 0, 1);
    }
}

/* -- f's part of J, forward -- */

/* Advances the tangents to the step of each residual, sorted by increasing steps, and applies the
   chain rule there. */
static void push_tangents(gauss_newton *c) {
    run *run = &c->run;
    bptt_plan *p = run->p, *q = p->rows;
    const int64_t width = p->tangent_width;
    const double work = (double)(p->cell->states * p->H * p->H) * (double)width;
    for (int64_t r = 0; r < c->count; r++) {
        for (; c->pushed <= p->residual[r].step && !stopped(run); c->pushed++) {
            void *before = p->tangent[c->pushed & 1], *after = p->tangent[~c->pushed & 1];
            poll_caller(run, work);
            p->cell->tangent(&p->layer[0], &p->x, c->pushed, q->row[r], p->transition, before,
                             after, width);
        }
        p->k->apply_chain_rule(&q->layer[0].ds, r, p->H, p->tangent[c->pushed & 1], width,
                               row_of(p, r));
    }
}

/* -- blocks of residuals -- */

/* Gives the rows of [J r] of a block to the caller and to the Gram matrix. */
static void finish_rows(gauss_newton *c) {
    run *run = &c->run;
    const bptt_plan *p = run->p;
    const size_t size = (size_t)((p->flat_size + 1) * p->k->bytes);
    for (int64_t r = 0; c->jacobian && r < c->count; r++) {
        const size_t row = (size_t)(p->residual[r].target * p->O + p->residual[r].output);
        memcpy((char *)c->jacobian + row * size, row_of(p, r), size);
    }
    if (c->gram) p->k->gram(p->jacobian, c->count, p->gram_width, p->gram_width, p->gram);
    poll_caller(run, (double)c->count * (double)p->gram_width * (double)p->gram_width);
    c->count = 0;
}

/* Computes the rows of a block and finishes them.  Its residuals are sorted by decreasing steps;
   forward, they are of one sequence, by increasing steps. */
static void finish_block(gauss_newton *c) {
    bptt_plan *p = c->run.p, *q = p->rows;
    const int64_t rows = c->count, T = rows && !c->forward ? p->residual[0].steps : 1;
    const span all = { .t1 = T, .r1 = rows, .batch_sizes = q->batch_sizes };
    const span one = { .t1 = 1, .r1 = rows };
    if (!rows) return;
    lay_out(q, rows, T, TRAIN, 0);
    for (int64_t r = 0; r < rows; r++) {
        const residual *e = &p->residual[r];
        copy_head(p, q, r);
        p->k->set_one_hot(&q->value[q->head_layers - 1], r, e->output, sqrt(e->weight));
    }
    head_to_states(q, &one);
    if (c->forward)
        push_tangents(c);
    else
        run_backward(c, q, &all);
    if (stopped(&c->run)) return;
    for (int64_t r = 0; r < rows; r++) {
        fill_head(p, q, r);
        fill_residual(c, q->row[r], r);
    }
    finish_rows(c);
}

/* The weight of a target row. */
static double weight_of(const bptt_plan *p, const bptt_data *data, int64_t target) {
    return data->weight ? p->k->weight(data->weight, target) : 1;
}

/* Adds the residuals of the target of batch row `row` at step t; finishes each block that is
   full. */
static void add_target(gauss_newton *c, int64_t row, int64_t t) {
    bptt_plan *p = c->run.p;
    const bptt_data *data = c->run.data;
    const int64_t i = p->row[row], target = data->target_offset[i] + (p->every ? t : 0);
    const double weight = weight_of(p, data, target);
    for (int64_t o = 0; o < p->O && weight > 0 && !stopped(&c->run); o++) {
        p->rows->row[c->count] = row;
        p->residual[c->count] = (residual){
            .steps = p->directions == 1 ? t + 1 : data->length[i],
            .step = t,
            .output = o,
            .target = target,
            .weight = weight,
        };
        c->count++;
        if (c->count == p->residuals) finish_block(c);
    }
}

/* All residuals of the batch, by decreasing steps of their backward pass. */
static void add_backward(gauss_newton *c) {
    const bptt_plan *p = c->run.p;
    if (p->every && p->directions == 1) {
        for (int64_t t = p->T - 1; t >= 0; t--)
            for (int64_t row = 0; row < p->batch_sizes[t]; row++) add_target(c, row, t);
    } else {
        for (int64_t row = 0; row < p->B; row++) {
            const int64_t steps = c->run.data->length[p->row[row]];
            for (int64_t t = p->every ? 0 : steps - 1; t < steps; t++) add_target(c, row, t);
        }
    }
    if (!stopped(&c->run)) finish_block(c);
}

/* All residuals of the batch, one sequence after the other. */
static void add_forward(gauss_newton *c) {
    const bptt_plan *p = c->run.p;
    const size_t bytes = (size_t)((char *)p->tangent[1] - (char *)p->tangent[0]);
    for (int64_t row = 0; row < p->B && !stopped(&c->run); row++) {
        memset(p->tangent[0], 0, bytes);
        c->pushed = 0;
        for (int64_t t = 0; t < c->run.data->length[p->row[row]]; t++) add_target(c, row, t);
        if (!stopped(&c->run)) finish_block(c);
    }
}

/* The batch whose tape lies in the arena.  Per parameter and step, forward takes H (S H + O)
   multiply-adds, backward one for each residual, T O. */
static void add_batch(void *context, team *team, int rank, int size) {
    gauss_newton *c = context;
    const bptt_plan *p = c->run.p;
    const double H = (double)p->H, O = (double)p->O;
    const double forward = H * (p->cell->states * H + O), backward = (double)p->T * O;
    (void)team;
    (void)rank;
    (void)size;
    c->forward = p->tangents && forward < FORWARD_COST * backward;
    if (c->forward)
        add_forward(c);
    else
        add_backward(c);
}

/* -- batches -- */

/* The sum of the weights of all targets of n sequences. */
static double sum_of_weights(const bptt_plan *p, const bptt_data *data, const int64_t *order,
                             int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t targets = p->every ? data->length[order[i]] : 1;
        for (int64_t t = 0; t < targets; t++)
            sum += weight_of(p, data, data->target_offset[order[i]] + t);
    }
    return sum;
}

/* How many of the next n sequences fit the plan at once. */
static int64_t batch_that_fits(const bptt_plan *p, const bptt_data *data, const int64_t *order,
                               int64_t n) {
    int64_t longest = 0, B = 0;
    for (; B < n && B < p->batch; B++) {
        longest = max64(longest, data->length[order[B]]);
        if (B && B + 1 > p->area / longest) break;
    }
    return B;
}

bptt_status bptt_gauss_newton(bptt_plan *p, const void *params, const bptt_data *data,
                              const int64_t *order, int64_t n, void *gram, void *jacobian,
                              bptt_poll poll, void *context) {
    gauss_newton c = {
        .run = { .p = p, .data = data, .poll = poll, .context = context },
        .gram = gram,
        .jacobian = jacobian,
    };
    const size_t row = (size_t)((p->flat_size + 1) * p->k->bytes);
    const size_t padded_row = (size_t)(p->gram_width * p->k->bytes);
    if (!p->residuals || !has_targets(p, data, 0)) return BPTT_CAPACITY;
    bptt_loss loss;
    bptt_describe_loss(p->loss.kind, &loss);
    if (!loss.least_squares || p->dropout > 0 || p->recurrent_dropout > 0) return BPTT_BAD_DESC;
    each_block(p->rows, p->k->pack, params, p->rows->packed, 0, 1);
    pack_transposed_all(p->rows, 0, 1);
    if (gram) memset(p->gram, 0, padded_row * (size_t)p->gram_width);
    for (int64_t from = 0, B; from < n; from += B) {
        double mean;
        B = batch_that_fits(p, data, order + from, n - from);
        const bptt_status status = bptt_loss_grad(p, params, data, order + from, B, &mean,
                                                  p->jacobian, NULL, NULL, poll, context);
        if (status) return status;
        c.weight = sum_of_weights(p, data, order + from, B);
        team_run_alone(add_batch, &c);
        if (stopped(&c.run)) return BPTT_INTERRUPTED;
    }
    for (int64_t i = 0; gram && i <= p->flat_size; i++)
        memcpy((char *)gram + (size_t)i * row, (char *)p->gram + (size_t)i * padded_row, row);
    return BPTT_OK;
}

/* -- the normal equations -- */

/* Counts `work` multiply-adds of r's run.  Returns 1 where the caller ends it. */
static int ends(run *r, double work) {
    poll_caller(r, work);
    return stopped(r);
}

/* A panel of rows of A at a time: the sum over them is in their order. */
bptt_status bptt_gram(bptt_plan *p, const void *a, int64_t rows, int64_t width, void *out,
                      bptt_poll poll, void *context) {
    run r = { .p = p, .poll = poll, .context = context };
    if (!p->residuals || width % p->k->lanes) return BPTT_CAPACITY;
    for (int64_t from = 0, some; from < rows; from += some) {
        some = min64(SOLVE_ROWS, rows - from);
        p->k->gram(real_at(p, a, from * width), some, width, width, real_at(p, out, 0));
        if (ends(&r, 0.5 * (double)some * (double)width * (double)width)) return BPTT_INTERRUPTED;
    }
    return BPTT_OK;
}

/* Right-looking: SOLVE_ROWS rows of U, then what they contribute to all rows below. */
bptt_status bptt_solve(bptt_plan *p, void *rows, int64_t n, int64_t width, void *x, bptt_poll poll,
                       void *context) {
    run r = { .p = p, .poll = poll, .context = context };
    if (!p->residuals || width % p->k->lanes || width <= n) return BPTT_CAPACITY;
    for (int64_t from = 0; from < n; from += SOLVE_ROWS) {
        const int64_t to = min64(from + SOLVE_ROWS, n), left = width - to;
        if (!p->k->factor_rows(rows, from, to, width)) return BPTT_DIVERGED;
        if (to < n)
            p->k->gram(real_at(p, rows, from * width + to), to - from, left, width,
                       real_at(p, rows, to * width + to));
        if (ends(&r, 0.5 * SOLVE_ROWS * (double)left * (double)(left + SOLVE_ROWS)))
            return BPTT_INTERRUPTED;
    }
    p->k->solve_rows(rows, n, width, x);
    return BPTT_OK;
}
