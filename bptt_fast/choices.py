"""What arguments accept, as types for mypy and editors: names, which `get_args` gives at run time, and forms
of data.

Names that the core lists, such as those of cells, stand here once more, since type checkers read no C;
tests/test_architecture.py holds both equal.
"""

from __future__ import annotations

from typing import Any, Literal, NewType, Protocol, TypeVar

import numpy as np

CoreCell = Literal[
    "elman",
    "gru",
    "lstm",
    "mlp",
    "ctrnn",
    "mingru",
    "minlstm",
    "indrnn",
    "gru_reset_before",
    "lstm_peephole",
    "ctrnn_potential",
]
OwnCell = NewType("OwnCell", str)  # what build_cell returns
Cell = CoreCell | OwnCell
Nonlinearity = Literal["tanh", "relu", "sigmoid", "linear", "leaky_relu", "retanh", "softplus"]
Activation = Nonlinearity | Literal["logistic", "identity"]  # also scikit-learn's names
LossName = Literal[
    "mse",
    "mae",
    "huber",
    "pinball",
    "ordered_pinball",
    "gaussian",
    "laplace",
    "student_t",
    "poisson",
    "negative_binomial",
    "cross_entropy",
    "binary_cross_entropy",
]
FirstOrderName = Literal["sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "rprop"]
OptimizerName = FirstOrderName | Literal["lbfgs", "levenberg_marquardt", "hessian_free"]
DType = Literal["float32", "float64"] | type[np.floating[Any] | float] | np.dtype[Any]

Readout = Literal["last", "every"]
Reset = Literal["after", "before"]
Equation = Literal["rate", "potential"]
Noise = Literal["sde", "step", "scaled"]
InitialState = Literal["zeros", "trained"]
Init = Literal["torch", "orthogonal", "glorot", "identity"]

Average = Literal["rows", "sequences"]
FunctionTargets = Literal["real", "class"]
Verbose = int | Literal["auto"]
Keep = Literal["halving", "all"]
Mode = Literal["auto", "min", "max"]
Strategy = Literal["recursive", "direct"]
SeriesScaling = Literal["auto", "global", "series"]
Missing = Literal["error", "indicator"]


# ---- forms of data

Numbers = np.ndarray[Any, np.dtype[np.number[Any] | np.bool_]]  # not an array of arrays


class Table(Protocol):
    """A DataFrame or a Series."""

    def to_numpy(self, *args: Any, **kwargs: Any) -> Any:
        """Return the numbers as an array."""


TableT = TypeVar("TableT", bound=Table)
OneSeries = TypeVar("OneSeries", bound=Numbers | Table)
ManySeries = TypeVar("ManySeries", bound=Table | list[Any] | dict[Any, Any])
