"""What a variant takes in memory is told whatever form its weights have."""

from __future__ import annotations

from dataclasses import replace

from shuyuan.evaluate.speed import speed
from shuyuan.models import eager
from shuyuan.models.coded import keep_codes
from shuyuan.models.packed import dense, pack
from tests.models.tiny import TINY, lively

WIDE = replace(TINY, width=64, hidden=128, tied=True)


def test_halves_and_codes_are_counted_as_they_lie_in_memory() -> None:
    plain, half, coded = lively(WIDE), eager.prepared(lively(WIDE), half=True), lively(WIDE)
    stored = []
    for name, weight in coded.named_parameters():
        if weight.ndim > 1:
            kind, parts = pack(weight.detach().numpy(), 8)
            stored.append((name, kind, dense(name, kind, parts, "")))
    keep_codes(coded, stored, "cpu")
    told = [speed(model)["memory_bytes"] for model in (plain, half, eager.prepared(coded, half=True))]
    whole = 4 * sum(weight.numel() for weight in plain.parameters())
    assert whole <= told[0] <= 1.1 * whole
    table = 4 * WIDE.vocab_size * WIDE.width
    assert 0.5 * whole <= told[1] <= 0.6 * whole + table
    assert 0.25 * whole <= told[2] <= 0.4 * whole
