"""Properties of the machine: threads, instruction sets, memory; and `show_config`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from . import _core  # type: ignore[attr-defined]
from .errors import ConfigError, choice, integer
from .version import __version__

MAX_THREADS = 1024


@dataclass(frozen=True)
class CallersIsa:
    """The instruction set of a call that runs on other machines, whose environment doesn't count.

    Parameters
    ----------
    chosen : str or None
        The one of the call, checked; None: the best one, or one that fits the rows.
    best : str
        The best one of the caller's machine.
    """

    chosen: str | None
    best: str = field(default_factory=lambda: _core.isas()[-1])

    def here(self) -> str | None:
        """The one with which this machine computes the same bits; raises a ConfigError if it has none."""
        supported, wanted = _core.isas(), self.chosen or self.best
        if wanted not in supported:
            raise ConfigError(
                f"isa: expected {wanted} in all workers, as in the caller's process, got {supported[-1]} in "
                f"one.  Set BPTT_FAST_ISA={supported[-1]} where the call is made."
            )
        return None if self.chosen is None and wanted == supported[-1] else wanted


def machine_for(threads: int | None, isa: str | CallersIsa | None) -> tuple[int, str | None]:
    """The number of threads and the instruction set of a call: its arguments, or the machine's defaults."""
    checked = machine().threads if threads is None else integer(threads, "threads", 1, MAX_THREADS)
    if isinstance(isa, CallersIsa):
        return checked, isa.here()
    return checked, machine().isa if isa is None else choice(isa, "isa", _core.isas())


def isa_for_rows(isa: str | None, nbytes: int) -> str | None:
    """`isa`, or if that is None one whose vectors fit single rows of `nbytes` bytes; None: the best one.

    Half a vector of AVX-512 would be empty in a row of at most 32 bytes, and its division takes longer.
    """
    return "avx2" if isa is None and nbytes <= 32 and _core.isas()[-1] == "avx512" else isa


@dataclass(frozen=True)
class Machine:
    """Threads, their limits by name, and a forced instruction set, from the machine and the environment."""

    threads: int
    limits: dict[str, int]
    isa: str | None


@cache
def machine() -> Machine:
    """Read the machine and the environment, once.

    The number of threads is the minimum of the available processors, the cgroup quota and two environment
    variables."""
    affinity = getattr(os, "sched_getaffinity", None)
    limits = {"processors": len(affinity(0)) if affinity else os.cpu_count() or 1}
    quota = _cgroup_quota()
    if quota is not None:
        limits["cgroup quota"] = max(1, int(quota))
    for variable in ("BPTT_FAST_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(variable, "").strip()
        if variable == "OMP_NUM_THREADS":
            text = text.split(",")[0].strip()
        if text:
            try:
                limits[variable] = integer(int(text), variable, 1, None)
            except ValueError:
                raise ConfigError(
                    f"Environment variable {variable}: expected a number of threads of at least 1, "
                    f"got {text!r}.  Unset it or correct it."
                ) from None
    isa = os.environ.get("BPTT_FAST_ISA", "").strip() or None
    if isa is not None:
        choice(isa, "Environment variable BPTT_FAST_ISA", _core.isas())
    return Machine(min(*limits.values(), MAX_THREADS), limits, isa)


def _cgroup_quota() -> float | None:
    """The processor quota of the control groups of this process and their ancestors; None without a limit."""
    quotas = []
    for path in _cgroup_folders():
        try:
            if os.path.exists(f"{path}/cpu.max"):
                quota, period = _words(f"{path}/cpu.max")
            else:
                (quota,), (period,) = _words(f"{path}/cpu.cfs_quota_us"), _words(f"{path}/cpu.cfs_period_us")
            if quota not in ("max", "-1"):
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas, default=None)


def _cgroup_folders() -> Iterator[str]:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for group in groups:
        if len(group) == 3 and (group[1] == "" or "cpu" in group[1].split(",")):
            root = "/sys/fs/cgroup" + ("/cpu" if group[1] else "")
            parts = [part for part in group[2].split("/") if part]
            for depth in range(len(parts) + 1):
                yield "/".join([root, *parts[:depth]])


def _words(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().split()


def show_config() -> None:
    """Print versions, the instruction sets of this machine, the chosen one, and the number of threads.

    Raises
    ------
    ConfigError
        If BPTT_FAST_NUM_THREADS, OMP_NUM_THREADS or BPTT_FAST_ISA has an invalid value.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.show_config()  # doctest: +SKIP
    bptt_fast   0.1.0
    """
    config = configuration()
    chosen = f"{config['isa']} ({'BPTT_FAST_ISA' if machine().isa else 'the best here'})"
    limits = ", ".join(f"{name} {limit}" for name, limit in config["limits"].items())
    rows = {
        "bptt_fast": config["bptt_fast"],
        "instances": f"{chosen}; supported: {', '.join(config['supported'])}",
        "threads": f"{config['threads']} (the smallest of: {limits})",
        "numpy": config["numpy"],
        "python": f"{config['python']} ({config['executable']})",
        "platform": config["platform"],
    }
    print("\n".join(f"{name:<10}  {text}" for name, text in rows.items()))


def configuration() -> dict[str, Any]:
    """The output of `show_config` as plain values."""
    import platform

    supported = _core.isas()
    return {
        "bptt_fast": __version__,
        "isa": machine().isa or supported[-1],
        "supported": list(supported),
        "threads": machine().threads,
        "limits": machine().limits,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
    }


def get_include() -> str:
    """The folder of the C library, with its header bptt.h and all sources.

    Returns
    -------
    folder : str
        A path for the compiler's ``-I``, and for ``include_dirs`` of an extension that cimports
        ``bptt_fast._core``.  ``gcc -c @FOLDER/flags FOLDER/*.c FOLDER/instances/*.c`` compiles the library;
        see docs/c.md.

    Examples
    --------
    >>> import os, bptt_fast as bf
    >>> os.path.exists(os.path.join(bf.get_include(), "bptt.h"))
    True
    """
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, "csrc")
    return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(package), "csrc")


@cache
def memory() -> int:
    """Bytes of physical memory of this machine, or 1 TiB if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 1 << 40
