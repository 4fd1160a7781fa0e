"""The files of an index: what is written, how it is read back, and what is said of one that is damaged.

index.json                 the mark of an index; open in a sealed one too
index/manifest.json        format, counts, the digest of the documents and of every other file
index/arrays.safetensors   numbers: scoring, and where each passage stands
index/words.json           the terms, sorted
index/documents.json       names of the documents, and the answers of pairs
index/texts.utf8           the passages, one after another
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import DataError, RunError
from ..strict import parsed
from ..vault import Problem, Store
from .matching import Matching
from .scoring import Scoring

MARK = "index.json"
FOLDER = "index"
MANIFEST = f"{FOLDER}/manifest.json"
TEXTS = f"{FOLDER}/texts.utf8"
FORMAT = 1  # also of the words: what one version counts as a term, another must count too
_ARRAYS = {
    "weights": np.float32, "holders": np.int32, "starts": np.int64,
    "document": np.int32, "line": np.int32, "start": np.int64, "end": np.int64, "bytes": np.int64, "answer": np.int32,
    "is_file": np.bool_,
}  # fmt: skip
_PLACES = ("document", "line", "start", "end", "bytes", "answer", "is_file")
_FIELDS = {"pairs", "documents", "passages", "words", "matching", "digest", "left_out", "files"}


@dataclass(frozen=True)
class Passages:
    """Where N passages stand.

    Attributes:
        names: of the documents.
        answers: the different answers of pairs; none of documents.
        document_N: number of the document.
        line_N: line of the document's file.
        start_N: first character in the document's text.
        end_N: the character behind the last.
        bytes_N1: where each begins in the file of texts, and the end of the last.
        answer_N: number of the answer, -1 of documents.
        is_file_N: whether the document's lines are those of the file; a row of a table has one line for all of it.
    """

    names: list[str]
    answers: list[str]
    document_N: NDArray[np.int32]
    line_N: NDArray[np.int32]
    start_N: NDArray[np.int64]
    end_N: NDArray[np.int64]
    bytes_N1: NDArray[np.int64]
    answer_N: NDArray[np.int32]
    is_file_N: NDArray[np.bool_]


@dataclass(frozen=True)
class Contents:
    """What an index holds, but for the texts.

    Attributes:
        manifest: `pairs` (whether questions with answers), `documents`, `passages`, `digest`, `left_out`, `matching`.
        scoring: tells how well a passage fits.
        passages: where they stand.
    """

    manifest: dict[str, Any]
    scoring: Scoring
    passages: Passages


def write(store: Store, contents: Contents, texts: bytes) -> None:
    """Writes an index; it appears whole, in the place of the one before.

    Args:
        store: where.
        contents: what was counted.
        texts: of all passages, UTF-8, one behind another.
    """
    scoring, places = contents.scoring, contents.passages
    arrays: dict[str, NDArray[Any]] = {
        "weights": scoring.weights_P, "holders": scoring.holders_P, "starts": scoring.starts_V1,
        "document": places.document_N, "line": places.line_N, "start": places.start_N, "end": places.end_N,
        "bytes": places.bytes_N1, "answer": places.answer_N,
        "is_file": places.is_file_N,
    }  # fmt: skip
    files = {
        "arrays.safetensors": save(arrays),
        "words.json": _json(scoring.words),
        "documents.json": _json({"names": places.names, "answers": places.answers}),
        "texts.utf8": texts,
    }
    facts = {name: {"bytes": len(data), "sha256": _digest(data)} for name, data in files.items()}
    if not store.exists(MARK):
        store.write_open(MARK, b'{"shuyuan": "index"}\n')
    with store.folder(FOLDER) as folder:
        folder.write("manifest.json", _json({"format": FORMAT, **contents.manifest, "files": facts}))
        for name, data in files.items():
            folder.write(name, data)


def read_manifest(store: Store) -> dict[str, Any]:
    """What an index says about itself.

    Args:
        store: where the index is.

    Raises:
        DataError: it was made by another version, or is damaged.
        RunError: it is not finished.
    """
    if not store.exists(MANIFEST):
        raise not_an_index(store.path)
    store.read(MARK)  # of a sealed index, this says whether it was changed
    manifest = _parsed(store, MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise damaged(store.path / MANIFEST, "it says nothing of its format")
    if manifest["format"] != FORMAT:
        raise DataError(
            "retrieval.other-format",
            f"The index has format {manifest['format']}, and this version reads format {FORMAT}.",
            where=str(store.path),
            mend="Make it again from its documents with: shuyuan index",
        )
    if not manifest.keys() >= _FIELDS or not isinstance(manifest["files"], dict):
        raise damaged(store.path / MANIFEST, "fields are missing")
    return manifest


def read(store: Store) -> Contents:
    """An index as it was written.

    Args:
        store: where the index is.

    Raises:
        DataError: it was made by another version, or one of its files is damaged.
        VaultError: a sealed file was tampered with.
        RunError: a file is missing.
    """
    manifest = read_manifest(store)
    words = _parsed(store, f"{FOLDER}/words.json", manifest)
    documents = _parsed(store, f"{FOLDER}/documents.json", manifest)
    path = store.path / FOLDER / "arrays.safetensors"
    try:
        content = _whole(store, "arrays.safetensors", manifest)
        arrays = load(content)
        parsed(
            content[8 : 8 + int.from_bytes(content[:8], "little")]
        )  # `load` takes the last of two equal names
        if {name: array.dtype for name, array in arrays.items()} != _ARRAYS:
            raise damaged(path, "it holds other arrays")
        scoring = Scoring(
            words, arrays["weights"], arrays["holders"], arrays["starts"], len(arrays["document"])
        )
        places = Passages(
            documents["names"],
            documents["answers"],
            *(arrays[name] for name in _PLACES),
        )
        with store.open(TEXTS) as reader:
            if reader.size != manifest["files"]["texts.utf8"]["bytes"]:
                raise damaged(store.path / TEXTS, "it is not as long as it was")
        if not _fit(scoring, places, manifest):
            raise damaged(path, "its numbers do not fit together")
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise damaged(path, f"it does not open ({type(error).__name__})") from None
    return Contents(manifest, scoring, places)


def matching_of(store: Store, manifest: dict[str, Any]) -> Matching:
    """What the manifest of an index of pairs says about confidence.

    Args:
        store: where the index is.
        manifest: as `read_manifest` gives it.

    Raises:
        DataError: it says nothing of it.
    """
    try:
        return Matching(**manifest["matching"])
    except (KeyError, TypeError):
        raise damaged(store.path / MANIFEST, "it says nothing of confidence") from None


def problems(store: Store) -> list[Problem]:
    """What is damaged in an open index; a sealed one has seals.

    Args:
        store: where the index is.

    Raises:
        RunError: it is not finished.
    """
    try:
        manifest = read_manifest(store)
    except DataError as error:
        return [Problem(MANIFEST, error.what)]
    found = []
    for name in manifest["files"]:
        try:
            _whole(store, name, manifest)
        except DataError as error:
            found.append(Problem(f"{FOLDER}/{name}", error.what))
    return found


def is_index(path: Path) -> bool:
    """Whether a folder is marked as an index, or is a sealed one that lost its mark.

    Args:
        path: a folder; one that is not there is none.
    """
    return (path / MARK).is_file() or ((path / FOLDER).is_dir() and (path / "vault.json").is_file())


def not_an_index(path: Path) -> RunError:
    """The error for a folder without an index."""
    return RunError(
        "retrieval.not-an-index",
        "There is no finished index here.",
        where=str(path),
        mend="Make one with: shuyuan index DOCUMENTS --out INDEX",
    )


def damaged(path: Path, why: str) -> DataError:
    """The error for a file of an index that is not as it was written."""
    return DataError(
        "retrieval.damaged",
        f"The file is not as it was written: {why}.",
        where=str(path),
        mend="Restore it from a copy, or make the index again from its documents with: shuyuan index",
    )


def _fit(scoring: Scoring, places: Passages, manifest: dict[str, Any]) -> bool:
    """Whether no number points at something that is not there."""
    starts_V1, count = scoring.starts_V1, scoring.passages
    texts = manifest["files"]["texts.utf8"]["bytes"]
    per_passage = (places.line_N, places.start_N, places.end_N, places.answer_N, places.is_file_N)
    return bool(
        count == manifest["passages"]
        and all(array.shape == (count,) for array in per_passage)
        and places.bytes_N1.shape == (count + 1,)
        and starts_V1.shape == (len(scoring.words) + 1,)
        and scoring.weights_P.shape == scoring.holders_P.shape == (int(starts_V1[-1]),)
        and _rises(starts_V1, 0, len(scoring.weights_P))
        and _rises(places.bytes_N1, 0, texts)
        and _within(scoring.holders_P, 0, count)
        and _within(places.document_N, 0, len(places.names))
        and _within(places.answer_N, -1, max(len(places.answers), 0))
        and np.isfinite(scoring.weights_P).all()
    )


def _rises(array: NDArray[np.int64], first: int, last: int) -> bool:
    return bool(array[0] == first and array[-1] == last and (np.diff(array) >= 0).all())


def _within(array: NDArray[np.int32], low: int, high: int) -> bool:
    return not len(array) or bool(low <= array.min() and array.max() < high)


def _whole(store: Store, name: str, manifest: dict[str, Any]) -> bytes:
    path = store.path / FOLDER / name
    data = store.read(f"{FOLDER}/{name}")
    facts = manifest["files"].get(name)
    if not isinstance(facts, dict) or facts.get("sha256") != _digest(data):
        raise damaged(path, "its digest is another")
    return data


def _parsed(store: Store, name: str, manifest: dict[str, Any] | None = None) -> Any:
    data = store.read(name) if manifest is None else _whole(store, name.removeprefix(f"{FOLDER}/"), manifest)
    try:
        return parsed(data)
    except (ValueError, RecursionError):
        raise damaged(store.path / name, "it is no JSON") from None


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
