"""Hugging Face folders, out and in: what is written opens as `Qwen3ForCausalLM`, and such folders load here.

Weights are safetensors only. A pickle can run code when it is opened, so none is ever opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import ShuyuanError
from ..vault import Folder, Reader, Store
from .config import TransformerConfig
from .folder import CONFIG_FILE, missing, opened, read_config, read_json
from .transformer import Transformer
from .weights import Place, check_shapes, damaged, read_header, read_tensor

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
TOKENIZER_FILE = "tokenizer.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
ROLES = ("bos_token", "eos_token", "pad_token")  # the end token plays all three
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def save(folder: Folder, model: Transformer, tokenizer_json: str, card: str) -> None:
    """Writes a model as a Hugging Face folder that transformers, vLLM and llama.cpp open.

    Args:
        folder: receives the files (`store.folder("model")`).
        model: its weights are written as float32; a tied head is not written twice.
        tokenizer_json: the content of tokenizer.json.
        card: the model card, Markdown; becomes README.md.

    Raises:
        ShuyuanError: the tokenizer does not fit the model.
    """
    config = model.config
    weights = {name: weight.detach().float().cpu().contiguous() for name, weight in model.named_parameters()}
    folder.write(CONFIG_FILE, _json(config.to_hub()))
    folder.write(WEIGHTS_FILE, safetensors.torch.save(weights, {"format": "pt"}))
    folder.write(TOKENIZER_FILE, tokenizer_json.encode())
    folder.write("tokenizer_config.json", _json(_tokenizer_config(config, tokenizer_json)))
    ends = {} if config.end_id is None else {f"{role}_id": config.end_id for role in ROLES}
    folder.write("generation_config.json", _json({"do_sample": True, "temperature": 0.8, **ends}))
    folder.write("README.md", card.encode())


def load_folder(path: str | Path) -> Transformer:
    """Loads a Qwen3 folder, as transformers or `save` writes it, or the model of a run.

    Raises:
        ShuyuanError: as `load`, or the run cannot be opened.
    """
    with opened(Path(path)) as (store, name):
        return load(store, name)


def load(store: Store, name: str = "model") -> Transformer:
    """Loads a model from a run, or from any store; memory peaks at the model and one tensor more.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.

    Returns:
        The model in float32, on the CPU.

    Raises:
        ShuyuanError: a file is missing or damaged, the weights are pickled or do not fit the configuration, or the
            architecture is another; the file or tensor is named.
    """
    prefix = f"{name}/" if name else ""
    found = [full.removeprefix(prefix) for full in store.names(prefix)]
    place = str(PurePosixPath(store.path.as_posix(), name))
    config = read_config(store, name)
    files = _weight_files(store, name, found, place)
    with ExitStack() as stack:
        readers = {file: stack.enter_context(store.open(prefix + file)) for file in files}
        headers = {file: read_header(reader, f"{place}/{file}") for file, reader in readers.items()}
        places = _merge(headers, place)
        expected = dict(config.shapes)
        if config.tied and HEAD in places:
            expected[HEAD] = expected[EMBEDDING]
        check_shapes(places, expected, place)
        weights = dict(_read_all(readers, headers, place))
    if config.tied:
        _drop_tied_head(weights, place)
    with torch.device("meta"):  # nothing is allocated: the model takes the tensors that were read
        model = Transformer(config, seed=None)
    model.load_state_dict(weights, strict=False, assign=True)
    if config.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def _weight_files(store: Store, name: str, found: list[str], place: str) -> list[str]:
    """The names of the safetensors files: one, or those that an index lists."""
    if WEIGHTS_FILE in found:
        return [WEIGHTS_FILE]
    if INDEX_FILE in found:
        named = read_json(store, name, INDEX_FILE).get("weight_map")
        files = sorted({str(file) for file in named.values()}) if isinstance(named, dict) else []
        for file in files:
            if file not in found or not file.endswith(".safetensors"):
                raise missing(file[:80], place)
        if files:
            return files
    pickles = [file for file in found if file.endswith(PICKLES)]
    if pickles:
        raise ShuyuanError(
            "models.pickle",
            f"The weights are pickled ({pickles[0]}), and a pickle can run code when it is opened.",
            where=place,
            mend="Use a folder with model.safetensors; transformers' save_pretrained writes one.",
        )
    raise missing(WEIGHTS_FILE, place)


def _merge(headers: dict[str, dict[str, Place]], place: str) -> dict[str, Place]:
    """The tensors of all files; one that stands in two of them is refused."""
    places: dict[str, Place] = {}
    for file, header in headers.items():
        for tensor in header:
            if tensor in places:
                raise damaged(f"{tensor[:80]} stands in another file too", f"{place}/{file}")
        places.update(header)
    return places


def _read_all(
    readers: dict[str, Reader], headers: dict[str, dict[str, Place]], place: str
) -> Iterator[tuple[str, Tensor]]:
    for file, header in headers.items():
        for tensor, at in header.items():
            yield tensor, read_tensor(readers[file], at, f"{place}/{file}")


def _drop_tied_head(weights: dict[str, Tensor], place: str) -> None:
    """Some writers store a tied head too; it must then be the embedding."""
    head = weights.pop(HEAD, None)
    if head is not None and not torch.equal(head, weights[EMBEDDING]):
        raise ShuyuanError(
            "models.not-tied",
            f"config.json says that {HEAD} is the embedding, and the weights hold another.",
            where=place,
            mend='Set "tie_word_embeddings" to false in config.json if the head was trained by itself.',
        )


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
