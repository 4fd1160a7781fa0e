"""Masking: personal data is found by its form, checked by its checksum where it has one, and replaced by a tag."""

from .masker import Masker, Span

__all__ = ["Masker", "Span"]
