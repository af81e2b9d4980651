"""What the objects of a fit keep, so that a killed fit can go on from a backup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .errors import ShapeError


class Resumable:
    """An object whose state is the attributes `kept`: numbers, texts, None, arrays, lists or dicts of them.

    A value that cannot be an attribute, such as the length of a file, is added by overriding both methods.
    """

    __slots__ = ()

    kept: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """The state, by name.

        Returns
        -------
        state : dict of str
            Numbers, texts, None, arrays, and lists or dicts of them.  Arrays are not copied.
        """
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state.

        Parameters
        ----------
        state : mapping of str
            A result of `state_dict`, where tuples have become lists.
        """
        for name in self.kept:
            setattr(self, name, state[name])


def check_alike(array: np.ndarray[Any, Any], value: Any, name: str) -> None:
    """Raise unless `value` is an array of the same dtype and shape."""
    got = (getattr(value, "dtype", None), getattr(value, "shape", None))
    if got != (array.dtype, array.shape):
        raise ShapeError(f"{name}: expected {array.dtype} {array.shape}, got {got[0]} {got[1]}.")
