"""Token ids into text while they come, in whole characters."""

from __future__ import annotations

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
        """The text that this token completes; empty inside a character."""
        given = self._tokenizer.decode(self._tokens)
        if self._waiting:
            given = given.removesuffix(UNFINISHED)
        text = self._tokenizer.decode([*self._tokens, token])
        self._tokens = [*self._tokens, token][-KEPT:]
        self._waiting = text.endswith(UNFINISHED) and len(text) > len(given)
        return (text[:-1] if self._waiting else text)[len(given) :]
