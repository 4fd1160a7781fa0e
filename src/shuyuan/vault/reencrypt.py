"""A fresh data key for a run: every file sealed anew, and one rename that puts the new in the place of the old.

The new files lie beside the old ones, under names and with an index of their own. The run changes over when vault.json
is replaced: until then the old key opens the old files, afterwards the new key opens the new ones. What is no longer
of use, on whichever side it was broken off, is removed by the next one who opens the run for writing.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ..progress import Progress, Stage
from . import disk
from .index import Index
from .journal import SealedLog
from .keys import Secret
from .names import VAULT_FILE, sealed_path
from .opening import seal_vault
from .reading import Shelf
from .seal import DataKey, Header, Role, SealedWriter
from .sealed_store import SealedStore

PORTION = 1 << 24  # content bytes in memory at once


def reencrypt(store: SealedStore, secrets: list[tuple[str, Secret]], progress: Progress) -> SealedStore:
    """Seals all of a run with a new data key.

    Args:
        store: the run, open for writing; it is of no use afterwards.
        secrets: (name, secret) of every key that shall open the run from now on.
        progress: hears about bytes.

    Returns:
        The run's store under the new key, what the old key sealed removed.

    Raises:
        MachineError: the disk is full; the run is as it was. It needs room for a second copy meanwhile.
        VaultError: a file does not open.
    """
    store.state.start()
    shelf = store.shelf
    key = DataKey(shelf.key.run, shelf.key.epoch + 1, os.urandom(32))
    vault = seal_vault(key, secrets).render()
    made: list[Path] = []
    try:
        record = _seal_all(shelf, key, made, progress)
        generation = shelf.index.next_generation(VAULT_FILE)
        record["open"] = [entry for entry in record["open"] if entry[0] != VAULT_FILE]
        record["open"].append([VAULT_FILE, generation, hashlib.sha256(vault).hexdigest()])
        index = Index(shelf.folder, key)
        made += [index.path, index.head_path]
        disk.remove_files([index.path, index.head_path])  # an attempt that was broken off
        index.create(record)
        index.load()
        index.sign()
        disk.replace_file(shelf.folder / VAULT_FILE, vault)
    except BaseException:
        if (shelf.folder / VAULT_FILE).read_bytes() != vault:
            disk.remove_files(made)
        raise
    store.state.writable = False  # the run has changed over: nothing more is written under the old key
    return SealedStore(shelf.folder, key)


def _seal_all(shelf: Shelf, key: DataKey, made: list[Path], progress: Progress) -> dict[str, Any]:
    """Makes the new files; returns the first record of the new index."""
    index = shelf.index
    new = {"secret": index.secret.hex(), "previous": [*index.previous, *index.history]}
    record: dict[str, Any] = {"new": new}
    record |= {"put": [], "log": [], "open": [], "anchor": []}
    sizes = (
        (shelf.folder / shelf.place(name, entry)).stat().st_size for name, entry in index.entries.items()
    )
    with progress.stage("re-encrypt", sum(sizes), "bytes") as stage:
        for name, entry in index.entries.items():
            if entry.kind == "open":
                record["open"].append([name, entry.generation, entry.identity])
                continue
            role = Role.FILE if entry.kind == "put" else Role.JOURNAL
            header = Header(role, key.run, key.epoch, index.next_generation(name))
            made.append(shelf.folder / sealed_path(name, key.run, header.salt))
            record[entry.kind].append([name, header.generation, header.salt.hex()])
            if entry.kind == "put":
                _seal_file(shelf, name, SealedWriter(made[-1], key, header, name), stage)
            else:
                log = SealedLog(made[-1], key, header, name)
                log.create(*shelf.log(name, entry)[1])
                record["anchor"].append([name, log.mark.count, log.mark.tag.hex()])
    return record


def _seal_file(shelf: Shelf, name: str, out: SealedWriter, stage: Stage) -> None:
    reader = shelf.open(name)
    try:
        for at in range(0, reader.size, PORTION):
            portion = reader.read_at(at, PORTION)
            out.write(portion)
            stage.advance(len(portion))
        out.finish()
    except BaseException:
        out.abandon()
        raise
    finally:
        reader.close()
