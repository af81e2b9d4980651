/* sunspots.c: trains an Elman network on the yearly sunspot numbers with the classical online algorithm, like the demo of the
   Python package, but without Python.

     gcc -std=c11 -O2 -I csrc examples/c/sunspots.c libbptt.a -lm -pthread -o sunspots
     ./sunspots bptt_fast/datasets/sunspots.csv [WEIGHTS]

   docs/c.md explains how to build libbptt.a.  Five networks are trained on the years up to 1920, and each predicts every later
   year from all years before it.  Their parameters are written to the file WEIGHTS: (SEEDS, P) floats, each row in the order of
   bptt_blocks. */
#include "bptt.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DELAYS = 2,
    HIDDEN = 8,
    K = 5,
    EPOCHS = 1100,
    SEEDS = 5,
    TESTS = 2,
    LAST_TRAINING_YEAR = 1920,
    MAX_YEARS = 4096
};
static const double SCALE = 100; /* sunspots in one unit of the network's inputs and outputs */
static const struct {
    int first, last;
} RECORD = { 1700, 1979 }, TEST[TESTS] = { { 1921, 1955 }, { 1956, 1979 } };

/* The numbers of year[0] .. year[n-1], and the inputs and targets made from them: row t of `input` has the numbers of year t+1
   and of the year before it, `target` the number of year t+1; bptt_slide adds the lead. */
typedef struct {
    int n, year[MAX_YEARS];
    double number[MAX_YEARS];
    float input[MAX_YEARS][DELAYS], target[MAX_YEARS];
} series;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "sunspots: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}
static void check(bptt_status status, const char *what) {
    if (status != BPTT_OK) fail(what, bptt_message(status));
}
static void *reserve(size_t count, size_t size) {
    void *p = calloc(count, size);
    if (!p) fail("memory", "not enough");
    return p;
}

/* Reads lines "year,number", one per year; others are comments. */
static void read_series(const char *path, series *s) {
    char line[256];
    FILE *file = fopen(path, "r");
    if (!file) fail(path, "cannot be read");
    s->n = 0;
    while (s->n < MAX_YEARS && fgets(line, sizeof line, file))
        if (sscanf(line, "%d,%lf", &s->year[s->n], &s->number[s->n]) == 2) {
            if (s->year[s->n] != RECORD.first + s->n)
                fail(path, "expected the year 1700 first, then each year once");
            s->n++;
        }
    fclose(file);
    if (s->n < RECORD.last - RECORD.first + 1)
        fail(path, "expected lines of a year, a comma and a number, up to 1979 or later");
    for (int t = 0; t + 1 < s->n; t++) {
        s->input[t][0] = s->target[t] = (float)(s->number[t + 1] / SCALE);
        s->input[t][1] = (float)(s->number[t] / SCALE);
    }
}

/* Average relative variance: mean squared error over the years of a test, divided by the variance of the record. */
static double relative_variance(const series *s, const double *predicted, int first, int last) {
    double sum = 0, squares = 0, errors = 0;
    int record = 0, tested = 0;
    for (int i = 0; i < s->n; i++) {
        const double z = s->number[i], error = z - predicted[i];
        if (s->year[i] >= RECORD.first && s->year[i] <= RECORD.last)
            record++, sum += z, squares += z * z;
        if (s->year[i] >= first && s->year[i] <= last) tested++, errors += error * error;
    }
    return errors / tested / (squares / record - sum / record * (sum / record));
}
static void print_errors(const char *name, const double *error) {
    printf("%-26s", name);
    for (int i = 0; i < TESTS; i++) printf("%12.3f", error[i]);
    printf("\n");
}

/* A plan and its arena. */
typedef struct {
    void *arena;
    bptt_plan *plan;
} planned;
static planned make_plan(const bptt_desc *desc) {
    planned p;
    char why[256];
    if (bptt_why(desc, why, sizeof why)) fail("the network", why);
    const size_t bytes = bptt_bytes(desc); /* a multiple of 64 */
    if (!(p.arena = aligned_alloc(64, bytes))) fail("memory", "not enough");
    check(bptt_make_plan(desc, p.arena, bytes, &p.plan), "plan");
    return p;
}

/* Uniform in [0, 1): splitmix64 (Steele, Lea and Flood, OOPSLA 2014). */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Initial weights, uniform in +-1/sqrt(H), then EPOCHS epochs over the training years, with an update after every year. */
static void train(bptt_plan *plan, float *params, int64_t P, const series *s, uint64_t seed) {
    int64_t length = 0;
    while (length + 1 < s->n && s->year[length + 1] <= LAST_TRAINING_YEAR) length++;
    const int64_t order = 0, offset = 0;
    const bptt_data data = { .values = s->input,
                             .offset = &offset,
                             .length = &length,
                             .targets = s->target,
                             .target_offset = &offset };
    bptt_hyper sgd = { .optimizer = "sgd", .learning_rate = 0.01, .weight_decay = 1e-3 };
    float *opt_state = reserve((size_t)(bptt_state_vectors("sgd") * P), sizeof *opt_state);
    double *loss = reserve((size_t)length, sizeof *loss);
    for (int64_t i = 0; i < P; i++) params[i] = (float)((2 * uniform(&seed) - 1) / sqrt(HIDDEN));
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        int64_t done;
        check(bptt_slide(plan, params, opt_state, &sgd, &data, &order, 1, K, 1, loss, &done, NULL,
                         NULL),
              "training");
    }
    free(loss), free(opt_state);
}

/* One step per year: each year from DELAYS on is predicted from the years before it. */
static void predict(bptt_plan *plan, const float *params, const series *s, double *predicted) {
    check(bptt_stream_start(plan, params), "prediction");
    for (int i = DELAYS; i < s->n; i++) {
        float y;
        check(bptt_stream_step(plan, s->input[i - DELAYS], &y), "prediction");
        predicted[i] = SCALE * y;
    }
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) fail("usage", "sunspots SERIES.csv [WEIGHTS]");
    static series s;
    static double predicted[MAX_YEARS];
    double error[TESTS], errors[TESTS][SEEDS];
    read_series(argv[1], &s);

    bptt_desc desc = {
        .cell = "elman", .input_size = DELAYS, .hidden_size = HIDDEN, .output_size = 1, .steps = K
    };
    const planned training = make_plan(&desc);
    desc.steps = 1;
    const planned stream = make_plan(&desc);
    const int64_t P = bptt_size(&desc);
    float *params = reserve((size_t)(SEEDS * P), sizeof *params); /* (SEEDS, P) */

    printf("Yearly sunspot numbers %d-%d, trained on the years up to %d.\n", s.year[0],
           s.year[s.n - 1], LAST_TRAINING_YEAR);
    printf("Elman network, %d inputs, %d states; k = %d, %d epochs; computed by %s\n\n", DELAYS,
           HIDDEN, K, EPOCHS, bptt_isa(training.plan));
    printf("%-26s", "average relative variance");
    for (int i = 0; i < TESTS; i++) printf("   %d-%d", TEST[i].first, TEST[i].last);
    printf("\n");
    for (int i = 1; i < s.n; i++) predicted[i] = s.number[i - 1];
    for (int i = 0; i < TESTS; i++)
        error[i] = relative_variance(&s, predicted, TEST[i].first, TEST[i].last);
    print_errors("persistence", error);
    for (int seed = 0; seed < SEEDS; seed++) {
        char name[32];
        train(training.plan, params + seed * P, P, &s, (uint64_t)seed);
        predict(stream.plan, params + seed * P, &s, predicted);
        for (int i = 0; i < TESTS; i++)
            error[i] = errors[i][seed] =
                relative_variance(&s, predicted, TEST[i].first, TEST[i].last);
        snprintf(name, sizeof name, "network, seed %d", seed);
        print_errors(name, error);
    }
    for (int i = 0; i < TESTS; i++) {
        qsort(errors[i], SEEDS, sizeof *errors[i], ascending);
        error[i] = errors[i][SEEDS / 2];
    }
    print_errors("network, median", error);

    if (argc > 2) {
        FILE *file = fopen(argv[2], "wb");
        if (!file ||
            fwrite(params, sizeof *params, (size_t)(SEEDS * P), file) != (size_t)(SEEDS * P) ||
            fclose(file))
            fail(argv[2], "cannot be written");
    }
    free(params), free(stream.arena), free(training.arena);
    return EXIT_SUCCESS;
}
