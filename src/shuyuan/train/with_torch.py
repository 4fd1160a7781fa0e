"""Training in PyTorch: the framework of transformers and of networks for images."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data import Manifest
from ..errors import TrainError
from ..hardware import Hardware
from ..models import ImageClassifier, ImageConfig, NgramClassifier, TransformerConfig, hub, lora
from ..models.digest import weights_digest
from ..models.hub import Network
from ..privacy import Mechanism
from ..recipe import Recipe, Train
from ..vault import Folder
from .distill import Distillation
from .distributed import World
from .parts import config_of
from .precision import repeatable
from .private import PrivateBackend
from .torch_backend import TorchBackend

__all__ = [
    "backend", "divide_logits", "logits", "private_backend", "repeatable", "save", "scratch", "starting_model", "trainable", "versions", "weights_digest",
]  # fmt: skip


def versions() -> dict[str, str]:
    """The libraries that the last bits depend on."""
    return {"torch": metadata.version("torch")}


def trainable(recipe: Recipe, manifest: Manifest) -> Network:
    """The model before step 1, with LoRA's matrices beside its own where the recipe asks for them."""
    return _adapted(_starting_model(recipe, manifest, _bits(recipe)), recipe, recipe.seed)


def scratch(recipe: Recipe, manifest: Manifest) -> Network:
    """A model of the same shape to try steps on."""
    return _adapted(hub.scratch(_config(recipe, manifest), bits=_bits(recipe)), recipe, 0)


def _bits(recipe: Recipe) -> int | None:
    """Of the matrices that LoRA keeps as codes; None where they stay floats."""
    return None if recipe.train.lora is None else recipe.train.lora.bits


def _adapted(model: Network, recipe: Recipe, seed: int) -> Network:
    if recipe.train.lora is not None:
        lora.add_lora(model, recipe.train.lora, seed)
    return model


def starting_model(recipe: Recipe, manifest: Manifest) -> Network:
    """The model before step 1: drawn from the seed, or the weights that `model.from` names, with the head of the task."""
    return _starting_model(recipe, manifest, None)


def _starting_model(recipe: Recipe, manifest: Manifest, bits: int | None) -> Network:
    """The same, with matrices of so many bits where these can be read so."""
    config = _config(recipe, manifest)
    if recipe.model.from_ is None:
        return hub.scratch(config, recipe.seed)
    model = hub.load_folder(
        recipe.model.from_,
        manifest.labels,
        recipe.seed,
        manifest.output == "spans",
        recipe.model.dropout,
        bits,
    )
    if isinstance(model, ImageClassifier):
        return model
    model.config = replace(model.config, multi_label=manifest.multi_label)
    if model.config.vocab_size < manifest.vocab_size:
        raise TrainError(
            "train.other-vocabulary",
            f"The model to start from knows {model.config.vocab_size} tokens, and the tokenizer has {manifest.vocab_size}.",
            where=recipe.model.from_,
            mend='Use the model\'s own tokenizer: [tokenizer] from = "…/tokenizer.json".',
        )
    return model


def _config(recipe: Recipe, manifest: Manifest) -> TransformerConfig | ImageConfig:
    config = config_of(recipe, manifest)
    assert isinstance(config, TransformerConfig | ImageConfig)  # of this framework's families
    return config


def backend(model: Network, train: Train, hardware: Hardware, ranks: World) -> TorchBackend:
    """Trains the model, beside its teacher where the recipe names one, and in shares where it asks for that."""
    if train.sharded:
        from .sharded import ShardedBackend

        return ShardedBackend(model, train, hardware, ranks)
    teacher = Distillation(model, train.distill, hardware.device) if train.distill else None
    return TorchBackend(model, train, hardware, teacher, ranks)


def private_backend(
    model: Network, train: Train, hardware: Hardware, mechanism: Mechanism, secret: bytes, ranks: World
) -> PrivateBackend:
    """Trains the model with clipped and noised sums of its units' gradients, and in shares where the recipe asks for that."""
    if train.sharded:
        from .sharded_private import ShardedPrivateBackend

        return ShardedPrivateBackend(model, train, hardware, mechanism, secret, ranks)
    if isinstance(model, NgramClassifier):
        model.dropped = 0.0
    return PrivateBackend(model, train, hardware, mechanism, secret, ranks)


@torch.inference_mode()
def logits(model: Network, inputs: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """What a classifier says of some rows or images (B, K), outside of training."""
    model.eval()
    device = next(model.parameters()).device
    found: NDArray[np.float64] = model(torch.from_numpy(inputs).to(device)).double().cpu().numpy()
    return found


@torch.no_grad()
def divide_logits(model: Network, number: float) -> None:
    """Has a classifier say so many times less of everything, by its head: the last matrix that has a row for each label."""
    matrices = [module for module in model.modules() if isinstance(module, nn.Linear)]
    head = [matrix for matrix in matrices if matrix.out_features == len(model.config.labels)][-1]
    for weight in head.parameters():
        weight.div_(number)


def save(
    folder: Folder,
    recipe: Recipe,
    model: Network,
    tokenizer_json: str | None,
    card: str,
    end_of_turn: int | None = None,
) -> None:
    """Writes the trained model as a Hugging Face folder; LoRA's matrices become part of its own."""
    if recipe.train.lora is not None:
        lora.merge_lora(model)
    hub.save(folder, model, tokenizer_json, card, end_of_turn)
