"""kill -9 at any moment of any verb: the same command goes on, ends where an undisturbed one ends, and takes no half for whole."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from shuyuan import pipeline, vault
from shuyuan.runs import Run

from .faults import KEY, SECRET, VERBS, Death, do, exported, from_step, live, outcome, session, tiny


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is no passphrase, and no waiting for the disk."""
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def check_nothing_is_half(out: Path) -> None:
    """What is there after a kill is whole, before anything mends it: a reader sees no damage, and an export has its name or is not."""
    if Run(out).exists:
        recipe = Run(out).recipe()
        with vault.open_store(Run(out), recipe.vault and recipe.vault.key, writable=False) as store:
            assert store.verify() == []
            for name in store.names():
                list(store.journal(name).entries()) if name.endswith(".jsonl") else store.read(name)
    if exported(out).exists():
        assert (exported(out) / "model.safetensors").stat().st_size > 1000


def lived(recipe: Path, out: Path, first: int) -> int:
    """Lives one session after the other; each dies some steps on the disk later than the one before. Returns how many died."""
    deaths = 0
    while True:
        try:
            with from_step(first * (deaths + 1), Death):
                live(recipe, out)
        except Death:
            deaths += 1
            check_nothing_is_half(out)
        else:
            return deaths


@pytest.mark.parametrize(("kind", "first"), [("open", 29), ("sealed", 71), ("private", 31)])
def test_killed_again_and_again_a_run_ends_as_an_undisturbed_one(
    tmp_path: Path, kind: str, first: int
) -> None:
    recipe = tiny(tmp_path, kind)
    live(recipe, tmp_path / "whole")
    assert lived(recipe, tmp_path / "killed", first) > 3
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    ends = [pipeline.verify(tmp_path / name) for name in ("killed", "whole")]
    assert ends[0]["epsilon_recomputed"] == ends[1]["epsilon_recomputed"]  # what was spent is spent once
    assert ends[0]["ok"] and (ends[0]["epsilon_recomputed"] is not None) == (kind == "private")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["open", "sealed", "private"])
def test_killed_between_any_two_steps_on_the_disk(tmp_path: Path, kind: str) -> None:
    """Each verb, killed once before every step of it."""
    recipe = tiny(tmp_path, kind)
    live(recipe, tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    before = tmp_path / "before"
    for verb in VERBS:
        for first in range(10_000):
            out = tmp_path / "killed"
            _copy(before, out)
            try:
                with from_step(first, Death):
                    do(verb, recipe, out)
                break
            except Death:
                check_nothing_is_half(out)
                do(verb, recipe, out)
                assert outcome_so_far(out).items() <= expected.items(), (verb, first)
        assert first > 5
        _copy(out, before)
    assert outcome(before) == expected


def outcome_so_far(out: Path) -> dict[str, bytes]:
    """As `outcome`, but for checkpoints, which go as training goes on."""
    return {name: data for name, data in outcome(out).items() if not name.startswith("checkpoints/")}


def _copy(source: Path, target: Path) -> None:
    for one, other in ((source, target), (exported(source), exported(target))):
        shutil.rmtree(other, ignore_errors=True)
        if one.exists():
            shutil.copytree(one, other)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["open", "sealed"])
def test_processes_killed_at_random_moments(tmp_path: Path, kind: str) -> None:
    """25 moments of each kind of run, spread over the verbs, each a process that SIGKILL ends."""
    seed = time.time_ns()
    choose = random.Random(seed)
    recipe = tiny(tmp_path, kind, steps=60)
    whole, out, before = tmp_path / "whole", tmp_path / "killed", tmp_path / "before"
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(
        ["tests.faults", "shuyuan.train", "shuyuan.evaluate", "shuyuan.export", "torch"]
    )

    def started(verb: str, out: Path) -> multiprocessing.process.BaseProcess:
        process = forks.Process(target=session, args=(verb, recipe, out, dict(os.environ)))
        process.start()
        return process

    for verb in VERBS:
        begun = time.monotonic()
        process = started(verb, whole)
        process.join()
        took = time.monotonic() - begun
        assert process.exitcode == 0
        kills = 0
        while kills < 5:
            _copy(before, out)
            for _ in range(choose.randint(1, 2)):  # some die again as they go on
                process = started(verb, out)
                process.join(choose.uniform(0, took))
                process.kill()
                process.join()
                kills += process.exitcode == -9
                check_nothing_is_half(out)
            process = started(verb, out)
            process.join()
            assert process.exitcode == 0, (verb, seed)
            assert outcome(out) == outcome(whole), (verb, seed)
        _copy(out, before)
