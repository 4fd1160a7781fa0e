"""Work on the contents of records that does not ask who does it: this process, or workers beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..tasks.packing import all_words, in_texts, texts_of
from .duplicates import sketched
from .masking import Masker
from .tokenizer import Tokenizer

Answer = TypeVar("Answer", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Work(ABC, Generic[Answer]):
    """A function of some contents, and all that another process needs to make the same one: its fields.

    Attributes:
        answer: the named tuple that it gives.
    """

    answer: ClassVar[type[Any]]

    @property
    def pays(self) -> bool:
        """Whether it takes so long that contents are worth sending to another process."""
        return True

    @abstractmethod
    def __call__(self, contents: list[str]) -> Answer:
        """What comes of the contents of some records, in order."""

    def settings(self) -> dict[str, Any]:
        """The fields, as JSON can say them."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def made(cls, settings: dict[str, Any]) -> Work[Answer]:
        """The work that has such settings."""
        given = dict(settings)
        if "tokenizer" in given:
            given["tokenizer"] = Tokenizer.from_json(given["tokenizer"])
        if "masker" in given:
            given["masker"] = Masker(**given["masker"])
        return cls(**given)


def _plain(value: Any) -> Any:
    if isinstance(value, Tokenizer):
        return value.to_json()
    return value.settings if isinstance(value, Masker) else value


class Sketched(NamedTuple):
    """Sketches of some texts (R, SLOTS), and which of the texts have words."""

    sketch_RS: NDArray[np.uint8]
    has_words_R: NDArray[np.bool_]


@dataclass(frozen=True)
class Sketching(Work[Sketched]):
    """Sketches each record, for near duplicates."""

    answer = Sketched

    def __call__(self, contents: list[str]) -> Sketched:
        return Sketched(*sketched(["\n".join(texts_of(content)) for content in contents]))


class Words(NamedTuple):
    """Everything that a tokenizer will meet in some records."""

    texts: list[str]


@dataclass(frozen=True)
class Masking(Work[Words]):
    """Masks each record, for a vocabulary."""

    masker: Masker
    answer = Words

    @property
    def pays(self) -> bool:
        return self.masker.looks

    def __call__(self, contents: list[str]) -> Words:
        return Words([text for content in contents for text in all_words(in_texts(self.masker, content))])
