"""Hardware that is not here: accelerators by name, and how many of them, for `shuyuan plan --on`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from ..errors import MachineError
from .facts import Hardware
from .rates import Rates, assumed_rates
from .table import Accelerator, accelerators, own_file

MOST_DEVICES, LONGEST_NUMBER = 1_000_000, 12
# The CUDA capability of each name's generation: what decides whether bf16 is there is the table's own entry.
NO_BF16, WITH_BF16 = "compute_7.0", "compute_8.0"
DISK_BYTES_PER_SECOND = 2e9


@dataclass(frozen=True)
class Machines:
    """Where a plan is made for.

    Attributes:
        hardware: one device.
        rates: what it reaches.
        nodes: machines.
        each: devices in each of them.
        accelerator: the device's entry; None for a CPU.
    """

    hardware: Hardware
    rates: Rates
    nodes: int = 1
    each: int = 1
    accelerator: Accelerator | None = None

    @property
    def devices(self) -> int:
        return self.nodes * self.each


def machines(text: str) -> Machines:
    """Reads what `--on` was given.

    Args:
        text: "h100", "h100:8" (eight in one node), "a100-80g:64x8" (64 nodes of eight), or "cpu:32" (cores).

    Raises:
        MachineError: the name is unknown, or the number makes no sense; names the nearest known one.
    """
    found = re.fullmatch(r"\s*([A-Za-z0-9._-]+?)\s*(?::\s*(?:(\d+)\s*x\s*)?(\d+))?\s*", text)
    if found is None:
        raise _unclear(text, "it is no name with a number")
    if max(len(found[2] or ""), len(found[3] or "")) > LONGEST_NUMBER:
        raise _unclear(text, "so many devices are none that a run could have")
    key, nodes, each = found[1].lower(), int(found[2] or 1), int(found[3] or 1)
    if not 0 < nodes * each <= MOST_DEVICES:
        raise _unclear(text, f"{nodes * each:,} devices are none that a run could have")
    if key == "cpu":
        if found[2]:
            raise _unclear(text, "a run on CPUs has one machine")
        processor = Hardware("cpu", f"{each} cores", each, 0, ("avx512f",))
        return Machines(processor, assumed_rates(processor))
    device = _named(key)
    capability = WITH_BF16 if "bf16" in device.flops else NO_BF16
    hardware = Hardware("cuda", device.name, 0, device.memory_bytes, (capability,))
    flops = {precision: device.products * peak for precision, peak in device.flops.items()}
    rates = Rates(flops, device.memory_bytes_per_second, DISK_BYTES_PER_SECOND, measured=False)
    return Machines(hardware, rates, nodes, each, device)


def _named(key: str) -> Accelerator:
    known = accelerators()
    if key in known:
        return known[key]
    variants = [name for name in known if name.startswith(f"{key}-")]
    near = variants or difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    raise MachineError(
        "machine.unknown-hardware",
        f"There is no {key[:60]} in the table of hardware.",
        where="--on",
        mend=f"Did you mean {' or '.join(near) if near else 'one of ' + ', '.join(known)}? Others can be added in {own_file()}.",
    )


def _unclear(text: str, why: str) -> MachineError:
    return MachineError(
        "machine.unclear-hardware",
        f"{text[:60]!r} is not understood: {why}.",
        where="--on",
        mend="Write h100, h100:8 (eight in one machine), a100-80g:64x8 (64 machines of eight) or cpu:32 (cores).",
    )
