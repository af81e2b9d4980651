"""The network: a model with everything that can be done with it.

Each verb is a function of the module that implements it, with the one signature and docstring it has.
"""

from __future__ import annotations

from . import convert, inference, online, storage
from .fit import fit
from .model import Model


class Network(Model):
    """A recurrent network: a state function f, h[t] = f(h[t-1], x[t]), and a readout g, y = g(h).

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        I, H and O: numbers in one step of the input, in the state h, and in one output.
    cell : {"elman", "gru", "lstm", "mlp"}, default "elman"
        The state function f.  "elman": h' = phi(W_ih x + b_ih + W_hh h + b_hh).  "mlp": the same with further
        layers after it.
    nonlinearity : {"tanh", "relu", "sigmoid", "linear"} or tuple of them, default "tanh"
        phi of "elman" and "mlp"; for "mlp" also a tuple of len(f) + 1, one for each layer of f, the last
        included.
    f : tuple of int, default ()
        Widths of the layers of an "mlp" cell before the one that gives the state.
    head : tuple of int, default ()
        Widths of the hidden layers of g; none: g is one linear map.
    head_nonlinearity : str, default "tanh"
        Of the hidden layers of g.  The last layer is linear: with a cross-entropy for a loss, g gives logits.
    readout : {"last", "every"}, default "last"
        Whether g reads the state after the last step of a sequence, or after every step.
    num_layers : int, default 1
        Recurrent layers, each reading the one below.
    bidirectional : bool, default False
        Each layer also runs from the last step to the first; the outputs of both directions are concatenated.
    reset : {"after", "before"}, default "after"
        "gru": whether the reset gate acts after the recurrent product (PyTorch, cuDNN) or before (Cho 2014).
    peephole : bool, default False
        "lstm": the gates also see the cell state.
    proj_size : int, default 0
        "lstm": if above 0, h is a projection of this width, less than H.
    dropout : float, default 0
        Probability of a zero in what passes from layer to layer, in training.
    recurrent_dropout : float, default 0
        Probability of a zero in h where it enters the recurrent product, in training; one mask a sequence.
    initial_state : {"zeros", "trained"}, default "zeros"
        The state before the first step where no `x0` is given.  "trained": parameters of their own, one
        vector a layer and direction ("initial_h_l0", for an LSTM also "initial_c_l0", ...), zero at first;
        where `x0` is given it wins, and their gradient is 0.
    dtype : {"float32", "float64"}, default "float32"
        Of the parameters, of the arithmetic and of all results.
    seed : int, optional
        Of the initial parameters, of the order of the sequences in `fit`, of dropout and of gradient noise.
        None draws one.
    init : {"torch", "orthogonal", "glorot", "identity"} or callable, default "torch"
        The initial parameters, see Notes.  A function is called as ``init(name, shape, random)`` for each
        block of parameters, `random` being a ``numpy.random.Generator``, and gives an array of that shape.
        It is neither saved nor pickled with the network.
    spectral_radius : float, optional
        Above 0.  The recurrent weights, each gate's by themselves, are scaled so that the largest modulus of
        their eigenvalues is this.
    forget_bias : float, optional
        Bias (the sum of its two) of the gate that keeps the past: f of "lstm", z of "gru".

    Attributes
    ----------
    params : ndarray (P,)
        All parameters.  Write into it as you like: ``net.params[:] = ...``.
    num_parameters : int
        The number of parameters, P.
    state_size : int
        Numbers in the state of one sequence: layers, directions in a layer, and h before c in a direction.
    description : Description
        The arguments, checked.
    scaling : Scaling or None
        How inputs and targets are scaled on the way in, and outputs brought back; see `fit`.  Whatever takes
        or gives data does so in the units of the data; losses and their gradients are those of the scaled
        numbers.  It can be assigned.
    input_names, output_names : tuple or None
        Names of the columns, from the tables that `fit` saw first: str, numbers and tuples of them as they
        are, any other label, such as a date, as its str.  Tables are then brought into their order; a column
        that is missing, or one more, is an error, and so is a Series of another name (one without a name is
        taken as an array is).  They can be assigned.
    lead : int
        How many rows after the last row of its inputs an output belongs to, as `fit` and `learn_online`
        learnt it: the lead of ``SlidingBPTT``, the horizon of windows, else 0.  It can be assigned.
    extra : dict of str to str
        Notes of your own, empty at first; they are saved and loaded with the network.

    Raises
    ------
    ConfigError
        If an argument is not among the values above, or the network does not fit into memory.
    ShapeError
        If `init` gives an array of another shape.

    Notes
    -----
    Names, shapes and gate order of the parameters are PyTorch's; ``net["weight_hh_l0"]`` is a view into
    `params`.  What they are at first, by `init`:

    - "torch": all of f uniform in +-1/sqrt(H) as in ``torch.nn.RNN``; inner layers of f and those of g in
      +-1/sqrt(fan in).
    - "glorot": weights, each gate's by themselves, uniform in +-sqrt(6 / (fan in + fan out)); biases zero.
    - "orthogonal": the same, but recurrent weights and projections orthogonal, each gate's by themselves.
    - "identity": the same, but these the identity, and the input weights normal with a deviation of 0.001;
      with nonlinearity "relu" this is the IRNN.

    Peepholes start as for "torch".  Where something has to be remembered over many steps, "orthogonal" learns
    it more often; on short series it is no better, and its worst seeds are worse (docs/decisions, 0009).

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

    fit = fit
    predict = inference.predict
    evaluate = inference.evaluate
    loss_and_grad = inference.loss_and_grad
    estimate_memory = inference.estimate_memory
    stream = online.stream
    learn_online = online.learn_online
    forecast = online.forecast
    save = storage.save
    to_onnx = convert.to_onnx
    to_torch = convert.to_torch


Model.public = Network
