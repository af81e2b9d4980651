"""The fit loop: one call of the C core per epoch, with validation, stopping, callbacks and the record."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike

from . import _core, data, losses, optimizers, sources, stopping, unfolding  # type: ignore[attr-defined]
from .callbacks import Callback, History, Progress, check_callbacks, check_verbose, progress
from .choices import LossName, OptimizerName, Verbose
from .columns import Columns, Moments, Scaling, moments
from .data import Sequences
from .errors import ConfigError, DivergedError, choice, flag, integer, number, plain
from .inference import check_feedback, sampling_probability, training_data
from .initialisation import digest_of
from .losses import Loss
from .machine import machine_for
from .model import Model
from .optimizers import Optimizer
from .ranks import Ranks
from .resuming import Resumable, check_alike
from .rules import saved
from .runners import Job, Poll
from .sources import Part, Parts, Source
from .stopping import Stopping
from .storage import digest
from .unfolding import Unfolding
from .version import __version__

if TYPE_CHECKING:
    from .network import Network

Array = np.ndarray[Any, Any]

UNSCALED = 1000  # a loss, and a mean square of targets, far above those of scaled targets, which are 1

# arguments of fit that change no result, that are compared with the data, or that `Training` completes first
NOT_COMPARED = {"callbacks", "verbose", "threads", "x0", "sample_weight", "lengths"}
NOT_COMPARED |= {"validation_data", "scaling", "shuffle", "comm"}


def fit(
    net: Model,
    x: Any,
    y: Any = None,
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    optimizer: Optimizer | OptimizerName | None = None,
    loss: LossName | Loss | Callable[..., Any] = "mse",
    bptt: Unfolding | None = None,
    sample_weight: Any = None,
    x0: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    callbacks: Callback | Sequence[Callback] = (),
    verbose: Verbose = "auto",
    initial_epoch: int = 0,
    shuffle: bool | None = None,
    stateful: bool = False,
    teacher_forcing: float = 1.0,
    patience: int | Stopping | None = None,
    scaling: Scaling | Literal["standard"] | None = None,
    threads: int | None = None,
    isa: str | None = None,
    comm: Any = None,
) -> History:
    """Train the network.

    Parameters
    ----------
    x : array (n, T, I) or (T, I), list of n arrays (T_i, I), or ``Sequences.windows(...)``
        Sequences, one series, sequences of different length, or windows of a series; real numbers of any
        dtype, never modified.  Arrays (T, I) may be DataFrames, as in `predict`; the network stores the
        column names of inputs and targets as `input_names` and `output_names`.  Rows of x and y are
        matched by position, not by index.  Or data that need not fit into memory, without `y`: `Files`, or
        an iterable of batches (x, y) or (x, y, sample_weight), such as a list of tuples, a generator or a
        PyTorch DataLoader.  A path or a list of paths is ``Files(x, y, sample_weight)``.
    y : array or list
        Targets.  readout "last": (n, O); "every": (n, T, O), for one series (T, O), for a list a list of
        (T_i, O).  With `SlidingBPTT` one row per step, as for "every"; for windows one for each row of
        their series.  "cross_entropy" takes class indices: integers, without the last axis.  The last axis
        is optional if O is 1.
    epochs : int, default 1
        Index of the final epoch, that is, the number of passes over the data if `initial_epoch` is 0, as in
        Keras.
    batch_size : int, optional
        Sequences per batch; default 32, and all of them for the optimisers of second order; None for an
        iterable of batches.  `FullBPTT` and `CheckpointedBPTT` update after each batch, `TruncatedBPTT`
        every k1 steps of a batch.  `SlidingBPTT` runs the sequences one by one and updates after every
        pattern.
    optimizer : SGD, Adam, AdamW, NAdam, RMSprop, Adagrad or Rprop, or a name, optional
        Or of second order: LBFGS, LevenbergMarquardt or HessianFree.  Default Adam(1e-3); SGD(0.01) for
        `SlidingBPTT`.  Every call of `fit` resets the optimiser state.
    loss : str, `Loss` or callable, default "mse"
        "mse", "mae", "huber", "pinball", "ordered_pinball", "gaussian", "laplace", "student_t", "poisson",
        "negative_binomial", "cross_entropy" or "binary_cross_entropy": mean over the outputs of a target row,
        weighted mean over the rows of a batch.  Both cross-entropies expect logits; the targets of
        "binary_cross_entropy" are numbers from 0 to 1, those of "poisson" and "negative_binomial" numbers of
        at least 0.  `Loss` explains parameters, class weights, losses with several outputs per target, and
        functions.
    bptt : FullBPTT, SlidingBPTT, TruncatedBPTT or CheckpointedBPTT, default FullBPTT()
        How time is unfolded.
    sample_weight : array (n,), or of the shape of y without its last axis, optional
        Weights of the sequences or of the target rows.  The target of a row of weight 0 is ignored.
    x0 : array (n, state_size) or (state_size,), optional
        Initial states; default: the network's `initial_state`.  A state (state_size,) also applies to
        `validation_data`.
    lengths : array of int (n,), optional
        Valid steps of each sequence of an array (n, T, I); values after them are never read.
    validation_split : float, default 0
        Share of the data, in [0, 1), held out for validation: the last sequences.  For windows it is the
        last part of the rows of their series; windows with inputs or targets on both sides are left out
        (``history.left_out``), so that no row is in both parts.  Windows that were copied into an array
        are ordinary sequences and must not share rows across the split.  With `SlidingBPTT` and one
        series it is its last steps, with the context from the steps before.
    validation_data : tuple (x, y) or (x, y, sample_weight), `Files` or iterable of batches, optional
        Validation data, in place of `validation_split`.
    callbacks : list of Callback, optional
        Hooks around the epochs; ready ones are in ``bptt_fast.callbacks``.
    verbose : {"auto", 0, 1, 2}, default "auto"
        0: silence; 1: a progress bar, with the speed in time steps; 2: one line per epoch; "auto": 1 on a
        terminal and in a notebook, else 2.
    initial_epoch : int, default 0
        The number of the first epoch.  The order of the sequences depends only on the seed and the number
        of the epoch.
    shuffle : bool, optional
        Whether to shuffle the sequences in each epoch; default True unless `stateful`.  `SlidingBPTT` never
        shuffles.  The order of an iterable of batches is its own.
    stateful : bool, default False
        With `FullBPTT` and `TruncatedBPTT`: each sequence starts from its final state of the previous
        epoch, or of the previous fit if that was stateful too; sequence i continues sequence i.  The first
        fit starts from `x0`, and so does every fit with an `x0`.  `reset_state` discards the states.
        Validation always starts from `x0`, and so do copies and files of the network, which lack the states.
    teacher_forcing : float, default 1
        Probability, in [0, 1], that the input of a step after the first is taken from x and not from the
        network's output of the previous step (scheduled sampling).  Each step draws independently, by the
        seed and the number of updates.  The gradient is exact, including the path through outputs that
        are fed back.  Values below 1 need `FullBPTT`, readout "every", output_size equal to input_size,
        one direction, and targets that are real numbers.  Output j becomes input j: names of inputs and
        outputs, if known, must be equal and in the same order, or have none in common.
    patience : int or Stopping, optional
        Stop after this many consecutive epochs without a lower loss (the validation loss if there is any,
        else the training loss), and restore the weights of the best epoch.  `Stopping` adds further
        criteria: a target loss, a time limit.
    scaling : "standard" or Scaling, optional
        "standard": scale each input, and each target that is a real number, to mean 0 and standard
        deviation 1 over the training data, without validation data, padding, and targets of weight 0.
        Constant columns are only shifted.  With `teacher_forcing` below 1 targets are scaled as the
        inputs.  None: the network keeps its `scaling`, initially none.  Losses and `target_loss` refer to
        scaled targets; targets of both cross-entropies, of counts, and of losses with several outputs per
        target are never scaled.
    threads, isa : optional
        As in `predict`.  Results do not depend on `threads`.
    comm : mpi4py.MPI.Comm or Shards, optional
        A communicator such as ``MPI.COMM_WORLD``, whose ranks train the network together (extra "mpi").  All
        call `fit` with the same arguments and the whole data, for instance as a memory map; in an epoch each
        reads the sequences of its shards alone.  Afterwards all have the same weights and history.  Callbacks
        and `verbose` are those of rank 0.  Needs an optimiser of first order, another unfolding than
        `SlidingBPTT`, a loss by name, and ``stateful=False``.  A batch has ``batch_size / 8`` shards, rounded
        up; ``Shards(count, comm)`` sets their number, and ``Shards(count)`` repeats such a fit without ranks.

    Returns
    -------
    history : History
        A dict of lists, one entry per epoch; ``history.stopped`` is the reason why training ended.

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the network is unchanged.
    RankError
        With `comm`, if another rank has failed.
    DivergedError
        If a loss or gradient is NaN or infinite; the network has its last finite weights.  If a parameter is,
        before an epoch; the network is as it was then.
    KeyboardInterrupt
        On Ctrl-C; the network has the weights of the last finished update, and the attribute `history` of
        the exception the finished epochs.  The last line of the traceback says so.

    Warns
    -----
    UserWarning
        If the loss of the first epoch is above 1000 with targets that are real numbers and not scaled, and so
        is their mean square, which for scaled ones is 1; if the k2 of `TruncatedBPTT` exceeds the length of
        every sequence, so that nothing is truncated; or if `validation_split` splits an array of overlapping
        views, such as those of ``numpy.lib.stride_tricks.sliding_window_view``.

    Notes
    -----
    Equal seeds and arguments give equal results to the bit, for any number of threads, on the same
    instruction set.

    The loss of an epoch is the mean of the losses of its updates, each weighted by the sum of the weights
    of its target rows.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> series = np.sin(np.arange(300) / 5)[:, None]
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> history = net.fit(series, series, bptt=bf.SlidingBPTT(5), epochs=5, verbose=0)
    >>> history["loss"][-1] < history["loss"][0]
    True
    """
    options = dict(locals())  # a copy: a debugger may add to locals() at any line
    del options["net"], options["x"], options["y"]
    ranks = None if comm is None else Ranks(comm)
    with nullcontext() if ranks is None else ranks.together():
        training = Training(net, x, y, options, ranks=ranks)
        try:
            with closing(training):
                more = True
                while more:
                    more = training.advance()
                    if training.hint:
                        warnings.warn(training.hint, UserWarning, stacklevel=3)
                        training.hint = ""
        except (KeyboardInterrupt, DivergedError) as error:
            error.history = training.history  # type: ignore[union-attr]
            if isinstance(error, KeyboardInterrupt):
                error.add_note(
                    f"fit: the network has the weights of the last finished update; the attribute history of "
                    f"the exception has the {len(training.history['epoch'])} finished epochs."
                )
            raise
    return training.history


class _Arguments:
    """The arguments of a fit but its data, checked and completed."""

    def __init__(self, net: Model, x: Any, y: Any, o: SimpleNamespace) -> None:
        self.first_epoch = integer(o.initial_epoch, "initial_epoch", 0, None)
        self.epochs = integer(o.epochs, "epochs", 1, None)
        self.stopping = stopping.get(o.patience)
        self.unfold = unfold = unfolding.get(o.bptt)
        self.optimizer: Optimizer = optimizers.get(
            unfold.default_optimizer if o.optimizer is None else o.optimizer
        )
        self.loss = losses.get(o.loss)
        self.optimizer.check(net, self.loss, unfold, o.stateful, o.teacher_forcing)
        self.shuffle, self.stateful = _order(net, unfold, o.shuffle, o.stateful)
        self.sampling_probability = sampling_probability(net, unfold, self.loss, o.teacher_forcing)
        self.threads, self.isa = machine_for(o.threads, o.isa)
        self.batch_size = None if o.batch_size is None else integer(o.batch_size, "batch_size", 1, None)
        self.split = number(o.validation_split, "validation_split", 0, 1, open_high=True)
        if self.split and o.validation_data is not None:
            raise ConfigError(
                f"validation_split: expected 0 with validation_data, got {self.split:g}.  Give one of "
                f"the two."
            )
        self.source = sources.get(x, y, o.sample_weight)  # of data that are not in memory, else None
        if self.source is not None:
            _check_source(self.source, unfold, self.optimizer, o, self.passes)
            self.shuffle = self.shuffle and not self.source.batched
        elif self.split:
            _warn_of_shared_rows(x.x if isinstance(x, data.Shared) else x)
        self.hooks, self.verbose = check_callbacks(o.callbacks), check_verbose(o.verbose)
        unfold.check(net)
        unfold.check_loss(self.loss)
        unfold.check_data(o.sample_weight, o.shuffle)
        self.every = unfold.every(net)  # whether there is a target for every step

    @property
    def passes(self) -> int:
        """How often the data are read."""
        return self.epochs - self.first_epoch


class _Data:
    """The data of a fit as the core reads them, with the columns that the network will have.

    Attributes
    ----------
    train : Sequences
        All of them, or the first part.
    parts : Parts or None
        All parts, if they are not in memory at once.
    validation : Sequences or None
    validation_parts : Parts or None
        Validation data of their own, in memory or in parts.
    """

    def __init__(
        self, net: Model, x: Any, y: Any, o: SimpleNamespace, arguments: _Arguments, ranks: Ranks | None
    ) -> None:
        self.net, self.x, self.y, self.o, self.arguments = net, x, y, o, arguments
        self.convert = partial(_part, net, arguments, o.x0)
        source, columns = arguments.source, net.columns
        if o.scaling is not None:
            columns = replace(columns, scaling=self._scaling())
        share = data.WHOLE if ranks is None else data.Share(ranks.rank, ranks.size)
        self.parts = None if source is None else Parts(source, arguments.every, self.convert, columns)
        self.train = self._whole(columns, share=share) if self.parts is None else self.parts.head
        check_feedback(arguments.sampling_probability, self.train.columns)
        arguments.unfold.check_sequences(self.train)
        self.validation: Sequences | None = None
        self.validation_parts: Parts | None = None
        if o.validation_data is not None:
            self._set_validation(share, in_ranks=ranks is not None)

    def _whole(self, columns: Columns, **how: Any) -> Sequences:
        o, arguments = self.o, self.arguments
        given = (self.x, self.y, arguments.loss, arguments.every, o.sample_weight, o.x0, o.lengths)
        return training_data(self.net, *given, columns=columns, **how)

    def _scaling(self) -> Scaling:
        net, scaling = self.net, self.o.scaling
        if isinstance(scaling, Scaling):
            replace(net.columns, scaling=scaling).check(net.input_size, net.output_size)
            return scaling
        choice(scaling, "scaling", ("standard",))
        categories = len(net.columns.categories)
        inputs: Moments | None = None
        targets: Moments | None = None
        for raw in self._unscaled():
            n, length = self.arguments.unfold.training_part(raw, self.arguments.split)
            rows = raw.values[data.covered(len(raw.values), raw.offset[:n], length)]
            inputs = Moments.of(rows[:, : rows.shape[1] - categories]).merged(inputs)
            if raw.targets is None or not self.arguments.loss.scales(raw.targets.shape[1], net.output_size):
                continue
            targets = Moments.of(self._counted(raw)).merged(targets)
        assert inputs is not None
        feeds_back = self.arguments.sampling_probability > 0 and targets is not None
        return Scaling.by(inputs, inputs if feeds_back else targets, categories)

    def _unscaled(self) -> Iterable[Sequences]:
        """All data, as a whole or in parts, in float64."""
        columns, wide = replace(self.net.columns, scaling=None), np.dtype(np.float64)
        source = self.arguments.source
        if source is None:
            return [self._whole(columns, dtype=wide)]
        source.check_passes(self.arguments.passes + 1, 'scaling="standard"')
        return Parts(source, self.arguments.every, partial(self.convert, dtype=wide), columns).read()

    def _counted(self, sequences: Sequences) -> Array:
        """The target rows for training, without padding and rows of weight 0."""
        assert sequences.targets is not None
        n, length = self.arguments.unfold.training_part(sequences, self.arguments.split)
        steps = length if self.arguments.every else 1
        counted = data.covered(len(sequences.targets), sequences.target_offset[:n], steps)
        if sequences.weight is not None:
            counted &= sequences.weight > 0
        return sequences.targets[counted]

    def counted_targets(self) -> Array:
        """The target rows that an epoch of `train` learns."""
        return self._counted(self.train)

    def _set_validation(self, share: data.Share, in_ranks: bool) -> None:
        arguments, given, columns = self.arguments, self.o.validation_data, self.train.columns
        held_out = _validation_source(
            given, arguments.unfold, arguments.optimizer, arguments.loss, arguments.passes
        )
        if held_out is None:
            self.validation = _validation_data(
                self.net, given, arguments.loss, arguments.every, self.o.x0, columns, share
            )
        elif in_ranks:
            raise ConfigError(
                "validation_data: expected arrays with comm, got files or batches.  Pass "
                "memory-mapped arrays."
            )
        else:
            self.validation_parts = Parts(held_out, arguments.every, self.convert, columns)

    @property
    def longest(self) -> int:
        """The steps of the longest sequence."""
        source, train = self.arguments.source, self.train
        lengths = source.lengths if source is not None else train.length if train.ragged else None
        return train.steps if lengths is None else int(lengths.max())


class Training(Resumable):
    """The state of a fit, which advances epoch by epoch.

    The constructor checks all arguments, and raises before the network changes.  The caller calls `advance`
    until it returns False; the runner calls `begin_epoch`, trains an epoch, and calls `end_epoch`.

    Parameters
    ----------
    net : Model
    x, y : array or list
        The data, as in `fit`.
    options : mapping of str
        A value for each keyword argument of `fit`.
    halt : callable, optional
        Polled about every 10 ms; the fit ends once it returns true.
    ranks : Ranks, optional
        Those that train the network together.

    Attributes
    ----------
    epoch : int
        The number of the current epoch, from 0.
    history : History
        The record of the finished epochs.
    reason : str
        Why the fit ends after the last finished epoch; "" if it continues.
    finished : bool
        Whether the fit is over.
    hint : str
        What to warn of after the first epoch, or "".
    """

    kept = ("epoch", "logs", "reason", "finished")

    def __init__(
        self,
        net: Model,
        x: Any,
        y: Any,
        options: Mapping[str, Any],
        halt: Callable[[], bool] = bool,
        ranks: Ranks | None = None,
    ) -> None:
        o = SimpleNamespace(**options)
        self.net, self.halt, self.finished, self.reason, self.hint = net, halt, False, "", ""
        self.ranks, self.options = ranks, options
        self.constraints, self.weights_known = net.constraints, False
        self.arguments = arguments = _Arguments(net, x, y, o)
        self.epoch, self.last = arguments.first_epoch, arguments.epochs
        self.watch = stopping.Watch(arguments.stopping)
        is_first = ranks is None or ranks.rank == 0
        self.hooks, self.verbose = (arguments.hooks, arguments.verbose) if is_first else ([], 0)
        self.data = _Data(net, x, y, o, arguments, ranks)
        train, loss = self.data.train, arguments.loss

        # targets that may need scaling, until the first epoch has ended
        self.unscaled: Callable[[], Array] | None = None
        targets = 0 if train.targets is None else train.targets.shape[1]
        self.scales = loss.scales(targets, net.output_size)
        has_scaling = train.columns.scaling is not None and self.scales
        if is_first and loss.targets == "real" and targets and not has_scaling:
            self.unscaled = self.data.counted_targets

        self.hyper = arguments.optimizer.hyper(net.seed)
        self.runner = arguments.optimizer.runner(
            Job(
                net=net,
                loss=loss,
                unfold=arguments.unfold,
                hyper=self.hyper,
                first_epoch=self.epoch,
                batch_size=arguments.batch_size,
                shuffle=arguments.shuffle,
                stateful=arguments.stateful,
                sampling_probability=arguments.sampling_probability,
                threads=arguments.threads,
                isa=arguments.isa,
                train=train,
                split=arguments.split,
                validation=self.data.validation,
                given_states=o.x0 is not None,
                parts=self.data.parts,
                validation_parts=self.data.validation_parts,
                ranks=ranks,
            )
        )
        self._agree()
        updates, self.last = self.runner.updates, max(self.epoch, self.last)
        self.hyper["noise_from"] = self.epoch * updates
        self.rates = arguments.optimizer.rates(self.last, updates)
        validates, schedules = self.runner.validate is not None, self.rates is not None
        self.history = History(
            "epoch", "loss", *["val_loss"] * validates, *["learning_rate"] * schedules, "seconds"
        )
        self.history.left_out = self.runner.left_out
        arguments.unfold.warn(self.data.longest, 5)
        self.display = Progress()
        self.logs: dict[str, float] = {}
        self.begun = False
        for hook in self.hooks:
            hook.on_setup(self)
        if ranks is not None:
            ranks.meet()  # if one has failed, the networks of all stay as they are
        columns, lead = train.columns, arguments.unfold.rows_ahead(train)
        net.columns = columns if columns.lead == lead else replace(columns, lead=lead)  # this ends a learner

    def _agree(self) -> None:
        """Raise unless all ranks train the same network in the same way."""
        if self.ranks is None:
            return
        arguments, given = self.arguments, self.data
        if not self.runner.in_shards:
            raise ConfigError(
                f"comm: expected an optimiser of first order with it, and FullBPTT(), "
                f"TruncatedBPTT(k1, k2) or CheckpointedBPTT(), got {arguments.optimizer} with "
                f"{arguments.unfold}."
            )
        form = partial(data.fingerprint, every=arguments.every, contents=False)
        alike = {
            "x and y": form(given.train),
            "validation_data": str(given.validation and form(given.validation)),
        }
        self.ranks.agree(self._settings() | alike | {"weights": digest("", {"params": self.net.params})[:16]})

    def _settings(self) -> dict[str, str]:
        """What the results depend on in addition to the data and the callbacks, as text by name."""
        net, arguments, columns = self.net, self.arguments, self.data.train.columns.plain()
        given = {name: value for name, value in self.options.items() if name not in NOT_COMPARED}
        given |= {"optimizer": arguments.optimizer, "loss": arguments.loss, "bptt": arguments.unfold}
        given |= {"patience": self.watch.rules, "shuffle": arguments.shuffle}
        given |= {"isa": arguments.isa or _core.isas()[-1]}
        given |= {} if self.ranks is None else {"shards": self.ranks.shards}
        settings = {name: repr(plain(value)) for name, value in (net.saved_config() | given).items()}
        if net.rules:
            values, arrays = saved(net.rules)
            settings["rules"] = f"{dict(net.rules)} {digest(repr(values), arrays)[:16]}"
        if digest_of(net.cell):
            settings["own cell"] = digest_of(net.cell)[:16]
        columns.pop("lead")
        return settings | {"bptt_fast": __version__, "columns": repr(columns)}

    def identity(self) -> dict[str, str]:
        """What the results depend on, as text by name, equal for fits that can continue each other."""
        given, every = self.data, self.arguments.every
        return self._settings() | {
            "x and y": _fingerprint(given.parts or given.train, every),
            "validation_data": _fingerprint(given.validation_parts or given.validation, every),
            "callbacks": ", ".join(hook.identity() for hook in self.hooks if hook.identity()),
        }

    def advance(self) -> bool:
        """Train one epoch; True if there are more."""
        return self.runner.advance(self)

    def close(self) -> None:
        """Release the plan and the optimiser state; the history remains."""
        self.display.close()
        self.finished = True
        self.runner.close()
        self.unscaled = None
        del self.runner, self.data, self.options  # they hold the data

    def _parts(self) -> dict[str, Resumable]:
        """The objects with a state of their own; a finished fit has no runner."""
        parts: dict[str, Resumable] = {"history": self.history, "watch": self.watch}
        if self.rates is not None:
            parts["rates"] = self.rates
        return parts if self.finished else parts | {"runner": self.runner}

    def _stateful(self) -> list[Callback]:
        return [hook for hook in self.hooks if hook.identity()]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "params": self.net.params,
            "carried_states": self.net.carried_states,
            "hyper": {name: value for name, value in self.hyper.items() if name != "rates"},
            "callbacks": [hook.state_dict() for hook in self._stateful()],
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_alike(self.net.params, state["params"], "params")
        super().load_state_dict(state)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.hyper |= state["hyper"]
        if self.finished:
            self.net.carried_states = state["carried_states"]
            self.close()
        for hook, kept in zip(self._stateful(), state["callbacks"], strict=True):
            hook.load_state_dict(kept)
        self.net.params[:] = state["params"]
        self.weights_known = False

    def begin_epoch(self) -> Poll | None:
        """Begin the next epoch; the function that the core polls, or None if the fit is over."""
        if not self.begun:
            self.begun = True
            for hook in self.hooks:
                hook.model, hook.hyper = cast("Network", self.net), self.hyper
                hook.on_train_begin({})
            if self.ranks is not None:  # a backup may have been restored
                state = self.ranks.share(None if self.ranks.rank > 0 else self.state_dict())
                if self.ranks.rank > 0:
                    self.load_state_dict(state | {"callbacks": []})
            self.display = progress(self.verbose, self.epoch, self.last, self.runner.steps)
        if self.reason or self.epoch >= self.last:
            self._finish(self.reason or "epochs")
            return None
        expired = self.watch.expired if self.ranks is None else self.ranks.any(self.watch.expired)
        if expired and self.history["epoch"]:
            self._finish("max_seconds")
            return None
        self.epoch_start = time.perf_counter()
        for hook in self.hooks:
            hook.on_epoch_begin(self.epoch, {})
        self._follow()
        if not self.weights_known or self.hooks or self.ranks is not None:
            self._check_weights()
            self.arguments.optimizer.check_hyper(self.hyper)
        if self.rates is not None:
            self.hyper["rates"] = self.rates.of(self.epoch)
        return self._poll

    def _check_weights(self) -> None:
        """Check and correct what others than the core have set, before an epoch."""
        if self.net.constraints is not self.constraints:
            raise ConfigError(
                "rules: expected those with which the fit began, got others.  Set them between two fits."
            )
        self.net.check_finite("fit")
        self.net.obey()
        self.weights_known = True

    def _poll(self, done: int) -> bool:
        self.display.within(done, self.runner.record.updates)
        stop = self.watch.expired or self.halt()
        return stop if self.ranks is None else self.ranks.later(stop)

    def _follow(self) -> None:
        """Take over what the callbacks of rank 0 may have changed: the hyperparameters and the weights."""
        if self.ranks is not None:
            hyper = {name: value for name, value in self.hyper.items() if name != "rates"}
            self.hyper |= self.ranks.share(hyper, self.net.params)

    def end_epoch(self, status: str, done: int) -> bool:
        """Record an epoch that ended with `status` after `done` updates; True if there are more."""
        runner = self.runner
        if status == "DIVERGED":
            raise self._diverged("the loss, the gradient or the update", runner.unit, done + 1)
        loss = runner.record.mean(done)
        if math.isnan(loss):  # stopped before the first update
            self._finish("converged" if status == "CONVERGED" else self._interruption())
            return False
        self.logs = {"loss": loss}
        if runner.validate is not None:
            self.logs["val_loss"] = runner.validate()
            if not math.isfinite(self.logs["val_loss"]):
                raise self._diverged("the loss", "validation", None)
        watched = self.logs.get("val_loss", loss)
        if self.rates is not None:
            self.logs["learning_rate"] = float(self.hyper["rates"][done - 1])
            self.rates.after(watched)
        seconds = time.perf_counter() - self.epoch_start
        self.logs["seconds"] = seconds if self.ranks is None else self.ranks.first(seconds)
        self.epoch += 1
        self.history.add({"epoch": self.epoch, **self.logs})
        if self.unscaled is not None and loss > UNSCALED:
            self.hint = _hint(self.unscaled(), self.scales)
        self.unscaled = None
        self.reason = self.watch.after(self.epoch, watched, self.net.params)
        if not self.reason and status == "INTERRUPTED":
            self.reason = self._interruption()
        self.display.end(self.epoch, self.logs)
        for hook in self.hooks:
            if hook.on_epoch_end(self.epoch - 1, dict(self.logs)) and not self.reason:
                self.reason = "callback"
        if self.ranks is not None:
            self.reason = self.ranks.share(self.reason)
        if self.reason or self.epoch == self.last:
            self._finish(self.reason or "epochs")
        return not self.finished

    def _interruption(self) -> str:
        """Why the poll stopped an epoch."""
        return "interrupted" if self.halt() else "max_seconds"

    def _finish(self, reason: str) -> None:
        self.history.stopped = reason
        self.history.best_epoch = self.watch.restore(self.net.params)
        self.finished = True
        for hook in self.hooks:
            hook.on_train_end(dict(self.logs))
        self._follow()

    def _diverged(self, what: str, unit: str, batch: int | None) -> DivergedError:
        where = f"epoch {self.epoch + 1}, {unit}" + ("" if batch is None else f" {batch}")
        hint = (
            "Check the scale of the data and the parameters."
            if unit == "iteration"
            else "Try a smaller learning_rate, or clip_norm=1.0 in the optimizer."
        )
        error = DivergedError(
            f"fit: {what} is NaN or infinite in {where}; the network has its last finite weights.  {hint}"
        )
        error.epoch, error.batch = self.epoch + 1, batch
        return error


# ---- checks


def _part(
    net: Model, arguments: _Arguments, x0: Any, part: Part, columns: Columns, dtype: Any = None
) -> Sequences:
    """A part of the data as the core reads it."""
    weight, lengths, names = part[2:5]
    given = (part.x, part.y, arguments.loss, arguments.every, weight, x0, lengths, names)
    return training_data(net, *given, columns, dtype, is_part=True)


def _fingerprint(sequences: Sequences | Parts | None, every: bool) -> str:
    if sequences is None:
        return "None"
    if isinstance(sequences, Parts):
        return sequences.fingerprint()
    return data.fingerprint(sequences, every)


def _hint(targets: Array, scales: bool) -> str:
    """What to warn of after a loss above `UNSCALED`; "" if the targets are not the reason.

    `scales`: whether `scaling` can scale them.
    """
    mean, deviation = moments(targets)
    if np.mean(mean**2 + deviation**2) <= UNSCALED:
        return ""
    worst = int(np.argmax(mean**2 + deviation**2))
    deviation[np.ptp(targets, axis=0) == 0] = 0  # `moments` gives scales
    remedy = (
        'Try scaling="standard" (of estimators: StandardScaler and TransformedTargetRegressor).'
        if scales
        else "Pass (y - mean) / deviation, as no scaling fits the outputs of this loss; a Forecaster does so."
    )
    return (
        f"fit: the loss of the first epoch is above {UNSCALED}, as the targets are not scaled: those of "
        f"column {worst} have mean {mean[worst]:.3g} and deviation {deviation[worst]:.3g}.  {remedy}"
    )


def _validation_data(
    net: Model, validation_data: Any, loss: Loss, every: bool, x0: Any, columns: Columns, share: data.Share
) -> Sequences:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        got = (
            f"{len(validation_data)} entries"
            if isinstance(validation_data, (tuple, list))
            else type(validation_data).__name__
        )
        raise ConfigError(f"validation_data: expected (x, y) or (x, y, sample_weight), got {got}.")
    x, y, weight = (*validation_data, None)[:3]
    x0 = x0 if np.ndim(x0) == 1 else None
    names = [f"validation_data[{i}]" for i in range(3)]
    return training_data(net, x, y, loss, every, weight, x0, None, names, columns, share=share)


def _check_source(
    source: Source, unfold: Unfolding, optimizer: Optimizer, options: SimpleNamespace, passes: int
) -> None:
    """Raise unless the options allow data that come in parts."""
    _check_parts("x", unfold, optimizer)
    unavailable = {
        "validation_split": (options.validation_split, "Pass other files or batches as validation_data"),
        "stateful": (options.stateful, "Use arrays"),
        "lengths": (options.lengths is not None, "Store them with the sequences, or use lists"),
        "x0": (np.ndim(options.x0) > 1, "Pass one state for all sequences"),
        "comm": (options.comm is not None, "Pass memory-mapped arrays"),
    }
    if source.batched:
        unavailable |= {
            "batch_size": (options.batch_size is not None, "Make other batches"),
            "shuffle": (options.shuffle, "Shuffle the batches"),
        }
    if source.count is None:
        need = optimizer.schedule is not None or bool(vars(optimizer).get("gradient_noise"))
        hint = "Pass an iterable with a length, or use a constant learning_rate without gradient_noise"
        unavailable["optimizer"] = (need, hint)
    for name, (given, hint) in unavailable.items():
        if given:
            got = getattr(options, name)
            raise ConfigError(
                f"{name}: expected the default with x in {'batches' if source.batched else 'files'}, got "
                f"{type(got).__name__ if np.ndim(got) else got}.  {hint}."
            )
    source.check_passes(passes, f"{passes} epochs")


def _check_parts(name: str, unfold: Unfolding, optimizer: Optimizer) -> None:
    """Raise unless an epoch may read the data `name` part by part."""
    if not unfold.takes_parts or optimizer.full_batch:
        what = optimizer if unfold.takes_parts else unfold
        raise ConfigError(
            f"{name}: expected arrays with {what}, which needs all sequences at once, got files or batches.  "
            f"Use FullBPTT(), TruncatedBPTT(k1, k2) or CheckpointedBPTT(), and an optimizer of first order."
        )


def _validation_source(
    given: Any, unfold: Unfolding, optimizer: Optimizer, loss: Loss, passes: int
) -> Source | None:
    """The source of validation data that are not in memory, else None."""
    pair = isinstance(given, (tuple, list)) and len(given) in (2, 3)
    if pair:  # (x, y), unless these are two or three batches
        others = (
            isinstance(one, tuple) and not data.is_list(one) and not sources.are_paths(one) for one in given
        )
        pair = not all(others)
    x, y, weight = (*(given if pair else (given,)), None, None)[:3]
    source = sources.get(x, y, weight, "validation_data")
    if source is None:
        return None
    _check_parts("validation_data", unfold, optimizer)
    if loss.function is not None:
        raise ConfigError(
            f"validation_data: expected arrays with the loss {loss.name}, a function of all outputs at once, "
            f"got files or batches."
        )
    source.check_passes(passes, f"{passes} epochs")
    return source


def _warn_of_shared_rows(x: Any) -> None:
    """Warn the caller of `fit` if sequences on both sides of `validation_split` share memory."""
    if data.are_overlapping(x):
        warnings.warn(
            "validation_split: the sequences of x are views of the same rows, so the last training sequences "
            "share rows with the first validation sequences, and the validation loss is too low.  "
            "Sequences.windows(series, length) leaves a gap between the two parts.",
            UserWarning,
            stacklevel=6,
        )


def _order(net: Model, unfold: Unfolding, shuffle: Any, stateful: Any) -> tuple[bool, bool]:
    """The checked `shuffle` and `stateful`."""
    if not flag(stateful, "stateful"):
        return True if shuffle is None else flag(shuffle, "shuffle"), False
    if not unfold.keeps_state:
        raise ConfigError(f"stateful: True needs FullBPTT() or TruncatedBPTT(k1, k2), got {unfold}.")
    net.description.check_forward("stateful: True needs", "Use stateful=False.")
    if shuffle is not None and flag(shuffle, "shuffle"):
        raise ConfigError(
            "shuffle: expected False with stateful=True, where each sequence continues from the state in "
            "which it ended, got True.  Leave shuffle out."
        )
    return False, True
