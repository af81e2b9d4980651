/* run.h: what one run knows, and the steps that batches (run.c) and single rows (online.c) share. */
#ifndef BPTT_RUN_H
#define BPTT_RUN_H
#include "plan.h"
#include "threads.h"
#include <stdatomic.h>

typedef struct {
    bptt_plan *p;
    const bptt_data *data;
    const int64_t *order;
    int64_t n, done;                           /* sequences in order; finished updates (or batches) */
    int64_t batch, end;                        /* rows of the present batch; where in order it ends */
    int several;                               /* a single row is summed as one of several */
    bptt_hyper *hyper;
    double *loss, *weight;                     /* of each update */
    bptt_poll poll;
    void *context;
    double unpolled;                           /* multiply-adds since the last poll */
    bptt_status status;
    atomic_int stop;
    int halt[2], over;                         /* what thread 0 saw of it before a barrier, for all threads after that */
    update update;
    int slots;                                 /* vectors that this optimiser, with these numbers, keeps */
    double most, gain;                         /* a weight changes by at most most, and gain * the largest gradient */
    int amplifies;                             /* weight decay may do more than shrink the weights */
    int by_block;                              /* blocks of parameters need calls of their own in an update */
    const void *params;
    void *trained, *opt_state;                 /* training: params, to be written, and the optimiser's slots */
    void *grad, *dx, *dstate;                  /* loss_grad, backward: wanted, or NULL */
    const bptt_forward_arrays *forward;        /* forward, */
    const bptt_backward_arrays *output_grads;        /* backward: the caller's arrays */
    int given;                                 /* the states before the first step are the caller's */
    int every;                                 /* predict: what g reads */
    void *y, *state;                           /* predict: outputs; final states, of training too */
    double loss_sum, weight_sum;               /* evaluate */
    int64_t k, lead, each;                     /* slide; steps between two looks at the poll */
    source source;
    loss_desc loss_desc;
    /* The present chunk of a batch, steps [0, p->T) of its fields: */
    int64_t fresh, back;                       /* new are the steps from `fresh` on; the backward pass ends at step `back` */
    int64_t longest;                           /* steps of the whole group */
    double *row_loss;                          /* of the group's rows */
    int64_t rows, ended;                       /* rows [0, rows) of the group take part; g reads the last states of rows [ended, rows) */
    uint64_t first_update;                     /* the update at which the batch began: masks stay the same within it */
} run;

void poll_caller(run *, double work);                  /* the caller's poll, now and then */
static inline int stopped(const run *r) { return atomic_load_explicit(&r->stop, memory_order_relaxed); }
double step_work(const bptt_plan *);           /* multiply-adds of one step, forward */
int next_block(const bptt_plan *, const frame *, int backward, int64_t number, int64_t from, int64_t to, span *at);
span all_rows(const run *);
span readout_span(int every, span);            /* where g works: on the steps of the span, or once on the last states */
source source_of(const bptt_plan *, const bptt_data *);
field state_kind(const bptt_plan *, const frame *, const field *s, int q);   /* h (q = 0) or c in a field of states */
void init_states(run *, span);                  /* before the first step */
void store_states(const run *, int64_t n, const field *s, int64_t t, span rows, void *out, void *const *kinds);   /* of layer
                                                  direction n */
void layer_forward(run *, int64_t n, const span *);         /* one layer direction, one block of steps */
void head_forward(const bptt_plan *, int every, span);
void load_parameters(const run *, team *, int rank, int size);      /* weights and slots into the arena, */
void store_parameters(const run *, team *, int rank, int size);    /* and back */
void collect_layer(const bptt_plan *, int64_t n, int add, const span *, int64_t part, int64_t parts);   /* weight gradients */
void each_block(const bptt_plan *, void (*move)(const matrix *, const void *, void *, int64_t, int64_t), const void *from,
                void *to, int rank, int size); /* between flat vectors and packed ones */
void pack_transposed_all(const bptt_plan *, int rank, int size);       /* the packed copies for the backward pass */
int has_targets(const bptt_plan *, const bptt_data *);      /* there is a g, and a loss of ours can be taken */
bptt_status prepare_training(run *);
void set_clip(bptt_plan *, double clip);       /* of dLoss/dh at every step; 0: none */
int update_alone(run *, double loss);          /* norm, update, packed copies, on one thread; 0: refused, diverged */
#endif
