"""The version, which is known also where the package runs from its source and is not installed."""

__version__ = "0.1.0"
