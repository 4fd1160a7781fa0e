"""Norms and clipped sums equal a float64 loop over units, for every kind of layer: those with a rule, and the general way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from shuyuan.models import NgramClassifier, NgramConfig, Transformer, TransformerConfig
from shuyuan.privacy import Clipper, Units
from shuyuan.privacy.cost import prefers_dense

from .reference import check, next_token, spread

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("shape", [(6, 5), (6, 4, 5), (6, 4, 2, 5), (6, 1, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    check(
        nn.Sequential(nn.Linear(5, 7, bias=bias), nn.Tanh(), nn.Linear(7, 3, bias=bias)), torch.randn(shape)
    )


@pytest.mark.parametrize("positions", [3, 200])
def test_linear_as_factors_and_as_an_array(positions: int) -> None:
    """Few positions and a large matrix go by Gram matrices, many positions by arrays; both are in one model here."""
    assert prefers_dense(200, 40, 30, "cpu", 4) and not prefers_dense(3, 40, 30, "cpu", 4)
    check(nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 30)), torch.randn(5, positions, 30))


class Lookup(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4, **options)
        self.head = nn.Linear(4, 9)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids).tanh())


@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 2}, {"max_norm": 0.5}, {"scale_grad_by_freq": False}]
)
def test_embedding(options: dict[str, Any]) -> None:
    check(Lookup(**options), torch.randint(0, 9, (5, 12)), next_token)


class Bags(nn.Module):
    """Sums of a table's rows, all counted alike or each by a weight of its own."""

    def __init__(self, weighted: bool = False, **options: Any) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(9, 4, mode="sum", **options)
        self.head = nn.Linear(4, 3)
        self.weighted = weighted

    def forward(self, ids: Tensor) -> Tensor:
        weights = {"per_sample_weights": self.table.weight.new_ones(1) * ids} if self.weighted else {}
        return self.head(self.table(ids, **weights).tanh())


@pytest.mark.parametrize("units", [None, [0, 1, 0, 2, 1]])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 0}, {"padding_idx": 5, "weighted": True}])
def test_embedding_bag(options: dict[str, Any], units: list[int] | None) -> None:
    """Also where a row stands twice in a bag, or not at all; weights of a bag go the general way."""
    check(Bags(**options), torch.randint(0, 9, (5, 12)), units=units)


def of_label(model: nn.Module, rows: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(rows[0]), rows[1], reduction="none")


def test_classifier_of_ngrams() -> None:
    """In rows of different lengths, with n-grams that share a row of the table."""
    names = ("a", "b", "c")
    config = NgramConfig.of(vocab_size=9, width=8, context=16, end_id=8, labels=names, rows=23, longest=3)
    model = NgramClassifier(config).eval()  # nothing is left out by chance
    nn.init.normal_(model.table.weight)
    tokens = torch.randint(0, 9, (5, 12)).where(
        torch.arange(12) < torch.tensor([[12], [1], [7], [2], [9]]), -1
    )
    check(model, (tokens, torch.tensor([0, 1, 2, 0, 1])), of_label, units=[0, 1, 2, 1, 3])


@pytest.mark.parametrize("units", [None, [0, 1, 0, 2, 1]])
def test_any_number_of_labels(units: list[int] | None) -> None:
    """A sum of losses, one for each label, of rows with all labels, some and none."""
    config = NgramConfig.of(
        vocab_size=9,
        width=8,
        context=16,
        end_id=8,
        labels=("a", "b", "c"),
        rows=23,
        longest=2,
        multi_label=True,
    )
    model = NgramClassifier(config).eval()
    nn.init.normal_(model.table.weight)
    has_B1K = torch.tensor([[1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 1]])[:, None]
    check(
        model,
        (torch.randint(0, 9, (5, 12)), has_B1K),
        lambda model, rows: model.losses(*rows)[:, 0],
        units=units,
    )


CONVOLUTIONS = [
    (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (5, 4, 9)),
    (nn.Conv1d(4, 6, 3, padding="same", dilation=2), (5, 4, 9)),
    (nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding="valid", dilation=(1, 2), groups=4), (5, 4, 9, 8)),
    (nn.Conv2d(3, 6, 3, padding="same", bias=False), (5, 3, 7, 8)),
    (nn.Conv2d(3, 6, (2, 3), padding="same", dilation=(1, 2)), (5, 3, 7, 8)),
    (nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), (5, 3, 7, 8)),
    (nn.Conv3d(2, 4, 2, padding=1, stride=2), (4, 2, 4, 5, 6)),
    (nn.ConvTranspose2d(3, 4, 3, stride=2), (4, 3, 5, 5)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=lambda value: str(value)[:60])
def test_convolution(layer: nn.Module, shape: tuple[int, ...]) -> None:
    check(nn.Sequential(layer, nn.ReLU(inplace=True)), torch.randn(shape))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 4), groups=st.integers(1, 3), kernel=st.integers(1, 4), stride=st.integers(1, 3),
    padding=st.integers(0, 2), dilation=st.integers(1, 2), size=st.integers(7, 11),
)  # fmt: skip
def test_any_convolution(
    rows: int, groups: int, kernel: int, stride: int, padding: int, dilation: int, size: int
) -> None:
    layer = nn.Conv1d(2 * groups, 3 * groups, kernel, stride, padding, dilation, groups)
    check(layer, torch.randn(rows, 2 * groups, size))


NORMS = [
    (nn.LayerNorm(8), (4, 3, 8)),
    (nn.LayerNorm(8, bias=False), (4, 3, 8)),
    (nn.LayerNorm((3, 8)), (4, 3, 8)),
    (nn.LayerNorm((5, 8)), (4, 3, 5, 8)),
    (nn.RMSNorm(8), (4, 3, 8)),
    (nn.RMSNorm(8, eps=1e-3), (4, 8)),
    (nn.GroupNorm(4, 8), (4, 8, 6)),
    (nn.GroupNorm(2, 8), (4, 8, 3, 5)),
    (nn.InstanceNorm1d(8, affine=True), (4, 8, 6)),
]


@pytest.mark.parametrize(("norm", "shape"), NORMS, ids=str)
def test_norms(norm: nn.Module, shape: tuple[int, ...]) -> None:
    for weight in norm.parameters():
        nn.init.normal_(weight)
    check(nn.Sequential(norm, nn.Tanh()), torch.randn(shape))


class Recurrent(nn.Module):
    def __init__(self, cell: nn.RNNBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        if self.cell.batch_first:
            out, state = self.cell(x)
        else:
            out, state = self.cell(x.transpose(0, 1))
            out = out.transpose(0, 1)
        last = state[0] if isinstance(state, tuple) else state
        return torch.cat([out.flatten(1), last.transpose(0, 1).flatten(1)], 1)


@pytest.mark.parametrize(
    "cell",
    [
        nn.RNN(5, 6, batch_first=True, bidirectional=True),
        nn.GRU(5, 6, num_layers=2),
        nn.LSTM(5, 6, batch_first=True),
        nn.LSTM(5, 6, batch_first=True, num_layers=4),
    ],
    ids=str,
)
def test_recurrent_layers(cell: nn.RNNBase) -> None:
    check(Recurrent(cell), torch.randn(4, 3, 5))


class Loop(nn.Module):
    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("cell", [nn.RNNCell(5, 6), nn.GRUCell(5, 6), nn.LSTMCell(5, 6)], ids=str)
def test_recurrent_cells(cell: nn.RNNCellBase) -> None:
    check(Loop(cell), torch.randn(4, 3, 5))


class SelfAttention(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        out, weights = self.attention(x, x, x)
        return torch.cat([(out if self.first else out.transpose(0, 1)).flatten(1), weights.flatten(1)], 1)


@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention(batch_first: bool) -> None:
    check(SelfAttention(batch_first), torch.randn(4, 3, 8))
    check(SelfAttention(batch_first), torch.randn(4, 4, 8))  # as many positions as rows


class Masked(nn.Module):
    """A module without a rule that is given a table shared by all rows, here and there with as many entries as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.attention(x, x, x, attn_mask=mask)[0]


def test_a_shared_table_with_as_many_entries_as_rows_stays_shared() -> None:
    model = Masked()
    weights = dict(model.attention.named_parameters())
    clipper = Clipper(model, 1e9)
    for rows in (3, 5, 4, 1):  # five rows of five positions
        x = torch.randn(rows, 5, 8)
        clipper.begin(Units.one_a_row(rows))
        clipper.backward(spread(model, x))
        found = clipper.take()
        copy = Masked()
        copy.load_state_dict(model.state_dict())
        wanted = torch.autograd.grad(spread(copy, x).sum(), list(copy.attention.parameters()))
        for name, grad in zip(weights, wanted, strict=True):
            assert torch.allclose(found[f"attention.{name}"], grad, rtol=1e-3, atol=1e-4), name


def test_encoder_layer() -> None:
    check(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), torch.randn(4, 3, 8))


class Scaled(nn.Module):
    """A parameter of its own beside a module's: the general way."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 1, 8))
        self.scale = nn.Parameter(torch.randn(8))
        self.inner = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(torch.cat([self.start.expand(len(x), -1, -1), x * self.scale], 1))


def test_parameters_of_its_own() -> None:
    check(Scaled(), torch.randn(4, 3, 8))
    check(nn.Sequential(nn.Linear(8, 8), Scaled()), torch.randn(4, 3, 8), units=[0, 1, 1, 0])


def test_frozen_parameters_stay_out() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[0].weight.requires_grad_(False)
    check(model, torch.randn(4, 5))
    model[1].requires_grad_(False)
    check(model, torch.randn(4, 5))


def test_a_parameter_that_is_not_used_gets_nothing() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    check(Half(), torch.randn(4, 3))


@pytest.mark.parametrize("units", [None, [0, 0, 1, 1]])
@pytest.mark.parametrize("tied", [True, False])
def test_the_transformer_of_this_library(tied: bool, units: list[int] | None) -> None:
    config = TransformerConfig(40, 2, 16, 2, 1, 8, 24, 8, tied=tied)
    model = Transformer(config, seed=1)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)

    def losses(model: nn.Module, tokens: Tensor) -> Tensor:
        return model.losses(tokens, tokens.roll(-1, 1)).mean(1)

    check(model, torch.randint(0, 40, (4, 6)), losses, units)
