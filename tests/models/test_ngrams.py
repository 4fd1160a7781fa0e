"""The classifier of n-grams: which rows of its table a text has, that padding says nothing, and its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shuyuan.errors import ShuyuanError
from shuyuan.models import NgramClassifier, NgramConfig, hub, load_network
from shuyuan.models.ngrams import NOTHING, table_rows
from shuyuan.recipe import Model
from shuyuan.vault import open_model_folder

from .tiny import write_folder

WRAP = 2**64
TOKENS = st.lists(st.integers(0, 70_000), min_size=1, max_size=12)


def make(labels: int = 3, **changes: int) -> NgramClassifier:
    names = tuple("abcdefgh"[:labels])
    shape = {"vocab_size": 257, "width": 8, "context": 32, "end_id": 256, "rows": 97, "longest": 3} | changes
    model = NgramClassifier(NgramConfig.of(labels=names, **shape), seed=1)
    nn.init.normal_(model.table.weight, generator=torch.Generator().manual_seed(2))
    return model.eval()


def by_hand(gram: list[int], rows: int) -> int:
    """The documented hash in whole numbers of Python."""
    multiplier, mixer, code = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0
    for token in gram:
        code = (code * multiplier + (token + 1) * mixer) % WRAP
    for shift, factor in ((29, multiplier), (32, 1)):
        signed = code - WRAP if code >= WRAP // 2 else code
        code = (code ^ (signed >> shift) % WRAP) * factor % WRAP
    return code % 2**63 % (rows - 1) + 1


@given(TOKENS, st.integers(1, 6), st.integers(0, 3), st.integers(2, 2**19))
def test_rows_are_those_of_the_documented_hash(
    tokens: list[int], longest: int, filled: int, rows: int
) -> None:
    found = table_rows(torch.tensor([tokens + [-1] * filled]), longest, rows)[0].view(longest, -1)
    for size in range(1, longest + 1):
        ends = [
            by_hand(tokens[end - size : end], rows) if end >= size else NOTHING
            for end in range(1, len(tokens) + 1)
        ]
        assert found[size - 1].tolist() == ends + [NOTHING] * filled


@given(TOKENS, st.integers(1, 9))
def test_filling_a_row_up_changes_nothing(tokens: list[int], more: int) -> None:
    model = make()
    short, long = (model(torch.tensor([tokens + [-1] * count])) for count in (0, more))
    assert torch.allclose(short, long, atol=1e-6)


def test_rows_of_a_batch_do_not_mix() -> None:
    model, texts = make(), [[5, 6, 7, 8], [1, 2, -1, -1], [9, -1, -1, -1]]
    together = model(torch.tensor(texts))
    alone = torch.cat([model(torch.tensor([[token for token in text if token >= 0]])) for text in texts])
    assert torch.allclose(together, alone, atol=1e-6)


def test_what_was_never_seen_says_nothing() -> None:
    fresh = NgramClassifier(make().config).eval()
    assert torch.equal(fresh(torch.tensor([[1, 2, 3]])), fresh.score.bias[None])


def test_training_leaves_out_by_torchs_own_random_state() -> None:
    """Which a checkpoint holds; what is left out is another at each step."""
    model, tokens = make().train(), torch.arange(30)[None]
    torch.manual_seed(3)
    first, second = model(tokens), model(tokens)
    torch.manual_seed(3)
    assert torch.equal(first, model(tokens)) and not torch.equal(first, second)


def test_few_labels_have_a_narrow_table_of_many_rows() -> None:
    shapes = []
    for labels in (2, 9, 77):
        config = NgramConfig.from_recipe(
            Model(family="ngrams", longest=6, context=1024), 257, 256, list(map(str, range(labels)))
        )
        shapes.append((config.rows, config.width))
        assert config.parameters == config.rows * config.width + labels * (config.width + 1)
    assert shapes == [(2**19, 8), (2**18, 16), (2**16, 64)]


def test_a_folder_brings_the_same_logits_back(tmp_path: Path) -> None:
    model, tokens = make(), torch.tensor([[1, 2, 3, -1]])
    with open_model_folder(write_folder(tmp_path / "model", model)) as (store, name):
        again = load_network(store, name)
    assert again.config == model.config
    assert torch.equal(again.eval()(tokens), model(tokens))


def test_other_labels_get_a_new_head_and_none_are_refused(tmp_path: Path) -> None:
    model = make()
    folder = write_folder(tmp_path / "model", model)
    other = hub.load_folder(folder, ["x", "y"], seed=4)
    assert other.new == {"score.weight", "score.bias"} and other.config.labels == ("x", "y")
    assert torch.equal(other.table.weight, model.table.weight)
    with pytest.raises(ShuyuanError, match="no head to continue"):
        hub.load_folder(folder, [])


def test_transformers_refuses_the_folder(tmp_path: Path) -> None:
    """It must never open it without its table."""
    transformers = pytest.importorskip("transformers")
    folder = write_folder(tmp_path / "model", make())
    with pytest.raises(ValueError, match="shuyuan-ngrams"):
        transformers.AutoModelForSequenceClassification.from_pretrained(folder)
