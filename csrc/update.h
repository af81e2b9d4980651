/* update.h: the weights, and how a gradient changes them: what training in batches and the online
   algorithm share. */
#ifndef BPTT_UPDATE_H
#define BPTT_UPDATE_H
#include "run.h"

/* The optimiser of one run.  The working copies of weights, gradient and optimiser state lie in the
   arena, packed. */
typedef struct {
    bptt_plan *p;
    bptt_hyper *hyper; /* the caller's; step and other counters are advanced */
    void *params; /* the caller's flat vector (P), written at the end of the run */
    void *opt_state; /* the caller's (vectors, P) */
    int vectors; /* of opt_state that this optimiser keeps with these hyperparameters */
    update update; /* the constants of the present update */
    /* one weight changes by at most min(max_step, step_per_gradient * max |gradient|) */
    double max_step;
    double step_per_gradient;
    double decay; /* the largest of any weight, by weight_decay and the penalties */
    double small; /* see small_square */
    int amplifies; /* 1: weight decay may do more than shrink the weights */
    int by_block; /* 1: blocks of parameters need calls of their own in an update */
} updater;

/* Moves block m from `from` to `to`, part `part` of `parts` of it. */
typedef void (*block_function)(const matrix *m, const void *from, void *to, int64_t part,
                               int64_t parts);
void each_block(const bptt_plan *p, block_function move, const void *from, void *to, int rank,
                int size);
void move_blocks(run *r, block_function move, const void *from, void *to, int rank, int size);
void pack_transposed_all(const bptt_plan *p, int part, int parts);
void renew_transposed(run *r, int rank, int size);
int load_parameters(run *r, const void *params, const updater *u, team *team, int rank, int size);
void store_parameters(const updater *u, int abandoned, team *team, int rank, int size);

/* The learning rate of update `number` of the run. */
static inline double rate_of(const bptt_hyper *h, int64_t number) {
    return h->rates ? h->rates[number] : h->learning_rate;
}
bptt_status prepare_updater(updater *u);
double small_step(const updater *u);
void set_clip(bptt_plan *p, double clip);
double gradient_norm(const bptt_plan *p, const updater *u, team *team, int rank, int size);
double clip_scale(const bptt_hyper *h, double norm);
int update_is_finite(const updater *u, double loss, double norm, double weights);
int may_update(const bptt_plan *p, const updater *u, double loss, double norm);
void prepare_update(updater *u, int64_t number, double loss, double norm);
int apply_update(updater *u, run *r, double loss, double norm, team *team, int rank, int size);
int update_alone(updater *u, int64_t number, double loss);
#endif
