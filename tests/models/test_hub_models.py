"""Models of other architectures: loaded, given another head, written, and continued, as transformers itself does it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shuyuan.data import byte_tokenizer
from shuyuan.errors import ShuyuanError
from shuyuan.inference import Engine
from shuyuan.models import Classifier, HubConfig, Transformer, config_for, hub, open_slots
from shuyuan.models.hub_model import HubModel
from shuyuan.recipe import Model
from shuyuan.vault import OpenStore

from .hub_folders import CAUSAL, made, written
from .test_hub import rewrite
from .tiny import tokens

transformers = pytest.importorskip("transformers")
LABELS = ("bad", "good", "so-so")


def saved(path: Path, model: Any) -> Path:
    with OpenStore(path) as store, store.folder("model") as folder:
        hub.save(folder, model, byte_tokenizer().to_json(), "# A card\n")
    return path / "model"


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_causal_model_is_loaded_and_written(tmp_path: Path, kind: str) -> None:
    theirs = written(kind, tmp_path / "theirs")
    ours = hub.load_folder(tmp_path / "theirs", ())
    assert isinstance(ours, Transformer if kind == "qwen3" else HubModel)
    ids = tokens(2, 20, vocab_size=260)
    folder = saved(tmp_path, ours)
    again = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours.eval()(ids), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(again(ids).logits, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(hub.load_folder(folder).eval()(ids), expected, rtol=0, atol=1e-4)
    assert ours.new == frozenset()
    config = config_for(Model.model_validate({"from": str(tmp_path / "theirs"), "context": 64}), 260)
    assert config.parameters == theirs.num_parameters()


@pytest.mark.parametrize("kind", [*CAUSAL, "bert"])
def test_a_head_for_labels_is_drawn_from_the_seed(tmp_path: Path, kind: str) -> None:
    theirs = written(kind, tmp_path / "theirs")
    first, same, other = (hub.load_folder(tmp_path / "theirs", LABELS, seed) for seed in (3, 3, 4))
    assert first.config.labels == LABELS
    weights, others = dict(first.named_parameters()), dict(other.named_parameters())
    for name, weight in same.named_parameters():
        assert torch.equal(weight, weights[name])
    drawn = {name for name in weights if not torch.equal(weights[name], others[name])}
    assert drawn and drawn <= (first.new or set()), "only what is new follows from the seed"
    stored = theirs.state_dict()
    for name in weights.keys() - (first.new or set()):
        own = name.removeprefix("body.").removeprefix("bert.")
        torch.testing.assert_close(weights[name], stored[own])


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3", "bert"])
def test_a_classifier_gives_what_transformers_gives(tmp_path: Path, kind: str) -> None:
    """Also for rows that are filled up; the labels have their names there too."""
    written(kind, tmp_path / "theirs")
    ours = hub.load_folder(tmp_path / "theirs", LABELS, 3).eval()
    if isinstance(ours, Classifier):
        assert ours.config.end_id == 256
    folder = saved(tmp_path, ours)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert theirs.config.id2label == dict(enumerate(LABELS))
    ids = tokens(3, 12, vocab_size=255)
    ids[:, -1] = 255
    filled = torch.nn.functional.pad(ids, (0, 4), value=-1)
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(ours(filled), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(hub.load_folder(folder).eval()(filled), expected, rtol=0, atol=1e-4)
    losses = ours.losses(filled, torch.tensor([[0], [2], [-100]]))
    assert losses.shape == (3, 1) and losses[2] == 0 and (losses[:2] > 0).all()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "bert"])
def test_any_number_of_labels_is_what_transformers_makes_of_the_folder(tmp_path: Path, kind: str) -> None:
    """It reads the problem from config.json; its loss is a mean over labels, ours the sum."""
    written(kind, tmp_path / "theirs")
    ours = hub.load_folder(tmp_path / "theirs", LABELS, 3).eval()
    ours.config = replace(ours.config, multi_label=True)
    folder = saved(tmp_path, ours)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids, has = tokens(3, 12, vocab_size=255), torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]])
    with torch.no_grad():
        expected = theirs(ids, labels=has.float()).loss * ids.shape[0] * len(LABELS)
        again = hub.load_folder(folder).eval()
        assert again.config.multi_label
        torch.testing.assert_close(again.loss(ids, has[:, None]), expected, rtol=1e-4, atol=1e-4)


def test_places_are_those_that_transformers_tells(tmp_path: Path) -> None:
    """Also in rows that are filled up, where no place is one of the filling; and as it is written and read again."""
    written("bert", tmp_path / "theirs")
    ours = hub.load_folder(tmp_path / "theirs", (), 3, spans=True).eval()
    assert ours.config.output == "spans" and ours.config.head == (64, 2)
    assert ours.new == {"body.qa_outputs.weight", "body.qa_outputs.bias"}
    folder = saved(tmp_path, ours)
    assert not (folder / "generation_config.json").exists()
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    ids, sides = tokens(3, 12, vocab_size=255), torch.arange(12).ge(5).long().expand(3, -1)
    filled = torch.stack(
        [torch.nn.functional.pad(ids, (0, 4), value=-1), torch.nn.functional.pad(sides, (0, 4))], 1
    )
    with torch.no_grad():
        said = theirs(ids, token_type_ids=sides)
        expected = torch.stack([said.start_logits, said.end_logits], 1)
        for model in (ours, hub.load_folder(folder).eval()):
            found = model(filled)
            torch.testing.assert_close(found[..., :12], expected, rtol=0, atol=1e-4)
            assert (found[..., 12:] == -torch.inf).all()
    targets = torch.tensor([[0, 0], [7, 9], [-100, -100]])
    losses = ours.losses(filled, targets)
    usual = theirs(
        ids[1:2], token_type_ids=sides[1:2], start_positions=targets[1:2, 0], end_positions=targets[1:2, 1]
    )
    assert losses.shape == (3, 2) and (losses[2] == 0).all()
    assert losses[1].mean().item() == pytest.approx(usual.loss.item(), abs=1e-4)
    losses.sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in ours.parameters())


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_text_is_continued_as_transformers_continues_it(tmp_path: Path, kind: str) -> None:
    theirs = written(kind, tmp_path / "theirs")
    ours = hub.load_folder(tmp_path / "theirs")
    prompt = tokens(1, 9, vocab_size=256)
    expected = theirs.generate(
        prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=256
    )[0, 9:]
    slots = open_slots(ours, 2, 64)
    slot, logits = slots.prefill(prompt[0].tolist())
    other, _ = slots.prefill([1, 2, 3])
    said = []
    for _ in range(12):
        said.append(int(logits.argmax()))
        logits = slots.decode({slot: said[-1], other: 5})[slot]
    assert said == expected.tolist()
    slots.free(other)
    copy = slots.fork(slot)
    found = slots.decode({slot: 7, copy: 9})
    again = slots.decode({slot: 1, copy: 1})
    assert not torch.equal(found[slot], found[copy])
    alone = open_slots(ours, 1, 64).prefill([*prompt[0].tolist(), *said, 9, 1])[1]
    torch.testing.assert_close(again[copy], alone, rtol=1e-4, atol=1e-4)
    slots.free(copy)
    assert slots.idle == 1
    texts = Engine(ours, byte_tokenizer()).generate_all(["ab", "c"], max_tokens=9, seed=1)
    alone = [
        "".join(Engine(ours, byte_tokenizer()).generate(text, max_tokens=9, seed=1 + number))
        for number, text in enumerate(["ab", "c"])
    ]
    assert texts == alone


# ---- what cannot be had is named -----------------------------------------------------------------------------------


def test_an_encoder_continues_no_text_and_a_classifier_has_no_tokens(tmp_path: Path) -> None:
    written("bert", tmp_path / "bert")
    with pytest.raises(ShuyuanError, match=r"bert does not continue text.*models\.other-head"):
        hub.load_folder(tmp_path / "bert", ())
    written("qwen3", tmp_path / "qwen3")
    folder = saved(tmp_path, hub.load_folder(tmp_path / "qwen3", LABELS))
    with pytest.raises(ShuyuanError, match=r"models\.no-token-head"):
        hub.load_folder(folder, ())
    with pytest.raises(ShuyuanError, match=r"models\.no-token-head"):
        open_slots(hub.load_folder(folder), 1, 8)


def test_other_labels_get_another_head(tmp_path: Path) -> None:
    written("qwen3", tmp_path / "qwen3")
    folder = saved(tmp_path, hub.load_folder(tmp_path / "qwen3", LABELS))
    assert hub.load_folder(folder, LABELS).new == frozenset()
    other = hub.load_folder(folder, ("yes", "no"))
    assert other.new == {"score.weight"} and other.config.labels == ("yes", "no")


@pytest.mark.parametrize("change", ["remove", "turn"])
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: str) -> None:
    written("gpt2", tmp_path)
    name = "transformer.h.1.mlp.c_fc.weight"

    def spoil(tensors: dict[str, Any]) -> None:
        tensor = tensors.pop(name)
        if change == "turn":
            tensors[name] = tensor.T.contiguous()

    rewrite(tmp_path, spoil)
    for labels in ((), LABELS):
        with pytest.raises(ShuyuanError, match=r"h\.1\.mlp\.c_fc\.weight.*models\.other-tensors"):
            hub.load_folder(tmp_path, labels)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model_type": "no-such-thing"}, "models.other-architecture"),
        ({"model_type": None}, "models.no-architecture"),
        ({"model_type": 7}, "models.no-architecture"),
        ({"n_embd": None}, "models.bad-config"),
        ({"n_layer": 10**9}, "models.bad-config"),
        ({"n_head": "four"}, "models.bad-config"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    written("gpt2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ShuyuanError, match=code):
        hub.load_folder(tmp_path, ())


def test_code_that_a_folder_brings_is_never_run(tmp_path: Path) -> None:
    written("gpt2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    mark = tmp_path / "owned"
    (tmp_path / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    auto = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": auto}))
    assert isinstance(hub.load_folder(tmp_path, ()), HubModel)
    assert not mark.exists()
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": auto, "model_type": "own"}))
    with pytest.raises(ShuyuanError, match=r"models\.other-architecture"):
        hub.load_folder(tmp_path, ())
    assert not mark.exists()


def test_a_longer_context_than_the_model_has_is_refused(tmp_path: Path) -> None:
    written("gpt2", tmp_path)
    with pytest.raises(ShuyuanError, match=r"sees 64 tokens.*models\.too-long"):
        config_for(Model.model_validate({"from": str(tmp_path), "context": 128}), 260)


def test_files_that_go_with_the_weights_stay_with_them(tmp_path: Path) -> None:
    written("gpt2", tmp_path / "theirs")
    (tmp_path / "theirs/tokenizer_config.json").write_text('{"unk_token": "?"}')
    (tmp_path / "theirs/chat_template.jinja").write_text("{{ messages }}")
    folder = saved(tmp_path, hub.load_folder(tmp_path / "theirs", ()))
    assert json.loads((folder / "tokenizer_config.json").read_text()) == {"unk_token": "?"}
    assert (folder / "chat_template.jinja").read_text() == "{{ messages }}"


def test_scratch_has_the_same_parameters(tmp_path: Path) -> None:
    for kind in ("bert", "llama"):
        written(kind, tmp_path / kind)
        config = config_for(
            Model.model_validate({"from": str(tmp_path / kind), "context": 32}), 260, labels=LABELS
        )
        assert isinstance(config, HubConfig)
        drawn, loaded = hub.scratch(config), hub.load_folder(tmp_path / kind, LABELS)
        assert {name: w.shape for name, w in drawn.named_parameters()} == {
            name: w.shape for name, w in loaded.named_parameters()
        }


def test_transformers_says_nothing_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made("bert").save_pretrained(tmp_path)
    capfd.readouterr()
    hub.load_folder(tmp_path, LABELS)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_what_is_left_out_at_random_is_what_the_recipe_says(tmp_path: Path, kind: str) -> None:
    """And without a word what the folder says, here nothing."""
    written(kind, tmp_path)
    ids, labels = tokens(2, 20, vocab_size=260), ("bad", "good")

    def differs(dropout: float | None) -> bool:
        model = hub.load_folder(tmp_path, labels, 0, dropout=dropout)
        assert model.training
        torch.manual_seed(1)
        with torch.no_grad():
            return not torch.equal(model(ids), model(ids))

    assert not differs(None)
    assert not differs(0.0)
    assert differs(0.3)
    table = {"from": str(tmp_path), "context": 32}
    assert config_for(Model.model_validate(table | {"dropout": 0.3}), 260).drops_attention  # type: ignore[union-attr]
    assert not config_for(Model.model_validate(table), 260).drops_attention  # type: ignore[union-attr]


def test_our_layout_leaves_nothing_out(tmp_path: Path) -> None:
    written("qwen3", tmp_path)
    with pytest.raises(ShuyuanError, match=r"models\.no-dropout"):
        config_for(Model.model_validate({"from": str(tmp_path), "context": 32, "dropout": 0.1}), 260)
