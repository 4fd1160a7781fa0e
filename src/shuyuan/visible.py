"""Text of others made harmless before it is shown: what stands in a record, or what a model writes, is not to steer a terminal or a page."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # needed inside emoji and in several scripts; they move nothing
_KEPT = "\n\t" + _JOINERS
_HIDDEN_KINDS = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def visible(text: str) -> str:
    """Text in which nothing acts: control, bidirectional, private, unassigned and broken characters show as ⟨U+202E⟩.

    Line breaks and tabs stay, and so do the spaces and joiners of all scripts. What comes out can always be encoded as UTF-8.

    Args:
        text: any, halves of surrogate pairs included.

    Example:
        >>> visible("a\\x1b[31mb")
        'a⟨U+001B⟩[31mb'
    """
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in _KEPT or not _acts(char) else f"⟨U+{ord(char):04X}⟩" for char in text)


def _acts(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN_KINDS
