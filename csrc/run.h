/* run.h: what every verb knows of its call and of the batch it works on, and the operations that
   all verbs share: batches.c (which rows and steps), states.c, layers.c and head.c.

   A verb has a context that embeds a run: training (training.h), inference, autodiff, stream and
   sliding (online.c; the others in files of their names).  The context lies on the stack of the
   calling thread.  All threads of the team read it; thread 0, the calling one, is the only one that
   writes it, between two barriers.

   Threads share a batch in two ways.  By rows: each thread runs gather, input projection, scan,
   readout and loss for its rows.  By tiles or slices: each thread sums its part of the weight
   gradients over all rows, or updates its part of the weights.  Blocks and their order depend on
   the problem alone, so the bits are the same for any number of threads. */
#ifndef BPTT_RUN_H
#define BPTT_RUN_H
#include "integers.h"
#include "plan.h"
#include "threads.h"
#include <stdatomic.h>

/* The present batch; its present group of rows; the present chunk of steps, which are the steps
   [0, p->T) of the plan's fields. */
typedef struct {
    /* the batch */
    int64_t size; /* rows of the batch */
    int64_t end; /* where in `order` it ends */
    double weight_sum; /* over all its targets */
    double steps; /* of all its rows */
    uint64_t draw; /* which of dropout's masks: the update at which the batch began */
    int given; /* 1: the states before the first step are the caller's */
    /* NULL, or the caller's initial states: an array (layers*directions, n, width) per kind */
    const void *const *initial;
    /* the group */
    source source; /* its rows in the caller's arrays; source.first: the step in chunk 0 */
    int64_t longest; /* steps of its longest row */
    double *row_loss; /* (rows of the group) */
    loss_desc loss_desc; /* the loss and the scale of its gradient */
    double rate_share; /* of one rate's penalty in the loss of the update */
    int several; /* 1: a single row is summed in the order of one row of several */
    /* the chunk */
    int64_t rows; /* rows [0, rows) of the group take part in it */
    int64_t new_begin; /* the steps from here on are new, those before were run forward already */
    int64_t grad_begin; /* the backward pass ends at this step */
    int64_t ended; /* g reads the last states of the rows [ended, rows) */
} batch;

/* The common part of all verbs. */
typedef struct {
    bptt_plan *p;
    const bptt_data *data;
    const int64_t *order; /* (n) sequences; NULL: 0, 1, ... */
    int64_t n; /* sequences in `order` */
    int64_t done; /* finished updates, or batches, or patterns */
    bptt_poll poll; /* the caller's, or NULL */
    void *context; /* for poll */
    double unpolled; /* multiply-adds since the last poll */
    atomic_int stop; /* 1: poll asked to stop */
    int abandoned; /* 1: and needs no optimiser state; by thread 0 */
    int halt[4]; /* `stop` as thread 0 read it before a barrier, for all threads after it: see
                    layers_backward, is_over, and embeddings.c */
    bptt_status status;
    int wants_initial_grad; /* 1: the caller wants dLoss/d(states before the first step) */
    batch batch;
} run;

/* 1: the run is to be ended as soon as possible.  Any thread. */
static inline int stopped(const run *r) {
    return atomic_load_explicit(&r->stop, memory_order_relaxed);
}
/* The address of real number `reals` of an array of the plan's reals. */
static inline void *real_at(const bptt_plan *p, const void *array, int64_t reals) {
    return (char *)array + reals * p->k->bytes;
}
/* Whether the run is to be ended, for all threads alike: with a barrier, and thread 0 must pass another
   one before it asks again at the same place of `halt`. */
static inline int is_over_at(run *r, int place, team *team, int rank) {
    if (rank == 0) r->halt[place] = stopped(r);
    team_barrier(team);
    return r->halt[place];
}
static inline int is_over(run *r, team *team, int rank) { return is_over_at(r, 2, team, rank); }
/* A field whose chunk 0 is the given one's chunk t. */
static inline field from_step(const bptt_plan *p, const field *f, int64_t t) {
    return (field){ real_at(p, f->p, t * f->step), f->step, f->block, f->row };
}

/* Multiply-adds of a part of a run that is many batches long: some 10 milliseconds.  A part is a
   team_run of its own, so that the number of threads can change between two. */
static const double PART_WORK = 1e8;

/* -- batches.c -- */

/* What is done with a pattern of the online algorithm, whose k inputs begin at x.  0: the run is
   over. */
typedef int on_pattern(void *context, const void *x, double weight);

/* Multiply-adds between two calls of the caller's poll: some milliseconds. */
static const double POLL_WORK = 2e7;
void call_poll(run *r);

/* What a step of a tiny network, or a batch of a few such steps, takes at least, in multiply-adds. */
static const double LEAST_WORK = 2000;

/* Counts `work` multiply-adds and polls the caller now and then.  By the calling thread alone.
   Inline: a small pattern of the online algorithm counts several times. */
static inline void poll_caller(run *r, double work) {
    r->unpolled += LEAST_WORK + work;
    if (r->unpolled >= POLL_WORK) call_poll(r);
}
double move_work(int64_t reals);
void touch_fields(run *r, team *team, int rank, int size);
int64_t layer_size(const frame *f);
double step_work(const bptt_plan *p);
double layer_work(const bptt_plan *p, const frame *f);
double head_work(const bptt_plan *p);
int64_t poll_steps(const bptt_plan *p);
int has_targets(const bptt_plan *p, const bptt_data *data, int takes_own);
void place_outputs(run *r);
void call_own_loss(run *r);
int64_t call_add(run *r, int64_t shard, double loss);
double call_exchange(run *r);
int all_fit(const bptt_plan *p, const bptt_data *data, const int64_t *order, int64_t n, int blocks);
source source_of(const bptt_plan *p, const bptt_data *data);
void begin_batch(run *r, int64_t from, uint64_t draw);
int begin_group(run *r, int64_t from, int64_t max_steps, uint64_t draw);
void begin_chunk(run *r, int64_t first, int64_t T);
int64_t count_batch_sizes(bptt_plan *p, const source *s, int64_t T);
int find_windows(run *r, int64_t B);
span series_span(const bptt_plan *p, int64_t r0, int64_t r1);
double sum_weights(const bptt_plan *p, const source *s, int64_t rows, int64_t from, int64_t to);
double count_steps(const source *s, int64_t rows, int64_t from, int64_t to);
double chunk_weight(const run *r, int64_t rows, int64_t from, int64_t to);
double chunk_steps(const run *r, int64_t rows, int64_t from, int64_t to);
double total_loss(const run *r);
span all_rows(const run *r);
span rows_of(const run *r, int rank, int size);
span readout_span(int every, span at);
int next_block(const bptt_plan *p, const frame *f, int backward, int64_t number, int64_t from,
               int64_t to, span *at);
int next_readout(const bptt_plan *p, int every, int64_t number, int64_t from, span rows, span *at);
int slide_sequence(run *r, int64_t i, int64_t k, int64_t lead, on_pattern *next, void *context);
int slices_of(double work);
int64_t slices_of_rows(const bptt_plan *p, span at, double work);
span slice_of_rows(const bptt_plan *p, span at, int64_t slice, int64_t slices);

/* -- states.c -- */
field state_kind(const bptt_plan *p, const frame *f, const field *s, int q);
dropout mask_of(const run *r, int64_t n, int kind);
void load_kind(const run *r, int64_t n, int q, const void *const *in, const field *to, int64_t t,
               span rows);
void init_states(run *r, span at);
void store_states(const run *r, int64_t n, const field *s, int64_t t, span rows, void *out,
                  void *const *kinds);
int64_t steps_left(const run *r, int64_t b);
void store_final_states(const run *r, span at, void *out, void *const *kinds);
void gather_last_states(const run *r, span at);
void carry_states(const run *r, span at, void *out);
void clear_state_grads(const bptt_plan *p, span at);
void initial_grads(const run *r, int64_t n, span at);
void collect_initial(const run *r, int add, int part, int parts);

/* The bias whose gradient is that of b_ih; NULL: there is none. */
static inline const matrix *twin_of_bias(const bptt_plan *p, const frame *f) {
    return p->cell->separate_dzr || !p->cell->recurrent ? NULL : &f->b_hh;
}

/* -- embeddings.c -- */
/* Which tables of products are made: in addition to those that are, for prediction; new ones, with
   zeros for their gradients; also with zeros for the gradients of the embeddings. */
enum { MORE_TABLES, NEW_TABLES, NEW_GRADS };
void use_no_values(bptt_plan *p);
void use_values(bptt_plan *p, const field *x, int64_t row, int64_t steps);
void make_part_of_tables(const bptt_plan *p, int tables, int64_t part, int64_t parts);
void make_tables_of_step(bptt_plan *p, int64_t r0, int64_t r1);
void collect_part_of_tables(const bptt_plan *p, int64_t part, int64_t parts);
int make_tables(run *r, const span *at, int tables, team *team, int rank, int size);
int collect_tables(run *r, team *team, int rank, int size);

/* -- layers.c -- */
void project_series(run *r, int rank, int size);
void layer_forward(const run *r, int64_t n, const span *at);
void layers_forward(run *r, team *team, span at, int rank, int size);
void layer_backward(const run *r, int64_t n, const span *at);
void add_input_noise(const run *r, const span *at);
void finish_layer(const run *r, int64_t n, span at);
void layers_backward(run *r, team *team, span at, int add, int rank, int size);
int needs_start_grad(const run *r);
void collect_layer(const bptt_plan *p, int64_t n, int add, const span *at, int64_t part,
                   int64_t parts);
void sum_series(run *r, int rank, int size);
void collect_block(run *r, int64_t n, int add, const span *at, double work, int rank, int size);
void collect_rest(run *r, int add, int rank, int size);

/* -- head.c -- */
void head_forward(const bptt_plan *p, int every, span at);
/* Gradients of the pre-activations of layer l of g; those of the last layer lie in place of y. */
static inline const field *pre_activation_grad(const bptt_plan *p, int64_t l) {
    return l + 1 < p->head_layers ? &p->head_grad[l] : &p->value[l];
}
int head_is_in_layers(const bptt_plan *p);
void head_backward(const bptt_plan *p, span at);
void head_input_grads(const run *r, span at);
void collect_head(const bptt_plan *p, int add, span all, int64_t part, int64_t parts);
void outputs_or_losses(run *r, int every, span rows, void *y);
void readout(run *r, span rows, double *row_loss);
void outputs_backward(run *r, const void *dy, span rows);
void collect_readout(run *r, int add, int rank, int size);
#endif
