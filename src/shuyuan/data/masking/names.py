"""Finds names and places with presidio, which asks a language model of spaCy: slow, optional, and never downloaded here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import MachineError, missing_extra

_MODEL = "en_core_web_lg"
_TAGS = {"PERSON": "name", "LOCATION": "place", "ORGANIZATION": "organisation", "NRP": "group"}


class NameFinder:
    """Names of people, places, organisations and groups in English text.

    Raises:
        MachineError: presidio or its spaCy model is not installed.
    """

    KINDS = tuple(_TAGS.values())

    def __init__(self) -> None:
        try:
            import presidio_analyzer
            import spacy  # presidio needs it, so the extra brings it
        except ImportError:
            raise missing_extra("`data.mask_names`", "presidio") from None
        if not spacy.util.is_package(_MODEL):  # presidio would fetch it from the network without asking
            raise MachineError(
                "machine.missing-model",
                f"`data.mask_names` needs the spaCy model {_MODEL}, which is not installed.",
                mend=f"Install it with: python -m spacy download {_MODEL}",
            )
        self._analyzer: Any = presidio_analyzer.AnalyzerEngine()

    def __call__(self, text: str) -> Iterator[tuple[int, int, str]]:
        """(start, end, tag) of each name."""
        for found in self._analyzer.analyze(text=text, entities=list(_TAGS), language="en"):
            yield found.start, found.end, _TAGS[found.entity_type]
