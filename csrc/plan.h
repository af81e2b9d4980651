/* plan.h: the prepared object that plan.c makes and run.c runs.  It lies at the head of its arena. */
#ifndef BPTT_PLAN_H
#define BPTT_PLAN_H
#include "bptt.h"
#include "frame.h"

enum { WINDOW = 64 };                          /* inputs that the online algorithm gathers at once */
enum { INFER, SLIDE, TRAIN };                  /* INFER keeps nothing for a way back; only TRAIN has dropout */
enum { NORM_SLICE = 4096 };                    /* reals of the working vector that one partial norm covers */

/* Second order: one output of one target row, and its row in a batch of ways back. */
typedef struct {
    int64_t steps, step, output;               /* of the way back; where the target is; which output */
    int64_t target;                            /* row of the caller's targets */
    double weight;
} residual;

struct bptt_plan {
    const kernels *k;
    const cell_kernels *cell;
    const char *isa;
    int loss, every, input_gradient, threads, directions;
    int two_products;                          /* the recurrent weights are two matrices: cell reset_before */
    int purpose;                               /* of this run: INFER, SLIDE or TRAIN */
    double dropout, recurrent_dropout;
    uint64_t seed;
    int64_t layers, head_layers, I, H, R, O, depth, batch, steps;   /* R: width of h; batch, steps: capacity */
    int64_t B, T;                              /* sizes that the fields are laid out for */
    int64_t flat_size, work_size, state_size;
    char *arena;
    size_t bytes, fixed;                       /* of the arena; of its part that the batch does not change */
    frame layer[2 * BPTT_MAX_LAYERS];          /* [l * directions + d] */
    dense inner[2 * BPTT_MAX_LAYERS][BPTT_MAX_DEPTH];
    dense head[BPTT_MAX_DEPTH + 1];
    field x, dx;                               /* (T, B, I); in a plan for single rows x has WINDOW steps more, for slide */
    field dropped[2 * BPTT_MAX_LAYERS];        /* (T, B, R) h after dropout, for the layer above */
    field last[2];                             /* (B, R) last state a direction, where rows end at different steps */
    field value[BPTT_MAX_DEPTH + 1];           /* g's layers: (T or 1, B, width); the last holds y, then dy */
    field slope[BPTT_MAX_DEPTH];               /* gradients of the pre-activations of g's hidden layers */
    void *work, *grad, *slots;                 /* (work_size), (work_size), (2, work_size) reals */
    double *norms, *row_loss;                  /* (slices), (B) */
    int64_t *row, *living;                     /* (B), (T+1) */
    int64_t residuals, gram_width;             /* second order: rows of the Jacobian at once; P+1 padded */
    bptt_plan *rows;                           /* a plan inside the arena: each row of its batches is the way back of a residual */
    size_t rows_bytes;
    void *jacobian, *gram;                     /* (residuals, gram_width), (gram_width, gram_width) reals */
    residual *residual;                        /* (residuals) */
    int tangents;                              /* J may also be made forwards, from the tangents of all parameters: */
    field ds, dz, dzx, dvalue[BPTT_MAX_DEPTH + 1];     /* (1, P, .) of s, z (zr), zx and g's layers */
};

int64_t norm_slices(const bptt_plan *);
void lay_out(bptt_plan *, int64_t B, int64_t T, int purpose);   /* fields for a batch of these sizes, within capacity */

/* What training and second order share (run.c): the weight gradients of one layer direction, the packed weights for the way
   back, and the way between the caller's flat vectors and the packed ones. */
void collect_layer(const bptt_plan *, int64_t n, int add, const span *, int64_t part, int64_t parts);
void turn_all(const bptt_plan *, int rank, int size);
void each_block(const bptt_plan *, void (*move)(const matrix *, const void *, void *, int64_t, int64_t), const void *from,
                void *to, int rank, int size);
#endif
