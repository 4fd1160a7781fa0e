"""Norms and clipped sums equal a float64 loop over units, for every rule, for shared parameters, and for the general way."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from shuyuan.models import NgramClassifier, NgramConfig, Transformer, TransformerConfig
from shuyuan.privacy import Clipper, Units
from shuyuan.privacy.clipping import contributions
from shuyuan.privacy.cost import prefers_dense
from shuyuan.privacy.mechanism import ROUNDING

from .reference import clipped_sum, unit_gradients


def spread(model: nn.Module, x: Tensor) -> Tensor:
    """A loss for each row in which every output counts differently."""
    out = model(x).flatten(1)
    return (out * torch.linspace(0.3, 1.7, out.shape[1], dtype=out.dtype)).sin().sum(1)


def next_token(model: nn.Module, tokens: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens).transpose(1, 2), tokens.roll(-1, 1), reduction="none").sum(1)


def check(
    model: nn.Module,
    rows: Any,
    losses: Callable[[nn.Module, Any], Tensor] = spread,
    units: list[int] | None = None,
    clip: float | None = None,
) -> None:
    """Compares one physical batch with the reference; by default the clip is such that it cuts some units and not others."""
    count = len(rows[0] if isinstance(rows, tuple) else rows)
    units = units or list(range(count))
    gradients = unit_gradients(model, losses, rows, units)
    _, norms = clipped_sum(gradients, 1.0)
    clip = clip or float(norms.median() * 1.01)
    wanted, norms = clipped_sum(gradients, clip)
    clipper = Clipper(model, clip)
    try:
        clipper.begin(Units(torch.tensor(units)))
        clipped = clipper.backward(losses(model, rows))
        found = clipper.take()
    finally:
        clipper.remove()
    assert torch.allclose(clipped.norms_U.double(), norms, rtol=2e-5, atol=1e-9)
    whole = torch.sqrt(sum((part.square().sum() for part in wanted.values()), torch.zeros(())))
    for name, total in found.items():
        difference = (total.double() - wanted[name]).norm()
        # Each clipped part may be shorter by a share of ROUNDING, and units may cancel in the sum.
        parts = sum(
            min(1.0, clip / float(norm)) * each[name].norm()
            for each, norm in zip(gradients, norms, strict=True)
        )
        assert difference <= 1.1 * ROUNDING * parts + 2e-6 * whole, name
    assert all(weight.grad is None for weight in model.parameters())


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


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


class Tied(nn.Module):
    """Embedding and head are one parameter, and one module is called twice."""

    def __init__(self, vocabulary: int, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.middle = nn.Linear(width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.middle(torch.tanh(self.middle(self.embedding(ids))))))


@pytest.mark.parametrize("vocabulary", [30, 500], ids=["as an array", "as factors"])
def test_tied_weights_and_a_module_called_twice(vocabulary: int) -> None:
    check(Tied(vocabulary), torch.randint(0, vocabulary, (5, 4)), next_token)
    check(Tied(vocabulary), torch.randint(0, 3, (5, 4)), next_token)  # ids that repeat within a unit


@pytest.mark.parametrize("units", [[0, 0, 1, 1, 2, 2], [0, 1, 0, 2, 2, 2], [2, 1, 0, 1, 1, 0], [0] * 6])
@pytest.mark.parametrize("vocabulary", [30, 500])
def test_units_of_several_rows_are_clipped_jointly(units: list[int], vocabulary: int) -> None:
    check(Tied(vocabulary), torch.randint(0, vocabulary, (6, 4)), next_token, units)
    check(
        nn.Sequential(nn.Conv1d(2, 3, 2), nn.GroupNorm(3, 3), nn.Flatten()), torch.randn(6, 2, 5), units=units
    )


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


def test_sums_add_up_over_physical_batches() -> None:
    model, rows = Tied(30), torch.randint(0, 30, (8, 4))
    wanted, _ = clipped_sum(unit_gradients(model, next_token, rows, list(range(8))), 0.5)
    clipper = Clipper(model, 0.5)
    for part in rows.split([3, 1, 4]):
        clipper.begin(Units.one_a_row(len(part)))
        clipper.backward(next_token(model, part))
    for name, total in clipper.take().items():
        assert torch.allclose(total.double(), wanted[name], rtol=3e-4, atol=1e-6)
    assert all(not total.any() for total in clipper.take().values())


def test_automatic_clipping_brings_every_unit_to_one_norm() -> None:
    model, rows = nn.Linear(4, 3), torch.randn(5, 4)
    clipper = Clipper(model, "auto")
    clipper.begin(Units.one_a_row(5))
    clipped = clipper.backward(spread(model, rows))
    parts = clipped.norms_U * clipped.factors_U
    assert bool((parts <= 1).all()) and bool((parts > 0.9).all())


@pytest.mark.parametrize("clip", [1e-3, 1.0, "auto"])
def test_no_unit_moves_the_sum_by_more_than_the_clip(clip: Any) -> None:
    """Add one unit: the sum moves by at most the clip, whatever the unit holds, and however float32 rounds the sum."""
    model = nn.Conv1d(4, 30, 2)
    rows = torch.cat([torch.randn(8, 4, 4), 1e4 * torch.ones(1, 4, 4)])

    def total(part: Tensor) -> dict[str, Tensor]:
        clipper = Clipper(model, clip)
        clipper.begin(Units.one_a_row(len(part)))
        clipper.backward(100 * spread(model, part))
        clipper.remove()
        return clipper.take()

    whole, bound = total(rows), 1.0 if clip == "auto" else clip
    for left_out in range(len(rows)):
        others = total(rows[torch.arange(len(rows)) != left_out])
        moved = sum((whole[name] - others[name]).double().square().sum() for name in whole) ** 0.5
        assert 0.9 * bound < moved <= bound


def test_a_unit_that_is_not_finite_becomes_zero_and_is_counted() -> None:
    for model in (nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)), Tied(500), Tied(30)):
        tokens = isinstance(model, Tied)
        rows = torch.randint(0, 30, (3, 4)) if tokens else torch.randn(3, 4)
        losses = next_token if tokens else spread
        clipper = Clipper(model, 1.0)
        clipper.begin(Units.one_a_row(2))
        clipper.backward(losses(model, rows[[0, 2]]))
        wanted = clipper.take()
        clipper.begin(Units.one_a_row(3))
        clipped = clipper.backward(losses(model, rows) * torch.tensor([1.0, torch.inf, 1.0]))
        assert clipped.not_finite == 1
        for name, total in clipper.take().items():
            assert torch.allclose(total, wanted[name], rtol=1e-4, atol=1e-6)
        clipper.remove()


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


# ---- per layer, checkpointing, half precision, dropout -----------------------------------------------------------------


def per_layer_sum(gradients: list[dict[str, Tensor]], clip: float) -> dict[str, Tensor]:
    share = clip / len(gradients[0]) ** 0.5
    return {
        name: sum(
            (each[name] * min(1.0, share / float(each[name].norm())) for each in gradients), torch.zeros(())
        )
        for name in gradients[0]
    }


@pytest.mark.parametrize("vocabulary", [30, 500])
def test_per_layer_clips_each_parameter_to_its_share(vocabulary: int) -> None:
    model, rows = Tied(vocabulary), torch.randint(0, vocabulary, (5, 4))
    wanted = per_layer_sum(unit_gradients(model, next_token, rows, list(range(5))), 0.5)
    clipper = Clipper(model, 0.5, "per-layer")
    clipper.begin(Units.one_a_row(5))
    clipper.backward(next_token(model, rows))
    for name, total in clipper.take().items():
        assert torch.allclose(total.double(), wanted[name], rtol=1e-3, atol=1e-6), name


def test_per_layer_forgets_a_layer_before_the_next_one() -> None:
    """While a wide chain of layers goes backward, no two of their gradients are held at once."""
    model = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(6)))
    clipper = Clipper(model, 1.0, "per-layer")
    held: list[int] = []
    add = contributions.Contributions.add_dense

    def counting(self: contributions.Contributions, gradient: Tensor) -> None:
        add(self, gradient)
        held.append(len(clipper._capture._collected or {}))

    contributions.Contributions.add_dense = counting  # type: ignore[method-assign]
    try:
        clipper.begin(Units.one_a_row(4))
        clipper.backward(spread(model, torch.randn(4, 40, 64)))
    finally:
        contributions.Contributions.add_dense = add  # type: ignore[method-assign]
    assert max(held) <= 2  # weight and bias of one layer


class Residual(nn.Module):
    """Adds a matrix's output to its input; the sum needs neither for its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(6, 6)
        self.outputs: list[weakref.ref[Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.matrix(x)
        self.outputs.append(weakref.ref(y))
        return x + y


def test_outputs_that_autograd_does_not_need_are_not_kept() -> None:
    model = nn.Sequential(Residual(), Residual())
    clipper = Clipper(model, 1.0)
    clipper.begin(Units.one_a_row(4))
    losses = spread(model, torch.randn(4, 3, 6))
    assert all(output() is None for block in model for output in block.outputs)
    clipper.backward(losses)


@pytest.mark.parametrize("elements", [1, 500])
def test_gram_matrices_a_few_units_at_a_time(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    monkeypatch.setattr(contributions, "GRAM_ELEMENTS", elements)
    check(nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 30)), torch.randn(5, 3, 30))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 6)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.3)) for _ in range(3)
        )
        self.head = nn.Linear(6, 30)
        self.reentrant = reentrant
        self.on = True

    def forward(self, ids: Tensor) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        x = self.table(ids)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant) if self.on else block(x)
        return self.head(x)


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
def test_activation_checkpointing_changes_nothing(clipping: Any) -> None:
    model, rows = Checkpointed(reentrant=False), torch.randint(0, 30, (4, 5))
    sums = []
    for model.on in (True, False):
        torch.manual_seed(5)  # the same dropout
        clipper = Clipper(model, 0.3, clipping)
        clipper.begin(Units.one_a_row(4))
        clipper.backward(next_token(model, rows))
        sums.append(clipper.take())
        clipper.remove()
    for name in sums[0]:
        assert torch.allclose(sums[0][name], sums[1][name], rtol=1e-5, atol=1e-7), name


def test_dropout_inside_a_module_without_a_rule() -> None:
    """Each row keeps its own mask from the forward pass: the sum of parts is what autograd gives for the whole."""
    model = nn.Sequential(nn.LSTM(5, 6, num_layers=2, dropout=0.5, batch_first=True))
    clipper = Clipper(model, 1e9)
    clipper.begin(Units.one_a_row(4))
    out, _ = model(torch.randn(4, 3, 5))
    clipper.backward(out.flatten(1).sum(1))
    assert all(bool(total.isfinite().all()) and bool(total.any()) for total in clipper.take().values())


@pytest.mark.parametrize("vocabulary", [30, 500])
def test_bf16_autocast_keeps_norms_factors_and_sums_in_float32(vocabulary: int) -> None:
    model, rows = Tied(vocabulary, 32), torch.randint(0, vocabulary, (6, 8))
    clipper = Clipper(model, 0.5)
    clipper.begin(Units.one_a_row(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = next_token(model, rows)
    clipped = clipper.backward(losses.float())
    assert {clipped.norms_U.dtype, clipped.factors_U.dtype} <= {torch.float32, torch.float64}
    gradients = unit_gradients(model, next_token, rows, list(range(6)))
    wanted, norms = clipped_sum(gradients, 0.5)
    assert torch.allclose(clipped.norms_U.double(), norms, rtol=0.05)
    for name, total in clipper.take().items():
        assert total.dtype == torch.float32
        assert (total.double() - wanted[name]).norm() <= 0.05 * wanted[name].norm() + 0.01


@pytest.mark.parametrize("vocabulary", [30, 500])
def test_in_bf16_no_unit_moves_the_sum_by_more_than_the_clip(vocabulary: int) -> None:
    """What is clipped is what is summed: the rounding of half precision falls on both alike."""
    model, rows = Tied(vocabulary, 32), torch.randint(0, vocabulary, (9, 8))
    sums = []
    for part in (rows, rows[:-1]):
        clipper = Clipper(model, 0.01)
        clipper.begin(Units.one_a_row(len(part)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = next_token(model, part)
        clipper.backward(losses.float())
        sums.append(clipper.take())
        clipper.remove()
    moved = sum(
        ((sums[0][name] - sums[1][name]).double().square().sum() for name in sums[0]), torch.zeros(())
    )
    assert float(moved) ** 0.5 <= 0.01


# ---- what nearly cancels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [1.0, "auto"])
@pytest.mark.parametrize("length", [1e2, 1e4, 1e6])
def test_a_unit_whose_positions_nearly_cancel_is_clipped_all_the_same(clip: Any, length: float) -> None:
    """Two long inputs, nearly alike, with opposite gradients: the Gram matrices' terms cancel down to nothing."""
    model = nn.Linear(400, 300, bias=False)
    x = torch.randn(1, 1, 400) * length / 20
    rows = torch.cat([x, x + torch.randn_like(x) * 1e-2], 1)
    direction = torch.randn(300)
    clipper = Clipper(model, clip)
    clipper.begin(Units.one_a_row(1))
    out = model(rows)
    clipper.backward(((out[:, 0] - out[:, 1]) * direction).sum(1))
    assert not prefers_dense(2, 300, 400, "cpu", 4)
    moved = clipper.take()["weight"].double().norm()
    assert moved <= clipper.norm


def test_a_tied_parameter_whose_uses_nearly_cancel_keeps_every_unit() -> None:
    model = Tied(500)
    with torch.no_grad():
        model.embedding.weight.mul_(50)
    for clipping in ("joint", "per-layer"):
        clipper = Clipper(model, 1.0, clipping)  # type: ignore[arg-type]
        clipper.begin(Units.one_a_row(60))
        clipped = clipper.backward(next_token(model, torch.randint(0, 500, (60, 3))))
        assert clipped.not_finite == 0
        assert all(bool(total.isfinite().all()) for total in clipper.take().values())
        clipper.remove()


def test_backward_inside_autocast_is_as_exact_as_outside() -> None:
    model, rows = Tied(500, 32), torch.randint(0, 500, (6, 8))
    found = []
    for inside in (True, False):
        clipper = Clipper(model, 0.5)
        clipper.begin(Units.one_a_row(6))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = next_token(model, rows).float()
            if inside:
                clipper.backward(losses)
        if not inside:
            clipper.backward(losses)
        found.append(clipper.take())
        clipper.remove()
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]), name


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
