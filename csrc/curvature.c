/* curvature.c: the Gauss-Newton matrix J'J of the squared error, for second-order training of small networks.

   A residual, sqrt(weight) (y - target) of one output of one target row, is a row of a batch.  sqrt(weight) enters g at that
   output and the kernels of training take it back to the states.  Backwards: the tape of its sequence is repeated in the row and
   run back from there; what the row collects is a row of the Jacobian J.  Forwards, for long sequences with many targets: the
   states' tangents along all parameters of f go with time, and the chain rule gives the row of J.  [J r]'[J r] is summed over
   blocks of rows, so that J is never whole.  No arithmetic on data. */
#include "run.h"
#include <math.h>
#include <string.h>

static const double FORWARDS = 2;              /* where both ways take equally long, in the units of add_batch: measured */

typedef struct {
    bptt_plan *p;
    const bptt_data *data;
    void *product, *jacobian;                  /* the caller's, or NULL */
    double weight;                             /* sum of the batch's weights */
    int64_t count;                             /* residuals in the present block */
    int forwards;                              /* J is made so, of one sequence at a time: */
    int64_t pushed;                            /* its steps that the tangents have made */
    run run;                                   /* the poll */
} blocks;

/* A field whose row r is the given one's row b, or whose chunk t is the given one's chunk t + steps. */
static field row_as(const bptt_plan *p, const field *f, int64_t b, int64_t r) {
    return (field){ (char *)f->p + (b - r) * f->row * p->k->bytes, f->step, f->block, f->row };
}
static field later(const bptt_plan *p, const field *f, int64_t steps) {
    return (field){ (char *)f->p + steps * f->step * p->k->bytes, f->step, f->block, f->row };
}

/* What the backward pass reads of a layer direction. */
static void repeat_tape(const bptt_plan *p, const bptt_plan *q, int64_t n, const span *at) {
    const frame *from = &p->layer[n], *to = &q->layer[n];
    const span first = { .t1 = 1, .r0 = at->r0, .r1 = at->r1 };
    const field s_from = later(p, &from->s, 1), s_to = later(p, &to->s, 1);
    p->k->gather_rows(&from->s, q->row, &to->s, &first);
    p->k->gather_rows(&s_from, q->row, &s_to, at);
    p->k->gather_rows(&from->saved, q->row, &to->saved, at);
    if (p->cell->gate_values) p->k->gather_rows(&from->gate_values, q->row, &to->gate_values, at);
    if (from->hr.size) p->k->gather_rows(&from->m, q->row, &to->m, at);
    for (int64_t i = 0; i < from->depth; i++) p->k->gather_rows(&from->a[i], q->row, &to->a[i], at);
}
/* What g read and computed at the residual's step, into chunk 0. */
static void repeat_head(const bptt_plan *p, const bptt_plan *q, int64_t r) {
    const int64_t t = p->every ? p->residual[r].step : 0;
    for (int d = 0; d < p->directions; d++) {
        const frame *f = &p->layer[(p->layers - 1) * p->directions + d];
        const field h = row_as(p, p->every ? &f->s : &p->last[d], q->row[r], r);
        p->k->copy_rows(&h, p->every ? t + !f->reverse : 0, &q->last[d], 0, r, r + 1);
    }
    for (int64_t l = 0; l + 1 < p->head_layers; l++) {
        const field value = row_as(p, &p->value[l], q->row[r], r);
        p->k->copy_rows(&value, t, &q->value[l], 0, r, r + 1);
    }
}
static const field *head_slope(const bptt_plan *q, int64_t l) { return l + 1 < q->head_layers ? &q->head_grad[l] : &q->value[l]; }

/* From the seeds in the last layer of g to dLoss/dh of the top layer, in ds. */
static void head_back(const bptt_plan *q, const span *one) {
    const kernels *k = q->k;
    const int64_t count = q->layers * q->directions, top = count - q->directions;
    for (int64_t n = 0; n < count; n++) k->zero_rows(&q->layer[n].ds, 0, one->r0, one->r1);
    for (int64_t l = q->head_layers - 1; l > 0; l--)
        k->backward(&q->head[l].w, 0, head_slope(q, l), &q->head_grad[l - 1], 0, q->head[l - 1].act, &q->value[l - 1], one);
    for (int64_t n = top; n < count; n++)
        k->backward(&q->head[0].w, n - top, head_slope(q, 0), &q->layer[n].ds, 0, ACT_LINEAR, NULL, one);
}
static void *row_of(const bptt_plan *p, int64_t r) { return (char *)p->jacobian + r * p->gram_width * p->k->bytes; }

/* g's part of a row of J. */
static void fill_head(const bptt_plan *p, const bptt_plan *q, int64_t r) {
    for (int64_t l = 0; l < q->head_layers; l++) {
        const dense *g = &q->head[l];
        for (int s = 0; s < (l ? 1 : q->directions); s++)
            q->k->outer_product(&g->w, s, head_slope(q, l), l ? &q->value[l - 1] : &q->last[s], r, row_of(p, r));
        q->k->outer_product(&g->b, 0, head_slope(q, l), NULL, r, row_of(p, r));
    }
}
/* The residual itself behind its row of J: the loss left 2 weight (y - target) / (O sum of weights) in place of y. */
static void fill_residual(const blocks *b, int64_t row, int64_t r) {
    const bptt_plan *p = b->p;
    const residual *e = &p->residual[r];
    const double dy = p->k->element(&p->value[p->head_layers - 1], p->every ? e->step : 0, row, e->output);
    p->k->fill_row(row_of(p, r), p->flat_size, p->gram_width, dy * (double)p->O * b->weight / (2 * sqrt(e->weight)));
}
/* What is done with a block of rows of [J r]. */
static void sum_rows(blocks *b) {
    const bptt_plan *p = b->p;
    const size_t size = (size_t)((p->flat_size + 1) * p->k->bytes);
    for (int64_t r = 0; b->jacobian && r < b->count; r++)
        memcpy((char *)b->jacobian + (size_t)(p->residual[r].target * p->O + p->residual[r].output) * size, row_of(p, r), size);
    if (b->product) p->k->gram(p->jacobian, b->count, p->gram_width, p->gram);
    poll_caller(&b->run, (double)b->count * (double)p->gram_width * (double)p->gram_width);
    b->count = 0;
}

/* From ds to the gradients of all pre-activations, and from them to f's part of J. */
static void run_back(blocks *b, bptt_plan *q, const span *at) {
    const bptt_plan *p = b->p;
    const kernels *k = q->k;
    const int64_t count = q->layers * q->directions;
    for (int64_t t = 0, r = at->r1; t <= at->t1; t++) {
        while (r > 0 && p->residual[r - 1].steps <= t) r--;
        q->batch_sizes[t] = r;
    }
    for (int64_t n = 0; n < count; n++) repeat_tape(p, q, n, at);
    for (int64_t n = count - q->directions; n < count && q->every; n++) {     /* else a row ends where its residual is */
        const frame *f = &q->layer[n];
        for (int64_t t = at->t0; t < at->t1; t++) k->zero_rows(&f->dy, t, at->r0, at->r1);
        for (int64_t r = at->r0; r < at->r1; r++) k->copy_rows(&f->ds, 0, &f->dy, p->residual[r].step, r, r + 1);
        k->zero_rows(&f->ds, 0, at->r0, at->r1);
    }
    span now = *at;
    for (int64_t n = count - 1; n >= 0; n--)
        for (int64_t i = 0; next_block(q, &q->layer[n], 1, i, at->t0, at->t1, &now) && !stopped(&b->run); i++) {
            q->cell->backward(&q->layer[n], &now);
            for (int64_t d = 0; n >= q->directions && d < q->directions; d++) {
                const int64_t below = n / q->directions * q->directions - q->directions + d;
                k->backward(&q->layer[n].ih, d, &q->layer[n].dzx, &q->layer[below].dy, (n + 1) % q->directions != 0, ACT_LINEAR,
                            NULL, &now);
            }
            poll_caller(&b->run, step_work(q) * (double)(now.t1 - now.t0));
        }
    for (int64_t r = at->r0; r < at->r1 && !stopped(&b->run); r++) {
        const span steps = { 0, p->residual[r].steps, r, r + 1, q->batch_sizes, REDUCE_ROWS };
        q->x = row_as(p, &p->x, q->row[r], r);
        for (int64_t n = 0; n < count; n++) collect_layer(q, n, 0, &steps, 0, 1);
        poll_caller(&b->run, (double)q->packed_size * (double)p->residual[r].steps);
        each_block(q, k->unpack, q->grad, row_of(p, r), 0, 1);
    }
}
/* f's part of J from the tangents, which make the steps up to each residual's. */
static void push_tangents(blocks *b) {
    bptt_plan *p = b->p;
    const frame *f = &p->layer[0];
    for (int64_t r = 0; r < b->count; r++) {
        for (; b->pushed <= p->residual[r].step && !stopped(&b->run); b->pushed++) {
            poll_caller(&b->run, (double)(p->cell->states * p->H * p->H) * (double)p->tangent_width);
            p->cell->tangent(f, &p->x, b->pushed, p->rows->row[r], p->transition, p->tangent[b->pushed & 1],
                             p->tangent[~b->pushed & 1], p->tangent_width);
        }
        p->k->apply_chain_rule(&p->rows->layer[0].ds, r, p->H, p->tangent[b->pushed & 1], p->tangent_width,
                      row_of(p, r));
    }
}
/* A block of residuals, sorted by decreasing steps; forwards, of one sequence by increasing steps. */
static void finish_block(blocks *b) {
    bptt_plan *p = b->p, *q = p->rows;
    const int64_t rows = b->count, T = rows && !b->forwards ? p->residual[0].steps : 1;
    const span all = { 0, T, 0, rows, q->batch_sizes, REDUCE_ROWS }, one = { .t1 = 1, .r1 = rows };
    if (!rows) return;
    lay_out(q, rows, T, TRAIN, 0);
    for (int64_t r = 0; r < rows; r++) {
        repeat_head(p, q, r);
        p->k->set_one_hot(&q->value[q->head_layers - 1], r, p->residual[r].output, sqrt(p->residual[r].weight));
    }
    head_back(q, &one);
    if (b->forwards) push_tangents(b);
    else run_back(b, q, &all);
    if (stopped(&b->run)) return;
    for (int64_t r = 0; r < rows; r++) {
        fill_head(p, q, r);
        fill_residual(b, q->row[r], r);
    }
    sum_rows(b);
}
static double weight_of(const blocks *b, int64_t target) {
    return b->data->weight ? b->p->k->weight(b->data->weight, target) : 1;
}
static void add_target(blocks *b, int64_t row, int64_t t) {
    bptt_plan *p = b->p;
    const int64_t i = p->row[row], target = b->data->target_offset[i] + (p->every ? t : 0);
    const double weight = weight_of(b, target);
    for (int64_t o = 0; o < p->O && weight > 0 && !stopped(&b->run); o++) {
        const int64_t steps = p->directions == 1 ? t + 1 : b->data->length[i];
        p->rows->row[b->count] = row;
        p->residual[b->count++] = (residual){ steps, t, o, target, weight };
        if (b->count == p->residuals) finish_block(b);
    }
}
/* All residuals of the batch, by decreasing steps of their backward pass. */
static void add_backwards(blocks *b) {
    const bptt_plan *p = b->p;
    if (p->every && p->directions == 1)
        for (int64_t t = p->T - 1; t >= 0; t--)
            for (int64_t row = 0; row < p->batch_sizes[t]; row++) add_target(b, row, t);
    else
        for (int64_t row = 0; row < p->B; row++) {
            const int64_t steps = b->data->length[p->row[row]];
            for (int64_t t = p->every ? 0 : steps - 1; t < steps; t++) add_target(b, row, t);
        }
    if (!stopped(&b->run)) finish_block(b);
}

/* All residuals of the batch, sequence by sequence. */
static void add_forwards(blocks *b) {
    const bptt_plan *p = b->p;
    const size_t bytes = (size_t)((char *)p->tangent[1] - (char *)p->tangent[0]);
    for (int64_t row = 0; row < p->B && !stopped(&b->run); row++) {
        memset(p->tangent[0], 0, bytes);
        b->pushed = 0;
        for (int64_t t = 0; t < b->data->length[p->row[row]]; t++) add_target(b, row, t);
        if (!stopped(&b->run)) finish_block(b);
    }
}
/* Of a batch whose tape lies in the arena.  For each parameter and step, forwards H (S H + O) multiply-adds, backwards one for
   each residual, T O. */
static void add_batch(void *context, team *team, int rank, int size) {
    (void)team, (void)rank, (void)size;
    blocks *b = context;
    const bptt_plan *p = b->p;
    const double H = (double)p->H, O = (double)p->O, forwards = H * (p->cell->states * H + O), backwards = (double)p->T * O;
    b->forwards = p->tangents && forwards < FORWARDS * backwards;
    if (b->forwards) add_forwards(b);
    else add_backwards(b);
}
static double sum_of_weights(const bptt_plan *p, const bptt_data *data, const int64_t *order, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t t = 0; t < (p->every ? data->length[order[i]] : 1); t++)
            sum += data->weight ? p->k->weight(data->weight, data->target_offset[order[i]] + t) : 1;
    return sum;
}

/* As many of the next sequences as fit at once. */
static int64_t that_fit(const bptt_plan *p, const bptt_data *data, const int64_t *order, int64_t n) {
    int64_t longest = 0, B = 0;
    for (; B < n && B < p->batch; B++) {
        const int64_t length = data->length[order[B]];
        if (length > longest) longest = length;
        if (B && B + 1 > p->area / longest) break;
    }
    return B;
}
bptt_status bptt_gauss_newton(bptt_plan *p, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                              void *gram, void *jacobian, bptt_poll poll, void *context) {
    blocks b = { .p = p, .data = data, .product = gram, .jacobian = jacobian, .run = { .p = p, .poll = poll, .context = context } };
    const size_t row = (size_t)((p->flat_size + 1) * p->k->bytes), wide = (size_t)(p->gram_width * p->k->bytes);
    if (!p->residuals || !has_targets(p, data)) return BPTT_CAPACITY;
    bptt_loss loss;
    bptt_describe_loss(p->loss.kind, &loss);
    if (!loss.least_squares || p->dropout > 0 || p->recurrent_dropout > 0) return BPTT_BAD_DESC;
    each_block(p->rows, p->k->pack, params, p->rows->packed, 0, 1);
    pack_transposed_all(p->rows, 0, 1);
    if (gram) memset(p->gram, 0, wide * (size_t)p->gram_width);
    for (int64_t from = 0, B; from < n; from += B) {
        double mean;
        B = that_fit(p, data, order + from, n - from);
        const bptt_status status = bptt_loss_grad(p, params, data, order + from, B, &mean, p->jacobian, NULL, NULL, poll, context);
        if (status) return status;
        b.weight = sum_of_weights(p, data, order + from, B);
        team_run(1, add_batch, &b);
        if (stopped(&b.run)) return BPTT_INTERRUPTED;
    }
    for (int64_t i = 0; gram && i <= p->flat_size; i++)
        memcpy((char *)gram + (size_t)i * row, (char *)p->gram + (size_t)i * wide, row);
    return BPTT_OK;
}
