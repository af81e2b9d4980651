"""The bridge to csrc: plans, data, calls without the GIL, status codes.  It depends on bptt.h and buffers, not on the package."""

from array import array as packed

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer)
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_ExceptionMatches
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import numpy
from numpy import empty, ndarray

cdef extern from "Python.h":  # without Cython's check of errors: they are cleared, see Rows
    int buffer_of "PyObject_GetBuffer" (object array, Py_buffer *view, int flags)
    int is_index "PyIndex_Check" (object number)
    Py_ssize_t index_of "PyNumber_AsSsize_t" (object number, PyObject *overflow)

cdef object array_type = ndarray  # a lookup in the dict of the module takes a thirtieth of a step
STATUS = {code: bptt_status_name(<bptt_status>code).decode() for code in range(BPTT_STATUSES)}
MAX_LOSS_VALUES = BPTT_MAX_LOSS_VALUES
INTERFACE = BPTT_INTERFACE
cdef double POLL_SECONDS = 0.01
cdef double HEAVY_WORK = 1e7  # multiply-adds of some milliseconds
cdef enum:
    MANY_PIECES = 4096


cdef double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + 1e-9 * t.tv_nsec


cdef class View:
    """A buffer view, released on deallocation."""

    cdef Py_buffer view
    cdef bint taken

    def __cinit__(self, array, int flags):
        PyObject_GetBuffer(array, &self.view, flags)
        self.taken = True

    def __dealloc__(self):
        if self.taken:
            PyBuffer_Release(&self.view)


cdef class Buffers:
    """Buffer views, held until the end of a call, or as long as a Data exists."""

    def __cinit__(self):
        self.held = []

    cdef void *take(self, object array, str kinds, Py_ssize_t itemsize, Py_ssize_t items, bint writable) except? NULL:
        """Address of a contiguous array of one of the `kinds` of format; items < 0: any number."""
        cdef View view
        cdef Py_ssize_t length
        cdef str kind
        if array is None:
            return NULL
        view = View(array, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
        kind = view.view.format.decode() if view.view.format != NULL else "B"
        length = view.view.len // view.view.itemsize
        if view.view.itemsize != itemsize or kind not in kinds:
            raise TypeError(f"expected a buffer of {itemsize}-byte {kinds!r}, got {view.view.itemsize}-byte {kind!r}")
        if 0 <= items != length:
            raise ValueError(f"expected a buffer of {items} items, got {length}")
        self.held.append(view)
        return view.view.buf


cdef dict REALS = {"f": "float32", "d": "float64"}


cdef void *take_reals(Buffers buffers, array, str dtype, Py_ssize_t items, bint writable) except? NULL:
    return buffers.take(array, "d" if dtype == "float64" else "f", 8 if dtype == "float64" else 4, items, writable)


cdef int64_t *take_integers(Buffers buffers, array, Py_ssize_t items) except? NULL:
    return <int64_t *>buffers.take(array, "lq", 8, items, False)


cdef int64_t *take_order(Buffers buffers, array, Py_ssize_t sequences) except? NULL:
    """Sequence numbers, each of which exists."""
    cdef int64_t *order = take_integers(buffers, array, -1)
    cdef Py_ssize_t i
    for i in range(len(array)):
        if not 0 <= order[i] < sequences:
            raise ValueError(f"order[{i}]: expected a sequence from 0 to {sequences - 1}, got {order[i]}")
    return order


cdef class Data:
    """A set of sequences in contiguous buffers, kept alive; see bptt_data in csrc/bptt.h.

    Parameters
    ----------
    values : (rows, I) float32 or float64
    offset, length, target_offset : (n,) int64
    targets : (target rows, O), like `values`, or None
    classes : (target rows,) int64, or None
    weight : (target rows,), like `values`, or None
    state : (n, state size), like `values`, or None
    number : (n,) int64, or None
    """

    def __init__(self, values, offset, length, target_offset, targets=None, classes=None, weight=None, state=None, number=None):
        cdef Buffers b = Buffers()
        cdef Py_ssize_t i
        cdef str dtype = REALS.get(values.dtype.char)  # the name of a dtype is slow to ask for: 4 us a call
        if dtype is None:
            raise TypeError(f"expected values of float32 or float64, got {values.dtype}")
        self.buffers, self.dtype, self.sequences = b, dtype, len(offset)
        self.c.values = take_reals(b, values, dtype, -1, False)
        self.c.offset = take_integers(b, offset, self.sequences)
        self.c.length = take_integers(b, length, self.sequences)
        self.c.target_offset = take_integers(b, target_offset, self.sequences)
        self.c.targets = take_reals(b, targets, dtype, -1, False)
        self.c.classes = take_integers(b, classes, -1)
        self.c.weight = take_reals(b, weight, dtype, -1, False)
        self.c.state = take_reals(b, state, dtype, -1, False)
        self.c.number = take_integers(b, number, self.sequences)
        self.items, self.rows = values.size, 0
        for i in range(self.sequences):
            if self.c.offset[i] < 0 or self.c.length[i] < 1 or self.c.target_offset[i] < 0:
                raise ValueError(f"sequence {i}: expected a length above 0 and no negative offset, got length {self.c.length[i]}")
            self.rows = max(self.rows, self.c.offset[i] + self.c.length[i])


cdef list field_names(const bptt_field *fields):
    """Names of a table of fields, in its order."""
    cdef list names = []
    while fields[len(names)].name != NULL:
        names.append(fields[len(names)].name.decode())
    return names


cdef list HYPER = field_names(bptt_hyper_fields)


cdef dict properties_of(const bptt_cell *cell):
    """{property: value}, the name among them; see bptt_cell."""
    return dict(cell[0])


cdef class OwnCell:
    """A cell that is compiled by itself, from the address of its table; `library` is what must stay loaded.

    `properties` are those of `cells`, with the name.  Raises a ValueError if it was compiled from other headers.
    """

    cdef const bptt_own_cell *c
    cdef readonly dict properties
    cdef object library

    def __init__(self, size_t table, library):
        cdef bptt_cell cell
        self.c, self.library = <const bptt_own_cell *>table, library
        if not bptt_describe_own_cell(self.c, &cell):
            raise ValueError("expected a cell that was compiled from the headers of this library")
        self.properties = properties_of(&cell)


cdef int set_field(void *to, const bptt_field *field, int item, object value, list texts) except -1:
    """Set one value of a field; `texts` keeps alive what a field of text, reals or a cell points to."""
    cdef bytes text
    cdef double[::1] reals
    if field.kind == BPTT_TEXT:
        if value is not None:
            text = str(value).encode()
            texts.append(text)
            bptt_set_pointer(to, field, item, <const char *>text)
    elif field.kind == BPTT_REAL:
        bptt_set_real(to, field, item, value)
    elif field.kind == BPTT_REALS:
        if value is not None:
            reals = packed("d", value)
            texts.append(reals)
            bptt_set_pointer(to, field, item, &reals[0])
    elif field.kind == BPTT_CELL:
        if value is not None:
            texts.append(value)
            bptt_set_pointer(to, field, item, (<OwnCell?>value).c)
    elif field.kind == BPTT_KEY:
        bptt_set_integer(to, field, item, <int64_t><uint64_t>value)
    else:
        bptt_set_integer(to, field, item, value)
    return 0


cdef class Desc:
    """A bptt_desc and the texts it points to, from the fields of desc.def; a list for a field of several values."""

    cdef bptt_desc c
    cdef list texts

    def __init__(self, desc, **how):
        cdef const bptt_field *field
        cdef int item
        units = {**desc, **how}.get("hidden_size")
        self.texts = []
        memset(&self.c, 0, sizeof(bptt_desc))
        for name, value in (*desc.items(), *how.items()):
            field = bptt_find_field(bptt_desc_fields, name.encode())
            if field == NULL:
                raise TypeError(f"unknown field {name!r}; there are {', '.join(field_names(bptt_desc_fields))}")
            if field.kind == BPTT_REALS and value is not None and len(value) != units:
                raise ValueError(f"{name}: expected a value for each of {units} units, got {len(value)}")
            if not field.items:
                set_field(&self.c, field, 0, value, self.texts)
                continue
            if len(value) > field.items:
                raise ValueError(f"{name}: expected at most {field.items} values, got {len(value)}")
            for item, one in enumerate(value):
                if field.kind == BPTT_INTEGER and not one:
                    raise ValueError(f"{name}: expected widths above 0, got {tuple(value)}")
                set_field(&self.c, field, item, one, self.texts)

    cdef int check(self, str prefix="") except -1:
        """Raise a ValueError that names the field and the rule if the description is invalid."""
        cdef char text[256]
        if bptt_why(&self.c, text, sizeof(text)) != BPTT_OK:
            raise ValueError(prefix + text.decode())
        return 0


def cells():
    """Cells of csrc/cells.def, {name: {property: value}}; see bptt_cell."""
    cdef bptt_cell cell
    cdef dict cells = {}
    while bptt_describe_cell(len(cells), &cell):
        properties = properties_of(&cell)
        cells[properties.pop("name").decode()] = properties
    return cells


def losses():
    """Losses of csrc/losses.def, {name: properties}; "parameters" are {name: (default, low, high)}.

    "outputs" is the number of outputs per target, 0: one for each value of a parameter that is a list.
    """
    cdef bptt_loss loss
    cdef dict losses = {}, parameters
    cdef int i
    while bptt_describe_loss(len(losses), &loss):
        parameters = {}
        for i in range(BPTT_MAX_LOSS_PARAMETERS):
            if loss.parameter[i].name == NULL:
                break
            parameters[loss.parameter[i].name.decode()] = (
                loss.parameter[i].initial, loss.parameter[i].low, loss.parameter[i].high)
        losses[loss.name.decode()] = {
            "targets": {
                BPTT_NUMBERS: "real", BPTT_PROBABILITIES: "probability", BPTT_COUNTS: "count", BPTT_CLASSES: "class",
            }[loss.targets],
            "outputs": loss.outputs, "least_squares": bool(loss.least_squares), "curved": bool(loss.curved),
            "parameters": parameters,
        }
    return losses


def curvature(str loss, tuple parameters, const double[:, ::1] y, const double[:, ::1] dy):
    """Product of a loss's second derivative at the outputs y (rows, O) and dy, relative to that of "mse"; see bptt_curvature."""
    cdef double values[BPTT_MAX_LOSS_VALUES]
    cdef int kind = list(losses()).index(loss), i
    cdef Py_ssize_t row
    if (y.shape[0], y.shape[1]) != (dy.shape[0], dy.shape[1]) or len(parameters) > BPTT_MAX_LOSS_VALUES:
        raise ValueError("expected y and dy of one shape, and the parameters of the loss")
    for i, value in enumerate(parameters):
        values[i] = value
    product = empty((y.shape[0], y.shape[1]))
    cdef double[:, ::1] rows = product
    for row in range(y.shape[0]):
        bptt_curvature(kind, values, y.shape[1], &y[row, 0], &dy[row, 0], &rows[row, 0])
    return product


def optimizers():
    """Optimisers of csrc/optimizers.def, {name: number of state vectors of P reals}."""
    cdef list names = []
    while bptt_optimizer(len(names)) != NULL:
        names.append(bptt_optimizer(len(names)).decode())
    return {name: state_vectors(name) for name in names}


def activations():
    """Nonlinearities of csrc/activations.def."""
    cdef list names = []
    while bptt_activation(len(names)) != NULL:
        names.append(bptt_activation(len(names)).decode())
    return tuple(names)


cdef list pieces(bptt_block *first, int64_t count):
    return [(first[i].name.decode(), first[i].rows, first[i].cols, first[i].offset, first[i].bytes) for i in range(count)]


def blocks(desc):
    """Parameter blocks [(name, rows, cols, offset)] of a description; cols 0 is a vector."""
    cdef Desc d = Desc(desc)
    cdef bptt_block *out = <bptt_block *>malloc(MANY_PIECES * sizeof(bptt_block))
    if out == NULL:
        raise MemoryError
    try:
        count = bptt_blocks(&d.c, out, MANY_PIECES)
        if count < 0:
            d.check()
        return [piece[:4] for piece in pieces(out, count)]
    finally:
        free(out)


def size(desc):
    """Number of parameters P of a description."""
    cdef Desc d = Desc(desc)
    count = bptt_size(&d.c)
    if count < 0:
        d.check()
    return count


def state_size(desc):
    """Number of reals in the state of one sequence."""
    cdef Desc d = Desc(desc)
    return bptt_state_size(&d.c)


def nbytes(desc, **how):
    """Bytes of the arena of a Plan with the same arguments."""
    cdef Desc d = Desc(desc, **how)
    return arena_bytes(d)


cdef size_t arena_bytes(Desc d) except 0:
    cdef size_t size = bptt_bytes(&d.c)
    if size == 0:
        d.check("cannot plan: ")
    return size


def state_vectors(str optimizer):
    """Number of state vectors, of P reals each, of an optimiser."""
    count = bptt_state_vectors(optimizer.encode())
    if count < 0:
        raise ValueError(f"unknown optimizer {optimizer!r}")
    return count


def shuffled(uint64_t seed, uint64_t epoch, int64_t n):
    """The numbers 0 .. n-1 in the order of an epoch: default_rng([seed, epoch]).permutation(n); see bptt_shuffle."""
    cdef Buffers b = Buffers()
    if not 0 <= n <= <int64_t>1 << 32:
        raise ValueError(f"expected 0 to 2^32 sequences, got {n}")
    order = empty(n, "int64")
    cdef int64_t *numbers = take_integers(b, order, n)
    with nogil:
        bptt_shuffle(seed, epoch, numbers, n)
    return order


def message(str status):
    """The message of a status."""
    for code, name in STATUS.items():
        if name == status:
            return bptt_message(code).decode()
    raise ValueError(f"unknown status {status!r}")


def isas():
    """Instruction sets that both this build and this CPU support, the best last."""
    names = []
    while bptt_supported_isa(len(names)) != NULL:
        names.append(bptt_supported_isa(len(names)).decode())
    return tuple(names)


def use_threads(size_t parallel, size_t size):
    """Run tapes on the threads of the program; addresses of GOMP_parallel and omp_get_num_threads, or zeros."""
    bptt_use_threads(<bptt_parallel>parallel, <bptt_team_size>size)


def apply(str function, x, isa=None):
    """A vector function of the kernels, exposed for tests: "exp" or a nonlinearity of a contiguous array."""
    cdef Buffers b = Buffers()
    cdef str dtype = str(x.dtype)
    cdef bytes isa_name = (isa or isas()[-1]).encode()
    y = numpy.empty_like(x)
    cdef const void *source = take_reals(b, x, dtype, x.size, False)
    cdef void *result = take_reals(b, y, dtype, x.size, True)
    if not bptt_apply(function.encode(), dtype.encode(), isa_name, source, result, x.size):
        raise ValueError(f"no function {function!r} for {dtype} on {isa!r}")
    return y


cdef int on_poll(void *context, int64_t done) noexcept nogil:
    cdef double t = now()
    if t - (<Plan>context).polled < POLL_SECONDS:
        return 0
    (<Plan>context).polled = t
    with gil:
        return (<Plan>context).ask(done)


cdef int on_loss(void *context, int64_t begin, int64_t n, double *loss) noexcept nogil:
    with gil:
        return (<Plan>context).compute_loss(begin, n, loss)


cdef int64_t on_add(void *context, int64_t shard, double loss) noexcept nogil:
    with gil:
        return (<Plan>context).call_add(shard, loss)


cdef int on_exchange(void *context, double *loss) noexcept nogil:
    with gil:
        return (<Plan>context).call_exchange(loss)


cdef class Plan:
    """A network's description with an arena for batches of up to `batch` sequences of up to `steps` steps.

    Parameters
    ----------
    desc : dict
        The network: fields of csrc/desc.def.
    **how
        Further fields: loss, batch, steps, threads, isa, how training unfolds time.

    A plan serves one caller at a time.  Every method takes the flat parameters and arrays of the plan's dtype, releases the
    GIL, and returns a status name.  `poll(done)` is called about every 10 ms; a true result stops the run.

    `own_loss` is (function, y, row): function(begin, n) returns the loss of the batch order[begin:begin+n], and replaces its
    outputs in y by the gradient; see bptt_own_loss.

    `shards` is (batch, count, begin, end, plans, sums, add, exchange): add(shard, loss) returns the row for the sum of the
    next shard; exchange() replaces row 0 by the sum over all shards, and returns that of the losses, or None to stop;
    `plans` are the further ones.  See bptt_shards.
    """

    def __init__(self, desc, **how):
        cdef Desc d = Desc(desc, **how)
        cdef size_t bytes_ = arena_bytes(d)
        cdef bptt_status status
        cdef uint8_t[::1] arena
        raw = numpy.empty(bytes_ + 63, dtype=numpy.uint8)
        start = -raw.ctypes.data % 64
        self.arena = raw[start:start + bytes_]
        arena = self.arena
        status = bptt_make_plan(&d.c, &arena[0], bytes_, &self.c)
        if status != BPTT_OK:
            raise ValueError(f"cannot plan: {message(STATUS[status])}")
        self.desc, self.dtype, self.nbytes, self.batch = desc, desc["dtype"], bytes_, max(1, how.get("batch", 1))
        self.every = bool({**desc, **how}.get("readout_every_step", False))
        self.size, self.state_size, self.count = bptt_size(&d.c), bptt_state_size(&d.c), bptt_blocks(&d.c, NULL, 0)

    @property
    def isa(self):
        """The instruction set in use."""
        return bptt_isa(self.c).decode()

    @property
    def lanes(self):
        """What the lanes of a vector hold: units, rows or copies."""
        return bptt_lanes(self.c).decode()

    @property
    def copies(self):
        """The number of copies that `slide_copies` trains at once; 0 if it cannot."""
        return bptt_copies(self.c)

    @property
    def threads(self):
        """The number of threads of a run."""
        return bptt_threads(self.c)

    @property
    def address(self):
        """The address of the plan, which lives as long as this object."""
        return <size_t>self.c

    @property
    def sum_size(self):
        """The number of reals of a sum of gradients in `shards`."""
        return bptt_sum_size(self.c)

    def views(self):
        """Views of the arena at full capacity: [(name, offset, bytes)]."""
        cdef bptt_block *out = <bptt_block *>malloc(MANY_PIECES * sizeof(bptt_block))
        if out == NULL:
            raise MemoryError
        try:
            return [(name, offset, count) for name, _, _, offset, count in pieces(out, bptt_views(self.c, out, MANY_PIECES))]
        finally:
            free(out)

    cdef int ask(self, int64_t done):
        try:
            PyErr_CheckSignals()
            return bool(self.callback is not None and self.callback(done))
        except BaseException as error:
            self.pending = error
            return -1

    cdef int compute_loss(self, int64_t begin, int64_t n, double *loss):
        try:
            loss[0] = self.own_loss(begin, n)
            return 0
        except BaseException as error:
            self.pending = error
            return 1

    cdef int give_loss(self, object own_loss, Data data, const int64_t *order, int64_t n, bptt_own_loss *to, Buffers b) except -1:
        """Fill in a loss of the caller's own, whose y must hold the outputs of the largest batch."""
        cdef int64_t i, rows = 0, most = 0
        cdef bint every = self.every
        self.own_loss, y, row = own_loss
        for i in range(n):
            rows = (rows if i % self.batch else 0) + (data.c.length[order[i]] if every else 1)
            most = max(most, rows)
        if y.size < most * self.desc["output_size"]:
            raise ValueError(f"expected outputs of at least {most} rows of {self.desc['output_size']}, got {y.size} items")
        to.function, to.context = on_loss, <void *>self
        to.y = take_reals(b, y, self.dtype, -1, True)
        to.row = <int64_t *>b.take(row, "lq", 8, data.sequences, True)
        return 0

    cdef int64_t call_add(self, int64_t shard, double loss):
        try:
            return self.add(shard, loss)
        except BaseException as error:
            self.pending = error
            return -1

    cdef int call_exchange(self, double *loss):
        try:
            total = self.exchange()
            if total is None:
                return 1
            loss[0] = total
            return 0
        except BaseException as error:
            self.pending = error
            return 1

    cdef int give_shards(self, object shards, bptt_shards *to, Buffers b) except -1:
        """Fill in how batches are cut into shards."""
        cdef Py_ssize_t n
        to.batch, to.count, to.begin, to.end, plans, sums, self.add, self.exchange = shards
        n = to.end - to.begin
        if len(plans) not in (0, n - 1):
            raise ValueError(f"expected no further plan or one for each of {n - 1} shards, got {len(plans)}")
        addresses = numpy.array([plan.address for plan in (self, *plans)], numpy.uint64)
        to.plan = <bptt_plan **>b.take(addresses, "LQ", 8, -1, True) if plans else NULL
        to.sums = take_reals(b, sums, self.dtype, len(sums) * bptt_sum_size(self.c), True)
        to.add, to.exchange, to.context = on_add, on_exchange, <void *>self
        return 0

    cdef int begin(self, object callback) except -1:
        if self.running:
            raise RuntimeError("this plan is in use by another thread; create one plan per thread")
        self.running, self.callback, self.pending, self.polled = True, callback, None, now()
        return 0

    cdef int enter(self, Data data, object callback) except -1:
        if data.dtype != self.dtype:
            raise TypeError(f"the plan computes in {self.dtype}, the data are {data.dtype}")
        if data.rows * self.desc["input_size"] > data.items:
            raise ValueError(f"the sequences take {data.rows} rows of {self.desc['input_size']}, values hold {data.items} items")
        self.begin(callback)
        return 0

    cdef str leave(self, bptt_status status, int64_t done):
        self.running, self.callback, self.own_loss, self.add, self.exchange = False, None, None, None, None
        if self.pending is not None:
            error, self.pending = self.pending, None
            error.done = done
            raise error
        if status not in (BPTT_OK, BPTT_DIVERGED, BPTT_INTERRUPTED):
            raise ValueError(message(STATUS[status]))
        return STATUS[status]

    def predict(self, params, Data data not None, order, y, bint every_step=False, state=None, poll=None):
        """Write the outputs of g into y and the final states into `state`; see bptt_predict."""
        cdef Buffers b = Buffers()
        cdef const void *w = take_reals(b, params, self.dtype, self.size, False)
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef void *out = take_reals(b, y, self.dtype, -1, True)
        cdef void *states = take_reals(b, state, self.dtype, data.sequences * self.state_size, True)
        cdef int64_t n = len(order)
        cdef bptt_status status
        self.enter(data, poll)
        with nogil:
            status = bptt_predict(self.c, w, &data.c, rows, n, every_step, out, states, on_poll, <void *>self)
        return self.leave(status, 0)

    def evaluate(self, params, Data data not None, order, poll=None):
        """(status, loss); see bptt_evaluate."""
        cdef Buffers b = Buffers()
        cdef const void *w = take_reals(b, params, self.dtype, self.size, False)
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef int64_t n = len(order)
        cdef double loss = 0
        cdef bptt_status status
        self.enter(data, poll)
        with nogil:
            status = bptt_evaluate(self.c, w, &data.c, rows, n, &loss, on_poll, <void *>self)
        return self.leave(status, 0), loss

    def loss_and_grad(self, params, Data data not None, order, grad, dx=None, dstate=None, poll=None, own_loss=None):
        """(status, loss); writes the gradient into grad; see bptt_loss_grad."""
        cdef Buffers b = Buffers()
        cdef const void *w = take_reals(b, params, self.dtype, self.size, False)
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef void *g = take_reals(b, grad, self.dtype, self.size, True)
        cdef void *dx_ = take_reals(b, dx, self.dtype, data.items, True)
        cdef void *ds_ = take_reals(b, dstate, self.dtype, data.sequences * self.state_size, True)
        cdef int64_t n = len(order)
        cdef double loss = 0
        cdef bptt_status status
        cdef bptt_own_loss own
        cdef bptt_data all_data = data.c
        if own_loss is not None:
            self.give_loss(own_loss, data, rows, n, &own, b)
            all_data.own_loss = &own
        self.enter(data, poll)
        with nogil:
            status = bptt_loss_grad(self.c, w, &all_data, rows, n, &loss, g, dx_, ds_, on_poll, <void *>self)
        return self.leave(status, 0), loss

    def gauss_newton(self, params, Data data not None, order, gram, jacobian=None, poll=None):
        """The status; writes the upper triangle of [J r]'[J r] into gram (P+1, P+1); see bptt_gauss_newton."""
        cdef Buffers b = Buffers()
        cdef const void *w = take_reals(b, params, self.dtype, self.size, False)
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef void *g = take_reals(b, gram, self.dtype, (self.size + 1) ** 2, True)
        cdef void *j = take_reals(b, jacobian, self.dtype, -1, True)
        cdef int64_t n = len(order)
        cdef bptt_status status
        self.enter(data, poll)
        with nogil:
            status = bptt_gauss_newton(self.c, w, &data.c, rows, n, g, j, on_poll, <void *>self)
        return self.leave(status, 0)

    def gram(self, a, out, poll=None):
        """The status; adds the upper triangle of a'a to `out`; see bptt_gram."""
        cdef Buffers b = Buffers()
        cdef int64_t rows = a.shape[0], width = a.shape[1]
        cdef const void *factor = take_reals(b, a, self.dtype, rows * width, False)
        cdef void *product = take_reals(b, out, self.dtype, width * width, True)
        cdef bptt_status status
        self.begin(poll)
        with nogil:
            status = bptt_gram(self.c, factor, rows, width, product, on_poll, <void *>self)
        return self.leave(status, 0)

    def solve(self, rows, x, poll=None):
        """The status; writes the solution of the equations in `rows`, which are overwritten, into x; see bptt_solve."""
        cdef Buffers b = Buffers()
        cdef int64_t n = x.shape[0], width = rows.shape[0]
        cdef void *matrix = take_reals(b, rows, self.dtype, width * width, True)
        cdef void *solution = take_reals(b, x, self.dtype, n, True)
        cdef bptt_status status
        self.begin(poll)
        with nogil:
            status = bptt_solve(self.c, matrix, n, width, solution, on_poll, <void *>self)
        return self.leave(status, 0)

    def set_rules(self, low, high, penalties):
        """Set bounds (P,) and penalties (blocks, 4) of the updates to come; see bptt_set_rules."""
        cdef Buffers b = Buffers()
        cdef bptt_status status = bptt_set_rules(
            self.c, take_reals(b, low, self.dtype, self.size, False), take_reals(b, high, self.dtype, self.size, False),
            <const bptt_penalty *>take_reals(b, penalties, "float64", 4 * self.count, False))
        if status != BPTT_OK:
            raise ValueError(message(STATUS[status]))

    def updates(self, Data data not None, order, batch=None):
        """The number of updates in an epoch over these sequences; `batch`: of batches in shards, of so many sequences."""
        cdef Buffers b = Buffers()
        cdef bptt_shards parts
        cdef bptt_data all_data = data.c
        if batch is not None:
            parts.batch = batch
            all_data.shards = &parts
        return bptt_updates(self.c, &all_data, take_order(b, order, data.sequences), len(order))

    def epoch(self, params, opt_state, dict hyper not None, Data data not None, order, losses, weights, state=None, poll=None,
              own_loss=None, shards=None):
        """(status, finished updates); see bptt_epoch."""
        cdef Buffers b = Buffers()
        cdef bptt_hyper h
        cdef bptt_own_loss own
        cdef bptt_shards parts
        cdef bptt_data all_data = data.c
        if shards is not None:
            self.give_shards(shards, &parts, b)
            all_data.shards = &parts
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef int64_t n = len(order), done = 0, needed = bptt_updates(self.c, &all_data, rows, n)
        cdef list _texts = read_hyper(hyper, &h, b, needed)
        cdef void *w = take_reals(b, params, self.dtype, self.size, True)
        cdef void *vectors = take_reals(b, opt_state, self.dtype, state_vectors(hyper["optimizer"]) * self.size, True)
        cdef double *loss = <double *>take_reals(b, losses, "float64", -1, True)
        cdef double *weight = <double *>take_reals(b, weights, "float64", -1, True)
        cdef void *states = take_reals(b, state, self.dtype, data.sequences * self.state_size, True)
        cdef bptt_status status
        if min(len(losses), len(weights)) < needed:
            raise ValueError(f"expected losses and weights of at least {needed} items, got {len(losses)} and {len(weights)}")
        if own_loss is not None:
            self.give_loss(own_loss, data, rows, n, &own, b)
            all_data.own_loss = &own
        self.enter(data, poll)
        with nogil:
            status = bptt_epoch(self.c, w, vectors, &h, &all_data, rows, n, loss, weight, states, &done, on_poll, <void *>self)
        hyper.update(carried_of(&h))
        return self.leave(status, done), done

    def slide(self, params, opt_state, dict hyper not None, Data data not None, order, int64_t k, int64_t lead, losses, poll=None):
        """(status, finished patterns); see bptt_slide."""
        cdef Buffers b = Buffers()
        cdef bptt_hyper h
        cdef list _texts = read_hyper(hyper, &h, b, len(losses))
        cdef void *w = take_reals(b, params, self.dtype, self.size, True)
        cdef void *vectors = take_reals(b, opt_state, self.dtype, state_vectors(hyper["optimizer"]) * self.size, True)
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef double *loss = <double *>take_reals(b, losses, "float64", -1, True)
        cdef int64_t n = len(order), done = 0
        cdef bptt_status status
        self.enter(data, poll)
        with nogil:
            status = bptt_slide(self.c, w, vectors, &h, &data.c, rows, n, k, lead, loss, &done, on_poll, <void *>self)
        hyper.update(carried_of(&h))
        return self.leave(status, done), done

    def slide_copies(self, list copies not None, Data data not None, order, int64_t k, int64_t lead, poll=None):
        """(status, finished patterns) of each copy, which is (params, opt_state, hyper, losses); see bptt_slide_copies."""
        cdef Buffers b = Buffers()
        cdef bptt_copy *c = <bptt_copy *>malloc(max(1, len(copies)) * (sizeof(bptt_copy) + sizeof(bptt_hyper)))
        cdef bptt_hyper *h
        cdef const int64_t *rows
        cdef int64_t n = len(order), count = len(copies), i
        cdef list texts = []
        cdef bptt_status status
        if c == NULL:
            raise MemoryError
        h = <bptt_hyper *>(c + max(1, count))
        try:
            rows = take_order(b, order, data.sequences)
            for i, (params, opt_state, hyper, losses) in enumerate(copies):
                texts.append(read_hyper(hyper, &h[i], b, len(losses)))
                c[i].numbers = &h[i]
                c[i].params = take_reals(b, params, self.dtype, self.size, True)
                c[i].opt_state = take_reals(
                    b, opt_state, self.dtype, state_vectors(hyper["optimizer"]) * self.size, True)
                c[i].loss = <double *>take_reals(b, losses, "float64", -1, True)
            self.enter(data, poll)
            with nogil:
                status = bptt_slide_copies(self.c, c, count, &data.c, rows, n, k, lead, on_poll, <void *>self)
            for i, (_, _, hyper, _) in enumerate(copies):
                hyper.update(carried_of(&h[i]))
            self.leave(status, 0)
            return [(STATUS[c[i].status], c[i].done) for i in range(count)]
        finally:
            free(c)


cdef class Tape(Plan):
    """A plan for automatic differentiation in other libraries; see bptt_forward and bptt_backward.

    Arrays are passed as addresses, 0 for none.  The memory must be contiguous and of the plan's dtype; the caller keeps it
    alive and has checked its size.  The readout is "every".
    """

    def __init__(self, desc, **how):
        Plan.__init__(self, desc, readout_every_step=True, **how)
        cdef OwnCell own = desc.get("own_cell")
        self.kinds = (cells()[desc["cell"]] if own is None else own.properties)["states"]

    def lay(self, offset, length, start):
        """Set where the steps of the following batches lie, as in Data."""
        cdef Buffers b = Buffers()
        self.sequences = len(offset)
        self.data.offset = self.data.target_offset = take_integers(b, offset, self.sequences)
        self.data.length = take_integers(b, length, self.sequences)
        self.data.start = take_integers(b, start, -1)
        self.buffers = b

    def forward(self, size_t x, tuple params, tuple initial, size_t y, tuple final, bint keep, uint64_t draw):
        """Compute outputs and final states; `keep` retains the tape for `backward`."""
        cdef void *blocks[MANY_PIECES]
        cdef void *before[2]
        cdef void *after[2]
        cdef bptt_forward_arrays arrays
        cdef bptt_status status
        arrays.params = <const void *const *>addresses(params, blocks, self.count)
        arrays.initial = <const void *const *>addresses(initial, before, self.kinds)
        arrays.y, arrays.final, arrays.keep, arrays.draw = <void *>y, addresses(final, after, self.kinds), keep, draw
        self.begin(None)
        self.data.values = <void *>x
        with nogil:
            status = bptt_forward(self.c, &self.data, self.sequences, &arrays, on_poll, <void *>self)
        return self.leave(status, 0)

    def backward(self, size_t dy, tuple dfinal, tuple grad, size_t dx, tuple dinitial):
        """Compute the gradients of the outputs and final states of the last `forward`."""
        cdef void *blocks[MANY_PIECES]
        cdef void *after[2]
        cdef void *before[2]
        cdef bptt_backward_arrays arrays
        cdef bptt_status status
        arrays.dy, arrays.dfinal = <void *>dy, <const void *const *>addresses(dfinal, after, self.kinds)
        arrays.grad, arrays.dx = addresses(grad, blocks, self.count), <void *>dx
        arrays.dinitial = addresses(dinitial, before, self.kinds)
        self.begin(None)
        with nogil:
            status = bptt_backward(self.c, &self.data, self.sequences, &arrays, on_poll, <void *>self)
        return self.leave(status, 0)


cdef void **addresses(tuple numbers, void **out, Py_ssize_t count) except? NULL:
    """A table of addresses; NULL for None."""
    cdef Py_ssize_t i
    if numbers is None:
        return NULL
    if len(numbers) != count:
        raise ValueError(f"expected {count} addresses, got {len(numbers)}")
    for i in range(count):
        out[i] = <void *><size_t>numbers[i]
    return out


cdef int predict(
        Plan plan, const void *params, const bptt_data *data, const int64_t *order, int64_t n,
        bint every_step, void *y, void *state) except -1 nogil:
    cdef bptt_status status = bptt_predict(plan.c, params, data, order, n, every_step, y, state, NULL, NULL)
    if status != BPTT_OK:
        with gil:
            raise ValueError(message(STATUS[status]))
    return 0


cdef list read_hyper(dict hyper, bptt_hyper *h, Buffers buffers, int64_t updates):
    """Fill a bptt_hyper from values by name; the returned texts must outlive it."""
    cdef const bptt_field *field
    cdef list texts = []
    cdef int place
    cdef Py_ssize_t known = 0
    memset(h, 0, sizeof(bptt_hyper))
    for place, name in enumerate(HYPER):
        field = &bptt_hyper_fields[place]
        known += name in hyper
        if field.kind == BPTT_REALS:
            values = hyper.get(name)
            if values is not None and len(values) < updates:
                raise ValueError(f"expected at least {updates} {name}, got {len(values)}")
            bptt_set_pointer(h, field, 0, take_reals(buffers, values, "float64", -1, False))
        else:
            set_field(h, field, 0, hyper.get(name, None if field.kind == BPTT_TEXT else field.initial), texts)
    if known < len(hyper):
        raise TypeError(f"unknown hyperparameters {sorted(hyper.keys() - set(HYPER))}; there are {', '.join(HYPER)}")
    return texts


cdef dict carried_of(const bptt_hyper *h):
    """Scalars that an optimiser carries from update to update, in addition to its state vectors, by name."""
    cdef const bptt_field *field
    cdef dict carried = {}
    cdef int place
    for place, name in enumerate(HYPER):
        field = &bptt_hyper_fields[place]
        if field.carried:
            number = bptt_get_number(h, field, 0)
            carried[name] = int(number) if field.kind == BPTT_INTEGER else number
    return carried


cdef class Rows:
    """Base of streams and learners: a plan of their own, and the check of an input row before any state changes.

    A `heavy` step has at least HEAVY_WORK multiply-adds: it releases the GIL and hears signals, which takes time.
    Rows that cannot be used as they are raise no exception: one takes longer than a step, and since the module of the
    stable ABI makes a traceback by running Python code, a Ctrl-C of that moment is lost.
    """

    cdef const void *take_row(self, object array, Py_buffer *view, int64_t items) except? NULL:
        """Address of `items` finite reals of the plan's dtype, (items,) or (batch, items / batch); NULL: there are none.

        Those of the other dtype are converted into an array, which `view` is then of.  `view` is the caller's to release.
        """
        cdef bint wide = self.plan.dtype == "float64", valid
        cdef Py_ssize_t batch = self.plan.batch, size = 8 if wide else 4
        cdef Py_buffer to
        cdef int64_t i
        if type(array) is not array_type and (not PyObject_CheckBuffer(array) or hasattr(array, "mask")):
            return NULL
        if buffer_of(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0:
            if PyErr_ExceptionMatches(Exception):
                PyErr_Clear()
            return NULL
        valid = view.format != NULL and (view.format[0] == c"d" or view.format[0] == c"f") and view.format[1] == 0
        valid = valid and view.len == items * view.itemsize and <Py_ssize_t>view.buf & (view.itemsize - 1) == 0
        valid = valid and (view.shape[0] == batch if view.ndim == 2 else view.ndim < 2 and batch == 1)
        if valid and view.itemsize != size:
            try:
                converted = empty(items, self.plan.dtype)
                PyObject_GetBuffer(converted, &to, PyBUF_WRITABLE)
                for i in range(items):
                    if wide:
                        (<double *>to.buf)[i] = (<const float *>view.buf)[i]
                    else:
                        (<float *>to.buf)[i] = <float>(<const double *>view.buf)[i]
                PyBuffer_Release(&to)
            finally:
                PyBuffer_Release(view)
            PyObject_GetBuffer(converted, view, PyBUF_C_CONTIGUOUS)
        if valid:
            for i in range(items):
                if wide:
                    valid &= isfinite((<const double *>view.buf)[i])
                else:
                    valid &= isfinite((<const float *>view.buf)[i])
        if not valid:
            PyBuffer_Release(view)
            return NULL
        return view.buf

    cdef const void *take_inputs(self, object array, Py_buffer *view) except? NULL:
        """`take_row` of the inputs, of which the last of each row must be integers in their ranges: the categories."""
        cdef const void *row = self.take_row(array, view, self.inputs)
        cdef bint wide = self.plan.dtype == "float64"
        cdef int64_t width, first, i, size
        cdef double value
        if row == NULL or not self.categories:
            return row
        width = self.plan.desc["input_size"]
        for first in range(width - len(self.categories), self.inputs, width):
            for i, size in enumerate(self.categories, first):
                value = (<const double *>row)[i] if wide else (<const float *>row)[i]
                if not (0 <= value < size and value == <double><int64_t>value):
                    PyBuffer_Release(view)
                    return NULL
        return row


cdef class Stream(Rows):
    """A network that runs one step per call; see bptt_stream_step.  The weights are loaded by the constructor and by `reset`."""

    def __init__(self, desc, params, batch=1, isa=None):
        self.plan = Plan(desc, batch=batch, steps=1, isa=isa)
        self.inputs, self.outputs = batch * desc["input_size"], batch * desc["output_size"]
        self.categories = tuple(desc.get("categories", ()))
        self.shape = (desc["output_size"],) if batch == 1 else (batch, desc["output_size"])
        self.state_shape = (self.plan.state_size,) if batch == 1 else (batch, self.plan.state_size)
        self.heavy = <double>self.plan.size * batch > HEAVY_WORK
        self.reset(params)

    def reset(self, params):
        """Reset to the initial state and load the weights."""
        cdef Buffers b = Buffers()
        cdef bptt_status status = bptt_stream_start(self.plan.c, take_reals(b, params, self.plan.dtype, self.plan.size, False))
        if status != BPTT_OK:
            raise ValueError(message(STATUS[status]))

    def step(self, x):
        """Run one step: x (I,) or (batch, I) to y (O,) or (batch, O); ArithmeticError, and the old state, if y is not finite.

        None, and nothing has happened, if x is not a contiguous array of valid inputs, float32 or float64.
        """
        cdef Py_buffer from_view, to_view
        cdef bptt_status status
        cdef const void *source = self.take_inputs(x, &from_view)
        if source == NULL:
            return None
        try:
            y = empty(self.shape, self.plan.dtype)
            if self.heavy:
                if self.run(x, 1, y) == "DIVERGED":
                    raise ArithmeticError("an output is not finite")
                return y
            PyObject_GetBuffer(y, &to_view, PyBUF_WRITABLE)
            status = bptt_stream_run(self.plan.c, source, 1, to_view.buf, NULL, NULL)
            PyBuffer_Release(&to_view)
            if status == BPTT_DIVERGED:
                raise ArithmeticError("an output is not finite")
            return y
        finally:
            PyBuffer_Release(&from_view)

    def run(self, x, int64_t steps, y):
        """Run `steps` steps, feeding each output back as the next input; the status.

        x (batch, I) is the first input; the outputs are written into y (steps, batch, O).
        """
        cdef Py_buffer view
        cdef Buffers b = Buffers()
        cdef void *out = take_reals(b, y, self.plan.dtype, steps * self.outputs, True)
        cdef const void *source = self.take_inputs(x, &view)
        cdef bptt_status status
        if source == NULL:
            raise ValueError("expected a contiguous array of valid inputs")
        try:
            self.plan.begin(None)
            with nogil:
                status = bptt_stream_run(self.plan.c, source, steps, out, on_poll, <void *>self.plan)
            return self.plan.leave(status, 0)
        finally:
            PyBuffer_Release(&view)

    @property
    def state(self):
        """A copy of the state."""
        cdef Buffers b = Buffers()
        state = empty(self.state_shape, self.plan.dtype)
        bptt_stream_get(self.plan.c, take_reals(b, state, self.plan.dtype, -1, True))
        return state

    @state.setter
    def state(self, value):
        cdef Buffers b = Buffers()
        cdef Py_ssize_t items = self.plan.state_size * self.inputs // self.plan.desc["input_size"]
        bptt_stream_set(self.plan.c, take_reals(b, value, self.plan.dtype, items, False))


cdef int64_t class_of(object y) except? -1:
    """The class, or -1 if it is no integer."""
    cdef Py_ssize_t chosen = index_of(y, NULL) if is_index(y) else -1
    if chosen == -1 and PyErr_ExceptionMatches(Exception):  # an array
        PyErr_Clear()
    return chosen


cdef void step(Stream stream, const void *x, void *y) noexcept nogil:
    bptt_stream_run(stream.plan.c, x, 1, y, NULL, NULL)


cdef class Learner(Rows):
    """The classical online algorithm, one observation per call; see bptt_learn."""

    def __init__(self, desc, params, opt_state, dict hyper not None, k, lead, dict loss not None, isa=None, window=None,
                 state=None, tuple rules=None):
        cdef Buffers b = Buffers()
        cdef bptt_status status
        cdef const void *w
        cdef const void *vectors
        cdef const void *rows
        cdef const void *context
        self.plan = Plan(desc, **loss, steps=k + lead, isa=isa, rules=rules is not None)
        if rules is not None:
            self.plan.set_rules(*rules)
        self.inputs, self.outputs = desc["input_size"], desc["output_size"]
        self.categories = tuple(desc.get("categories", ()))
        row = losses()[loss["loss"]]
        self.classes = row["targets"] == "class"
        self.targets = self.outputs // (row["outputs"] or len(loss["loss_parameter"]))
        self.texts = read_hyper(hyper, &self.hyper, b, 0)
        self.hyper.rates = NULL
        self.first_step, self.seen, self.diverged = self.hyper.step, 0, False
        self.c.k, self.c.lead, self.c.rows = k, lead, 0 if window is None else len(window)
        self.heavy = <double>self.plan.size * k > HEAVY_WORK
        w = take_reals(b, params, self.plan.dtype, self.plan.size, False)
        vectors = take_reals(b, opt_state, self.plan.dtype, state_vectors(hyper["optimizer"]) * self.plan.size, False)
        rows = take_reals(b, window, self.plan.dtype, self.c.rows * self.inputs, False)
        context = take_reals(b, state, self.plan.dtype, self.plan.state_size, False)
        status = bptt_learn_start(self.plan.c, w, vectors, &self.hyper, &self.c, rows, context)
        if status != BPTT_OK:
            raise ValueError(message(STATUS[status]))

    def observe(self, x, y=None, double weight=1.0):
        """Train on the pattern that this row completes; its loss, or nan if there is no complete pattern or no target.

        None, and nothing has happened, if x or y is not a contiguous array of valid numbers in the plan's dtype, or y no class.
        """
        cdef Py_buffer x_view, y_view
        cdef const void *row
        cdef const void *target = NULL
        cdef int64_t chosen = 0
        cdef double loss
        cdef bptt_status status
        if y is None:
            weight = 0
        elif self.classes:
            chosen = class_of(y)
            if not 0 <= chosen < self.outputs:
                return None
        else:
            target = self.take_row(y, &y_view, self.targets)
            if target == NULL:
                return None
        try:
            row = self.take_inputs(x, &x_view)
            if row == NULL:
                return None
            try:
                if self.heavy:
                    status = self.heavy_step(row, target, chosen, weight, &loss)
                else:
                    status = bptt_learn(self.plan.c, &self.hyper, &self.c, row, target, chosen, weight, &loss, NULL, NULL)
            finally:
                PyBuffer_Release(&x_view)
        finally:
            if target != NULL:
                PyBuffer_Release(&y_view)
        self.seen += 1
        self.diverged = status == BPTT_DIVERGED
        return loss

    cdef bptt_status heavy_step(
            self, const void *x, const void *y, int64_t chosen, double weight, double *loss) except *:
        cdef bptt_status status
        self.plan.begin(None)
        with nogil:
            status = bptt_learn(
                self.plan.c, &self.hyper, &self.c, x, y, chosen, weight, loss, on_poll, <void *>self.plan)
        self.plan.leave(status, 0)
        return status

    def status(self):
        """The status of the last observation: "OK" or "DIVERGED"."""
        return "DIVERGED" if self.diverged else "OK"

    @property
    def updates(self):
        """The number of updates of this learner."""
        return self.hyper.step - self.first_step

    @property
    def carried(self):
        """Scalars that the optimiser carries from update to update, in addition to its state vectors, by name."""
        return carried_of(&self.hyper)

    def store(self, params, opt_state):
        """Copy the current weights and the optimiser's state vectors into the caller's arrays."""
        cdef Buffers b = Buffers()
        cdef void *w = take_reals(b, params, self.plan.dtype, self.plan.size, True)
        bptt_learn_store(self.plan.c, &self.hyper, w, take_reals(b, opt_state, self.plan.dtype, -1, True))

    cdef tuple snapshot(self):
        cdef Buffers b = Buffers()
        window = empty((self.c.rows, self.inputs), self.plan.dtype)
        state = empty((self.plan.state_size,), self.plan.dtype)
        cdef void *rows = take_reals(b, window, self.plan.dtype, -1, True)
        bptt_learn_window(self.plan.c, &self.c, rows, take_reals(b, state, self.plan.dtype, -1, True))
        return window, state

    @property
    def window(self):
        """The rows of the current window, (rows, I)."""
        return self.snapshot()[0]

    @property
    def state(self):
        """The context (state_size,): the state before the window."""
        return self.snapshot()[1]
