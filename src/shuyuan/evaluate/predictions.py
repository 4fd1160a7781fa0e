"""What a model answers to prompts of a split, beside what the records answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import PromptRows, Tokenizer
from ..data.batches import at_step
from ..data.prompts import LEARNED, OWN, pieces_of
from ..data.shards import Tokens
from ..inference import Predictor
from ..progress import Progress


@dataclass(frozen=True)
class Case:
    """One prompt of a record with its answer.

    Attributes:
        prompt: its tokens.
        texts: what the prompt holds of the record, in order; of a chat also the replies before the last.
        answer: what the record answers.
    """

    prompt: list[int]
    texts: list[str]
    answer: str


def stored_cases(rows: PromptRows, tokenizer: Tokenizer, most: int, seed: int) -> list[Case]:
    """Rows of a split as cases: all of them, or as many as are wanted, drawn from all over it.

    Of a row with several answers, as chats have, the last is asked for.
    """
    count = min(most, rows.count)
    chosen = at_step(0, count, rows.count, seed) if count < rows.count else np.arange(count)
    return [_case(*rows.row(number), tokenizer) for number in chosen.tolist()]


def _case(ids: Tokens, roles: NDArray[np.uint8], tokenizer: Tokenizer) -> Case:
    given = np.flatnonzero(~(roles & LEARNED).astype(bool))
    start = int(given[-1]) + 1  # the last answer is learned up to the row's end
    own = [(role, tokens) for role, tokens in pieces_of(ids.tolist(), roles.tolist()) if role & OWN]
    texts = [tokenizer.decode(tokens) for _, tokens in own]
    place = max(place for place, (role, _) in enumerate(own) if role & LEARNED)
    return Case(ids[:start].tolist(), texts[:place], texts[place])


def predicted(
    cases: Sequence[Case], predictor: Predictor, max_tokens: int, split: str, progress: Progress
) -> list[str]:
    """The likeliest answer to each prompt, token by token."""
    with progress.stage(f"answer on {split}", len(cases), "prompts") as stage:
        return predictor.answers(
            [case.prompt for case in cases], max_tokens=max_tokens, done=lambda _: stage.advance()
        )
