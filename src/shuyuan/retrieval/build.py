"""Makes an index: documents are read, cut into passages, counted, and written under a seal or in the clear."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, RunError
from ..progress import Progress
from ..runs import LOCK_FILE, Run
from ..vault import Store, open_store
from . import folder
from .documents import Columns, Document, read_documents
from .matching import Wish, calibrate
from .passages import COLUMNS, passages
from .scoring import learn
from .words import asked, terms

# What is left where the beginning of an index was broken off.
_BEGUN = re.compile(rf"{re.escape(LOCK_FILE)}|vault(-1)?\.(json|index|head)|.+\.partial")


def build_index(
    sources: Sequence[str],
    out: str | Path,
    *,
    columns: Columns | None = None,
    wish: Wish | None = None,
    key: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Makes an index of documents or of pairs; one of the same documents is left as it is, an older one is replaced.

    Args:
        sources: files, folders and globs, or one `hf:org/name` or built-in source.
        out: the folder of the index.
        columns: which columns of tables hold the text, or question and answer; default: the column `text`.
        wish: of pairs: when to hand over.
        key: where the vault's key is (env:NAME, file:PATH, …); None leaves the index in the clear.
        progress: hears about stages, and what must be known.

    Returns:
        What `shuyuan index --json` prints.

    Raises:
        DataError: a source is not there, cannot be read or holds no words.
        RunError: the folder holds something else, or another process is at work on it.
        VaultError: the index that is there does not open with this key.
    """
    columns, wish, progress = columns or Columns(), wish or Wish(), progress or Progress()
    if columns.answer is None and wish != Wish():
        raise DataError(
            "retrieval.no-answers",
            "A coverage or accuracy is wished, but the index has no answers to give or to hand over.",
            mend="Name the columns of the pairs with --question and --answer, or leave the wish out.",
        )
    if key is None:
        progress.say("vault.open", "Not sealed: this index lies in the clear, and nothing in it is hidden.")
    with _opened(Run(out), key) as store:
        documents, skipped = read_documents(sources, columns, progress)
        left_out = {reason: count for reason, count in sorted(skipped.items()) if count}
        if left_out:
            found = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            progress.say("data.skipped", f"Left out: {found}.")
        digest = _digest(documents, wish)
        if _digest_of(store) != digest:
            contents, texts = _contents(documents, wish, progress)
            contents.manifest.update(digest=digest, left_out=left_out)
            folder.write(store, contents, texts)
        return summary(store)


def summary(store: Store) -> dict[str, Any]:
    """What `shuyuan index --json` prints."""
    manifest = folder.read_manifest(store)
    shown = ("pairs", "documents", "passages", "words", "left_out")
    matching = manifest["matching"]
    return {
        "index": str(store.path),
        **{name: manifest[name] for name in shown},
        "bytes": sum(facts["bytes"] for facts in manifest["files"].values()),
        "sealed": store.sealed,
        "matching": matching
        and {name: value for name, value in matching.items() if name not in ("evidence", "confidence")},
    }


@contextmanager
def _opened(run: Run, key: str | None) -> Iterator[Store]:
    """The folder of an index, for writing; one that was not there is taken away again if nothing comes of it."""
    names = [entry.name for entry in run.path.iterdir()] if run.path.is_dir() else []
    fresh = all(_BEGUN.fullmatch(name) for name in names)
    if run.path.exists() and not run.path.is_dir():
        raise RunError(
            "retrieval.not-a-folder",
            "There is a file of that name.",
            where=str(run.path),
            mend="Choose another --out.",
        )
    if not fresh and folder.MARK not in names:
        raise RunError(
            "retrieval.folder-in-use",
            f"The folder holds something else ({', '.join(sorted(names)[:3])}).",
            where=str(run.path),
            mend="Choose an empty folder, or one with an index, as --out.",
        )
    with run.lock("index"):
        try:
            with open_store(run, key, create=True) as store:
                yield store
        except BaseException:
            if fresh and not (run.path / folder.FOLDER).exists():
                shutil.rmtree(run.path, ignore_errors=True)
            raise


def _contents(documents: list[Document], wish: Wish, progress: Progress) -> tuple[folder.Contents, bytes]:
    pairs = any(document.answer is not None for document in documents)
    cut = [
        (number, start, end)
        for number, document in enumerate(documents)
        for start, end in ([(0, len(document.text))] if pairs else passages(document.text))
    ]
    texts = [documents[number].text[start:end] for number, start, end in cut]
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    with progress.stage("index", len(texts), "passages") as stage:
        scoring = learn(map(terms, texts), stage)
    answers = sorted({document.answer for document in documents if document.answer is not None})
    numbers = {answer: number for number, answer in enumerate(answers)}
    places = folder.Passages(
        [document.name for document in documents],
        answers,
        np.array([number for number, _, _ in cut], np.int32),
        np.fromiter(_lines(documents, cut), np.int32, len(cut)),
        np.array([start for _, start, _ in cut], np.int64),
        np.array([end for _, _, end in cut], np.int64),
        np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        np.array([numbers.get(documents[number].answer or "", -1) for number, _, _ in cut], np.int32),
        np.array([documents[number].is_file for number, _, _ in cut], np.bool_),
    )
    matching = None
    if pairs:
        with progress.stage("calibrate", len(texts), "pairs") as stage:
            questions = [asked(text, of_questions=True) for text in texts]
            matching = calibrate(scoring, places.answer_N, questions, wish, stage)
    manifest = {
        "pairs": pairs,
        "documents": len(documents),
        "passages": len(texts),
        "words": len(scoring.words),
        "matching": matching and matching.as_dict(),
    }
    return folder.Contents(manifest, scoring, places), b"".join(encoded)


def _lines(documents: list[Document], cut: list[tuple[int, int, int]]) -> Iterator[int]:
    """The line at which each passage begins."""
    before, at, line = -1, 0, 0
    for number, start, _ in cut:
        document = documents[number]
        if number != before:
            before, at, line = number, 0, document.line
        if document.is_file:
            line += document.text.count("\n", at, start)
            at = start
        yield line


def _digest_of(store: Store) -> str | None:
    """The digest of the index that is there; None if there is none, or none that this version reads."""
    try:
        digest: str = folder.read_manifest(store)["digest"]
    except (DataError, RunError):
        return None
    return digest


def _digest(documents: list[Document], wish: Wish) -> str:
    """What tells whether an index is of these documents and settings."""
    digest = hashlib.sha256(json.dumps([folder.FORMAT, COLUMNS, astuple(wish)]).encode())
    for document in documents:
        digest.update(json.dumps(astuple(document)).encode())
    return digest.hexdigest()
