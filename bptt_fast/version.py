"""The version, listed once."""

__version__ = "0.1.0"
