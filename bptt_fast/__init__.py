"""Backpropagation through time for recurrent neural networks, with a C core."""

from .callbacks import Callback, History
from .data import Sequences
from .errors import ConfigError, CorruptFileError, DivergedError, ShapeError
from .network import Network, show_config
from .optimizers import SGD, Adam
from .persistence import load
from .unfolding import CheckpointedBPTT, FullBPTT, SlidingBPTT, TruncatedBPTT

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Adam",
    "Callback",
    "CheckpointedBPTT",
    "ConfigError",
    "CorruptFileError",
    "DivergedError",
    "FullBPTT",
    "History",
    "Network",
    "Sequences",
    "ShapeError",
    "SlidingBPTT",
    "TruncatedBPTT",
    "__version__",
    "load",
    "show_config",
]
