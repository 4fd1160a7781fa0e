"""Recurrent models in folders: model.keras, which plain Keras opens, and beside it what Keras does not ask for.

Nothing here needs TensorFlow before a model is built.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import ShuyuanError
from ..recipe import Model
from ..vault import Folder, Store, disk
from .folder import CONFIG_FILE, missing, opened, read_json
from .keras_file import check_table, predicts, read_table, stack_of
from .packed_file import TABLE, Pack, kinds, read_packed, write_packed
from .rnn_config import MODEL_TYPE, RnnConfig

if TYPE_CHECKING:
    from .rnn import RnnModel

KERAS_FILE = "model.keras"
LAYERS_FILE = "layers.json"  # of a compressed model: what stands in model.keras beside the weights
SUFFIX = ".keras"
TOKENIZER_FILE = "tokenizer.json"


def rnn_config(model: Model, vocab_size: int, end_id: int = 0, labels: Sequence[str] = ()) -> RnnConfig:
    """The shape of the recurrent model that a run will train: the recipe's own, or that of the one it starts from.

    Args:
        model: the recipe's [model] table.
        vocab_size: of the run's tokenizer.
        end_id: its end token.
        labels: names of the classes, for a task that tells some apart.

    Raises:
        ShuyuanError: there is no model to start from, it cannot be opened, or does not fit tokenizer or task.
    """
    if model.from_ is None:
        return RnnConfig.from_recipe(model, vocab_size, end_id, labels)
    content, where = _start(model.from_)
    return _fitted(read_table(content, where), where, model.context, vocab_size, end_id, tuple(labels))


def starting_model(model: Model, vocab_size: int, end_id: int, labels: Sequence[str], seed: int) -> RnnModel:
    """The model before step 1: drawn from the seed, or the one that `model.from` names.

    Args:
        model, vocab_size, end_id, labels: as of `rnn_config`.
        seed: start of the weights, and of what dropout draws.

    Raises:
        ShuyuanError: as of `rnn_config`.
    """
    from .rnn import RnnModel, build, from_bytes, seed_dropout

    if model.from_ is None:
        config = RnnConfig.from_recipe(model, vocab_size, end_id, labels)
        plain = build(config, seed)
    else:
        content, where = _start(model.from_)
        config = _fitted(read_table(content, where), where, model.context, vocab_size, end_id, tuple(labels))
        plain = from_bytes(content, where)
    seed_dropout(plain, seed)
    return RnnModel(config, plain)


def hand_in(model: Any, file: Path) -> None:
    """Writes a model of Keras, or what a function gives, as the `.keras` file that a run starts from.

    Args:
        model: Sequential or Functional, or a function without arguments that makes one.
        file: where to; in the clear. Where it holds these layers already it stays: a run goes on from the weights that it
            began with.

    Raises:
        ShuyuanError: it holds other layers, or the model has layers that are not opened again.
    """
    from .rnn import to_bytes

    content = to_bytes(model if hasattr(model, "layers") else model())
    table = read_table(content, str(file))
    if file.exists():
        if stack_of(read_table(file.read_bytes(), str(file)), str(file)) != stack_of(table, str(file)):
            raise ShuyuanError(
                "models.other-start",
                "The model that is handed in has other layers than the one that the run began with.",
                where=str(file),
                mend="Hand in the same one, or begin a new run with another out.",
            )
        return
    disk.replace_file(file, content)


def save(folder: Folder, model: RnnModel, tokenizer_json: str, card: str, pack: Pack | None = None) -> None:
    """Writes a model as a folder: model.keras, tokenizer.json, config.json and the card.

    Args:
        folder: receives the files (`store.folder("model")`).
        model: its weights are float32.
        tokenizer_json: the content of tokenizer.json.
        card: the model card, Markdown; becomes README.md.
        pack: writes the weights in fewer bytes, beside a file of the layers; then Shuyuan alone opens the folder.
    """
    from .rnn import named_weights, to_bytes

    model.compute_in(None)
    table, content = model.config.to_json(), to_bytes(model.plain)
    if pack is None:
        folder.write(KERAS_FILE, content)
    else:
        folder.write(LAYERS_FILE, json.dumps(read_table(content, LAYERS_FILE), ensure_ascii=False).encode())
        table[TABLE] = write_packed(folder, named_weights(model.plain), pack)
    folder.write(CONFIG_FILE, json.dumps(table, indent=2, ensure_ascii=False).encode())
    folder.write(TOKENIZER_FILE, tokenizer_json.encode())
    folder.write("README.md", card.encode())


def load(store: Store, name: str = "model") -> RnnModel:
    """Loads a model from a run, or from any store.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.

    Raises:
        ShuyuanError: a file is missing or damaged, or names something else than known layers of Keras.
    """
    from .rnn import RnnModel, from_bytes, from_layers

    table = read_json(store, name, CONFIG_FILE)
    place = str(PurePosixPath(store.path.as_posix(), name))
    packed = kinds(table, f"{place}/{CONFIG_FILE}")
    if packed is None:
        content, where = _read(store, name)
        layers, plain = read_table(content, where), from_bytes(content, where)
    else:
        where = f"{place}/{LAYERS_FILE}"
        layers = check_table(read_json(store, name, LAYERS_FILE), where)
        weights = dict(read_packed(store, name, packed))
        plain = from_layers(layers, weights, where)
    config = RnnConfig.from_json(table, stack_of(layers, where), where=f"{place}/{CONFIG_FILE}")
    return RnnModel(config, plain)


def is_recurrent(table: dict[str, Any]) -> bool:
    """Whether a config.json is of a recurrent model."""
    return table.get("model_type") == MODEL_TYPE


def _start(place: str) -> tuple[bytes, str]:
    """The `.keras` file that a recipe's `model.from` names, or that lies in the run or folder that it names."""
    path = Path(place)
    if place.endswith(SUFFIX) and not path.is_dir():
        if not path.is_file():
            raise ShuyuanError(
                "models.no-folder", "There is no such model.", where=place, mend="Check the path."
            )
        return path.read_bytes(), place
    with opened(place) as (store, name):
        if not is_recurrent(read_json(store, name, CONFIG_FILE)):
            raise ShuyuanError(
                "models.other-family",
                "The model to start from is not of the family rnn.",
                where=place,
                mend="Leave model.family out, or name a .keras file or a run of the family rnn.",
            )
        return _read(store, name)


def _read(store: Store, name: str) -> tuple[bytes, str]:
    full = f"{name}/{KERAS_FILE}".removeprefix("/")
    if not store.exists(full):
        raise missing(KERAS_FILE, str(store.path / name))
    return store.read(full), str(store.path / full)


def _fitted(
    table: dict[str, Any], where: str, context: int, vocab_size: int, end_id: int, labels: tuple[str, ...]
) -> RnnConfig:
    """The shape of a given model, with the run's tokenizer and classes."""
    stack = stack_of(table, where)
    config = RnnConfig(
        vocab_size, stack, context, predict=predicts(stack), end_id=end_id, labels=labels, given=True
    )
    rows, outputs = vocab_size + config.offset, len(labels) or vocab_size
    first, last = stack[0], stack[-1]
    if first.kind != "embedding":
        raise _misfit(
            "begins with no Embedding, and is given token ids", where, "Begin it with an Embedding layer."
        )
    if first.inputs < rows:
        known = f"has an Embedding of {first.inputs} rows, and {rows} are needed"
        beside = f" ({vocab_size} tokens, and 0 where no token is)" if labels else ""
        raise _misfit(known + beside, where, f"Give it an Embedding({rows}, …).")
    if last.units != outputs if labels else last.units < outputs:
        raise _misfit(
            f"has {last.units} outputs, and {outputs} are needed", where, f"End it with Dense({outputs})."
        )
    if labels and last.sequence:
        raise _misfit("tells something of every token, and the task one label of a text", where, "Let the last recurrent layer have return_sequences=False, or pool.")  # fmt: skip
    return replace(config, vocab_size=config.vocab_size if labels else last.units)


def _misfit(what: str, where: str, mend: str) -> ShuyuanError:
    return ShuyuanError("models.other-shape", f"The model to start from {what}.", where=where, mend=mend)
