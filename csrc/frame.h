/* frame.h: what a kernel sees.  Sizes, and pointers with shapes; nothing here knows dtype or
   instruction set.

   All activations of a run lie time-major in blocks of CL columns, those of a vector (real.h): a
   field (T, B, C) keeps column c of row b at step t at  p[t*step + c/CL*block + b*row + c%CL].  A
   step is one dense chunk, a block of it is one unit-stride panel.  Columns are padded with zeros to
   whole vectors; where a vector holds RL rows of one column, rows are padded, with any numbers. */
#ifndef BPTT_FRAME_H
#define BPTT_FRAME_H
#include "bptt.h"
#include "integers.h"
#include <stddef.h>
#include <stdint.h>

/* An array of activations in the arena; who has it there, plan.c says.  p NULL: there is none. */
typedef struct {
    void *p;
    /* reals from one step, block of columns, row to the next */
    int64_t step;
    int64_t block;
    int64_t row;
} field;

/* Nonlinearities. */
enum {
#define ACTIVATION(id, name) ACT_##id,
#include "activations.def"
};

/* The order in which a product of a span is summed.  It depends on the problem, never on the split
   into threads.
   REDUCE_ROWS      by tiles of rows: a batch, or what shall have the bits that it has in one
   REDUCE_SEQUENCE  the whole batch is one sequence: outside the loop over time, its steps are the
                    rows of the tiles; inside it, as REDUCE_STEP
   REDUCE_STEP      one step of such a sequence: four partial sums, see row_product */
enum reduction_order { REDUCE_ROWS, REDUCE_SEQUENCE, REDUCE_STEP };

/* The part of a batch that a call works on: steps t0 <= t < t1, rows r0 <= b < r1; where threads
   share the units in a loop over time, part `part` of `parts` of these. */
typedef struct {
    int64_t t0;
    int64_t t1;
    int64_t r0;
    int64_t r1;
    /* the rows of the whole batch, after which the padding is; 0: unknown */
    int64_t rows;
    /* NULL, or (t1): of these rows, at step t only the first batch_sizes[t] are active (rows are
       sorted by length) */
    const int64_t *batch_sizes;
    /* enum reduction_order */
    int reduction;
    int part;
    int parts;
} span;

/* One weight matrix W (gates*units, cols), or a vector (cols = 1).  Its columns are the inputs;
   where these come from several fields (both directions of the layer below; the input of the step),
   they form as many column groups of K columns each, but the last one, which has `last` columns. */
typedef struct {
    int64_t gates;
    int64_t units;
    int64_t cols;
    int64_t column_groups;
    int64_t K;
    int64_t last;
    /* after the `last` inputs that are numbers so many that are integers, and what each looks up */
    int64_t choices;
    const struct lookup *lookup;
    /* columns before column group 0, where the matrix is a part of the columns of W */
    int64_t before;
    /* vectors of a packed row, for all units and gates; vectors of a panel */
    int64_t vectors;
    int64_t width;
    /* offset in the parameter vector: PyTorch's order, row g*units + j */
    int64_t flat;
    /* offset in the packed vector, and how many reals are there: columns of the packed matrix are
       (block of units, gate, lane), in panels of `width` vectors; a panel is (cols, width*VL),
       contiguous */
    int64_t packed;
    int64_t size;
    /* which parameter block it is (of), and where that begins in the parameter vector; columns of the
       blocks before */
    int64_t block;
    int64_t first;
    int64_t column;
    /* 1: a bias */
    int bias;
    /* the same weights for the backward pass, packed by input columns: per column group, panels of
       2 vectors, (gates*units, 2*VL) each, rows in the order (block of units, gate, lane), only
       real units; NULL: not needed */
    void *transposed;
} matrix;

/* What an integer input chooses: a column of W, as if it were a one-hot vector, or with an
   embedding E (values, width) a row of E, of which the product with `width` columns of W is in
   a table. */
typedef struct lookup {
    /* it is one of 0 .. values - 1 */
    int64_t values;
    /* of the vector; 0: one-hot */
    int64_t width;
    /* the first of its columns of W */
    int64_t first;
    /* these columns alone */
    matrix weight;
    /* (values) the row of the table, of each value in use; NULL: one-hot */
    const int64_t *slot;
    /* (1, values in use, gates*units) the products, and the gradients by them; p NULL: one-hot */
    field table;
    field table_grads;
} lookup;

/* Bounds of the parameters, packed as they are. */
typedef struct {
    void *low;
    void *high;
} bounds;

/* y = act(w x + b) */
typedef struct {
    int act;
    matrix w;
    matrix b;
} dense;

/* One direction of one recurrent layer. */
typedef struct {
    /* units of the cell; width of h (the same without a projection) */
    int64_t H;
    int64_t R;
    int gates;
    int states;
    /* 1: h follows from c, which alone is the state of a sequence for the caller */
    int follows;
    int saved_count;
    int act;
    int reverse;
    /* 1: odd steps of a single row read the recurrent weights from their end, see row_product */
    int zigzag;
    matrix ih;
    matrix hh;
    matrix b_ih;
    matrix b_hh;
    /* (peepholes*H) weights per unit of the cell */
    matrix peep;
    /* (H), padded: dt/tau of each unit; NULL: the cell has no leak */
    const void *alpha;
    /* trained time constants (H), else size 0: alpha = 1 / (1 + softplus(raw_tau)) */
    matrix raw_tau;
    /* with these (H), padded: dalpha/draw_tau; slope of log(amplitude) by alpha, NULL: 0 */
    const void *alpha_slope;
    const void *noise_slope;
    /* (H), padded: amplitudes of the noise, which lies where s of a step will be; NULL: none */
    const void *amplitude;
    /* projection h = W_hr m, (R, H); size 0: none */
    matrix hr;
    /* (depth) dense layers of f after the first; two_products: its 2 recurrent matrices */
    int64_t depth;
    const dense *inner;
    /* (T, B, G*H) input projections; what the backward pass needs of the gates; gradients of zx:
       one memory, each in the place of the one before, unless the batch's windows share zx (phases
       > 0), or gate_values are needed after the backward pass (truncation, second order) */
    field zx;
    field gate_values;
    field dzx;
    /* > 0: zx of step t is in chunk t % phases, t / phases rows further */
    int64_t phases;
    /* trained states before the first step: h, c; size 0: none */
    matrix initial[2];
    /* (T, B, G*H) gradient of zr; the same as dzx unless the cell has SEPARATE_DZR */
    field dzr;
    /* (T, B, H) gradient of raw_tau; p NULL: it is not trained */
    field draw_tau;
    /* (T+1, B, R + (S-1)*H) states; step t reads chunk t + reverse, writes t + !reverse */
    field s;
    /* (T, B, saved_count*H) what else the backward pass needs; p NULL: there is none, or no
       backward pass follows */
    field saved;
    /* like a chunk of s, carried: in dLoss/ds[last] not from h by time, out dLoss/ds0 */
    field ds;
    /* (T, B, R) dLoss/dh from above; p NULL: none */
    field dy;
    /* with a projection: (T, B, H) what it projects; (T, B, R) dLoss/dh whole */
    field m;
    field dh;
    /* dLoss/dh is clipped to +-clip at each step of the backward pass; 0: it is not */
    double clip;
    /* recurrent dropout: (B, R) factors, (T+1, B, R) h times them; p NULL: none */
    field mask;
    field masked;
    /* cell mlp: (T, B, width) values and gradients of the layers before the last */
    field a[16];
    field da[16];
    /* the packed vector: all weights, as `matrix` says */
    const void *packed;
} frame;

/* A dropout mask, noise, or the draws of a closed loop: which of its kind, and how likely a zero (an
   own input) is. */
typedef struct {
    uint64_t key;
    double p;
} dropout;

/* The rows of a batch in the caller's arrays, which the kernels read and never keep. */
typedef struct {
    const void *values;
    const void *targets;
    const void *weight;
    const void *state;
    const int64_t *classes;
    /* (sequences) rows before a sequence's first, of inputs and of targets; its steps */
    const int64_t *offset;
    const int64_t *length;
    const int64_t *target_offset;
    /* NULL, or how many rows after a sequence's first its step t lies */
    const int64_t *start;
    /* (sequences) by what a sequence draws; NULL: its place */
    const int64_t *number;
    /* (B) which sequence row b is; rows sorted by decreasing length */
    const int64_t *row;
    /* the step of the sequences that chunk 0 holds */
    int64_t first;
} source;

/* losses.def by place: the switch of a loss. */
enum {
#define LOSS(name, ...) LOSS_##name,
#define TARGET_LOSS(name, ...) LOSS_##name,
#define CLASS_LOSS(name, ...) LOSS_##name,
#include "losses.def"
    LOSSES
};
typedef struct {
    int kind;
    /* 1: targets are classes */
    int classes;
    /* of the network, for each target */
    int outputs;
    double parameter[BPTT_MAX_LOSS_VALUES];
} chosen_loss;
typedef struct {
    const chosen_loss *loss;
    /* 1: a target per step, 0: one per sequence */
    int every;
    /* added to every target row (the online algorithm's k - 1 + lead) */
    int64_t shift;
    /* 1 / sum of the weights of the batch */
    double scale;
} loss_desc;

/* optimizers.def by place: the switch of an optimiser. */
enum {
#define OPTIMIZER(name, ...) OPTIMIZER_##name,
#include "optimizers.def"
    OPTIMIZERS
};
/* One update: what update.c says of it, then what name_prepare derives from that and from
   bptt_hyper. */
typedef struct {
    int kind;
    /* the gradient needs more than a scale: clip_and_add_noise */
    int needs_preprocessing;
    /* the learning rate of this update; updates so far, this one included; loss before it */
    double rate;
    double t;
    double loss;
    /* factor of the gradient, by clip_norm */
    double scale;
    /* standard deviation of the noise; its key */
    double noise;
    uint64_t key;
    /* of the step; rate, unless prepare says otherwise */
    double size;
    /* nadam: factor of the mean, with the next momentum */
    double ahead;
    /* factor of the root of the mean of squares */
    double root;
    /* what an empty vector begins with */
    double start;
    /* 1: weight decay is no part of the gradient */
    int decoupled;
    /* rprop: the loss rose: take the last step back */
    int worse;
} update;
typedef struct bptt_hyper bptt_hyper;

/* A pattern of the online algorithm, of a network of one layer f, without projection, and one linear
   g, or of the copies of one in the rows of a vector: see pattern.h. */
typedef struct {
    const frame *f;
    const dense *g;
    /* (outputs), then dLoss/dy */
    const field *y;
    int64_t outputs;
    /* instances of f; their inputs (of copies in vectors), x_step reals apart */
    int64_t k;
    const void *x;
    int64_t x_step;
    const loss_desc *loss_desc;
    const source *source;
    double *loss;
    void *grad;
    /* reals of the packed vector; the step of sgd that follows at once, if the squared norm of the
       gradient is surely below `small`: its rate.  small 0: none does.  small_part: below this both
       factors of a bound of it are small enough */
    int64_t size;
    double small;
    double small_part;
    double rate;
    /* of copies: (lanes) their rates, and where a bound of the gradient's squared norm goes */
    const double *rates;
    void *bound;
} pattern;

/* Recurrent weights of more bytes than this, which the nearest cache does not hold, are read to and
   fro by the online algorithm. */
enum { ZIGZAG_BYTES = 40 << 10 };

/* A cell: its row of cells.def, what cell.h says it has, and its loops over time.  Each thread
   calls forward, backward and finish for its own rows, then all of them collect, for part `part` of
   `parts` of the weights inside the loop. */
typedef struct {
    const char *name;
    int gates;
    int states;
    int gate_values;
    int saved;
    int separate_dzr;
    int peepholes;
    int leak;
    int leak_values;
    int follows;
    int activation;
    int projection;
    int hidden_layers;
    int keep_gate;
    int two_products;
    int recurrent;
    /* 1: forward and backward know the parts of a span */
    int splits_units;
    void (*forward)(const frame *, const span *);
    void (*backward)(const frame *, const span *);
    void (*finish)(const frame *, const span *);
    void (*collect)(const frame *, void *grad, int add, const span *, int64_t part, int64_t parts);
    void (*tangent)(const frame *, const field *x, int64_t t, int64_t b, void *transition,
                    const void *before, void *after, int64_t width);
    /* NULL: the cell has none.  1: the update was taken, too, and what follows it */
    int (*gradient_of_pattern)(const pattern *);
    void (*advance)(const pattern *);
} cell_kernels;

/* A cell that is compiled by itself, see own_cell.h: its kernels for some of the instances, by their
   names; one without a name ends the list. */
typedef struct {
    const char *instance;
    const cell_kernels *const *cell;
} own_instance;
struct bptt_own_cell {
    /* BPTT_INTERFACE of the headers that it was compiled from */
    uint64_t interface;
    const own_instance *instance;
};

/* One instance: all kernels of one dtype on one instruction set.  What each computes stands where
   it is defined, in the file named here. */
typedef struct {
    /* as its file in csrc/instances */
    const char *name;
    /* columns and rows of a vector of activations, one of them 1; bytes of a real */
    int64_t lanes;
    int64_t rows;
    int64_t bytes;
    /* in the order of cells.def; NULL ends it */
    const cell_kernels *const *cell;

    /* gemm.h */
    void (*pack)(const matrix *, const void *flat, void *packed, int64_t part, int64_t parts);
    void (*unpack)(const matrix *, const void *packed, void *flat, int64_t part, int64_t parts);
    void (*pack_transposed)(const matrix *, const void *packed, int64_t part, int64_t parts);
    void (*forward)(const matrix *, const void *packed, const matrix *bias, int64_t group, int act,
                    const field *x, const field *add, const field *y, const span *);
    void (*backward)(const matrix *, int64_t group, const field *dz, const field *dx, int add,
                     int act, const field *a, const span *);
    void (*collect)(const matrix *, int64_t group, const field *x, const field *dz, void *grad,
                    int add, const span *, int64_t part, int64_t parts);
    void (*collect_bias)(const matrix *, const matrix *twin, const field *dz, void *grad, int add,
                         const span *, int64_t part, int64_t parts);

    /* rows.h */
    void (*row_forward)(const matrix *, const void *packed, const matrix *bias, int act,
                        const void *x, int64_t x_step, void *y, int64_t y_step, int64_t steps);
    void (*row_backward)(const matrix *, const void *dz, int act, const void *a, void *dx);
    void (*row_collect)(const matrix *, const matrix *bias, const matrix *twin, const void *x,
                        int64_t x_step, const void *dz, int64_t z_step, int64_t steps, void *grad);

    /* batch.h */
    void (*gather)(const source *, int64_t width, int64_t columns, const field *x, const span *);
    void (*scatter)(const source *, int64_t width, int64_t columns, const field *x, const span *,
                    int every, void *out);
    void (*load_state)(const source *, int64_t size, int64_t at_state, int64_t columns,
                       const field *to, int64_t t, const span *);
    void (*store_state)(const source *, int64_t size, int64_t at_state, int64_t columns,
                        const field *from, int64_t t, const span *, void *out);
    void (*sum_windows)(const field *from, const field *to, int64_t stride, int64_t steps,
                        int64_t rows, int64_t part, int64_t parts);
    void (*feed_back)(const dropout *, const source *, const field *y, const field *x, const span *,
                      int back);
    void (*copy_rows)(const field *from, int64_t t_from, const field *to, int64_t t_to, int64_t r0,
                      int64_t r1);
    void (*zero_rows)(const field *to, int64_t t, int64_t r0, int64_t r1);
    void (*activate)(int act, int64_t columns, const field *c, const field *h, int64_t t,
                     int64_t r0, int64_t r1);
    void (*activate_backward)(int act, int64_t columns, const field *h, int64_t t, const field *dh,
                              const field *dc, int64_t r0, int64_t r1);
    void (*multiply)(const field *from, const field *by, const field *to, int64_t t, int64_t r0,
                     int64_t r1);
    void (*drop)(const dropout *, const source *, const field *from, const field *to, const span *,
                 int per_sequence);
    void (*noise)(const dropout *, const source *, int64_t columns, const void *amplitude, int add,
                  const field *to, const span *);
    void (*penalise)(int64_t columns, double target, double share, double factor, const field *h,
                     const field *dy, const span *, double *sums);

    /* losses.h */
    void (*loss)(const loss_desc *, const source *, int64_t outputs, const field *y, const span *,
                 double *row_loss, int gradient);
    double (*weight)(const void *weights, int64_t row);
    double (*leak)(const void *raw_tau, int64_t i, double *slope);
    void (*curvature)(const chosen_loss *, int64_t outputs, const double *y, const double *dy,
                      double *product);

    /* optimizers.h; update.c takes prepare from the one instance kernels_f64_base */
    double (*norm2)(const void *grad, int64_t from, int64_t to);
    int (*is_small)(const void *grad, int64_t from, int64_t to, double limit);
    void (*prepare)(bptt_hyper *, update *);
    void (*clip_and_add_noise)(const bptt_hyper *, const update *, const matrix *, void *grad,
                               int64_t from, int64_t to);
    void (*optimise)(const bptt_hyper *, const update *, int decays, double l2, void *packed,
                     const void *grad, void *slots, int64_t stride, int64_t from, int64_t to);
    void (*optimise_within)(const bounds *, const bptt_hyper *, const update *, int decays,
                            void *packed, const void *grad, void *slots, int64_t stride,
                            int64_t from, int64_t to);

    /* rules.h */
    void (*hold)(const bounds *, const void *packed, int64_t from, int64_t to);
    void (*zero_fixed)(const bounds *, void *grad, int64_t from, int64_t to);
    void (*soft_threshold)(double threshold, void *packed, int64_t from, int64_t to);
    void (*project)(const bounds *, void *packed, int64_t from, int64_t to);
    void (*shrink_rows)(const bounds *, const matrix *, double threshold, void *packed,
                        int64_t part, int64_t parts);
    void (*square_columns)(const bounds *, const matrix *, const void *packed, double *squares,
                           int64_t part, int64_t parts);
    void (*shrink_columns)(const matrix *, double threshold, const double *squares, void *packed,
                           int64_t part, int64_t parts);

    /* batch.h, optimizers.h: copies of a network, which only the instances BY_ROWS have */
    void (*spread)(const void *from, int64_t n, void *to);
    int (*are_below)(const void *bound, double limit);
    void (*set_numbers)(const bptt_hyper *, const update *, int64_t first, int64_t last,
                        void *numbers);
    void (*optimise_copies)(const bptt_hyper *, const update *, int decays, const void *numbers,
                            const double *scales, void *packed, void *grad, void *slots,
                            int64_t stride, int64_t from, int64_t to);
    void (*norm2_of_copies)(const void *vector, const int64_t *order, int64_t size, int64_t lanes,
                            double *norm2);

    /* curvature.h */
    void (*gather_rows)(const field *from, const int64_t *row, const field *to, const span *);
    void (*set_one_hot)(const field *to, int64_t r, int64_t column, double value);
    double (*element)(const field *from, int64_t t, int64_t r, int64_t column);
    void (*fill_row)(void *row, int64_t column, int64_t width, double value);
    void (*outer_product)(const matrix *, int64_t group, const field *dz, const field *x, int64_t r,
                          void *row);
    void (*apply_chain_rule)(const field *ds, int64_t r, int64_t units, const void *tangent,
                             int64_t width, void *row);
    void (*gram)(const void *a, int64_t rows, int64_t width, int64_t stride, void *out);
    int (*factor_rows)(void *rows, int64_t from, int64_t to, int64_t width);
    void (*solve_rows)(const void *rows, int64_t n, int64_t width, void *x);

    /* kernels.h */
    void (*apply)(int function, const void *in, void *out, int64_t n);
} kernels;
#endif
