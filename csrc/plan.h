/* plan.h: the prepared object that plan.c makes and run.c runs.  It lies at the head of its arena. */
#ifndef BPTT_PLAN_H
#define BPTT_PLAN_H
#include "bptt.h"
#include "frame.h"

enum { WINDOW = 64 };                          /* inputs that the online algorithm gathers at once */
enum { INFER, SLIDE, TRAIN };                  /* INFER keeps nothing for a backward pass; only TRAIN has dropout and unfolds in parts */
enum { TAPES = 41 };                           /* groups of steps from 2^40 down, each less than half as long as the one before */
enum { NORM_SLICE = 4096 };                    /* reals of the working vector that one partial norm covers */
union all_slots {
#define OPTIMIZER(name, vectors, ...) char name[vectors];
#include "optimizers.def"
};
enum { MAX_SLOTS = sizeof(union all_slots) };  /* vectors of the optimiser that keeps most */

/* Second order: one output of one target row, and its row in a batch of backward passes. */
typedef struct {
    int64_t steps, step, output;               /* of the backward pass; where the target is; which output */
    int64_t target;                            /* row of the caller's targets */
    double weight;
} residual;

extern const kernels kernels_f64_base;         /* in every build: what does not depend on the instance */

struct bptt_plan {
    const kernels *k;
    const cell_kernels *cell;
    const char *isa;
    chosen_loss loss;
    int every, input_gradient, threads, directions;
    int two_products;                          /* the recurrent weights are two matrices */
    int purpose;                               /* of this run: INFER, SLIDE or TRAIN */
    int trained_state, shared;                 /* shared: this batch's windows share their input projection */
    int64_t taped;                             /* sequences whose forward pass backward has not followed yet */
    int given;                                 /* with initial states of the caller's, */
    uint64_t draw;                             /* and which masks of dropout */
    double dropout, recurrent_dropout;
    uint64_t seed;
    int64_t layers, head_layers, I, H, R, O, depth, batch, steps;   /* R: width of h; batch, steps: capacity */
    int64_t area;                              /* rows x steps of a group of a batch */
    int grouped;                               /* it may be less than the batch */
    int64_t k1, k2, segment, checkpoints, stride;    /* how training unfolds time: the description's numbers */
    double sampling_probability;
    int64_t B, T, laid;                        /* rows; steps of the present chunk; steps that the fields are laid out for */
    int64_t flat_size, packed_size, state_size;
    char *arena;
    size_t bytes, fixed;                       /* of the arena; of its part that the batch does not change */
    int64_t begin, end;                        /* where the fields of the present group lie in it */
    frame layer[2 * BPTT_MAX_LAYERS];          /* [l * directions + d] */
    dense inner[2 * BPTT_MAX_LAYERS][BPTT_MAX_DEPTH];
    dense head[BPTT_MAX_DEPTH + 1];
    field x, dx;                               /* (T, B, I); in a plan for single rows x has WINDOW steps more, for slide.
                                                  shared: x (stride, rows, I), row r of phase p being row p + r*stride of the
                                                  windows' part of the series */
    field window_zx[2];                           /* shared: (stride, rows, G*H) projections, then their gradients, a direction */
    field stored[2 * BPTT_MAX_LAYERS];         /* checkpointed: (slots, B, R + (S-1)*H) states at the start of segments */
    field dropped[2 * BPTT_MAX_LAYERS];        /* (T, B, R) h after dropout, for the layer above */
    field last[2];                             /* (B, R) last state a direction, where rows end at different steps */
    field value[BPTT_MAX_DEPTH + 1];           /* g's layers: (T or 1, B, width); the last holds y, then dy */
    field head_grad[BPTT_MAX_DEPTH];               /* gradients of the pre-activations of g's hidden layers */
    void *packed, *grad, *slots;                 /* (packed_size), (packed_size), (MAX_SLOTS, packed_size) reals */
    double *norms, *row_loss;                  /* (slices), (B) */
    int64_t *row, *batch_sizes;                     /* (B), (T+1) */
    int64_t *series_row, *series_offset, *series_batch_sizes;   /* shared: (rows) 0, 1, ..., and where phase 0 of each lies; (stride) */
    int64_t residuals, gram_width, tangent_width;      /* second order: rows of J at once; P+1, and f's part of P, padded */
    bptt_plan *rows;                           /* a plan inside the arena: each row of its batches is the backward pass of a residual */
    size_t rows_bytes;
    void *jacobian, *gram;                     /* (residuals, gram_width), (gram_width, gram_width) reals */
    residual *residual;                        /* (residuals) */
    int tangents;                              /* J may also be made forwards, from the tangents of f's parameters: */
    void *tangent[2], *transition;             /* (S*Hp, tangent_width) of s before and after a step; (H, S*Hp) */
};

typedef const char *(*name_of)(int i);         /* the name of row i of a list; NULL: there is none */
int find(const char *name, name_of list);      /* its place; 0 where name is NULL, -1 where it is unknown */
int unfolds_in_parts(const bptt_plan *);                        /* not over all steps of a batch at once */
int64_t norm_slices(const bptt_plan *);
int64_t tape_steps(const bptt_plan *, int64_t T);               /* steps kept at once in training sequences of T steps */
int64_t series_rows(const bptt_plan *, int64_t B, int64_t T);   /* of each phase of the series under B consecutive windows */
void lay_out(bptt_plan *, int64_t B, int64_t T, int purpose, int shared);   /* fields for such a batch, within capacity */
void lay_out_at(bptt_plan *, int64_t begin, int64_t B, int64_t T, int purpose, int shared);   /* from this byte of the arena on */
#endif
