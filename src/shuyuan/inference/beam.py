"""Beam search: of all continuations of a prompt one of the likeliest, found by following several at once.

Shapes: V vocabulary.

Reference: the length penalty is that of Wu et al., "Google's neural machine translation system", 2016, with the length itself as base.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..models import AnyNetwork, CompiledModel, open_slots
from .sampling import Floats, bad_setting, log_probabilities

Found = TypeVar("Found")


@dataclass(frozen=True)
class Beam:
    """A continuation.

    Attributes:
        tokens: its ids, without the end token.
        score: the logarithm of its probability, its end included.
        slot: where it is computed; -1 for one that has ended.
    """

    tokens: tuple[int, ...]
    score: float
    slot: int = -1

    def rank(self, penalty: float, ended: int = 1) -> float:
        """The score over the length to the power of the penalty; the end token counts.

        Args:
            penalty: 0 compares probabilities, 1 the mean over tokens.
            ended: how many end tokens count: 1 of one that has ended (default), 0 of one that goes on.
        """
        return float(self.score / (len(self.tokens) + ended) ** penalty)


def to_the_end(search: Generator[None, None, Found]) -> Found:
    """What a search finds.

    Args:
        search: as `searching` makes it; it is used up.
    """
    while True:
        try:
            next(search)
        except StopIteration as end:
            found: Found = end.value
            return found


def searching(
    model: AnyNetwork | CompiledModel,
    prompt: Sequence[int],
    *,
    beams: int,
    length_penalty: float,
    max_tokens: int,
    ends: Collection[int],
    entries: int,
) -> Generator[None, None, list[int]]:
    """Beam search, token by token, for who has other things to do meanwhile.

    Args:
        model: a network that continues text.
        prompt: token ids.
        beams: continuations that are followed at once; 1 takes the likeliest token always.
        length_penalty: 0 prefers short continuations, as probability does; 1 compares the mean over tokens; above 1 longer ones.
        max_tokens: of a continuation. One that has not ended by then counts only if none has.
        ends: tokens that end one.
        entries: of the tokenizer; the model's vocabulary may be larger.

    Returns:
        The tokens of the best continuation that was found, without its end token.

    Raises:
        ShuyuanError: a setting makes no sense, or the model's output is not a number.
    """
    if beams < 1:
        raise bad_setting("beams", beams, "at least 1")
    if not 0 <= length_penalty < math.inf:
        raise bad_setting("length_penalty", length_penalty, "0 or more")
    if max_tokens < 1:
        raise bad_setting("max_tokens", max_tokens, "at least 1")
    most = max(1, min(max_tokens, model.context - len(prompt) + 1))
    slots = open_slots(model, beams, min(model.context, len(prompt) + most))
    slot, logits = slots.prefill(list(prompt))
    alive, following = [Beam((), 0.0, slot)], {slot: np.asarray(logits)}
    ended: list[Beam] = []
    for length in range(1, most + 1):
        grown, ended_now = _grown(alive, following, beams, ends, entries)
        ended += ended_now
        if not grown or length == most or _settled(grown, ended, length_penalty, most):
            alive = grown
            break
        alive = _placed(grown, alive, slots)
        found = slots.decode({beam.slot: beam.tokens[-1] for beam in alive})
        following = {slot: np.asarray(logits_V) for slot, logits_V in found.items()}
        yield
    if ended:
        return list(max(ended, key=lambda beam: beam.rank(length_penalty)).tokens)
    return list(max(alive, key=lambda beam: beam.rank(length_penalty, 0)).tokens)


def _grown(
    alive: list[Beam], following: dict[int, Floats], beams: int, ends: Collection[int], entries: int
) -> tuple[list[Beam], list[Beam]]:
    """The likeliest continuations by one token: those that go on, each still in its parent's slot, and those that ended before
    there were enough of them."""
    candidates: list[tuple[float, int, int]] = []
    for number, beam in enumerate(alive):
        logs_V = log_probabilities(following[beam.slot][:entries])
        count = min(len(logs_V), beams + len(ends))
        best = np.argsort(-logs_V, kind="stable")[:count]
        candidates += [(beam.score + float(logs_V[token]), number, int(token)) for token in best.tolist()]
    grown: list[Beam] = []
    ended: list[Beam] = []
    for score, number, token in sorted(candidates, key=lambda each: -each[0]):
        if len(grown) == beams or score == -math.inf:
            break
        parent = alive[number]
        if token in ends:
            ended.append(Beam(parent.tokens, score))
        else:
            grown.append(Beam((*parent.tokens, token), score, parent.slot))
    return grown, ended


def _settled(grown: list[Beam], ended: list[Beam], penalty: float, most: int) -> bool:
    """Whether nothing that still goes on can end better: it can only lose probability, and be as long as is allowed."""
    if not ended:
        return False
    best = max(beam.rank(penalty) for beam in ended)
    return all(beam.score / (most + 1) ** penalty <= best for beam in grown)


def _placed(grown: list[Beam], alive: list[Beam], slots: Any) -> list[Beam]:
    """The beams in slots of their own: the first child of each parent takes its slot, the others a copy."""
    for slot in {beam.slot for beam in alive} - {beam.slot for beam in grown}:
        slots.free(slot)
    placed, taken = [], set()
    for beam in grown:
        slot = slots.fork(beam.slot) if beam.slot in taken else beam.slot
        taken.add(beam.slot)
        placed.append(Beam(beam.tokens, beam.score, slot))
    return placed
