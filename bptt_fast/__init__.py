"""Backpropagation through time for recurrent neural networks, with a C core."""

from . import diagnostics
from .callbacks import Callback, History
from .errors import ConfigError, CorruptFileError, DivergedError, ShapeError
from .network import Network, show_config
from .optimizers import SGD, Adam
from .persistence import load
from .restarts import Restarts, restarts
from .unfolding import FullBPTT, SlidingBPTT

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Adam",
    "Callback",
    "ConfigError",
    "CorruptFileError",
    "DivergedError",
    "FullBPTT",
    "History",
    "Network",
    "Restarts",
    "ShapeError",
    "SlidingBPTT",
    "__version__",
    "diagnostics",
    "load",
    "restarts",
    "show_config",
]
