"""Event files: TensorFlow reads what was written, each step once, and after a kill too."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shuyuan.errors import Interrupted, MachineError
from shuyuan.train.metrics import METRICS_FILE, valid_lines
from shuyuan.train.tensorboard import FOLDER, SCALARS, EventFile, _checksum
from shuyuan.vault import OpenStore

from .parts import Plain, drive, events

Point = tuple[str, int, float]


def event_file(path: Path) -> Path:
    """The only one that there is."""
    (file,) = (path / FOLDER).iterdir()
    return file


def read(file: Path) -> list[Point]:
    """(tag, step, value) of every number, as TensorFlow reads them."""
    tensorflow = pytest.importorskip("tensorflow")
    return [
        (value.tag, event.step, value.simple_value)
        for event in tensorflow.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]


def logged(path: Path) -> list[Point]:
    """The same numbers, of the lines of the log that count."""
    return [
        (tag, line["step"], float(np.float32(line[field])))
        for line in valid_lines(events(path))
        for field, tag in SCALARS.get(line["event"], {}).items()
        if field in line
    ]


def a_log(path: Path, *, private: bool = False) -> EventFile:
    """A log with events that has begun."""
    store = OpenStore(path)
    log = EventFile(store.journal(METRICS_FILE), store, private=private)
    log.append({"event": "train.start", "time": 1.5, "step": 0})
    return log


def step_line(step: int, **more: Any) -> dict[str, Any]:
    return {"event": "train.step", "time": 2.5, "step": step, "loss": 1 / step, "learning_rate": 0.5, **more}


def test_the_checksum_is_that_of_crc32c() -> None:
    # The check value of CRC-32C, https://reveng.sourceforge.io/crc-catalogue/17plus.htm#crc.cat.crc-32-iscsi, then masked.
    crc = 0xE3069283
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    assert _checksum(b"123456789") == masked.to_bytes(4, "little")


def test_tensorflow_reads_the_numbers_of_the_log(tmp_path: Path) -> None:
    drive(tmp_path, Plain(), tensorboard=True)
    points = read(event_file(tmp_path))
    assert points == logged(tmp_path)
    assert {tag for tag, _, _ in points} == {
        tag for tags in SCALARS.values() for field, tag in tags.items() if field != "epsilon"
    }


def test_the_file_begins_with_its_version_and_a_session(tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    a_log(tmp_path)
    version, session = tensorflow.compat.v1.train.summary_iterator(str(event_file(tmp_path)))
    assert version.file_version == "brain.Event:2" and version.wall_time == 1.5
    assert session.session_log.status == session.session_log.START


def test_no_step_stands_twice_after_a_resume(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        drive(tmp_path, Plain(), tensorboard=True, stop_at=5, checkpoint_every="4 steps")
    first = event_file(tmp_path)
    store = OpenStore(tmp_path)
    store.remove("checkpoints/step-00000005")  # as after a kill: steps were logged that are made again
    drive(tmp_path, Plain(), tensorboard=True, checkpoint_every="4 steps")
    assert event_file(tmp_path).name > first.name
    points = read(event_file(tmp_path))
    assert points == logged(tmp_path)
    assert [step for tag, step, _ in points if tag == "loss/training"] == list(range(1, 13))


def test_no_step_stands_twice_after_a_rollback(tmp_path: Path) -> None:
    drive(tmp_path, Plain({8: 0.006, 9: 0.006, 10: 0.006}), tensorboard=True)
    assert events(tmp_path, "train.rollback")
    points = read(event_file(tmp_path))
    assert points == logged(tmp_path)
    assert [step for tag, step, _ in points if tag == "loss/training"] == list(range(1, 13))


def test_a_private_run_shows_what_follows_from_the_recipe_alone(tmp_path: Path) -> None:
    log = a_log(tmp_path, private=True)
    log.append(step_line(1, gradient_norm=3.0, tokens_per_second=9.0, peak_bytes=7))
    log.append({"event": "train.validation", "time": 3.0, "step": 1, "loss": 2.0})
    log.append({"event": "train.checkpoint", "time": 3.0, "step": 1, "seconds": 0.1, "epsilon": 0.25})
    assert read(event_file(tmp_path)) == [("training/learning_rate", 1, 0.5), ("privacy/epsilon", 1, 0.25)]


def test_texts_never_become_events(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append({"event": "train.skipped", "time": 2.0, "step": 1, "reason": "a text of a record"})
    log.append({"event": "notice", "time": 2.0, "code": "x", "text": "a text of a record"})
    log.append(step_line(2))
    log.append(
        {"event": "train.rollback", "time": 3.0, "step": 2, "to_step": 2, "reason": "a text of a record"}
    )
    assert b"text" not in event_file(tmp_path).read_bytes()
    assert len(read(event_file(tmp_path))) == 2


def test_a_record_that_was_cut_hides_none_before_it(tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    log = a_log(tmp_path)
    log.append(step_line(1))
    file = event_file(tmp_path)
    whole = file.read_bytes()
    log.append(step_line(2))
    last = file.read_bytes()[len(whole) :]
    for length in range(1, len(last)):
        file.write_bytes(whole + last[:length])
        found = tensorflow.compat.v1.train.summary_iterator(str(file))
        assert [event.step for event in (next(found), next(found), next(found))] == [0, 0, 1]
        with pytest.raises((StopIteration, tensorflow.errors.DataLossError)):
            next(found)


CHILD = """
import itertools, sys
from pathlib import Path
from tests.train.test_tensorboard import a_log, step_line
log = a_log(Path(sys.argv[1]))
for step in itertools.count(1):
    log.append(step_line(step))
"""


def test_a_kill_leaves_whole_records(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(tmp_path.glob(f"{FOLDER}/*"))) == 0:
        time.sleep(0.05)
    while time.monotonic() < deadline and event_file(tmp_path).stat().st_size < 3000:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    steps = [step for tag, step, _ in read(event_file(tmp_path)) if tag == "loss/training"]
    assert len(steps) > 10 and steps == list(range(1, len(steps) + 1))


def test_a_folder_that_was_taken_away_is_written_anew(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(step_line(1))
    OpenStore(tmp_path).remove(FOLDER)
    log.append(step_line(2))
    assert [step for tag, step, _ in read(event_file(tmp_path)) if tag == "loss/training"] == [1, 2]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = a_log(tmp_path)

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, record: bytes) -> int:
            return len(record) - 1

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", *more, **named: Full() if named.get("buffering") == 0 else opened(path, mode, *more, **named)
    )  # fmt: skip
    with pytest.raises(MachineError, match="No space left"):
        log.append(step_line(1))
