"""The parts of a batch: each row once, none cut short of what it learns, and together the loss and gradient of the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.data.widths import cut, height
from shuyuan.models import TransformerConfig
from shuyuan.models.classifier import Classifier
from shuyuan.models.transformer import Transformer
from shuyuan.train.backend import Batch
from shuyuan.train.micro_batches import micro_batches

CONFIG = TransformerConfig(
    vocab_size=50, end_id=0, layers=1, width=16, heads=2, kv_heads=1, head_dim=8, hidden=32, context=64
)


def prompts(lengths: list[int], T: int = 64, seed: int = 0) -> Batch:
    """Rows of which the second half is learned, filled up with end tokens."""
    random = np.random.default_rng(seed)
    inputs, targets = np.zeros((len(lengths), T), np.int64), np.full((len(lengths), T), -100)
    for row, length in enumerate(lengths):
        tokens = random.integers(1, 50, length + 1)
        inputs[row, :length] = tokens[:-1]
        targets[row, length // 2 : length] = tokens[length // 2 + 1 :]
    return Batch(3, inputs, targets)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(1, 12))
def test_rows_are_cut_into_parts_that_hold_each_once(widths: list[int], most: int) -> None:
    width_B = np.sort(np.array(widths) * 16)[::-1]
    parts = list(cut(width_B, most))
    assert [place for part, _ in parts for place in range(len(widths))[part]] == list(range(len(widths)))
    for part, width in parts:
        assert width == width_B[part].max() and part.stop - part.start <= most


@given(st.lists(st.integers(1, 64), min_size=1, max_size=30), st.integers(1, 30))
def test_nothing_that_is_learned_or_seen_by_it_is_left_out(lengths: list[int], most: int) -> None:
    batch = prompts(lengths)
    found = []
    for part in micro_batches(batch, most):
        assert part.step == 3 and part.inputs_BT.shape == part.targets_BT.shape
        assert part.inputs_BT.shape[1] % 16 == 0
        for row, targets in zip(part.inputs_BT, part.targets_BT, strict=True):
            learned = np.flatnonzero(targets >= 0)
            if not len(learned):
                continue  # one that fills the part up
            last = learned[-1] + 1
            found.append((row[:last].tolist(), targets[targets >= 0].tolist()))
    expected = []
    for row, targets in zip(batch.inputs_BT, batch.targets_BT, strict=True):
        learned = np.flatnonzero(targets >= 0)
        last = learned[-1] + 1 if len(learned) else 0
        expected.append((row[:last].tolist(), targets[targets >= 0].tolist()))
    assert sorted(found) == sorted(expected)


def test_short_rows_are_computed_apart_from_long_ones() -> None:
    widths = [part.inputs_BT.shape[1] for part in micro_batches(prompts([60, 5] + [20] * 10 + [6] * 30), 100)]
    assert widths == [64, 32, 16]


def test_parts_have_few_heights_and_widths() -> None:
    """Each new shape is prepared for, and remembered: a thousand would fill the memory."""
    random = np.random.default_rng(3)
    shapes = set()
    for seed in range(60):
        batch = prompts(random.integers(4, 64, 91).tolist(), seed=seed)
        parts = list(micro_batches(batch, 91))
        shapes |= {part.inputs_BT.shape for part in parts}
        assert sum(len(part.inputs_BT) for part in parts) <= 91 + 11 * len(parts)
    assert len(shapes) <= 9 * 4
    assert (
        height(1, 91, 91) == 11
        and height(90, 91, 91) == 91
        and height(5, 64, 4) == 4
        and height(3, 4, 4) == 3
    )


def test_windows_that_are_full_stay_as_they_are() -> None:
    tokens = np.random.default_rng(0).integers(0, 50, (6, 21))
    batch = Batch(1, tokens[:, :-1], tokens[:, 1:])
    (whole,) = micro_batches(batch, 6)
    np.testing.assert_array_equal(whole.inputs_BT, batch.inputs_BT)
    np.testing.assert_array_equal(whole.targets_BT, batch.targets_BT)
    assert [len(part.inputs_BT) for part in micro_batches(batch, 4)] == [4, 2]


@pytest.mark.parametrize("most", [1, 3, 40])
def test_the_parts_have_the_loss_and_the_gradient_of_the_whole(most: int) -> None:
    batch = prompts([60, 1, 33, 17, 16, 8, 9, 2, 50, 4])
    of_parts, of_whole = Transformer(CONFIG, seed=1), Transformer(CONFIG, seed=1)
    total = 0.0
    for part in micro_batches(batch, most):
        loss = of_parts.loss(torch.from_numpy(part.inputs_BT), torch.from_numpy(part.targets_BT))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    whole = of_whole.losses(torch.from_numpy(batch.inputs_BT), torch.from_numpy(batch.targets_BT)).sum()
    whole.backward()  # type: ignore[no-untyped-call]
    assert total == pytest.approx(whole.item(), rel=1e-5)
    for one, other in zip(of_parts.parameters(), of_whole.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_labelled_rows_are_cut_behind_their_last_token() -> None:
    lengths = [40, 3, 20, 5, 60, 7, 2, 2, 2, 2]
    inputs = np.full((len(lengths), 64), -1)
    for row, length in enumerate(lengths):
        inputs[row, :length] = row + 1
    targets = np.arange(len(lengths))[:, None] % 2
    model = Classifier(replace(CONFIG, labels=("a", "b")), seed=2)
    parts = list(micro_batches(Batch(1, inputs, targets), 4))
    assert min(part.inputs_BT.shape[1] for part in parts) == 16
    found = sum(
        model.loss(torch.from_numpy(part.inputs_BT), torch.from_numpy(part.targets_BT)).item()
        for part in parts
    )
    whole = model.loss(torch.from_numpy(inputs), torch.from_numpy(targets)).item()
    assert found == pytest.approx(whole, rel=1e-5)


def test_questions_and_texts_are_cut_behind_their_last_token_with_their_sides() -> None:
    lengths = [40, 3, 20, 60, 7, 2, 2, 2, 2]
    inputs = np.zeros((len(lengths), 2, 64), np.int64)
    inputs[:, 0] = -1
    for row, length in enumerate(lengths):
        inputs[row, :, :length] = [[row + 1] * length, [0] * (length // 2) + [1] * (length - length // 2)]
    targets = np.array([[length - 1, length - 1] for length in lengths])
    parts = list(micro_batches(Batch(1, inputs, targets), 4))
    assert {part.inputs_BT.shape[2] for part in parts} >= {16, 64}
    found = {}
    for part in parts:
        for row_2T, target in zip(part.inputs_BT, part.targets_BT.tolist(), strict=True):
            length = int((row_2T[0] >= 0).sum())
            found[int(row_2T[0, 0]) - 1] = (row_2T[:, :length].tolist(), target)
    assert found == {
        row: (inputs[row, :, :length].tolist(), targets[row].tolist()) for row, length in enumerate(lengths)
    }


def test_images_are_cut_by_number_alone() -> None:
    batch = Batch(1, np.zeros((5, 1, 4, 4), np.uint8), np.arange(5)[:, None])
    assert [part.targets_BT[:, 0].tolist() for part in micro_batches(batch, 2)] == [[0, 1], [2, 3], [4]]
