"""A full disk, a folder that may not be written, a clock that jumps, a second process, no memory: told clearly, and nothing is lost."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from shuyuan import data, pipeline
from shuyuan.errors import MachineError, RunError, ShuyuanError
from shuyuan.runs import LOCK_FILE, Run
from shuyuan.sizes import size
from shuyuan.train.torch_backend import TorchBackend
from tests.runs import shuyuan

from .faults import KEY, SECRET, VERBS, do, from_step, live, outcome, refusal, tiny


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is no passphrase, and no waiting for the disk."""
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Undisturbed runs, each with its recipe beside it."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = folder / "whole"
            live(tiny(folder, kind), made[kind])
        return made[kind]

    return of


# ---- the disk ------------------------------------------------------------------------------------------------------

MENDS = {errno.ENOSPC: "Free some space", errno.EROFS: "Mount the disk", errno.EACCES: "Let this user write"}


def check_refusal(error: ShuyuanError, number: int, folder: Path) -> None:
    """What people are told names a place and a mend that fits, under a code that stays."""
    assert error.code in ("machine.cannot-write", "privacy.no-ledger"), error
    assert os.strerror(number) in error.what
    assert error.where is not None
    if error.code == "machine.cannot-write":
        assert Path(error.where).is_relative_to(folder), error
        assert error.mend.startswith(MENDS[number])


@pytest.mark.parametrize(
    ("kind", "number", "apart"),
    [("open", errno.ENOSPC, 37), ("sealed", errno.EACCES, 89), ("private", errno.EROFS, 41)],
)
def test_whatever_the_disk_refuses_is_told_and_the_run_goes_on(
    tmp_path: Path, whole: Callable[[str], Path], kind: str, number: int, apart: int
) -> None:
    expected = whole(kind)
    refused = refused_at(expected.parent / "recipe.toml", tmp_path / "run", number, apart)
    assert refused > 2
    assert outcome(tmp_path / "run") == outcome(expected)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", MENDS)
@pytest.mark.parametrize("kind", ["open", "sealed", "private"])
def test_a_refusal_at_every_other_step_of_a_life(
    tmp_path: Path, whole: Callable[[str], Path], kind: str, number: int
) -> None:
    expected = whole(kind)
    assert refused_at(expected.parent / "recipe.toml", tmp_path / "run", number, apart=2) > 15
    assert outcome(tmp_path / "run") == outcome(expected)


def refused_at(recipe: Path, out: Path, number: int, apart: int) -> int:
    """Lives one session after the other; in each, the disk refuses from some steps later on. Returns how many were refused."""
    for session in itertools.count(1):
        try:
            with from_step(apart * session, refusal(number)):
                live(recipe, out)
        except ShuyuanError as error:
            check_refusal(error, number, out.parent)
        else:
            return session - 1
    raise AssertionError


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A disk of its own, where this user may mount one."""
    folder = Path(tempfile.mkdtemp())
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if made.returncode:
        folder.rmdir()
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.mark.parametrize("kind", ["open", "sealed"])
def test_a_disk_that_is_full_again_and_again(whole: Callable[[str], Path], kind: str) -> None:
    expected = whole(kind)
    with small_disk("32k") as disk:
        refused, size = 0, 32
        while True:
            try:
                live(expected.parent / "recipe.toml", disk / "run")
                break
            except ShuyuanError as error:
                check_refusal(error, errno.ENOSPC, disk)
                refused += 1
            size = size * 8 // 5
            remount(disk, f"size={size}k")
        assert refused > 3
        assert outcome(disk / "run") == outcome(expected)


def test_a_disk_that_becomes_read_only(whole: Callable[[str], Path]) -> None:
    expected = whole("sealed")
    recipe = expected.parent / "recipe.toml"
    with small_disk("8m") as disk:
        for verb in VERBS:
            remount(disk, "ro")
            with pytest.raises(MachineError) as caught:
                do(verb, recipe, disk / "run")
            check_refusal(caught.value, errno.EROFS, disk)
            if verb != "prepare":
                assert pipeline.verify(disk / "run")["ok"]  # who only reads, reads
            remount(disk, "rw")
            do(verb, recipe, disk / "run")
        assert outcome(disk / "run") == outcome(expected)


# ---- permission ----------------------------------------------------------------------------------------------------


@contextmanager
def somebody(folder: Path) -> Iterator[None]:
    """Works as a user whom permissions bind: root becomes nobody, who then owns the folder and all in it."""
    if os.geteuid():
        yield
        return
    for file in (folder, *folder.rglob("*")):
        os.chown(file, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def own() -> Iterator[Path]:
    """A folder that anybody may have, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["open", "sealed"])
def test_permission_that_is_lost(
    own: Path, whole: Callable[[str], Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outcome(whole(kind))
    recipe = tiny(own, kind)
    monkeypatch.setenv("SHUYUAN_HOME", str(own / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(shutil.copytree(os.environ["XDG_CACHE_HOME"], own / "cache")))
    run = own / "run"
    do("prepare", recipe, run)
    with somebody(own):
        for file in (
            run / "recipe.toml",
            max((run / "data").iterdir(), key=lambda file: file.stat().st_size),
            run / "data",
        ):
            mode = file.stat().st_mode
            file.chmod(0)
            told = shuyuan("train", run, "--json")
            assert told.status == 1
            error = told.json["error"]
            assert error["code"] in ("machine.cannot-read", "machine.os-error", "machine.cannot-write"), error
            assert Path(error["where"]).is_relative_to(run) and "ermission" in error["what"]
            file.chmod(mode)
        for verb in ("train", "evaluate"):
            run.chmod(0o555)
            with pytest.raises(MachineError) as caught:
                do(verb, recipe, run)
            check_refusal(caught.value, errno.EACCES, run)
            run.chmod(0o755)
            do(verb, recipe, run)
        live(recipe, run)
        assert outcome(run) == expected


# ---- the clock -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sealed", "private"])
def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, whole: Callable[[str], Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, choose, clock = whole(kind), random.Random(1), time.time
    monkeypatch.setattr(time, "time", lambda: clock() + choose.uniform(-20, 20) * 365 * 86400)
    live(expected.parent / "recipe.toml", tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(expected)
    verified = pipeline.verify(tmp_path / "run")
    assert (
        verified["ok"] and verified["epsilon_recomputed"] == pipeline.verify(expected)["epsilon_recomputed"]
    )
    with pipeline.begin(tmp_path / "run", "report") as job:
        pipeline.write_report(job)
        times = [entry["time"] for entry in job.store.journal("metrics.jsonl").entries()]
    assert times != sorted(times)  # it did jump


def test_a_budget_of_time_is_measured_by_a_clock_that_cannot_jump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(tmp_path, "open")
    recipe.write_text(recipe.read_text().replace("6 steps", "1 s").replace("5 steps", "10 min"))
    clock, jumps = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: clock() + 3600 * (-1) ** next(jumps))
    do("prepare", recipe, tmp_path / "run")
    do("train", recipe, tmp_path / "run")
    with pipeline.look(tmp_path / "run") as job:
        events = list(job.store.journal("metrics.jsonl").entries())
        steps = job.recipe.train.steps
    assert steps is not None and 1 < steps < 50_000  # hours would have been one step, or millions
    written = [entry["step"] for entry in events if entry["event"] == "train.checkpoint"]
    assert len(written) <= 7  # the safe points alone


# ---- two processes -------------------------------------------------------------------------------------------------


def _hold(out: Path, verb: str, started: Any) -> None:
    with Run(out).lock(verb):
        started.set()
        time.sleep(600)


@contextmanager
def another_process(out: Path, verb: str) -> Iterator[multiprocessing.process.BaseProcess]:
    forks = multiprocessing.get_context("forkserver")
    started = forks.Event()
    process = forks.Process(target=_hold, args=(out, verb, started))
    process.start()
    try:
        assert started.wait(120)
        yield process
    finally:
        process.kill()
        process.join()


def test_a_second_process_is_told_who_is_at_work_and_since_when(
    tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    recipe = whole("open").parent / "recipe.toml"
    run = tmp_path / "run"
    do("prepare", recipe, run)
    with another_process(run, "train") as first:
        for verb in VERBS[:-1]:
            with pytest.raises(RunError) as caught:
                do(verb, recipe, run)
            assert caught.value.code == "run.locked"
            said = re.search(r"\(train, process (\d+) on (.+), since (\d{4}-.+)\)", caught.value.what)
            assert said and said[1] == str(first.pid) and said[2] == os.uname().nodename
        assert pipeline.verify(run)["ok"]  # who reads need not wait
        os.kill(first.pid or 0, signal.SIGKILL)
        first.join()
        do("train", recipe, run)  # a lock dies with who holds it
    with pipeline.look(run) as job:
        notices = [e for e in job.store.journal("metrics.jsonl").entries() if e["event"] == "notice"]
    killed = next(notice["text"] for notice in notices if notice["code"] == "run.killed")
    assert f"train, process {first.pid} on " in killed and "want of memory" in killed
    with pipeline.look(run) as job:
        expected = size(job.store.read_json("plan.json")["peak_bytes"]["expected"])
    assert f"The plan counts on {expected} of memory at the peak" in killed
    do("evaluate", recipe, run)
    assert (run / LOCK_FILE).read_text() == ""


@pytest.mark.parametrize("left", ["", "{", "[]", '{"verb": 1}', "\0" * 100])
def test_a_lock_that_says_nothing_is_one_all_the_same(tmp_path: Path, left: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK_FILE).write_text(left)
    with Run(tmp_path / "run").lock("train") as killed:
        assert killed is None
        (tmp_path / "run" / LOCK_FILE).write_text(left)
        with pytest.raises(RunError, match="owner unknown"), Run(tmp_path / "run").lock("train"):
            pass
    with Run(tmp_path / "run").lock("train") as killed:
        assert killed is None


# ---- memory --------------------------------------------------------------------------------------------------------

EXHAUSTED = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"),
]


@pytest.mark.parametrize("error", EXHAUSTED[2:], ids=lambda error: type(error).__name__)
def test_memory_that_ends_in_a_step_costs_the_steps_since_the_last_checkpoint(
    tmp_path: Path, whole: Callable[[str], Path], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole("open")
    recipe = expected.parent / "recipe.toml"
    do("prepare", recipe, tmp_path / "run")
    step = TorchBackend.step

    def exhausting(self: TorchBackend, batch: Any, rate: float) -> Any:
        if batch.step == 4:
            raise error
        return step(self, batch, rate)

    with monkeypatch.context() as patch, pytest.raises(MachineError) as caught:
        patch.setattr(TorchBackend, "step", exhausting)
        do("train", recipe, tmp_path / "run")
    assert caught.value.code == "machine.out-of-memory"
    assert "in step 4; the checkpoint of step 2 is whole" in caught.value.what
    live(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(expected)


@pytest.mark.parametrize("error", EXHAUSTED, ids=lambda error: type(error).__name__)
def test_memory_that_ends_elsewhere_is_told(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausting(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(data, "prepare", exhausting)
    told = shuyuan("prepare", tiny(tmp_path, "open"), "--out", tmp_path / "run", "--json")
    assert (told.status, told.json["error"]["code"]) == (1, "machine.out-of-memory")


def _with_little_memory(recipe: Path, out: Path, environment: dict[str, str], told: Any) -> None:
    os.environ.update(environment)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (60 << 20),) * 2)
    try:
        do("train", recipe, out)
    except MachineError as error:
        told.send(str(error))
    told.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is set beyond what is in use")
def test_a_process_that_may_not_take_what_it_needs(tmp_path: Path) -> None:
    """Not injected: the system refuses memory to PyTorch itself."""
    recipe = tiny(tmp_path, "open")
    wide = recipe.read_text().replace("width = 32", "width = 256").replace("hidden = 64", "hidden = 1024")
    recipe.write_text(wide.replace("batch_size = 4", "batch_size = 64"))
    for name in ("run", "whole"):
        do("prepare", recipe, tmp_path / name)
    forks = multiprocessing.get_context("forkserver")
    heard, told = forks.Pipe(duplex=False)
    process = forks.Process(
        target=_with_little_memory, args=(recipe, tmp_path / "run", dict(os.environ), told)
    )
    process.start()
    told.close()
    said = heard.recv()
    process.join()
    assert "machine.out-of-memory" in said and "in step 1; the checkpoint of step 0 is whole" in said
    for name in ("run", "whole"):
        live(recipe, tmp_path / name)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
