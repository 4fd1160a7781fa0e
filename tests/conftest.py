"""What every test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shuyuan  # noqa: F401 - before torch, which a test module may load first: it bounds how long torch's threads spin
from tests.chromium import chromium

ROOT = Path(__file__).parents[1]


def share_out_cores() -> None:
    """Of several test processes (pytest -n) each has its share of the cores, as processes that train together have: on more threads
    than cores the same small training takes more than twice the processor time. A test process that is alone has all of them."""
    beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if beside > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        os.sched_setaffinity(0, cores[number % len(cores) :: beside])


share_out_cores()


@pytest.fixture
def shared_data() -> Path:
    """The folder of public data sets that lies beside a checkout; its licence keeps it out of the project."""
    folder = ROOT / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the public data sets of ../shared/data are not here")
    return folder.resolve()


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The machine's rates are measured once a session, also while other tests keep it busy."""
    from shuyuan import hardware, planning
    from shuyuan.hardware import rates
    from shuyuan.planning import pace
    from shuyuan.progress import Progress

    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(rates, "QUIET_SHARE", 0.0)
        patch.setattr(pace, "STEADY", 1e9)
        planning.measured_pace(hardware.detect(), Progress())
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ledgers of data sets last as long as the runs that modules share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHUYUAN_HOME", str(tmp_path_factory.mktemp("shuyuan")))
        yield


@pytest.fixture(autouse=True)
def _own_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, _cache: Path
) -> None:
    """No test reads or writes the home of the person who runs it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(_cache))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))


@pytest.fixture(scope="module", autouse=True)
def _own_garbage() -> None:
    """The stages of a run collect garbage, five times a run. What stood before a module's tests, the frameworks and all the tests, is
    none: to look through it takes half a second each time, and with it a run of four steps took 2.9 s instead of 0.7."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. Not for longer than a module: its loop runs as long, and others want their own."""
    with chromium() as started:
        yield started
