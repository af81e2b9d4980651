"""Atomic replacement of files, direct writing to pipes and devices, and tables as CSV text."""

from __future__ import annotations

import csv
import errno
import io
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from .errors import ConfigError


def named(path: Any, name: str = "path") -> str:
    """A path as a str; raises a ConfigError about the argument `name` if no file can have it."""
    try:
        text = os.fsdecode(os.fspath(path))
        encoded = os.fsencode(text)
    except (TypeError, UnicodeError):
        raise ConfigError(
            f"{name}: expected a str or path-like, got {path!r} ({type(path).__name__})."
        ) from None
    if b"\0" in encoded:
        raise ConfigError(f"{name}: expected the name of a file, got {path!r} with a null character.")
    return text


def csv_text(names: Iterable[str], columns: Iterable[Iterable[Any]], end: str = "\r\n") -> str:
    """Columns of equal length as comma-separated values with a header line."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator=end)
    table.writerow(names)
    table.writerows(zip(*columns, strict=True))
    return text.getvalue()


def is_stream(path: str) -> bool:
    """Whether `path` is a pipe, a character device, or the target of standard output or error."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(status.st_mode) or stat.S_ISFIFO(status.st_mode) or _standard(status) is not None


def replace(path: str, content: bytes) -> None:
    """Replace a file by `content` atomically; write to a stream (`is_stream`) directly.

    The target of a symbolic link is replaced.  The mode of an existing file is kept, and its owner and group
    if the system permits it; a new file gets the default mode.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        status = None
        if not os.path.basename(path):  # "" and "new/", which realpath turns into names
            raise
    if is_stream(path):
        _write_through(path, content)
        return
    if status is not None and not stat.S_ISREG(status.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(code, os.strerror(code), path)
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".bptt_fast.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with open(temporary, "xb", opener=_private if status else None) as file:
            if status is not None:
                _take_over(file.fileno(), temporary, status)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _standard(status: os.stat_result) -> int | None:
    """The descriptor of standard output or error if it is the file of `status`, else None."""
    for descriptor in (1, 2):
        with suppress(OSError):  # the descriptor is closed
            if os.path.samestat(status, os.fstat(descriptor)):
                return descriptor
    return None


def _write_through(path: str, content: bytes) -> None:
    print(end="", flush=True)  # flushes earlier output
    descriptor = _standard(os.stat(path))
    with open(path if descriptor is None else os.dup(descriptor), "wb") as file:
        file.write(content)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _take_over(descriptor: int, path: str, old: os.stat_result) -> None:
    """Copy owner, group and mode of an `old` file to a new one, as far as the system permits."""
    if os.name == "posix":
        for owner in (-1, old.st_gid), (old.st_uid, -1):
            with suppress(PermissionError):
                os.chown(descriptor, *owner)
    with suppress(PermissionError):
        os.chmod(descriptor if os.name == "posix" else path, stat.S_IMODE(old.st_mode))
