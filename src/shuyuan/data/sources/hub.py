"""Data sets of the Hugging Face hub: `hf:org/name`, `hf:org/name:split`. The only source that uses the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import DataError, first_line, missing_extra
from .base import Fact, Row, Skipped, Source, Wanted, WantedImages
from .image_table import embedded


class Hub(Source):
    """One split of a hub data set, streamed, so that no copy of a record reaches a cache on disk.

    Args:
        spec: as the recipe writes it; the split is `train` unless named.
        wanted: the columns to read; images come encoded, as they stand there.
    """

    def __init__(self, spec: str, wanted: Wanted | WantedImages) -> None:
        self._spec = spec
        name, _, split = spec.removeprefix("hf:").partition(":")
        self._name, self._split = name, split or "train"
        self._wanted = wanted

    def facts(self) -> list[Fact]:
        # The hub has no clock that could be read without the network; the name stands for the data.
        return [Fact(self._spec, 0, 0)]

    @property
    def position(self) -> int:
        return 0

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        for number, values in enumerate(self._stream(), 1):
            yield Row({name: embedded(value) for name, value in values.items()}, f"{self._spec}:row {number}")

    def _stream(self) -> Iterator[dict[str, Any]]:
        try:
            import datasets
        except ImportError:
            raise missing_extra("A source on the Hugging Face hub", "huggingface") from None
        try:
            stream = datasets.load_dataset(self._name, split=self._split, streaming=True)
            wanted = list(self._wanted.columns)
            if stream.column_names and set(wanted) <= set(stream.column_names):
                stream = stream.select_columns(wanted)
            if isinstance(self._wanted, WantedImages):
                stream = stream.cast_column(self._wanted.image, datasets.Image(decode=False))
            yield from stream
        except GeneratorExit:
            raise
        except Exception as error:  # datasets raises dozens of kinds, from offline to no such split
            raise DataError(
                "data.hub-failed",
                f"The data set cannot be read from the hub ({type(error).__name__}: {first_line(error)}).",
                where=self._spec,
                mend="Check its name and split and the network; HF_ENDPOINT names a mirror, HF_TOKEN an account.",
            ) from None
