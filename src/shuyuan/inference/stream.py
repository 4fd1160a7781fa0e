"""Token ids into text while they come, in whole characters."""

from __future__ import annotations

from collections.abc import Sequence

from ..data import Tokenizer

# A character has at most four bytes, so that an unfinished one lies within the last three tokens; one more is kept
# for tokenizers whose first token is written otherwise (without its space).
KEPT = 4
UNFINISHED = "\ufffd"  # what decoding makes of the beginning of a character


class TextStream:
    """Turns tokens into pieces of text; an unfinished character waits for the tokens that complete it.

    All pieces together are the decoded tokens, less a character that the last token left unfinished.

    Args:
        tokenizer: decodes.
        tokens: what came before; its text is not given again.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: list[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens[-KEPT:]
        self._waiting = False  # whether the text of these tokens ends in a character not given yet

    def add(self, token: int) -> str:
        """The text that this token completes; empty inside a character.

        Args:
            token: the next id.
        """
        given = self._tokenizer.decode(self._tokens)
        if self._waiting:
            given = given.removesuffix(UNFINISHED)
        text = self._tokenizer.decode([*self._tokens, token])
        self._tokens = [*self._tokens, token][-KEPT:]
        self._waiting = text.endswith(UNFINISHED) and len(text) > len(given)
        return (text[:-1] if self._waiting else text)[len(given) :]


class StopStrings:
    """Cuts a text at the first of some strings, wherever the pieces of it are divided.

    Args:
        stop: the strings.

    Attributes:
        found: whether one was there; nothing comes after it.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """What can be given once this piece is there: up to what may be the beginning of a stop string.

        Args:
            piece: the text that comes next; "" where a token ends inside a character.
        """
        if not self._stop:
            return piece
        text = self._held + piece
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        kept = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def rest(self) -> str:
        """What was held back, once the text has ended."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may begin a string that is not whole in it."""
    return next(
        (count for count in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:count])), 0
    )
