"""Matrices that stay codes give what their floats give, and what cannot be trusted stays floats."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from shuyuan.data import byte_tokenizer
from shuyuan.hardware import Hardware
from shuyuan.inference import computed
from shuyuan.models import (
    Classifier,
    Slots,
    coded,
    hub,
    load_network,
    load_writer,
    networks,
    open_slots,
    pack,
    room,
    save_variant,
)
from shuyuan.models.coded import Coded, Int4, Int8, Table, keep_codes
from shuyuan.models.compiled import NotCompiledError
from shuyuan.models.packed import Arrays, Kind, dense, floats
from shuyuan.progress import Progress
from shuyuan.vault import OpenStore

from .hub_folders import GROUPED
from .tiny import TINY, lively, tokens

# Widths that 64 divides; the vocabulary is one that it does not divide.
WIDE = replace(TINY, width=64, heads=4, kv_heads=2, head_dim=32, hidden=128)
Packed = tuple[Kind, Arrays]


def packed(weight: Tensor, bits: int) -> Packed:
    """As `stored.read_codes` has it."""
    kind, stored = pack(weight.detach().numpy(), bits)
    return kind, dense("w", kind, stored, "")


def layer(rows: int, columns: int, bits: int, bias: bool = False) -> tuple[nn.Linear, Packed]:
    """A layer whose rows differ in size, rounded to codes, and the codes."""
    generator = torch.Generator().manual_seed(rows + columns)
    linear = nn.Linear(columns, rows, bias=bias)
    with torch.no_grad():
        size_R1 = torch.rand(rows, 1, generator=generator) * 10
        kind, parts = packed(torch.randn(rows, columns, generator=generator) * size_R1, bits)
        linear.weight.copy_(torch.from_numpy(floats(kind, parts)))
    return linear, (kind, parts)


class Holder(nn.Module):
    """A network of one layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def to_hub(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, dict(self.named_parameters())


def kept(linear: nn.Module, stored: Packed) -> tuple[nn.Module, Progress]:
    holder, progress = Holder(linear), Progress()
    keep_codes(holder, [("inner.weight", *stored)], "cpu", progress)
    return holder.inner, progress


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (100, 192), (1, 128), (320, 256)])
def test_codes_give_what_their_floats_give(bits: int, rows: int, columns: int) -> None:
    linear, stored = layer(rows, columns, bits, bias=True)
    ready, progress = kept(linear, stored)
    assert isinstance(ready, Coded)
    assert not progress.said
    size_R = linear.weight.norm(dim=1)
    with torch.inference_mode():
        for shape in ((1,), (2, 3), (5, 7)):
            x = torch.randn(*shape, columns, generator=torch.Generator().manual_seed(1))
            assert ((ready(x) - linear(x)).abs() <= 0.03 * size_R + 0.01).all()
        assert ready(x.bfloat16()).dtype == torch.bfloat16
        assert (
            (ready.weight.float() - linear.weight).abs() <= 0.05 * linear.weight.abs().amax(1, True)
        ).all()


def test_an_embedding_gives_the_same_numbers() -> None:
    table = nn.Embedding(70, 40)
    kind, parts = packed(table.weight, 8)
    ready, _ = kept(table, (kind, parts))
    assert isinstance(ready, Table)
    ids = torch.tensor([[0, 69, 3]])
    np.testing.assert_array_equal(ready(ids).numpy(), floats(kind, parts)[ids.numpy()])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("columns", [24, 40, 96])
def test_odd_widths_stay_floats_and_no_operator_sees_them(
    bits: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded, "KINDS", {bits: None})  # any use of an operator would be an error
    linear, stored = layer(64, columns, bits)
    ready, progress = kept(linear, stored)
    assert ready is linear
    assert "known to be right where 64 divides" in progress.said["models.codes-as-floats"]


def _raises(*_: Any) -> Tensor:
    raise RuntimeError("no kernel")


def _last_is_wrong(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def lie(x: Tensor, *others: Any) -> Tensor:
        y = operator(x, *others).clone()
        y[-1, -1] *= 2
        return y

    return lie


def _wrong_for(count: int) -> Callable[..., Any]:
    """Operators have other code for few rows, and may be wrong there alone."""

    def lying(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, *others: operator(x, *others) * (2 if len(x) == count else 1)

    return lying


def _a_little_wrong(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *others: operator(*others) * 1.1


def _garbage(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *others: torch.full_like(operator(*others), torch.nan)


@contextmanager
def operators(**ours: Any) -> Iterator[None]:
    """Puts others in place of torch's own."""
    with pytest.MonkeyPatch.context() as patch:
        names = ("_weight_int8pack_mm", "_weight_int4pack_mm_for_cpu", "_convert_weight_to_int4pack_for_cpu")
        there = {name: getattr(torch.ops.aten, name) for name in names} | ours
        patch.setattr(coded.torch, "ops", SimpleNamespace(aten=SimpleNamespace(**{
            name: operator for name, operator in there.items() if operator is not None
        })))  # fmt: skip
        yield


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(
    "lie",
    [
        _last_is_wrong, _a_little_wrong, _wrong_for(1), _wrong_for(3), _wrong_for(16), _garbage, lambda _: _raises, lambda _: None,
    ],
)  # fmt: skip
def test_an_operator_that_is_missing_raises_or_is_wrong_is_not_used(bits: int, lie: Any) -> None:
    name = {8: "_weight_int8pack_mm", 4: "_weight_int4pack_mm_for_cpu"}[bits]
    linear, stored = layer(64, 64, bits)
    with operators(**{name: lie(getattr(torch.ops.aten, name))}):
        ready, progress = kept(linear, stored)
    assert ready is linear
    assert list(progress.said) == ["models.codes-as-floats"]


@pytest.mark.parametrize("bits", [8, 4])
def test_matrices_side_by_side_give_the_very_same_numbers_or_stay_apart(bits: int) -> None:
    several = [kept(*layer(rows, 64, bits))[0] for rows in (64, 128)]
    x_NC = torch.randn(5, 64)
    one = coded.beside(several)
    assert one is not None
    assert torch.equal(one(x_NC), torch.cat([module(x_NC) for module in several], -1))
    name = {8: "_weight_int8pack_mm", 4: "_weight_int4pack_mm_for_cpu"}[bits]
    with operators(**{name: _last_is_wrong(getattr(torch.ops.aten, name))}):
        assert coded.beside(several) is None


def test_a_head_that_stays_floats_keeps_its_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are one weight: codes of it beside floats of it would be more memory than before."""
    model = lively(replace(WIDE, tied=True))
    stored = [(name, *packed(weight, 8)) for name, weight in model.named_parameters() if weight.ndim > 1]
    with operators(_weight_int8pack_mm=_raises):
        keep_codes(model, stored, "cpu")
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_head_and_its_embedding_share_codes() -> None:
    model: Any = lively(replace(WIDE, tied=True))
    keep_codes(model, [("model.embed_tokens.weight", *packed(model.lm_head.weight, 8))], "cpu")
    assert model.lm_head.codes is model.model.embed_tokens.codes


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise NotCompiledError("there is no C compiler")

    monkeypatch.setattr("shuyuan.models.networks.CompiledModel.load", none)


def variant(path: Path, model: Any, bits: int) -> OpenStore:
    """A compressed folder, its outer matrices in 8 bits."""

    def packed_small(name: str, weight: Any) -> tuple[Kind, Arrays]:
        outer = "embed" in name or "lm_head" in name
        return pack(weight, 32 if weight.ndim < 2 else 8 if outer else bits)

    store = OpenStore(path)
    with store.folder("model") as folder:
        save_variant(folder, model, byte_tokenizer().to_json(), "# A card\n", packed_small)
    return store


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("bits", [8, 4])
def test_a_variant_writes_by_its_codes(tmp_path: Path, bits: int) -> None:
    with variant(tmp_path, lively(WIDE), bits) as store:
        progress = Progress()
        writer: Any = load_writer(store, "model", "bf16", progress)
        meant: Any = load_network(store)
    assert "models.codes-as-floats" not in progress.said
    held = sum(weight.numel() * weight.element_size() for weight in writer.buffers())
    assert held < 0.4 * sum(4 * weight.numel() for weight in meant.parameters())
    assert {name for name, _ in writer.named_parameters()} == {"model.norm.weight"}
    ids = tokens(1, 20)
    with torch.inference_mode():
        wanted = meant(ids)
        halved = copy.deepcopy(meant).bfloat16()(ids).float()
        errors = [(found - wanted).square().mean().item() for found in (writer(ids), halved)]
    assert errors[0] <= 4 * errors[1]
    slots = Slots(writer, 2, TINY.context)
    slot, first = slots.prefill(ids[0, :-1].tolist())
    decoded = slots.decode({slot: int(ids[0, -1])})[slot]
    for found, right in ((first, wanted[0, -2]), (decoded, wanted[0, -1])):
        assert (found - right).square().mean() <= 0.01 * right.square().mean()


@pytest.mark.usefixtures("no_compiler")
def test_in_float32_nothing_is_rounded_further(tmp_path: Path) -> None:
    with variant(tmp_path, lively(WIDE), 8) as store:
        writer: Any = load_writer(store, "model", "fp32")
        meant: Any = load_network(store)
    with torch.inference_mode():
        torch.testing.assert_close(writer(tokens(1, 9)), meant(tokens(1, 9)), rtol=1e-4, atol=1e-4)


def test_a_classifier_computes_with_codes(tmp_path: Path) -> None:
    model = Classifier(replace(WIDE, labels=("a", "b", "c"), tied=False), 0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    with variant(tmp_path, model, 8) as store:
        ready: Any = load_writer(store, "model", "bf16")
        meant: Any = load_network(store)
    assert sum(isinstance(module, Int8) for module in ready.modules()) == 7 * WIDE.layers + 1
    ids = tokens(4, 12)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found, wanted = ready(ids).float(), meant(ids).float()
    assert (found - wanted).abs().max() <= 0.1 * wanted.abs().max()


def test_a_model_of_transformers_computes_with_codes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = GROUPED | {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "attention_bias": True}
    torch.manual_seed(0)
    body = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).eval()
    body.save_pretrained(tmp_path / "given")
    with variant(tmp_path / "run", hub.load_folder(tmp_path / "given"), 4) as store:
        progress = Progress()
        ready: Any = load_writer(store, "model", "bf16", progress)
        meant: Any = load_network(store)
    assert "models.codes-as-floats" not in progress.said
    assert not any(isinstance(module, nn.Linear | nn.Embedding) for module in ready.modules())
    slots, right = open_slots(ready, 1, 40), open_slots(meant, 1, 40)
    slot, found = slots.prefill(range(20))
    _, wanted = right.prefill(range(20))
    assert (found - wanted).abs().max() <= 0.05 * wanted.abs().max()
    found, wanted = slots.decode({slot: 3})[slot], right.decode({slot: 3})[slot]
    assert (found - wanted).abs().max() <= 0.05 * wanted.abs().max()


@pytest.mark.parametrize("columns", [128, 192])
def test_the_operators_of_a_gpu_are_asked_as_their_signatures_say(columns: int) -> None:
    """Without a GPU: torch's own descriptions of the operators check types and shapes."""
    rows, tiles = 192, 8 if columns % 128 == 0 else 4
    with FakeTensorMode():
        parts = {
            ".int4": torch.empty(rows, columns, dtype=torch.uint8, device="cuda"),
            ".scale": torch.empty(rows, columns // 64, dtype=torch.float16, device="cuda"),
            ".zero": torch.empty(rows, columns // 64, dtype=torch.uint8, device="cuda"),
        }
        four = Int4.of(parts, rows)
        assert four.codes.shape == (rows // 8, columns // (16 * tiles), 32, tiles // 2)
        assert four.scale.shape == (columns // 64, rows, 2)
        eight = Int8.of(
            {
                ".int8": torch.empty(rows, columns, dtype=torch.int8, device="cuda"),
                ".scale": torch.empty(rows, device="cuda"),
            },
            rows,
        )
        for ready in (four, eight):
            assert ready.scale.dtype == torch.bfloat16
            for count in (1, 50):
                y = ready(torch.empty(2, count, columns, device="cuda"))
                assert (y.shape, y.dtype, y.device.type) == ((2, count, rows), torch.float32, "cuda")


@pytest.mark.parametrize(("share", "device"), [(0.5, "cpu"), (2.0, "cuda"), (0.0, "cuda")])
def test_floats_that_a_gpu_has_no_room_for_are_computed_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, device: str
) -> None:
    """As of a model that was trained beside a quantised base, on a GPU that had room for that; 0 stands for a memory that is unknown."""
    model = lively(WIDE)
    held = sum(weight.nbytes for weight in model.parameters())
    gpu = Hardware("cuda", "a small GPU", 2, round(share * held), ())
    monkeypatch.setattr(room, "detect", lambda: gpu)
    monkeypatch.setattr(networks, "detect", lambda: gpu)
    progress = Progress()
    assert room.device_for(model, progress) == device
    assert ("models.no-room" in progress.said) == (device == "cpu")
    if device == "cpu":
        with variant(tmp_path, model, 32) as store:
            writer: Any = load_writer(store, "model", "fp32", progress)
        assert {weight.device.type for weight in writer.parameters()} == {"cpu"}
        assert computed(model, "fp32").loss(tokens(1, 9).numpy(), tokens(1, 9, seed=1).numpy()) > 0
