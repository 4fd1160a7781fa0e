"""Shuyuan: train, protect, shrink and use models on your own records, on hardware you own."""

__version__ = "0.1.0"
