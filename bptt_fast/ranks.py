"""Data-parallel training: gradient sums of the shards of a batch, over the ranks of an MPI communicator.

The sums do not depend on the number of ranks: a batch has a fixed number of shards, whose gradients are added
in the order of a fixed binary tree.  `fit` gets a communicator or `Shards`, and owns a `Ranks`; the C core
calls it before each update.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ConfigError, RankError, integer, suggesting

if TYPE_CHECKING:
    from .data import Array

SHARD = 8  # sequences of a shard by default


@suggesting
@dataclass(frozen=True)
class Shards:
    """A fixed number of parts of a batch, for the argument `comm` of ``Network.fit``.

    The gradients of the parts are added in a fixed order.  The results depend on the number of parts, but not
    on the number of ranks that compute them.

    Parameters
    ----------
    count : int
        The number of parts: at least one for each rank, at most one for each sequence of a batch.
    comm : mpi4py.MPI.Comm, optional
        The communicator whose ranks compute them.  None: this process computes all, without MPI.

    Raises
    ------
    ConfigError
        If `count` is not a number of at least 1, or `comm` is not a communicator.
    ImportError
        If there is a `comm`, and mpi4py is not installed.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> history = net.fit(x, x[:, 0], batch_size=20, comm=bf.Shards(4), verbose=0)  # as on up to 4 ranks
    """

    count: int
    comm: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", integer(self.count, "Shards(count)", 1, None))
        if self.comm is not None:
            _check(self.comm, "Shards(comm)", "")


# what a rank says before every exchange
GOING, STOPPING, FAILED = range(3)

Node = tuple[int, int]
"""The shards [begin, end) that a node of the tree sums."""


def children(node: Node) -> tuple[Node, Node]:
    """The two halves of a node of at least two shards."""
    begin, end = node
    middle = (begin + end) // 2
    return (begin, middle), (middle, end)


def nodes_of(part: Node, node: Node) -> list[Node]:
    """The largest nodes of the tree under `node` that lie in the shards `part`, in order."""
    if part[0] <= node[0] and node[1] <= part[1]:
        return [node]
    if node[1] <= part[0] or part[1] <= node[0]:
        return []
    return [inner for child in children(node) for inner in nodes_of(part, child)]


def nodes_under(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    if node[1] - node[0] > 1:
        for child in children(node):
            yield from nodes_under(child)


def tree_sum(known: Mapping[Node, Any], node: Node) -> Any:
    """The sum of the values of a node: known, or that of its two halves."""
    if node in known:
        return known[node]
    first, second = children(node)
    return tree_sum(known, first) + tree_sum(known, second)


class Ranks:
    """The ranks that train one network together; one rank without a communicator.

    All ranks call the same methods in the same order.  Before each exchange of data they exchange a few
    numbers (`meet`), by which all of them learn that one wants to stop or has failed.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or Shards
        A communicator: shards of 8 sequences.

    Attributes
    ----------
    rank, size : int
    shards : int
        Shards of a batch.
    part : tuple of int
        The shards [begin, end) of this rank.
    batch : int
        Sequences of a batch.
    """

    def __init__(self, comm: Any) -> None:
        self.wanted: int | None = None
        if isinstance(comm, Shards):
            self.comm, self.wanted = comm.comm, comm.count
        else:
            _check(comm, "comm", " or Shards(count)")
            self.comm = comm
        self.rank: int = 0 if self.comm is None else self.comm.Get_rank()
        self.size: int = 1 if self.comm is None else self.comm.Get_size()
        self.state, self.stopping, self.exchanging = GOING, False, False
        self.interrupt: Callable[[], Any] | None = None  # a Ctrl-C that came during an exchange
        self.shards, self.batch, self.part, self.width = 1, 1, (0, 1), 1
        self.nodes: list[list[Node]] = [[(0, 1)]]

    # ---- the shards

    def divide(self, batch: int) -> None:
        """Cut batches of `batch` sequences into shards."""
        n = -(-batch // SHARD) if self.wanted is None else integer(self.wanted, "Shards(count)", 1, batch)
        if n < self.size:
            raise ConfigError(
                f"comm: expected at most {n} ranks for batches of {batch} sequences in {n} shards, got "
                f"{self.size}.  Use Shards({self.size}, comm), a larger batch_size, or fewer ranks."
            )
        parts = [(n * rank // self.size, n * (rank + 1) // self.size) for rank in range(self.size)]
        self.shards, self.batch, self.part = n, batch, parts[self.rank]
        self.nodes = [nodes_of(part, (0, n)) for part in parts]

    @property
    def capacity(self) -> int:
        """Sequences of the largest shard."""
        return -(-self.batch // self.shards)

    @property
    def most_nodes(self) -> int:
        """The largest number of sums of a rank."""
        return max(map(len, self.nodes))

    def agree(self, identity: Mapping[str, str]) -> None:
        """Raise a ConfigError on all ranks unless they have the same texts.

        Before, every `meet` of this fit has one number, after it one for each sum of a rank.
        """
        self.meet()
        if self.comm is not None and self.size > 1:
            with self.exchange():
                first, *others = self.comm.allgather(dict(identity))
            for rank, other in enumerate(others, 1):
                for name in {**first, **other}:
                    expected, got = first.get(name, "none"), other.get(name, "none")
                    if expected != got:
                        raise ConfigError(
                            f"{name}: expected the same on all ranks, got {expected} on rank 0 and {got} on "
                            f"rank {rank}.  Call fit with equal arguments on all of them."
                        )
        self.width = self.most_nodes

    # ---- exchanges

    def meet(self, values: Any = ()) -> Array:
        """The numbers of all ranks, (ranks, width); raises a RankError if one has failed."""
        if self.state != FAILED:
            self._hear()
        mine = np.zeros(1 + self.width)
        mine[0] = self.state
        mine[1 : 1 + len(values)] = values
        every = mine[None]
        if self.comm is not None and self.size > 1:
            every = np.empty((self.size, len(mine)))
            with self.exchange():
                self.comm.Allgather(mine, every)
        if (every[:, 0] == FAILED).any() and self.state != FAILED:
            raise RankError(self._failures(""))
        self.stopping = bool((every[:, 0] == STOPPING).any())
        return every[:, 1:]

    def _failures(self, text: str) -> str:
        """What the failed ranks say."""
        assert self.comm is not None
        with self.exchange():
            texts = self.comm.allgather(text)
        return "; ".join(f"rank {rank}: {said}" for rank, said in enumerate(texts) if said)

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """An exchange that all ranks have begun, after which they are where they were."""
        self.exchanging = True
        yield
        self.exchanging = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """The work of a fit: an error on one rank, or Ctrl-C, ends it on all of them."""
        heard = signal.getsignal(signal.SIGINT)
        waits = callable(heard) and threading.current_thread() is threading.main_thread()

        def wait(*arguments: Any) -> None:
            self.interrupt = lambda: heard(*arguments)  # type: ignore[operator, misc]
            if not self.exchanging:
                self._hear()

        if waits:
            signal.signal(signal.SIGINT, wait)
        try:
            yield
            self._hear()
        except RankError:
            raise
        except BaseException as error:
            if self.size > 1:
                self._fail(error)
            raise
        finally:
            if waits:
                signal.signal(signal.SIGINT, heard)

    def _hear(self) -> None:
        """Handle a Ctrl-C that came during an exchange, which has to end on all ranks first."""
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()

    def _fail(self, error: BaseException) -> None:
        assert self.comm is not None
        if self.exchanging:  # the others wait for what this rank no longer sends
            from traceback import print_exception

            print_exception(error)
            print(
                f"bptt_fast: rank {self.rank} failed in an exchange; all ranks end.",
                file=sys.stderr,
                flush=True,
            )
            self.comm.Abort(1)
        self.state = FAILED
        self.meet()
        self._failures(f"{type(error).__name__}: {error}".removesuffix(": "))

    def later(self, stop: bool) -> bool:
        """Stop all ranks before their next update, if `stop`; False: this one continues until then."""
        self._hear()
        if stop:
            self.state = STOPPING
        return False

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank."""
        return bool(self.meet([value]).any())

    def first(self, value: float) -> float:
        """The number of rank 0."""
        return float(self.meet([value])[0, 0])

    def share(self, state: Any, *arrays: Array) -> Any:
        """The object of rank 0; the arrays become those of rank 0."""
        self.meet()
        if self.comm is None or self.size == 1:
            return state
        with self.exchange():
            for array in arrays:
                self.comm.Bcast(array)
            return self.comm.bcast(state)

    def sum(self, values: Mapping[int, float]) -> float:
        """The sum over all shards of the numbers of this rank's, by their number."""
        known = {(i, i + 1): value for i, value in values.items()}
        return self.sum_of_nodes([tree_sum(known, node) for node in self.nodes[self.rank]])

    def sum_of_nodes(self, values: list[float]) -> float:
        """The sum over all shards of the numbers of this rank's nodes."""
        return float(tree_sum(self.by_node(self.meet(values).tolist()), (0, self.shards)))

    def by_node(self, values: Any) -> dict[Node, Any]:
        """What each rank has for each of its nodes."""
        return {
            node: values[rank][i] for rank, nodes in enumerate(self.nodes) for i, node in enumerate(nodes)
        }


class Sums:
    """The sums of gradients and losses of a rank's shards, in the order in which the core computes them.

    Two sums that make a node of the tree are added at once, so that few are kept.  Over the ranks each adds
    up a slice of the parameters, so that what it sends does not grow with their number.

    Parameters
    ----------
    ranks : Ranks
    size : int
        Numbers of a gradient.
    dtype : dtype
    """

    def __init__(self, ranks: Ranks, size: int, dtype: Any) -> None:
        self.ranks, self.begin = ranks, ranks.part[0]
        self.inner = {node for part in ranks.nodes[ranks.rank] for node in nodes_under(part)}
        self.nodes: list[Node] = []  # of the sums in the first rows
        self.losses: list[float] = []
        self.rows = np.empty((0, 0))
        most = 1 + max(self._push(shard, 0.0)[0] for shard in range(*ranks.part))
        self.rows = np.empty((most, size), dtype)
        n, width = ranks.size, -(-size // ranks.size)  # of a slice
        self.given = np.zeros((n, ranks.most_nodes, width) if n > 1 else (0,), dtype)
        self.taken, self.total = np.empty_like(self.given), np.empty((n, width) if n > 1 else (0,), dtype)

    def _push(self, shard: int, loss: float) -> tuple[int, int]:
        """Take the sum of a shard, in the row after the others: this row, and how many to add up."""
        if shard == self.begin:
            self.nodes, self.losses = [], []
        row, merged = len(self.nodes), 0
        self.nodes.append((shard, shard + 1))
        self.losses.append(loss)
        while len(self.nodes) > 1 and (self.nodes[-2][0], shard + 1) in self.inner:
            last = self.losses.pop()
            self.losses[-1] += last
            self.nodes[-2:] = [(self.nodes[-2][0], shard + 1)]
            merged += 1
        return row, merged

    def add(self, shard: int, loss: float) -> int:
        """Add up what can be, after the core has written the sum of a shard; the row for the next one."""
        row, merged = self._push(shard, loss)
        for last in range(row, row - merged, -1):
            self.rows[last - 1] += self.rows[last]
        return len(self.nodes)

    def exchange(self) -> float | None:
        """Put the sum over all shards into the first row; the sum of their losses, or None to stop."""
        loss = self.ranks.sum_of_nodes(self.losses)
        if self.ranks.stopping:
            return None
        if self.ranks.size > 1:
            self._add_ranks()
        return loss

    def _add_ranks(self) -> None:
        """Put the sum over all ranks into the first row."""
        comm, size, width = self.ranks.comm, self.rows.shape[1], self.given.shape[2]
        assert comm is not None
        for i in range(len(self.nodes)):
            for rank, slices in enumerate(self.given):
                part = self.rows[i, rank * width : (rank + 1) * width]
                slices[i, : len(part)] = part
        with self.ranks.exchange():
            comm.Alltoall(self.given, self.taken)
            slices = self.ranks.by_node(self.taken)
            comm.Allgather(np.ascontiguousarray(tree_sum(slices, (0, self.ranks.shards))), self.total)
        self.rows[0] = self.total.ravel()[:size]


def _check(comm: Any, name: str, alternative: str) -> None:
    """Raise unless the argument `name` is a communicator of mpi4py."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(
            f'{name}: expected mpi4py to be installed.  Run: pip install "bptt-fast[mpi]".'
        ) from error
    if not isinstance(comm, MPI.Intracomm):
        raise ConfigError(
            f"{name}: expected a communicator of mpi4py such as MPI.COMM_WORLD{alternative}, got {comm!r}."
        )
