"""How fast this machine is, measured once in under two seconds and cached for the user.

The cache is `hardware.json` in the user's cache folder, keyed by the machine's facts and torch's version, so that a
shared home serves many machines. Once it is there, no torch is loaded to read it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import Progress
from .facts import Hardware
from .precision import has_bf16

if TYPE_CHECKING:
    import torch

FORMAT = 1  # a change in how a rate is measured makes old caches void
SLICE_SECONDS = 0.2  # what one rate may take; the best of several repetitions counts
QUIET_SHARE = 0.6  # of the cores' time that must have been ours, or the rates are not kept


@dataclass(frozen=True)
class Rates:
    """What the machine reaches on large, plain work; real steps reach a share of it.

    Attributes:
        matmul_flops: operations a second of a large matrix product, for each precision.
        memory_bytes_per_second: reading plus writing, in a large copy.
        disk_bytes_per_second: writing, until the bytes are safe on disk.
        measured: False where the rates are a rule of thumb.
        computing, calling: how many times as long as by the formula of planning/time.py steps take here for their numbers, and
            for calling torch; 1 where that was not measured.
    """

    matmul_flops: dict[str, float]
    memory_bytes_per_second: float
    disk_bytes_per_second: float
    measured: bool = True
    computing: float = 1.0
    calling: float = 1.0


_measured: dict[str, Any] = {}  # by this process, for where nothing can be cached


def cache_folder() -> Path:
    """The user's cache folder for Shuyuan: $XDG_CACHE_HOME/shuyuan, or ~/.cache/shuyuan. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "shuyuan"


def measured_rates(hardware: Hardware, progress: Progress) -> Rates:
    """The rates of this machine, from the cache or measured now.

    Args:
        hardware: the machine that this process runs on.
        progress: shows the measurement, and hears of a cache folder that cannot be written.
    """

    def measure() -> tuple[dict[str, Any], bool]:
        rates, share = _measure(hardware, progress)
        if share < QUIET_SHARE:
            progress.say(
                "hardware.busy",
                "Other work is keeping this machine busy, so predicted times are too long; it is measured again next time.",
            )
        return asdict(rates), share >= QUIET_SHARE

    return Rates(**remembered("hardware.json", "", hardware, measure, progress, _sound))


def remembered(
    name: str,
    what: str,
    hardware: Hardware,
    measure: Callable[[], tuple[dict[str, Any], bool]],
    progress: Progress,
    sound: Callable[[Any], bool] = lambda entry: isinstance(entry, dict),
) -> dict[str, Any]:
    """What was measured of a machine, from a file of the cache folder or measured now.

    Args:
        name: of the file.
        what: of that machine, in a word.
        hardware: the machine that this process runs on.
        measure: gives it, and whether it may be kept.
        progress: hears of a cache folder that cannot be written.
        sound: whether what a file holds can be used.
    """
    file, key = cache_folder() / name, what + _key(hardware)
    known = _read_cache(file)
    found = known.get(key, _measured.get(name + key))
    if found is None or not sound(found):
        found, keep = measure()
        if keep:
            _write_cache(file, known | {key: found}, progress)
        _measured[name + key] = found
    return dict(found)


def assumed_rates(hardware: Hardware) -> Rates:
    """Rules of thumb for a machine that was not measured: right within a factor of about three.

    Args:
        hardware: its device, cores and features are looked at.
    """
    if hardware.device == "cuda":
        # Dense half-precision rates of the common data-centre card of each generation: V100, A100, H100, B200.
        half = {7: 100e12, 8: 250e12, 9: 800e12}.get(int(hardware.compute_capability), 1500e12)
        return Rates({"fp32": half / 10, "bf16": half, "fp16": half}, 1.5e12, 1e9, measured=False)
    wide = "avx512f" in hardware.features
    fp32 = hardware.cores * (80e9 if wide else 40e9)
    bf16 = fp32 * (2 if has_bf16(hardware) else 0.1)
    return Rates({"fp32": fp32, "bf16": bf16}, 20e9, 0.5e9, measured=False)


# ---- the cache -----------------------------------------------------------------------------------------------------


def _key(hardware: Hardware) -> str:
    facts = json.dumps([FORMAT, hardware.to_json(), metadata.version("torch")], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _read_cache(file: Path) -> dict[str, Any]:
    """What is cached; a missing or damaged file is an empty one, and the machine is measured anew."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _sound(entry: Any) -> bool:
    """Whether an entry of the cache is rates."""
    try:
        rates = Rates(**entry)
        flat = [*rates.matmul_flops.values(), rates.memory_bytes_per_second, rates.disk_bytes_per_second]
        return "fp32" in rates.matmul_flops and all(0 < rate < math.inf for rate in flat)
    except (TypeError, AttributeError):
        return False


def _write_cache(file: Path, known: dict[str, Any], progress: Progress) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".partial", delete=False) as out:
            json.dump(known, out, indent=1)
        Path(out.name).replace(file)
    except OSError as error:
        progress.say(
            "hardware.cache-not-saved",
            f"The machine's rates could not be saved in {file} ({error.strerror}); they are measured again each time.",
        )


# ---- measuring -----------------------------------------------------------------------------------------------------


def _measure(hardware: Hardware, progress: Progress) -> tuple[Rates, float]:
    """The rates, and the share of the cores that this process got meanwhile."""
    import torch

    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if hardware.device == "cuda":
        formats["fp16"] = torch.float16
    threads = torch.get_num_threads()
    matmul = {}
    with progress.stage("measure this machine", len(formats) + 3, "rates") as stage, torch.no_grad():
        torch.set_num_threads(hardware.cores)
        try:
            for name, dtype in formats.items():
                matmul[name] = _matmul_rate(hardware.device, dtype)
                stage.advance()
            memory = _memory_rate(hardware.device)
            stage.advance()
            share = _share_of_cores(hardware)
            stage.advance()
        finally:
            torch.set_num_threads(threads)
        disk = _disk_rate()
        stage.advance()
    return Rates(matmul, memory, disk), share


def _share_of_cores(hardware: Hardware) -> float:
    """Processor time over wall time and cores, while all cores multiply: 1 on a quiet machine, less on a busy one."""
    import torch

    if hardware.device == "cuda":
        return 1.0
    left = torch.ones(1024, 1024)
    begun, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < SLICE_SECONDS / 2:
        left @ left
    return (time.process_time() - used) / (time.perf_counter() - begun) / hardware.cores


def _matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Operations a second of an n x n product, n doubled while one product stays short.

    Formats without instructions of their own can be hundreds of times slower, so it begins small.
    """
    import torch

    n, seconds = 256, 0.0
    while True:
        left = torch.randn(n, n, device=device).to(dtype)
        seconds = _best(lambda left=left: left @ left, device)  # type: ignore[misc]
        if seconds > 0.004 or n >= 8192:
            return 2 * n**3 / seconds
        n *= 2


def _memory_rate(device: str) -> float:
    import torch

    count = 64 << 20 if device == "cpu" else 512 << 20
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / _best(lambda: target.copy_(source), device)


def _best(work: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of a few repetitions, after one to warm up; a GPU is waited for."""
    import torch

    def once() -> float:
        begun = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    best, begun = once(), time.perf_counter()
    for _ in range(20):
        if time.perf_counter() - begun + best > SLICE_SECONDS:
            break
        best = min(best, once())
    return best


def _disk_rate() -> float:
    """Bytes a second written and synced, in the temporary folder."""
    block, written = os.urandom(4 << 20), 0
    with tempfile.TemporaryFile() as out:
        begun = time.perf_counter()
        while written < 64 << 20 and time.perf_counter() - begun < SLICE_SECONDS:
            written += out.write(block)
            out.flush()
            os.fsync(out.fileno())
        return written / (time.perf_counter() - begun)
