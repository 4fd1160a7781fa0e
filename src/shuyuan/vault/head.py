"""The signed head: a small open file that says how long the index is and what it comes to.

The head of an index is SHA-256 over the head before and the newest line, as it is on disk: anyone can follow it, and
check the Ed25519 signature with the public key in vault.json, without being able to open anything.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..errors import VaultError, cannot_read
from . import disk
from .seal import DataKey

_SIGNED = struct.Struct(">16sIQ32s")  # run, epoch, count, digest


@dataclass(frozen=True)
class Head:
    """What commits to all of an index.

    Attributes:
        count: records that it has.
        digest: SHA-256 over all of them, 32 bytes.
    """

    count: int
    digest: bytes

    def after(self, line: bytes) -> Head:
        """The head when one more line has been added.

        Args:
            line: as it is on disk.
        """
        return Head(self.count + 1, hashlib.sha256(self.digest + line).digest())


def first_head(header: bytes) -> Head:
    """The head of an index that has only its header.

    Args:
        header: bytes that the index begins with.
    """
    return Head(0, hashlib.sha256(header).digest())


class Signer:
    """Signs the heads of one data key.

    Args:
        key: the data key; the signing key is derived from it.
    """

    def __init__(self, key: DataKey) -> None:
        self._key = key
        self._private = Ed25519PrivateKey.from_private_bytes(key.derive(key.run, b"shuyuan/1/sign"))
        self.public_key = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def render(self, head: Head) -> bytes:
        """The head file. Ed25519 is deterministic, so exactly one content is right.

        Args:
            head: what to sign.
        """
        message = b"shuyuan/1/head\0" + _SIGNED.pack(self._key.run, self._key.epoch, head.count, head.digest)
        table = {
            "count": head.count,
            "head": head.digest.hex(),
            "public_key": self.public_key,
            "signature": self._private.sign(message).hex(),
        }
        return (json.dumps(table, indent=2) + "\n").encode()

    def write(self, path: Path, head: Head) -> None:
        """Signs a head and puts it in its place.

        Args:
            path: of the head file.
            head: what to sign.

        Raises:
            MachineError: the disk refuses; the old head stays.
        """
        disk.replace_file(path, self.render(head))

    def read(self, path: Path) -> Head | None:
        """What a head file says; None if there is none.

        Args:
            path: of the head file.

        Raises:
            VaultError: it is not, byte for byte, what this data key signs.
            MachineError: it may not be read.
        """
        try:
            with path.open("rb") as file:
                data = file.read(4096)
            table = json.loads(data)
            head = Head(int(table["count"]), bytes.fromhex(table["head"]))
            if self.render(head) == data:
                return head
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise cannot_read(error, path) from None
        except (OSError, ValueError, TypeError, KeyError, RecursionError, struct.error):
            pass
        raise VaultError(
            "vault.broken-head",
            "The signed head of the run is damaged, or is that of another run.",
            where=str(path),
            mend="Restore the newest copy of the whole run folder.",
        )
