"""The model as it is trained: the same layers and weights, with recurrent layers computed by `recurrent` and logits at the end.

Legend: B rows, T positions, I inputs, W units, G columns of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import ShuyuanError
from .keras_library import keras_library
from .recurrent import CELLS, run, step

keras, tf = keras_library()

Tensor = Any
_Layer: Any = keras.layers.Layer
KINDS = {keras.layers.LSTM: "lstm", keras.layers.GRU: "gru", keras.layers.SimpleRNN: "simple"}
ALL_MERGES = ("concat", "sum", "ave", "mul")


def working(model: Any, wrap: Callable[[Any], Any] = lambda _: None) -> Any:
    """A model of the same weights that is faster to train and gives logits in float32.

    Args:
        model: Sequential or Functional, with one input of token ids and one output.
        wrap: what to take in place of a layer; None of it: the usual.

    Raises:
        ShuyuanError: the model's end is neither logits nor a softmax over them.
    """
    last = model.outputs[0]._keras_history.operation
    replaced: dict[int, Any] = {}

    def instead(layer: Any) -> Any:
        if id(layer) not in replaced:
            replaced[id(layer)] = wrap(layer) or _usual(layer, layer is last)
        return replaced[id(layer)]

    return keras.models.clone_model(model, clone_function=instead)


def _usual(layer: Any, last: bool) -> Any:
    if last:
        return Logits(layer)
    if is_computed(layer):
        return Recurrent(layer)
    return Both(layer) if is_computed_twice(layer) else layer


def is_computed(layer: Any) -> bool:
    """Whether `recurrent` computes what a layer does: the plain cells, without what is rarely used.

    Args:
        layer: any of Keras.
    """
    if type(layer) not in KINDS or layer.stateful or layer.return_state or layer.cell.recurrent_dropout:
        return False
    cell = layer.cell
    gates = getattr(cell, "recurrent_activation", keras.activations.sigmoid)
    plain = cell.activation is keras.activations.tanh and gates is keras.activations.sigmoid
    return plain and bool(getattr(cell, "reset_after", True))


def is_computed_twice(layer: Any) -> bool:
    """Whether a layer is one of Keras' Bidirectional around two such layers.

    Args:
        layer: any of Keras.
    """
    if type(layer) is not keras.layers.Bidirectional or layer.merge_mode not in ALL_MERGES:
        return False
    return is_computed(layer.forward_layer) and is_computed(layer.backward_layer)


class Passed(NamedTuple):
    """What went through a recurrent layer: the outer products of these and the pre-activations' gradients are its kernels'.

    Attributes:
        input_TBI: what came in.
        before_TBW: the output of the position before.
        last: the states after the last position, float32 (B, W).
    """

    input_TBI: Tensor
    before_TBW: Tensor
    last: tuple[Tensor, ...]


def recur(
    layer: Any,
    x_BTI: Tensor,
    mask_BT: Tensor | None,
    training: bool,
    look: Callable[[Tensor], None] | None = None,
) -> tuple[Tensor, Passed]:
    """What a recurrent layer of Keras gives.

    Args:
        layer: one for which `is_computed`.
        x_BTI: its input.
        mask_BT: Keras' mask, where False no token stands.
        training: whether its dropout is on.
        look: is shown the pre-activations' part from the input (T, B, G), and of a GRU what is added to the part from the state.
    """
    cell, product = layer.cell, layer.compute_dtype
    x_BTI = tf.cast(x_BTI, product)
    if training and cell.dropout:
        ones_B1I = tf.ones_like(x_BTI[:, :1])
        x_BTI *= keras.random.dropout(ones_B1I, cell.dropout, seed=cell.seed_generator)
    x_TBI, mask_TB = _in_order(layer, x_BTI), None
    if mask_BT is not None:
        mask_TB = _in_order(layer, mask_BT)
    z_TBG = product_of(x_TBI, tf.cast(cell.kernel.value, product))
    bias, of_state = _biases(cell)
    if bias is not None:
        z_TBG += tf.cast(bias, product)
    if look is not None:
        look(z_TBG)
    if of_state is None and look is not None and KINDS[type(layer)] == "gru":
        of_state = tf.zeros((), product)  # whose two parts have gradients of their own
    if of_state is not None:
        of_state = tf.broadcast_to(tf.cast(of_state, product), tf.shape(z_TBG))
        if look is not None:
            look(of_state)
    kernel_WG = tf.cast(cell.recurrent_kernel.value, product)
    h_TBW, last = run(CELLS[KINDS[type(layer)]], z_TBG, kernel_WG, of_state, mask_TB)
    before_TBW = tf.concat((tf.zeros_like(h_TBW[:1]), h_TBW[:-1]), 0)
    passed = Passed(x_TBI, before_TBW, last)
    if not layer.return_sequences:
        return h_TBW[-1], passed
    if layer.zero_output_for_mask and mask_TB is not None:
        h_TBW = tf.where(mask_TB[..., None], h_TBW, tf.zeros((), h_TBW.dtype))
    return tf.transpose(h_TBW, (1, 0, 2)), passed


def advance(layer: Any, x_BI: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The states of a recurrent layer one position further, float32 (B, W); the first is the output.

    Args:
        layer: one for which `is_computed`.
        x_BI: its input at this position.
        states: after the position before, float32 (B, W).
    """
    cell, product = layer.cell, layer.compute_dtype
    z_BG = tf.matmul(tf.cast(x_BI, product), tf.cast(cell.kernel.value, product))
    bias, of_state = _biases(cell)
    if bias is not None:
        z_BG += tf.cast(bias, product)
    return step(
        CELLS[KINDS[type(layer)]], z_BG, of_state, tf.cast(cell.recurrent_kernel.value, product), states
    )


def _in_order(layer: Any, x_BT: Tensor) -> Tensor:
    """Positions first, in the order in which the layer reads them."""
    x_TB = tf.transpose(x_BT, (1, 0, *range(2, x_BT.shape.rank)))
    return tf.reverse(x_TB, [0]) if layer.go_backwards else x_TB


def _biases(cell: Any) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the part from the input, and to the part from the state."""
    if cell.bias is None:
        return None, None
    bias = cell.bias.value
    return (bias, None) if bias.shape.rank == 1 else (bias[0], bias[1])


def merged(layer: Any, ahead: Tensor, back: Tensor) -> Tensor:
    """What a Bidirectional layer makes of the outputs of its two layers.

    Args:
        layer: one for which `is_computed_twice`.
        ahead, back: what its two layers gave, (B, T, W) where it returns sequences, else (B, W); `back` is in the order in which it
            was computed, the last position first.

    Returns:
        As wide as both together where it concatenates, else as one.
    """
    if layer.return_sequences:
        back = tf.reverse(back, [1])
    if layer.merge_mode == "concat":
        return tf.concat((ahead, back), -1)
    if layer.merge_mode == "mul":
        return ahead * back
    return (ahead + back) / (2 if layer.merge_mode == "ave" else 1)


class Instead(_Layer):  # type: ignore[misc]
    """Stands in a model for another layer, whose weights, shapes and masks it has.

    Args:
        layer: of Keras, built.
        dtype: in which this one computes. Default: as the layer does.
    """

    def __init__(self, layer: Any, dtype: Any = None) -> None:
        super().__init__(name=layer.name, dtype=dtype or layer.dtype_policy, autocast=False)
        self.layer = layer
        self.supports_masking = True
        self.built = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, mask)


class Recurrent(Instead):
    """A recurrent layer, computed by `recurrent`."""

    def call(self, x: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        return recur(self.layer, x, mask, bool(training))[0]


class Both(Instead):
    """A Bidirectional layer around two such layers."""

    def call(self, x: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        both = (self.layer.forward_layer, self.layer.backward_layer)
        return merged(self.layer, *(recur(layer, x, mask, bool(training))[0] for layer in both))


class Logits(Instead):
    """The last layer without its softmax, in float32."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer, dtype="float32")
        self.dense = dense_of(layer)

    def call(self, x: Tensor) -> Tensor:
        return logits(self.dense, x) if self.dense is not None else tf.cast(x, tf.float32)


def dense_of(layer: Any) -> Any | None:
    """The Dense layer that a model's last layer is; None where it is a softmax alone, behind the logits.

    Args:
        layer: the last one of a model.

    Raises:
        ShuyuanError: it gives neither logits nor probabilities.
    """
    softmax, linear = keras.activations.softmax, keras.activations.linear
    if type(layer) is keras.layers.TimeDistributed:
        layer = layer.layer
    if type(layer) is keras.layers.Dense and layer.activation in (softmax, linear, None):
        return layer
    if type(layer) is keras.layers.Softmax or getattr(layer, "activation", None) is softmax:
        return None
    raise ShuyuanError(
        "models.other-output",
        f"The last layer, {layer.name}, gives neither logits nor a softmax over them.",
        where=layer.name,
        mend='End the model with Dense(classes, activation="softmax"), or with Dense(classes).',
    )


def logits(dense: Any, x: Tensor, look: Callable[[Tensor], None] = lambda _: None) -> Tensor:
    """The output of a Dense layer before its activation, in float32.

    Args:
        dense: a Dense layer.
        x: (..., I), of any float type.
        look: is shown them in the format in which they were multiplied.

    Returns:
        (..., K).
    """
    product = dense.compute_dtype
    z = product_of(tf.cast(x, product), tf.cast(dense.kernel.value, product))
    if dense.bias is not None:
        z += tf.cast(dense.bias.value, product)
    look(z)
    return tf.cast(z, tf.float32)


def product_of(x: Tensor, kernel: Tensor) -> Tensor:
    """x times a matrix, over the last dimension.

    As one product of two matrices: the gradient of TensorFlow's product of a stack of matrices with one matrix writes outside of
    its memory on processors for stacks of some shapes (2.21, four dimensions of which one is 1).

    Args:
        x: (..., I).
        kernel: (I, G), of the same type.

    Returns:
        (..., G).
    """
    flat = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), kernel)
    out = tf.reshape(flat, tf.concat((tf.shape(x)[:-1], (kernel.shape[1],)), 0))
    return tf.ensure_shape(out, (*x.shape[:-1], kernel.shape[1]))
