"""Folds of cross-validation: who is trained on, validated on and tested on, from splitters or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .data import Array
from .errors import ConfigError, ShapeError, integer, plain


class Part(NamedTuple):
    """The sequences of a fit, by index in increasing order, and the labels of its subject and its folds."""

    subject: Any
    fold: int | None
    inner: int | None
    train: Array
    validation: Array
    test: Array


NONE = np.zeros(0, np.int64)


def parts(n: int, y: Any, cv: Any, inner: Any, groups: Any, subjects: Any) -> list[Part]:
    """The parts of n sequences for all subjects, folds and inner folds, in this order.

    Parameters
    ----------
    n : int
    y : array or list
        Targets, for splitters that stratify.
    cv, inner : None, int, array of int (n,), splitter, or list of pairs (train, test)
    groups, subjects : array-like (n,) or (n, columns), or None
        Labels of the sequences.
    """
    labels = labels_of(groups, n, "groups")
    if labels is not None and cv is None and inner is None:
        raise ConfigError("groups: expected folds with them, got cv=None and inner=None.  Example: cv=5.")
    group = None if labels is None else _numbered(labels)
    found = []
    for subject, rows in _subjects(subjects, n):
        where = "" if subject is None else f" of subject {subject!r}"
        for fold, rest, test in _split(cv, rows, n, y, group, "cv", where):
            inside = where if fold is None else f"{where} in fold {fold}"
            for number, train, validation in _split(inner, rest, n, y, group, "inner", inside):
                found.append(Part(subject, fold, number, train, validation, test))
    return found


def labels_of(labels: Any, n: int, name: str) -> list[Any] | None:
    """One label per sequence; tuples where there are several columns."""
    if labels is None:
        return None
    values = labels.to_numpy() if hasattr(labels, "to_numpy") else labels
    values = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ConfigError(f"{name}: expected a label for each of {n} sequences, got {labels!r}.")
    values = [tuple(value) if isinstance(value, list) else plain(value) for value in values]
    if len(values) != n:
        raise ShapeError(f"{name}: expected {n} labels, one for each sequence of x, got {len(values)}.")
    for value in values:
        try:
            hash(value)
            missing = bool(value != value)  # each NaN would be a label of its own; NA of pandas raises
        except TypeError:
            raise ConfigError(f"{name}: expected labels such as names or numbers, got {value!r}.") from None
        if missing:
            raise ConfigError(f"{name}: expected a label for each sequence, got {value!r}.")
    return values


def _numbered(labels: Sequence[Any]) -> Array:
    """A number for each label, in the order in which they appear."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64)


def _subjects(subjects: Any, n: int) -> Iterator[tuple[Any, Array]]:
    labels = labels_of(subjects, n, "subjects")
    if labels is None:
        yield None, np.arange(n, dtype=np.int64)
        return
    for label in labels:
        if not isinstance(label, (str, int)):
            raise ConfigError(f"subjects: expected names or integers, got {label!r}.")
    number = _numbered(labels)
    for i, label in enumerate(dict.fromkeys(labels)):
        yield label, np.flatnonzero(number == i)


def _split(
    cv: Any, rows: Array, n: int, y: Any, group: Array | None, name: str, where: str
) -> Iterator[tuple[int | None, Array, Array]]:
    """(label of the fold, the other rows, the rows held out) for each fold of some of n sequences."""
    if cv is None:
        yield None, rows, NONE
        return
    of_rows = None if group is None else group[rows]
    if hasattr(cv, "split") and not isinstance(cv, (str, bytes)):
        labels = np.asarray(y)[rows] if hasattr(y, "__array__") and len(y) == n else None
        try:
            pairs = list(cv.split(np.zeros((len(rows), 1)), labels, of_rows))
        except ValueError as error:
            raise ConfigError(f"{name}: expected folds{where}, but {cv!r} raised: {error}") from error
        folds = [(i, _indices(pair, len(rows), name, i)) for i, pair in enumerate(pairs)]
    elif _are_pairs(cv):
        if len(rows) < n:
            raise ConfigError(
                f"{name}: expected a splitter, fold numbers or a number of folds{where}, which is split by "
                f"itself, got pairs of indices."
            )
        folds = [(i, _indices(pair, len(rows), name, i)) for i, pair in enumerate(cv)]
        held_out = np.unique(np.concatenate([test for _, (_, test) in folds]))
        if len(held_out) < len(rows):
            missing = np.setdiff1d(np.arange(len(rows)), held_out)[0]
            raise ConfigError(
                f"{name}: expected folds that cover all {len(rows)} sequences, got none that holds out "
                f"sequence {missing}.  A splitter may leave some out: pass the splitter itself."
            )
    else:
        number = _fold_numbers(cv, rows, n, of_rows, name, where)
        places = np.arange(len(rows))
        folds = [(int(i), (places[number != i], places[number == i])) for i in np.unique(number)]
    if not folds:
        raise ConfigError(f"{name}: expected at least one fold{where}, got none.")
    for i, (train, test) in folds:
        if of_rows is not None:
            both = np.intersect1d(of_rows[train], of_rows[test])
            if len(both):
                first = int(np.flatnonzero(group == both[0])[0])
                raise ConfigError(
                    f"groups: expected each group on one side of fold {i} of {name}{where}, got that of "
                    f"sequence {first} on both.  Use a number of folds, or a splitter such as GroupKFold."
                )
        yield i, rows[train], rows[test]


def _are_pairs(cv: Any) -> bool:
    return (
        isinstance(cv, (list, tuple))
        and len(cv) > 0
        and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in cv)
        and all(np.ndim(side) == 1 for pair in cv for side in pair)
    )


def _indices(pair: Any, n: int, name: str, fold: int) -> tuple[Array, Array]:
    """The sorted indices of both sides of a fold of n sequences."""
    sides = []
    for side, what in zip(pair, ("training", "held-out"), strict=True):
        indices = np.asarray(side)
        if indices.ndim != 1 or indices.dtype.kind not in "iu" or len(indices) == 0:
            raise ConfigError(f"{name}: expected {what} indices in fold {fold}, got {side!r}.")
        wrong = indices[(indices < 0) | (indices >= n)]
        if len(wrong):
            raise ConfigError(
                f"{name}: expected indices from 0 to {n - 1} in fold {fold}, got {wrong[0]} for {what}."
            )
        unique, counts = np.unique(indices, return_counts=True)
        if len(unique) < len(indices):
            raise ConfigError(
                f"{name}: expected each sequence once in fold {fold}, got {unique[counts > 1][0]} twice for "
                f"{what}."
            )
        sides.append(unique.astype(np.int64))
    both = np.intersect1d(sides[0], sides[1])
    if len(both):
        raise ConfigError(
            f"{name}: expected each sequence on one side of fold {fold}, got {both[0]} on both sides."
        )
    return sides[0], sides[1]


def _fold_numbers(cv: Any, rows: Array, n: int, group: Array | None, name: str, where: str) -> Array:
    """The number of the fold in which each of the rows is held out."""
    if isinstance(plain(cv), int) and not isinstance(cv, bool):
        k = integer(cv, name, 2)
        place = np.arange(len(rows)) if group is None else _numbered(group.tolist())
        count = int(place.max(initial=-1)) + 1
        if k > count:
            what = "sequences" if group is None else "groups"
            raise ConfigError(
                f"{name}: expected at most {count}, the number of {what}{where}, got {k} folds."
            )
        sizes = [count // k + (i < count % k) for i in range(k)]  # as KFold
        return np.repeat(np.arange(k), sizes)[place]
    try:
        number = np.asarray(cv)
    except ValueError:
        number = np.empty(0, object)
    if number.dtype.kind not in "iu":
        raise ConfigError(
            f"{name}: expected a number of folds, an array of fold numbers, a splitter, or a list of pairs "
            f"(train, test) of indices, got {cv!r}."
        )
    if number.shape != (n,):
        raise ShapeError(
            f"{name}: expected ({n},), the fold number of each sequence of x, got {number.shape}."
        )
    if number.min() < 0:
        i = int(np.flatnonzero(number < 0)[0])
        raise ConfigError(
            f"{name}: expected folds that cover all sequences, with numbers of at least 0, got {number[i]} "
            f"for sequence {i}."
        )
    number = number[rows]
    if len(np.unique(number)) < 2:
        raise ConfigError(f"{name}: expected at least two folds{where}, got only number {number[0]}.")
    return number
