"""Replaces personal data by tags such as [email], and counts what it replaced.

Every pattern runs in RE2, so the time grows with the length of the text and with nothing else.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import re2

from ...errors import DataError
from .addresses import find_emails, find_ips, find_url_credentials
from .names import NameFinder
from .numbers import NUMBER_KINDS, find_ibans, find_numbers


class Span(NamedTuple):
    """Personal data in a text.

    Attributes:
        start: its first character.
        end: the one after its last.
        kind: which is also its tag.
    """

    start: int
    end: int
    kind: str


Finder = Callable[[str], Iterable[Span]]

# Earlier finders win where two overlap: credentials hold an @, an IBAN holds digits, an address is made of digits.
_FINDERS: dict[str, Callable[[str], Iterable[tuple[int, int]]]] = {
    "url-credentials": find_url_credentials,
    "email": find_emails,
    "iban": find_ibans,
    "ip": find_ips,
}
# What every text with personal data of a kind holds: one look that most short records stop at.
_HINTS = {
    "url-credentials": "://",
    "email": "[@＠]",
    "iban": r"[A-Za-z]{2}[0-9]{2}[ \-]?[A-Za-z0-9]{4}",
    "ip": r"[0-9]\.[0-9]|:[0-9A-Fa-f]{0,4}:",
    "numbers": r"[0-9０-９](?:[^0-9０-９\n]{0,4}[0-9０-９]){6}",
}
_PASSES = 8
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # ０ to 0, ＠ to @: one for one
_HAS_FULL_WIDTH = re2.compile(r"[０-９＠]")


class Masker:
    """Masks the kinds of personal data that the recipe names.

    Args:
        kinds: of `recipe.PERSONAL_DATA`.
        patterns: the user's own, name to RE2 expression; each comes before the built-in kinds.
        names: also mask names and places with presidio.

    Attributes:
        counts: how many of each kind were replaced so far.
        settings: what makes the same masker elsewhere: its arguments.

    Raises:
        DataError: a pattern is not an RE2 expression.
        MachineError: `names` without the extra `presidio`.

    Example:
        >>> Masker(["email", "phone"], {})("写信给 li@example.cn，电话13812345678")
        '写信给 [email]，电话[phone]'
    """

    def __init__(self, kinds: Iterable[str], patterns: dict[str, str], *, names: bool = False) -> None:
        wanted = set(kinds)
        self.settings = {"kinds": sorted(wanted), "patterns": patterns, "names": names}
        self.counts: Counter[str] = Counter()
        tags = sorted({*wanted, *patterns, *(NameFinder.KINDS if names else ())})
        self._tags = re.compile("|".join(re.escape(f"[{tag}]") for tag in tags))
        self._finders: list[Finder] = [_user_finder(name, text) for name, text in patterns.items()]
        self._finders += [_finder(kind, find) for kind, find in _FINDERS.items() if kind in wanted]
        if wanted & NUMBER_KINDS:
            self._finders.append(lambda text: (Span(*found) for found in find_numbers(text, wanted)))
        looked_for = wanted | ({"numbers"} if wanted & NUMBER_KINDS else set())
        hints = [hint for kind, hint in _HINTS.items() if kind in looked_for]
        self._hint = re2.compile("|".join(hints)) if hints and not patterns and not names else None
        if names:
            finder = NameFinder()
            self._finders.append(lambda text: (Span(*found) for found in finder(text)))

    @property
    def looks(self) -> bool:
        """Whether it looks for anything."""
        return bool(self._finders)

    def __call__(self, text: str) -> str:
        """The text with tags in place of personal data. Masking again changes nothing more."""
        for _ in range(_PASSES):
            spans = self.find(text)
            if not spans:
                return text
            # A tag may free what stood beside it (two numbers run together), so look again until all is still.
            text = _replaced(text, spans)
            self.counts.update(span.kind for span in spans)
        return text

    def find(self, text: str) -> list[Span]:
        """What would be masked, in order and without overlaps.

        Args:
            text: of a record.
        """
        if not self._finders or (self._hint and not self._hint.search(text)):
            return []
        looked_at = text
        if not text.isascii() and _HAS_FULL_WIDTH.search(text):
            looked_at = text.translate(_FULL_WIDTH)
        found = _Apart(Span(*tag.span(), "") for tag in self._tags.finditer(text))
        for finder in self._finders:
            for span in finder(looked_at):
                found.add(span)
        return [span for span in found.spans if span.kind]


class _Apart:
    """Spans in order of which no two overlap: who comes first stays. A tag that stands in the text is one, of no kind."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans = list(spans)

    def add(self, span: Span) -> None:
        place = bisect_left(self.spans, span)
        free_before = place == 0 or self.spans[place - 1].end <= span.start
        if free_before and (place == len(self.spans) or span.end <= self.spans[place].start):
            self.spans.insert(place, span)


def _replaced(text: str, spans: list[Span]) -> str:
    parts = []
    at = 0
    for span in spans:
        parts += [text[at : span.start], f"[{span.kind}]"]
        at = span.end
    return "".join([*parts, text[at:]])


def _finder(kind: str, find: Callable[[str], Iterable[tuple[int, int]]]) -> Finder:
    return lambda text: (Span(start, end, kind) for start, end in find(text))


def _user_finder(name: str, expression: str) -> Finder:
    options = re2.Options()
    options.log_errors = False
    try:
        pattern = re2.compile(expression, options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise DataError(
            "data.bad-pattern",
            f"The pattern `{name}` is not an RE2 expression: {reason}.",
            where="data.mask_patterns",
            mend="RE2 has no backreferences and no look-around; see https://github.com/google/re2/wiki/Syntax",
        ) from None

    def find(text: str) -> Iterator[Span]:
        for found in pattern.finditer(text):
            if found.end() > found.start():
                yield Span(found.start(), found.end(), name)

    return find
