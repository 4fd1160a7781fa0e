"""Which names a run may use, and under which names a sealed run keeps its files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ..errors import VaultError
from ..runs import LOCK_FILE

PARTIAL = ".partial"  # what an interrupted write leaves; removed when the run is next opened for writing
VAULT_FILE = "vault.json"
TOP = "sealed"  # the folder of sealed files whose logical name has no folder
_INDEX = re.compile(r"vault-([1-9][0-9]*)\.(index|head)")
_SEALED = re.compile(r"[0-9a-f]{64}")
_STRANGE = re.compile(r"[\x00-\x1f\x7f\\:\ud800-\udfff]")


def check_name(name: str) -> str:
    """The name itself, if a file of the run may have it.

    Args:
        name: logical, with / between folders.

    Raises:
        VaultError: the name leaves the run folder, or belongs to the vault or the lock.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or _STRANGE.search(name):
        raise _bad_name(name, "is no plain path inside a run")
    if (
        name in (LOCK_FILE, VAULT_FILE)
        or _INDEX.fullmatch(name)
        or any(part.endswith(PARTIAL) for part in parts)
    ):
        raise _bad_name(name, "is kept for the run's own bookkeeping")
    return name


def _bad_name(name: str, why: str) -> VaultError:
    return VaultError(
        "vault.bad-name",
        f"The file name {name!r} {why}.",
        mend="Use a relative path of plain parts, such as data/x.json.",
    )


def index_file(epoch: int) -> str:
    """The sealed index that belongs to one data key; data keys are counted from 1."""
    return f"vault-{epoch}.index"


def head_file(epoch: int) -> str:
    """The signed head of that index."""
    return f"vault-{epoch}.head"


def epoch_of(file: str) -> int | None:
    """The data key that an index or head belongs to; None for other files."""
    found = _INDEX.fullmatch(file)
    return int(found[1]) if found else None


def sealed_path(name: str, run: bytes, salt: bytes) -> str:
    """Where a sealed file lies, relative to the run folder; every write of it has a new place, for its salt is new.

    Args:
        name: logical name; only its first folder stays visible.
        run: run id, 16 bytes.
        salt: salt of this write, 32 bytes.
    """
    folder = name.split("/")[0] if "/" in name else TOP
    return f"{folder}/{salt[:16].hex()}{_mark(run, salt[:16])}"


def has_sealed_name(file: Path) -> bool:
    """Whether a file is called as a sealed one of some run is; records that somebody put beside a run have other names."""
    return bool(_SEALED.fullmatch(file.name))


def is_ours(file: Path, run: bytes) -> bool:
    """Whether a file's name was made by `sealed_path` for this run. Nobody's own file has such a name by accident.

    Args:
        file: any.
        run: run id, 16 bytes.
    """
    name = file.name
    return has_sealed_name(file) and name[32:] == _mark(run, bytes.fromhex(name[:32]))


def _mark(run: bytes, part: bytes) -> str:
    return hashlib.sha256(b"shuyuan/1/name\0" + run + part).hexdigest()[:32]
