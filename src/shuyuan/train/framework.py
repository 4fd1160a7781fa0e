"""The two frameworks that train: which of them a recipe's family is at home in, and what each of them is asked."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..data import Manifest
from ..hardware import Hardware
from ..privacy import Mechanism
from ..recipe import Recipe, Train
from ..vault import Folder
from .backend import Backend
from .distributed import World


class Framework(Protocol):
    """What training asks of a framework. Models pass through here unseen."""

    def versions(self) -> dict[str, str]:
        """The libraries that the last bits depend on."""
        ...

    def repeatable(self, cores: int, seed: int, precision: str) -> AbstractContextManager[None]:
        """Makes the framework compute the same bits each time, inside.

        Args:
            cores: threads to use.
            seed: start of the framework's random numbers.
            precision: of matrix products, as resolved.
        """
        ...

    def starting_model(self, recipe: Recipe, manifest: Manifest) -> Any:
        """The model before step 1: drawn from the seed, or the one that `model.from` names.

        Args:
            recipe: resolved.
            manifest: of the prepared data.

        Raises:
            ShuyuanError: there is no model to start from, it cannot be opened, or does not fit the task.
        """
        ...

    def trainable(self, recipe: Recipe, manifest: Manifest) -> Any:
        """The model before step 1, with what is trained beside it.

        Args:
            recipe, manifest: as of `starting_model`.
        """
        ...

    def scratch(self, recipe: Recipe, manifest: Manifest) -> Any:
        """A model of the same shape to try steps on.

        Args:
            recipe, manifest: as of `starting_model`.
        """
        ...

    def weights_digest(self, model: Any) -> str:
        """What tells two sets of weights apart: SHA-256, in hex.

        Args:
            model: of this framework.
        """
        ...

    def backend(self, model: Any, train: Train, hardware: Hardware, ranks: World) -> Backend:
        """Trains the model; Keras always on one rank.

        Args:
            model: as `trainable` gave it.
            train: the recipe's [train], resolved.
            hardware: where training runs.
            ranks: the processes that train together.
        """
        ...

    def private_backend(
        self,
        model: Any,
        train: Train,
        hardware: Hardware,
        mechanism: Mechanism,
        secret: bytes,
        ranks: World,
    ) -> Backend:
        """Trains the model with clipped and noised sums of its units' gradients.

        Args:
            model, train, hardware, ranks: as of `backend`.
            mechanism: what each step does.
            secret: 32 bytes that the noise follows from.
        """
        ...

    def logits(self, model: Any, inputs: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """What a classifier says of some rows or images (B, K), outside of training.

        Args:
            model: a classifier of this framework.
            inputs: tokens (B, T), or pixels (B, C, H, W).
        """
        ...

    def divide_logits(self, model: Any, number: float) -> None:
        """Has a classifier say so many times less of everything, by its head.

        Args:
            model: a classifier of this framework, which is changed.
            number: positive; a temperature.
        """
        ...

    def save(
        self,
        folder: Folder,
        recipe: Recipe,
        model: Any,
        tokenizer_json: str | None,
        card: str,
        end_of_turn: int | None = None,
    ) -> None:
        """Writes the trained model; `end_of_turn` is the token that ends its answers, if that is not the end token.

        Args:
            folder: receives the files.
            recipe: of the run.
            model: of this framework.
            tokenizer_json: content of tokenizer.json; None for images.
            card: the model card, Markdown.
            end_of_turn: token id. Default: the end token.
        """
        ...


def framework_of(recipe: Recipe) -> Framework:
    """The framework of the recipe's family; the other one is never loaded.

    Args:
        recipe: says the family: rnn is Keras', all others torch's.

    Raises:
        MachineError: it is not installed.
    """
    name = ".with_keras" if recipe.model.family == "rnn" else ".with_torch"
    return cast(Framework, import_module(name, __package__))
