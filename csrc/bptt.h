/* bptt.h: backpropagation through time, the whole public C interface.  Usable without Python, also
   from C++; docs/c.md says how to compile the library and shows a whole program.

   A network is two feed-forward networks:  h[t] = f(h[t-1], x[t])  and  y = g(h).  f is one or more
   recurrent layers (a cell each), g is a multi-layer perceptron.  Training unfolds f over time,
   runs forward, runs the error back through all instances of f, sums the weight gradients of the
   instances and updates f and g.

   Sizes: T steps, B batch, I inputs, H state width, O outputs, P parameters.  Arrays are row-major.
   `real` is float or double, as bptt_desc.dtype says; every array of reals of one plan has that
   type.

   Ownership: params, grad, opt_state and data belong to the caller and are never kept after return.
   The arena belongs to the caller too and is reserved to its plan; a plan lives inside its arena
   and serves one caller at a time.  A run may destroy only the arena and its outputs.  Nothing is
   allocated, printed or read from the environment; there is nothing to free.

   A run rounds to the nearest number and counts denormals as zero, whatever the floating-point mode
   of its caller, which is restored. */
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
    BPTT_STATUSES
} bptt_status;

const char *bptt_message(bptt_status status); /* one line */
const char *bptt_status_name(bptt_status status); /* "OK", ...; NULL: there is none */

enum {
    BPTT_MAX_DEPTH = 16,
    BPTT_MAX_LAYERS = 16,
    BPTT_MAX_LOSS_PARAMETERS = 4,
    BPTT_MAX_LOSS_VALUES = 100
};

/* A cell that is compiled by itself: the table bptt_own_cell_table of its library, see own_cell.h,
   which stays loaded as long as a plan or description has it.  BPTT_INTERFACE: a number that the build
   makes from all headers that a cell is compiled from (bptt_fast/interface.py), since code from others
   does not see a run as this library does. */
typedef struct bptt_own_cell bptt_own_cell;
#ifndef BPTT_INTERFACE
#define BPTT_INTERFACE 0
#endif

/* Kinds of fields, and their types. */
typedef enum {
    BPTT_TEXT,
    BPTT_INTEGER,
    BPTT_FLAG,
    BPTT_REAL,
    BPTT_KEY,
    BPTT_REALS,
    BPTT_CELL
} bptt_kind;
#define BPTT_TYPE_TEXT const char *
#define BPTT_TYPE_INTEGER int64_t
#define BPTT_TYPE_FLAG int
#define BPTT_TYPE_REAL double
#define BPTT_TYPE_KEY uint64_t
#define BPTT_TYPE_REALS const double *
#define BPTT_TYPE_CELL const bptt_own_cell *

/* What a network is, and how large its runs may become: the fields of desc.def.  Zero means
   "default" in every one, so initialise with { 0 } or name the fields. */
typedef struct bptt_desc {
#define FIELD(kind, name, ...) BPTT_TYPE_##kind name;
#define LIST(kind, name, items, ...) BPTT_TYPE_##kind name[items];
#include "desc.def"
#undef FIELD
#undef LIST
} bptt_desc;

/* The numbers of an update: the fields of optimizers.def.  An optimiser ignores those of others.
   step, product and previous are advanced by the runs.
   opt_state: (bptt_state_vectors, P) reals, zeros before the first update. */
typedef struct bptt_hyper {
#define NUMBER(kind, name, ...) BPTT_TYPE_##kind name;
#include "optimizers.def"
} bptt_hyper;

int bptt_state_vectors(const char *optimizer); /* that opt_state needs; -1: unknown name */

/* The same fields as tables, for a program that names them at run time; each ends with a row whose
   name is NULL. */
typedef struct {
    const char *name;
    bptt_kind kind;
    int items; /* > 1: a list */
    size_t offset; /* in the struct */
    double low, high; /* bounds of a number of bptt_desc */
    double initial; /* bptt_hyper: what Python passes */
    int carried; /* bptt_hyper: 1: a run advances it */
    const char *text; /* what it is */
} bptt_field;
extern const bptt_field bptt_desc_fields[], bptt_hyper_fields[];

/* The row of a field in one of these tables; NULL: there is none. */
const bptt_field *bptt_find_field(const bptt_field *fields, const char *name);

/* A field's value.  `in`: a bptt_desc or bptt_hyper; item: 0, or the place in a list.  Text,
   REALS and CELL are kept as pointers; a KEY is set as the integer of the same bits. */
void bptt_set_pointer(void *in, const bptt_field *field, int item, const void *value);
void bptt_set_integer(void *in, const bptt_field *field, int item, int64_t value);
void bptt_set_real(void *in, const bptt_field *field, int item, double value);
double bptt_get_number(const void *in, const bptt_field *field, int item);

/* Why bptt_make_plan would refuse a description: BPTT_OK, or the status, and a line into `text` (of
   `size` bytes) that names the field and the rule. */
bptt_status bptt_why(const bptt_desc *desc, char *text, size_t size);

/* What the cells can do: row i of cells.def, from 0 on; 0: there is none. */
typedef struct {
    const char *name;
    int gates, states; /* states of a sequence: 1 (h, or what h follows from) or 2 (h and c) */
    int activation; /* 1: activation[0] is its nonlinearity */
    int hidden_layers; /* 1: f may have hidden layers */
    int projection; /* 1: proj_size may be set */
    int peepholes; /* vectors of H weights of weight_peephole; not recurrent: of weight_hh */
    int recurrent; /* 0: the state enters no product, each unit sees only its own */
    int leak; /* 1: alpha may be set */
    int keep_gate; /* the gate that keeps the past; -1: none */
} bptt_cell;
int bptt_describe_cell(int i, bptt_cell *cell);
/* The same of one that is compiled by itself; 0: it was compiled from the headers of another
   library. */
int bptt_describe_own_cell(const bptt_own_cell *own, bptt_cell *cell);

/* What the losses take: row i of losses.def, from 0 on; 0: there is none. */
typedef enum { BPTT_NUMBERS, BPTT_PROBABILITIES, BPTT_COUNTS, BPTT_CLASSES } bptt_targets;
typedef struct {
    const char *name;
    double initial, low, high; /* low and high are not allowed themselves */
} bptt_loss_parameter;
typedef struct {
    const char *name;
    bptt_targets targets; /* numbers, numbers in [0, 1], numbers of at least 0, or classes */
    /* of the network, for each target: output i of target c of D is output i D + c.  0: one for each
       value of its only parameter, which is a list of at most BPTT_MAX_LOSS_VALUES */
    int outputs;
    int least_squares; /* 1: the mean of squares of y - target */
    int curved; /* 1: bptt_curvature has its second derivative */
    /* the first one without a name ends them */
    bptt_loss_parameter parameter[BPTT_MAX_LOSS_PARAMETERS];
} bptt_loss;
int bptt_describe_loss(int i, bptt_loss *loss);

/* product (O) = H dy, where H is the second derivative of a loss by the outputs y (O) of one target
   row, as a multiple of that of mse.  The loss must be curved. */
void bptt_curvature(int loss, const double *parameter, int64_t outputs, const double *y,
                    const double *dy, double *product);

/* The optimisers by name: row i of optimizers.def, NULL: there is none. */
const char *bptt_optimizer(int i);
const char *bptt_activation(int i); /* a nonlinearity */

/* One named block: of parameters in the flat vector, or a view into the arena. */
typedef struct {
    char name[48];
    int64_t rows, cols; /* cols 0: a vector of `rows` */
    int64_t offset; /* parameters: in reals; view: in bytes */
    int64_t bytes; /* views only */
} bptt_block;

/* The parameter blocks, the first `max` of them into out.  Their number; -1: bad description. */
int64_t bptt_blocks(const bptt_desc *desc, bptt_block *out, int64_t max);
/* P, the sum over the blocks; -1: bad description. */
int64_t bptt_size(const bptt_desc *desc);
/* Reals in the state of one sequence: the sum over layers, directions and kinds (h, then c). */
int64_t bptt_state_size(const bptt_desc *desc);
/* Bytes of the arena, a multiple of 64; 0: bad description or too large. */
size_t bptt_bytes(const bptt_desc *desc);

typedef struct bptt_plan bptt_plan;
/* Makes a plan in the arena: bptt_bytes, aligned to 64. */
bptt_status bptt_make_plan(const bptt_desc *desc, void *arena, size_t bytes, bptt_plan **plan);
/* The pieces of its arena at full capacity, the first `max` of them into out.  Their number. */
int64_t bptt_views(const bptt_plan *plan, bptt_block *out, int64_t max);
const char *bptt_isa(const bptt_plan *plan); /* the instance chosen */
const char *bptt_lanes(const bptt_plan *plan); /* what its vectors hold: units, rows or copies */
int bptt_copies(
    const bptt_plan *plan); /* that bptt_slide_copies takes at once; 0: it is not possible */
int bptt_threads(const bptt_plan *plan); /* that a run wants */
int64_t bptt_sum_size(const bptt_plan *plan); /* reals of a sum of gradients in bptt_shards */
/* The instruction sets that this build and this processor have, the best last: number i, NULL: there
   is none. */
const char *bptt_supported_isa(int i);

/* From now on bptt_forward and bptt_backward run on threads of the calling program, such as those of
   its OpenMP, instead of the library's own: threads that spin after the program's own parallel
   work would take the processors from these.  parallel(part, context, threads, 0) calls
   part(context) once on each thread of a team of at most so many, the caller among them, and returns
   when all have returned; within it, size() is the size of the team.  GOMP_parallel and
   omp_get_num_threads are such functions.  NULL: the library's own threads again, as in the child of a
   fork. */
typedef void (*bptt_parallel)(void (*part)(void *context), void *context, unsigned threads,
                              unsigned flags);
typedef int (*bptt_team_size)(void);
void bptt_use_threads(bptt_parallel parallel, bptt_team_size size);

/* The kernels' own "tanh", "sigmoid" or "exp" of n reals; 0: no such function or instance. */
int bptt_apply(const char *function, const char *dtype, const char *isa, const void *x, void *y,
               int64_t n);

/* A loss of the caller's own, of a whole batch.  For bptt_epoch and bptt_loss_grad, with a plan that
   unfolds over all steps at once and has no `area`.  Called once per batch, order[begin ..
   begin+n-1], from the calling thread, unless all weights of its targets are 0: y holds the outputs of
   its target rows, sequence after sequence, and gets dLoss/dy in their place.  Anything but 0 stops
   the run with BPTT_INTERRUPTED, the weights as the last finished batch left them. */
typedef struct {
    int (*function)(void *context, int64_t begin, int64_t n, double *loss);
    void *context;
    void *y; /* (target rows of the largest batch, O) reals */
    int64_t
        *row; /* (n of data), written: where the rows of each sequence of the batch begin in y */
} bptt_own_loss;

/* Batches in shards, whose gradients are summed outside, perhaps over several machines.  For
   bptt_epoch and bptt_updates.  Shard s of the batch order[from .. from+n-1] is order[from + n
   s / count .. from + n (s+1) / count - 1], whoever computes it, so that sums over shards in a
   fixed order do not depend on who does.  The call computes the shards [begin, end), of at most
   plan->batch sequences each, and makes every update.  Needs `order`; excludes an own loss and
   final states. */
typedef struct {
    int64_t batch; /* sequences of a batch, in all shards together */
    int64_t count; /* shards of a batch */
    int64_t begin, end; /* those of this call, at least one */
    /* truncated: a plan for each of them, all with the description of the call's, which is the
       first; otherwise NULL */
    bptt_plan *const *plan;
    void *sums; /* (rows, bptt_sum_size) reals */
    /* Both are called from the calling thread.  add: after each shard, whose gradient sum is in
       row 0 for the first one of an update, with its sum of losses.  Returns the row for the
       next one, or below 0. exchange: before each update.  Puts the sum over all shards in row
       0, and that of the losses in *loss.  Below 0, and anything but 0 of exchange, stop the
       run with BPTT_INTERRUPTED, the weights as the last update left them. */
    int64_t (*add)(void *context, int64_t shard, double loss);
    int (*exchange)(void *context, double *loss);
    void *context;
} bptt_shards;

/* A set of sequences.  Sequence i has length[i] steps; its input rows start at row offset[i] of
   `values`.  Its targets start at row target_offset[i]: one row, or with readout_every_step one row
   per step. */
typedef struct {
    const void *values; /* (rows, I) reals; those of `categories` integers, others count as 0 */
    const int64_t *offset, *length; /* (n) */
    const int64_t *target_offset; /* (n) */
    const void
        *targets; /* (rows, O / outputs of a target) reals; for a loss of classes NULL, and */
    const int64_t *classes; /* (rows) integers in [0, O) instead */
    const void *weight; /* (target rows) reals >= 0, or NULL: all one */
    const void *state; /* (n, state size) reals, or NULL: zeros */
    /* NULL, or how many rows after a sequence's first row (of inputs, of outputs) its step t lies:
       time-major arrays.  For forward, backward and predict only. */
    const int64_t *start;
    /* (n), or NULL: that of sequence i is i.  Dropout, noise and a closed loop draw by it, so
       that parts of a set draw what the set does. */
    const int64_t *number;
    const bptt_own_loss *own_loss; /* NULL: that of the description */
    const bptt_shards *shards; /* NULL: a batch is computed as a whole */
} bptt_data;

/* Called from the calling thread every few milliseconds of work; `done` batches (or patterns) are
   finished.  Anything but 0 stops the run with BPTT_INTERRUPTED, the weights as the last finished
   batch left them; so is the optimiser state, unless the answer is below 0: a caller that gives up the
   training need not wait until it is written. */
typedef int (*bptt_poll)(void *context, int64_t done);

/* Predictions for the sequences order[0..n-1], `batch` at a time.  every_step = 0: y (rows, O) is
   written at row target_offset[i]; every_step = 1: at rows target_offset[i] + t; this needs
   readout_every_step in the description.  `state`: NULL, or (n, state size) final states, row i for
   sequence i.  Sequences longer than `steps` run in parts (one direction only). */
bptt_status bptt_predict(bptt_plan *plan, const void *params, const bptt_data *data,
                         const int64_t *order, int64_t n, int every_step, void *y, void *state,
                         bptt_poll poll, void *context);

/* Weighted mean loss over all target rows of the sequences order[0..n-1], without dropout. */
bptt_status bptt_evaluate(bptt_plan *plan, const void *params, const bptt_data *data,
                          const int64_t *order, int64_t n, double *loss, bptt_poll poll,
                          void *context);

/* Loss (the weighted mean over the target rows) and exact gradient of one batch, order[0..n-1],
   n <= capacity.  dx: NULL, or (rows, I) like data.values, only rows of the batch are written.
   dstate: NULL, or (n, state size).
   A truncated plan: the sum over all updates that bptt_epoch would make, with constant weights; no
   dx, no dstate. */
bptt_status bptt_loss_grad(bptt_plan *plan, const void *params, const bptt_data *data,
                           const int64_t *order, int64_t n, double *loss, void *grad, void *dx,
                           void *dstate, bptt_poll poll, void *context);

/* For a program that takes derivatives of its own: the n sequences of `data` forward and then, from
   the gradient of its loss by the outputs, backward.  Parameters and their gradients are tables of
   addresses, one per block, in the order of bptt_blocks; states and their gradients one per kind
   (h, and c if a cell has two states), each (num_layers * directions, n, width).  NaN and infinity
   are passed on.  The plan unfolds over all steps at once.  With an `area`, which two times the sum
   of the lengths always fits, the sequences are divided into groups in each of which none is longer
   than two times another, and the area is that of all groups.  Between forward with `keep` and
   backward the plan serves no other run. */
typedef struct {
    const void *const *params; /* a block that is NULL: zeros */
    const void *const *initial; /* NULL: those of `data`, trained ones, or zeros */
    void *y; /* (rows, O) outputs, as for bptt_predict */
    void *const *final; /* NULL, or the states after the last steps */
    int keep; /* 1: as in training, backward follows; 0: prediction */
    uint64_t draw; /* which of dropout's masks */
} bptt_forward_arrays;
typedef struct {
    const void *dy; /* dLoss/dy, laid out like y */
    const void *const *dfinal; /* NULL, or dLoss/dfinal; a kind that is NULL: zeros */
    void *const *grad; /* a block that is NULL: not wanted */
    void *dx; /* NULL, or dLoss/dx; needs `input_gradient`, and sequences that share no rows */
    void *const *dinitial; /* NULL, or dLoss/dinitial */
} bptt_backward_arrays;
bptt_status bptt_forward(bptt_plan *plan, const bptt_data *data, int64_t n,
                         const bptt_forward_arrays *arrays, bptt_poll poll, void *context);
bptt_status bptt_backward(bptt_plan *plan, const bptt_data *data, int64_t n,
                          const bptt_backward_arrays *arrays, bptt_poll poll, void *context);

/* The Gauss-Newton matrix of the squared error of the sequences order[0..n-1], `batch` of them at a
   time.  Each output of each target row is a residual r = sqrt(weight) (y - target); rows of weight
   0 have none.  J = dr/dparams.
   gram: NULL, or (P+1, P+1) reals, its upper triangle written: [J r]'[J r], that is J'J, in the
   last column J'r, at its end the sum of r^2.
   jacobian: NULL, or (target rows, O, P+1) reals, of which the rows [J r] of these residuals are
   written.
   Needs `residuals` in the description, a loss of least squares and no dropout. */
bptt_status bptt_gauss_newton(bptt_plan *plan, const void *params, const bptt_data *data,
                              const int64_t *order, int64_t n, void *gram, void *jacobian,
                              bptt_poll poll, void *context);

/* For a plan with `residuals`, and in its dtype: out (width, width) += A'A of A (rows, width), its
   upper triangle; width is a multiple of 16. */
bptt_status bptt_gram(bptt_plan *plan, const void *a, int64_t rows, int64_t width, void *out,
                      bptt_poll poll, void *context);

/* For such a plan: x (n) of A x = b by Cholesky's method.  rows (width, width), overwritten: -A in
   the upper triangle of (n, n), -b in column n, zeros behind it; width > n is a multiple of 16.  On
   one thread, so that x does not depend on the number of threads.  BPTT_DIVERGED: A is not positive
   definite. */
bptt_status bptt_solve(bptt_plan *plan, void *rows, int64_t n, int64_t width, void *x,
                       bptt_poll poll, void *context);

/* Rules on parameters, for all updates of the plan's runs from now on; the plan needs `rules` in its
   description.  low, high: (P) reals, the bounds; a parameter whose bounds are equal stays as it is,
   to the bit, and its gradient counts as zero; the others lie within their bounds before a run.
   penalty: (blocks), what is added to the loss that the updates minimise, though not to the losses
   that a run reports.  An update: gradient, clipped; + l2 w; the optimiser's step; the proximal maps
   of l1 and of the group lasso, with the learning rate of the update as their step size; projection
   on the bounds. */
typedef struct {
    double l1, l2; /* l1 |w| + l2/2 w^2, summed over the weights of the block */
    /* the sum of the norms of its rows, or of its columns, without parameters that stay as they are;
       one of the two is 0.  Each number of a vector or an embedding is a row */
    double rows, columns;
} bptt_penalty;
bptt_status bptt_set_rules(bptt_plan *plan, const void *low, const void *high,
                           const bptt_penalty *penalty);

/* Minibatch training: for each run of `batch` sequences of order[0..n-1], loss, exact gradient,
   update.  A truncated plan makes an update every k1 steps: from the errors of these steps alone,
   which travel back at most k2 steps, through activations as they were computed and with the
   weights of the moment.  Where all weights of the targets are 0 there is no update.
   loss, weight: (bptt_updates), each update's mean loss and the sum of its target weights.  *done:
   how many updates were finished.  state: NULL, or (n of data, state size) where the states after
   the last finished update go; it may be data.state.  With an `area`
   below batch x steps those of an unfinished batch may go there, too.
   Not finite, or an update that would overflow: BPTT_DIVERGED, the weights as before it. */
bptt_status bptt_epoch(bptt_plan *plan, void *params, void *opt_state, bptt_hyper *numbers,
                       const bptt_data *data, const int64_t *order, int64_t n, double *loss,
                       double *weight, void *state, int64_t *done, bptt_poll poll, void *context);
/* The number of updates of such a run. */
int64_t bptt_updates(const bptt_plan *plan, const bptt_data *data, const int64_t *order, int64_t n);
/* An order for an epoch: the numbers 0 .. n-1, n <= 2^32, as these two numbers shuffle them. */
void bptt_shuffle(uint64_t seed, uint64_t epoch, int64_t *order, int64_t n);

/* The classical online algorithm over each sequence of order[0..n-1]: for t = 0 .. length-k-lead:
   unfold f k times from the context, one g, target row t+k-1+lead of the sequence (targets: one row
   per step), the sum of the weight changes of the k instances, an update, then
   context <- f(context, x[t]) with the new weights.  Needs batch 1, steps >= k.
   loss: (number of patterns), that of each before its update.  *done: finished patterns. */
bptt_status bptt_slide(bptt_plan *plan, void *params, void *opt_state, bptt_hyper *numbers,
                       const bptt_data *data, const int64_t *order, int64_t n, int64_t k,
                       int64_t lead, double *loss, int64_t *done, bptt_poll poll, void *context);

/* The same for several copies of the network at once, to the bit what bptt_slide computes for each by
   itself.  They have the data and their order in common, and of their numbers all but the rates
   and factors: the optimiser, which of its parts it has (nesterov, centered, momentum that is not
   zero), no_bias_decay, clip_value, clip_state; there is no noise.  Needs a plan with lanes
   "copies", and no more copies than bptt_copies. */
typedef struct {
    void *params, *opt_state;
    bptt_hyper *numbers;
    double *loss;
    /* set: finished patterns; BPTT_OK, BPTT_DIVERGED (that copy, the others continue) or
       BPTT_INTERRUPTED */
    int64_t done;
    bptt_status status;
} bptt_copy;
bptt_status bptt_slide_copies(bptt_plan *plan, bptt_copy *copy, int64_t copies,
                              const bptt_data *data, const int64_t *order, int64_t n, int64_t k,
                              int64_t lead, bptt_poll poll, void *context);

/* Streaming: `batch` sequences, one step per call, readout after every step.  start reads the
   weights; the states are zero or trained, unless set.  x (batch, I), y (batch, O), state (batch,
   state size); run feeds outputs back: steps times x <- y, y (steps, batch, O), x (batch, I) the
   first input, I = O.  An output that is not finite is written, but the states stay as before its
   step: BPTT_DIVERGED.  Interrupted, they are those after the last whole step.  The plan is for one
   step and one direction. */
bptt_status bptt_stream_start(bptt_plan *plan, const void *params);
bptt_status bptt_stream_step(bptt_plan *plan, const void *x, void *y);
bptt_status bptt_stream_run(bptt_plan *plan, const void *x, int64_t steps, void *y, bptt_poll poll,
                            void *context);
void bptt_stream_set(bptt_plan *plan, const void *state);
void bptt_stream_get(const bptt_plan *plan, void *state);

/* The classical online algorithm, observation by observation: bptt_slide's updates, to the bit.
   The plan needs batch 1 and steps >= k + lead.  window: the `rows` last inputs of an earlier
   learner, state: its context (NULL: the initial one). */
typedef struct {
    int64_t k, lead;
    int64_t rows; /* inputs held: at most k + lead - 1 between two calls */
    int64_t first; /* where in the plan's inputs they begin */
} bptt_learner;
bptt_status bptt_learn_start(bptt_plan *plan, const void *params, const void *opt_state,
                             const bptt_hyper *numbers, bptt_learner *learner, const void *window,
                             const void *state);
/* One observation: x (I), and its target y (O) or class label.  weight 0: no target, the context
   moves on.  *loss: of the pattern that this observation completes, NaN if it completes none.
   Interrupted, the learner is as before. */
bptt_status bptt_learn(bptt_plan *plan, bptt_hyper *numbers, bptt_learner *learner, const void *x,
                       const void *y, int64_t label, double weight, double *loss, bptt_poll poll,
                       void *context);
void bptt_learn_store(const bptt_plan *plan, const bptt_hyper *numbers, void *params,
                      void *opt_state);
void bptt_learn_window(const bptt_plan *plan, const bptt_learner *learner, void *window,
                       void *state);

#ifdef __cplusplus
}
#endif
#endif
