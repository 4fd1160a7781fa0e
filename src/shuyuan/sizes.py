"""Bytes as people read them, the same in every message, table, report and page: by powers of 1000, as disks are sold and as the
figures of GPUs and of published runs are told."""

from __future__ import annotations

UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(number: float) -> str:
    """Bytes in three digits: 512 bytes, 1.5 kB, 790 MB, 25.3 GB.

    Args:
        number: of bytes.

    Reference: the prefixes of the SI, k = 10³, M = 10⁶, G = 10⁹; IEC 80000-13 keeps Ki, Mi, Gi for powers of 1024.
    """
    for unit in UNITS:
        if abs(number) < 999.5 or unit == UNITS[-1]:
            break
        number /= 1000
    return f"{number:,.0f} {unit}" if unit == "bytes" or abs(number) >= 99.95 else f"{number:.3g} {unit}"


def scale_of(number: float) -> tuple[float, str]:
    """(bytes in it, name) of the unit that `size` takes for a number, for an axis on which several stand.

    Args:
        number: of bytes.
    """
    unit = size(number).rpartition(" ")[2]
    return 1000.0 ** UNITS.index(unit), unit
