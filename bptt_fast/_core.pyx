"""The bridge to csrc: plans, data, calls without the GIL, status codes.  It knows bptt.h and buffers, nothing of the package."""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import numpy

STATUS = {
    BPTT_OK: "OK", BPTT_BAD_DESC: "BAD_DESC", BPTT_TOO_LARGE: "TOO_LARGE", BPTT_CAPACITY: "CAPACITY",
    BPTT_BAD_ARENA: "BAD_ARENA", BPTT_UNSUPPORTED: "UNSUPPORTED", BPTT_DIVERGED: "DIVERGED", BPTT_INTERRUPTED: "INTERRUPTED",
}
cdef double POLL_SECONDS = 0.03
cdef enum:
    MANY_PIECES = 4096


cdef double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + 1e-9 * t.tv_nsec


cdef class View:
    """One borrowed buffer, given back when it is forgotten."""

    cdef Py_buffer view
    cdef bint taken

    def __cinit__(self, array, int flags):
        PyObject_GetBuffer(array, &self.view, flags)
        self.taken = True

    def __dealloc__(self):
        if self.taken:
            PyBuffer_Release(&self.view)


cdef class Buffers:
    """Borrowed buffers, kept until the end of a call (or of a Data)."""

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
    """

    def __init__(self, values, offset, length, target_offset, targets=None, classes=None, weight=None, state=None):
        cdef Buffers b = Buffers()
        cdef Py_ssize_t i
        cdef str dtype = str(values.dtype)
        if dtype not in ("float32", "float64"):
            raise TypeError(f"expected values of float32 or float64, got {dtype}")
        self.buffers, self.dtype, self.sequences = b, dtype, len(offset)
        self.c.values = take_reals(b, values, dtype, -1, False)
        self.c.offset = take_integers(b, offset, self.sequences)
        self.c.length = take_integers(b, length, self.sequences)
        self.c.target_offset = take_integers(b, target_offset, self.sequences)
        self.c.targets = take_reals(b, targets, dtype, -1, False)
        self.c.classes = take_integers(b, classes, -1)
        self.c.weight = take_reals(b, weight, dtype, -1, False)
        self.c.state = take_reals(b, state, dtype, -1, False)
        self.items, self.rows = values.size, 0
        for i in range(self.sequences):
            if self.c.offset[i] < 0 or self.c.length[i] < 1 or self.c.target_offset[i] < 0:
                raise ValueError(f"sequence {i}: expected a length above 0 and no negative offset, got length {self.c.length[i]}")
            self.rows = max(self.rows, self.c.offset[i] + self.c.length[i])


cdef class Desc:
    """A bptt_desc and the strings it points to."""

    cdef bptt_desc c
    cdef list names

    cdef const char *name(self, value) except? NULL:
        if value is None:
            return NULL
        cdef bytes text = str(value).encode()
        self.names.append(text)
        return text

    def __init__(self, desc, loss=None, bint every=False, batch=1, steps=1, int threads=1, isa=None, bint input_gradient=False,
                 residuals=0):
        cdef bptt_desc *c = &self.c
        self.names = []
        memset(c, 0, sizeof(bptt_desc))
        f, head, activation = desc.get("f", ()), desc.get("head", ()), desc.get("activation", ())
        if max(len(f), len(head), len(activation)) >= BPTT_MAX_DEPTH:
            raise ValueError(f"at most {BPTT_MAX_DEPTH - 1} layers in f and in head, got {max(len(f), len(head))}")
        c.cell, c.dtype, c.isa, c.loss = self.name(desc["cell"]), self.name(desc["dtype"]), self.name(isa), self.name(loss)
        for i, value in enumerate(activation):
            c.activation[i] = self.name(value)
        c.depth, c.head_depth = len(f), len(head)
        for i, value in enumerate(f):
            c.width[i] = value
        for i, value in enumerate(head):
            c.head_width[i] = value
        c.head_activation = self.name(desc.get("head_activation"))
        c.input_size, c.hidden_size, c.output_size = desc["input_size"], desc["hidden_size"], desc["output_size"]
        c.layers, c.bidirectional = desc.get("num_layers", 1), desc.get("bidirectional", False)
        c.reset_before, c.peephole = desc.get("reset", "after") == "before", desc.get("peephole", False)
        c.proj_size, c.seed = desc.get("proj_size", 0), desc.get("seed", 0)
        c.dropout, c.recurrent_dropout = desc.get("dropout", 0.0), desc.get("recurrent_dropout", 0.0)
        c.every, c.input_gradient, c.batch, c.steps, c.threads = every, input_gradient, batch, steps, threads
        c.residuals = residuals


cdef list pieces(bptt_piece *first, int64_t count):
    return [(first[i].name.decode(), first[i].rows, first[i].cols, first[i].offset, first[i].bytes) for i in range(count)]


def blocks(desc):
    """Parameter blocks [(name, rows, cols, offset)] of a description; cols 0 is a vector."""
    cdef Desc d = Desc(desc)
    cdef bptt_piece *out = <bptt_piece *>malloc(MANY_PIECES * sizeof(bptt_piece))
    if out == NULL:
        raise MemoryError
    try:
        count = bptt_blocks(&d.c, out, MANY_PIECES)
        if count < 0:
            raise ValueError(message("BAD_DESC"))
        return [piece[:4] for piece in pieces(out, count)]
    finally:
        free(out)


def size(desc):
    """Number of parameters P of a description."""
    cdef Desc d = Desc(desc)
    count = bptt_size(&d.c)
    if count < 0:
        raise ValueError(message("BAD_DESC"))
    return count


def state_size(desc):
    """Number of reals in the state of one sequence."""
    cdef Desc d = Desc(desc)
    return bptt_state_size(&d.c)


def slots(str optimizer):
    """Vectors of P reals that an optimiser keeps."""
    count = bptt_slots(optimizer.encode())
    if count < 0:
        raise ValueError(f"unknown optimizer {optimizer!r}")
    return count


def message(str status):
    """A status in words."""
    for code, name in STATUS.items():
        if name == status:
            return bptt_message(code).decode()
    raise ValueError(f"unknown status {status!r}")


def isas():
    """Instruction sets that this build and this CPU have, the best last."""
    return tuple(name for name in ("base", "avx2", "avx512") if bptt_supports(name.encode()))


def apply(str function, x, isa=None):
    """A vector function of the kernels by itself, for its tests: "tanh", "sigmoid" or "exp" of a contiguous array."""
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


cdef class Plan:
    """A network's description with an arena for batches of up to `batch` sequences of up to `steps` steps.

    A plan serves one caller at a time.  Every method takes the flat parameters and arrays of the plan's dtype, releases the
    GIL, and gives a status name; `poll(done)` is called every 30 ms or so, a true result stops the run.
    """

    def __init__(self, desc, *, loss="mse", every=False, batch=1, steps=1, threads=1, isa=None, input_gradient=False,
                 residuals=0):
        cdef Desc d = Desc(desc, loss, every, batch, steps, threads, isa, input_gradient, residuals)
        cdef size_t bytes_ = bptt_bytes(&d.c)
        cdef bptt_status status
        cdef uint8_t[::1] arena
        if bytes_ == 0:
            causes = ", or ".join(message(name) for name in ("BAD_DESC", "TOO_LARGE", "UNSUPPORTED"))
            raise ValueError(f"cannot plan: {causes}")
        raw = numpy.empty(bytes_ + 63, dtype=numpy.uint8)
        start = -raw.ctypes.data % 64
        self.arena = raw[start:start + bytes_]
        arena = self.arena
        status = bptt_make_plan(&d.c, &arena[0], bytes_, &self.c)
        if status != BPTT_OK:
            raise ValueError(f"cannot plan: {message(STATUS[status])}")
        self.desc, self.dtype, self.nbytes = desc, desc["dtype"], bytes_
        self.size, self.state_size = bptt_size(&d.c), bptt_state_size(&d.c)

    @property
    def isa(self):
        """The instance in use."""
        return bptt_isa(self.c).decode()

    @property
    def threads(self):
        """The number of threads a run asks for."""
        return bptt_threads(self.c)

    def views(self):
        """Pieces of the arena at full capacity: [(name, offset, bytes)]."""
        cdef bptt_piece *out = <bptt_piece *>malloc(MANY_PIECES * sizeof(bptt_piece))
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
            return 1

    cdef int enter(self, Data data, object callback) except -1:
        if self.running:
            raise RuntimeError("this plan is in use by another thread; make one plan a thread")
        if data.dtype != self.dtype:
            raise TypeError(f"the plan computes in {self.dtype}, the data are {data.dtype}")
        if data.rows * self.desc["input_size"] > data.items:
            raise ValueError(f"the sequences take {data.rows} rows of {self.desc['input_size']}, values hold {data.items} items")
        self.running, self.callback, self.pending, self.polled = True, callback, None, now()
        return 0

    cdef str leave(self, bptt_status status, int64_t done):
        self.running, self.callback = False, None
        if self.pending is not None:
            error, self.pending = self.pending, None
            error.done = done
            raise error
        if status not in (BPTT_OK, BPTT_DIVERGED, BPTT_INTERRUPTED):
            raise ValueError(message(STATUS[status]))
        return STATUS[status]

    def predict(self, params, Data data not None, order, y, bint every=False, state=None, poll=None):
        """g's outputs into y, final states into `state`; see bptt_predict."""
        cdef Buffers b = Buffers()
        cdef const void *w = take_reals(b, params, self.dtype, self.size, False)
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef void *out = take_reals(b, y, self.dtype, -1, True)
        cdef void *states = take_reals(b, state, self.dtype, data.sequences * self.state_size, True)
        cdef int64_t n = len(order)
        cdef bptt_status status
        self.enter(data, poll)
        with nogil:
            status = bptt_predict(self.c, w, &data.c, rows, n, every, out, states, on_poll, <void *>self)
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

    def loss_and_grad(self, params, Data data not None, order, grad, dx=None, dstate=None, poll=None):
        """(status, loss), the gradient into grad; see bptt_loss_grad."""
        cdef Buffers b = Buffers()
        cdef const void *w = take_reals(b, params, self.dtype, self.size, False)
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef void *g = take_reals(b, grad, self.dtype, self.size, True)
        cdef void *dx_ = take_reals(b, dx, self.dtype, data.items, True)
        cdef void *ds_ = take_reals(b, dstate, self.dtype, data.sequences * self.state_size, True)
        cdef int64_t n = len(order)
        cdef double loss = 0
        cdef bptt_status status
        self.enter(data, poll)
        with nogil:
            status = bptt_loss_grad(self.c, w, &data.c, rows, n, &loss, g, dx_, ds_, on_poll, <void *>self)
        return self.leave(status, 0), loss

    def gauss_newton(self, params, Data data not None, order, gram, jacobian=None, poll=None):
        """The status; the upper triangle of [J r]'[J r] into gram (P+1, P+1); see bptt_gauss_newton."""
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

    def epoch(self, params, opt_state, dict hyper not None, Data data not None, order, loss, poll=None):
        """(status, finished batches); see bptt_epoch."""
        return self.train(params, opt_state, hyper, data, order, 0, 0, loss, poll)

    def slide(self, params, opt_state, dict hyper not None, Data data not None, order, k, lead, loss, poll=None):
        """(status, finished patterns); see bptt_slide."""
        return self.train(params, opt_state, hyper, data, order, k, lead, loss, poll)

    def train(self, params, opt_state, dict hyper not None, Data data not None, order, int64_t k, int64_t lead, losses, poll=None):
        """Minibatches (k = 0) or the online algorithm."""
        cdef Buffers b = Buffers()
        cdef bptt_hyper h
        cdef bytes name = hyper["optimizer"].encode()
        cdef void *w = take_reals(b, params, self.dtype, self.size, True)
        cdef void *kept = take_reals(b, opt_state, self.dtype, slots(hyper["optimizer"]) * self.size, True)
        cdef const int64_t *rows = take_order(b, order, data.sequences)
        cdef double *loss = <double *>take_reals(b, losses, "float64", -1, True)
        cdef int64_t n = len(order), done = 0
        cdef bptt_status status
        h.optimizer, h.learning_rate = name, hyper["learning_rate"]
        h.momentum, h.weight_decay = hyper.get("momentum", 0.0), hyper.get("weight_decay", 0.0)
        h.beta1, h.beta2, h.eps = hyper.get("beta1", 0.0), hyper.get("beta2", 0.0), hyper.get("eps", 0.0)
        h.nesterov, h.clip_norm, h.step = hyper.get("nesterov", False), hyper.get("clip_norm", 0.0), hyper.get("step", 0)
        self.enter(data, poll)
        with nogil:
            if k:
                status = bptt_slide(self.c, w, kept, &h, &data.c, rows, n, k, lead, loss, &done, on_poll, <void *>self)
            else:
                status = bptt_epoch(self.c, w, kept, &h, &data.c, rows, n, loss, &done, on_poll, <void *>self)
        hyper["step"] = h.step
        return self.leave(status, done), done
