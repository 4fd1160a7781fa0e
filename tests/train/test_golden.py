"""Stored losses of each family, so that a refactor that changes one bit of a training shows: python -m tests.train.golden writes them anew.

On a processor and with libraries whose bits are stored, every bit of losses and end state must be the same. Elsewhere the last bits may
differ, and so the losses are held against the stored ones to 1e-4, which is said.
"""

from __future__ import annotations

import json

import pytest
import torch

from .golden import FAMILIES, GOLDEN, curve, machine, of_text, transformer


@pytest.mark.parametrize("family", FAMILIES)
def test_the_losses_are_the_stored_ones(family: str) -> None:
    for library in FAMILIES[family][1]:
        pytest.importorskip(library)
    stored, found = json.loads(GOLDEN.read_text(encoding="utf-8"))[family], curve(family)
    assert found.losses == pytest.approx(stored["losses"], rel=0, abs=1e-4)
    assert min(stored["losses"][-3:]) < stored["losses"][0] - 0.1
    here = machine(family)
    if here not in stored["bits"]:
        pytest.skip(f"the losses are right to 1e-4; no bits are stored for {here}")
    assert found.bits == stored["bits"][here], "the losses are right to 1e-4, and some bits have changed"


def test_every_family_is_stored() -> None:
    assert json.loads(GOLDEN.read_text(encoding="utf-8")).keys() == FAMILIES.keys()


def test_one_bit_of_one_weight_is_seen() -> None:
    changed = transformer()
    with torch.no_grad():
        changed.model.layers[0].mlp.up_proj.weight.view(torch.int32)[3, 5] ^= 1
    one, other = curve("transformer, sgd"), of_text(changed, "sgd")
    assert one.losses == pytest.approx(other.losses, rel=0, abs=1e-4)
    assert one.bits == curve("transformer, sgd").bits != other.bits
