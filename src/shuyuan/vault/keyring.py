"""The keys of a vault: which there are, one more, another one, one less. Every function here takes the run's lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import VaultError
from ..progress import Progress
from ..runs import RECIPE_FILE, Run
from .keys import Secret, read_secret
from .names import VAULT_FILE
from .opening import Unlocked, unlock
from .reencrypt import reencrypt as seal_anew
from .sealed_store import SealedStore
from .vault_file import check_key_name, read_vault_file


@dataclass(frozen=True)
class KeyFacts:
    """What may be known of a key without having it.

    Args:
        name: what people call it.
        kind: "key" (made by `keys new`) or "passphrase".
        created: UTC, ISO 8601.
    """

    name: str
    kind: str
    created: str


@dataclass(frozen=True)
class Rotation:
    """What a rotation did.

    Args:
        name: the key that was replaced.
        dropped: names of keys that no longer open the run.
        reencrypted: whether every file was sealed anew.
    """

    name: str
    dropped: tuple[str, ...]
    reencrypted: bool


def list_keys(run: Run) -> list[KeyFacts]:
    """The keys that open a run; no key is needed to ask.

    Args:
        run: its folder.

    Raises:
        VaultError: the run has no readable vault.json.
    """
    return [KeyFacts(entry.name, entry.kind, entry.created) for entry in read_vault_file(run.path).keys]


def add_key(run: Run, key: str, new: str, name: str | None = None) -> KeyFacts:
    """Lets one more key open a run.

    Args:
        run: the run.
        key: where a key is that opens it now.
        new: where the new key is: a colleague's, or a recovery key that is kept elsewhere.
        name: what to call it; default: key-2, key-3, …

    Raises:
        VaultError: `key` does not open the run, the name is taken, or there are 16 keys already.
    """
    with _opened(run, key, "keys add") as (store, unlocked):
        taken = [entry.name for entry in unlocked.file.keys]
        name = check_key_name(name or next(f"key-{n}" for n in range(1, 99) if f"key-{n}" not in taken))
        if name in taken:
            raise VaultError("vault.name-taken", f"There is a key named {name}.", mend="Choose another name.")
        file = unlocked.file.with_key(unlocked.key, name, _new_secret(run, new))
        store.state.replace_clear(VAULT_FILE, file.render())
    return list_keys(run)[-1]


def remove_key(run: Run, key: str, name: str) -> None:
    """Takes a key out of a vault. Copies of the run, and of the data key, are not revoked: `rotate_key(reencrypt=True)` is.

    Args:
        run: the run.
        key: where a key is that opens it.
        name: which one goes.

    Raises:
        VaultError: there is no such key, or it is the last one.
    """
    with _opened(run, key, "keys remove") as (store, unlocked):
        names = [entry.name for entry in unlocked.file.keys]
        if name not in names:
            raise VaultError(
                "vault.no-such-key",
                f"There is no key named {name!r}.",
                mend=f"The keys are: {', '.join(names)}.",
            )
        if len(names) == 1:
            raise VaultError(
                "vault.last-key",
                "This is the last key; without it nobody opens the run.",
                mend="Add another one first.",
            )
        store.state.replace_clear(VAULT_FILE, unlocked.file.without_key(name).render())


def rotate_key(
    run: Run,
    key: str,
    new: str,
    *,
    reencrypt: bool = False,
    keep: Sequence[str] = (),
    progress: Progress | None = None,
) -> Rotation:
    """Puts a new key in the place of one that opens a run; the recipe names the new place, if it named the old one.

    Args:
        run: the run.
        key: where the key is that is replaced.
        new: where the new one is.
        reencrypt: also make a new data key and seal every file with it. This alone revokes what others have copied.
            Keys other than the new one open the run no longer, unless `keep` says where they are.
        keep: with `reencrypt`, where further keys are that shall go on opening the run.
        progress: hears about bytes.

    Raises:
        VaultError: a key does not open the run.
        MachineError: there is no room for a second copy; the run is as it was.
    """
    with _opened(run, key, "keys rotate") as (store, unlocked):
        secret = _new_secret(run, new)
        dropped: tuple[str, ...] = ()
        if reencrypt:
            kept = _kept(run, unlocked, keep)
            secrets = {unlocked.name: secret, **kept}
            names = [entry.name for entry in unlocked.file.keys]
            ordered = [(name, secrets[name]) for name in names if name in secrets]
            dropped = tuple(name for name in names if name not in secrets)
            store = seal_anew(store, ordered, progress or Progress())
        else:
            file = unlocked.file.with_key(unlocked.key, unlocked.name, secret)
            store.state.replace_clear(VAULT_FILE, file.render())
        _tell_recipe(run, store, key, new)
        store.close()
    return Rotation(unlocked.name, dropped, reencrypt)


@contextmanager
def _opened(run: Run, key: str, verb: str) -> Iterator[tuple[SealedStore, Unlocked]]:
    read_vault_file(run.path)  # a folder that is no sealed run gets no lock file
    with run.lock(verb):
        unlocked = unlock(run, key)
        with SealedStore(run.path, unlocked.key) as store:
            store.check_steering()
            yield store, unlocked


def _new_secret(run: Run, spec: str) -> Secret:
    return read_secret(spec, confirm=True, run=run.path)


def _kept(run: Run, unlocked: Unlocked, keep: Sequence[str]) -> dict[str, Secret]:
    kept = {}
    for spec in keep:
        secret = read_secret(spec, run=run.path)
        kept[unlocked.file.unlock(secret)[1]] = secret
    return kept


def _tell_recipe(run: Run, store: SealedStore, old: str, new: str) -> None:
    """Later commands look for the key where the recipe says."""
    if not run.exists:
        return
    recipe = run.recipe()
    if recipe.vault is not None and _absolute(recipe.vault.key) == _absolute(old):
        changed = recipe.replace(**{"vault.key": _absolute(new)})
        store.write_open(RECIPE_FILE, changed.as_toml().encode())


def _absolute(spec: str) -> str:
    kind, _, rest = spec.partition(":")
    return f"file:{Path(rest).expanduser().absolute()}" if kind == "file" else spec
