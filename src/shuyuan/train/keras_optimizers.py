"""Keras' own optimizers, told the gradient's norm: what is too long is cut, and what is not finite changes nothing."""

from __future__ import annotations

import math
from typing import Any

from ..models.keras_library import keras_library
from ..recipe import Train

keras, tf = keras_library()

BETAS = (0.9, 0.99)
SGD_MOMENTUM = 0.9
_AdamW: Any = keras.optimizers.AdamW
_SGD: Any = keras.optimizers.SGD
DECAYED = ("kernel", "recurrent_kernel")  # weights that fade, but for the first and last layer's


class Guarded:
    """Looks at the gradients before the optimizer does.

    Attributes:
        most: norm that gradients are cut to.
        norm: a variable: the norm that the last ones had.
    """

    most: float = math.inf
    norm: Any

    def build(self, variables: Any) -> None:
        super().build(variables)  # type: ignore[misc]
        self.norm = self.add_variable(shape=(), name="norm")  # type: ignore[attr-defined]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        gradients = [None if grad is None else tf.convert_to_tensor(grad) for grad in grads]
        norm = tf.linalg.global_norm([grad for grad in gradients if grad is not None])
        self.norm.assign(norm)
        scale = tf.minimum(1.0, self.most / norm)
        cut = [None if grad is None else grad * scale for grad in gradients]
        update = super().apply  # type: ignore[misc]

        def learn() -> Any:
            update(cut, trainable_variables)
            return tf.constant(0)

        tf.cond(tf.math.is_finite(norm), learn, lambda: tf.constant(0))


class AdamW(Guarded, _AdamW):  # type: ignore[misc]
    """AdamW with a guard."""


class SGD(Guarded, _SGD):  # type: ignore[misc]
    """SGD with Nesterov's momentum, and a guard."""


def optimizer_for(model: Any, train: Train, *, guarded: bool = True) -> Any:
    """The optimizer of a recipe, with its state made before the first step.

    Args:
        model: any model of Keras.
        train: the recipe's section, resolved. Weight decay is for the matrices between the first and the last layer.
        guarded: whether gradients are looked at; in private training they are not.
    """
    assert train.weight_decay != "auto"  # resolved
    settings: dict[str, Any] = {"weight_decay": train.weight_decay}
    if train.optimizer == "adamw":
        settings |= {"beta_1": BETAS[0], "beta_2": BETAS[1]}
        optimizer = (AdamW if guarded else _AdamW)(0.0, **settings)
    else:
        settings |= {"momentum": SGD_MOMENTUM, "nesterov": True}
        optimizer = (SGD if guarded else _SGD)(0.0, **settings)
    if guarded:
        optimizer.most = train.grad_clip or math.inf
    weights = model.trainable_variables
    inside = {id(weight) for layer in model.layers[:-1] for weight in layer.trainable_variables}
    optimizer.exclude_from_weight_decay(
        [weight for weight in weights if id(weight) not in inside or weight.name not in DECAYED]
    )
    optimizer.build(weights)
    return optimizer
