"""Which number format pays on this machine."""

from __future__ import annotations

from typing import Literal

from ..progress import Progress
from .facts import Hardware

Precision = Literal["bf16", "fp16", "fp32"]


def choose_precision(
    asked: Literal["auto", "bf16", "fp16", "fp32"], hardware: Hardware, progress: Progress | None = None
) -> Precision:
    """The number format of the matrix products.

    Args:
        asked: `train.precision` of the recipe. What is asked for by name is obeyed, and what it costs is said.
        hardware: where training runs.
        progress: hears of a format that is slower here than fp32.

    Returns:
        For "auto": bf16 on CPUs with AMX, on AMD's with AVX512-BF16 and on GPUs from compute capability 8.0; fp16 on GPUs
        with tensor cores but without bf16 (7.0 to 7.5); else fp32.
    """
    if asked == "auto":
        if has_bf16(hardware):
            return "bf16"
        return "fp16" if hardware.compute_capability >= 7 else "fp32"
    progress = progress or Progress()
    if asked == "bf16" and not has_bf16(hardware):
        progress.say(
            "hardware.slow-bf16",
            f"bf16 is slower than fp32 on {hardware.name}: it has no bf16 instructions, or slow ones.",
        )
    if asked == "fp16" and hardware.device == "cpu":
        better = "bf16" if has_bf16(hardware) else "fp32"
        progress.say(
            "hardware.slow-fp16", f"fp16 is made for GPUs; on {hardware.name} {better} is faster and safer."
        )
    return asked


def has_bf16(hardware: Hardware) -> bool:
    """Whether bf16 matrix products are faster than fp32 ones here.

    AMD's AVX512-BF16 makes them twice as fast. Intel's takes two cycles an instruction, of which fp32 starts four: beside AMX nobody
    notices, but a virtual machine may hide AMX, and then they take twice as long (docs/lab-notes.md).
    """
    if hardware.compute_capability >= 8 or "amx_bf16" in hardware.features:
        return True
    return "avx512_bf16" in hardware.features and "intel" not in hardware.name.lower()
