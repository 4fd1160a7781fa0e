"""The contents of records become tokens: masked, encoded, and closed by the end token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tasks import Example
from ..tasks.packing import in_texts, unpacked
from .manifest import Pair
from .masking import Masker
from .pairs import Asked, Window, longest_question, paired, windows
from .prompts import BEGINS, FIRST, LEARNED, OWN, laid_out
from .shards import Tokens, token_type
from .tokenizer import Tokenizer
from .widths import WIDTHS
from .work import Work


class Encoded(NamedTuple):
    """Some records as tokens.

    Attributes:
        tokens: of those that fit, one record after another.
        lengths: tokens of each of these.
        fits: of all records, whether it is among them.
        masked: personal data that was replaced, by kind.
        text_bytes: in UTF-8, of what is learned.
        roles: what each token is for, in a task with prompts; else None.
        widths: in a task with prompts how many rows there are of each width, from 0 on, counted in WIDTHS.
        learned: targets in these rows.
        shortened: rows of which something was left out so that they fit, or whose question is cut.
        left_out: records that do not fit, by reason.
    """

    tokens: Tokens
    lengths: NDArray[np.int64]
    fits: NDArray[np.bool_]
    masked: dict[str, int]
    text_bytes: int
    roles: NDArray[np.uint8] | None = None
    widths: list[int] = []  # noqa: RUF012 - nobody changes it
    learned: int = 0
    shortened: int = 0
    left_out: dict[str, int] = {}  # noqa: RUF012


@dataclass(frozen=True)
class TextEncoding(Work[Encoded]):
    """Encodes texts, each closed by the end token.

    Args:
        tokenizer: of the run.
        masker: of the run.
    """

    tokenizer: Tokenizer
    masker: Masker
    answer = Encoded

    @property
    def pays(self) -> bool:
        return self.masker.looks or self.tokenizer.kind == "bpe"

    def __call__(self, contents: list[str]) -> Encoded:
        texts, masked = self._masked(contents)
        ids, ends = self.tokenizer.encode_flat(texts)
        tokens = np.insert(ids.astype(self._dtype), ends, self.tokenizer.end_id)
        text_bytes = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        return Encoded(tokens, np.diff(ends, prepend=0) + 1, np.ones(len(texts), bool), masked, text_bytes)

    @property
    def _dtype(self) -> type[np.uint16] | type[np.uint32]:
        return token_type(self.tokenizer.vocab_size)

    def _masked(self, contents: list[str]) -> tuple[list[str], dict[str, int]]:
        """The same with tags in place of personal data, and how much of it there was."""
        self.masker.counts.clear()
        texts = [in_texts(self.masker, content) for content in contents]
        return texts, dict(self.masker.counts)


@dataclass(frozen=True)
class PromptEncoding(TextEncoding):
    """Lays out records with prompts: the rows of each one after another.

    Args:
        context: tokens that the model sees at once.
    """

    context: int = 0

    @property
    def pays(self) -> bool:
        return True

    def __call__(self, contents: list[str]) -> Encoded:
        texts, masked = self._masked(contents)
        records = [unpacked(text) for text in texts]
        rows = iter(laid_out([row for rows in records for row in rows], self.tokenizer, self.context + 1))
        laid = [[next(rows) for _ in record] for record in records]
        fits = np.array([all(row is not None for row in record) for record in laid], bool)
        answers = [record for record, fit in zip(records, fits, strict=True) if fit]
        whole = [[row for row in record if row is not None] for record in laid]
        kept = [record for record, fit in zip(whole, fits, strict=True) if fit]
        every = [row for record in kept for row in record]
        return Encoded(
            _joined([row.ids for row in every], self._dtype),
            np.array([sum(len(row.ids) for row in record) for record in kept], np.int64),
            fits,
            masked,
            sum(map(answer_bytes, answers)),
            _joined([row.roles for row in every], np.uint8),
            _widths(-(-(len(row.ids) - 1) // WIDTHS) for row in every),
            sum(row.learned for row in every),
            sum(row.shortened for row in every),
            {_too_long(self.context): int((~fits).sum())} if not fits.all() else {},
        )


@dataclass(frozen=True)
class PairEncoding(TextEncoding):
    """Encodes questions and texts, each record once: the windows that a model looks into are cut when they are read.

    Args:
        around: the special tokens of a row.
        context: tokens of a row at most.
    """

    around: Pair = ()
    context: int = 0

    @property
    def pays(self) -> bool:
        return True

    def __call__(self, contents: list[str]) -> Encoded:
        texts, masked = self._masked(contents)
        examples = [unpacked(text)[0] for text in texts]
        found = [self._windowed(asked) for asked in paired(examples, self.tokenizer)]
        fits = np.array([not isinstance(each, str) for each in found], bool)
        kept = [each for each in found if not isinstance(each, str)]
        rows = [row for _, windows_of in kept for row in windows_of]
        longest = longest_question(self.around, self.context)
        return Encoded(
            _joined([asked.question + asked.text for asked, _ in kept], self._dtype),
            np.array([len(asked.question) + len(asked.text) for asked, _ in kept], np.int64),
            fits,
            masked,
            sum(answer_bytes([example]) for example, fit in zip(examples, fits, strict=True) if fit),
            _joined([_roles_of(asked) for asked, _ in kept], np.uint8),
            _widths(-(-len(row.ids) // WIDTHS) for row in rows),
            2 * len(rows),
            sum(len(asked.question) > longest for asked, _ in kept),
            Counter(each for each in found if isinstance(each, str)),
        )

    def _windowed(self, asked: Asked | str) -> tuple[Asked, list[Window]] | str:
        """The same with its windows, unless its answer is so long that every window cuts it."""
        if isinstance(asked, str):
            return asked
        rows = windows(asked, self.around, self.context)
        if asked.answer is not None and not any(row.holds(asked.answer) for row in rows):
            return _too_long(self.context)
        return asked, rows


def _roles_of(asked: Asked) -> NDArray[np.uint8]:
    border = len(asked.question)
    roles = np.full(border + len(asked.text), OWN, np.uint8)
    roles[[0, border]] |= BEGINS
    roles[0] |= FIRST
    if asked.answer is not None:
        roles[border + asked.answer[0] : border + asked.answer[1]] |= LEARNED
    return roles


def _joined(parts: Iterable[Any], dtype: type[Any]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(np.array(part, dtype) for part in parts)])


def _widths(widths: Iterable[int]) -> list[int]:
    """How many there are of each width, from 0 on."""
    found: list[int] = np.bincount(np.fromiter(widths, np.int64)).tolist()
    return found


def _too_long(context: int) -> str:
    return f"records whose answer does not fit model.context = {context:,}"


def answer_bytes(examples: list[Example]) -> int:
    """Of what is learned of a record's own text, in UTF-8.

    Args:
        examples: the rows of one record with prompts.
    """
    learned = (piece.text for each in examples for piece in each.pieces if piece.learn)
    return sum(len(text.encode()) for text in learned)
