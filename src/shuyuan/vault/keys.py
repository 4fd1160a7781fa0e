"""Where the key of a vault comes from: a passphrase or a key string, from the environment, a file, a prompt or a command.

A key string is made by `shuyuan keys new`: 256 random bits with a checksum. Anything else is a passphrase, and Argon2id
makes it expensive to guess (RFC 9106, the second recommended setting: 64 MiB, 3 passes, 4 lanes).
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import stat
import subprocess
import unicodedata
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import VaultError
from . import disk

PREFIX = "SYK1-"
SECRET_LIMIT = 64 * 1024  # bytes; a longer file is not a key
SHORTEST_PASSPHRASE = 8  # characters, when a key is added; what opens a vault already may be anything
COMMAND_SECONDS = 300
_CHECK_BYTES = 3


@dataclass(frozen=True)
class Secret:
    """What opens a vault, before any derivation.

    Args:
        kind: a key string's 256 bits, or a passphrase.
        value: the bits, or the passphrase in UTF-8. Never shown.
        spec: where it came from.
    """

    kind: Literal["key", "passphrase"]
    value: bytes = field(repr=False)
    spec: str


# ---- key strings ---------------------------------------------------------------------------------------------------


def new_key() -> str:
    """A fresh key string: "SYK1-" and 14 groups of four characters, 256 random bits and a checksum."""
    return render_key(os.urandom(32))


def render_key(bits: bytes) -> str:
    """The key string of 32 bytes.

    Reference: base32 of RFC 4648, with a check at the end that finds a mistyped letter.
    """
    text = base64.b32encode(bits + _check(bits)).decode()
    return PREFIX + "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def write_key_file(path: str | Path, key: str | None = None) -> Path:
    """Writes a key string to a new file that only its owner can read. A lost key is lost: keep a copy elsewhere.

    Args:
        path: the file; its folder is made if need be. It belongs outside the run folder.
        key: what to write; default: a fresh key.

    Returns:
        The absolute path.

    Raises:
        VaultError: there is a file of that name already.
        MachineError: the file cannot be written.
    """
    file = Path(path).expanduser().absolute()
    with disk.writing(file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if file.exists() and file.stat().st_size:  # an empty one is what a kill or a full disk left
            raise VaultError(
                "vault.key-exists",
                "There is a file of that name, and keys are never written over.",
                where=str(file),
                mend="Choose another name, or use the key that is there.",
            )
    disk.replace_file(file, (key or new_key()).encode() + b"\n", 0o600)
    return file


def _check(bits: bytes) -> bytes:
    return hashlib.sha256(b"shuyuan/1/key\0" + bits).digest()[:_CHECK_BYTES]


def _parse_key(text: str, spec: str) -> bytes:
    packed = text.upper().removeprefix(PREFIX).replace("-", "").replace(" ", "")
    try:
        raw = base64.b32decode(packed)
    except ValueError:
        raw = b""
    bits = raw[:-_CHECK_BYTES]
    if len(bits) != 32 or _check(bits) != raw[-_CHECK_BYTES:]:
        raise VaultError(
            "vault.misspelt-key",
            "The key begins like a key string, but its checksum is wrong: it was cut or mistyped.",
            where=spec,
            mend="Copy the whole line that `shuyuan keys new` wrote.",
        )
    return bits


# ---- where a secret comes from -------------------------------------------------------------------------------------


def read_secret(spec: str, *, confirm: bool = False, run: Path | None = None) -> Secret:
    """Fetches what opens a vault.

    Args:
        spec: env:NAME, file:PATH, prompt or command:SHELL COMMAND.
        confirm: a key is being added: ask twice at a prompt, and refuse a short passphrase.
        run: the run folder; a key file inside it is refused.

    Raises:
        VaultError: nothing is there, it is empty, or others can read it.
    """
    kind, _, rest = spec.partition(":")
    if kind == "env" and rest:
        text = _from_environment(rest, spec)
    elif kind == "file" and rest:
        text = _from_file(Path(rest).expanduser(), run)
    elif kind == "command" and rest:
        text = _from_command(rest, spec)
    elif spec == "prompt":
        text = _from_prompt(confirm)
    else:
        raise VaultError(
            "vault.bad-key-place",
            "This does not say where a key is (and a key itself never stands in a recipe or command).",
            mend="Give env:NAME, file:PATH, prompt or command:SHELL COMMAND.",
        )
    text = text.strip()
    if not text:
        raise VaultError(
            "vault.empty-key",
            "The key is empty.",
            where=spec,
            mend="Put the key there, or name another place.",
        )
    if text.upper().startswith(PREFIX):
        return Secret("key", _parse_key(text, spec), spec)
    if confirm and len(text) < SHORTEST_PASSPHRASE:
        raise VaultError(
            "vault.short-passphrase",
            f"The passphrase is shorter than {SHORTEST_PASSPHRASE} characters and would be guessed.",
            where=spec,
            mend="Take a longer one, or a key made by: shuyuan keys new",
        )
    return Secret("passphrase", unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape"), spec)


def _from_environment(name: str, spec: str) -> str:
    if name not in os.environ:
        raise VaultError(
            "vault.no-key", "The variable is not set.", where=spec, mend=f"Set it: export {name}=…"
        )
    return os.environ[name]


def _from_file(path: Path, run: Path | None) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(SECRET_LIMIT + 1)
    except OSError as error:
        raise VaultError(
            "vault.no-key",
            f"The key file cannot be read ({error.strerror}).",
            where=str(path),
            mend="Put the key there, or make one with: shuyuan keys new",
        ) from None
    if run is not None and path.resolve().is_relative_to(run.resolve()):
        raise VaultError(
            "vault.key-inside",
            "The key lies inside the run that it opens, so whoever copies the run has the key.",
            where=str(path),
            mend="Move it out of the run folder.",
        )
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise VaultError(
            "vault.exposed-key",
            "Everybody on this machine can read the key file, or others can change it.",
            where=str(path),
            mend=f"Close it: chmod 600 {path}",
        )
    try:
        if len(data) <= SECRET_LIMIT:
            return data.decode()
    except UnicodeDecodeError:
        pass
    raise VaultError(
        "vault.not-a-key",
        "The key file holds no text key.",
        where=str(path),
        mend="Make one with: shuyuan keys new",
    )


def _from_command(command: str, spec: str) -> str:
    try:
        # The recipe's owner wrote this command, to be run by a shell; what it prints is the key and is shown nowhere.
        done = subprocess.run(
            command, shell=True, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode == 0:
            return done.stdout.decode()
        why = f"it ended with status {done.returncode}"
    except subprocess.TimeoutExpired:
        why = f"it took longer than {COMMAND_SECONDS} seconds"
    except UnicodeDecodeError:
        why = "it printed something that is no text"
    raise VaultError(
        "vault.no-key",
        f"The command gave no key: {why}.",
        where=spec,
        mend="Run the command by hand to see what is wrong.",
    ) from None


def _from_prompt(confirm: bool) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would show what is typed
            first = getpass.getpass("Passphrase or key: ")
            again = getpass.getpass("The same again: ") if confirm else first
    except (EOFError, OSError, getpass.GetPassWarning):
        raise VaultError(
            "vault.no-terminal",
            "There is no terminal to ask for the key at.",
            where="prompt",
            mend="Use env:NAME, file:PATH or command:…, or start the command in a terminal.",
        ) from None
    if first != again:
        raise VaultError(
            "vault.not-the-same", "The two passphrases differ.", where="prompt", mend="Try again."
        )
    return first
