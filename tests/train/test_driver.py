"""The driver with a backend of two numbers: steps, rates, checkpoints, interruption, skips and rollbacks."""

from __future__ import annotations

import threading
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from shuyuan.errors import Interrupted, MachineError, TrainError, cannot_write
from shuyuan.progress import Progress
from shuyuan.train import checkpoints as checkpoint_module
from shuyuan.train.backend import OVERFLOW, Batch, Figures
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.driver import Driver, State, validation_steps
from shuyuan.vault import OpenStore

from .parts import Plain, drive, events, sample, settings


def interrupted(path: Path, at: int, backend: Plain | None = None, **changes: object) -> None:
    with pytest.raises(Interrupted) as caught:
        drive(path, backend or Plain(), stop_at=at, **changes)
    assert caught.value.exit_status == 130
    assert f"after step {at} of" in caught.value.what


def test_every_step_gets_its_own_batch_and_rate(tmp_path: Path) -> None:
    backend = Plain()
    drive(tmp_path, backend, schedule="linear", steps=4, learning_rate=0.4)
    assert [step for step, _ in backend.rates] == [1, 2, 3, 4]
    assert [rate for _, rate in backend.rates] == pytest.approx([0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("at", [1, 5, 11])
@pytest.mark.parametrize("schedule", ["constant", "wsd", "plateau"])
def test_interrupted_and_resumed_ends_where_the_uninterrupted_run_ends(
    tmp_path: Path, at: int, schedule: str
) -> None:
    whole = drive(tmp_path / "whole", straight := Plain(), schedule=schedule)
    interrupted(tmp_path / "cut", at, schedule=schedule)
    again = drive(tmp_path / "cut", resumed := Plain(), schedule=schedule)
    assert resumed.weights.tobytes() == straight.weights.tobytes()
    for name in ("step", "tokens", "tail_loss", "tail_steps", "validation_loss", "schedule"):
        assert getattr(again.state, name) == getattr(whole.state, name)
    assert [step for step, _ in resumed.rates] == list(range(at + 1, 13))


@pytest.mark.parametrize("every", ["1 steps", "5 steps", "1000 steps", "1 s"])
def test_when_checkpoints_fall_never_changes_the_result(tmp_path: Path, every: str) -> None:
    drive(tmp_path / "plain", plain := Plain())
    ticks = count(step=0.4)
    drive(tmp_path / "other", other := Plain(), checkpoint_every=every, clock=lambda: next(ticks))
    assert other.weights.tobytes() == plain.weights.tobytes()


def test_checkpoints_fall_by_the_clock(tmp_path: Path) -> None:
    ticks = count()
    drive(tmp_path, Plain(), checkpoint_every="10 s", clock=lambda: float(next(ticks)), keep=100, steps=200)
    saved = [event["step"] for event in events(tmp_path, "train.checkpoint")]
    assert {0, 50, 100, 150, 200} < set(saved)  # safe points, and more between them by the clock


def test_checkpoints_fall_by_steps_and_at_both_ends(tmp_path: Path) -> None:
    drive(tmp_path, Plain(), checkpoint_every="5 steps", steps=12)
    assert [event["step"] for event in events(tmp_path, "train.checkpoint")] == [0, 3, 5, 6, 9, 10, 12]


def test_a_finished_run_does_no_step(tmp_path: Path) -> None:
    drive(tmp_path, Plain(), steps=10)  # no safe point falls on the last step
    driver = drive(tmp_path, again := Plain(), steps=10)
    assert again.rates == []
    assert driver.state.step == 10


def test_the_next_batch_is_read_ahead_and_each_is_read_once(tmp_path: Path) -> None:
    asked: list[tuple[int, bool]] = []

    def take(step: int) -> Batch:
        asked.append((step, threading.current_thread() is threading.main_thread()))
        return sample(step)

    drive(tmp_path, Plain(), take=take, steps=4)
    assert asked == [(1, True), (2, False), (3, False), (4, False)]


def test_an_error_in_reading_a_batch_is_raised_where_it_is_needed(tmp_path: Path) -> None:
    def take(step: int) -> Batch:
        if step == 3:
            raise MachineError("machine.test", "The disk is gone.", mend="Plug it in.")
        return sample(step)

    with pytest.raises(MachineError, match="disk is gone"):
        drive(tmp_path, backend := Plain(), take=take)
    assert [step for step, _ in backend.rates] == [1, 2]


def test_the_log_tells_of_every_event(tmp_path: Path) -> None:
    drive(tmp_path, Plain(), evaluations=2)
    start = events(tmp_path, "train.start")[0]
    assert (start["step"], start["steps"], start["resumed"], start["precision"]) == (0, 12, False, "fp32")
    steps = events(tmp_path, "train.step")
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert set(steps[0]) == {
        "event", "time", "step", "loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second", "seconds", "waited_seconds", "peak_bytes",
    }  # fmt: skip
    assert steps[-1]["tokens"] == 12 * 8
    assert [line["step"] for line in events(tmp_path, "train.validation")] == [6, 12]


def test_the_mean_of_the_last_steps_survives_an_interruption(tmp_path: Path) -> None:
    whole = drive(tmp_path / "whole", Plain(), steps=100)
    interrupted(tmp_path / "cut", 98, steps=100)
    assert drive(tmp_path / "cut", Plain(), steps=100).state.tail_loss == whole.state.tail_loss


def test_a_long_run_logs_about_a_thousand_steps(tmp_path: Path) -> None:
    drive(tmp_path, Plain(), steps=2500)
    logged = [line["step"] for line in events(tmp_path, "train.step")]
    assert 800 < len(logged) <= 1001
    assert (logged[0], logged[-1]) == (1, 2500)


def test_a_checkpoint_is_written_only_after_the_lines_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, missing = Checkpoints.save, []

    def watch(self: Checkpoints, step: int, state: dict[str, Any], arrays: checkpoint_module.Arrays) -> None:
        logged = {line["step"] for line in events(tmp_path, "train.step")}
        missing.extend({*range(1, step + 1)} - logged)
        save(self, step, state, arrays)

    monkeypatch.setattr(Checkpoints, "save", watch)
    drive(tmp_path, Plain(), checkpoint_every="1 steps")
    assert missing == []


def test_validation_falls_evenly_and_always_on_the_last_step() -> None:
    assert validation_steps(100, 4) == {25, 50, 75, 100}
    assert validation_steps(3, 10) == {1, 2, 3}
    assert validation_steps(100, 0) == {100}


def test_the_training_loss_is_the_mean_of_the_last_steps(tmp_path: Path) -> None:
    driver = drive(tmp_path, Plain(), steps=100)
    losses = [line["loss"] for line in events(tmp_path, "train.step")]
    assert driver.state.tail_steps == 5
    assert driver.state.tail_loss == pytest.approx(sum(losses[-5:]))


# ---- steps that go wrong -------------------------------------------------------------------------------------------


def test_a_bad_step_is_skipped_counted_and_said(tmp_path: Path) -> None:
    progress = Progress()
    driver = drive(tmp_path, Plain(bad={5: 0.0, 6: 0.0}), progress=progress)
    assert driver.state.skipped == 2
    assert driver.state.rollbacks == 0
    assert [line["step"] for line in events(tmp_path, "train.skipped")] == [5, 6]
    assert driver.state.tokens == 10 * 8
    assert "Step 5" in progress.said["train.skipped"]


BAD = {7: 0.01, 8: 0.01, 9: 0.01}  # steps that fail at the full rate, and pass at half of it


def test_three_bad_steps_in_a_row_go_back_to_the_safe_point_with_half_the_rate(tmp_path: Path) -> None:
    progress = Progress()
    driver = drive(tmp_path, backend := Plain(bad=BAD), progress=progress)
    steps = [step for step, _ in backend.rates]
    assert steps == [*range(1, 10), *range(7, 13)]
    assert backend.rates[-1] == (12, 0.005)
    assert driver.state.rollbacks == 1
    (line,) = events(tmp_path, "train.rollback")
    assert (line["step"], line["to_step"]) == (9, 6)
    assert "0.5 times the learning rate" in progress.said["train.rollback-1"]


def test_a_state_belongs_to_its_own_step() -> None:
    """A folder of checkpoints that was renamed: training would go on from weights of another step."""
    table = asdict(State(step=3))
    assert State.read(table, 3) == State(step=3)
    with pytest.raises(TrainError, match=r"train\.damaged-checkpoint"):
        State.read(table, 4)


def test_each_rollback_halves_the_rate_again(tmp_path: Path) -> None:
    driver = drive(tmp_path, backend := Plain(bad=dict.fromkeys((7, 8, 9), 0.003)))
    assert driver.state.rollbacks == 2
    assert backend.rates[-1] == (12, 0.0025)


def test_a_rollback_removes_the_checkpoints_of_the_road_not_taken(tmp_path: Path) -> None:
    class Looking(Progress):
        def show(self, text: str) -> None:
            if "goes back to step 6" in text:
                there.extend(Checkpoints(OpenStore(tmp_path, writable=False), {}, {}, 1).steps())

    there: list[int] = []
    drive(tmp_path, Plain(bad=BAD), checkpoint_every="1 steps", keep=9, progress=Looking())
    assert there == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("every", ["1 steps", "2 steps", "1000 steps"])
def test_a_rollback_does_not_depend_on_when_checkpoints_fall(tmp_path: Path, every: str) -> None:
    drive(tmp_path / "a", plain := Plain(bad=BAD))
    drive(tmp_path / "b", other := Plain(bad=BAD), checkpoint_every=every)
    assert other.weights.tobytes() == plain.weights.tobytes()


@pytest.mark.parametrize("at", [2, 7, 8, 10])
def test_a_rollback_is_the_same_in_a_run_that_was_interrupted(tmp_path: Path, at: int) -> None:
    whole = drive(tmp_path / "a", plain := Plain(bad=BAD))
    interrupted(tmp_path / "b", at, Plain(bad=BAD))
    cut = drive(tmp_path / "b", other := Plain(bad=BAD))
    assert other.weights.tobytes() == plain.weights.tobytes()
    assert cut.state.rate_factor == whole.state.rate_factor == 0.5
    assert cut.state.skipped == whole.state.skipped


def test_a_safe_point_is_not_set_in_the_middle_of_trouble(tmp_path: Path) -> None:
    bad = {5: 0.01, 6: 0.01, 7: 0.01}
    drive(tmp_path, backend := Plain(bad=bad))
    assert [step for step, _ in backend.rates] == [*range(1, 8), *range(4, 13)]


def test_trouble_at_the_very_start_goes_back_to_the_beginning(tmp_path: Path) -> None:
    drive(tmp_path, backend := Plain(bad={1: 0.01, 2: 0.01, 3: 0.01}))
    assert [step for step, _ in backend.rates] == [1, 2, 3, *range(1, 13)]


def test_after_several_rollbacks_training_stops_and_says_how_to_mend(tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        drive(tmp_path, Plain(bad={7: 0.0, 8: 0.0, 9: 0.0}))
    assert caught.value.code == "train.diverged"
    assert "learning_rate" in caught.value.mend
    assert len(events(tmp_path, "train.rollback")) == 3
    with pytest.raises(TrainError, match="up to step 9"):  # and a repeat says the same
        drive(tmp_path, Plain(bad={7: 0.0, 8: 0.0, 9: 0.0}))


def test_a_loss_scale_that_settles_is_no_trouble(tmp_path: Path) -> None:
    class Scaling(Plain):
        def step(self, batch: Batch, learning_rate: float) -> Figures:
            if batch.step <= 5:
                return Figures(1.0, float("inf"), 8, OVERFLOW)
            return super().step(batch, learning_rate)

    progress = Progress()
    driver = drive(tmp_path, Scaling(), progress=progress)
    assert driver.state.skipped == 5
    assert driver.state.rollbacks == 0
    assert progress.said == {}


# ---- checkpoints that do not fit -----------------------------------------------------------------------------------


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path, 5)
    with pytest.raises(TrainError, match="seed: 1 there, 2 here"):
        drive(tmp_path, Plain(), identity={"seed": 2})


def test_other_circumstances_are_said(tmp_path: Path) -> None:
    interrupted(tmp_path, 5)
    store, progress = OpenStore(tmp_path), Progress()
    checkpoints = Checkpoints(store, {"seed": 1}, {"threads": 3}, 2)
    Driver(
        settings(),
        Plain(),
        sample,
        [],
        checkpoints,
        store.journal("metrics.jsonl"),
        progress,
        threading.Event(),
    ).run()
    assert "threads: 2 then, 3 now" in progress.said["train.other-circumstances"]


def test_a_full_disk_stops_training_at_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(tmp_path / "whole", straight := Plain())
    real, calls = checkpoint_module.pieces, count()

    def fills_up(part: checkpoint_module.Arrays) -> list[bytes | memoryview]:
        if next(calls) == 2:
            raise cannot_write(OSError(28, "No space left on device"), tmp_path)
        return real(part)

    monkeypatch.setattr(checkpoint_module, "pieces", fills_up)
    with pytest.raises(MachineError, match="No space left"):
        drive(tmp_path / "cut", Plain())
    drive(tmp_path / "cut", resumed := Plain())
    assert resumed.weights.tobytes() == straight.weights.tobytes()
    assert resumed.rates[0][0] == 4
