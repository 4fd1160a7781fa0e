"""Copies of a run's model in formats that others open: a folder of Hugging Face or of Keras, GGUF, ONNX. All of them lie in the clear."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from .data import load_tokenizer
from .errors import RunError, cannot_write
from .models import load_network, save_variant
from .recipe import Recipe
from .runs import ORIGINAL, sync_folder, variant_folder
from .vault import OpenStore, Store

COPIES = "\nThis copy holds the variant's numbers as float32, so that other programs open it too.\n"


def check_target(to: Path) -> None:
    """Refuses a folder that holds something.

    Args:
        to: the folder; it need not be there.

    Raises:
        RunError: it does.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise RunError(
            "run.folder-in-use", "The folder is not empty.", where=str(to), mend="Choose another --to."
        )


def write(recipe: Recipe, store: Store, to: Path, kind: str, variant: str, weights: str) -> None:
    """Writes a model as a folder, which appears whole or not at all.

    Args:
        recipe: of the run.
        store: the run's files.
        to: the folder to make; empty, or not there.
        kind: "huggingface", "keras", "gguf" or "onnx".
        variant: of the model.
        weights: how GGUF stores matrices: "f32", "f16", "bf16" or "q8_0".

    Raises:
        ShuyuanError: the format cannot hold the model.
        MachineError: a library is missing, or the folder cannot be written.
    """
    partial = to.with_name(to.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if kind == "gguf":
            _gguf(recipe, store, partial, variant, weights)
        elif kind == "onnx":
            _onnx(recipe, store, partial, variant)
        else:
            _folder(store, partial, variant)
        _settle(partial)
        if to.exists():
            to.rmdir()
        partial.rename(to)
        sync_folder(to.parent)
    except OSError as error:
        raise cannot_write(error, to) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Has all files of a folder on disk before it gets its name: libraries that write some of them do not."""
    for file in folder.rglob("*"):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _folder(store: Store, folder: Path, variant: str) -> None:
    """The run's own files, once they were read as a model; of a variant, with its weights as float32."""
    model = load_network(store, variant_folder(variant))
    for name in store.names("model/"):
        if variant == ORIGINAL or not name.endswith(".safetensors"):
            _copied(store, name, folder / name.removeprefix("model/"))
    if variant == ORIGINAL:
        return
    tokenizer = "data/tokenizer.json"
    text = store.read(tokenizer).decode() if store.exists(tokenizer) else None
    with OpenStore(folder / ".made") as made:
        with made.folder("model") as out:
            save_variant(out, model, text, _card(store, variant) + COPIES, None)
        for name in made.names("model/"):
            _copied(made, name, folder / name.removeprefix("model/"))
    shutil.rmtree(folder / ".made")


def _gguf(recipe: Recipe, store: Store, folder: Path, variant: str, weights: str) -> None:
    from .models.gguf_file import write_gguf

    model: Any = load_network(store, variant_folder(variant))
    tokenizer = None if recipe.images else load_tokenizer(store)
    write_gguf(folder / f"{recipe.name}.gguf", model, tokenizer, recipe.name, weights)
    (folder / "README.md").write_text(_card(store, variant), encoding="utf-8")


def _onnx(recipe: Recipe, store: Store, folder: Path, variant: str) -> None:
    from .models.onnx_file import write_onnx

    model: Any = load_network(store, variant_folder(variant))
    write_onnx(folder / "model.onnx", model)
    labels = json.dumps(list(model.config.labels), ensure_ascii=False)
    (folder / "labels.json").write_text(labels, encoding="utf-8")
    if not recipe.images:
        _copied(store, "data/tokenizer.json", folder / "tokenizer.json")
    (folder / "README.md").write_text(_card(store, variant), encoding="utf-8")


def _card(store: Store, variant: str) -> str:
    return store.read(f"{variant_folder(variant)}/README.md").decode()


def _copied(store: Store, name: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(store.read(name))
