"""What a calibration may look at, family by family and method by method, and what the ledger then says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shuyuan import compress, pipeline
from shuyuan.errors import PrivacyError, ShuyuanError
from shuyuan.models import load_network
from shuyuan.privacy.ledger import LEDGER_FILE
from shuyuan.progress import Progress
from shuyuan.recipe import from_table
from tests.runs import shuyuan as command
from tests.support.families import FAMILIES, prompts, texts

PRIVATE = {"epsilon": 8.0, "unit": "record"}
REFUSED = {
    "compress.no-records": [
        {"quantize": ["int4"], "rounding": ["gptq"]},
        {"prune": [0.5], "pruning": ["wanda"]},
        {"prune": [0.5], "pruning": ["sparsegpt"]},
        {"quantize": ["int4"], "prune": [0.5], "rounding": ["gptq"], "pruning": ["magnitude"]},
    ],
    "compress.no-recovery": [
        {"prune": [0.5], "pruning": ["magnitude"], "recover": "2 steps"},
        {"prune": [0.5], "pruning": ["gradual"], "recover": "2 steps"},
    ],
}


def asked(job: pipeline.Job, **how: Any) -> list[compress.Variant]:
    return pipeline.variants(job.recipe, how.pop("quantize", []), how.pop("prune", []), **how)


def ledger(job: pipeline.Job) -> dict[str, str]:
    entries = job.store.journal(LEDGER_FILE).entries()
    return {entry["what"]: entry["meaning"] for entry in entries if entry["event"] == "variant"}


@pytest.mark.parametrize("family", ["hub", "cnn"])
def test_a_private_model_of_labels_is_made_smaller_by_its_weights_or_by_public_records(
    family: str, tmp_path: Path
) -> None:
    kind = FAMILIES[family]
    kind.run(tmp_path, "classification", privacy=PRIVATE)
    run = tmp_path / "run"
    before = command("verify", run, "--json").json["epsilon_recomputed"]
    public = public_records(tmp_path / "public", family)
    with pipeline.begin(run, "compress") as job:
        for code, methods in REFUSED.items():
            for how in methods:
                with pytest.raises(ShuyuanError) as error:
                    pipeline.compress_model(job, asked(job, **how))
                assert error.value.code == code, how
        assert ledger(job) == {}, "what is refused is not noted"
        pipeline.compress_model(job, asked(job, quantize=["int4"], prune=[0.5]))
        names = ["int4", "pruned-50", "pruned-50-int4"]
        assert ledger(job) == {
            f"compressed/{name}": "Made from the released weights and nothing else." for name in names
        }
        assert "without a look at any record" in job.store.read("compressed/int4/README.md").decode()
        for how in REFUSED["compress.no-records"]:
            pipeline.compress_model(job, asked(job, **how), public)
        assert "records of a file" in ledger(job)["compressed/pruned-50-wanda"]
        said = job.store.read("compressed/int4-gptq/README.md").decode()
        assert "with a look at records of a file that was given for it" in said
        own = job.recipe.data.source
        if family != "cnn":
            with pytest.raises(PrivacyError, match="own records"):
                pipeline.compress_model(job, asked(job, prune=[0.3], pruning=["wanda"]), str(own))
    verified = command("verify", run, "--json").json
    assert verified["ok"] and verified["epsilon_recomputed"] == before


def public_records(folder: Path, family: str) -> Path:
    folder.mkdir()
    if family != "cnn":
        return Path(str(texts(folder)["source"]))
    image = pytest.importorskip("PIL.Image")
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)
        image.fromarray(grey).save(folder / f"{number}.png")
    return folder


def test_a_private_model_that_writes_is_calibrated_on_its_own_texts_and_the_ledger_says_so(
    tmp_path: Path,
) -> None:
    FAMILIES["transformer"].run(
        tmp_path,
        "generation",
        model={"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "context": 32},
        privacy=PRIVATE,
    )
    with pipeline.begin(tmp_path / "run", "compress") as job:
        methods = [*REFUSED["compress.no-records"], {"shrink": [0.5]}, {"quantize": ["int8"]}]
        for how in methods:
            pipeline.compress_model(job, asked(job, **how))
        found = ledger(job)
    alone = {"compressed/int8", "compressed/pruned-50-magnitude"}
    by_texts = {
        "int4-gptq",
        "pruned-50-wanda",
        "pruned-50-sparsegpt",
        "pruned-50-magnitude-int4-gptq",
        "shrunk-50",
    }
    assert found.keys() == alone | {f"compressed/{name}" for name in by_texts}
    for name, meaning in found.items():
        seen = "nothing else" if name in alone else "texts that it wrote itself"
        assert meaning == f"Made from the released weights and {seen}."
    for how in REFUSED["compress.no-recovery"]:
        with (
            pipeline.begin(tmp_path / "run", "compress") as job,
            pytest.raises(ShuyuanError, match="would be a release"),
        ):
            pipeline.compress_model(job, asked(job, **how))


OWN = {
    "the file": ("notes/a.txt", "notes/a.txt"),
    "a file of the folder": ("notes", "notes/a.txt"),
    "the folder of the file": ("notes/a.txt", "notes"),
    "a file of the pattern": ("notes/*.txt", "notes/a.txt"),
    "a pattern": ("notes/a.txt", "n*/*.txt"),
    "a link": ("notes/a.txt", "link.txt"),
    "one of several": (["public.txt", "notes/a.txt"], "notes"),
    "what was held out": ("public.txt", "held-out.txt"),
}


@pytest.mark.parametrize("case", [*OWN, "public records"])
def test_a_private_run_is_not_calibrated_on_its_own_records_however_they_are_named(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shuyuan.compress.records.records_of_file", lambda *_: [])
    (tmp_path / "notes").mkdir()
    for name in ("notes/a.txt", "public.txt", "held-out.txt", "other.txt"):
        (tmp_path / name).write_text("a line\n")
    (tmp_path / "link.txt").symlink_to("notes/a.txt")
    source, file = OWN.get(case, ("notes", "other.txt"))
    table = {
        "data": {"source": source, "validation": "held-out.txt"},
        "privacy": {"epsilon": 8.0, "unit": "record"},
    }
    model: Any = SimpleNamespace(config=None)
    nothing: Any = None
    looks = (nothing, nothing, model, Progress(), file)
    if case in OWN:
        with pytest.raises(PrivacyError, match="own records"):
            compress.calibration_records(from_table(table), *looks)
    else:
        assert "given for it" in compress.calibration_records(from_table(table), *looks).what
    del table["privacy"]
    compress.calibration_records(from_table(table), *looks)


@pytest.mark.parametrize("task", ["generation", "translation", "classification"])
def test_records_of_a_file_are_rows_as_training_has_them(task: str, tmp_path: Path) -> None:
    kind = FAMILIES["transformer"]
    kind.run(tmp_path, task)
    other = tmp_path / "other"
    other.mkdir()
    file = (
        prompts(other, task)
        if task == "translation"
        else texts(other)
        if task == "classification"
        else kind.recipe(other, task)["data"]
    )["source"]
    with pipeline.look(tmp_path / "run") as job:
        manifest, model = pipeline.manifest_of(job), load_network(job.store)
        found = [
            compress.calibration_records(job.recipe, job.store, manifest, model, Progress(), source)
            for source in (None, file)
        ]
    assert [each.what for each in found] == [
        "some training records",
        "records of a file that was given for it",
    ]
    for each in found:
        assert each.inputs
        assert all(row.shape[0] == 1 and 1 <= row.shape[1] <= 32 and row.min() >= 0 for row in each.inputs)
    if task != "generation":  # the same records
        rows = [{tuple(row[0]) for row in each.inputs} for each in found]
        assert len(rows[0] & rows[1]) > len(rows[0]) / 2


def test_one_record_is_enough_and_none_is_refused(tmp_path: Path) -> None:
    FAMILIES["transformer"].run(tmp_path, "generation")
    run, one, none = tmp_path / "run", tmp_path / "one.txt", tmp_path / "none.txt"
    one.write_text("a")
    none.write_text("\n\n")
    asked = ("--quantize", "int4", "--prune", "0.5", "--json")
    variants = command("compress", run, *asked, "--calibrate", one).json["variants"]
    assert all(np.isfinite(each["loss"]) for each in variants.values())
    for file, code in ((none, "compress.empty-file"), (tmp_path / "missing.txt", "data.")):
        refused = command("compress", run, "--prune", "0.3", "--calibrate", file)
        assert refused.status == 1 and code in refused.stderr
    assert "pruned-30" not in command("info", run, "--json").json["variants"]


def test_a_recipe_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "public.txt").write_text("a public line\n" * 20)
    FAMILIES["transformer"].run(
        tmp_path,
        "generation",
        compress={"quantize": "int4", "calibrate": str(tmp_path / "public.txt")},
    )
    assert "records of a file" in (tmp_path / "run/compressed/int4/README.md").read_text()
