"""Backpropagation through time for recurrent neural networks, with a C core."""

from .callbacks import Callback, History
from .errors import ConfigError, CorruptFileError, DivergedError, ShapeError
from .network import Network, show_config
from .optimizers import LBFGS, SGD, Adam, HessianFree, LevenbergMarquardt
from .persistence import load
from .unfolding import FullBPTT, SlidingBPTT

__version__ = "0.1.0"

__all__ = [
    "LBFGS",
    "SGD",
    "Adam",
    "Callback",
    "ConfigError",
    "CorruptFileError",
    "DivergedError",
    "FullBPTT",
    "HessianFree",
    "History",
    "LevenbergMarquardt",
    "Network",
    "ShapeError",
    "SlidingBPTT",
    "__version__",
    "load",
    "show_config",
]
