"""Cleaning: one form for each character, no control characters, one kind of line end, length limits."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from ..tasks import Example
from ..tasks.packing import changed

# Line and page ends other than the line feed become one; the other controls (C0 without tab, C1, the byte order mark)
# go; half of a surrogate pair, which JSON can spell and UTF-8 cannot, becomes the replacement character.
_ODD = re.compile("\r\n?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_LINE_ENDS = {"\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"}


def clean(text: str) -> str:
    """The text in Unicode's NFC, with line feeds as its only line ends and tabs as its only other control characters.

    Cleaning twice changes nothing more. The result can always be written as UTF-8.

    Args:
        text: any, halves of surrogate pairs included.
    """
    if _ODD.search(text):
        text = _ODD.sub(_mended, text)
    return unicodedata.normalize("NFC", text)


def _mended(found: re.Match[str]) -> str:
    odd = found[0]
    if odd in _LINE_ENDS:
        return "\n"
    return "\N{REPLACEMENT CHARACTER}" if "\ud800" <= odd <= "\udfff" else ""


class Cleaner:
    """Cleans records and leaves out those that are empty, too short or too long.

    Args:
        min_chars: fewest characters of a record, after cleaning.
        max_chars: most characters of a record, or None.

    Attributes:
        changed: number of records that cleaning changed.
    """

    def __init__(self, min_chars: int, max_chars: int | None) -> None:
        self._min = min_chars
        self._max = max_chars
        self.changed = 0

    def __call__(self, text: str, skipped: Counter[str]) -> str | None:
        """The clean text, or None after counting in `skipped` why there is none."""
        cleaned = clean(text)
        self.changed += cleaned != text
        return cleaned if self._passes([cleaned], skipped) else None

    def examples(self, examples: list[Example], skipped: Counter[str]) -> list[Example] | None:
        """The same of the rows of one record with prompts, none of whose texts may be empty."""
        cleaned = [changed(clean, example) for example in examples]
        self.changed += cleaned != examples
        texts = [piece.text for piece in cleaned[0].pieces if piece.kind == "text"]
        return cleaned if self._passes(texts, skipped) else None

    def _passes(self, texts: list[str], skipped: Counter[str]) -> bool:
        """Whether a record of these texts is kept."""
        chars = sum(map(len, texts))
        if any(not text or text.isspace() for text in texts):
            skipped["empty records"] += 1
        elif chars < self._min:
            skipped[f"records under {self._min:,} characters"] += 1
        elif self._max is not None and chars > self._max:
            skipped[f"records over {self._max:,} characters"] += 1
        else:
            return True
        return False
