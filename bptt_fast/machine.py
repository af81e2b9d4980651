"""The machine: threads, instruction sets, memory, and what `show_config` prints of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from . import _core  # type: ignore[attr-defined]
from .errors import ConfigError, choice, integer
from .version import __version__

MAX_THREADS = 1024


def machine_for(threads: int | None, isa: str | None) -> tuple[int, str | None]:
    """The number of threads and the instruction set of a call: what it asks for, or what the machine says."""
    return (
        machine().threads if threads is None else integer(threads, "threads", 1, MAX_THREADS),
        machine().isa if isa is None else choice(isa, "isa", _core.isas()),
    )


@dataclass(frozen=True)
class Machine:
    """What the machine and the environment say, read once: threads, the limits by name, a forced isa."""

    threads: int
    limits: dict[str, int]
    isa: str | None


@cache
def machine() -> Machine:
    """Threads: the smallest of the processors this process may use, the cgroup quota, and two variables."""
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
    """Processors that the control groups of this process and those above allow; None without a limit."""
    found = []
    for path in _cgroup_folders():
        try:
            if os.path.exists(f"{path}/cpu.max"):
                quota, period = _words(f"{path}/cpu.max")
            else:
                (quota,), (period,) = _words(f"{path}/cpu.cfs_quota_us"), _words(f"{path}/cpu.cfs_period_us")
            if quota not in ("max", "-1"):
                found.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(found, default=None)


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
    """Print versions, the instruction sets of this machine, the one chosen, the number of threads and why.

    Raises
    ------
    ConfigError
        If BPTT_FAST_NUM_THREADS, OMP_NUM_THREADS or BPTT_FAST_ISA has a value that cannot be used.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.show_config()  # doctest: +SKIP
    bptt_fast   0.1.0
    """
    found = configuration()
    chosen = f"{found['isa']} ({'BPTT_FAST_ISA' if machine().isa else 'the best here'})"
    limits = ", ".join(f"{name} {limit}" for name, limit in found["limits"].items())
    rows = {
        "bptt_fast": found["bptt_fast"],
        "instances": f"{chosen}; supported: {', '.join(found['supported'])}",
        "threads": f"{found['threads']} (the smallest of: {limits})",
        "numpy": found["numpy"],
        "python": f"{found['python']} ({found['executable']})",
        "platform": found["platform"],
    }
    print("\n".join(f"{name:<10}  {text}" for name, text in rows.items()))


def configuration() -> dict[str, Any]:
    """What `show_config` prints, as plain values."""
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
    """The folder of the C library: its header bptt.h and all its sources.

    Returns
    -------
    folder : str
        For the compiler's ``-I``, and for ``include_dirs`` of an extension that cimports ``bptt_fast._core``.
        ``gcc -c @FOLDER/flags FOLDER/*.c FOLDER/instances/*.c`` compiles the library; docs/c.md tells more.

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
    """Bytes of memory of this machine, or 1 TiB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 1 << 40
