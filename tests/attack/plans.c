/* plans.c: random descriptions, data and calls of everything in bptt.h, for a core that was built
   with sanitizers.  `plans FIRST COUNT THREADS` runs the cases FIRST .. FIRST+COUNT-1; a case
   depends on its number alone.  Every array of the caller is a block of its own, so that the sanitizer
   has a fence on both sides of it; the gaps between the pieces of the arena hold canaries or are
   poisoned.  Results must not depend on the threads or on what the arena held before.  With a fourth
   argument, so many percent of the threads can't be started.  Prints what failed, the number of plans,
   and how many of them had what. */
#include "bptt.h"
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n) (void)(p), (void)(n)
#define UNPOISON(p, n) (void)(p), (void)(n)
#endif

/* -- chance -- */

static uint64_t state;
static long number; /* of the case */

static uint64_t draw(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static int64_t below(int64_t n) { return (int64_t)(draw() % (uint64_t)n); }
static int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
static int chance(int percent) { return below(100) < percent; }
static double uniform(void) { return (double)(draw() >> 11) / 9007199254740992.0; }

/* How many plans had what. */
static struct {
    const char *name;
    long plans;
} drawn[128];
static void count(const char *name) {
    int i = 0;
    while (drawn[i].name && strcmp(drawn[i].name, name)) i++;
    drawn[i].name = name;
    drawn[i].plans++;
}

static void fail(const char *what) {
    printf("case %ld: %s\n", number, what);
    fflush(stdout);
    exit(1);
}
static void require(int holds, const char *what) {
    if (!holds) fail(what);
}

/* -- the system's answer, by the linker's --wrap -- */

static int shortage; /* percent */
static uint64_t luck = 1;
static int is_short(void) {
    luck = luck * 6364136223846793005u + 1442695040888963407u;
    return (int)(luck >> 33) % 100 < shortage;
}
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*function)(void *),
                          void *argument) {
    return is_short() ? EAGAIN : __real_pthread_create(thread, how, function, argument);
}
int __real_pthread_atfork(void (*)(void), void (*)(void), void (*)(void));
int __wrap_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
    return is_short() ? ENOMEM : __real_pthread_atfork(before, parent, child);
}

/* -- memory: one block each, freed at the end of the case -- */

enum { BLOCKS = 4096 };
static void *blocks[BLOCKS];
static int used;

static void *block(int64_t bytes) {
    void *p = malloc(bytes > 0 ? (size_t)bytes : 1);
    require(p && used < BLOCKS, "no memory for the test");
    memset(p, 0xa5, bytes > 0 ? (size_t)bytes : 1);
    return blocks[used++] = p;
}
static void free_all(void) {
    while (used) free(blocks[--used]);
}

static void set_real(void *a, int64_t i, int64_t bytes, double v) {
    if (bytes == 8)
        ((double *)a)[i] = v;
    else
        ((float *)a)[i] = (float)v;
}

/* Reals between -scale and scale; odd: some that are not finite, denormal or very large. */
static void *reals(int64_t n, int64_t bytes, double scale, int odd) {
    static const double strange[] = { NAN, INFINITY, -INFINITY, 1e-310, 1e-40, 1e38, 1e300, -0.0 };
    void *p = block(n * bytes);
    for (int64_t i = 0; i < n; i++) {
        double v = scale * (2 * uniform() - 1);
        if (odd && chance(3)) v = strange[below(8)];
        set_real(p, i, bytes, v);
    }
    return p;
}
static void *copy(const void *a, int64_t bytes) { return memcpy(block(bytes), a, (size_t)bytes); }
static double get_real(const void *a, int64_t i, int64_t bytes) {
    return bytes == 8 ? ((const double *)a)[i] : (double)((const float *)a)[i];
}

/* -- descriptions -- */

static const char *pick(const char *const *names) {
    int n = 0;
    while (names[n]) n++;
    return names[below(n)];
}

/* A value of a field, mostly one that a small network may have. */
static void set_any(bptt_desc *d, const bptt_field *f, int item) {
    static const char *const texts[] = { "elman", "gru",   "tanh", "float64", "avx2",
                                         "",      "zeros", "x",    NULL };
    static const int64_t integers[] = { -1,        0,        1,         2,
                                        7,         1 << 20,  1LL << 40, (1LL << 40) + 1,
                                        INT64_MAX, INT64_MIN };
    static const double numbers[] = { -1, 0, 0.5, 1, 1e300, -0.0, NAN, INFINITY };
    if (f->kind == BPTT_TEXT)
        bptt_set_pointer(d, f, item, chance(20) ? NULL : pick(texts));
    else if (f->kind == BPTT_REALS)
        bptt_set_pointer(d, f, item,
                         chance(50) || d->hidden_size > 1 << 20 ? NULL
                                                                : reals(d->hidden_size, 8, 2, 1));
    else if (f->kind == BPTT_CELL)
        bptt_set_pointer(d, f, item, NULL);
    else if (f->kind == BPTT_REAL)
        bptt_set_real(d, f, item, numbers[below(8)]);
    else if (f->kind != BPTT_REALS) /* whose length follows from another field */
        bptt_set_integer(d, f, item, integers[below(10)]);
}

static const char *cell_names[64], *loss_names[64], *optimizer_names[64], *isa_names[8];
static void list_names(void) {
    bptt_cell cell;
    bptt_loss loss;
    for (int i = 0; bptt_describe_cell(i, &cell); i++) cell_names[i] = cell.name;
    for (int i = 0; bptt_describe_loss(i, &loss); i++) loss_names[i] = loss.name;
    for (int i = 0; bptt_optimizer(i); i++) optimizer_names[i] = bptt_optimizer(i);
    for (int i = 0; bptt_supported_isa(i); i++) isa_names[i] = bptt_supported_isa(i);
}

static bptt_cell cell_of(const char *name) {
    bptt_cell cell;
    for (int i = 0; bptt_describe_cell(i, &cell); i++)
        if (!strcmp(cell.name, name)) return cell;
    fail("no such cell");
    return cell;
}
static bptt_loss loss_of(const char *name, int *place) {
    bptt_loss loss;
    for (*place = 0; bptt_describe_loss(*place, &loss); ++*place)
        if (!strcmp(loss.name, name)) return loss;
    fail("no such loss");
    return loss;
}

/* Values of the parameters of the loss, and outputs in whole targets. */
static void set_loss(bptt_desc *d) {
    int place;
    const bptt_loss loss = loss_of(d->loss, &place);
    memset(d->loss_parameter, 0, sizeof d->loss_parameter);
    const int64_t values = loss.outputs ? 1 : between(1, 4);
    const bptt_loss_parameter *of = &loss.parameter[0];
    for (int64_t i = 0; of->name && i < values && (values > 1 || chance(70)); i++)
        d->loss_parameter[i] = of->low +
            (isfinite(of->high) ? of->high - of->low : 2) *
                (0.01 + 0.98 * ((double)i + uniform()) / (double)values);
    d->output_size *= loss.outputs ? loss.outputs : values;
}
static int64_t outputs_of_target(const bptt_desc *d) {
    int place;
    const bptt_loss loss = loss_of(d->loss, &place);
    int64_t values = 0;
    while (values < BPTT_MAX_LOSS_VALUES && d->loss_parameter[values] > 0) values++;
    return loss.outputs ? loss.outputs : values ? values : 1;
}

/* Noise and the time constants of the units. */
static void set_dynamics(bptt_desc *d, const bptt_cell *cell) {
    static const char *const noises[] = { "sde", "step", "scaled", NULL };
    if (chance(15)) d->input_noise = uniform();
    if (!cell->leak) return;
    if (chance(50)) d->recurrent_noise = uniform();
    if (chance(70)) d->noise = pick(noises);
    if (chance(30)) return;
    double *alpha = block(d->hidden_size * 8);
    for (int64_t i = 0; i < d->hidden_size; i++) alpha[i] = 1 - 0.9 * uniform();
    d->alpha = alpha;
}

/* The last inputs are integers, some of them with embeddings. */
static void set_categories(bptt_desc *d) {
    const int64_t most = d->input_size < 3 ? d->input_size : 3, n = between(1, most);
    const int embeds = chance(60);
    for (int64_t q = 0; q < n; q++) {
        d->categories[q] = between(1, chance(20) ? 60 : 7);
        if (embeds) d->embeddings[q] = chance(25) ? -1 : between(1, chance(20) ? 40 : 6);
    }
}
static int64_t categories_of(const bptt_desc *d) {
    int64_t n = 0;
    while (n < BPTT_MAX_DEPTH && d->categories[n]) n++;
    return n;
}

/* A description that should be accepted. */
static bptt_desc description(int threads) {
    static const char *const activations[] = { "tanh", "relu", "sigmoid", "linear", NULL };
    static const char *const lanes[] = { "units", "rows", NULL };
    const int wide = threads > 1 && chance(60);
    bptt_desc d = {
        .cell = pick(cell_names),
        .dtype = chance(50) ? "float32" : "float64",
        .isa = pick(isa_names),
        .loss = pick(loss_names),
        .head_activation = pick(activations),
        .input_size = between(1, chance(20) ? 40 : 5),
        .hidden_size = between(1, wide || chance(20) ? 40 : 7),
        .output_size = chance(10) ? 0 : between(1, chance(20) ? 20 : 4),
        .num_layers = between(0, 3),
        .bidirectional = chance(30),
        .seed = draw(),
        .lanes = chance(30) ? pick(lanes) : NULL,
        .rules = chance(25),
        .readout_every_step = chance(50),
        .input_gradient = chance(50),
        .initial_state = chance(30) ? "trained" : "zeros",
        .batch = wide ? between(8, 20) : between(0, 7),
        .steps = between(0, wide ? 12 : 9),
        .threads = threads,
    };
    const bptt_cell cell = cell_of(d.cell);
    if (cell.hidden_layers)
        for (int64_t i = 0, n = between(0, 3); i < n; i++) d.f[i] = between(1, 6);
    for (int i = 0; i < BPTT_MAX_DEPTH; i++)
        d.activation[i] = cell.activation || cell.hidden_layers ? pick(activations) : "tanh";
    if (d.output_size)
        for (int64_t i = 0, n = between(0, 3); i < n; i++) d.head[i] = between(1, 6);
    if (cell.projection && chance(30)) d.proj_size = between(1, d.hidden_size);
    if (chance(25)) d.dropout = uniform() * 0.9;
    if (chance(25)) d.recurrent_dropout = uniform() * 0.9;
    set_loss(&d);
    set_dynamics(&d, &cell);
    if (chance(20)) set_categories(&d);
    const int way = (int)below(8);
    if (way == 0) {
        d.update_every = between(1, 4);
        d.look_back = d.update_every + between(0, 5);
    } else if (way == 1) {
        d.segment = between(1, 5);
        d.checkpoints = between(0, 4);
    } else if (way == 2) {
        d.sampling_probability = uniform();
        if (chance(90)) {
            memset(d.categories, 0, sizeof d.categories);
            memset(d.embeddings, 0, sizeof d.embeddings);
            d.readout_every_step = 1;
            if (outputs_of_target(&d) > 1) {
                d.loss = "mse";
                memset(d.loss_parameter, 0, sizeof d.loss_parameter);
            }
            if (d.output_size) d.input_size = d.output_size;
        }
    } else if (way == 3)
        d.window_stride = between(1, 4);
    else if (way == 4)
        d.residuals = between(1, 9);
    else if (way == 5 && d.batch > 1)
        d.area = between(d.steps ? d.steps : 1, d.batch * (d.steps ? d.steps : 1));
    if (way < 3) d.bidirectional = chance(5);
    d.skip = d.output_size && chance(30);
    if (d.residuals && chance(90)) {
        d.loss = "mse";
        memset(d.loss_parameter, 0, sizeof d.loss_parameter);
        d.initial_state = "zeros";
    }
    return d;
}

/* -- a plan with fences -- */

typedef struct {
    bptt_plan *plan;
    char *arena;
    size_t bytes;
    bptt_block *view;
    int64_t views, fixed; /* pieces before "x" */
} fenced;

/* Bounds of the parameters, some of which stay as they are, and penalties of the blocks. */
static void set_rules(const bptt_desc *d, bptt_plan *plan) {
    const int64_t bytes = d->dtype && !strcmp(d->dtype, "float64") ? 8 : 4;
    const int64_t size = bptt_size(d);
    const int64_t blocks_ = bptt_blocks(d, NULL, 0);
    void *low = block(size * bytes), *high = block(size * bytes);
    for (int64_t i = 0; i < size; i++) {
        const int is_fixed = chance(20), is_free = chance(40);
        const double at = uniform() - 0.5;
        set_real(low, i, bytes, is_fixed ? at : is_free ? -INFINITY : at - uniform());
        set_real(high, i, bytes, is_fixed ? at : is_free ? INFINITY : at + uniform());
    }
    bptt_penalty *penalty = block(blocks_ * (int64_t)sizeof *penalty);
    const int some = chance(60);
    for (int64_t i = 0; i < blocks_; i++) {
        penalty[i] = (bptt_penalty){ 0 };
        if (some && chance(40)) penalty[i].l1 = 0.1 * uniform();
        if (some && chance(40)) penalty[i].l2 = 0.1 * uniform();
        if (some && chance(40)) *(chance(50) ? &penalty[i].rows : &penalty[i].columns) = uniform();
    }
    require(bptt_set_rules(plan, low, high, penalty) == BPTT_OK, "rules are refused");
}

static fenced make(const bptt_desc *d, int garbage) {
    fenced f = { .bytes = bptt_bytes(d) };
    f.arena = aligned_alloc(64, f.bytes);
    require(f.arena != NULL, "no memory for the arena");
    blocks[used++] = f.arena;
    memset(f.arena, garbage, f.bytes);
    require(bptt_make_plan(d, f.arena + 64, f.bytes - 64, &f.plan) == BPTT_BAD_ARENA,
            "a small arena");
    require(bptt_make_plan(d, f.arena + 8, f.bytes, &f.plan) == BPTT_BAD_ARENA,
            "an arena not aligned");
    memset(f.arena, garbage, f.bytes);
    require(bptt_make_plan(d, f.arena, f.bytes, &f.plan) == BPTT_OK, "a plan is refused");
    f.views = bptt_views(f.plan, NULL, 0);
    f.view = block(f.views * (int64_t)sizeof *f.view);
    require(bptt_views(f.plan, f.view, f.views) == f.views, "the number of pieces");
    int64_t end = 0;
    for (int64_t i = 0; i < f.views; i++) {
        const bptt_block *v = &f.view[i];
        require(v->offset % 64 == 0 && v->offset >= end, "pieces overlap");
        if (!f.fixed && !strcmp(v->name, "x")) f.fixed = i;
        end = v->offset + v->bytes;
    }
    require(end <= (int64_t)f.bytes && f.fixed > 0, "pieces outside of the arena");
    /* the gaps behind the pieces that do not depend on the batch */
    for (int64_t i = 0; i < f.fixed; i++) {
        char *from = f.arena + f.view[i].offset + f.view[i].bytes;
        const size_t gap = (size_t)(f.view[i + 1].offset - f.view[i].offset - f.view[i].bytes);
        if (!strcmp(f.view[i].name, "rows")) continue; /* an inner plan with pieces of its own */
        memset(from, 0x5a, gap);
        POISON(from, gap);
    }
    if (d->rules && chance(80)) set_rules(d, f.plan);
    return f;
}
static void close_plan(fenced *f) {
    UNPOISON(f->arena, f->bytes);
    for (int64_t i = 0; i < f->fixed; i++) {
        const char *from = f->arena + f->view[i].offset + f->view[i].bytes,
                   *to = f->arena + f->view[i + 1].offset;
        if (!strcmp(f->view[i].name, "rows")) continue;
        for (; from < to; from++) require(*from == 0x5a, "a gap of the arena was written");
    }
}

/* -- data -- */

typedef struct {
    bptt_data data;
    int64_t n, rows, target_rows, state_size, params, bytes, outputs, columns; /* of targets */
    int64_t *order, k, lead;
    int odd;
    double *parameters;
} problem;

/* Targets (rows, columns) that the loss takes. */
static void *make_targets(const bptt_desc *d, int64_t rows, int64_t columns, int64_t bytes,
                          int odd) {
    int place;
    const bptt_targets kind = loss_of(d->loss, &place).targets;
    void *y = reals(rows * columns, bytes, kind == BPTT_COUNTS ? 9 : 1, odd);
    for (int64_t i = 0; i < rows * columns; i++) {
        const double v = get_real(y, i, bytes);
        if (kind == BPTT_PROBABILITIES) set_real(y, i, bytes, fabs(v));
        if (kind == BPTT_COUNTS) set_real(y, i, bytes, floor(fabs(v)));
    }
    return y;
}

/* Inputs (rows, I), the last columns of them integers. */
static void *make_inputs(const bptt_desc *d, int64_t rows, int64_t bytes, int odd) {
    const int64_t n = categories_of(d), I = d->input_size;
    void *x = reals(rows * I, bytes, 1, odd);
    for (int64_t i = 0; i < rows * n; i++)
        if (!odd || chance(90))
            set_real(x, i / n * I + I - n + i % n, bytes, (double)below(d->categories[i % n]));
    return x;
}

static problem make_problem(const bptt_desc *d, int odd) {
    problem p = { .odd = odd, .bytes = strcmp(d->dtype, "float64") ? 4 : 8 };
    const int64_t batch = d->batch ? d->batch : 1, steps = d->steps ? d->steps : 1;
    int place;
    const bptt_loss loss = loss_of(d->loss, &place);
    p.params = bptt_size(d);
    p.state_size = bptt_state_size(d);
    p.outputs = d->output_size;
    p.columns = d->output_size ? d->output_size / outputs_of_target(d) : 1;
    p.n = between(1, 2 * batch + 1);
    int64_t *length = block(p.n * 8), *offset = block(p.n * 8), *targets = block(p.n * 8), at = 0;
    const int equal = d->window_stride && chance(80);
    const int64_t all = between(1, steps);
    for (int64_t i = 0; i < p.n; i++) {
        length[i] = equal ? all : between(1, steps);
        offset[i] = equal ? i * d->window_stride : at + between(0, 1);
        at = offset[i] + length[i];
        if (p.rows < at) p.rows = at;
        targets[i] = p.target_rows + between(0, 1);
        p.target_rows = targets[i] + (d->readout_every_step ? length[i] : 1);
    }
    p.data = (bptt_data){
        .values = make_inputs(d, p.rows, p.bytes, odd),
        .offset = offset,
        .length = length,
        .target_offset = targets,
        .weight = chance(30) ? reals(p.target_rows, p.bytes, 0, 0) : NULL,
        .state = chance(40) ? reals(p.n * p.state_size, p.bytes, 0.5, odd) : NULL,
    };
    for (int64_t i = 0; p.data.weight && i < p.target_rows; i++) {
        set_real((void *)p.data.weight, i, p.bytes, chance(30) ? 0 : uniform());
    }
    if (loss.targets == BPTT_CLASSES) {
        int64_t *classes = block(p.target_rows * 8);
        for (int64_t i = 0; i < p.target_rows; i++) classes[i] = p.outputs ? below(p.outputs) : 0;
        p.data.classes = classes;
    } else
        p.data.targets = make_targets(d, p.target_rows, p.columns, p.bytes, odd);
    p.order = block(p.n * 8);
    for (int64_t i = 0; i < p.n; i++) p.order[i] = i;
    for (int64_t i = p.n - 1; !equal && i > 0; i--) {
        const int64_t j = below(i + 1), kept = p.order[i];
        p.order[i] = p.order[j];
        p.order[j] = kept;
    }
    p.parameters = reals(p.params, p.bytes, 0.5, odd);
    return p;
}

/* -- calls -- */

static int64_t polls, stop_at;
static int count_polls(void *context, int64_t done) {
    require(context == &polls && done >= 0, "the context of the poll");
    return ++polls == stop_at;
}
static bptt_poll poll_of(void) {
    polls = 0;
    return count_polls;
}
static void expect(bptt_status status, const char *what) {
    if (status != BPTT_OK && status != BPTT_DIVERGED && !(status == BPTT_INTERRUPTED && stop_at)) {
        char text[160];
        snprintf(text, sizeof text, "%s: %s", what, bptt_message(status));
        fail(text);
    }
}

static uint64_t bits; /* of the bits of all results */
static void mix(const void *a, int64_t bytes) {
    const unsigned char *p = a;
    for (int64_t i = 0; i < bytes; i++) bits = (bits ^ p[i]) * 0x100000001b3u;
}

static bptt_hyper hyper_of(int64_t updates) {
    bptt_hyper h = {
        .optimizer = pick(optimizer_names),
        .learning_rate = chance(5) ? 1e30 : uniform() * 0.1 + 1e-3,
        .momentum = chance(50) ? uniform() * 0.99 : 0,
        .nesterov = chance(30),
        .weight_decay = chance(30) ? uniform() : 0,
        .no_bias_decay = chance(30),
        .beta1 = 0.9,
        .beta2 = 0.99,
        .eps = 1e-8,
        .centered = chance(30),
        .momentum_decay = 0.004,
        .rate_decay = uniform(),
        .initial_accumulator = uniform(),
        .eta_minus = 0.5,
        .eta_plus = 1.2,
        .step_min = 1e-6,
        .step_max = 1,
        .backtrack = chance(50),
        .clip_norm = chance(30) ? uniform() : 0,
        .clip_value = chance(30) ? uniform() : 0,
        .clip_state = chance(30) ? uniform() : 0,
        .noise = chance(30) ? uniform() : 0,
        .noise_seed = draw(),
        .product = 1,
    };
    if (chance(20) && updates > 0) {
        double *rates = block(updates * 8);
        for (int64_t i = 0; i < updates; i++) rates[i] = h.learning_rate * uniform();
        h.rates = rates;
    }
    return h;
}

static void *optimizer_state(const bptt_hyper *h, const problem *p) {
    const int64_t bytes = bptt_state_vectors(h->optimizer) * p->params * p->bytes;
    return memset(block(bytes), 0, (size_t)(bytes > 0 ? bytes : 1));
}

/* A loss of the caller's own: the squares of all outputs. */
typedef struct {
    const bptt_desc *d;
    const problem *p;
    void *y;
} squared;
static int own_loss(void *context, int64_t begin, int64_t n, double *loss) {
    const squared *s = context;
    const int64_t *length = s->p->data.length;
    int64_t rows = 0;
    for (int64_t i = begin; i < begin + n; i++)
        rows += s->d->readout_every_step ? length[s->p->order[i]] : 1;
    *loss = 0;
    for (int64_t i = 0; i < rows * s->p->outputs; i++) {
        const double y = get_real(s->y, i, s->p->bytes);
        *loss += y * y;
        set_real(s->y, i, s->p->bytes, 2 * y);
    }
    return stop_at && chance(20);
}

/* The data, in some plans with such a loss. */
static bptt_data data_of(const bptt_desc *d, const problem *p) {
    bptt_data data = p->data;
    if (d->update_every || d->segment || d->area || d->sampling_probability > 0 || chance(85))
        return data;
    const int64_t batch = d->batch ? d->batch : 1, steps = d->steps ? d->steps : 1;
    squared *context = block(sizeof *context);
    bptt_own_loss *own = block(sizeof *own);
    *context = (squared){ d, p, block(batch * steps * p->outputs * p->bytes) };
    *own = (bptt_own_loss){ own_loss, context, context->y, block(p->n * 8) };
    data.own_loss = own;
    count("own loss");
    return data;
}

/* Predictions for sequences that are longer than the plan. */
static void infer_long(const fenced *f, const bptt_desc *d) {
    bptt_desc longer = *d;
    longer.steps = 3 * (d->steps ? d->steps : 1);
    longer.window_stride = longer.area = 0;
    const problem p = make_problem(&longer, 0);
    require(p.params == bptt_size(d), "a longer problem");
    const int64_t size = p.target_rows * d->output_size * p.bytes;
    void *y = reals(size / p.bytes, p.bytes, 1, 0);
    const bptt_status status = bptt_predict(f->plan, p.parameters, &p.data, p.order, p.n,
                                            d->readout_every_step, y, NULL, poll_of(), &polls);
    expect(status, "predict, longer");
    if (status == BPTT_OK) mix(y, size);
    count("longer sequences");
}

static void infer(const fenced *f, const bptt_desc *d, const problem *p) {
    const int every = d->readout_every_step && chance(50);
    const int64_t width = d->output_size;
    if (!width) return;
    /* with every_step = 0 the rows of the targets are as many as sequences */
    void *y = reals(p->target_rows * width, p->bytes, 1, 0);
    void *states = chance(50) ? reals(p->n * p->state_size, p->bytes, 1, 0) : NULL;
    double loss = 0;
    const bptt_status status = bptt_predict(f->plan, p->parameters, &p->data, p->order, p->n, every,
                                            y, states, poll_of(), &polls);
    expect(status, "predict");
    if (status == BPTT_OK) mix(y, p->target_rows * width * p->bytes);
    if (status == BPTT_OK && states) mix(states, p->n * p->state_size * p->bytes);
    const bptt_status judged =
        bptt_evaluate(f->plan, p->parameters, &p->data, p->order, p->n, &loss, poll_of(), &polls);
    expect(judged, "evaluate");
    if (judged == BPTT_OK) mix(&loss, 8);
    if (!d->bidirectional && chance(30)) infer_long(f, d);
}

static void differentiate(const fenced *f, const bptt_desc *d, const problem *p) {
    const int64_t batch = d->batch ? d->batch : 1, n = p->n < batch ? p->n : batch;
    if (!d->output_size) return;
    const int inputs = d->input_gradient && !d->update_every && !d->window_stride && chance(70);
    const int states = !d->update_every && chance(50);
    void *grad = reals(p->params, p->bytes, 1, 0);
    void *dx = inputs ? reals(p->rows * d->input_size, p->bytes, 1, 0) : NULL;
    void *dstate = states ? reals(p->n * p->state_size, p->bytes, 1, 0) : NULL;
    double loss = 0;
    const bptt_data data = data_of(d, p);
    const bptt_status status = bptt_loss_grad(f->plan, p->parameters, &data, p->order, n, &loss,
                                              grad, dx, dstate, poll_of(), &polls);
    expect(status, "loss_grad");
    if (status != BPTT_OK) return;
    mix(&loss, 8);
    mix(grad, p->params * p->bytes);
    if (dx) mix(dx, p->rows * d->input_size * p->bytes);
    if (dstate) mix(dstate, p->n * p->state_size * p->bytes);
}

static void train(const fenced *f, const bptt_desc *d, const problem *p) {
    if (!d->output_size) return;
    const int64_t updates = bptt_updates(f->plan, &p->data, p->order, p->n);
    bptt_hyper h = hyper_of(updates);
    void *params = copy(p->parameters, p->params * p->bytes), *vectors = optimizer_state(&h, p);
    double *loss = block(updates * 8), *weight = block(updates * 8);
    void *states = chance(50) ? reals(p->n * p->state_size, p->bytes, 0.5, 0) : NULL;
    const bptt_data data = data_of(d, p);
    for (int epoch = 0; epoch < 2; epoch++) {
        int64_t done = -1;
        const bptt_status status = bptt_epoch(f->plan, params, vectors, &h, &data, p->order, p->n,
                                              loss, weight, states, &done, poll_of(), &polls);
        expect(status, "epoch");
        require(done >= 0 && done <= updates, "the number of updates");
        if (status != BPTT_OK && stop_at) return;
        mix(params, p->params * p->bytes);
        mix(loss, done * 8);
        if (status != BPTT_OK) return;
    }
}

/* The normal equations of a positive definite matrix. */
static void solve(const fenced *f, int64_t bytes) {
    const int64_t n = between(1, 90), width = (n + 16) / 16 * 16, rows = between(1, 9);
    void *a = reals(rows * width, bytes, 1, 0), *out = reals(width * width, bytes, 0, 0);
    expect(bptt_gram(f->plan, a, rows, width, out, poll_of(), &polls), "gram");
    void *matrix = reals(width * width, bytes, 0, 0), *x = reals(n, bytes, 0, 0);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j <= n; j++)
            set_real(matrix, i * width + j, bytes, j == i ? -2.0 * (double)n : uniform());
    const bptt_status status = bptt_solve(f->plan, matrix, n, width, x, poll_of(), &polls);
    expect(status, "solve");
    if (status == BPTT_OK) mix(x, n * bytes);
    count("solve");
}

static void squares(const fenced *f, const bptt_desc *d, const problem *p) {
    if (!d->residuals || d->dropout > 0 || d->recurrent_dropout > 0) return;
    if (p->params > 500) return; /* its square takes long */
    const int64_t width = p->params + 1;
    void *gram = chance(70) ? reals(width * width, p->bytes, 0, 0) : NULL;
    void *jacobian = chance(50) ? reals(p->target_rows * p->outputs * width, p->bytes, 0, 0) : NULL;
    const bptt_status status = bptt_gauss_newton(f->plan, p->parameters, &p->data, p->order, p->n,
                                                 gram, jacobian, poll_of(), &polls);
    if (strcmp(d->loss, "mse")) return;
    expect(status, "gauss_newton");
    if (status == BPTT_OK && gram) mix(gram, width * width * p->bytes);
    solve(f, p->bytes);
}

/* Copies of the network at once: each as bptt_slide makes it alone, to the bit. */
static void copies(const bptt_desc *given, const fenced *alone, const problem *p,
                   const bptt_data *data, int64_t patterns, int64_t k, int64_t lead) {
    bptt_desc d = *given;
    d.lanes = "copies";
    d.rules = 0;
    if (given->rules || !bptt_bytes(&d)) return;
    fenced f = make(&d, (int)below(256));
    const int64_t most = bptt_copies(f.plan), n = most ? between(1, most) : 0;
    bptt_copy *copy_ = block((n ? n : 1) * (int64_t)sizeof *copy_);
    bptt_hyper common = hyper_of(patterns), *numbers = block((n ? n : 1) * (int64_t)sizeof common);
    common.noise = 0;
    for (int64_t j = 0; j < n; j++) {
        numbers[j] = common;
        if (chance(50)) numbers[j].learning_rate *= 1 + uniform();
        copy_[j] = (bptt_copy){ .params = reals(p->params, p->bytes, 0.5, 0),
                                .opt_state = optimizer_state(&common, p),
                                .numbers = &numbers[j],
                                .loss = block(patterns * 8) };
    }
    void *first = n ? copy(copy_[0].params, p->params * p->bytes) : NULL;
    bptt_hyper h = n ? numbers[0] : common;
    if (n) {
        const bptt_status status =
            bptt_slide_copies(f.plan, copy_, n, data, p->order, p->n, k, lead, poll_of(), &polls);
        expect(status, "slide_copies");
        count("copies");
        if (status == BPTT_OK && !p->odd && copy_[0].status == BPTT_OK &&
            !strcmp(bptt_isa(f.plan), bptt_isa(alone->plan))) {
            int64_t done;
            expect(bptt_slide(alone->plan, first, optimizer_state(&h, p), &h, data, p->order, p->n,
                              k, lead, copy_[0].loss, &done, NULL, NULL),
                   "slide, alone");
            require(!memcmp(first, copy_[0].params, (size_t)(p->params * p->bytes)),
                    "a copy differs from the same network alone");
        }
    }
    close_plan(&f);
}

/* The online algorithm: over series, and observation by observation. */
static void learn(const bptt_desc *given, const problem *p) {
    bptt_desc d = *given;
    const int64_t k = between(1, 4), lead = between(0, 2);
    d.batch = 1;
    d.steps = k + lead;
    d.readout_every_step = 0;
    d.area = d.residuals = d.update_every = d.look_back = d.segment = d.checkpoints =
        d.window_stride = 0;
    d.sampling_probability = 0;
    d.bidirectional = 0;
    d.dropout = d.recurrent_dropout = 0;
    d.initial_state = "zeros";
    if (!d.output_size || bptt_size(&d) != p->params) return;
    fenced f = make(&d, (int)below(256));
    int64_t targets = 0, patterns = 0;
    int64_t *offset = block(p->n * 8);
    for (int64_t i = 0; i < p->n; i++) {
        offset[i] = targets;
        targets += p->data.length[i];
        if (p->data.length[i] - k - lead + 1 > 0) patterns += p->data.length[i] - k - lead + 1;
    }
    bptt_data data = p->data;
    int place;
    const int classes = loss_of(d.loss, &place).targets == BPTT_CLASSES;
    int64_t *labels = block(targets * 8);
    for (int64_t i = 0; i < targets; i++) labels[i] = below(p->outputs);
    data.target_offset = offset;
    data.targets = classes ? NULL : make_targets(&d, targets, p->columns, p->bytes, p->odd);
    data.classes = classes ? labels : NULL;
    data.weight = NULL;
    bptt_hyper h = hyper_of(patterns);
    void *params = copy(p->parameters, p->params * p->bytes), *vectors = optimizer_state(&h, p);
    double *loss = block(patterns * 8);
    int64_t done = 0;
    const bptt_status status = bptt_slide(f.plan, params, vectors, &h, &data, p->order, p->n, k,
                                          lead, loss, &done, poll_of(), &polls);
    expect(status, "slide");
    require(done >= 0 && done <= patterns, "the number of patterns");
    mix(params, p->params * p->bytes);
    copies(&d, &f, p, &data, patterns, k, lead);

    bptt_learner learner = { .k = k, .lead = lead };
    h.rates = NULL;
    h.step = 0;
    expect(bptt_learn_start(f.plan, p->parameters, optimizer_state(&h, p), &h, &learner, NULL,
                            chance(50) ? reals(p->state_size, p->bytes, 0.5, 0) : NULL),
           "learn_start");
    for (int64_t i = 0, n = between(1, 30); i < n; i++) {
        double value;
        void *x = make_inputs(&d, 1, p->bytes, p->odd);
        void *y = make_targets(&d, 1, p->columns, p->bytes, p->odd);
        expect(bptt_learn(f.plan, &h, &learner, x, y, below(p->outputs), chance(80), &value,
                          poll_of(), &polls),
               "learn");
        require(learner.rows <= k + lead - 1, "the window of a learner");
        if (chance(10)) {
            bptt_learn_store(f.plan, &h, reals(p->params, p->bytes, 0, 0), optimizer_state(&h, p));
            bptt_learn_window(f.plan, &learner, reals(learner.rows * d.input_size, p->bytes, 0, 0),
                              reals(p->state_size, p->bytes, 0, 0));
        }
    }
    close_plan(&f);
}

/* A step per call, and outputs fed back. */
static void stream(const bptt_desc *given, const problem *p) {
    bptt_desc d = *given;
    d.steps = 1;
    d.batch = between(1, 5);
    d.area = d.residuals = d.update_every = d.look_back = d.segment = d.checkpoints =
        d.window_stride = 0;
    d.sampling_probability = 0;
    if (d.bidirectional || !d.output_size) return;
    fenced f = make(&d, (int)below(256));
    expect(bptt_stream_start(f.plan, p->parameters), "stream_start");
    const int64_t out = d.batch * d.output_size;
    for (int i = 0; i < 5; i++) {
        void *y = reals(out, p->bytes, 0, 0);
        const void *x = make_inputs(&d, d.batch, p->bytes, p->odd);
        const bptt_status status = bptt_stream_step(f.plan, x, y);
        expect(status, "stream_step");
        if (status == BPTT_OK) mix(y, out * p->bytes);
        void *states = reals(d.batch * p->state_size, p->bytes, 0, 0);
        bptt_stream_get(f.plan, states);
        if (chance(30)) bptt_stream_set(f.plan, chance(50) ? states : NULL);
    }
    const int64_t steps = d.input_size == d.output_size && !categories_of(&d) ? between(1, 9) : 1;
    expect(bptt_stream_run(f.plan, make_inputs(&d, d.batch, p->bytes, p->odd), steps,
                           reals(steps * out, p->bytes, 0, 0), poll_of(), &polls),
           "stream_run");
    close_plan(&f);
}

/* Forward and backward with derivatives of the caller. */
static void tape(const bptt_desc *given, const problem *p) {
    bptt_desc d = *given;
    int64_t total = 0;
    for (int64_t i = 0; i < p->n; i++) total += p->data.length[i];
    d.area = chance(30) ? 2 * total : 0;
    d.residuals = d.update_every = d.look_back = d.segment = d.checkpoints = d.window_stride = 0;
    d.sampling_probability = 0;
    d.readout_every_step = 1;
    d.input_gradient = 1;
    d.batch = p->n;
    const int64_t steps = d.steps ? d.steps : 1;
    if (d.area && (d.area < steps || d.area >= p->n * steps)) d.area = 0;
    if (bptt_size(&d) != p->params) return;
    const int64_t layers = (d.num_layers ? d.num_layers : 1) * (d.bidirectional ? 2 : 1);
    const int64_t width = d.proj_size ? d.proj_size : d.hidden_size;
    const int64_t out = d.output_size ? d.output_size : width * (d.bidirectional ? 2 : 1);
    fenced f = make(&d, (int)below(256));
    const int64_t count = bptt_blocks(&d, NULL, 0);
    bptt_block *named = block(count * (int64_t)sizeof *named);
    require(bptt_blocks(&d, named, count) == count, "the number of blocks");
    const void **params = block(count * 8);
    void **grads = block(count * 8);
    for (int64_t i = 0; i < count; i++) {
        const int64_t size = named[i].rows * (named[i].cols ? named[i].cols : 1);
        params[i] = chance(10) ? NULL : reals(size, p->bytes, 0.5, p->odd);
        grads[i] = chance(20) ? NULL : reals(size, p->bytes, 0, 0);
    }
    const int64_t kinds = cell_of(d.cell).states, widths[] = { width, d.hidden_size };
    const void *initial[2], *dfinal[2];
    void *final[2], *dinitial[2];
    for (int64_t q = 0; q < kinds; q++) {
        const int64_t size = layers * p->n * widths[q];
        initial[q] = reals(size, p->bytes, 0.5, p->odd);
        final[q] = reals(size, p->bytes, 0, 0);
        dfinal[q] = chance(30) ? NULL : reals(size, p->bytes, 1, 0);
        dinitial[q] = reals(size, p->bytes, 0, 0);
    }
    int64_t rows = 0, *at = block(p->n * 8);
    for (int64_t i = 0; i < p->n; i++) {
        at[i] = rows;
        rows += p->data.length[i];
    }
    bptt_data data = p->data;
    data.target_offset = at;
    void *y = reals(rows * out, p->bytes, 0, 0);
    const int given_states = chance(50);
    const bptt_forward_arrays forward = {
        params, given_states ? initial : NULL, y, final, 1, draw()
    };
    const bptt_status status = bptt_forward(f.plan, &data, p->n, &forward, poll_of(), &polls);
    expect(status, "forward");
    if (status == BPTT_OK) {
        mix(y, rows * out * p->bytes);
        const bptt_backward_arrays backward = {
            reals(rows * out, p->bytes, 1, 0),
            chance(50) ? dfinal : NULL,
            grads,
            /* windows of one series share their rows: the threads would write the same ones */
            chance(50) && !given->window_stride ? reals(p->rows * d.input_size, p->bytes, 0, 0)
                                                : NULL,
            chance(50) ? dinitial : NULL,
        };
        expect(bptt_backward(f.plan, &data, p->n, &backward, poll_of(), &polls), "backward");
    }
    close_plan(&f);
}

/* -- cases -- */

static long accepted, refused;

/* Questions about a description of any values: an answer, and no plan where there is a refusal. */
static void ask(void) {
    bptt_desc d = description(1);
    for (int64_t i = 0, n = between(1, 4); i < n; i++) {
        int fields = 0;
        while (bptt_desc_fields[fields].name) fields++;
        const bptt_field *f = &bptt_desc_fields[below(fields)];
        const int64_t units = d.hidden_size;
        set_any(&d, f, f->items ? (int)below(f->items) : 0);
        if (d.hidden_size != units) d.alpha = NULL; /* it was for so many */
    }
    char *text = block(200);
    const size_t room = (size_t)below(200);
    const bptt_status status = bptt_why(&d, text, room);
    require(!room || memchr(text, 0, room) != NULL, "a reason without an end");
    const size_t bytes = bptt_bytes(&d);
    require((status == BPTT_OK) == (bytes > 0), "bptt_why and bptt_bytes differ");
    const int64_t size = bptt_size(&d), count = bptt_blocks(&d, NULL, 0);
    require((size < 0 && count < 0) || status == BPTT_OK || status == BPTT_TOO_LARGE ||
                status == BPTT_UNSUPPORTED || status == BPTT_BAD_DESC,
            "an unknown status");
    bptt_state_size(&d);
    if (bytes > 0 && bytes < 1 << 22) {
        fenced f = make(&d, 0xff);
        close_plan(&f);
        accepted++;
    } else
        refused++;
}

static void run_case(int threads) {
    state = 0x5851f42d4c957f2du * (uint64_t)(number + 1);
    if (chance(30)) {
        ask();
        return;
    }
    const bptt_desc d = description(threads);
    if (!bptt_bytes(&d) || bptt_bytes(&d) > 1 << 27) {
        refused++;
        return;
    }
    accepted++;
    count(d.cell);
    if (d.output_size) count(d.loss);
    if (d.categories[0]) count("categories");
    if (d.embeddings[0]) count("embeddings");
    if (d.rules) count("rules");
    if (d.alpha) count("alpha");
    if (d.recurrent_noise > 0) count("recurrent noise");
    if (d.input_noise > 0) count("input noise");
    if (d.lanes) count(d.lanes);
    const int odd = chance(20);
    stop_at = chance(20) ? between(1, chance(50) ? 6 : 60) : 0;
    const problem p = make_problem(&d, odd);
    const uint64_t begin = state;
    uint64_t sums[2];
    for (int again = 0; again < 2; again++) {
        bptt_desc alone = d;
        if (again) alone.threads = 1;
        state = begin;
        bits = 0;
        fenced f = make(&alone, again ? 0 : 0xff);
        infer(&f, &alone, &p);
        differentiate(&f, &alone, &p);
        train(&f, &alone, &p);
        squares(&f, &alone, &p);
        infer(&f, &alone, &p);
        close_plan(&f);
        sums[again] = bits;
    }
    if (!odd && !stop_at) require(sums[0] == sums[1], "results depend on threads or on the arena");
    learn(&d, &p);
    stream(&d, &p);
    tape(&d, &p);
}

int main(int argc, char **argv) {
    const long first = argc > 1 ? atol(argv[1]) : 0, count = argc > 2 ? atol(argv[2]) : 100;
    const int threads = argc > 3 ? atoi(argv[3]) : 1;
    shortage = argc > 4 ? atoi(argv[4]) : 0;
    luck = (uint64_t)first + 1;
    list_names();
    for (number = first; number < first + count; number++) {
        run_case(threads);
        free_all();
    }
    printf("%ld plans, %ld refused\n", accepted, refused);
    for (int i = 0; drawn[i].name; i++) printf("%ld %s\n", drawn[i].plans, drawn[i].name);
    return 0;
}
