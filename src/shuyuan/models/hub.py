"""Hugging Face folders, out and in: what is written opens in transformers, and folders of transformers load here.

The layout of Qwen3 is computed by our own transformer, everything else by transformers. Weights are safetensors only. A
pickle can run code when it is opened, so none is ever opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ..errors import ShuyuanError
from ..vault import Folder, Store
from .classifier import Classifier
from .cnn import ImageClassifier, image_classifier
from .config import HEAD, LABEL_HEAD, TransformerConfig, in_block
from .folder import (
    CONFIG_FILE,
    LARGEST_JSON_BYTES,
    WEIGHTS_FILE,
    opened,
    read_config,
)
from .frozen import FrozenLinear, frozen, frozen_layers
from .hub_config import HubConfig
from .hub_model import HubModel, build
from .image_config import ImageConfig
from .labelled import loaded
from .layout import Later, pieces
from .ngram_config import NgramConfig
from .ngrams import NgramClassifier
from .packed import Floats
from .packed_file import TABLE, Pack, write_packed
from .stored import read_weights
from .transformer import Transformer

TOKENIZER_FILE = "tokenizer.json"
# What goes with another architecture's weights and says nothing of records.
COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
ROLES = ("bos_token", "eos_token", "pad_token")  # the end token plays all three

TextNetwork = Transformer | Classifier | HubModel | NgramClassifier
Network = TextNetwork | ImageClassifier


def save(
    folder: Folder,
    model: Network,
    tokenizer_json: str | None,
    card: str,
    end_of_turn: int | None = None,
    pack: Pack | None = None,
) -> None:
    """Writes a model as a Hugging Face folder; one for text, but for n-grams, opens in transformers, vLLM and llama.cpp.

    Args:
        folder: receives the files (`store.folder("model")`).
        model: its weights are written as float32, those that are codes too; a tied head is not written twice.
        tokenizer_json: the content of tokenizer.json; None for a model that reads images.
        card: the model card, Markdown; becomes README.md.
        end_of_turn: a token that ends an answer, beside the end token.
        pack: writes the weights in fewer bytes; then Shuyuan alone opens the folder.

    Raises:
        ShuyuanError: the tokenizer does not fit the model.
    """
    table, parameters = model.to_hub()
    weights = {name: weight.detach().float().cpu().numpy() for name, weight in parameters.items()}
    if pack is None:
        folder.write(WEIGHTS_FILE, *pieces(weights | dict(_coded(model)), {"format": "pt"}))
    else:
        table = table | {TABLE: write_packed(folder, weights, pack)}
    folder.write(CONFIG_FILE, _json(table))
    if not isinstance(model, ImageClassifier):
        assert tokenizer_json is not None
        _save_companions(folder, model, tokenizer_json, end_of_turn)
    folder.write("README.md", card.encode())


def _coded(model: Network) -> Iterator[tuple[str, Floats | Later]]:
    """The weights that are kept as codes, under the names that `to_hub` would give them."""
    for name, layer in frozen_layers(model):
        for ending, array in layer.to_hub():
            yield f"{name.removeprefix('body.')}.{ending}", array


def _save_companions(
    folder: Folder, model: TextNetwork, tokenizer_json: str, end_of_turn: int | None
) -> None:
    """What goes with the weights of a model for text."""
    config = model.config
    companions = model.companions if isinstance(model, HubModel) else {}
    folder.write(TOKENIZER_FILE, tokenizer_json.encode())
    if "tokenizer_config.json" not in companions:
        folder.write("tokenizer_config.json", _json(_tokenizer_config(config, tokenizer_json)))
    for file, content in companions.items():
        folder.write(file, content)
    if config.output == "tokens":
        ends: dict[str, Any] = (
            {} if config.end_id is None else {f"{role}_id": config.end_id for role in ROLES}
        )
        if end_of_turn not in (None, config.end_id):
            ends["eos_token_id"] = [end_of_turn, *([config.end_id] if config.end_id is not None else [])]
        folder.write("generation_config.json", _json({"do_sample": True, "temperature": 0.8, **ends}))


def load_folder(
    path: str | Path,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    spans: bool = False,
    dropout: float | None = None,
    bits: int | None = None,
) -> Network:
    """Loads the model that a recipe's `model.from` names: a folder, a run, or a repository of the hub.

    Args:
        path: as in the recipe.
        labels: as for `load`.
        seed: as for `load`.
        spans: as for `load`.
        dropout: as for `load`.
        bits: as for `load`.

    Raises:
        ShuyuanError: as `load`, or the run cannot be opened.
    """
    with opened(path) as (store, name):
        return load(store, name, labels, seed, spans, dropout, bits)


def load(
    store: Store,
    name: str = "model",
    labels: Sequence[str] | None = None,
    seed: int = 0,
    spans: bool = False,
    dropout: float | None = None,
    bits: int | None = None,
) -> Network:
    """Loads a model from a run, or from any store; memory peaks at the model and one tensor more.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.
        labels: names of the classes that it shall tell apart, or () for tokens: another head than the stored one is drawn
            anew, from the seed. None takes the model as it is.
        seed: start of what is drawn.
        spans: with no classes: for places in a text, not for tokens.
        dropout: of a model that transformers computes, in training; None: as its folder says.
        bits: 8 or 4: of our own transformer, the matrices inside the blocks become codes (`frozen.FrozenLinear`) as they are read, so that
            memory never holds all of their floats.

    Returns:
        The model in float32, on the CPU.

    Raises:
        ShuyuanError: a file is missing or damaged, the weights are pickled or do not fit the configuration, or the head
            that is wanted cannot be had; the file or tensor is named.
    """
    place = str(PurePosixPath(store.path.as_posix(), name))
    config = read_config(store, name)
    if isinstance(config, HubConfig):
        config = replace(config, dropout=dropout)
        model = build(config, _tensors(store, name, config), labels, seed, place, spans)
        model.companions = dict(_companions(store, name))
        return model
    if isinstance(config, ImageConfig):
        return loaded(image_classifier, config, _tensors(store, name, config), labels, seed, "head")
    if isinstance(config, NgramConfig):
        if labels is not None and not labels:
            raise _no_token_head(place)
        return loaded(NgramClassifier, config, _tensors(store, name, config), labels, seed, "score")
    return _native(config, _tensors(store, name, config, bits), labels, seed, place)


def scratch(config: TransformerConfig | ImageConfig, seed: int = 0, bits: int | None = None) -> Network:
    """A model of that shape with weights drawn from the seed.

    Args:
        config: the shape; with labels, of a model that tells them.
        seed: start of the weights. Default 0.
        bits: as for `load`; with them weights are such as to try steps on, none to begin with.

    Raises:
        ShuyuanError: of an architecture of Hugging Face: this version of transformers does not make it.
    """
    if bits is not None and type(config) is TransformerConfig:
        return _native(config, dict(_drawn(config, seed, bits)), None, seed, "scratch")
    if isinstance(config, ImageConfig):
        return image_classifier(config, seed)
    if isinstance(config, HubConfig):
        return build(config, None, None, seed, "model.from")
    if isinstance(config, NgramConfig):
        return NgramClassifier(config, seed)
    return Classifier(config, seed) if config.labels else Transformer(config, seed)


def _drawn(config: TransformerConfig, seed: int, bits: int) -> Iterator[tuple[str, Tensor | FrozenLinear]]:
    """Weights for `_native`, one after another; matrices of the blocks become codes at once."""
    generator = torch.Generator().manual_seed(seed)
    for name, shape in config.shapes.items():
        weight = torch.empty(shape).normal_(0.0, 0.02, generator=generator)
        if len(shape) == 1:
            weight.fill_(1.0)
        yield name, _codes_of(name, weight.numpy(), bits) or weight


def _codes_of(name: str, weight: Floats, bits: int | None) -> FrozenLinear | None:
    """A matrix inside the blocks as codes; None for all else."""
    if bits is None or not in_block(name) or weight.ndim == 1:
        return None
    return frozen(name.removesuffix(".weight"), weight, bits)


def _tensors(
    store: Store,
    name: str,
    config: TransformerConfig | ImageConfig | NgramConfig | HubConfig,
    bits: int | None = None,
) -> dict[str, Any]:
    """Each weight as a tensor, or, of a matrix that is to be codes, the layer that computes with it."""

    def kept(weight: str, array: Floats) -> Tensor | FrozenLinear:
        return _codes_of(weight, array, bits) or torch.from_numpy(array)

    return read_weights(store, name, config, kept)


def _native(
    config: TransformerConfig,
    weights: dict[str, Any],
    labels: Sequence[str] | None,
    seed: int,
    place: str,
) -> Transformer | Classifier:
    """Our own transformer with these weights; nothing is allocated for it, it takes the tensors that were read."""
    new: frozenset[str] = frozenset()
    if labels is not None and tuple(labels) != config.labels:
        if not labels:
            raise _no_token_head(place)
        config = replace(config, labels=tuple(labels), tied=False)
        weights.pop(HEAD, None)
        head = torch.empty(config.shapes[LABEL_HEAD])
        weights[LABEL_HEAD] = head.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(seed))
        new = frozenset({LABEL_HEAD})
    with torch.device("meta"):
        model = Classifier(config, None) if config.labels else Transformer(config, None)
    for name, layer in weights.items():
        if isinstance(layer, FrozenLinear):
            parent, _, last = name.removesuffix(".weight").rpartition(".")
            setattr(model.get_submodule(parent), last, layer)
    floats = {name: weight for name, weight in weights.items() if isinstance(weight, Tensor)}
    model.load_state_dict(floats, strict=False, assign=True)
    if isinstance(model, Transformer) and config.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.new = new
    return model


def _no_token_head(place: str) -> ShuyuanError:
    return ShuyuanError(
        "models.no-token-head",
        "The model tells classes apart, and has no head to continue text.",
        where=place,
        mend="Start from the model that it was made of.",
    )


def _companions(store: Store, name: str) -> Iterator[tuple[str, bytes]]:
    prefix = f"{name}/" if name else ""
    there = store.names(prefix)
    for file in COMPANIONS:
        if prefix + file in there:
            with store.open(prefix + file) as reader:
                yield file, reader.read_at(0, min(reader.size, LARGEST_JSON_BYTES))


def _tokenizer_config(config: TransformerConfig, tokenizer_json: str) -> dict[str, Any]:
    """What transformers wants to know beside tokenizer.json."""
    table = json.loads(tokenizer_json)
    entries: dict[int, str] = {id_: token for token, id_ in _vocabulary(table)}
    no_end = config.end_id is not None and config.end_id not in entries
    if no_end or max(entries, default=0) >= config.vocab_size:
        raise ShuyuanError(
            "models.other-tokenizer",
            f"The tokenizer has tokens up to {max(entries, default=0)}; the model has {config.vocab_size} and ends "
            f"texts with {config.end_id}.",
            mend="Save the model with the tokenizer that it was trained with.",
        )
    ends = {} if config.end_id is None else dict.fromkeys(ROLES, entries[config.end_id])
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.context,
        "clean_up_tokenization_spaces": False,
        **ends,
    }


def _vocabulary(table: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Token and id of every entry of a tokenizer.json."""
    vocabulary = table["model"].get("vocab", {})
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:  # Unigram: a list of [token, score]
        yield from ((token, id_) for id_, (token, _) in enumerate(vocabulary))
    yield from ((added["content"], added["id"]) for added in table.get("added_tokens", []))


def _json(table: dict[str, Any]) -> bytes:
    return json.dumps(table, indent=2, ensure_ascii=False).encode()
