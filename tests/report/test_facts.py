"""What is known of a run: only what its files say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import filelock
import pytest

from shuyuan.errors import RunError
from shuyuan.report import facts, summary
from shuyuan.runs import LOCK_FILE

from .conftest import END, MakeRun, start_line, step_lines


def test_summary_has_exactly_the_fields_of_the_design(make_run: MakeRun) -> None:
    run, store = make_run()
    found = summary(run, store)
    assert found == {
        "run": str(run.path),
        "status": "evaluated",
        "task": "generation",
        "family": "transformer",
        "parameters": 5_312_256,
        "steps": 400,
        "tokens": 1_638_400,
        "seconds": 127.4,
        "peak_bytes": 790 << 20,
        "loss": {"train": 3.11, "validation": 3.2167},
        "privacy": None,
        "data_set": {
            "id": "stdlib",
            "unit": None,
            "epsilon": None,
            "delta": None,
            "runs": 0,
            "uncovered": [],
        },
        "variants": {"original": {"bytes": 1002, "loss": 3.2167, "agreement": 1.0}},
        "scores": {"generation": {"original": found["scores"]["generation"]["original"]}},
        "sealed": False,
    }
    assert found["scores"]["generation"]["original"]["validation.bigram_loss"] == 4.4321
    json.dumps(found)


def test_a_new_run_knows_nothing_and_guesses_nothing(make_run: MakeRun) -> None:
    run, store = make_run(without=("data", "plan", "metrics", "model", "checkpoints", "scores", "samples"))
    found = summary(run, store)
    assert found["status"] == "new"
    for field in ("parameters", "steps", "tokens", "seconds", "peak_bytes"):
        assert found[field] is None, field
    assert found["loss"] == {"train": None, "validation": None}
    assert found["variants"] == {} and found["scores"] == {}


def test_a_run_half_way_says_what_was_done_and_not_what_is_planned(make_run: MakeRun) -> None:
    half = [start_line(), *step_lines(1, 90)]
    run, store = make_run(without=("model", "scores", "samples"), changed={"metrics.jsonl": half})
    found = summary(run, store)
    assert (found["status"], found["steps"], found["tokens"]) == ("interrupted", 90, 90 * 4096)
    assert found["loss"]["validation"] == pytest.approx(half[-11]["loss"], abs=0.5)


STAGES = [
    ("new", ("data", "model", "checkpoints", "scores")),
    ("prepared", ("model", "checkpoints", "scores")),
    ("interrupted", ("model", "scores")),
    ("trained", ("scores",)),
    ("evaluated", ()),
]


@pytest.mark.parametrize(("expected", "without"), STAGES, ids=[stage for stage, _ in STAGES])
def test_status(make_run: MakeRun, expected: str, without: tuple[str, ...]) -> None:
    run, store = make_run(without=without)
    assert facts.status(run, store) == expected


def test_status_is_complete_with_the_report(make_run: MakeRun) -> None:
    run, store = make_run(changed={"report.html": "page"})
    assert facts.status(run, store) == "complete"


def test_status_is_training_only_while_another_process_holds_the_lock(make_run: MakeRun) -> None:
    run, store = make_run(without=("model", "scores"))
    with run.lock("info"):
        assert facts.status(run, store) == "interrupted"  # it is we who hold it
    with filelock.FileLock(run.path / LOCK_FILE):
        (run.path / LOCK_FILE).write_text(json.dumps({"verb": "train", "pid": os.getpid() + 1}))
        assert facts.status(run, store) == "training"
    assert facts.status(run, store) == "interrupted"


def test_the_score_on_the_whole_split_goes_before_the_one_measured_in_training(make_run: MakeRun) -> None:
    run, store = make_run(
        without=("scores",), changed={"metrics.jsonl": [start_line(), {**END, "validation_loss": 3.9}]}
    )
    assert summary(run, store)["loss"]["validation"] == 3.9


def test_a_broken_file_is_named(make_run: MakeRun) -> None:
    run, store = make_run(changed={"scores.json": '{"generation": '})
    with pytest.raises(RunError, match=r"scores\.json") as caught:
        summary(run, store)
    assert caught.value.code == "run.broken-file"


def test_the_public_part_reads_open_files_alone(make_run: MakeRun) -> None:
    run, store = make_run(sealed=True)
    found = facts.gather(run, store, whole=False)
    assert set(store.reads) == {"plan.json"}  # type: ignore[attr-defined]
    assert not (found.metrics or found.manifest or found.scores or found.samples or found.variant_bytes)
    assert found.trained


def test_gather_does_not_write(make_run: MakeRun, tmp_path: Path) -> None:
    run, store = make_run()
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*")}
    summary(run, store)
    assert {file: file.stat().st_mtime_ns for file in run.path.rglob("*")} == before
