"""What this machine is: device, name, cores, memory and instruction sets, read in well under 100 ms and without torch.

A container's limits count, not the machine's: a process that may use 2 of 64 cores and 4 of 512 GB plans with 2 and 4.
"""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

# The instruction sets that change which precision pays or how fast sealing is; Linux's names, on every platform.
FEATURES = (
    "aes", "amx_bf16", "amx_int8", "asimd", "avx2", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx512f", "bf16", "sve", "vaes",
)  # fmt: skip
_APPLE = {
    "arm.FEAT_BF16": "bf16",
    "arm.FEAT_AES": "aes",
    "AdvSIMD": "asimd",
    "avx2_0": "avx2",
    "avx512f": "avx512f",
}


@dataclass(frozen=True)
class Hardware:
    """The machine as a plan sees it.

    Attributes:
        device: where the model trains, "cuda" for an NVIDIA GPU that the installed torch can use.
        name: the processor's or GPU's own name.
        cores: CPU cores that this process may use.
        memory_bytes: memory of the device: the GPU's, or what this process may use of the machine's; 0 if unknown.
        features: instruction sets, or a GPU's compute capability as "compute_9.0".
    """

    device: Literal["cpu", "cuda"]
    name: str
    cores: int
    memory_bytes: int
    features: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The facts as `doctor --json` prints them."""
        return asdict(self) | {"features": list(self.features)}

    @property
    def compute_capability(self) -> float:
        """NVIDIA's generation of a GPU, 9.0 for an H100; 0.0 on a CPU."""
        found = [feature for feature in self.features if feature.startswith("compute_")]
        return float(found[0].removeprefix("compute_")) if found else 0.0


@cache
def detect() -> Hardware:
    """The facts of this machine, read once a process; of several processes that train together, each has its share of cores and memory."""
    beside = max(
        1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    )  # processes that torchrun started on this machine
    cores = max(1, _cores(Path("/")) // beside)
    gpu = None if torch_is_cpu_only() else nvidia_gpu()
    if gpu:
        name, memory, capability = gpu
        return Hardware("cuda", name, cores, memory, (f"compute_{capability}",))
    name, features = _processor()
    return Hardware("cpu", name, cores, _memory(Path("/")) // beside, features)


def torch_is_cpu_only() -> bool:
    """Whether the installed torch was built without CUDA, told from its version alone."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def nvidia_gpu() -> tuple[str, int, str] | None:
    """(name, memory in bytes, compute capability) of the first GPU that this process may see, or None."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = "0" if visible is None else visible.split(",")[0].strip()
    tool = shutil.which("nvidia-smi")
    if tool is None or chosen in ("", "-1"):
        return None
    query = [tool, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits", "-i", chosen]
    found = re.search(r"(?m)^(.+), *(\d+), *(\d+\.\d+) *$", _output(query))
    return (found[1].strip(), int(found[2]) << 20, found[3]) if found else None


def _processor() -> tuple[str, tuple[str, ...]]:
    try:
        return _from_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return _from_sysctl(_output(["sysctl", "machdep.cpu.brand_string", "hw.optional"]))


def _from_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and features from Linux's /proc/cpuinfo; Arm's lists `Features` and often no name."""
    name = re.search(r"(?m)^model name\s*: *(.+)$", text)
    flags = re.search(r"(?m)^(?:flags|Features)\s*: *(.+)$", text)
    present = set(flags[1].split()) if flags else set()
    return name[1].strip() if name else _plain_name(), tuple(sorted(present & set(FEATURES)))


def _from_sysctl(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and features from macOS's sysctl, one `key: value` a line."""
    values = dict(re.findall(r"(?m)^([\w.]+): *(.*)$", text))
    present = {word for key, word in _APPLE.items() if values.get("hw.optional." + key) == "1"}
    return values.get("machdep.cpu.brand_string") or _plain_name(), tuple(sorted(present))


def _plain_name() -> str:
    return platform.processor() or platform.machine() or "unknown processor"


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _cores(root: Path) -> int:
    """Cores by affinity, cut to the container's quota: a quota of 1.5 cores is 2 threads."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quotas = [_quota(folder) for folder in (*_cgroups(root, "cpu"), *_cgroups(root, ""))]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas if quota)]))


def _memory(root: Path) -> int:
    """Bytes of memory, cut to the container's limit; 0 where neither can be known."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        physical = 0
    limits = [_number(folder / "memory.limit_in_bytes") for folder in _cgroups(root, "memory")]
    limits += [_number(folder / "memory.max") for folder in _cgroups(root, "")]
    return min((limit for limit in (physical, *limits) if limit), default=0)


def _cgroups(root: Path, controller: str) -> list[Path]:
    """Folders whose limits bind this process: its control group and all above it; controller "" means version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controllers
            if controller and not base.is_dir():
                base = root / "sys/fs/cgroup" / controller
            own = base / path.strip("/")
            return [own, *(above for above in own.parents if above.is_relative_to(base))]
    return []


def _quota(folder: Path) -> float | None:
    """Cores that a control group may use, in either version's files."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        return quota_us / period_us if quota_us and period_us else None


def _number(file: Path) -> int | None:
    """The positive number in a control file; None for "max", -1 or no such file."""
    try:
        value = int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if value > 0 else None
