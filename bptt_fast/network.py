"""The network: a model with all operations as methods.

Each method is a function of the module that implements it, which also holds its signature and docstring.
"""

from __future__ import annotations

from . import convert, inference, online, storage
from .errors import suggesting
from .fit import fit
from .model import Model


class Network(Model):
    """A recurrent network: a state function f, h[t] = f(h[t-1], x[t]), and a readout g, y = g(h).

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        I, H and O: the sizes of the input of one step, the state h, and one output.
    categories : dict of int to int or (int, int), optional
        Columns of x that are integers, the last ones, and the number n of values of each, 0 .. n-1.  The
        network equals that with one-hot vectors in their place, whose parameters it has: in "weight_ih_l0"
        n columns for each, in their order, behind those of the other inputs.  But the vectors are never
        formed; the column of the value is looked up.  Other values are an error.  A pair (n, width) instead
        of n gives the column an embedding, the parameter "embedding.<column>.weight" (n, width), as
        ``torch.nn.Embedding``: a value becomes the row of its number, which has `width` columns in
        "weight_ih_l0" and is trained with them.
    cell : {"elman", "gru", "lstm", "mlp", "ctrnn", "mingru", "minlstm", "indrnn"}, default "elman"
        The state function f.  "elman": h' = phi(W_ih x + b_ih + W_hh h + b_hh).  "mlp": the same with further
        layers after it.  "ctrnn": a continuous-time rate network, see `equation`.  "mingru", "minlstm" (Feng
        et al. 2024) and "indrnn" (Li et al. 2018) have no recurrent product: a unit sees of the state before
        only its own, so that long sequences cost little.  Or a cell of your own, see `build_cell`.
    nonlinearity : str or tuple of str, default "tanh"
        phi of "elman", "mlp", "ctrnn" and "indrnn"; for "mlp" also a tuple of len(f) + 1 names, one for each
        layer of f.
    f : tuple of int, default ()
        Widths of the inner layers of an "mlp" cell, before the layer that yields the state.
    head : tuple of int, default ()
        Widths of the hidden layers of g; (): g is one linear map.
    head_nonlinearity : str, default "tanh"
        Nonlinearity of the hidden layers of g.  The last layer is linear; for a cross-entropy it yields
        logits.
    skip : bool, default False
        Whether g also reads the input of the step, y = g([h, x]), as f reads it, with `input_noise`.  The
        columns of "head.0.weight" for x lie behind those for h, n of them (or `width`) for each of the
        `categories`.
    readout : {"last", "every"}, default "last"
        Whether g reads the state after the last step of a sequence, or after every step.
    num_layers : int, default 1
        Recurrent layers, stacked.
    bidirectional : bool, default False
        Whether each layer also runs from the last step to the first; the outputs of both directions are
        concatenated.
    reset : {"after", "before"}, default "after"
        "gru": whether the reset gate acts after the recurrent product (PyTorch, cuDNN) or before (Cho 2014).
    peephole : bool, default False
        "lstm": whether the gates also read the cell state.
    equation : {"rate", "potential"}, default "rate"
        "ctrnn": "rate": h' = (1 - alpha) h + alpha phi(W_ih x + b_ih + W_hh h + b_hh), alpha = dt/tau.
        "potential": v' = (1 - alpha) v + alpha (W_ih x + b_ih + W_hh phi(v) + b_hh); the readout and the
        layer above read phi(v'), and the state is v.
    tau : float or array (H,), default 10
        "ctrnn": the time constant of all units or of each, at least `dt`; the same in all layers.
    dt : float, default 1
        "ctrnn": the time that a step takes, in the unit of `tau`.
    train_tau : bool, default False
        "ctrnn": whether the time constants are parameters, one for each unit of each layer and direction,
        that begin at `tau`, then above `dt`.  The block "raw_tau_l0" has t, tau = dt (1 + log(1 + exp(t))),
        so that tau stays above dt; the attribute `tau` has the time constants.
    recurrent_noise : float, default 0
        "ctrnn": sigma of the Gaussian noise that is added to h' or v' of every unit, in training.
    noise : {"sde", "step", "scaled"}, default "sde"
        "ctrnn": what sigma is: with xi of the standard normal distribution, a step adds
        sqrt(2 alpha) sigma xi, sigma xi, or alpha sigma xi.
    input_noise : float, default 0
        Standard deviation of the Gaussian noise that is added to the (scaled) inputs, in training.
    rate_penalty, rate_target : float, default 0
        In training, `rate_penalty` times the mean of (h - rate_target)^2, over all units of all layers and
        all steps, is added to the loss.
    proj_size : int, default 0
        "lstm": if above 0, h is a projection of this width, less than H.
    dropout : float, default 0
        Probability of zeroing an element between layers, in training.
    recurrent_dropout : float, default 0
        Probability of zeroing an element of h before the recurrent product, in training; one mask per
        sequence.
    initial_state : {"zeros", "trained"}, default "zeros"
        The state before the first step if no `x0` is given.  "trained": parameters, one vector per layer and
        direction ("initial_h_l0", for an LSTM also "initial_c_l0", ...), initially zero; an `x0` overrides
        them, and their gradient is then 0.
    dtype : {"float32", "float64"}, default "float32"
        Data type of parameters, computation and results.
    seed : int, optional
        Seed for initialisation, shuffling, dropout, noise and gradient noise.  None: a random seed.
    init : {"torch", "orthogonal", "glorot", "identity"} or callable, default "torch"
        The rule of the initial parameters, see Notes.  A callable is called as ``init(name, shape, random)``
        for each block of parameters, with a ``numpy.random.Generator``, and returns an array of that shape.
        It is neither saved nor pickled with the network.
    spectral_radius : float, optional
        Spectral radius, above 0, to which the recurrent weights of each gate are scaled.
    forget_bias : float, optional
        Initial bias (the sum of both biases) of the gate that keeps the state: f of "lstm" and
        "minlstm", z of "gru".

    Attributes
    ----------
    params : ndarray (P,)
        All parameters, writable: ``net.params[:] = ...``.
    num_parameters : int
        The number of parameters, P.
    tau : ndarray (num_layers x directions, H) or None
        "ctrnn": the present time constants.
    state_size : int
        Size of the state of one sequence, ordered by layer, direction, and h before c.
    description : Description
        The checked constructor arguments.
    scaling : Scaling or None
        The scaling of inputs, targets and outputs; see `fit`.  All methods take and return data in the units
        of the data; losses and their gradients refer to scaled values.  It can be assigned.
    input_names, output_names : tuple or None
        Column names of the tables of the first `fit`: str, numbers and tuples of them unchanged, any other
        label, such as a date, as its str.  Columns of later tables are reordered by them; a missing or an
        extra column is an error, and so is a Series of another name (one without a name is treated as an
        array).  They can be assigned.
    rules : Rules
        Rules on the parameters, a dict of `Rule` by the name of the block: masks, signs, bounds, frozen
        weights, penalties.  Training, initial weights of `restarts` and assigned weights obey them; weights
        written into a view do from the next epoch on.  It can be assigned.
    lead : int
        Number of rows from the last row of the inputs to the row of the output, set by `fit` and
        `learn_online`: the lead of ``SlidingBPTT``, the horizon of windows, else 0.  It can be assigned.
    extra : dict of str to str
        The user's notes, initially empty; they are saved and loaded with the network.

    Raises
    ------
    ConfigError
        If an argument is invalid, or the network does not fit into memory.
    ShapeError
        If `init` gives an array of another shape.

    Notes
    -----
    Names, shapes and gate order of the parameters are PyTorch's; ``net["weight_hh_l0"]`` is a view into
    `params`.  Their initial values by `init`:

    - Always: the recurrent weights of "indrnn", one per unit, uniform in [0, 1) (Li et al. 2018); trained
      time constants `tau`, which a callable is not called for.
    - "torch": all of f uniform in +-1/sqrt(H) as in ``torch.nn.RNN``; inner layers of f and those of g in
      +-1/sqrt(fan in).
    - "glorot": the weights of each gate uniform in +-sqrt(6 / (fan in + fan out)); biases zero.
    - "orthogonal": as "glorot", but recurrent weights and projections orthogonal, per gate.
    - "identity": as "glorot", but recurrent weights and projections the identity, and the input weights
      normal with a deviation of 0.001; with nonlinearity "relu" this is the IRNN.

    Peepholes are always initialised as for "torch".  On tasks with long memory, "orthogonal" succeeds more
    often; on short series it is no better, and its worst seeds are worse (docs/decisions, 0009).

    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990).  X. Glorot and Y. Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", 2010.  A. M. Saxe, J. L.
    McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", 2014.  Q. V. Le, N. Jaitly and G. E. Hinton, "A simple way to initialize recurrent networks of
    rectified linear units", 2015.  R. Jozefowicz, W. Zaremba and I. Sutskever, "An empirical exploration of
    recurrent network architectures", 2015 (the forget bias).

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(input_size=1, hidden_size=8, output_size=1, seed=0)
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> history = net.fit(x, x[:, 0], epochs=2, verbose=0)
    >>> net.predict(x).shape
    (20, 1)
    """

    __slots__ = ()

    fit = suggesting(fit)
    predict = suggesting(inference.predict)
    evaluate = suggesting(inference.evaluate)
    loss_and_grad = suggesting(inference.loss_and_grad)
    estimate_memory = suggesting(inference.estimate_memory)
    stream = suggesting(online.stream)
    learn_online = suggesting(online.learn_online)
    forecast = suggesting(online.forecast)
    save = suggesting(storage.save)
    to_onnx = suggesting(convert.to_onnx)
    to_torch = suggesting(convert.to_torch)


Model.public = Network
