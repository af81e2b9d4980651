/* training.h: the context of bptt_epoch and bptt_loss_grad, and the ways to unfold a batch over
   time: truncated.c (passes; all steps at once is one pass), checkpoint.c (segments) and
   closed_loop.c (a step's input may be the output of the step before). */
#ifndef BPTT_TRAINING_H
#define BPTT_TRAINING_H
#include "run.h"
#include "update.h"

typedef struct {
    run run;
    const void *params; /* the caller's (P) */
    updater *updater; /* NULL: the gradient alone */
    double *loss; /* (updates); the gradient alone: (1), summed over the passes */
    double *weight; /* (updates) sums of the target weights; NULL for the gradient alone */
    void *grad; /* (P) of the gradient alone */
    void *dx; /* dLoss/dx like data.values, or NULL */
    void *dstate; /* dLoss/dstate (n, state size), or NULL */
    void *state; /* final states (n, state size), or NULL */
    int64_t n; /* sequences of the whole run */
    int64_t next; /* where in `order` the next part of the run begins */
    uint64_t draw; /* shards: which of dropout's masks the present batch has */
    int64_t row; /* shards: where the sum of the next one goes */
    double total; /* shards: the sum of the losses of an update */
    int added; /* 1: a pass of the run had a gradient */
    int over; /* `stop` as thread 0 read it when it opened the present segment */
} training;

/* All threads call these with their rank. */
void gradient_of_pass(training *t, team *team, int rank, int size, int add);
void gradient_by_segments(training *t, team *team, int rank, int size, int64_t T);
void closed_loop(run *r, span at);

void train_shards(void *context, team *team, int rank, int size);
int finish_update(training *t, double loss, team *team, int rank, int size);
void store_results(training *t, team *team, int rank, int size, int added);

/* By thread 0 before a barrier. */
uint64_t draw_of(const training *t);
void open_pass(training *t, int64_t begin, int64_t T);

/* The plans of the run, several where batches are truncated and in shards. */
int may_shard(const training *t);
int64_t plans_of(const training *t);
bptt_plan *plan_of(const training *t, int64_t i);
#endif
