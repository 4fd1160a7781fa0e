"""Variants of a trained run: what they hold, how near they are, and that nothing broken is loaded."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shuyuan
from shuyuan import pipeline
from shuyuan.errors import RunError, ShuyuanError
from shuyuan.models import hub
from shuyuan.models.packed_file import TABLE
from shuyuan.runs import variant_folder
from tests.runs import shuyuan as command
from tests.support.families import FAMILIES

ALL = {"quantize": ["int8", "int4"], "prune": 0.5}
NAMES = ["original", "int4", "int8", "pruned-50", "pruned-50-int4", "pruned-50-int8"]
KEY = "env:SHUYUAN_TEST_KEY"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer with all of its variants; tests only read it."""
    folder = tmp_path_factory.mktemp("compressed")
    model = {"layers": 2, "width": 64, "heads": 2, "context": 32}
    FAMILIES["transformer"].run(folder, "generation", model=model, compress=ALL)
    return folder / "run"


@pytest.fixture(scope="module")
def by_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with variants that look at weights alone."""
    folder = tmp_path_factory.mktemp("by-size")
    model = {"layers": 2, "width": 64, "heads": 2, "context": 32}
    asked = {"quantize": "int4", "prune": 0.5, "rounding": "nearest", "pruning": "magnitude"}
    FAMILIES["transformer"].run(folder, "generation", model=model, compress=asked)
    return folder / "run"


def weights(run: Path, variant: str = "original") -> dict[str, Any]:
    with pipeline.look(run) as job:
        _, parameters = hub.load(job.store, variant_folder(variant)).to_hub()
    return {name: weight.detach().numpy() for name, weight in parameters.items()}


def test_every_variant_is_smaller_and_scored(run: Path) -> None:
    summary = command("info", run, "--json").json
    sizes = {name: facts["bytes"] for name, facts in summary["variants"].items()}
    assert list(sizes) == NAMES
    assert sizes["pruned-50-int4"] < sizes["int4"] < sizes["int8"] < sizes["pruned-50"] < sizes["original"]
    losses = {name: facts["loss"] for name, facts in summary["variants"].items()}
    scores = summary["scores"]["generation"]
    assert list(scores) == NAMES
    assert losses == {name: scores[name]["validation.loss"] for name in NAMES}
    assert abs(losses["int8"] - losses["original"]) < abs(losses["pruned-50"] - losses["original"]) + 1e-3
    assert all("validation.bigram_loss" not in scores[name] for name in NAMES[1:])


def test_weights_are_as_far_as_their_bits_say(run: Path, by_size: Path) -> None:
    original = weights(run)
    for folder, variant, furthest in ((run, "int8", 1 / 127), (by_size, "int4-nearest", 2.02 / 15)):
        for name, weight in weights(folder, variant).items():
            error = np.abs(weight - original[name]).max()
            if weight.ndim == 1:
                assert error == 0, name
            else:
                assert 0 <= error <= 0.5 * furthest * 2 * np.abs(original[name]).max(), name
    rounded = weights(run, "int4")
    embedding = "model.embed_tokens.weight"
    assert len(np.unique(rounded[embedding][0])) > 16, "the embedding has 8 bits"


def test_half_of_each_inner_matrix_is_left_out_and_nothing_else(by_size: Path) -> None:
    original, pruned = weights(by_size), weights(by_size, "pruned-50-magnitude")
    for name, weight in pruned.items():
        inner = weight.ndim > 1 and ".layers." in name
        gone = (weight == 0) & (original[name] != 0)
        zeros = np.count_nonzero(weight == 0)
        assert zeros == weight.size // 2 if inner else not gone.any(), name
        assert (weight[weight != 0] == original[name][weight != 0]).all()


def test_methods_that_look_at_records_change_what_is_left_and_say_so(run: Path, by_size: Path) -> None:
    by_records, alone = weights(run, "pruned-50-int4"), weights(by_size, "pruned-50-magnitude-int4-nearest")
    for name, weight in by_records.items():
        inner = weight.ndim > 1 and ".layers." in name
        if inner:
            assert np.count_nonzero(weight == 0) / weight.size == pytest.approx(0.5, abs=0.06), name
        assert (weight != alone[name]).any() == inner, name
    for folder, variant, said in (
        (run, "pruned-50-int4", "with a look at some training records: 50.0% of each inner matrix were left out, those whose loss"),
        (by_size, "pruned-50-magnitude-int4-nearest", "without a look at any record: 50.0% of each inner matrix"),
    ):  # fmt: skip
        assert said in (folder / "compressed" / variant / "README.md").read_text()


def test_a_variant_answers_and_another_program_refuses_it(run: Path) -> None:
    said = command("generate", run, "line", "--variant", "int8", "--max-tokens", "8", "--json").json["text"]
    assert said == shuyuan.load(run, variant="int8").generate("line", max_tokens=8, seed=1)
    transformers = pytest.importorskip("transformers")
    with pytest.raises(OSError, match="no file named"):
        transformers.AutoModelForCausalLM.from_pretrained(run / "compressed/int8")
    card = (run / "compressed/pruned-50-int4/README.md").read_text()
    assert "left out" in card and "4 bits" in card and "from_pretrained" not in card


def test_the_report_tells_them(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert all(name in page for name in NAMES)


def test_a_variant_that_is_not_there_is_refused_by_name(run: Path) -> None:
    with pytest.raises(RunError, match="no variant int2") as error:
        shuyuan.load(run, variant="int2")
    assert "pruned-50-int8" in error.value.what
    refused = command("classify", run, "a", "--variant", "../model")
    assert refused.status == 1 and "run.no-variant" in refused.stderr


def test_made_later_and_once(tmp_path: Path) -> None:
    family = FAMILIES["transformer"]
    family.run(tmp_path, "generation")
    run = tmp_path / "run"
    first = command("compress", run, "--json").json
    assert list(first["variants"]) == ["original", "int8"]
    assert first["scores"]["generation"].keys() == {"original", "int8"}
    made = (run / "compressed/int8/packed.safetensors").stat().st_mtime_ns
    more = command("compress", run, "--quantize", "int8", "--prune", "0.25", "--json").json
    assert list(more["variants"]) == ["original", "int8", "pruned-25", "pruned-25-int8"]
    assert (run / "compressed/int8/packed.safetensors").stat().st_mtime_ns == made
    assert all(facts["loss"] for facts in more["variants"].values())
    told = command("compress", run, "--prune", "0.25").stdout
    assert "pruned-25-int8" in told and max(map(len, told.splitlines())) <= 80
    refused = command("compress", run, "--prune", "1.5")
    assert refused.status == 1 and "compress.prune" in refused.stderr


def test_variants_of_a_sealed_run_are_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "correct horse battery staple")
    privacy = {"epsilon": 8.0, "unit": "record"}
    FAMILIES["transformer"].run(
        tmp_path, "generation", vault={"key": KEY}, privacy=privacy, compress={"quantize": "int8"}
    )
    run = tmp_path / "run"
    assert not any("int8" in file.name or "packed" in file.name for file in run.rglob("*"))
    assert b"quant_method" not in b"".join(f.read_bytes() for f in run.rglob("*") if f.is_file())
    before = command("info", run, "--json").json["privacy"]["epsilon"]
    assert command("compress", run, "--prune", "0.5", "--json").json["variants"].keys() == {
        "original", "int8", "pruned-50",
    }  # fmt: skip
    with pipeline.look(run) as job:
        assert "texts that it wrote itself" in job.store.read("compressed/pruned-50/README.md").decode()
    verified = command("verify", run, "--json").json
    assert verified["ok"] and verified["epsilon_recomputed"] == pytest.approx(before)
    assert isinstance(shuyuan.load(run, variant="int8").generate("line", max_tokens=4), str)


@pytest.mark.parametrize("family", ["images", "keras"])
def test_every_family_has_what_it_can(tmp_path: Path, family: str) -> None:
    """Convolutions are settled by records too; recurrent models have the ways that look at weights, and refuse the others."""
    asked = {"quantize": "int4", "prune": 0.5}
    if family == "keras":
        pytest.importorskip("keras")
    kind = FAMILIES["cnn" if family == "images" else "rnn"]
    kind.run(tmp_path, "classification" if family == "images" else "generation", compress=asked)
    names = command("info", tmp_path / "run", "--json").json["variants"]
    assert list(names) == ["original", "int4", "pruned-50", "pruned-50-int4"]
    with pipeline.look(tmp_path / "run") as job:
        card = job.store.read("compressed/int4/README.md").decode()
    assert ("GPTQ" in card) == (family == "images")
    refused = command("compress", tmp_path / "run", "--prune", "0.3", "--pruning", "wanda", "--json")
    assert refused.status == (0 if family == "images" else 1)
    assert family == "images" or "compress.no-records" in refused.stderr


# ---- what is broken --------------------------------------------------------------------------------------------------


def changed(run: Path, folder: Path, **entries: Any) -> Path:
    """A copy of the run whose config.json of int8 says something else."""
    shutil.copytree(run, folder / "copy")
    file = folder / "copy/compressed/int8/config.json"
    table = json.loads(file.read_text())
    table[TABLE] |= entries
    file.write_text(json.dumps(table))
    return folder / "copy"


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"quant_method": "gptq"}, "models.other-compression"),
        ({"version": 2}, "models.other-compression"),
        ({"weights": None}, "models.bad-compressed"),
        ({"weights": {}}, "models.other-tensors"),
    ],
)
def test_another_scheme_is_refused(run: Path, tmp_path: Path, entries: dict[str, Any], code: str) -> None:
    with pytest.raises(ShuyuanError) as error:
        shuyuan.load(changed(run, tmp_path, **entries), variant="int8")
    assert error.value.code == code


def test_a_weight_of_another_shape_or_kind_is_refused(run: Path, tmp_path: Path) -> None:
    table = json.loads((run / "compressed/int8/config.json").read_text())[TABLE]["weights"]
    name = "model.layers.0.mlp.up_proj.weight"
    for number, change in enumerate(({"shape": [1, 1]}, {"bits": 4}, {"bits": 32}, {"sparse": True})):
        entries = copy.deepcopy(table)
        entries[name] |= change
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ShuyuanError) as error:
            shuyuan.load(changed(run, tmp_path / str(number), weights=entries), variant="int8")
        assert name in error.value.what


def test_a_cut_or_flipped_file_is_refused_or_read(run: Path, tmp_path: Path) -> None:
    """Fuzzed headers and ends: an error of ours or a model whose numbers are finite, never another exception."""
    shutil.copytree(run, tmp_path / "copy")
    file = tmp_path / "copy/compressed/pruned-50-int4/packed.safetensors"
    sound = file.read_bytes()
    random = np.random.default_rng(1)
    refused = 0
    for attempt in range(40):
        content = bytearray(sound)
        if attempt % 4 == 0:
            content = content[: random.integers(0, len(content))]
        else:
            for place in random.integers(0, len(sound) if attempt % 2 else 4000, 3):
                content[place] ^= 1 << random.integers(0, 8)
        file.write_bytes(content)
        try:
            loaded = weights(tmp_path / "copy", "pruned-50-int4")
        except ShuyuanError as error:
            assert "pruned-50-int4" in (error.where or "")
            refused += 1
            continue
        assert all(np.isfinite(weight).all() for weight in loaded.values())
    assert refused >= 15


# ---- trained again ---------------------------------------------------------------------------------------------------


def test_a_pruned_model_learns_again_and_stays_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = FAMILIES["transformer"]
    family.run(tmp_path, "generation", train={"budget": "40 steps", "batch_size": 8})
    run = tmp_path / "run"
    asked = ("--prune", "0.7", "--pruning", "magnitude")
    once = command("compress", run, *asked, "--json").json["variants"]
    more = ("--pruning", "gradual", "--recover", "40 steps", "--quantize", "int4")
    again = command("compress", run, *asked, *more, "--json").json["variants"]
    names = ["pruned-70-magnitude-recovered", "pruned-70-gradual-recovered"]
    assert set(again) - set(once) >= {*names, *(f"{name}-int4" for name in names)}
    for name in names:
        assert again[name]["loss"] < once["pruned-70-magnitude"]["loss"] - 0.005, name
        for variant in (name, f"{name}-int4"):
            for matrix, weight in weights(run, variant).items():
                if ".layers." in matrix and weight.ndim > 1:
                    assert np.count_nonzero(weight == 0) >= round(0.7 * weight.size) - 1, (variant, matrix)
    card = (run / "compressed/pruned-70-gradual-recovered/README.md").read_text()
    assert "little by little" in card and "another 40 steps" in card
    assert (
        weights(run)["model.embed_tokens.weight"] != weights(run, names[0])["model.embed_tokens.weight"]
    ).any()
    before = (run / "compressed/pruned-70-magnitude-recovered/packed.safetensors").read_bytes()
    shutil.rmtree(run / "compressed/pruned-70-magnitude-recovered")
    command("compress", run, *asked, "--recover", "40 steps")
    assert (run / "compressed/pruned-70-magnitude-recovered/packed.safetensors").read_bytes() == before
    shutil.rmtree(run / "compressed/pruned-70-magnitude-recovered")
    monkeypatch.setattr("shuyuan.train.tuning.RATE_SHARE", 500.0)  # which no model can learn at
    assert "did not help" in command("compress", run, *asked, "--recover", "3 steps").stderr
    for name, weight in weights(run, "pruned-70-magnitude").items():
        np.testing.assert_array_equal(weights(run, "pruned-70-magnitude-recovered")[name], weight)


def test_private_records_are_not_learned_from_again(tmp_path: Path) -> None:
    FAMILIES["transformer"].run(tmp_path, "generation", privacy={"epsilon": 8.0, "unit": "record"})
    refused = command("compress", tmp_path / "run", "--prune", "0.5", "--recover", "5 steps")
    assert refused.status == 1 and "compress.no-recovery" in refused.stderr and "private" in refused.stderr


def test_it_is_told_how_fast_each_variant_writes(run: Path) -> None:
    """And what its weights take in memory."""
    variants = command("info", run, "--json").json["variants"]
    assert all(variants[name]["tokens_per_second"] > 0 for name in NAMES)
    assert variants["int4"]["memory_bytes"] < variants["int8"]["memory_bytes"]
