"""csrc/bptt.h as Cython sees it, and what other packages may cimport; see docs/c.md."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from "bptt.h":
    ctypedef enum bptt_status:
        BPTT_OK
        BPTT_DIVERGED
        BPTT_INTERRUPTED
        BPTT_STATUSES

    const char *bptt_message(bptt_status status)
    const char *bptt_status_name(bptt_status status)

    ctypedef struct bptt_desc:
        pass
    ctypedef struct bptt_hyper:
        const double *rates
        int64_t step
    int bptt_state_vectors(const char *optimizer)

    ctypedef enum bptt_kind:
        BPTT_TEXT
        BPTT_INTEGER
        BPTT_FLAG
        BPTT_REAL
        BPTT_KEY
        BPTT_REALS
        BPTT_CELL
    ctypedef struct bptt_field:
        const char *name
        bptt_kind kind
        int items
        double initial
        int carried
    const bptt_field bptt_desc_fields[]
    const bptt_field bptt_hyper_fields[]
    const bptt_field *bptt_find_field(const bptt_field *fields, const char *name)
    # `to` is the address of a bptt_desc or a bptt_hyper
    void bptt_set_pointer(void *to, const bptt_field *field, int item, const void *value)
    void bptt_set_integer(void *to, const bptt_field *field, int item, int64_t value)
    void bptt_set_real(void *to, const bptt_field *field, int item, double value)
    double bptt_get_number(const void *of, const bptt_field *field, int item)
    bptt_status bptt_why(const bptt_desc *desc, char *text, size_t size)

    ctypedef struct bptt_cell:
        const char *name
        int gates, states, activation, hidden_layers, projection, peepholes, recurrent, leak, keep_gate
    int bptt_describe_cell(int i, bptt_cell *cell)
    ctypedef struct bptt_own_cell:
        pass
    const uint64_t BPTT_INTERFACE
    int bptt_describe_own_cell(const bptt_own_cell *own, bptt_cell *cell)

    ctypedef enum bptt_targets:
        BPTT_NUMBERS
        BPTT_PROBABILITIES
        BPTT_COUNTS
        BPTT_CLASSES
    enum:
        BPTT_MAX_LOSS_PARAMETERS
        BPTT_MAX_LOSS_VALUES
    ctypedef struct bptt_loss_parameter:
        const char *name
        double initial, low, high
    ctypedef struct bptt_loss:
        const char *name
        bptt_targets targets
        int outputs, least_squares, curved
        bptt_loss_parameter parameter[4]
    int bptt_describe_loss(int i, bptt_loss *loss)
    void bptt_curvature(
        int loss, const double *parameter, int64_t outputs, const double *y, const double *dy, double *product) nogil
    const char *bptt_optimizer(int i)
    const char *bptt_activation(int i)

    ctypedef struct bptt_block:
        char name[48]
        int64_t rows, cols, offset, bytes

    int64_t bptt_blocks(const bptt_desc *desc, bptt_block *out, int64_t max)
    int64_t bptt_size(const bptt_desc *desc)
    int64_t bptt_state_size(const bptt_desc *desc)
    size_t bptt_bytes(const bptt_desc *desc)

    ctypedef struct bptt_plan:
        pass
    bptt_status bptt_make_plan(const bptt_desc *desc, void *arena, size_t bytes, bptt_plan **plan)
    int64_t bptt_views(const bptt_plan *plan, bptt_block *out, int64_t max)
    const char *bptt_isa(const bptt_plan *plan)
    const char *bptt_lanes(const bptt_plan *plan)
    int bptt_copies(const bptt_plan *plan)
    int bptt_threads(const bptt_plan *plan)
    int64_t bptt_sum_size(const bptt_plan *plan)
    const char *bptt_supported_isa(int i)
    ctypedef void (*bptt_parallel)(void (*part)(void *context) noexcept nogil, void *context, unsigned threads,
                                   unsigned flags) noexcept nogil
    ctypedef int (*bptt_team_size)() noexcept nogil
    void bptt_use_threads(bptt_parallel parallel, bptt_team_size size)

    ctypedef struct bptt_own_loss:
        int (*function)(void *context, int64_t begin, int64_t n, double *loss) noexcept nogil
        void *context
        void *y
        int64_t *row
    ctypedef struct bptt_shards:
        int64_t batch, count, begin, end
        bptt_plan **plan
        void *sums
        int64_t (*add)(void *context, int64_t shard, double loss) noexcept nogil
        int (*exchange)(void *context, double *loss) noexcept nogil
        void *context
    ctypedef struct bptt_data:
        const void *values
        const int64_t *offset
        const int64_t *length
        const int64_t *target_offset
        const void *targets
        const int64_t *classes
        const void *weight
        const void *state
        const int64_t *start
        const int64_t *number
        const bptt_own_loss *own_loss
        const bptt_shards *shards

    ctypedef int (*bptt_poll)(void *context, int64_t done) noexcept nogil

    int bptt_apply(const char *function, const char *dtype, const char *isa, const void *x, void *y, int64_t n)

    bptt_status bptt_predict(
        bptt_plan *plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
        int every_step, void *y, void *state, bptt_poll poll, void *context) nogil
    bptt_status bptt_evaluate(
        bptt_plan *plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
        double *loss, bptt_poll poll, void *context) nogil
    bptt_status bptt_loss_grad(
        bptt_plan *plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
        double *loss, void *grad, void *dx, void *dstate, bptt_poll poll, void *context) nogil
    ctypedef struct bptt_forward_arrays:
        const void *const *params
        const void *const *initial
        void *y
        void *const *final
        int keep
        uint64_t draw
    ctypedef struct bptt_backward_arrays:
        const void *dy
        const void *const *dfinal
        void *const *grad
        void *dx
        void *const *dinitial
    bptt_status bptt_forward(
        bptt_plan *plan, const bptt_data *data, int64_t n, const bptt_forward_arrays *arrays, bptt_poll poll, void *context) nogil
    bptt_status bptt_backward(
        bptt_plan *plan, const bptt_data *data, int64_t n, const bptt_backward_arrays *arrays, bptt_poll poll, void *context) nogil
    bptt_status bptt_gauss_newton(
        bptt_plan *plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
        void *gram, void *jacobian, bptt_poll poll, void *context) nogil
    bptt_status bptt_gram(
        bptt_plan *plan, const void *a, int64_t rows, int64_t width, void *out, bptt_poll poll, void *context) nogil
    bptt_status bptt_solve(
        bptt_plan *plan, void *rows, int64_t n, int64_t width, void *x, bptt_poll poll, void *context) nogil
    bptt_status bptt_epoch(
        bptt_plan *plan, void *params, void *opt_state, bptt_hyper *hyper, const bptt_data *data,
        const int64_t *order, int64_t n, double *loss, double *weight, void *state, int64_t *done,
        bptt_poll poll, void *context) nogil
    ctypedef struct bptt_penalty:
        pass
    bptt_status bptt_set_rules(bptt_plan *plan, const void *low, const void *high, const bptt_penalty *penalty)
    int64_t bptt_updates(const bptt_plan *plan, const bptt_data *data, const int64_t *order, int64_t n)
    void bptt_shuffle(uint64_t seed, uint64_t epoch, int64_t *order, int64_t n) nogil
    bptt_status bptt_slide(
        bptt_plan *plan, void *params, void *opt_state, bptt_hyper *hyper, const bptt_data *data,
        const int64_t *order, int64_t n, int64_t k, int64_t lead, double *loss, int64_t *done,
        bptt_poll poll, void *context) nogil

    ctypedef struct bptt_copy:
        void *params
        void *opt_state
        bptt_hyper *numbers
        double *loss
        int64_t done
        bptt_status status
    bptt_status bptt_slide_copies(
        bptt_plan *plan, bptt_copy *copy, int64_t copies, const bptt_data *data, const int64_t *order, int64_t n,
        int64_t k, int64_t lead, bptt_poll poll, void *context) nogil

    bptt_status bptt_stream_start(bptt_plan *plan, const void *params) nogil
    bptt_status bptt_stream_run(
        bptt_plan *plan, const void *x, int64_t steps, void *y, bptt_poll poll, void *context) nogil
    void bptt_stream_set(bptt_plan *plan, const void *state) nogil
    void bptt_stream_get(const bptt_plan *plan, void *state) nogil

    ctypedef struct bptt_learner:
        int64_t k, lead, rows, first
    bptt_status bptt_learn_start(
        bptt_plan *plan, const void *params, const void *opt_state, const bptt_hyper *hyper,
        bptt_learner *learner, const void *window, const void *state) nogil
    bptt_status bptt_learn(
        bptt_plan *plan, bptt_hyper *hyper, bptt_learner *learner, const void *x, const void *y, int64_t class_,
        double weight, double *loss, bptt_poll poll, void *context) nogil
    void bptt_learn_store(const bptt_plan *plan, const bptt_hyper *hyper, void *params, void *opt_state) nogil
    void bptt_learn_window(const bptt_plan *plan, const bptt_learner *learner, void *window, void *state) nogil


cdef class Buffers:
    cdef object held
    cdef void *take(self, object array, str kinds, Py_ssize_t itemsize, Py_ssize_t items, bint writable) except? NULL


cdef class Data:
    cdef bptt_data c
    cdef Buffers buffers
    cdef readonly Py_ssize_t sequences, items
    cdef readonly int64_t rows
    cdef readonly str dtype


cdef class Plan:
    cdef bptt_plan *c
    cdef readonly object arena
    cdef readonly object desc
    cdef readonly str dtype
    cdef readonly Py_ssize_t nbytes, size, state_size
    cdef Py_ssize_t count  # of parameter blocks
    cdef Py_ssize_t batch
    cdef bint every
    cdef object callback, pending, own_loss, add, exchange
    cdef double polled
    cdef bint running
    cdef int ask(self, int64_t done)
    cdef int compute_loss(self, int64_t begin, int64_t n, double *loss)
    cdef int give_loss(self, object own_loss, Data data, const int64_t *order, int64_t n, bptt_own_loss *to, Buffers b) except -1
    cdef int64_t call_add(self, int64_t shard, double loss)
    cdef int call_exchange(self, double *loss)
    cdef int give_shards(self, object shards, bptt_shards *to, Buffers b) except -1
    cdef int begin(self, object callback) except -1
    cdef int enter(self, Data data, object callback) except -1
    cdef str leave(self, bptt_status status, int64_t done)


cdef class Tape(Plan):
    cdef bptt_data data
    cdef Buffers buffers
    cdef int64_t sequences
    cdef Py_ssize_t kinds


cdef class Rows:
    cdef readonly Plan plan
    cdef int64_t inputs, outputs
    cdef bint heavy
    cdef tuple categories
    cdef const void *take_row(self, object array, Py_buffer *view, int64_t items) except? NULL
    cdef const void *take_inputs(self, object array, Py_buffer *view) except? NULL


cdef class Stream(Rows):
    cdef object shape, state_shape


# For other packages: inference without the GIL.  The pointers are not checked: their sizes are those of bptt_predict and
# bptt_stream_step in csrc/bptt.h, in reals of the plan's dtype.  A plan, and a stream, serves one caller at a time.
cdef int predict(
    Plan plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
    bint every_step, void *y, void *state) except -1 nogil
cdef void step(Stream stream, const void *x, void *y) noexcept nogil


cdef class Learner(Rows):
    cdef bptt_hyper hyper
    cdef bptt_learner c
    cdef int64_t targets
    cdef object texts
    cdef bint classes, diverged
    cdef int64_t first_step
    cdef readonly int64_t seen
    cdef bptt_status heavy_step(
        self, const void *x, const void *y, int64_t chosen, double weight, double *loss) except *
    cdef tuple snapshot(self)
