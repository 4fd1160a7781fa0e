"""Hardware that is not here: accelerators by name, and how many of them, for `shuyuan plan --on`."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import MachineError
from .facts import Hardware
from .rates import Rates, assumed_rates

MOST_DEVICES = 1_000_000
FLOPS = ("fp32", "bf16", "fp16")
# The CUDA capability of each name's generation: what decides whether bf16 is there is the table's own entry.
NO_BF16, WITH_BF16 = "compute_7.0", "compute_8.0"
DISK_BYTES_PER_SECOND = 2e9
PRODUCTS = 0.7


@dataclass(frozen=True)
class Accelerator:
    """One entry of the table.

    Attributes:
        key: its name in `--on`.
        name: its maker's name.
        memory_bytes: on the card.
        flops: dense peak operations a second for each precision that it has.
        memory_bytes_per_second: to its own memory.
        link_bytes_per_second: to the other cards of its node, one way.
        watts: at full load.
        products: the share of the peak that large matrix products reach in long training.
    """

    key: str
    name: str
    memory_bytes: int
    flops: dict[str, float]
    memory_bytes_per_second: float
    link_bytes_per_second: float
    watts: float
    products: float = PRODUCTS


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


def accelerators() -> dict[str, Accelerator]:
    """All entries, the user's own last.

    Raises:
        MachineError: the user's file is not one.
    """
    built_in = resources.files(__package__).joinpath("catalog.toml").read_text("utf-8")
    found = _read(built_in, "catalog.toml")
    own = _own_file()
    if own.is_file():
        found |= _read(own.read_text("utf-8", "replace"), str(own))
    return found


def _own_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "shuyuan" / "hardware.toml"


def _read(text: str, where: str) -> dict[str, Accelerator]:
    try:
        return {key: _entry(key, table) for key, table in tomllib.loads(text).items()}
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MachineError(
            "machine.bad-catalog",
            f"The table of hardware cannot be read: {str(error) or type(error).__name__}.",
            where=where,
            mend="Each entry has name, memory_gb, fp32 and bf16 or fp16, memory_gb_s, link_gb_s and watts, all above zero.",
        ) from None


def _entry(key: str, table: dict[str, Any]) -> Accelerator:
    numbers = {name: float(value) for name, value in table.items() if name != "name"}
    if not all(0 < value < 1e9 for value in numbers.values()):
        raise ValueError(f"{key}: numbers must be above zero")
    flops = {name: numbers[name] * 1e12 for name in FLOPS if name in numbers}
    if "fp32" not in flops:
        raise ValueError(f"{key}: fp32 is missing")
    return Accelerator(
        key,
        str(table["name"]),
        round(numbers["memory_gb"] * 1e9),
        flops,
        numbers["memory_gb_s"] * 1e9,
        numbers["link_gb_s"] * 1e9,
        numbers["watts"],
        min(1.0, numbers.get("products", PRODUCTS)),
    )


def _named(key: str) -> Accelerator:
    known = accelerators()
    if key in known:
        return known[key]
    variants = [name for name in known if name.startswith(f"{key}-")]
    near = variants or difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    raise MachineError(
        "machine.unknown-hardware",
        f"There is no {key} in the table of hardware.",
        where="--on",
        mend=f"Did you mean {' or '.join(near) if near else 'one of ' + ', '.join(known)}? Others can be added in {_own_file()}.",
    )


def _unclear(text: str, why: str) -> MachineError:
    return MachineError(
        "machine.unclear-hardware",
        f"{text!r} is not understood: {why}.",
        where="--on",
        mend="Write h100, h100:8 (eight in one machine), a100-80g:64x8 (64 machines of eight) or cpu:32 (cores).",
    )
