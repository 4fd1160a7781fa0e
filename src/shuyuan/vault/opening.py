"""Opening the store of a run: in the clear or sealed, as it was begun, and never the other way by accident."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import VaultError
from ..recipe import Recipe
from ..runs import LOCK_FILE, RECIPE_FILE, Run, not_trained
from . import checks, disk
from .clear_store import OpenStore
from .head import Signer
from .index import Index
from .keys import Secret, read_secret
from .names import PARTIAL, VAULT_FILE, epoch_of, has_sealed_name, index_file
from .seal import DataKey, looks_sealed
from .sealed_store import SealedStore
from .store import Problem, Store
from .vault_file import Argon2, VaultFile, read_vault_file

FIRST_KEY = "key-1"


@dataclass(frozen=True)
class Unlocked:
    """A vault and its data key.

    Args:
        file: vault.json.
        key: the data key.
        name: which of the vault's keys opened it.
    """

    file: VaultFile
    key: DataKey
    name: str


def open_store(run: Run, key: str | None, *, create: bool = False, writable: bool = True) -> Store:
    """The files of a run. Whoever asks for a writable store holds the run's lock.

    Args:
        run: the run.
        key: where the vault's key is (env:NAME, file:PATH, prompt, command:…); None for a run in the clear.
        create: begin a sealed run if there is nothing yet.
        writable: whether to write. A reader changes nothing, and can look on while another process writes.

    Raises:
        VaultError: the run is sealed and no key is named, or the other way round; the key is wrong or not to be had;
            or the run's state cannot be trusted.
    """
    if key is None:
        if _is_sealed(run.path):
            raise VaultError(
                "vault.sealed",
                "This run is sealed, and no key is named.",
                where=str(run.path),
                mend='Name the key in the recipe ([vault] key = "file:…") or with --key.',
            )
        return OpenStore(run.path, writable=writable)
    if create and _is_unborn(run):
        return _create(run, key)
    store = SealedStore(run.path, unlock(run, key).key, writable=writable)
    try:
        store.check_steering()
    except BaseException:
        store.close()
        raise
    return store


def key_place(recipe: Recipe, folder: Run | None) -> str | None:
    """Where the recipe says that the vault's key is; None for a run in the clear.

    Args:
        recipe: says it.
        folder: the run, if the recipe was found in its folder. Whoever can write there could name a command, which would
            be run before anything can be authenticated.

    Raises:
        VaultError: the recipe of a run folder names a command.
    """
    if recipe.vault is None:
        return None
    if folder is not None and recipe.vault.key.startswith("command:"):
        raise VaultError(
            "vault.command-in-run",
            "A command named inside a run folder is not run: others may have put it there.",
            where=str(folder.path / RECIPE_FILE),
            mend=f"If it is yours, name it yourself: --key {shlex.quote(recipe.vault.key)}",
        )
    return recipe.vault.key


@contextmanager
def open_model_folder(path: Path) -> Iterator[tuple[Store, str]]:
    """A model to start from: the files where it lies, and its folder in them.

    Args:
        path: a folder as transformers writes it, or a run, which is opened with the key that its recipe names.

    Raises:
        RunError: the run has no model yet.
        VaultError: the run cannot be opened.
    """
    run = Run(path)
    if not run.exists:
        yield OpenStore(path, writable=False), ""
        return
    with open_store(run, key_place(run.recipe(), run), writable=False) as store:
        if not store.exists("model"):
            raise not_trained(path)
        yield store, "model"


def unlock(run: Run, key: str) -> Unlocked:
    """Opens the vault of a run, and nothing else yet.

    Args:
        run: a sealed one.
        key: where its key is: env:NAME, file:PATH, prompt or command:….

    Raises:
        VaultError: as for `open_store`.
    """
    if not _is_sealed(run.path):
        raise VaultError(
            "vault.not-sealed",
            "A key is named, but this run lies in the clear.",
            where=str(run.path),
            mend="Leave the key out, or begin a sealed run in another folder.",
        )
    file = read_vault_file(run.path)
    newer = [epoch for epoch in _epochs(run.path) if epoch > file.epoch]
    if newer and not (run.path / index_file(file.epoch)).exists():
        raise VaultError(
            "vault.rolled-back",
            "An older vault.json was put back: the run has been re-encrypted since.",
            where=str(run.path / VAULT_FILE),
            mend="Restore the newest copy of vault.json.",
        )
    data_key, name = file.unlock(read_secret(key, run=run.path))
    return Unlocked(file, data_key, name)


def verify_run(run: Run, key: str | None, expect: str | None = None) -> tuple[list[Problem], str | None]:
    """Checks all of a run, even one that `open_store` refuses because it was tampered with.

    Args:
        run: the run.
        key: where its key is; None for a run in the clear.
        expect: a head noted earlier.

    Returns:
        (problems, head); the head is None if the index is beyond trust, and in an open run.

    Raises:
        VaultError: the key is wrong or not to be had.
    """
    if key is None:
        store = open_store(run, None, writable=False)
        return store.verify(expect), store.head()
    unlocked = unlock(run, key)
    try:
        sealed = SealedStore(run.path, unlocked.key, writable=False)
    except VaultError as error:
        return [checks.problem(run.path, error)], None
    return sealed.verify(expect), sealed.head()


def seal_vault(key: DataKey, secrets: list[tuple[str, Secret]], cost: Argon2 | None = None) -> VaultFile:
    """A vault file for a data key, with these keys.

    Args:
        key: the data key that is wrapped.
        secrets: name and secret of each key that shall open it.
        cost: of deriving from a passphrase. Default: that of new vaults.
    """
    file = VaultFile(key.run, key.epoch, Signer(key).public_key)
    for name, secret in secrets:
        file = file.with_key(key, name, secret, cost)
    return file


def _create(run: Run, spec: str) -> SealedStore:
    if (run.path / VAULT_FILE).exists():  # begun, and broken off
        key = unlock(run, spec).key
    else:
        secret = read_secret(spec, confirm=True, run=run.path)
        key = DataKey(os.urandom(16), 1, os.urandom(32))
        disk.replace_file(run.path / VAULT_FILE, seal_vault(key, [(FIRST_KEY, secret)]).render())
    digest = hashlib.sha256((run.path / VAULT_FILE).read_bytes()).hexdigest()
    new = {"secret": os.urandom(32).hex(), "previous": []}
    Index(run.path, key).create({"new": new, "open": [[VAULT_FILE, 1, digest]]})
    return SealedStore(run.path, key)


def _is_unborn(run: Run) -> bool:
    """Whether there is nothing yet, or only what is left where the beginning of a sealed run was broken off."""
    names = [entry.name for entry in run.path.iterdir()] if run.path.is_dir() else []
    return all(name in (VAULT_FILE, LOCK_FILE) or name.endswith(PARTIAL) for name in names)


def _is_sealed(folder: Path) -> bool:
    files = (file for file in folder.glob("*/*") if has_sealed_name(file))
    return (folder / VAULT_FILE).exists() or bool(_epochs(folder)) or any(map(looks_sealed, files))


def _epochs(folder: Path) -> list[int]:
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return [epoch for name in names if (epoch := epoch_of(name)) is not None]
