/* bptt.h: backpropagation through time, the whole public C interface.  Usable without Python, also from C++; docs/c.md tells
   how to compile the library and shows a whole program.

   A network is two feed-forward networks:  h[t] = f(h[t-1], x[t])  and  y = g(h).  f is one or more recurrent layers
   (a cell each), g is a multi-layer perceptron.  Training unfolds f over time, runs forward, runs the error back through
   all instances of f, sums the weight gradients of the instances and updates f and g.

   Sizes: T steps, B batch, I inputs, H state width, O outputs, P parameters.  Arrays are row-major.
   `real` is float or double, as bptt_desc.dtype says; every array of reals of one plan has that type.

   Ownership: params, grad, opt_state and data belong to the caller and are never kept after return.  The arena belongs
   to the caller too and is reserved to its plan; a plan lives inside its arena and serves one caller at a time.  A run may
   destroy only the arena and its outputs.  Nothing is allocated, printed or read from the environment; there is nothing to free. */
#ifndef BPTT_H
#define BPTT_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
#define STATUS(name, text) BPTT_##name,
#include "status.def"
#undef STATUS
} bptt_status;

const char *bptt_message(bptt_status status);          /* one line in words */

enum { BPTT_MAX_DEPTH = 16, BPTT_MAX_LAYERS = 16 };

/* What a network is, and how large its runs may become.  Zero means "default" in every field. */
typedef struct {
    const char *cell;                       /* "elman", "gru", "lstm", "mlp"; default elman */
    const char *dtype;                      /* "float32" (default) or "float64" */
    const char *isa;                        /* "base", "avx2", "avx512"; default: the best this CPU has */
    const char *loss;                       /* "mse" (default), "mae", "huber", "cross_entropy", "binary_cross_entropy" */
    const char *activation[BPTT_MAX_DEPTH]; /* "tanh" (default), "relu", "sigmoid", "linear"; [0] is the elman cell's;
                                               an mlp cell has one per layer of f, depth+1 in all, the last makes the state */
    int64_t depth, width[BPTT_MAX_DEPTH];   /* cell "mlp": hidden layers of f */
    int64_t head_depth, head_width[BPTT_MAX_DEPTH];  /* hidden layers of g; the last layer of g is linear */
    const char *head_activation;            /* of g's hidden layers; default tanh */
    int64_t input_size, hidden_size, output_size;   /* output_size 0: no g, the outputs are h of the top layer after every step,
                                               for bptt_forward, bptt_backward and bptt_predict */
    int64_t layers;                         /* recurrent layers; default 1 */
    int bidirectional;                      /* each layer also runs from the last step to the first; outputs concatenated */
    int reset_before;                       /* cell "gru": n = tanh(W_n x + U_n (r.h)) */
    int peephole;                           /* cell "lstm": gates i f o also see the cell state */
    int64_t proj_size;                      /* cell "lstm": h = W_hr m, of this width */
    double dropout;                         /* probability of a zero between layers, in training */
    double recurrent_dropout;               /* probability of a zero in h before it enters the recurrent product, one
                                               mask a sequence, in training */
    uint64_t seed;                          /* of both dropouts */
    int every;                              /* 0: g reads the last state of a sequence; 1: the state after every step */
    int input_gradient;                     /* 1: bptt_loss_grad can also return dLoss/dx */
    int trained_state;                      /* 1: the initial states are parameters too */
    int64_t batch, steps;                   /* capacity: sequences at once, steps at once */
    int64_t area;                           /* capacity: sequences x steps of the longest at once, at least `steps`; a batch of more
                                               goes in groups, the longest sequences first, and is still one update.  0: batch x
                                               steps.  Not with truncation, checkpoints or a window_stride */
    int64_t residuals;                      /* rows of the Jacobian that bptt_gauss_newton makes at once; 0: it is not called */
    /* How training unfolds time; at most one of the three.  Zeros: over all steps at once. */
    int64_t update_every, look_back;        /* truncated: an update every k1 steps, errors travel back k2 steps (k1 <= k2) */
    int64_t segment, slots;                 /* checkpointed: states are stored at the start of segments of so many steps, the
                                               segments computed again on the way back; slots 0: all starts are stored */
    double own_inputs;                      /* closed loop: probability that a step's input is the output of the step before */
    int64_t window_stride;                  /* > 0: sequences may be windows into one series, so many rows apart; a batch of
                                               consecutive ones shares the projection of their inputs */
    int threads;                            /* at most this many; small work runs on one; results do not depend on it */
} bptt_desc;

/* One named piece: a parameter block, or a view into the arena. */
typedef struct {
    char name[48];
    int64_t rows, cols;                     /* cols 0: a vector of `rows` */
    int64_t offset;                         /* block: in reals, in the flat parameter vector; view: in bytes, in the arena */
    int64_t bytes;                          /* views only */
} bptt_piece;

int64_t bptt_blocks(const bptt_desc *desc, bptt_piece *out, int64_t max);   /* how many there are; -1: bad description */
int64_t bptt_size(const bptt_desc *desc);                                   /* P, the sum over the blocks; -1: bad description */
int64_t bptt_state_size(const bptt_desc *desc);                             /* reals in the state of one sequence: the sum over
                                                                               layers, directions and kinds (h, then c) of widths */
size_t  bptt_bytes(const bptt_desc *desc);                                  /* arena size, a multiple of 64; 0: bad description
                                                                               or too large */

typedef struct bptt_plan bptt_plan;
bptt_status bptt_make_plan(const bptt_desc *desc, void *arena, size_t bytes, bptt_plan **plan);  /* arena 64-byte aligned */
int64_t     bptt_views(const bptt_plan *plan, bptt_piece *out, int64_t max);
const char *bptt_isa(const bptt_plan *plan);                                /* the instance chosen */
int         bptt_threads(const bptt_plan *plan);                            /* the number of threads a run will ask for */
int         bptt_supports(const char *isa);                                 /* 1: this CPU and this build have it */

/* The kernels' own "tanh", "sigmoid" or "exp" of n reals; 0: no such function or instance. */
int bptt_apply(const char *function, const char *dtype, const char *isa, const void *x, void *y, int64_t n);

/* A set of sequences.  Sequence i has `length[i]` steps; its input rows start at row offset[i] of `values`.
   Its targets start at row target_offset[i]: one row (every = 0), or one row a step (every = 1). */
typedef struct {
    const void    *values;                  /* (rows, I) reals */
    const int64_t *offset, *length;         /* (n) */
    const int64_t *target_offset;           /* (n) */
    const void    *targets;                 /* (rows, O) reals; for cross_entropy NULL and */
    const int64_t *classes;                 /* (rows) integers in [0, O) instead */
    const void    *weight;                  /* (target rows) reals >= 0, or NULL: all one */
    const void    *state;                   /* (n, state size) reals, or NULL: zeros */
    const int64_t *start;                   /* NULL, or how many rows after a sequence's first row (of inputs, of outputs) its
                                               step t lies: time-major arrays.  For forward, backward and predict only */
} bptt_data;

/* Called from the calling thread every few milliseconds of work; `done` batches (or patterns) are finished.
   Anything but 0 stops the run with BPTT_INTERRUPTED, the weights as the last finished batch left them. */
typedef int (*bptt_poll)(void *context, int64_t done);

/* The numbers of an update.  Those that are not the optimiser's own are ignored.  opt_state: (bptt_slots, P) reals, zeros before
   the first. */
typedef struct {
    const char *optimizer;                  /* a name of optimizers.def; default "sgd" */
    double learning_rate;                   /* rprop: the first step */
    const double *rates;                    /* NULL, or the learning rate of each batch (pattern) of this run; none above
                                               learning_rate, which then is only the bound of all rates */
    double momentum, weight_decay, beta1, beta2, eps;   /* rmsprop: beta2 is what PyTorch calls alpha */
    int spare_biases;                       /* 1: no weight decay for biases */
    int nesterov, centered;                 /* sgd; rmsprop */
    double momentum_decay;                  /* nadam */
    double rate_decay, begin;               /* adagrad: learning_rate / (1 + t rate_decay); of the sums of squares */
    double eta_minus, eta_plus, step_min, step_max;   /* rprop */
    int backtrack;                          /* rprop: 1: iRprop+, 0: PyTorch's */
    double clip_norm, clip_value;           /* of the gradient, in this order; 0: no clipping */
    double clip_state;                      /* of dLoss/dh at each step of the way back; 0: no clipping */
    double noise;                           /* variance of the noise on the gradient (after clipping) of update t: */
    int64_t noise_from;                     /*     noise / (1 + noise_from + t)^0.55 */
    uint64_t noise_seed;
    int64_t step;                           /* updates so far: this one and the next two are advanced by the run */
    double product, previous;               /* nadam: of its momenta, 1 at first; rprop: the loss before the last update */
} bptt_hyper;
int bptt_slots(const char *optimizer);      /* vectors of P reals that the optimiser keeps in opt_state; -1: unknown name */

/* Predictions for the sequences order[0..n-1], `batch` at a time.  every = 0: y (rows, O) is written at row
   target_offset[i]; every = 1: at rows target_offset[i] + t; this needs `every` in the description.  `state`: NULL, or (n, state
   size) final states, row i for sequence i.  Sequences longer than `steps` run in blocks (one direction only). */
bptt_status bptt_predict(bptt_plan *plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                         int every, void *y, void *state, bptt_poll poll, void *context);

/* Weighted mean loss over all target rows of the sequences order[0..n-1], no gradient, no dropout. */
bptt_status bptt_evaluate(bptt_plan *plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                          double *loss, bptt_poll poll, void *context);

/* Loss (the weighted mean over the target rows) and exact gradient of one batch, order[0..n-1], n <= capacity.
   dx: NULL, or (rows, I) like data.values, only rows of the batch are written.  dstate: NULL, or (n, state size).
   A truncated plan: the sum over all updates that bptt_epoch would make, with constant weights; no dx, no dstate. */
bptt_status bptt_loss_grad(bptt_plan *plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                           double *loss, void *grad, void *dx, void *dstate, bptt_poll poll, void *context);

/* For a program that takes derivatives of its own: the n sequences of `data` forwards and then, from the slopes of its loss,
   backwards.  Parameters and their gradients are tables of addresses, one a block, in the order of bptt_blocks; states and
   their gradients one a kind, of h and in an LSTM of c, each (layers*directions, n, width).  What is not finite is passed on.
   The plan unfolds over all steps at once; with an `area`, which two times the sum of the lengths always fits, the sequences go in
   groups of which none is longer than two times another, and the area is that of all groups.  Between forward with `keep` and
   backward it serves no other run. */
typedef struct {
    const void *const *params;              /* a block that is NULL: zeros */
    const void *const *initial;             /* NULL: those of `data`, trained ones, or zeros */
    void *y;                                /* (rows, O) outputs, as for bptt_predict with the plan's `every` */
    void *const *final;                     /* NULL, or the states after the last step of each sequence */
    int keep;                               /* 1: as in training, the arena holds what one way back needs; 0: prediction */
    uint64_t draw;                          /* which of dropout's masks */
} bptt_forward_arrays;
typedef struct {
    const void *dy;                         /* dLoss/dy, laid out like y */
    const void *const *dfinal;              /* NULL, or dLoss/dfinal; a kind that is NULL: zeros */
    void *const *grad;                      /* a block that is NULL: not wanted */
    void *dx;                               /* NULL, or dLoss/dx, laid out like the inputs; needs `input_gradient` */
    void *const *dinitial;                  /* NULL, or dLoss/dinitial */
} bptt_backward_arrays;
bptt_status bptt_forward(bptt_plan *plan, const bptt_data *data, int64_t n, const bptt_forward_arrays *arrays, bptt_poll poll,
                         void *context);
bptt_status bptt_backward(bptt_plan *plan, const bptt_data *data, int64_t n, const bptt_backward_arrays *arrays, bptt_poll poll,
                          void *context);

/* The Gauss-Newton matrix of the squared error of the sequences order[0..n-1], `batch` of them at a time.  Each output of each
   target row is a residual r = sqrt(weight) (y - target); rows of weight 0 have none.  J = dr/dparams.
   gram: NULL, or (P+1, P+1) reals, its upper triangle written: [J r]'[J r], that is J'J, in the last column J'r, at its end the
   sum of r^2.
   jacobian: NULL, or (target rows, O, P+1) reals, of which the rows [J r] of these residuals are written.
   Needs `residuals` in the description, loss mse and no dropout. */
bptt_status bptt_gauss_newton(bptt_plan *plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
                              void *gram, void *jacobian, bptt_poll poll, void *context);

/* Minibatch training: for each run of `batch` sequences of order[0..n-1], loss, exact gradient, update.
   A truncated plan makes an update every k1 steps: from the errors of these steps alone, which travel back at most k2 steps,
   through activations as they were computed and with the weights of the moment.  Where all weights of the targets are 0 there
   is no update.  loss, weight: (bptt_updates), each update's mean loss and the sum of its target weights.  *done: how many
   updates were finished.  state: NULL, or (n of data, state size) where the states after the last finished update go; it may be
   data.state; not with an `area` below batch x steps.  Not finite, or an update that would overflow: BPTT_DIVERGED, the weights as before that update. */
bptt_status bptt_epoch(bptt_plan *plan, void *params, void *opt_state, bptt_hyper *hyper, const bptt_data *data,
                       const int64_t *order, int64_t n, double *loss, double *weight, void *state, int64_t *done,
                       bptt_poll poll, void *context);
int64_t bptt_updates(const bptt_plan *plan, const bptt_data *data, const int64_t *order, int64_t n);   /* of such a run */

/* The classical online algorithm over each sequence of order[0..n-1]: for t = 0 .. length-k-lead: unfold f k times from
   the context, one g, target row t+k-1+lead of the sequence (targets: one row a step), the sum of the weight changes of
   the k instances, an update, then context <- f(context, x[t]) with the new weights.  Needs batch 1, steps >= k.
   loss: (number of patterns), *done: finished patterns.  loss[i] is pattern i's before its update. */
bptt_status bptt_slide(bptt_plan *plan, void *params, void *opt_state, bptt_hyper *hyper, const bptt_data *data,
                       const int64_t *order, int64_t n, int64_t k, int64_t lead, double *loss, int64_t *done,
                       bptt_poll poll, void *context);

/* Streaming: `batch` sequences, a step at a time, readout after every step.  start takes the weights in; the states are zero or
   trained, unless set.  x (batch, I), y (batch, O), state (batch, state size); run feeds outputs back: steps times x <- y,
   y (steps, batch, O), x (batch, I) the first input, I = O.  The plan is for one step and one direction. */
bptt_status bptt_stream_start(bptt_plan *plan, const void *params);
bptt_status bptt_stream_step(bptt_plan *plan, const void *x, void *y);
bptt_status bptt_stream_run(bptt_plan *plan, const void *x, int64_t steps, void *y, bptt_poll poll, void *context);
void        bptt_stream_set(bptt_plan *plan, const void *state);
void        bptt_stream_get(const bptt_plan *plan, void *state);

/* The classical online algorithm, observation by observation: bptt_slide's updates, to the bit.  The plan needs batch 1 and
   steps >= k + lead.  window: the `rows` last inputs of an earlier learner, state: its context (NULL: the initial one). */
typedef struct {
    int64_t k, lead;
    int64_t rows;                           /* inputs held: at most k + lead - 1 between two observations */
    int64_t first;                          /* where in the plan's inputs they begin */
} bptt_learner;
bptt_status bptt_learn_start(bptt_plan *plan, const void *params, const void *opt_state, const bptt_hyper *hyper,
                             bptt_learner *learner, const void *window, const void *state);
/* One observation: x (I), and its target y (O) or class label.  weight 0: no target, the context moves on.  *loss: of the pattern
   that this observation completes, NaN if it completes none. */
bptt_status bptt_learn(bptt_plan *plan, bptt_hyper *hyper, bptt_learner *learner, const void *x, const void *y, int64_t label,
                       double weight, double *loss);
void        bptt_learn_store(const bptt_plan *plan, const bptt_hyper *hyper, void *params, void *opt_state);
void        bptt_learn_window(const bptt_plan *plan, const bptt_learner *learner, void *window, void *state);

#ifdef __cplusplus
}
#endif
#endif
