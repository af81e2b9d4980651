/* gradients.c: the core checks itself, in C alone, for compilers and systems without Python.

   For each cell on each instruction set: the gradient in float64 by parameters, inputs and initial
   states against central differences of the loss, that in float32 against float64's, and equal bits
   on one and on two threads; and one epoch of Adam.  A line for each, with a digest of all results: builds that agree to the bit print the
   same.  Ends with "N passed, N failed"; returns 1 if any failed.

   gradients [isa ...]: on these instruction sets; default: all that this processor has. */
#include "bptt.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A network with a batch of sequences.  Every array holds doubles, or floats rounded from the same
   numbers. */
typedef struct {
    bptt_desc desc;
    bptt_plan *plan;
    void *memory;
    int f64;
    int64_t P, sequences, rows;
    void *params, *grad, *dx, *x, *y, *state, *dstate;
    int64_t states; /* numbers in `state` */
    int64_t order[64], offset[64], length[64];
} problem;

typedef struct {
    const char *name;
    int64_t hidden, inputs, layers, sequences, shortest, longest;
    int bidirectional, skip;
} shape;
static const shape shapes[] = {
    { "one-row", 5, 2, 1, 1, 7, 7, 0, 0 },
    { "ragged", 6, 3, 2, 5, 1, 6, 1, 0 },
    { "wide", 18, 4, 1, 3, 4, 4, 0, 0 },
    { "skip", 5, 9, 1, 3, 2, 6, 1, 1 },
};
static const shape large = { "threads", 40, 9, 1, 48, 5, 150, 0, 1 };

static void *allocate(size_t bytes) {
    void *p = calloc(1, bytes + 1);
    if (!p) exit((fprintf(stderr, "not enough memory\n"), 2));
    return p;
}

static void require(bptt_status status, const char *what) {
    if (status) exit((fprintf(stderr, "%s: %s\n", what, bptt_message(status)), 2));
}

/* Uniform in (-1, 1), a multiple of 2^-20: the same number in both dtypes. */
static double uniform(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int32_t)(uint32_t)(*state >> 43) / 1048576 - 1;
}

static double get(const problem *p, const void *from, int64_t i) {
    return p->f64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
}
static void set(const problem *p, void *to, int64_t i, double value) {
    if (p->f64)
        ((double *)to)[i] = value;
    else
        ((float *)to)[i] = (float)value;
}

static void *numbers(const problem *p, int64_t n, double scale, uint64_t seed) {
    void *to = allocate((size_t)n * sizeof(double));
    for (int64_t i = 0; i < n; i++) set(p, to, i, scale * uniform(&seed));
    return to;
}

static void open_problem(problem *p, const char *cell, const char *isa, const shape *s, int f64,
                         int threads) {
    memset(p, 0, sizeof *p);
    p->f64 = f64;
    p->sequences = s->sequences;
    for (int64_t i = 0; i < s->sequences; i++) {
        p->order[i] = i;
        p->offset[i] = p->rows;
        p->length[i] = s->shortest + 7 * i % (s->longest - s->shortest + 1);
        p->rows += p->length[i];
    }
    p->desc = (bptt_desc){
        .cell = cell,
        .dtype = f64 ? "float64" : "float32",
        .isa = isa,
        .input_size = s->inputs,
        .hidden_size = s->hidden,
        .output_size = 2,
        .head = { 4 },
        .num_layers = s->layers,
        .bidirectional = s->bidirectional,
        .skip = s->skip,
        .readout_every_step = 1,
        .input_gradient = 1,
        .batch = s->sequences,
        .steps = s->longest,
        .threads = threads,
    };
    const size_t bytes = bptt_bytes(&p->desc);
    char why[200] = "";
    if (bptt_why(&p->desc, why, sizeof why)) exit((fprintf(stderr, "%s: %s\n", cell, why), 2));
    p->P = bptt_size(&p->desc);
    p->states = p->sequences * bptt_state_size(&p->desc);
    p->memory = allocate(bytes + 64);
    void *arena = (void *)(((uintptr_t)p->memory + 63) & ~(uintptr_t)63);
    require(bptt_make_plan(&p->desc, arena, bytes, &p->plan), "bptt_make_plan");
    p->params = numbers(p, p->P, 0.6, 1);
    p->x = numbers(p, p->rows * s->inputs, 1.5, 2);
    p->y = numbers(p, p->rows * 2, 2, 3);
    p->grad = allocate((size_t)p->P * sizeof(double));
    p->dx = allocate((size_t)(p->rows * s->inputs) * sizeof(double));
    p->state = numbers(p, p->states, 0.9, 4);
    p->dstate = allocate((size_t)p->states * sizeof(double));
}

static void close_problem(problem *p) {
    free(p->memory);
    free(p->params);
    free(p->grad);
    free(p->dx);
    free(p->x);
    free(p->y);
    free(p->state);
    free(p->dstate);
}

static bptt_data data_of(const problem *p) {
    return (bptt_data){
        .values = p->x,
        .offset = p->offset,
        .length = p->length,
        .target_offset = p->offset,
        .targets = p->y,
        .state = p->state,
    };
}

static double loss_of(const problem *p) {
    const bptt_data data = data_of(p);
    double loss;
    require(bptt_evaluate(p->plan, p->params, &data, p->order, p->sequences, &loss, NULL, NULL),
            "bptt_evaluate");
    return loss;
}

static double gradient(const problem *p) {
    const bptt_data data = data_of(p);
    double loss;
    require(bptt_loss_grad(p->plan, p->params, &data, p->order, p->sequences, &loss, p->grad, p->dx,
                           p->dstate, NULL, NULL),
            "bptt_loss_grad");
    return loss;
}

/* FNV-1a of n results, number by number, so that the order of bytes does not matter. */
static void digest(uint64_t *hash, const problem *p, const void *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double value = get(p, from, i);
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        *hash = (*hash ^ bits) * 1099511628211u;
    }
}

/* The largest difference between grad and central differences of the loss by `array`, as a part of
   the largest slope; about 64 entries of it are looked at. */
static double difference(const problem *p, void *array, const void *grad, int64_t n) {
    const double step = 1e-5;
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < n; i += 1 + n / 64) {
        const double kept = get(p, array, i);
        set(p, array, i, kept + step);
        const double above = loss_of(p);
        set(p, array, i, kept - step);
        const double slope = (above - loss_of(p)) / (2 * step);
        set(p, array, i, kept);
        worst = fmax(worst, fabs(slope - get(p, grad, i)));
        largest = fmax(largest, fabs(slope));
    }
    return worst / largest;
}

/* The largest difference between two arrays, as a part of the largest number of the first. */
static double apart(const problem *p, const void *a, const problem *q, const void *b, int64_t n) {
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs(get(p, a, i) - get(q, b, i)));
        largest = fmax(largest, fabs(get(p, a, i)));
    }
    return worst / largest;
}

static int passed, failed;
static void report(int good, const char *isa, const char *cell, const char *check, double error,
                   uint64_t hash) {
    *(good ? &passed : &failed) += 1;
    printf("%-4s %-6s %-16s %-8s %.1e %016" PRIx64 "\n", good ? "ok" : "FAIL", isa, cell, check,
           error, hash);
    fflush(stdout);
}

/* Both dtypes on one shape. */
static void check_shape(const char *isa, const char *cell, const shape *s) {
    problem wide, narrow;
    open_problem(&wide, cell, isa, s, 1, 1);
    open_problem(&narrow, cell, isa, s, 0, 1);
    const double loss = gradient(&wide), rounded = gradient(&narrow);
    const int64_t inputs = wide.rows * s->inputs;
    uint64_t hash = 14695981039346656037u;
    digest(&hash, &wide, wide.grad, wide.P);
    digest(&hash, &wide, wide.dx, inputs);
    digest(&hash, &wide, wide.dstate, wide.states);
    digest(&hash, &narrow, narrow.grad, narrow.P);
    digest(&hash, &narrow, narrow.dx, inputs);
    const double slopes = fmax(difference(&wide, wide.params, wide.grad, wide.P),
                               fmax(difference(&wide, wide.x, wide.dx, inputs),
                                    difference(&wide, wide.state, wide.dstate, wide.states)));
    const double rounding = fmax(apart(&wide, wide.grad, &narrow, narrow.grad, wide.P),
                                 apart(&wide, wide.dx, &narrow, narrow.dx, inputs));
    const int good = slopes < 1e-6 && rounding < 1e-4 && fabs(loss - rounded) < 1e-5 * loss;
    report(good, isa, cell, s->name, slopes, hash);
    close_problem(&wide);
    close_problem(&narrow);
}

/* Gradients and an epoch of Adam, on one thread and on two. */
static void check_threads(const char *isa, const char *cell) {
    uint64_t hash[2];
    int threads = 0;
    for (int n = 0; n < 2; n++) {
        problem p;
        open_problem(&p, cell, isa, &large, 0, n + 1);
        threads = bptt_threads(p.plan);
        hash[n] = 14695981039346656037u;
        for (int epoch = 0; epoch < 3; epoch++) {
            const bptt_data data = data_of(&p);
            bptt_hyper adam = {
                .optimizer = "adam",
                .learning_rate = 0.01,
                .beta1 = 0.9,
                .beta2 = 0.999,
                .eps = 1e-8,
            };
            double loss, weight;
            int64_t done;
            void *moments = allocate((size_t)(2 * p.P) * sizeof(double));
            gradient(&p);
            digest(&hash[n], &p, p.grad, p.P);
            require(bptt_epoch(p.plan, p.params, moments, &adam, &data, p.order, p.sequences, &loss,
                               &weight, NULL, &done, NULL, NULL),
                    "bptt_epoch");
            digest(&hash[n], &p, p.params, p.P);
            free(moments);
        }
        close_problem(&p);
    }
    report(threads == 2 && hash[0] == hash[1], isa, cell, large.name, 0, hash[0]);
}

static void check_isa(const char *isa) {
    bptt_cell cell;
    for (int i = 0; bptt_describe_cell(i, &cell); i++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            check_shape(isa, cell.name, &shapes[s]);
        check_threads(isa, cell.name);
    }
}

int main(int count, char **names) {
    const char *isa;
    for (int i = 1; i < count; i++) check_isa(names[i]);
    for (int i = 0; count == 1 && (isa = bptt_supported_isa(i)); i++) check_isa(isa);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
