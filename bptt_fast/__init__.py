"""Backpropagation through time for recurrent neural networks, with a C core."""

from typing import TYPE_CHECKING, Any

from . import callbacks, online, optimizers
from .callbacks import Callback, History
from .columns import Scaling
from .convert import from_onnx, from_torch
from .data import Sequences
from .errors import CellError, ConfigError, CorruptFileError, DivergedError, RankError, ShapeError
from .losses import Loss
from .machine import get_include, show_config
from .network import Network
from .optimizers import SGD, Adagrad, Adam, AdamW, NAdam, RMSprop, Rprop
from .ranks import Shards
from .rules import Rule, Rules, dale
from .schedules import Constant, Cosine, Exponential, OneCycle, ReduceOnPlateau, Schedule, Step
from .second_order import LBFGS, HessianFree, LevenbergMarquardt
from .sources import Files
from .stopping import Stopping
from .unfolding import CheckpointedBPTT, FullBPTT, SlidingBPTT, TruncatedBPTT
from .version import __version__

if TYPE_CHECKING:  # the names of _MODULE_OF, for type checkers and editors
    from . import diagnostics, metrics, plots
    from . import estimators as estimators
    from . import sktime as sktime
    from . import torch as torch
    from .backtesting import Backtest, backtest
    from .forecasting import Forecaster
    from .own_cell import build_cell
    from .persistence import load
    from .restarting import Restarts, restarts
    from .sweeps import Sweep, cross_validate, sweep
else:
    # what a network does not need is imported when it is used: public name -> its module
    _MODULE_OF = {
        "Backtest": "backtesting",
        "Forecaster": "forecasting",
        "Restarts": "restarting",
        "Sweep": "sweeps",
        "backtest": "backtesting",
        "build_cell": "own_cell",
        "cross_validate": "sweeps",
        "diagnostics": "diagnostics",
        "estimators": "estimators",
        "load": "persistence",
        "metrics": "metrics",
        "plots": "plots",
        "restarts": "restarting",
        "sktime": "sktime",
        "sweep": "sweeps",
        "torch": "torch",
    }

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = _MODULE_OF[name]
        module = import_module(f"{__name__}.{home}")
        globals()[name] = value = module if name == home else getattr(module, name)
        return value

    def __dir__() -> list[str]:
        """The public names; without the modules of packages that are not installed."""
        from importlib.util import find_spec

        faces = {"estimators": "sklearn", "sktime": "sktime", "torch": "torch"}
        return [*__all__, *(name for name, package in faces.items() if find_spec(package))]


__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Backtest",
    "Callback",
    "CellError",
    "CheckpointedBPTT",
    "ConfigError",
    "Constant",
    "CorruptFileError",
    "Cosine",
    "DivergedError",
    "Exponential",
    "Files",
    "Forecaster",
    "FullBPTT",
    "HessianFree",
    "History",
    "LevenbergMarquardt",
    "Loss",
    "NAdam",
    "Network",
    "OneCycle",
    "RMSprop",
    "RankError",
    "ReduceOnPlateau",
    "Restarts",
    "Rprop",
    "Rule",
    "Rules",
    "Scaling",
    "Schedule",
    "Sequences",
    "ShapeError",
    "Shards",
    "SlidingBPTT",
    "Step",
    "Stopping",
    "Sweep",
    "TruncatedBPTT",
    "__version__",
    "backtest",
    "build_cell",
    "callbacks",
    "cross_validate",
    "dale",
    "diagnostics",
    "from_onnx",
    "from_torch",
    "get_include",
    "load",
    "metrics",
    "online",
    "optimizers",
    "plots",
    "restarts",
    "show_config",
    "sweep",
]
