"""What this machine is: container limits are obeyed, precision follows the hardware, rates are measured once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shuyuan import hardware
from shuyuan.hardware import Hardware, Rates, choose_precision, facts, rates
from shuyuan.progress import Progress

PLAIN = Hardware("cpu", "old processor", 4, 8 << 30, ("aes", "avx2"))
ZEN4 = Hardware("cpu", "AMD EPYC", 2, 8 << 30, ("avx512_bf16", "avx512f"))
XEON = Hardware("cpu", "Intel(R) Xeon(R) Platinum 8481C", 2, 8 << 30, ("amx_bf16", "avx512f"))
HIDDEN = Hardware(
    "cpu", "Intel(R) Xeon(R) Processor", 2, 8 << 30, ("avx512_bf16", "avx512f")
)  # AMX, from its guest
H100 = Hardware("cuda", "NVIDIA H100", 16, 80 << 30, ("compute_9.0",))
A100 = Hardware("cuda", "NVIDIA A100", 16, 40 << 30, ("compute_8.0",))
V100 = Hardware("cuda", "Tesla V100", 16, 32 << 30, ("compute_7.0",))
P40 = Hardware("cuda", "Tesla P40", 16, 24 << 30, ("compute_6.1",))
SPEED = Rates({"fp32": 1e11, "bf16": 2e11}, 2e10, 1e9)


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _own_home: None) -> Iterator[None]:
    """A cache folder of its own for each test, and nothing known from before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    facts.detect.cache_clear()
    rates._measured.clear()
    yield
    facts.detect.cache_clear()
    rates._measured.clear()


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


# ---- facts ---------------------------------------------------------------------------------------------------------


def test_detect_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys, time; from shuyuan import hardware; begun = time.process_time(); found = hardware.detect();"
        "print(time.process_time() - begun, found.cores, found.memory_bytes); assert 'torch' not in sys.modules"
    )
    hidden = dict(os.environ, CUDA_VISIBLE_DEVICES="")
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=hidden
    ).stdout
    seconds, cores, memory = (float(word) for word in out.split())
    assert seconds < 0.1
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert memory > 1 << 28


def test_version_2_limits_bind_from_any_level_above(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/kube/pod/box\n",
            "sys/fs/cgroup/kube/pod/box/memory.max": "max\n",
            "sys/fs/cgroup/kube/pod/box/cpu.max": "max 100000\n",
            "sys/fs/cgroup/kube/pod/memory.max": "104857600\n",
            "sys/fs/cgroup/kube/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/kube/memory.max": "204857600\n",
        },
    )
    assert facts._memory(root) == 104857600
    assert facts._cores(root) == 1


def test_version_1_limits_bind_also_when_the_path_is_the_hosts(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "52428800\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert facts._memory(root) == 52428800
    assert facts._cores(root) == 1


def test_an_unlimited_group_limits_nothing(tmp_path: Path) -> None:
    unlimited = {
        "proc/self/cgroup": "5:memory:/\n4:cpu:/\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory.max": "max\n",
    }
    assert facts._memory(put(tmp_path, unlimited)) == facts._memory(tmp_path / "nothing") > 0
    assert facts._cores(tmp_path) == facts._cores(tmp_path / "nothing") >= 1


def test_one_and_a_half_cores_are_two_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    root = put(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000"})
    assert facts._cores(root) == 2


def test_affinity_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert facts._cores(tmp_path) == 3


def test_a_system_without_these_calls_still_gives_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert facts._cores(tmp_path) == os.cpu_count()
    assert facts._memory(tmp_path) == 0


def test_linux_processors_are_read() -> None:
    x86 = "processor\t: 0\nmodel name\t: AMD EPYC 9R45\nflags\t\t: fpu aes avx2 avx512f avx512_bf16 rdrand\n"
    assert facts._from_cpuinfo(x86) == ("AMD EPYC 9R45", ("aes", "avx2", "avx512_bf16", "avx512f"))
    name, features = facts._from_cpuinfo("processor : 0\nFeatures : fp asimd aes bf16 sve\n")
    assert name and features == ("aes", "asimd", "bf16", "sve")


def test_apple_processors_are_read() -> None:
    text = (
        "machdep.cpu.brand_string: Apple M3 Max\nhw.optional.arm.FEAT_BF16: 1\n"
        "hw.optional.AdvSIMD: 1\nhw.optional.avx512f: 0\n"
    )
    assert facts._from_sysctl(text) == ("Apple M3 Max", ("asimd", "bf16"))
    assert facts._from_sysctl("")[0]


def fake_nvidia(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\necho "{line}"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(facts, "torch_is_cpu_only", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_an_nvidia_gpu_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia(tmp_path, monkeypatch, "NVIDIA H100 80GB HBM3, 81559, 9.0")
    found = facts.detect()
    assert (found.device, found.name, found.memory_bytes) == ("cuda", "NVIDIA H100 80GB HBM3", 81559 << 20)
    assert found.compute_capability == 9.0


def test_the_visible_gpu_is_asked_for_and_a_hidden_one_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia(tmp_path, monkeypatch, "Tesla V100, 32768, 7.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert facts.nvidia_gpu() is not None
    assert (tmp_path / "asked").read_text().split()[-2:] == ["-i", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert facts.nvidia_gpu() is None
    assert facts.detect().device == "cpu"


def test_a_gpu_that_torch_cannot_use_is_not_planned_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia(tmp_path, monkeypatch, "Tesla V100, 32768, 7.0")
    monkeypatch.setattr(facts, "torch_is_cpu_only", lambda: True)
    assert facts.detect().device == "cpu"


def test_a_broken_driver_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia(tmp_path, monkeypatch, "NVIDIA-SMI has failed because it could not talk to the driver.")
    assert facts.detect().device == "cpu"


# ---- precision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (PLAIN, "fp32"),
        (ZEN4, "bf16"),
        (XEON, "bf16"),
        (HIDDEN, "fp32"),
        (H100, "bf16"),
        (A100, "bf16"),
        (V100, "fp16"),
        (P40, "fp32"),
    ],
)
def test_auto_takes_what_the_hardware_has(machine: Hardware, expected: str) -> None:
    progress = Progress()
    assert choose_precision("auto", machine, progress) == expected
    assert progress.said == {}


@pytest.mark.parametrize(
    ("asked", "machine", "said"),
    [
        ("bf16", PLAIN, {"hardware.slow-bf16"}),
        ("bf16", V100, {"hardware.slow-bf16"}),
        ("bf16", ZEN4, set()),
        ("bf16", HIDDEN, {"hardware.slow-bf16"}),
        ("fp16", PLAIN, {"hardware.slow-fp16"}),
        ("fp16", V100, set()),
        ("fp32", H100, set()),
    ],
)
def test_what_is_asked_for_is_obeyed_and_a_slow_choice_is_said(
    asked: str, machine: Hardware, said: set[str]
) -> None:
    progress = Progress()
    assert choose_precision(asked, machine, progress) == asked  # type: ignore[arg-type]
    assert set(progress.said) == said


# ---- rates ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Hardware]:
    """Machines that were measured; measuring itself is faked."""
    calls: list[Hardware] = []

    def measure(machine: Hardware, progress: Progress) -> tuple[Rates, float]:
        calls.append(machine)
        return SPEED, 1.0

    monkeypatch.setattr(rates, "_measure", measure)
    return calls


def test_rates_are_measured_once_for_each_machine(measured: list[Hardware]) -> None:
    for machine in (PLAIN, PLAIN, ZEN4, PLAIN, ZEN4):
        assert rates.measured_rates(machine, Progress()) == SPEED
        rates._measured.clear()  # as in a new process
    assert measured == [PLAIN, ZEN4]


def test_another_torch_is_measured_anew(measured: list[Hardware], monkeypatch: pytest.MonkeyPatch) -> None:
    rates.measured_rates(PLAIN, Progress())
    monkeypatch.setattr(rates.metadata, "version", lambda _: "99.0")
    rates.measured_rates(PLAIN, Progress())
    assert len(measured) == 2


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"\xff\x00", b'{"KEY": null}', b'{"KEY": {"matmul_flops": 1}}',
        b'{"KEY": {"matmul_flops": {"fp32": -1}, "memory_bytes_per_second": 1, "disk_bytes_per_second": 1}}',
        b'{"KEY": {"matmul_flops": {"fp32": NaN}, "memory_bytes_per_second": 1, "disk_bytes_per_second": 1}}',
        b'{"KEY": {"matmul_flops": {"fp32": 1}, "memory_bytes_per_second": "fast", "disk_bytes_per_second": 1}}',
    ],
)  # fmt: skip
def test_a_damaged_cache_is_measured_anew_and_mended(measured: list[Hardware], damage: bytes) -> None:
    file = hardware.cache_folder() / "hardware.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(damage.replace(b"KEY", rates._key(PLAIN).encode()))
    for _ in range(2):
        assert rates.measured_rates(PLAIN, Progress()) == SPEED
        rates._measured.clear()  # as in a new process
    assert len(measured) == 1


def test_a_cache_that_cannot_be_written_is_said_once(
    measured: list[Hardware], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    progress = Progress()
    assert rates.measured_rates(PLAIN, progress) == rates.measured_rates(PLAIN, progress) == SPEED
    assert list(progress.said) == ["hardware.cache-not-saved"]
    assert len(measured) == 1  # once in a process


def test_rates_of_a_busy_machine_are_used_but_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_measure", lambda *_: (SPEED, 0.3))
    progress = Progress()
    assert rates.measured_rates(PLAIN, progress) == SPEED
    assert list(progress.said) == ["hardware.busy"]
    assert not (hardware.cache_folder() / "hardware.json").exists()


def test_the_real_measurement_is_short_and_sane(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(rates, "QUIET_SHARE", 0.0)  # the machine that runs the tests may well be busy

    machine, threads = facts.detect(), torch.get_num_threads()
    begun = time.thread_time()
    found = rates.measured_rates(machine, Progress())
    assert time.thread_time() - begun < 3
    assert torch.get_num_threads() == threads
    assert all(1e8 < rate < 1e16 for rate in found.matmul_flops.values())
    assert 1e8 < found.memory_bytes_per_second < 1e14
    assert 1e5 < found.disk_bytes_per_second < 1e12
    saved = json.loads((hardware.cache_folder() / "hardware.json").read_text())
    assert rates.Rates(**saved[rates._key(machine)]) == found


def test_assumed_rates_say_that_they_are_assumed() -> None:
    for machine in (PLAIN, ZEN4, H100, V100):
        assumed = hardware.assumed_rates(machine)
        assert not assumed.measured
        assert assumed.matmul_flops["fp32"] > 0
    assert (
        hardware.assumed_rates(ZEN4).matmul_flops["bf16"] > hardware.assumed_rates(ZEN4).matmul_flops["fp32"]
    )
    assert (
        hardware.assumed_rates(PLAIN).matmul_flops["bf16"]
        < hardware.assumed_rates(PLAIN).matmul_flops["fp32"]
    )
