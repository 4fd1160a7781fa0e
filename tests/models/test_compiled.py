"""The compiled transformer: the numbers of the torch one, and the same bits whatever stands beside a sequence."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan import hardware
from shuyuan.errors import ShuyuanError
from shuyuan.models import Transformer, TransformerConfig, cache_bytes, load_writer
from shuyuan.models.compiled import CompiledModel, CompiledSlots, NotCompiledError, build, library, selftest
from shuyuan.models.packed import Kind, dense, floats, pack
from shuyuan.progress import Progress
from shuyuan.vault import OpenStore

from .tiny import TIED, TINY, lively, write_folder

# Widths that fill no group, heads of which several share keys, or none; heads that fill no vector.
SHAPES = [
    TINY,
    TIED,
    replace(TINY, heads=5, kv_heads=1, head_dim=6, width=30, hidden=21, vocab_size=7),
    replace(TINY, heads=3, kv_heads=3, head_dim=34, width=64, hidden=130, layers=1, context=70),
    replace(TINY, heads=2, kv_heads=1, head_dim=80, width=129, hidden=64, layers=2),
]
BITS = [32, 16, 8, 4]
WITHIN = {32: 3e-6, 16: 0.02, 8: 0.06, 4: 0.06}  # of the logits' spread, root mean square


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        library()
    except NotCompiledError as error:
        pytest.skip(str(error))


def compiled(model: Transformer, bits: int = 32) -> CompiledModel:
    """The model, its matrices in so many bits; the torch one then has the weights that are meant."""
    weights: list[tuple[str, Kind | None, Any]] = []
    for name, parameter in model.named_parameters():
        weight = parameter.detach().numpy()
        if bits == 16 and weight.ndim == 2:
            weight = parameter.detach().bfloat16().float().numpy()
        if bits < 16 and weight.ndim == 2:
            kind, stored = pack(weight, bits)
            parts = dense(name, kind, stored, "x")
            weight = floats(kind, parts)
            weights.append((name, kind, parts))
        else:
            weights.append((name, None, {"": weight.copy()}))
        parameter.data = torch.from_numpy(weight.copy())
    return CompiledModel(model.config, weights, half=bits == 16)


def read(slots: CompiledSlots, tokens: list[int]) -> np.ndarray[Any, Any]:
    return slots.prefill(tokens)[1]


@pytest.mark.parametrize("config", SHAPES)
@pytest.mark.parametrize("bits", BITS)
def test_the_numbers_are_those_of_torch(config: TransformerConfig, bits: int) -> None:
    """Rounded inputs err more than float32: by so much of the logits' spread."""
    model = lively(config)
    small = compiled(model, bits)
    tokens = torch.randint(0, config.vocab_size, (40,), generator=torch.Generator().manual_seed(3))
    slots = CompiledSlots(small, 1, config.context)
    slot, first = slots.prefill(tokens[:33].tolist())
    found = [first, *(slots.decode({slot: int(token)})[slot] for token in tokens[33:])]
    with torch.no_grad():
        meant = model(tokens[None])[0, 32:].numpy()
    error = float(np.sqrt(np.square(np.stack(found) - meant).mean()) / meant.std())
    assert error < WITHIN[bits]


@pytest.mark.parametrize("bits", BITS)
def test_nothing_changes_with_what_stands_beside(bits: int) -> None:
    """One by one, in pieces of any size, beside others, in another slot: bit for bit the same."""
    small = compiled(lively(), bits)
    random = np.random.default_rng(0)
    texts = [random.integers(0, 257, length).tolist() for length in (1, 17, 31, 40, 2)]
    alone = [read(CompiledSlots(small, 1, 48), text) for text in texts]
    slots = CompiledSlots(small, 5, 48)
    begun = [slots.begin(text)[0] for text in texts]
    together: dict[int, Any] = {}
    while len(together) < 5:
        together |= slots.decode({})
    for slot, expected in zip(begun, alone, strict=True):
        assert np.array_equal(together[slot], expected)
    after = slots.decode(dict.fromkeys(begun, 9))
    for slot, text in zip(begun, texts, strict=True):
        step = CompiledSlots(small, 1, 48)
        for token in text:  # one token a call
            if not step._slots[0].read:
                step.prefill([token])
            else:
                step.decode({0: token})
        assert np.array_equal(step.decode({0: 9})[0], after[slot])


def test_nothing_changes_with_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    small = compiled(lively(), 8)
    found = []
    for threads in (1, 2, 3, 7):
        slots = CompiledSlots(small, 1, 48)
        slots._state.threads = threads
        slots._arrays.room(1)
        slots._state.scores = slots._arrays.room(threads, 2, slots._state.capacity)
        found.append(read(slots, list(range(30))))
    assert all(np.array_equal(each, found[0]) for each in found)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 3), min_size=1, max_size=12)), min_size=1, max_size=8),
    st.integers(2, 4),
)  # fmt: skip
def test_what_is_remembered_changes_nothing(texts: list[tuple[str, list[int]]], count: int) -> None:
    """Texts of tenants, one after another: what was read before is used, and every logit is the same."""
    slots = CompiledSlots(SMALL, count, 48)
    for tenant, text in texts:
        slot, _ = slots.begin(text, tenant)
        logits: dict[int, Any] = {}
        while slot not in logits:
            logits = slots.decode({})
        assert np.array_equal(logits[slot], read(CompiledSlots(SMALL, 1, 48), text))
        slots.free(slot)


SMALL: CompiledModel


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    global SMALL
    try:
        SMALL = compiled(lively())
    except NotCompiledError as error:
        pytest.skip(str(error))
    yield


def tokens_read(slots: CompiledSlots, text: list[int], tenant: str | None) -> int:
    """How many tokens of a prompt are computed."""
    slot, _ = slots.begin(text, tenant)
    left = len(slots._slots[slot].left)
    while not slots.decode({}):
        pass
    slots.free(slot)
    return left


def test_a_prefix_is_remembered_for_its_tenant_alone() -> None:
    slots = CompiledSlots(SMALL, 3, 48)
    text = list(range(20))
    assert tokens_read(slots, text, "one") == 20
    assert tokens_read(slots, text, "one") == 1  # the last is read again, for its logits
    assert tokens_read(slots, [*text[:10], 99], "one") == 1
    assert tokens_read(slots, text, "two") == 20
    assert tokens_read(slots, text, None) == 20
    assert tokens_read(slots, text, None) == 20
    assert all(held.tenant is not None for held in slots._slots if held.read)  # nobody's is forgotten


def test_nobodys_prefix_is_not_even_copied_while_it_goes_on() -> None:
    slots = CompiledSlots(SMALL, 2, 48)
    slots.begin(list(range(20)))
    slots.decode({})
    second, _ = slots.begin(list(range(20)))
    assert len(slots._slots[second].left) == 20


def test_a_prefix_of_a_text_that_still_goes_on_is_copied() -> None:
    slots = CompiledSlots(SMALL, 2, 48)
    first, _ = slots.begin(list(range(20)), "one")
    slots.decode({})
    second, _ = slots.begin([*range(15), 77, 78], "one")
    assert len(slots._slots[second].left) == 2
    logits = slots.decode({first: 5})
    assert np.array_equal(logits[second], read(CompiledSlots(SMALL, 1, 48), [*range(15), 77, 78]))
    assert np.array_equal(logits[first], read(CompiledSlots(SMALL, 1, 48), [*range(20), 5]))


def test_a_fork_goes_its_own_way() -> None:
    slots = CompiledSlots(SMALL, 2, 48)
    slot, _ = slots.prefill([1, 2, 3])
    copy = slots.fork(slot)
    logits = slots.decode({slot: 4, copy: 5})
    assert np.array_equal(logits[slot], read(CompiledSlots(SMALL, 1, 48), [1, 2, 3, 4]))
    assert np.array_equal(logits[copy], read(CompiledSlots(SMALL, 1, 48), [1, 2, 3, 5]))


def test_a_full_slot_says_so() -> None:
    slots = CompiledSlots(SMALL, 1, 5)
    with pytest.raises(ShuyuanError, match=r"models\.cache-full"):
        slots.begin([1] * 6)
    slot, _ = slots.prefill([1] * 5)
    with pytest.raises(ShuyuanError, match=r"models\.cache-full"):
        slots.decode({slot: 1})


@pytest.mark.parametrize("token", [-1, 257, 2**40])
def test_no_row_outside_the_embedding_is_read(token: int) -> None:
    with pytest.raises(ShuyuanError, match=r"models\.no-such-token"):
        CompiledSlots(SMALL, 1, 5).prefill([1, token])


@pytest.mark.slow
def test_an_absurd_width_takes_no_stack() -> None:
    """What a call needs is set aside when slots are opened."""
    config = TransformerConfig(
        vocab_size=2, layers=1, width=2**21, heads=1, kv_heads=1, head_dim=2, hidden=1, context=4, end_id=0
    )  # fmt: skip
    zeros = [(name, None, {"": np.zeros(shape, np.float32)}) for name, shape in config.shapes.items()]
    assert (read(CompiledSlots(CompiledModel(config, zeros, half=True), 1, 4), [1]) == 0).all()


@pytest.mark.parametrize("bits", BITS)
def test_what_is_not_a_number_is_not_hidden(bits: int) -> None:
    model = lively()
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight[3] = torch.nan
    assert np.isnan(read(CompiledSlots(compiled(model, bits), 1, 48), [1, 2, 3])).all()


def test_pruned_weights_are_computed_as_they_are_stored() -> None:
    """Masks and few bits together: what is left out is zero."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((9, 130)).astype(np.float32)
    mask = random.random(weight.shape) < 0.5
    weight[~mask] = 0
    for bits in (8, 4):
        kind, stored = pack(weight, bits, mask)
        parts = dense("w", kind, stored, "x")
        assert (floats(kind, parts)[~mask] == 0).all()


# ---- where it comes from -----------------------------------------------------------------------------------------------


def test_products_that_are_wrong_are_refused() -> None:
    """A function that computes nonsense never gets to compute text."""

    class Wrong:
        def shuyuan_multiply(self, *_: Any) -> None:
            pass

    with pytest.raises(NotCompiledError, match="wrong on this processor"):
        selftest.check.__wrapped__(Wrong())


@pytest.mark.parametrize(
    "flags", [("-march=x86-64-v3", "-O1"), pytest.param(("-march=x86-64", "-O3"), marks=pytest.mark.slow)]
)
def test_without_wide_instructions_the_numbers_are_right_too(flags: tuple[str, ...], tmp_path: Path) -> None:
    """The paths that this processor does not take by itself; the first is compiled in less time."""
    if "avx2" not in hardware.detect().features:
        pytest.skip("the processor has no AVX2")
    made = tmp_path / "forward.so"
    plain = [flag for flag in build.FLAGS if not flag.startswith(("-march", "-O"))]
    subprocess.run(["gcc", *plain, *flags, "-o", made, build.SOURCE, "-lm"], check=True)
    other = ctypes.CDLL(str(made))
    selftest.check.__wrapped__(other)
    for bits in BITS:
        model = lively()
        small = compiled(model, bits)
        small.library = other
        with torch.no_grad():
            meant = model(torch.arange(40)[None])[0, -1].numpy()
        found = read(CompiledSlots(small, 1, 48), list(range(40)))
        assert float(np.sqrt(np.square(found - meant).mean()) / meant.std()) < WITHIN[bits]


@pytest.mark.slow
def test_a_file_that_others_could_have_written_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run in this process: it is compiled anew, and the folder closed to others."""
    monkeypatch.setattr(hardware, "cache_folder", lambda: tmp_path)
    build.library.__wrapped__()
    (made,) = (tmp_path / "compiled").glob("*.so")
    sound = made.read_bytes()
    made.write_bytes(b"planted")
    made.chmod(0o777)
    build.library.__wrapped__()
    assert made.read_bytes() == sound
    made.parent.chmod(0o777)
    made.write_bytes(b"planted")
    build.library.__wrapped__()
    assert made.read_bytes() == sound and made.parent.stat().st_mode & 0o777 == 0o700
    made.unlink()
    (tmp_path / "theirs").write_bytes(b"planted")
    made.symlink_to(tmp_path / "theirs")
    build.library.__wrapped__()
    assert not made.is_symlink()


def test_without_a_compiler_torch_writes_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise NotCompiledError("there is no C compiler (gcc or clang)")

    write_folder(tmp_path, lively())
    monkeypatch.setattr("shuyuan.models.networks.CompiledModel.load", none)
    progress = Progress()
    with OpenStore(tmp_path) as store:
        model = load_writer(store, "model", "fp32", progress)
    assert isinstance(model, Transformer)
    assert list(progress.said) == ["models.not-compiled"]


def test_text_is_written_without_torch(tmp_path: Path) -> None:
    """Starting takes a fraction of a second, and no more memory than the weights."""
    write_folder(tmp_path, lively())
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from shuyuan.data import byte_tokenizer\n"
        "from shuyuan.inference import Engine\n"
        "from shuyuan.models import load_writer\n"
        "from shuyuan.vault import OpenStore\n"
        f"with OpenStore(Path({str(tmp_path)!r})) as store:\n"
        "    model = load_writer(store, 'model', 'bf16')\n"
        "print(len(list(Engine(model, byte_tokenizer()).generate('Once', max_tokens=9))))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, capture_output=True)


@pytest.mark.parametrize("half", [False, True])
def test_what_slots_take_is_known_before_they_are_opened(tmp_path: Path, half: bool) -> None:
    model = lively(replace(TINY, context=512))
    write_folder(tmp_path, model)
    with OpenStore(tmp_path) as store:
        told = cache_bytes(store, "model", 16, "bf16" if half else "fp32")
    named = [(name, None, {"": weight.detach().numpy()}) for name, weight in model.named_parameters()]
    slots = CompiledSlots(CompiledModel(model.config, named, half=half), 16, 512)
    assert 0.8 * slots.bytes < told <= slots.bytes
