/* plan.h: the prepared object that plan.c makes and the runs work with.  It lies at the head of its
   arena and owns nothing else: every pointer in it points into the arena.  A run changes the fields
   of "the present group", thread 0 alone and before a barrier. */
#ifndef BPTT_PLAN_H
#define BPTT_PLAN_H
#include "bptt.h"
#include "frame.h"
#include "threads.h"

/* Inputs that a learner holds besides those it needs, so that it seldom moves them. */
enum { WINDOW = 64 };

/* Purpose of a layout: INFER keeps nothing for a backward pass; only TRAIN has dropout and unfolds
   in parts. */
enum { INFER, SLIDE, TRAIN };

/* Groups of steps from 2^40 down, each less than half as long as the one before. */
enum { TAPES = 41 };

/* Conventions of noise, in the order of their names. */
enum { NOISE_SDE, NOISE_STEP, NOISE_SCALED };

/* Reals of the working vector that one partial norm covers. */
enum { NORM_SLICE = 4096 };

/* Vectors of the optimiser that keeps most. */
union all_opt_states {
#define OPTIMIZER(name, vectors, ...) char name[vectors];
#include "optimizers.def"
};
enum { MAX_OPT_STATE = sizeof(union all_opt_states) };

/* Vectors that the numbers of an optimiser take at most (optimizers.h). */
enum { NUMBERS_MAX = 20 };

/* Second order: one output of one target row; a row in a batch of backward passes. */
typedef struct {
    int64_t steps; /* of the backward pass */
    int64_t step; /* where the target is */
    int64_t output; /* which output */
    int64_t target; /* row of the caller's targets */
    double weight;
} residual;

/* An embedding E (values, width), see embeddings.c. */
typedef struct {
    int64_t size; /* reals of E, packed; 0: the input is one-hot */
    int64_t values;
    matrix weight; /* E as a vector: `width` units for each value */
    field rows; /* (1, values, width) E within the packed weights */
    field row_grads; /* and its gradient */
    int64_t capacity; /* for values in use */
    field used; /* (1, count, width) the same of these */
    field used_grads;
    int64_t count; /* values in use */
    int64_t made; /* of which the first ones are in the tables already */
    int64_t *value; /* (count) these */
    int64_t *slot; /* (values) the place there of each; of one that is not in use, any place */
} embedding;

extern const kernels kernels_f64_base; /* in every build: what does not depend on the instance */

struct bptt_plan {
    /* -- the description, resolved -- */
    const kernels *k;
    const cell_kernels *cell;
    const char *isa;
    chosen_loss loss;
    int every; /* 1: g reads every step */
    int input_gradient; /* 1: dLoss/dx is computed */
    crew crew; /* the threads of its runs */
    int directions;
    int two_products; /* 1: the recurrent weights are two matrices */
    int copies; /* 1: the rows of a vector are copies of the network, see copies.c */
    int trained_state; /* 1: the states before the first step are parameters */
    double dropout;
    double recurrent_dropout;
    double recurrent_noise;
    double input_noise;
    int noise; /* the convention of recurrent_noise: NOISE_SDE, _STEP or _SCALED */
    int trained_tau; /* 1: so are the time constants */
    double rate_penalty; /* of h at every step, in training */
    double rate_target;
    uint64_t seed;
    int64_t layers;
    int64_t head_layers; /* of g; 0: there is no g */
    int skip; /* 1: g reads the input of the step, too */
    int64_t I;
    int64_t choices; /* of the inputs that are integers, the last ones */
    int embeds; /* 1: some of them have an embedding */
    int readers; /* matrices that read the inputs */
    int64_t encoded; /* columns of each, with a vector for each integer */
    int64_t H;
    int64_t R; /* width of h: H, or less with a projection */
    int64_t O;
    int64_t depth; /* hidden layers of f */
    int64_t batch; /* rows of a batch, at most */
    int64_t steps; /* steps of a batch, at most */
    int64_t area; /* rows x steps of a group of a batch, at most */
    int grouped; /* 1: the area may be less than the batch */
    int64_t flat_size; /* parameters */
    int64_t packed_size; /* the same, packed and padded */
    double step_size; /* those of them that each step multiplies */
    int64_t state_size; /* reals in the state of one sequence */
    int64_t blocks; /* of parameters */
    int64_t columns; /* of all blocks */

    /* -- how training unfolds time: the description's numbers -- */
    int64_t k1;
    int64_t k2;
    int64_t segment;
    int64_t checkpoints;
    int64_t stride;
    double sampling_probability;

    /* -- rules on parameters, see bptt_set_rules -- */
    int may_have_rules;
    int ruled; /* 1: it has some */
    int penalised; /* 1: a block has a penalty */
    int grouped_weights; /* 1: a block has a group lasso */
    double largest_l2;
    bounds bounds; /* (packed_size) reals each */
    bptt_penalty *penalty; /* (blocks) */
    double *squares; /* (columns) sums of squares of their weights */

    /* -- the present group -- */
    int purpose; /* INFER, SLIDE or TRAIN */
    int shared; /* 1: its windows share their input projection */
    int64_t B; /* rows */
    int64_t T; /* steps of the present chunk */
    int64_t layout_steps; /* steps that the fields are laid out for */
    int64_t first; /* of a shard between two passes: the step of its sequences in chunk 0 */
    int64_t begin; /* where its fields begin in the arena */
    int64_t end; /* and where they end */
    int64_t touched; /* to where those of any group did, if they were many bytes */

    /* -- a tape that bptt_forward left for bptt_backward -- */
    int64_t taped; /* sequences on it; 0: none, or backward consumed it */
    int given; /* 1: the caller gave the initial states */
    uint64_t draw; /* which masks of dropout */

    /* -- the arena -- */
    char *arena;
    size_t bytes; /* of the arena */
    size_t fixed; /* of its part that does not depend on the batch */
    frame layer[2 * BPTT_MAX_LAYERS]; /* [l * directions + d] */
    dense inner[2 * BPTT_MAX_LAYERS][BPTT_MAX_DEPTH];
    dense head[BPTT_MAX_DEPTH + 1];
    embedding embedding[BPTT_MAX_DEPTH]; /* of the integer inputs */
    /* by reader: each direction of the first layer, then with `skip` g */
    lookup lookup[3][BPTT_MAX_DEPTH];
    /* (H) each, padded, with trained time constants (layer directions, H): dt/tau of each unit; the
       amplitude of its noise; then only the slopes of both, see frame */
    void *alpha;
    void *amplitude;
    void *alpha_slope;
    void *noise_slope;
    void *input_amplitude; /* (I), padded: of that of the inputs */
    void *packed; /* (packed_size) reals: the packed weights; copies: (P, lanes) reals */
    void *grad; /* the same */
    void *opt_state; /* MAX_OPT_STATE times the same */
    void *bound; /* copies: (lanes) reals, of their gradients' squared norms */
    void *numbers; /* copies: of their optimisers, as their instance has them */
    int64_t *norm_order; /* copies: (norm_size) which parameter each place of a norm has, or -1 */
    int64_t norm_size; /* of the packed vector of a single network */
    int64_t norm_lanes; /* columns of its vectors */
    double *norms; /* (norm_slices) */
    double *row_loss; /* (batch) */
    int64_t *row; /* (batch) which sequence row b is */
    int64_t *batch_sizes; /* (T+1) active rows at each step */
    /* (T, B, I); in a plan for single rows WINDOW steps more, for learners.
       shared: (stride, rows, I), row r of phase p being row p + r*stride of the windows' series */
    field x;
    field dx; /* (T, B, I) */
    field stored[2 * BPTT_MAX_LAYERS]; /* (checkpoints, B, R + (S-1)*H) states */
    field dropped[2 * BPTT_MAX_LAYERS]; /* (T, B, R) h after dropout, for the layer above */
    field last[2]; /* per direction (B, R) h after each row's last step */
    field last_x; /* skip: (B, I) the input of that step */
    field value[BPTT_MAX_DEPTH + 1]; /* g's layers: (T or 1, B, width); the last: y, then dy */
    field head_grad[BPTT_MAX_DEPTH]; /* gradients of pre-activations of g's hidden layers */

    /* -- windows that share a series -- */
    field window_zx[2]; /* per direction (stride, rows, G*H) projections, then gradients */
    int64_t *series_row; /* (rows) 0, 1, ... */
    int64_t *series_offset; /* (rows) where phase 0 of each lies */
    int64_t *series_batch_sizes; /* (stride) */

    /* -- second order -- */
    int64_t residuals; /* rows of J that are computed at once */
    int64_t gram_width; /* P+1, padded */
    int64_t tangent_width; /* f's part of P, padded */
    bptt_plan *rows; /* an inner plan: each row of its batches is a residual */
    size_t rows_bytes;
    void *jacobian; /* (residuals, gram_width) reals */
    void *gram; /* (gram_width, gram_width) reals */
    residual *residual; /* (residuals) */
    int tangents; /* 1: J may also be computed forward, from tangents */
    void *tangent[2]; /* (S*Hp, tangent_width) tangents of s before and after a step */
    void *transition; /* (H, S*Hp) */
};

/* -- lists.c: names.  A name_of gives the name of row i of a list; NULL: there is none. -- */
typedef const char *(*name_of)(int i);
int find(const char *name, name_of list);
const char *cell_name(int i);
const char *loss_name(int i);
const char *dtype_name(int i);
const char *initial_state_name(int i);
const char *noise_name(int i);
const char *lanes_name(int i);

/* -- instances.c: the instance for a dtype, with lanes along units or by_rows; isa NULL: the best
      one.  NULL: there is none. -- */
const kernels *find_kernels(const char *isa, int f64, int by_rows, const char **chosen);

/* -- blocks.c: names, shapes and places of the parameter blocks; returns their number -- */
int64_t declare_blocks(bptt_plan *p, const bptt_desc *desc, bptt_block *out, int64_t max);

/* -- description.c -- */
typedef struct {
    char *text; /* why a description is refused, for the caller */
    size_t size;
} reason;
static const reason SILENT = { NULL, 0 }; /* where nobody reads the reason */
bptt_status resolve(bptt_plan *p, const bptt_desc *d, bptt_block *out, int64_t max, int64_t *count,
                    const reason *why);
bptt_desc rows_desc(const bptt_desc *d);
bptt_desc single_desc(const bptt_desc *d);
int unfolds_in_parts(const bptt_plan *p);

/* -- copies.c -- */
void order_norm(bptt_plan *p, const bptt_desc *desc);

/* -- plan.c: sizes and fields -- */
int64_t norm_slices(const bptt_plan *p);
int64_t tape_steps(const bptt_plan *p, int64_t T);
int64_t series_rows(const bptt_plan *p, int64_t B, int64_t T);
void derive_time_constants(const bptt_plan *p);
void lay_out(bptt_plan *p, int64_t B, int64_t T, int purpose, int shared);
void lay_out_at(bptt_plan *p, int64_t begin, int64_t B, int64_t T, int purpose, int shared);

/* -- sizes: above 2^62 they become 2^62, so that products stay positive and fit nowhere -- */
static const int64_t HUGE_SIZE = (int64_t)1 << 62;
static inline int64_t times(int64_t a, int64_t b) {
    int64_t c;
    return __builtin_mul_overflow(a, b, &c) || c > HUGE_SIZE ? HUGE_SIZE : c;
}
static inline int64_t plus(int64_t a, int64_t b) { return a > HUGE_SIZE - b ? HUGE_SIZE : a + b; }

/* The blocks of one vector that so many columns take, and their columns with the padding. */
static inline int64_t blocks_of(const bptt_plan *p, int64_t columns) {
    return (columns - 1) / p->k->lanes + 1;
}
static inline int64_t padded(const bptt_plan *p, int64_t columns) {
    return times(blocks_of(p, columns), p->k->lanes);
}
#endif
