"""Training in Keras on TensorFlow: the framework of recurrent models."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Manifest
from ..hardware import Hardware
from ..models import rnn_folder
from ..models.keras_library import keras_library
from ..models.rnn import RnnModel
from ..privacy import Mechanism
from ..recipe import Recipe, Train
from ..vault import Folder
from .distributed import World
from .keras_backend import KerasBackend, repeatable
from .keras_private import PrivateKerasBackend

__all__ = [
    "backend", "divide_logits", "logits", "private_backend", "repeatable", "save", "scratch", "starting_model", "trainable", "versions", "weights_digest",
]  # fmt: skip


def versions() -> dict[str, str]:
    """The libraries that the last bits depend on."""
    keras, tf = keras_library()
    return {"tensorflow": tf.__version__, "keras": keras.__version__}


def starting_model(recipe: Recipe, manifest: Manifest) -> RnnModel:
    """The model before step 1."""
    end_id = manifest.marks.end_id
    return rnn_folder.starting_model(recipe.model, manifest.vocab_size, end_id, manifest.labels, recipe.seed)


trainable = starting_model


def scratch(recipe: Recipe, manifest: Manifest) -> RnnModel:
    """A model of the same shape to try steps on."""
    return starting_model(recipe, manifest)


def weights_digest(model: RnnModel) -> str:
    """SHA-256 in hex over the types, shapes and bits of all weights, and the place of each."""
    digest = hashlib.sha256()
    for number, weight in enumerate(model.plain.weights):
        array = weight.numpy()
        digest.update(f"{number} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def backend(model: RnnModel, train: Train, hardware: Hardware, ranks: World) -> KerasBackend:
    """Trains the model."""
    return KerasBackend(model, train)


def private_backend(
    model: RnnModel, train: Train, hardware: Hardware, mechanism: Mechanism, secret: bytes, ranks: World
) -> PrivateKerasBackend:
    """Trains the model with clipped and noised sums of its units' gradients."""
    return PrivateKerasBackend(model, train, mechanism, secret)


def logits(model: RnnModel, inputs: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """What a classifier says of some rows (B, K), outside of training: logarithms of its probabilities are logits too."""
    least = np.finfo(np.float64).tiny
    found: NDArray[np.float64] = np.log(np.maximum(model.probabilities(inputs), least))
    return found


def divide_logits(model: RnnModel, number: float) -> None:
    """Has a classifier say so many times less of everything, by its head, the last layer with weights."""
    head = [layer for layer in model.plain.layers if layer.weights][-1]
    head.set_weights([weight / number for weight in head.get_weights()])


def save(
    folder: Folder,
    recipe: Recipe,
    model: RnnModel,
    tokenizer_json: str | None,
    card: str,
    end_of_turn: int | None = None,
) -> None:
    """Writes the trained model, as plain Keras opens it."""
    assert tokenizer_json is not None  # recurrent models read text
    rnn_folder.save(folder, model, tokenizer_json, card)
