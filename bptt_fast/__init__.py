"""Backpropagation through time for recurrent neural networks, with a C core."""

from . import diagnostics
from .callbacks import Callback, History
from .columns import Scaling
from .data import Sequences
from .errors import ConfigError, CorruptFileError, DivergedError, ShapeError
from .losses import Loss
from .network import Network, from_torch, get_include, show_config
from .optimizers import (
    LBFGS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    HessianFree,
    LevenbergMarquardt,
    NAdam,
    RMSprop,
    Rprop,
)
from .persistence import from_onnx, load
from .restarts import Restarts, restarts
from .schedules import Constant, Cosine, Exponential, OneCycle, ReduceOnPlateau, Schedule, Step
from .unfolding import CheckpointedBPTT, FullBPTT, SlidingBPTT, TruncatedBPTT

__version__ = "0.1.0"

__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Callback",
    "CheckpointedBPTT",
    "ConfigError",
    "Constant",
    "CorruptFileError",
    "Cosine",
    "DivergedError",
    "Exponential",
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
    "Scaling",
    "Schedule",
    "Sequences",
    "ShapeError",
    "SlidingBPTT",
    "Step",
    "TruncatedBPTT",
    "__version__",
    "diagnostics",
    "from_onnx",
    "from_torch",
    "get_include",
    "load",
    "restarts",
    "show_config",
]
