/* frame.h: what a kernel sees.  Sizes, and pointers with shapes; nothing here knows dtype or instruction set.

   All activations of a run lie time-major in blocks of one vector (VL columns):  a field (T, B, C) keeps column c of row b
   at step t at  p[t*step + c/VL*block + b*row + c%VL].  A step is one dense chunk, a block of it is one unit-stride panel,
   and columns are padded with zeros to whole vectors. */
#ifndef BPTT_FRAME_H
#define BPTT_FRAME_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    void *p;
    int64_t step, block, row;
} field;

enum { ACT_TANH, ACT_RELU, ACT_SIGMOID, ACT_LINEAR };      /* nonlinearities */
enum reduction_order { REDUCE_ROWS, REDUCE_SEQUENCE, REDUCE_STEP };

/* For sizes and indices. */
static inline __attribute__((always_inline)) int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline __attribute__((always_inline)) int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* The part of a batch that a call works on: steps t0 <= t < t1, rows r0 <= b < r1, of these at step t only the first
   active[t] (rows are sorted by length).  reduction: REDUCE_ROWS; REDUCE_SEQUENCE, the whole batch is one sequence, whose steps can serve
   as rows; REDUCE_STEP of such a sequence.  It picks the order of summation, so it depends on the problem, never on the
   split into threads. */
typedef struct {
    int64_t t0, t1, r0, r1;
    const int64_t *batch_sizes;
    int reduction;
} span;

/* One weight matrix W (gates*units, cols), or a vector (cols = 1).
   flat: offset in the parameter vector, PyTorch's order, row g*units + j.
   packed: offset in the packed vector, where it lies packed for the micro-kernel: columns of the packed matrix are
         (block of units, gate, lane), in panels of `panel(gates)` vectors; a panel is (cols, panel*VL), contiguous.
   transposed: the same weights for the backward pass, packed by input columns: per segment of the columns, panels of 2 vectors,
         (gates*units, 2*VL) each, rows in the order (block of units, gate, lane), only real units. */
typedef struct {
    int64_t gates, units, cols, column_groups;
    int64_t K, vectors, width;             /* columns of a segment; packed vectors a row; vectors of a panel */
    int64_t flat, packed, size;              /* size: reals in the working vector */
    int64_t block, first;                  /* which parameter block it is (of), and where that begins in the flat vector */
    int bias;
    void *transposed;                          /* NULL: not needed */
} matrix;

typedef struct {
    int act;
    matrix w, b;
} dense;                                   /* y = act(w x + b) */

/* One direction of one recurrent layer. */
typedef struct {
    int64_t H, R;                          /* units of the cell; width of h (the same without a projection) */
    int gates, states, saved_count;
    int act, reverse;
    int zigzag;                            /* odd steps of a single row read the recurrent weights from their end: row_product */
    matrix ih, hh, b_ih, b_hh;
    matrix peep;                           /* weights per unit of the cell: (peeps*H) */
    matrix hr;                             /* projection h = W_hr m (R, H); size 0: none */
    int64_t depth;                         /* dense layers of f after the first; two_products: 2 */
    const dense *inner;
    field zx, gate_values, dzx;                   /* (T, B, G*H) input projections; what the backward pass needs of the gates; gradients of zx:
                                              one memory, each in the place of the one before, unless the batch's windows
                                              share zx (phases > 0), or what is kept is needed after the backward pass (truncation,
                                              second order) */
    int64_t phases;                        /* > 0: zx of step t is in chunk t % phases, t / phases rows further */
    matrix initial[2];                     /* trained states before the first step: h, c; size 0: none */
    field dzr;                             /* (T, B, G*H) gradient of zr; the same as dzx unless `split` */
    field s;                               /* (T+1, B, R + (S-1)*H) states; step t reads chunk t + reverse, writes t + !reverse */
    field saved;                           /* (T, B, saved_count*H) what else the backward pass needs; p NULL: there is none */
    field ds;                              /* like a chunk of s, carried: in dLoss/ds[last] not from h by time, out dLoss/ds0 */
    field dy;                              /* (T, B, R) dLoss/dh from above; p NULL: none */
    field m, dh;                           /* projection: (T, B, H) what it projects, (T, B, R) dLoss/dh whole */
    double clip;                           /* dLoss/dh is clipped to +-clip at each step of the backward pass; 0: it is not */
    field mask, masked;                    /* recurrent dropout: (B, R) factors, (T+1, B, R) h times them; p NULL: none */
    field a[16], da[16];                   /* cell mlp: (T, B, width) values and gradients of the layers before the last */
    const void *packed;                    /* the packed vector of all parameters */
} frame;

/* A dropout mask, or the draws of a closed loop: which of its kind, and how likely a zero (an own input) is. */
typedef struct {
    uint64_t key;
    double p;
} dropout;

/* The rows of a batch in the caller's arrays. */
typedef struct {
    const void *values, *targets, *weight, *state;
    const int64_t *classes, *offset, *length, *target_offset;
    const int64_t *start;                  /* NULL, or how many rows after a sequence's first its step t lies */
    const int64_t *row;                    /* (B) which sequence row b is; rows sorted by decreasing length */
    int64_t first;                         /* the step of the sequences that chunk 0 holds */
} source;

/* losses.def by place: the switch of a loss. */
enum {
#define LOSS(name, ...) LOSS_##name,
#define CLASS_LOSS(name, ...) LOSS_##name,
#include "losses.def"
    LOSSES
};
typedef struct {
    int kind;
    int classes;                           /* 1: targets are classes */
    double parameter[4];
} chosen_loss;
typedef struct {
    chosen_loss loss;
    int every;                             /* 1: a target for each step, 0: one a sequence */
    int64_t shift;                         /* added to every target row (the online algorithm's k - 1 + lead) */
    double scale;                          /* 1 / sum of the weights of the batch */
} loss_desc;

/* optimizers.def by place: the switch of an optimiser. */
enum {
#define OPTIMIZER(name, ...) OPTIMIZER_##name,
#include "optimizers.def"
    OPTIMIZERS
};
/* One update: what run.c says of it, then what name_prepare derives from that and from bptt_hyper. */
typedef struct {
    int kind;
    int needs_preprocessing;               /* the gradient needs more than a scale: clip_and_add_noise */
    double rate;                           /* the learning rate of this update */
    double t;                              /* updates so far, this one included */
    double loss;                           /* of the batch, before the update */
    double scale;                          /* of the gradient, by clip_norm */
    double noise;                          /* deviation of the noise */
    uint64_t key;                          /* of the noise */
    double size;                           /* of the step; rate, unless prepare says otherwise */
    double ahead;                          /* nadam: of the mean, with the next momentum */
    double root;                           /* of the root of the mean of squares */
    double start;                          /* what an empty vector begins with */
    int decoupled;                         /* 1: weight decay is no part of the gradient */
    int worse;                             /* rprop: the loss rose: take the last step back */
} update;
typedef struct bptt_hyper bptt_hyper;

/* A cell: its row of cells.def, which explains the counts, and its loops over time. */
typedef struct {
    const char *name;
    int gates, states;
    int gate_values, saved;                       /* vectors per unit where zx was, and in a field of their own */
    int separate_dzr;                             /* SEPARATE_DZR */
    int peepholes;                             /* PEEPHOLES */
    int activation, projection, hidden_layers, keep_gate, two_products;
    void (*forward)(const frame *, const span *);
    void (*backward)(const frame *, const span *);
    void (*finish)(const frame *, const span *);
    void (*collect)(const frame *, void *grad, int add, const span *, int64_t part, int64_t parts);   /* weights inside the loop */
    void (*tangent)(const frame *, const field *x, int64_t t, int64_t b, void *transition, const void *before, void *after,
                    int64_t width);
} cell_kernels;

/* One instance: all kernels of one dtype on one instruction set. */
typedef struct {
    int64_t lanes, bytes;                  /* of a vector; of a real */
    const cell_kernels *const *cell;       /* in the order of cells.def; NULL ends it */
    void (*pack)(const matrix *, const void *flat, void *work, int64_t part, int64_t parts);
    void (*unpack)(const matrix *, const void *work, void *flat, int64_t part, int64_t parts);
    void (*pack_transposed)(const matrix *, const void *work, int64_t part, int64_t parts);
    void (*gather)(const source *, int64_t width, int64_t columns, const field *x, const span *);   /* width: reals a row */
    void (*scatter)(const source *, int64_t width, int64_t columns, const field *x, const span *, int every, void *out);
    void (*load_state)(const source *, int64_t size, int64_t at_state, int64_t columns, const field *to, int64_t t, const span *);
    void (*store_state)(const source *, int64_t size, int64_t at_state, int64_t columns, const field *from, int64_t t,
                        const span *, void *out);
    void (*sum_windows)(const field *from, const field *to, int64_t stride, int64_t steps, int64_t rows, int64_t part, int64_t parts);
    void (*feed_back)(const dropout *, const source *, const field *y, const field *x, const span *, int back);
    void (*copy_rows)(const field *from, int64_t t_from, const field *to, int64_t t_to, int64_t r0, int64_t r1);
    void (*zero_rows)(const field *to, int64_t t, int64_t r0, int64_t r1);
    void (*forward)(const matrix *, const void *work, const matrix *bias, int64_t segment, int act, const field *x,
                    const field *add, const field *y, const span *);
    void (*backward)(const matrix *, int64_t segment, const field *dz, const field *dx, int add, int act, const field *a,
                     const span *);
    void (*collect)(const matrix *, int64_t segment, const field *x, const field *dz, void *grad, int add, const span *,
                    int64_t part, int64_t parts);
    void (*collect_bias)(const matrix *, const matrix *twin, const field *dz, void *grad, int add, const span *, int64_t part,
                         int64_t parts);
    void (*row_forward)(const matrix *, const void *work, const matrix *bias, int act, const void *x, int64_t x_step, void *y,
                        int64_t y_step, int64_t steps);
    void (*row_backward)(const matrix *, const void *dz, int act, const void *a, void *dx);
    void (*row_collect)(const matrix *, const matrix *bias, const matrix *twin, const void *x, int64_t x_step, const void *dz,
                        int64_t z_step, int64_t steps, void *grad);
    void (*multiply)(const field *from, const field *by, const field *to, int64_t t, int64_t r0, int64_t r1);
    void (*drop)(const dropout *, const source *, const field *from, const field *to, const span *, int per_sequence);
    void (*loss)(const loss_desc *, const source *, int64_t outputs, const field *y, const span *, double *row_loss, int gradient);
    double (*weight)(const void *weights, int64_t row);
    double (*norm2)(const void *grad, int64_t from, int64_t to);
    void (*curvature)(const chosen_loss *, int64_t outputs, const double *y, const double *dy, double *product);
    void (*prepare)(bptt_hyper *, update *);   /* run.c takes it from the one instance kernels_f64_base */
    void (*clip_and_add_noise)(const bptt_hyper *, const update *, const matrix *, void *grad, int64_t from, int64_t to);
    void (*optimise)(const bptt_hyper *, const update *, int decays, void *work, const void *grad, void *slots, int64_t stride,
                     int64_t from, int64_t to);
    void (*apply)(int function, const void *in, void *out, int64_t n);
    void (*gather_rows)(const field *from, const int64_t *row, const field *to, const span *);
    void (*set_one_hot)(const field *to, int64_t r, int64_t column, double value);
    double (*element)(const field *from, int64_t t, int64_t r, int64_t column);
    void (*fill_row)(void *row, int64_t column, int64_t width, double value);
    void (*outer_product)(const matrix *, int64_t segment, const field *dz, const field *x, int64_t r, void *row);
    void (*apply_chain_rule)(const field *ds, int64_t r, int64_t units, const void *tangent, int64_t width, void *row);
    void (*gram)(const void *a, int64_t rows, int64_t width, void *out);
} kernels;
#endif
