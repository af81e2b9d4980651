# cython: language_level=3, boundscheck=False, wraparound=False
"""Two loops that run a trained network without the GIL: many series step by step, and a large array in batches."""

from libc.stdint cimport int64_t

from bptt_fast._core cimport Data, Plan, Stream, predict, step

import numpy as np


def surprise(net, const float[:, :, ::1] series):
    """The error of one-step predictions for each of many series, which are computed in parallel.

    Parameters
    ----------
    net : bptt_fast.Network
        float32, forward in time, with as many outputs as inputs.
    series : array (T, B, I) of float32
        Time first.

    Returns
    -------
    errors : ndarray (B,) of float64
        The mean squared error of the predictions of rows 1 to T-1.
    """
    cdef Py_ssize_t steps = series.shape[0], many = series.shape[1], width = series.shape[2], t, b, i
    if (net.dtype, net.input_size, net.output_size) != (np.float32, width, width) or steps < 2 or many < 1:
        raise ValueError(f"expected a float32 network {width} -> {width} and series (T > 1, B > 0, {width}), "
                         f"got a {net.dtype} network {net.input_size} -> {net.output_size} and {(steps, many, width)}")
    cdef Stream stream = Stream(net.description.core(), net.params, many)
    cdef float[:, ::1] predicted = np.empty((many, width), np.float32)
    cdef double[::1] errors = np.zeros(many)
    with nogil:
        for t in range(steps - 1):
            step(stream, &series[t, 0, 0], &predicted[0, 0])
            for b in range(many):
                for i in range(width):
                    errors[b] += (predicted[b, i] - series[t + 1, b, i]) ** 2
    return np.asarray(errors) / ((steps - 1) * width)


def census(net, const float[:, :, ::1] x, Py_ssize_t batch=256):
    """The number of sequences that a classifier assigns to each class, with memory for `batch` outputs only.

    Parameters
    ----------
    net : bptt_fast.Network
        float32; the predicted class is the largest output of the last step.
    x : array (n, T, I) of float32
    batch : int, default 256

    Returns
    -------
    counts : ndarray (O,) of int64
    """
    cdef Py_ssize_t n = x.shape[0], steps = x.shape[1], width = x.shape[2], classes = net.output_size, first = 0, size, b
    if (net.dtype, net.input_size) != (np.float32, width) or min(n, steps, batch) < 1:
        raise ValueError(f"expected a float32 network of {width} inputs, x (n > 0, T > 0, {width}) and batch > 0, "
                         f"got a {net.dtype} network of {net.input_size}, {(n, steps, width)} and {batch}")
    order_ = np.arange(n)
    cdef Plan plan = Plan(net.description.core(), batch=batch, steps=steps)
    cdef Data data = Data(np.asarray(x), order_ * steps, np.full(n, steps), order_ % batch)  # sequence i writes row i % batch of y
    cdef const int64_t[::1] order = order_
    cdef const float[::1] params = net.params
    cdef float[:, ::1] y = np.empty((batch, classes), np.float32)
    cdef int64_t[::1] counts = np.zeros(classes, np.int64)
    with nogil:
        while first < n:
            size = min(batch, n - first)
            predict(plan, &params[0], &data.c, &order[first], size, False, &y[0, 0], NULL)
            for b in range(size):
                counts[largest(&y[b, 0], classes)] += 1
            first += size
    return np.asarray(counts)


cdef Py_ssize_t largest(const float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t best = 0, i
    for i in range(1, n):
        if y[i] > y[best]:
            best = i
    return best
