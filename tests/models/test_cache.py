"""What is computed with a cache is what is computed without."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.errors import ShuyuanError
from shuyuan.models import Cache, Slots

from .tiny import TINY, lively, tokens

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_pieces_through_a_cache_are_the_whole(pieces: list[int], sequences: int) -> None:
    """However a text is cut: prefill, decode, or several tokens at once."""
    pieces = [*pieces, 1]
    length = min(sum(pieces), TINY.context)
    model, ids = lively(), tokens(sequences, length)
    cache = Cache(TINY, sequences, length)
    with torch.no_grad():
        logits = torch.cat([model(piece, cache) for piece in ids.split(_cut(pieces, length), 1)], 1)
        torch.testing.assert_close(logits, model(ids), **CLOSE)
    assert cache.lengths_B.tolist() == [length] * sequences


def _cut(pieces: list[int], length: int) -> list[int]:
    cut = []
    for piece in pieces:
        cut.append(min(piece, length - sum(cut)))
    return [piece for piece in cut if piece]


def test_sequences_of_different_lengths_share_a_step() -> None:
    model = lively()
    starts = [tokens(1, length, seed=length) for length in (3, 17, 9)]
    cache = Cache(TINY, 3, 30)
    with torch.no_grad():
        for row, start in enumerate(starts):
            model(start, cache.view(row, row + 1))
        for step in range(4):
            new = tokens(3, 2, seed=100 + step)
            logits = model(new, cache)
            starts = [torch.cat((start, new[row : row + 1]), 1) for row, start in enumerate(starts)]
            for row, start in enumerate(starts):
                torch.testing.assert_close(logits[row], model(start)[0, -2:], **CLOSE)


def test_a_cache_holds_its_capacity_and_no_more() -> None:
    model, cache = lively(), Cache(TINY, 1, 10)
    model(tokens(1, 10), cache)
    with pytest.raises(ShuyuanError, match=r"holds 10 tokens, and 11.*models\.cache-full"):
        model(tokens(1, 1), cache)
    assert Cache(TINY, 1, 10_000).capacity == TINY.context


def test_slots_keep_sequences_apart_when_some_leave() -> None:
    """Freeing a slot moves another sequence into its place; none may notice."""
    model = lively()
    texts = {
        name: tokens(1, length, seed=length)[0].tolist()
        for name, length in zip("abcd", (5, 12, 3, 8), strict=True)
    }
    slots = Slots(model, 3, 40)
    places: dict[str, int] = {}

    def check(name: str, logits: torch.Tensor) -> None:
        with torch.no_grad():
            torch.testing.assert_close(logits, model(torch.tensor([texts[name]]))[0, -1], **CLOSE)

    def enter(name: str) -> None:
        places[name], logits = slots.prefill(texts[name])
        check(name, logits)

    def step(seed: int) -> None:
        for number, name in enumerate(places):
            texts[name].append((seed * 31 + number * 7) % TINY.vocab_size)
        logits = slots.decode({slot: texts[name][-1] for name, slot in places.items()})
        for name, slot in places.items():
            check(name, logits[slot])

    for name in "abc":
        enter(name)
    step(1)
    assert slots.idle == 0
    slots.free(places.pop("a"))
    step(2)
    enter("d")
    step(3)
    slots.free(places.pop("d"))
    slots.free(places.pop("b"))
    step(4)
    assert slots.idle == 2
