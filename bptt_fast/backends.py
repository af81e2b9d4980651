"""Calls in the workers of the backend of joblib that the caller has chosen: processes or machines."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from .errors import ConfigError
from .version import __version__


class Workers:
    """The workers of joblib's active backend, which `close` releases.

    Attributes
    ----------
    n : int
        How many calls run at the same time.
    """

    def __init__(self, joblib: Any, backend: Any, n_jobs: int | None) -> None:
        self.joblib, self.backend = joblib, backend
        self.n_jobs = -1 if n_jobs is None else n_jobs  # who chooses a backend wants all of it
        self.n: int = backend.effective_n_jobs(self.n_jobs)
        self.opened = ExitStack()
        self.parallel: Any = None  # opened by the first calls
        self.common: Any = None  # or what stands for it

    def results(
        self, function: Callable[..., Any], common: Any, calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """The results of `function` for these arguments, in any order, as they come.

        With some backends (Ray, Spark) they come when each worker has finished a call.

        Parameters
        ----------
        function : callable
            A function of a module.
        common : object
            The first argument of all calls, with the data; always the same one.
        calls : list of tuple
            The other arguments of each call.
        """
        if not calls:
            return
        continuous = self.backend.supports_return_generator
        if self.parallel is None:
            self.common = self._shared(common)
            return_as = "generator_unordered" if continuous else "list"
            parallel = self.joblib.Parallel(n_jobs=self.n_jobs, batch_size=1, return_as=return_as)
            self.parallel = self.opened.enter_context(parallel)
        call, size = self.joblib.delayed(_call), len(calls) if continuous else self.n
        for start in range(0, len(calls), size):
            part = calls[start : start + size]
            yield from self.parallel(call(__version__, function, self.common, *others) for others in part)

    def _shared(self, common: Any) -> Any:
        """What stands for an object in the calls.

        Dask gets a task whose result, the pickle, is sent once to each worker, and again where one dies.
        joblib would scatter the object, and the death of the worker that has it would end everything.
        """
        futures = getattr(self.backend, "data_futures", None)
        if futures is None:
            return common
        from cloudpickle import dumps

        content = dumps(common)
        futures[id(content)] = self.backend.client.submit(bytes, content, pure=False)
        self.opened.callback(futures.pop, id(content))
        return content

    def close(self) -> None:
        """Release the workers."""
        self.opened.close()


def chosen() -> Workers | None:
    """The workers of the backend that the caller has chosen; None for threads, which need no joblib."""
    joblib = sys.modules.get("joblib")
    if joblib is None:
        return None
    backend, n_jobs = joblib.parallel.get_active_backend(prefer="threads")
    return None if getattr(backend, "uses_threads", False) else Workers(joblib, backend, n_jobs)


def _call(version: str, function: Callable[..., Any], common: Any, *others: Any) -> Any:
    """The result of the function, in a worker, which may have other packages."""
    if version != __version__:
        raise ConfigError(
            f"bptt_fast: expected version {version} in all processes, as in the caller's, got {__version__} "
            f"in a worker.  Install the same version on all machines."
        )
    return function(pickle.loads(common) if isinstance(common, bytes) else common, *others)
