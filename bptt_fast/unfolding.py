"""Ways to unfold time in training.  Each class holds its requirements and its runner; the C core computes."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import ConfigError, integer, suggesting
from .initialisation import is_own
from .machine import isa_for_rows
from .runners import (
    BatchRunner,
    Job,
    PartsRunner,
    Runner,
    SlidingRunner,
    check_no_windows,
    n_training,
    split_parts,
)

if TYPE_CHECKING:
    from .data import Array, Sequences
    from .losses import Loss
    from .model import Model


class Unfolding:
    """Base class of the unfoldings, with the defaults of their properties."""

    default_optimizer: ClassVar[str] = "adam"
    plain: ClassVar[bool] = False  # over all steps at once, without passes or segments
    keeps_state: ClassVar[bool] = False  # sequences can continue from their states of the last epoch
    input_gradient: ClassVar[bool] = True  # dLoss/dx can be computed
    takes_parts: ClassVar[bool] = True  # of data that are not in memory at once

    def core(self, steps: int) -> dict[str, int]:
        """Fields of the core's description for sequences of at most `steps` steps."""
        return {}

    def check(self, net: Model) -> None:
        """Raise unless the network supports this unfolding."""

    def check_gradient(self) -> None:
        """Raise unless the unfolding has a gradient for constant weights."""

    def check_loss(self, loss: Loss) -> None:
        """Raise unless the unfolding supports this loss: a function needs the outputs of whole batches."""
        if loss.function is not None and not self.plain:
            raise ConfigError(
                f"bptt: expected FullBPTT() with a loss that is a function, {loss.name}, which needs the "
                f"outputs of whole batches, got {self}.  Use FullBPTT(), or a loss by name."
            )

    def check_data(self, sample_weight: Any, shuffle: bool | None) -> None:
        """Raise unless the unfolding supports weights of targets and another order."""

    def check_sequences(self, train: Sequences) -> None:
        """Raise unless the unfolding supports sequences of this form."""

    def warn(self, steps: int, stacklevel: int) -> None:
        """Warn if the unfolding has no effect on sequences of at most `steps` steps."""

    def every(self, net: Model) -> bool:
        """Whether there is a target for every step."""
        return net.readout == "every"

    def rows_ahead(self, train: Sequences) -> int:
        """The number of rows from the last row of the inputs to the row of the output."""
        return train.horizon

    def plan_size(self, batch: int, steps: int, every: bool) -> tuple[int, int, bool]:
        """Batch size, steps, and whether g reads every step, of a training plan."""
        return batch, steps, every

    def updates(self, batches: int, steps: int) -> tuple[int, str]:
        """The number of updates of an epoch with these batches of at most `steps` steps, and their unit."""
        return batches, "batch"

    def plan_options(
        self, train: Sequences, n: int, sampling_probability: float, in_order: bool
    ) -> dict[str, Any]:
        """Options of a plan that trains on the first `n` sequences."""
        return dict(self.core(int(train.length[:n].max())))

    def training_part(self, sequences: Sequences, split: float) -> tuple[int, Array]:
        """The number of training sequences, and their lengths without validation steps."""
        n = split_parts(sequences, split)[0]
        return n, sequences.length[:n]

    def runner(self, job: Job) -> Runner:
        """The runner of the epochs of a fit."""
        return BatchRunner(job) if job.parts is None else PartsRunner(job)


@suggesting
@dataclass(frozen=True)
class FullBPTT(Unfolding):
    """Minibatches of whole sequences: f is unfolded over all steps, and the gradient is exact.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.FullBPTT()
    FullBPTT()
    """

    plain = True
    keeps_state = True

    def plan_options(
        self, train: Sequences, n: int, sampling_probability: float, in_order: bool
    ) -> dict[str, Any]:
        """Let windows that are not shuffled share the projection of their inputs."""
        if sampling_probability:
            return {"sampling_probability": sampling_probability}
        if train.form == "windows" and in_order and train.stride < train.steps:
            return {"window_stride": train.stride}
        return {}


@suggesting
@dataclass(frozen=True)
class SlidingBPTT(Unfolding):
    """The classical online algorithm: a window of `k` steps slides over the series, one update per pattern.

    For each pattern t, f is unfolded `k` times from the context x (the state), one g reads the last state,
    the weight changes of the k instances are summed, the weights are updated, and then the context advances
    one step with the new weights: x <- f(x, a[t]).  No gradient flows into the context.  The loss of a
    pattern is a mean over the O outputs, so with "mse" a learning rate here corresponds to O/2 times that of
    texts that propagate the plain error.

    Parameters
    ----------
    k : int
        Depth of unfolding in steps, at least 1.  k = 1 is Elman's original training.
    lead : int, default 1
        The window that starts at step t has the target y[t + k - 1 + lead].  1: the target belongs to the
        step after the window's last; 0: to the last step itself.

    Raises
    ------
    ConfigError
        If `k` is not an integer of at least 1 or `lead` not one of at least 0.

    Notes
    -----
    Described in "Backpropagation through time", Wikipedia; after P. J. Werbos, "Backpropagation through time:
    what it does and how to do it", Proceedings of the IEEE 78 (1990).

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.SlidingBPTT(3)
    SlidingBPTT(k=3, lead=1)
    """

    k: int
    lead: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", integer(self.k, "SlidingBPTT(k)"))
        object.__setattr__(self, "lead", integer(self.lead, "SlidingBPTT(lead)", 0))

    default_optimizer = "sgd"
    takes_parts = False

    def check(self, net: Model) -> None:
        d = net.description
        if net.readout != "last":
            raise ConfigError(
                'bptt: SlidingBPTT reads the last state of each window and expects Network(readout="last"), '
                f'got readout="{net.readout}".'
            )
        d.check_forward("bptt: SlidingBPTT expects", "Use FullBPTT().")
        d.check_plain("bptt: SlidingBPTT expects", "Use FullBPTT().")

    def check_gradient(self) -> None:
        raise ConfigError(
            f"bptt: expected FullBPTT(), TruncatedBPTT(k1, k2) or CheckpointedBPTT(), got {self}, which has "
            f"no gradient for one set of weights.  Use fit."
        )

    def check_loss(self, loss: Loss) -> None:
        super().check_loss(loss)
        if loss.average != "rows":
            raise ConfigError(
                f'loss: expected average="rows" with SlidingBPTT, which updates after every single row, got '
                f"{loss}.  Use FullBPTT()."
            )

    def check_data(self, sample_weight: Any, shuffle: bool | None) -> None:
        if shuffle:
            raise ConfigError(
                "shuffle: expected None or False with SlidingBPTT, which runs the sequences in their order, "
                "got True.  Use FullBPTT()."
            )
        if sample_weight is not None:
            raise ConfigError(
                "sample_weight: expected None with SlidingBPTT, which updates after every single pattern, "
                f"got {type(sample_weight).__name__}.  Use FullBPTT()."
            )

    def check_sequences(self, train: Sequences) -> None:
        check_no_windows(train, "x")

    def every(self, net: Model) -> bool:
        """True: each window has a target, so every step of the series has one."""
        return True

    def rows_ahead(self, train: Sequences) -> int:
        return self.lead

    def isa(self, net: Model, chosen: str | None) -> str | None:
        """The instruction set of a plan: the chosen one, else one for the network's widest layer.

        Parameters
        ----------
        net : Model
        chosen : str or None

        Returns
        -------
        str or None
        """
        d = net.description
        if is_own(d.cell):  # compiled for one instruction set
            return chosen
        return isa_for_rows(chosen, net.dtype.itemsize * max(d.hidden_size, d.output_size, *d.head, *d.f))

    def plan_size(self, batch: int, steps: int, every: bool) -> tuple[int, int, bool]:
        """The size of one window."""
        return 1, self.k, False

    def training_part(self, sequences: Sequences, split: float) -> tuple[int, Array]:
        """The training part, where a single series holds out its last steps for validation."""
        if len(sequences) > 1:
            return super().training_part(sequences, split)
        return 1, sequences.length * 0 + n_training(int(sequences.length[0]), split, "steps")

    def runner(self, job: Job) -> Runner:
        return SlidingRunner(job, self)


@suggesting
@dataclass(frozen=True)
class TruncatedBPTT(Unfolding):
    """Truncated BPTT for long sequences: an update every `k1` steps, with gradients over at most `k2` steps.

    A pass runs the next `k1` steps of all sequences of a batch forward, injects the errors of these steps
    only, propagates them back over the last `k2` steps (fewer near the start), sums the gradients of these
    steps, and updates the weights.  States carry over from pass to pass and are never reset within a
    sequence.  Every error is injected exactly once.  The last pass of a sequence may be shorter.

    Parameters
    ----------
    k1 : int
        Steps between two updates, at least 1.
    k2 : int, optional
        Maximum number of steps that an error is propagated back, including its own, at least `k1`; default
        `k1`.

    Raises
    ------
    ConfigError
        If `k1` or `k2` is not an integer of at least 1, or `k1` is greater than `k2`.

    Notes
    -----
    This is BPTT(h; h') with h = k2 and h' = k1 of R. J. Williams and J. Peng, "An efficient gradient-based
    algorithm for on-line training of recurrent network trajectories", Neural Computation 2 (1990).
    k1 = k2 cuts a sequence into chunks, the common form; k1 = 1 is their real-time BPTT(h); with
    k1 = k2 of the length of the sequences it is `FullBPTT`, to the bit.

    The loss of a pass is the weighted mean over the target rows of its steps, in all sequences of the batch;
    a pass without targets advances the states without an update.  If k1 < k2, the backward pass combines
    stored activations, computed with older weights, with the current weights.

    A pass costs k1 forward and at most k2 backward steps.  Memory is that of at most 2 k2 + k1 steps (k1 if
    k2 = k1), regardless of the length of the sequences.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> bf.TruncatedBPTT(5)
    TruncatedBPTT(k1=5, k2=5)
    >>> series = np.sin(np.arange(500) / 5)[:, None]
    >>> net = bf.Network(1, 8, 1, readout="every", seed=0)
    >>> history = net.fit(series[:-1], series[1:], bptt=bf.TruncatedBPTT(5, 20), epochs=3, verbose=0)
    >>> history["loss"][-1] < history["loss"][0]
    True
    """

    keeps_state = True
    input_gradient = False

    k1: int
    k2: int | None = None

    def __post_init__(self) -> None:
        k1 = integer(self.k1, "TruncatedBPTT(k1)")
        k2 = k1 if self.k2 is None else integer(self.k2, "TruncatedBPTT(k2)")
        if k1 > k2:
            raise ConfigError(
                f"TruncatedBPTT(k1, k2): expected k1 <= k2, got k1={k1}, k2={k2}: the errors of the {k1} "
                f"steps since an update are propagated over at least these.  Try TruncatedBPTT({k1}, {k1})."
            )
        object.__setattr__(self, "k1", k1)
        object.__setattr__(self, "k2", k2)

    def core(self, steps: int) -> dict[str, int]:
        return {"update_every": min(self.k1, steps), "look_back": min(self.k2 or self.k1, steps)}

    def check(self, net: Model) -> None:
        net.description.check_forward(f"bptt: {self} expects", "Use FullBPTT().")

    def warn(self, steps: int, stacklevel: int) -> None:
        if self.k2 is not None and self.k2 > steps:
            warnings.warn(
                f"bptt: {self} truncates nothing, as the longest sequence has {steps} steps: every error "
                f"is propagated to the first step.  Training continues; a k2 below {steps} would truncate.",
                UserWarning,
                stacklevel=stacklevel,
            )

    def updates(self, batches: int, steps: int) -> tuple[int, str]:
        return batches * -(-steps // self.k1), "pass"


@suggesting
@dataclass(frozen=True)
class CheckpointedBPTT(Unfolding):
    """Gradient checkpointing: the exact gradient of very long sequences in little memory.

    The forward pass stores only the state at the start of every segment of `segment` steps.  The backward
    pass reruns the segments forward, the last one first, each as an ordinary unfolding.  States, outputs and
    loss equal those of `FullBPTT` to the bit, including dropout; the gradient equals it up to the order of
    summation over the segments.  It costs up to one more forward pass.

    Parameters
    ----------
    segment : int, optional
        Steps of a segment, at least 1; default the square root of the steps of the longest sequence, rounded
        up.  A segment as long as the sequences recomputes nothing and saves no memory.
    slots : int, optional
        Maximum number of stored initial states of segments (checkpoints), including the first, at least 1.
        With fewer slots than segments, states are recomputed from earlier ones by the binomial schedule,
        which needs the fewest steps; `forward_steps` returns their number.  Default: one slot per segment.

    Raises
    ------
    ConfigError
        If `segment` or `slots` is not an integer of at least 1.

    Notes
    -----
    Memory for T steps: T / segment states (or `slots` of them), and the tape of one
    segment.  Segments: T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training deep nets with sublinear memory
    cost", arXiv:1604.06174 (2016).  Slots: A. Griewank and A. Walther, "Algorithm 799: Revolve: an
    implementation of checkpointing for the reverse or adjoint mode of computational differentiation", ACM
    Transactions on Mathematical Software 26 (2000).

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.Network(8, 32, 1, cell="lstm", seed=0)
    >>> little = net.estimate_memory(1, 10_000, bptt=bf.CheckpointedBPTT())
    >>> little < net.estimate_memory(1, 10_000) / 10
    True
    """

    segment: int | None = None
    slots: int | None = None

    def __post_init__(self) -> None:
        for name in ("segment", "slots"):
            if getattr(self, name) is not None:
                value = integer(getattr(self, name), f"CheckpointedBPTT({name})")
                object.__setattr__(self, name, value)

    def core(self, steps: int) -> dict[str, int]:
        segment = math.isqrt(steps - 1) + 1 if self.segment is None else min(self.segment, steps)
        return {"segment": segment, "checkpoints": self.slots or 0}

    def check(self, net: Model) -> None:
        net.description.check_forward(f"bptt: {self} expects", "Use FullBPTT().")

    def forward_steps(self, steps: int) -> int:
        """The number of forward steps of f for one gradient of a sequence.

        Parameters
        ----------
        steps : int
            T, the steps of the sequence, at least 1.

        Returns
        -------
        forward_steps : int
            Between T (one segment, no recomputation) and, with `slots` = 1, about T^2 / (2 segment); with one
            slot per segment 2 T minus the steps of the last segment.

        Raises
        ------
        ConfigError
            If `steps` is not an integer of at least 1.

        Notes
        -----
        T steps are run with a tape.  Further steps lead from a stored state to a segment: p(n, s) segments
        for n segments and s slots, with p(n, 1) = n (n - 1) / 2, and p(n, s) the minimum of i + p(i, s) + p(n
        - i, s - 1) over i from 1 to n - 1.  Griewank and Walther's closed form is p(n, s) = r n - C(s + r, s
        + 1), with r the smallest number such that n <= C(s + r, s).

        Examples
        --------
        >>> import bptt_fast as bf
        >>> bf.CheckpointedBPTT(segment=10).forward_steps(1000)
        1990
        >>> bf.CheckpointedBPTT(segment=10, slots=5).forward_steps(1000)
        4160
        """
        steps = integer(steps, "forward_steps: steps")
        segment = self.core(steps)["segment"]
        n = -(-steps // segment)
        s = min(self.slots or n, n)
        r = 0
        while math.comb(s + r, s) < n:
            r += 1
        return steps + segment * (r * n - math.comb(s + r, s + 1))


def get(bptt: Any) -> Unfolding:
    """The checked unfolding; None is FullBPTT()."""
    if bptt is None:
        return FullBPTT()
    if isinstance(bptt, Unfolding):
        return bptt
    raise ConfigError(
        "bptt: expected FullBPTT(), SlidingBPTT(k), TruncatedBPTT(k1, k2) or CheckpointedBPTT(), got "
        f"{bptt!r}.{_of_a_number(bptt)}"
    )


def get_sliding(bptt: Any, name: str) -> SlidingBPTT:
    """The unfolding if it is SlidingBPTT; else raises a ConfigError that begins with `name`."""
    if isinstance(bptt, SlidingBPTT):
        return bptt
    raise ConfigError(f"{name}: expected SlidingBPTT(k), got {bptt!r}.{_of_a_number(bptt)}")


def _of_a_number(steps: Any) -> str:
    """The end of a message on a number of steps in place of an unfolding."""
    return f"  For windows of {steps} steps: SlidingBPTT({steps})." if type(steps) is int else ""
