"""Atomic replacement of files, direct writing to pipes and devices, and tables as CSV text."""

from __future__ import annotations

import errno
import io
import os
import re
import reprlib
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO

from .errors import ConfigError
from .interrupts import pieces


def named(path: Any, name: str = "path") -> str:
    """A path as a str; raises a ConfigError about the argument `name` if no file can have it."""
    try:
        text = os.fsdecode(os.fspath(path))
        encoded = os.fsencode(text)
    except (TypeError, UnicodeError):
        raise ConfigError(
            f"{name}: expected a str or path-like, got {reprlib.repr(path)} ({type(path).__name__})."
        ) from None
    if b"\0" in encoded:
        raise ConfigError(
            f"{name}: expected the name of a file, got {reprlib.repr(path)} with a null character."
        )
    return text


def csv_text(
    names: Iterable[str], columns: Iterable[Iterable[Any]], end: str = "\r\n", sep: str = ","
) -> str:
    """Columns of equal length as separated values with a header line."""
    import csv

    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter=sep, lineterminator=end)
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


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Give an OSError the name of the file, which those of a write, such as of a full disk, lack."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = path
        raise


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
        with naming(path):
            _write_through(path, content)
        return
    if status is not None and not stat.S_ISREG(status.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(code, os.strerror(code), path)
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    _remove_leftovers(folder)
    temporary, file = _temporary(folder, private=status is not None)
    try:
        with naming(path), file:
            if status is not None:
                _take_over(file.fileno(), temporary, status)
            for piece in pieces(content):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)  # before the lock ends with the file
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


def size_on_disk(path: str) -> int:
    """The size of a file, whose content is then on the disk; 0 for a stream or a missing file."""
    if is_stream(path) or not os.path.exists(path):
        return 0
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def ends_in_line(path: str) -> bool:
    """Whether a line may follow: the last one of a file is whole, it has none, or it is a stream."""
    if is_stream(path) or not os.path.exists(path) or not os.path.getsize(path):
        return True
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def shorten(path: str, size: int) -> None:
    """Keep the first `size` bytes of a file, which is created if missing; a stream has nothing to remove."""
    if not is_stream(path):
        with open(path, "ab") as file:
            file.truncate(size)


# A killed process leaves a temporary file, without the lock that the process held.
LEFTOVER = r"\.bptt_fast\.[0-9]+\.[0-9a-f]{8}"


def _temporary(folder: str, private: bool) -> tuple[str, BinaryIO]:
    """The name of a new, locked file in a folder, and the file; `private`: only its owner may read it."""
    while True:
        path = os.path.join(folder, f".bptt_fast.{os.getpid()}.{os.urandom(4).hex()}")
        file = open(path, "xb", opener=_private if private else None)  # noqa: SIM115
        _lock(file, wait=True)
        if os.path.exists(path):  # else another save removed it before it was locked
            return path, file
        file.close()


def _remove_leftovers(folder: str) -> None:
    """Remove the temporary files of killed processes from a folder."""
    with suppress(OSError):
        for name in filter(partial(re.fullmatch, LEFTOVER), os.listdir(folder)):
            path = os.path.join(folder, name)
            with suppress(OSError), open(path, "r+b") as file:
                if _lock(file, wait=False):
                    os.unlink(path)


def _lock(file: BinaryIO, wait: bool) -> bool:
    """Lock a file for this descriptor; False if another one has the lock or the file system knows none."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


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
