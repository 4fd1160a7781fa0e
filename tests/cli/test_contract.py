"""The fields that other programs rely on, and the exit status of each verb."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shuyuan import __version__, evaluate, pipeline
from tests.runs import shuyuan, write_recipe

RUN_FIELDS = {
    "run", "status", "task", "family", "parameters", "steps", "tokens", "seconds", "peak_bytes", "loss", "privacy",
    "variants", "scores", "sealed", "data_set",
}  # fmt: skip
PLAN_FIELDS = {
    "parameters", "train_flops", "tokens", "peak_bytes", "seconds", "storage_bytes", "price", "fits", "advice", "privacy",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny open run, all the way through."""
    folder = tmp_path_factory.mktemp("trained")
    outcome = shuyuan("run", write_recipe(folder), "--out", folder / "run", "--json")
    assert outcome.status == 0, outcome.stderr
    assert outcome.json.keys() >= RUN_FIELDS
    return folder / "run"


def test_info(trained: Path) -> None:
    summary = shuyuan("info", trained, "--json").json
    assert summary.keys() >= RUN_FIELDS
    assert (summary["status"], summary["task"], summary["family"]) == (
        "complete",
        "generation",
        "transformer",
    )
    assert (summary["steps"], summary["sealed"], summary["privacy"]) == (12, False, None)
    assert summary["tokens"] == 12 * 4 * 32
    assert summary["loss"].keys() == {"train", "validation"}
    assert 0 < summary["loss"]["validation"] < 6
    model = sum(file.stat().st_size for file in (trained / "model").iterdir())
    assert summary["variants"]["original"]["bytes"] == model
    assert "validation.loss" in summary["scores"]["generation"]["original"]


def test_plan(trained: Path) -> None:
    for target in (trained, trained.parent / "recipe.toml"):
        plan = shuyuan("plan", target, "--json").json
        assert plan.keys() >= PLAN_FIELDS
        assert plan["peak_bytes"].keys() == plan["seconds"].keys() == {"low", "expected", "high"}
        assert plan["peak_bytes"]["low"] <= plan["peak_bytes"]["expected"] <= plan["peak_bytes"]["high"]
        assert plan["fits"] is True
        assert plan["privacy"] is None
        assert plan["parameters"] == shuyuan("info", trained, "--json").json["parameters"]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted anew on Linux only")
def test_the_measured_peak_is_that_of_the_whole_run_and_of_no_earlier_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, large = evaluate.evaluate, 300 << 20

    def wasteful(*arguments: Any, **options: Any) -> Any:
        taken = b"x" * large
        return real(*arguments, **options) if taken else None

    monkeypatch.setattr(evaluate, "evaluate", wasteful)
    del (before := [b"x" * 2 * large])[:]  # counted by nobody: it was given back before the run began
    pipeline.run(write_recipe(tmp_path), out=tmp_path / "run")
    with pipeline.look(tmp_path / "run") as job:
        trained = [
            line for line in job.store.journal("metrics.jsonl").entries() if line["event"] == "train.end"
        ]
        measured = job.store.read_json("plan.json")["measured"]["peak_bytes"]
    assert not before
    assert trained[0]["peak_bytes"] + large // 2 < measured < trained[0]["peak_bytes"] + large * 3 // 2


def test_plan_spends_nothing(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert shuyuan("plan", recipe).status == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_evaluate(trained: Path) -> None:
    scores = shuyuan("evaluate", trained, "--json").json["scores"]
    metrics = scores["generation"]["original"]
    assert {"validation.loss", "validation.bits_per_byte", "validation.bigram_loss"} <= metrics.keys()
    assert not any("." not in name for name in metrics), "every score names its split"


def test_verify(trained: Path) -> None:
    outcome = shuyuan("verify", trained, "--json")
    assert outcome.status == 0
    assert outcome.json.keys() >= {"ok", "problems", "epsilon_recomputed", "head"}


def test_doctor() -> None:
    found = shuyuan("doctor", "--json").json
    assert found["hardware"].keys() >= {"device", "name", "cores", "memory_bytes", "features"}
    assert found["precision"] in ("bf16", "fp16", "fp32")
    assert all(check.keys() >= {"name", "ok", "detail"} for check in found["checks"])


def test_the_same_seed_gives_the_same_text(trained: Path) -> None:
    def text(seed: int) -> str:
        return str(
            shuyuan("generate", trained, "line 1", "--seed", str(seed), "--max-tokens", "40", "--json").json[
                "text"
            ]
        )

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_every_command_on_an_open_run_says_once_that_it_lies_in_the_clear(
    trained: Path, tmp_path: Path
) -> None:
    for verb in (
        ["generate", trained, "line", "--max-tokens", "2"],
        ["evaluate", trained],
        ["export", trained, "--to", tmp_path / "out"],
    ):
        assert shuyuan(*verb).stderr.count("Not sealed: this run lies in the clear") == 1


def test_generate_reads_stdin(trained: Path) -> None:
    outcome = shuyuan("generate", trained, "-", "--max-tokens", "5", stdin="line 7\n")
    assert outcome.status == 0
    assert outcome.stdout.startswith("line 7")


def test_the_export_opens_elsewhere(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert shuyuan("export", trained, "--to", tmp_path / "out", "--as", "huggingface").status == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "Qwen3ForCausalLM"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.decode(tokenizer("line 3: 书院").input_ids) == "line 3: 书院"


def test_an_export_never_overwrites(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    outcome = shuyuan("export", trained, "--to", tmp_path, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (1, "run.folder-in-use")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_running_again_does_nothing(trained: Path) -> None:
    files = [
        file for file in trained.rglob("*") if file.is_file() and file.name not in (".lock", "report.html")
    ]
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}
    assert shuyuan("run", trained).status == 0
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files} == before


def test_a_resolved_recipe_repeats_the_run(trained: Path, tmp_path: Path) -> None:
    assert shuyuan("run", trained / "recipe.toml", "--out", tmp_path / "again").status == 0
    first, second = (folder / "model/model.safetensors" for folder in (trained, tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


def test_the_library_says_the_same(trained: Path) -> None:
    import shuyuan as library

    assert library.run(trained)["steps"] == 12
    assert library.plan(trained.parent / "recipe.toml")["fits"]
    loaded = library.load(trained)
    assert loaded.generate("line", seed=3, max_tokens=8) == loaded.generate("line", seed=3, max_tokens=8)


def test_usage_is_two() -> None:
    assert shuyuan("info").status == 2
    assert shuyuan("frobnicate").status == 2
    assert shuyuan("run", "--no-such-option").status == 2


def test_wrong_usage_is_told_in_json_too() -> None:
    command = [sys.executable, "-m", "shuyuan", "plan", "--price", "-1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--price" in done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "usage" and "--price" in error["what"] and "plan --help" in error["mend"]
    done = subprocess.run(command[:-1], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_an_open_run_has_no_keys_to_list_and_has_lost_none(trained: Path) -> None:
    for verb in (["list", trained], ["add", trained, "--new", "env:K"], ["remove", trained, "key-1"]):
        outcome = shuyuan("keys", *verb, "--json")
        assert (outcome.status, outcome.json["error"]["code"]) == (1, "vault.not-sealed")


def test_help_is_quick_and_light() -> None:
    code = (
        "import sys, shuyuan, shuyuan.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "shuyuan", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    assert min(times) < 1.0, "0.5 s is the promise, measured in benchmarks; this catches a heavy import"


def test_help_says_of_each_verb_what_it_does_in_a_line_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ([], ["keys"], ["users"], ["practice"]):
        verbs = shuyuan(*words, "--help").stdout.partition("Commands:\n")[2].splitlines()
        assert len(verbs) > 2 and all(verb.startswith("  ") and verb.endswith(".") for verb in verbs)
        assert max(map(len, verbs)) <= 80 and not any(verb.endswith("..") for verb in verbs)


def test_the_version() -> None:
    outcome = shuyuan("--version")
    assert (outcome.status, outcome.stdout) == (0, f"shuyuan {__version__}\n")
