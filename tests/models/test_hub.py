"""Hugging Face folders: what we write transformers reads, what it writes we read, and what is wrong is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from shuyuan.data import byte_tokenizer, char_tokenizer, learn_bpe
from shuyuan.errors import ShuyuanError
from shuyuan.models import Transformer, TransformerConfig, hub, stored_config
from shuyuan.runs import Run
from shuyuan.vault import OpenStore, open_store, write_key_file

from .tiny import TIED, TINY, lively, tokens, write_folder

FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "README.md",
}
TEXTS = [
    "",
    " ",
    "Hello, world",
    "don't  stop\n\n\t12345",
    "书院：藏书、读书。",
    "🙂🏳️‍🌈é e\u0301",
    "<|end|>\x00\x7f",
]


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, kept off the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    library = pytest.importorskip("transformers", minversion="5", reason="transformers 5 is not installed")
    library.utils.logging.disable_progress_bar()
    return library


def rewrite(folder: Path, change: Any) -> None:
    """Applies a change to the weights of a folder."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})


# ---- with ourselves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, TIED, replace(TINY, end_id=None)])
def test_what_is_saved_is_loaded(tmp_path: Path, config: TransformerConfig) -> None:
    model = lively(config)
    folder = write_folder(tmp_path, model)
    assert {file.name for file in folder.iterdir()} == FILES
    assert (folder / "README.md").read_text() == "# A card\n"
    loaded = hub.load_folder(folder)
    assert loaded.config == config
    assert torch.equal(loaded(tokens(2, 20)), model(tokens(2, 20)))
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == config.tied


def test_a_sealed_run_gives_its_model_back(tmp_path: Path) -> None:
    model, key = lively(TIED), f"file:{write_key_file(tmp_path / 'key')}"
    with open_store(Run(tmp_path / "run"), key, create=True, writable=True) as store:
        with store.folder("model") as folder:
            hub.save(folder, model, byte_tokenizer().to_json(), "")
        assert torch.equal(hub.load(store)(tokens(1, 9)), model(tokens(1, 9)))


def test_a_loaded_model_can_learn(tmp_path: Path) -> None:
    """Fine-tuning starts here: every weight gets a gradient, and a tied head is trained once."""
    model = hub.load_folder(write_folder(tmp_path, lively(TIED)))
    model.loss(tokens(1, 8), tokens(1, 8, seed=1)).backward()
    assert all(weight.requires_grad and weight.grad is not None for weight in model.parameters())
    assert dict(model.named_parameters()).keys() == TIED.shapes.keys()


def test_saving_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    model = lively(replace(TINY, vocab_size=200, end_id=199))
    with pytest.raises(ShuyuanError, match=r"tokens up to 256; the model has 200.*other-tokenizer"):
        write_folder(tmp_path, model)
    assert not (tmp_path / "model").exists()


# ---- with transformers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, TIED])
def test_transformers_opens_what_we_write(
    transformers: Any, tmp_path: Path, config: TransformerConfig
) -> None:
    model = lively(config)
    folder = write_folder(tmp_path, model)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(theirs).__name__ == "Qwen3ForCausalLM" and theirs.dtype == torch.float32
    ids = tokens(2, config.context)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), rtol=0, atol=1e-4)

    tokenizer, ours = transformers.AutoTokenizer.from_pretrained(folder), byte_tokenizer()
    assert tokenizer.eos_token_id == ours.end_id == theirs.generation_config.eos_token_id
    for text in TEXTS:
        expected = [token for part in text.split("<|end|>") for token in [*ours.encode(part), ours.end_id]][
            :-1
        ]
        assert tokenizer.encode(text) == expected  # there, a special token's text is that token
        if "<|end|>" not in text:
            assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_transformers_splits_text_as_we_do(transformers: Any, tmp_path: Path, kind: str) -> None:
    """transformers has its own idea of how Qwen3 splits text; ours must win."""
    training = ["the cat, the hat 123456 don't\n\n", "书院藏书，书院读书。", *TEXTS[:6]] * 20
    ours = char_tokenizer("".join(training)) if kind == "char" else learn_bpe(training, 320)
    model = lively(replace(TINY, vocab_size=ours.vocab_size, end_id=ours.end_id))
    with OpenStore(tmp_path) as store, store.folder("model") as folder:
        hub.save(folder, model, ours.to_json(), "")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in training:
        assert theirs.encode(text) == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text


def test_transformers_continues_greedily_as_we_do(transformers: Any, tmp_path: Path) -> None:
    model = lively()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(write_folder(tmp_path, model))
    ids = start = tokens(1, 5)
    for _ in range(12):
        ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), 1)
    generated = theirs.generate(start, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert generated.tolist() == ids.tolist()


def _made_by_transformers(transformers: Any, folder: Path, **changes: Any) -> Any:
    settings = {
        "vocab_size": 101,
        "hidden_size": 40,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        "rms_norm_eps": 1e-4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 777.0},
    }
    torch.manual_seed(3)
    theirs = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**(settings | changes)))
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.ndim == 1:  # new norms are all ones, and would hide a norm that is left out
                weight.uniform_(0.5, 1.5)
    theirs.save_pretrained(folder, max_shard_size=changes.get("shard", "5GB"))
    return theirs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True, "eos_token_id": 100},
        {"num_key_value_heads": 4, "head_dim": 10, "eos_token_id": [3, 4]},
        {"num_key_value_heads": 1, "head_dim": 128},
        {"sliding_window": 8, "use_sliding_window": False},
        {"dtype": "bfloat16"},
        {"shard": "20KB"},
    ],
)
def test_we_open_what_transformers_writes(transformers: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs = _made_by_transformers(transformers, tmp_path, **changes)
    assert (tmp_path / "model.safetensors").exists() == ("shard" not in changes)
    ours = hub.load_folder(tmp_path)
    ids = tokens(2, 50, vocab_size=101)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs.float()(ids).logits, rtol=0, atol=1e-4)
    assert {weight.dtype for weight in ours.parameters()} == {torch.float32}
    assert ours.config.parameters == theirs.num_parameters()


# ---- what is wrong is named ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "weights.ckpt", "model.pkl"])
def test_a_pickle_is_refused_by_name_and_never_opened(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path, lively())
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(ShuyuanError, match=rf"{name}.*models\.pickle"):
        hub.load_folder(folder)
    assert not (tmp_path / "owned").exists()


def test_missing_extra_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    def remove(tensors: dict[str, Any]) -> None:
        del tensors["model.layers.1.self_attn.q_norm.weight"]

    def add(tensors: dict[str, Any]) -> None:
        tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(64)

    def turn(tensors: dict[str, Any]) -> None:
        tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(40, 56)

    for number, (change, message) in enumerate(
        [
            (remove, r"model\.layers\.1\.self_attn\.q_norm\.weight is missing"),
            (add, r"q_proj\.bias is not part of the model"),
            (turn, r"model\.layers\.2\.mlp\.up_proj\.weight has the shape 40 x 56 instead of 56 x 40"),
        ]
    ):
        folder = write_folder(tmp_path / str(number), lively())
        rewrite(folder, change)
        with pytest.raises(ShuyuanError, match=message):
            hub.load_folder(folder)


def test_a_tied_head_may_stand_in_the_file_if_it_is_the_embedding(tmp_path: Path) -> None:
    model = lively(TIED)
    folder = write_folder(tmp_path, model)
    embedding = model.model.embed_tokens.weight.detach().clone()
    rewrite(folder, lambda tensors: tensors.update({"lm_head.weight": embedding}))
    assert torch.equal(hub.load_folder(folder)(tokens(1, 5)), model(tokens(1, 5)))
    rewrite(folder, lambda tensors: tensors.update({"lm_head.weight": embedding + 1}))
    with pytest.raises(ShuyuanError, match=r"lm_head\.weight is the embedding.*models\.not-tied"):
        hub.load_folder(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    folder = write_folder(tmp_path, lively())
    (folder / file).unlink()
    with pytest.raises(ShuyuanError, match=f"has no {file}"):
        hub.load_folder(folder)


def test_weights_that_are_cut_short_are_told_by_the_shape_already(tmp_path: Path) -> None:
    """As a fetch leaves them that broke off: a plan knows, before anything is prepared."""
    folder = write_folder(tmp_path, lively())
    assert stored_config(str(folder)) == lively().config
    (folder / "consolidated.safetensors").write_bytes(b"not ours")
    stored_config(str(folder))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ShuyuanError, match=r"model\.safetensors: .*models\.damaged-weights"):
        stored_config(str(folder))


def test_no_folder_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShuyuanError, match="no such model folder"):
        hub.load_folder(tmp_path / "nothing")
    with pytest.raises(ShuyuanError, match=r"has no config\.json"):
        hub.load_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (2**24 + 1)])
def test_a_config_that_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_folder(tmp_path, lively())
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ShuyuanError, match=r"config\.json: .*models\.bad-json"):
        hub.load_folder(folder)


def test_shards_that_lie_are_refused(tmp_path: Path) -> None:
    """An index may name only files of the folder, and each tensor stands in one of them."""
    folder = write_folder(tmp_path, lively())
    weights = folder / "model.safetensors"
    shutil.copy(weights, tmp_path / "outside.safetensors")
    weights.rename(folder / "a.safetensors")
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    index = folder / "model.safetensors.index.json"
    for weight_map, message in (
        ({"x": "../outside.safetensors"}, r"has no \.\./outside\.safetensors"),
        ({"x": "config.json"}, r"has no config\.json"),
        ({"x": "a.safetensors", "y": "b.safetensors"}, r"b\.safetensors: .*stands in another file too"),
        ({"x": ["a.safetensors"]}, "has no"),
        ({}, r"has no model\.safetensors"),
        (None, r"has no model\.safetensors"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ShuyuanError, match=message):
            hub.load_folder(folder)
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors"}}))
    assert isinstance(hub.load_folder(folder), Transformer)


def test_a_config_that_promises_more_than_the_weights_allocates_nothing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, lively())
    config = json.loads((folder / "config.json").read_text())
    huge = {"hidden_size": 2**24, "intermediate_size": 2**24, "vocab_size": 2**24, "num_hidden_layers": 1024}
    (folder / "config.json").write_text(json.dumps(config | huge | {"layer_types": None}))
    with pytest.raises(ShuyuanError, match="do not fit the configuration"):
        hub.load_folder(folder)
