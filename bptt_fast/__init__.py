"""Backpropagation through time for recurrent neural networks, with a C core."""

from . import diagnostics, metrics
from .backtesting import Backtest, backtest
from .callbacks import Callback, History
from .columns import Scaling
from .convert import from_onnx, from_torch
from .data import Sequences
from .errors import CellError, ConfigError, CorruptFileError, DivergedError, ShapeError
from .forecasting import Forecaster
from .losses import Loss
from .machine import get_include, show_config
from .network import Network
from .optimizers import SGD, Adagrad, Adam, AdamW, NAdam, RMSprop, Rprop
from .own_cell import build_cell
from .persistence import load
from .restarts import Restarts, restarts
from .rules import Rule, Rules, dale
from .schedules import Constant, Cosine, Exponential, OneCycle, ReduceOnPlateau, Schedule, Step
from .second_order import LBFGS, HessianFree, LevenbergMarquardt
from .stopping import Stopping
from .sweeps import Sweep, cross_validate, sweep
from .unfolding import CheckpointedBPTT, FullBPTT, SlidingBPTT, TruncatedBPTT
from .version import __version__

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
    "ReduceOnPlateau",
    "Restarts",
    "Rprop",
    "Rule",
    "Rules",
    "Scaling",
    "Schedule",
    "Sequences",
    "ShapeError",
    "SlidingBPTT",
    "Step",
    "Stopping",
    "Sweep",
    "TruncatedBPTT",
    "__version__",
    "backtest",
    "build_cell",
    "cross_validate",
    "dale",
    "diagnostics",
    "from_onnx",
    "from_torch",
    "get_include",
    "load",
    "metrics",
    "restarts",
    "show_config",
    "sweep",
]
