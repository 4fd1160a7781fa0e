"""Copies of a model that other programs open: what they compute from them is what we compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as HubTokenizer
from tokenizers import models as hub_models
from tokenizers import pre_tokenizers

from shuyuan import pipeline
from shuyuan.data import Tokenizer, byte_tokenizer, char_tokenizer, learn_bpe
from shuyuan.errors import MachineError, ShuyuanError
from shuyuan.models import Transformer, TransformerConfig, hub
from shuyuan.privacy.ledger import LEDGER_FILE
from shuyuan.runs import variant_folder
from tests.runs import shuyuan as command
from tests.runs import text_of
from tests.support.families import FAMILIES

gguf_file = pytest.importorskip("shuyuan.models.gguf_file")
SPOKEN = ["What  light?\n\nHi there", "it's 书院 é 123 😀", " two\t tabs'll ... don't"]
TOKENIZERS = {
    "byte": byte_tokenizer,
    "char": lambda: char_tokenizer(text_of(50) + "".join(SPOKEN[:2])),
    "bpe": lambda: learn_bpe([text_of(200), *SPOKEN * 9], 400),
}
FURTHEST = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2, "q8_0": 2e-2}  # of a weight's own row


def made(tokenizer: Tokenizer, tied: bool = True) -> Transformer:
    """A model whose blocks do something."""
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, end_id=tokenizer.end_id, layers=2, width=64, heads=4, kv_heads=2,
        head_dim=16, hidden=96, context=64, tied=tied,
    )  # fmt: skip
    model = Transformer(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 1.5 * weight.shape[1] ** -0.5)
    return model.eval()


def network(run: Path, variant: str) -> Any:
    """The variant as a module of PyTorch, in float32."""
    with pipeline.look(run) as job:
        return hub.load(job.store, variant_folder(variant)).eval()


# ---- GGUF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", FURTHEST)
def test_a_gguf_file_holds_every_weight_under_the_names_of_llama_cpp(weights: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    tokenizer = byte_tokenizer()
    model = made(tokenizer, tied=False)
    gguf_file.write_gguf(tmp_path / "m.gguf", model, tokenizer, "m", weights)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    tensors = {each.name: gguf.quants.dequantize(each.data, each.tensor_type) for each in reader.tensors}
    _, ours = model.to_hub()
    assert len(tensors) == len(ours)
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output.weight": "lm_head.weight",
        "blk.1.attn_q.weight": "model.layers.1.self_attn.q_proj.weight",
        "blk.1.attn_k_norm.weight": "model.layers.1.self_attn.k_norm.weight",
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
    }
    for theirs, name in pairs.items():
        weight = ours[name].detach().numpy()
        error = np.abs(tensors[theirs].reshape(weight.shape) - weight).max()
        assert error <= FURTHEST[weights] * np.abs(weight).max(), name
    assert reader.fields["qwen3.attention.head_count_kv"].contents() == 2


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_llama_cpp_computes_the_same_from_it(kind: str, tmp_path: Path) -> None:
    """Its tokens of texts are ours, and so are its logits after each; with q8_0 it rounds what it computes too."""
    llama_cpp = pytest.importorskip("llama_cpp")
    tokenizer = TOKENIZERS[kind]()
    model = made(tokenizer, tied=kind != "bpe")
    for weights, most in (("f32", 1e-4), ("q8_0", 0.6)):
        gguf_file.write_gguf(tmp_path / f"{weights}.gguf", model, tokenizer, "m", weights)
        theirs = llama_cpp.Llama(
            str(tmp_path / f"{weights}.gguf"), n_ctx=64, logits_all=True, n_threads=1, verbose=False,
            type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
        )  # fmt: skip
        for text in SPOKEN:
            ids = [tokenizer.end_id, *tokenizer.encode(text)]
            assert theirs.tokenize(text.encode(), add_bos=True, special=False) == ids
            assert theirs.detokenize(ids[1:]).decode() == text
            theirs.reset()
            theirs.eval(ids)
            with torch.no_grad():
                logits_TV = model(torch.tensor([ids]))[0].numpy()
            assert np.abs(theirs.scores[: len(ids)] - logits_TV).max() < most


def test_what_gguf_cannot_hold_is_refused_with_the_reason(tmp_path: Path) -> None:
    words = HubTokenizer(hub_models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    digits = HubTokenizer(hub_models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    digits.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(use_regex=False)]
    )
    cases = [
        (Tokenizer(words), "splits text"),
        (Tokenizer(digits), "splits text"),
        (char_tokenizer("a \u2581"), "takes for a space"),
    ]
    for tokenizer, why in cases:
        with pytest.raises(ShuyuanError, match=why) as error:
            gguf_file.write_gguf(tmp_path / "m.gguf", made(tokenizer), tokenizer, "m", "f16")
        assert error.value.code == "models.no-gguf"


@pytest.mark.parametrize("family", ["hub", "cnn", "ngrams"])
def test_other_models_are_not_written_as_gguf(family: str, tmp_path: Path) -> None:
    kind = FAMILIES[family]
    kind.run(tmp_path, "classification" if kind.labels else "generation")
    refused = command("export", tmp_path / "run", "--to", tmp_path / "out", "--as", "gguf", "--json")
    assert (refused.status, refused.json["error"]["code"]) == (1, "models.no-gguf")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


# ---- ONNX ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["cnn", "ngrams", "transformer", "hub"])
def test_onnxruntime_computes_the_same(family: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    FAMILIES[family].run(tmp_path, "classification", compress={"quantize": "int4"})
    for variant in ("original", "int4"):
        out = tmp_path / variant
        asked = ("export", tmp_path / "run", "--to", out, "--as", "onnx", "--variant", variant, "--json")
        assert command(*asked).json["as"] == "onnx"
        model = network(tmp_path / "run", variant)
        session = runtime.InferenceSession(out / "model.onnx")
        given = session.get_inputs()[0].name
        random = np.random.default_rng(1)
        for count, length in ((1, 1), (3, 9), (2, 32)):
            if family == "cnn":
                shape = (count, model.config.channels, model.config.height, model.config.width)
                inputs = random.integers(0, 256, shape, np.uint8)
            else:
                inputs = random.integers(1, 250, (count, length))
                inputs[0, length // 2 + 1 :] = -1
            with torch.no_grad():
                expected = model.cpu().eval()(torch.from_numpy(inputs)).numpy()
            (found,) = session.run(["logits"], {given: inputs})
            np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
        assert json.loads((out / "labels.json").read_text()) == list(model.config.labels)
        assert (out / "tokenizer.json").exists() == (family != "cnn")


def test_a_model_that_writes_is_not_written_as_onnx(tmp_path: Path) -> None:
    FAMILIES["transformer"].run(tmp_path, "generation")
    refused = command("export", tmp_path / "run", "--to", tmp_path / "out", "--as", "onnx")
    assert refused.status == 1 and "tells no labels" in refused.stderr


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    FAMILIES["transformer"].run(tmp_path, "classification")
    for library in ("gguf", "onnxscript"):
        monkeypatch.setitem(sys.modules, library, None)
    for kind in ("gguf", "onnx"):
        with (
            pipeline.look(tmp_path / "run") as job,
            pytest.raises(MachineError, match="needs a library") as error,
        ):
            pipeline.export(job, tmp_path / "out", kind)
        assert "shuyuan[export]" in error.value.mend


# ---- variants, and what is sealed ------------------------------------------------------------------------------------


def test_a_variant_opens_elsewhere_with_its_own_numbers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "context": 32}
    asked = {"quantize": "int4", "prune": 0.5, "shrink": 0.5}
    FAMILIES["transformer"].run(tmp_path, "generation", model=model, compress=asked)
    tokens = torch.tensor([[3, 1, 2, 9]])
    for variant in ("original", "int4", "pruned-50-int4", "shrunk-50"):
        out = tmp_path / "out" / variant
        done = command("export", tmp_path / "run", "--to", out, "--variant", variant, "--json")
        assert done.json["variant"] == variant
        ours = network(tmp_path / "run", variant)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
        with torch.no_grad():
            torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=1e-4, atol=1e-4)
        assert (out / "generation_config.json").exists() and (out / "tokenizer.json").exists()
        assert not list(out.glob(".*")) and not list(out.glob("packed*"))
        assert ("as float32" in (out / "README.md").read_text()) == (variant != "original")
    refused = command("export", tmp_path / "run", "--to", tmp_path / "no", "--variant", "int3")
    assert refused.status == 1 and "run.no-variant" in refused.stderr


@pytest.mark.parametrize("kind", ["huggingface", "gguf"])
def test_a_sealed_run_is_exported_when_that_is_said_and_log_and_ledger_say_so(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "correct horse battery staple")
    FAMILIES["transformer"].run(
        tmp_path,
        "generation",
        vault={"key": "env:SHUYUAN_TEST_KEY"},
        privacy={"epsilon": 8.0, "unit": "record"},
    )
    run, out = tmp_path / "run", tmp_path / "out"
    before = command("verify", run, "--json").json["epsilon_recomputed"]
    asked = ("export", run, "--to", out, "--as", kind, "--json")
    assert command(*asked).json["error"]["code"] == "run.sealed-export"
    assert not out.exists()
    with pipeline.look(run) as job:
        assert exports(job) == ([], [])
    assert command(*asked, "--open").status == 0 and out.exists()
    with pipeline.look(run) as job:
        assert exports(job) == ([f"{kind} of original"], [f"{kind} of original"])
    verified = command("verify", run, "--json").json
    assert verified["ok"] and verified["epsilon_recomputed"] == before


def exports(job: pipeline.Job) -> tuple[list[str], list[str]]:
    """What log and ledger say of exports."""
    log, ledger = (
        [entry["what"] for entry in job.store.journal(file).entries() if entry["event"] == "export"]
        for file in ("metrics.jsonl", LEDGER_FILE)
    )
    return log, ledger
