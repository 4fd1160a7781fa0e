"""vault.json: the data key of a run, wrapped once for every key that opens it.

Open to read, but not to change: everything in it is associated data of the wrapping, and its digest stands in the index.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import VaultError, cannot_read
from .keys import Secret
from .names import VAULT_FILE
from .seal import FORMAT, DataKey

MOST_KEYS = 16
SIZE_LIMIT = 1 << 20
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Argon2:
    """How expensive a guess is. Defaults: RFC 9106, section 4, second recommendation.

    Args:
        memory_kib: memory a guess takes, KiB.
        passes: how often it is gone through.
        lanes: how many cores one guess can use.
    """

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def is_sane(self) -> bool:
        """Whether a derivation stays within about a second and 256 MiB, and is worth its name."""
        return 19 * 1024 <= self.memory_kib <= 256 * 1024 and 1 <= self.passes <= 8 and 1 <= self.lanes <= 16


@dataclass(frozen=True)
class WrappedKey:
    """The data key as one key opens it.

    Args:
        name: what people call that key.
        kind: key string or passphrase.
        created: UTC, ISO 8601.
        salt: 16 random bytes, for the derivation.
        nonce: 12 random bytes, for AES-256-GCM.
        wrapped: the sealed data key, 48 bytes.
        cost: for passphrases.
    """

    name: str
    kind: Literal["key", "passphrase"]
    created: str
    salt: bytes
    nonce: bytes
    wrapped: bytes
    cost: Argon2 = Argon2()

    def table(self) -> dict[str, Any]:
        """The entry as it stands in vault.json."""
        if self.kind == "key":
            derivation: dict[str, Any] = {"name": "hkdf-sha256"}
        else:
            cost = self.cost
            derivation = {
                "name": "argon2id",
                "memory_kib": cost.memory_kib,
                "passes": cost.passes,
                "lanes": cost.lanes,
            }
        return {
            "name": self.name,
            "kind": self.kind,
            "created": self.created,
            "kdf": derivation,
            "salt": self.salt.hex(),
            "nonce": self.nonce.hex(),
            "wrapped": self.wrapped.hex(),
        }


@dataclass(frozen=True)
class VaultFile:
    """vault.json, read and checked.

    Args:
        run: run id, 16 bytes.
        epoch: number of the data key.
        public_key: hex of the Ed25519 key that signs heads.
        keys: one entry for every key that opens the vault.
    """

    run: bytes
    epoch: int
    public_key: str
    keys: tuple[WrappedKey, ...] = ()

    def render(self) -> bytes:
        """The file's content."""
        table = {**self._common(), "keys": [entry.table() for entry in self.keys]}
        return (json.dumps(table, indent=2) + "\n").encode()

    def unlock(self, secret: Secret) -> tuple[DataKey, str]:
        """The data key, and the name of the entry that gave it.

        Raises:
            VaultError: no entry opens with this secret.
        """
        for entry in self.keys:
            if entry.kind == secret.kind:
                try:
                    wrapping = AESGCM(_wrapping_key(secret, entry))
                    data_key = wrapping.decrypt(entry.nonce, entry.wrapped, self._bound(entry))
                except InvalidTag:
                    continue
                return DataKey(self.run, self.epoch, data_key), entry.name
        raise VaultError(
            "vault.wrong-key",
            f"The key does not open this run: it is another key, or {VAULT_FILE} was changed or put back.",
            where=secret.spec,
            mend="Name the right key with --key, or restore vault.json from the newest copy.",
        )

    def with_key(self, data_key: DataKey, name: str, secret: Secret, cost: Argon2 | None = None) -> VaultFile:
        """The same vault with one more key, or with another secret under a name that is there."""
        others = [entry for entry in self.keys if entry.name != name]
        if len(others) >= MOST_KEYS:
            raise VaultError(
                "vault.too-many-keys",
                f"A vault has at most {MOST_KEYS} keys.",
                mend="Remove one: shuyuan keys remove",
            )
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = WrappedKey(name, secret.kind, created, os.urandom(16), os.urandom(12), b"", cost or Argon2())
        wrapping = AESGCM(_wrapping_key(secret, entry))
        entry = replace(entry, wrapped=wrapping.encrypt(entry.nonce, data_key.secret, self._bound(entry)))
        at = next((place for place, other in enumerate(self.keys) if other.name == name), len(others))
        return replace(self, keys=(*others[:at], entry, *others[at:]))

    def without_key(self, name: str) -> VaultFile:
        """The same vault without that key."""
        return replace(self, keys=tuple(entry for entry in self.keys if entry.name != name))

    def _common(self) -> dict[str, Any]:
        return {"format": FORMAT, "run": self.run.hex(), "epoch": self.epoch, "public_key": self.public_key}

    def _bound(self, entry: WrappedKey) -> bytes:
        """Associated data of a wrapping: all that the file says, but for the other keys and the wrapped key itself."""
        table = entry.table()
        del table["wrapped"]
        return json.dumps({**self._common(), "key": table}, sort_keys=True, separators=(",", ":")).encode()


def check_key_name(name: str) -> str:
    """The name itself, if a key may have it.

    Raises:
        VaultError: it may not.
    """
    if not _KEY_NAME.fullmatch(name):
        raise VaultError(
            "vault.bad-key-name",
            f"A key cannot be named {name!r}.",
            mend="Use letters, digits, dots, dashes and underscores, at most 64.",
        )
    return name


def read_vault_file(run: Path) -> VaultFile:
    """Reads vault.json of a run folder. Nothing is derived: absurd parameters are refused before they cost anything.

    Args:
        run: the run's folder.

    Raises:
        VaultError: it cannot be read, is no vault file, or asks for an absurd derivation.
        MachineError: this user may not read it.
    """
    path = run / VAULT_FILE
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise ValueError("too large")
        return _parse(json.loads(data.decode()))
    except FileNotFoundError:
        raise _refused(path, "is missing") from None
    except PermissionError as error:
        raise cannot_read(error, path) from None
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        # The reason may quote the file; the file is open, but what was put into it need not be.
        raise _refused(path, "is damaged, or was made by another version") from None


def _parse(table: Any) -> VaultFile:
    if table["format"] != FORMAT or len(table["keys"]) > MOST_KEYS:
        raise ValueError("format")
    keys = tuple(_parse_key(entry) for entry in table["keys"])
    if len({entry.name for entry in keys}) != len(keys):
        raise ValueError("names")
    epoch = _number(table["epoch"])
    if not 1 <= epoch < 1 << 32:
        raise ValueError("epoch")
    return VaultFile(_bytes(table["run"], 16), epoch, _bytes(table["public_key"], 32).hex(), keys)


def _parse_key(table: Any) -> WrappedKey:
    kind, derivation = table["kind"], table["kdf"]
    cost = Argon2()
    if (kind, derivation["name"]) == ("passphrase", "argon2id"):
        cost = Argon2(*(_number(derivation[part]) for part in ("memory_kib", "passes", "lanes")))
        if not cost.is_sane():
            raise VaultError(
                "vault.absurd-derivation",
                "The file asks for a derivation that is far too cheap or too expensive; it was tampered with.",
                where=VAULT_FILE,
                mend="Restore vault.json from the newest copy of the run folder.",
            )
    elif (kind, derivation["name"]) != ("key", "hkdf-sha256"):
        raise ValueError("kind")
    if not (isinstance(table["name"], str) and isinstance(table["created"], str)):
        raise TypeError
    salt, nonce, wrapped = _bytes(table["salt"], 16), _bytes(table["nonce"], 12), _bytes(table["wrapped"], 48)
    return WrappedKey(table["name"], kind, table["created"], salt, nonce, wrapped, cost)


def _bytes(text: Any, count: int) -> bytes:
    if not isinstance(text, str) or not _HEX.fullmatch(text) or len(text) != 2 * count:
        raise ValueError("hex")
    return bytes.fromhex(text)


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("number")
    return value


def _refused(path: Path, what: str) -> VaultError:
    return VaultError(
        "vault.bad-vault-file",
        f"The file that holds the wrapped keys {what}.",
        where=str(path),
        mend="Restore vault.json from the newest copy of the run folder; without it the run cannot be opened.",
    )


def _wrapping_key(secret: Secret, entry: WrappedKey) -> bytes:
    if secret.kind == "key":
        return HKDF(hashes.SHA256(), 32, entry.salt, b"shuyuan/1/wrap").derive(secret.value)
    cost = entry.cost
    derivation = Argon2id(
        salt=entry.salt, length=32, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    return derivation.derive(secret.value)
