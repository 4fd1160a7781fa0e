"""Layers of Keras that show what their weights' gradients are made of: inputs, and the gradients of their pre-activations.

Every weight is multiplied with something known (a kernel with the layer's input, a recurrent kernel with the state before) or
added. So the gradient of each row's weight is an outer product, a sum, or rows of a table, of things that one backward pass over the batch
gives when it is asked for the gradients of the pre-activations instead of the weights'.

Legend: N rows, T positions, I inputs, O outputs, G columns of a recurrent kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ...errors import PrivacyError
from ...models.keras_file import LAYERS
from ...models.keras_library import keras_library
from ...models.working import (
    Instead,
    dense_of,
    is_computed,
    is_computed_twice,
    logits,
    merged,
    product_of,
    recur,
    working,
)

keras, tf = keras_library()

Tensor = Any
Form = Literal["outer", "sum", "scale", "rows"]


class Use(NamedTuple):
    """What one weight's gradient is made of.

    Attributes:
        weight: the variable.
        form: "outer": of `other` and the watched tensor's gradient; "sum": of the latter; "scale": of their product, element by
            element; "rows": the gradient goes to the rows that `other` names.
        watched: the pre-activations, in the order of `other`.
        other: what they were made of.
        ahead: whether positions come before rows.
        part: which row of the weight it is; None: all of it.
    """

    weight: Any
    form: Form
    watched: Tensor
    other: Tensor | None = None
    ahead: bool = False
    part: int | None = None


class Recorder:
    """Collects the uses of one forward pass.

    Attributes:
        tape: of that pass; None outside of one.
        uses: in the order of the layers.
    """

    def __init__(self) -> None:
        self.tape: Any = None
        self.uses: list[Use] = []

    def begin(self, tape: Any) -> None:
        """The next forward pass is recorded by this tape."""
        self.tape, self.uses = tape, []

    def watch(self, z: Tensor) -> None:
        """The backward pass will give this tensor's gradient."""
        if self.tape is not None:
            self.tape.watch(z)

    def use(self, weight: Any, form: Form, watched: Tensor, other: Tensor | None = None, **more: Any) -> None:
        """Notes what a weight's gradient is made of, unless it is not there or does not learn."""
        if weight is not None and weight.trainable and self.tape is not None:
            self.uses.append(Use(weight, form, watched, other, **more))


def tapped(model: Any, recorder: Recorder) -> Any:
    """The model with every layer that has weights replaced by one that shows what it does.

    Raises:
        PrivacyError: a layer is none of those whose gradients are known, has a penalty of its own, or stands in the model twice;
            it is named.
    """
    _check(model)
    last = model.outputs[0]._keras_history.operation
    return working(model, lambda layer: _tap(layer, layer is last, recorder))


def _tap(layer: Any, last: bool, recorder: Recorder) -> Any:
    if last:
        return _Last(layer, recorder)
    rule = _rule_for(layer)
    return None if rule is None else _Tapped(layer, recorder, rule)


class _Tapped(Instead):
    """A layer computed by its rule."""

    def __init__(self, layer: Any, recorder: Recorder, rule: Rule) -> None:
        super().__init__(layer)
        self.recorder, self.rule = recorder, rule

    def call(self, x: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        return self.rule(self.layer, x, mask, bool(training), self.recorder)


class _Last(Instead):
    """The last layer, as logits in float32."""

    def __init__(self, layer: Any, recorder: Recorder) -> None:
        super().__init__(layer, dtype="float32")
        self.dense, self.recorder = dense_of(layer), recorder

    def call(self, x: Tensor) -> Tensor:
        return tf.cast(x, tf.float32) if self.dense is None else _logits(self.dense, x, self.recorder)


# ---- rules: what a layer computes, and what its weights' gradients are made of ------------------------------------------------

Rule = Callable[[Any, Tensor, Tensor | None, bool, Recorder], Tensor]


def _rule_for(layer: Any) -> Rule | None:
    if is_computed(layer):
        return _recurrent
    if is_computed_twice(layer):
        return _both
    if type(layer) is keras.layers.TimeDistributed and type(layer.layer) is keras.layers.Dense:
        return _timed_dense
    return RULES.get(type(layer))


def _logits(dense: Any, x: Tensor, recorder: Recorder) -> Tensor:
    seen: list[Tensor] = []

    def look(z: Tensor) -> None:
        recorder.watch(z)
        seen.append(z)

    out = logits(dense, x, look)
    recorder.use(dense.kernel, "outer", seen[0], tf.cast(x, dense.compute_dtype))
    recorder.use(dense.bias, "sum", seen[0])
    return out


def _dense(layer: Any, x: Tensor, _: Tensor | None, __: bool, recorder: Recorder) -> Tensor:
    z = tf.cast(_logits(layer, x, recorder), layer.compute_dtype)
    return layer.activation(z)


def _timed_dense(layer: Any, x: Tensor, mask: Tensor | None, training: bool, recorder: Recorder) -> Tensor:
    return _dense(layer.layer, x, mask, training, recorder)


def _embedding(layer: Any, ids: Tensor, _: Tensor | None, __: bool, recorder: Recorder) -> Tensor:
    ids = tf.cast(ids, tf.int32)
    y = tf.cast(tf.gather(layer.embeddings.value, ids), layer.compute_dtype)
    recorder.watch(y)
    recorder.use(layer.embeddings, "rows", y, ids)
    return y


def _recurrent(layer: Any, x: Tensor, mask: Tensor | None, training: bool, recorder: Recorder) -> Tensor:
    seen: list[Tensor] = []

    def look(z: Tensor) -> None:
        recorder.watch(z)
        seen.append(z)

    out, passed = recur(layer, x, mask, training, look)
    cell, (of_input, *_), of_state = layer.cell, seen, seen[-1]
    recorder.use(cell.kernel, "outer", of_input, passed.input_TBI, ahead=True)
    recorder.use(cell.recurrent_kernel, "outer", of_state, passed.before_TBW, ahead=True)
    if len(seen) == 1:
        recorder.use(cell.bias, "sum", of_input, ahead=True)
    else:
        recorder.use(cell.bias, "sum", of_input, ahead=True, part=0)
        recorder.use(cell.bias, "sum", of_state, ahead=True, part=1)
    return out


def _both(layer: Any, x: Tensor, mask: Tensor | None, training: bool, recorder: Recorder) -> Tensor:
    sides = (layer.forward_layer, layer.backward_layer)
    return merged(layer, *(_recurrent(side, x, mask, training, recorder) for side in sides))


def _layer_norm(layer: Any, x: Tensor, _: Tensor | None, __: bool, recorder: Recorder) -> Tensor:
    x = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    normed = (x - mean) * tf.math.rsqrt(variance + layer.epsilon)
    y = normed
    if layer.gamma is not None:
        y = y * layer.gamma.value
    if layer.beta is not None:
        y = y + layer.beta.value
    recorder.watch(y)
    recorder.use(layer.gamma, "scale", y, normed)
    recorder.use(layer.beta, "sum", y)
    return tf.cast(y, layer.compute_dtype)


def _convolution(layer: Any, x: Tensor, _: Tensor | None, __: bool, recorder: Recorder) -> Tensor:
    """A product of the kernel with the patches that it passes over, which are the inputs of its outer product."""
    flat = len(layer.kernel_size) == 1
    x = tf.cast(x, layer.compute_dtype)
    kernel = tf.cast(layer.kernel.value, layer.compute_dtype)
    patches_NHWE = _patches(layer, x[:, None] if flat else x)
    elements, places = patches_NHWE.shape[-1], patches_NHWE.shape[2 if flat else 1 : -1]
    patches = tf.reshape(patches_NHWE, (-1, *places, elements))
    z = product_of(patches, tf.reshape(kernel, (elements, layer.filters)))
    if layer.bias is not None:
        z += tf.cast(layer.bias.value, layer.compute_dtype)
    recorder.watch(z)
    recorder.use(layer.kernel, "outer", z, patches)
    recorder.use(layer.bias, "sum", z)
    return layer.activation(z)


def _patches(layer: Any, x_NHWC: Tensor) -> Tensor:
    """(N, H, W, kernel elements): what the kernel sees at each place, by slices.

    TensorFlow's own extract_patches writes outside of its memory in the backward pass of some shapes.
    """
    sizes = (1, *layer.kernel_size)[-2:]
    strides, rates = (1, *layer.strides)[-2:], (1, *layer.dilation_rate)[-2:]
    seen = [(size - 1) * rate + 1 for size, rate in zip(sizes, rates, strict=True)]
    there = x_NHWC.shape[1:3]
    pads = [_padding(layer.padding, *each) for each in zip(there, seen, strides, strict=True)]
    x_NHWC = tf.pad(x_NHWC, ((0, 0), *pads, (0, 0)))
    ends = [
        sum(pad) + length - whole + 1 for pad, length, whole in zip(pads, there, seen, strict=True)
    ]  # behind the last place of the kernel's first element
    slices = [
        x_NHWC[:, row : row + ends[0] : strides[0], column : column + ends[1] : strides[1]]
        for row in range(0, seen[0], rates[0])
        for column in range(0, seen[1], rates[1])
    ]
    return tf.concat(slices, -1)


def _padding(kind: str, length: int, seen: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, as Keras puts them."""
    if kind == "valid":
        return 0, 0
    if kind == "causal":
        return seen - 1, 0
    total = max(0, (-(-length // stride) - 1) * stride + seen - length)
    return total // 2, total - total // 2


RULES: dict[Any, Rule] = {
    keras.layers.Dense: _dense,
    keras.layers.Embedding: _embedding,
    keras.layers.LayerNormalization: _layer_norm,
    keras.layers.Conv1D: _convolution,
    keras.layers.Conv2D: _convolution,
}


# ---- refusals -------------------------------------------------------------------------------------------------------------


def _check(model: Any) -> None:
    seen: set[int] = set()
    graph = getattr(model, "_functional", None) or model
    places = Counter(id(node.operation) for nodes in graph._nodes_by_depth.values() for node in nodes)
    for layer in model.layers:
        _check_layer(layer)
        if places[id(layer)] > 1 and layer.weights:
            raise _refused(layer, "stands in the model more than once", "Use a layer of its own each time")
        for weight in layer.weights:
            if id(weight) in seen:
                raise _refused(layer, "shares weights with another layer", "Give each layer its own")
            seen.add(id(weight))


def _check_layer(layer: Any) -> None:
    if not _is_known(layer):
        raise _refused(
            layer,
            f"is a {type(layer).__name__}, whose gradients for each unit are not known",
            "Use Embedding, Dense, SimpleRNN, LSTM, GRU (with their usual activations, without recurrent_dropout), Bidirectional "
            "around these, LayerNormalization, Conv1D or Conv2D, and layers of Keras without weights",
        )
    for inner in layer._flatten_layers():
        penalties = [name for name in vars(inner) if name.endswith("regularizer") and getattr(inner, name)]
        if penalties or getattr(inner, "activity_regularizer", None) is not None:
            raise _refused(
                layer,
                "has a regularizer, which no unit's gradient has",
                "Take it out; train.weight_decay does the like",
            )


def _is_known(layer: Any) -> bool:
    if _rule_for(layer) is not None:
        return _is_plain(layer)
    if layer.weights:
        return False
    return type(layer).__module__.startswith("keras.") and type(layer).__name__ in LAYERS


def _is_plain(layer: Any) -> bool:
    """Whether a layer has no option that its rule does not know."""
    if isinstance(layer, keras.layers.LayerNormalization):
        axis = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        return list(axis) == [-1] and not bool(getattr(layer, "rms_scaling", False))
    if isinstance(layer, keras.layers.Conv1D | keras.layers.Conv2D):
        return bool(layer.groups == 1 and layer.data_format == "channels_last")
    return not bool(getattr(layer, "quantization_mode", None)) and not getattr(layer, "lora_enabled", False)


def _refused(layer: Any, why: str, mend: str) -> PrivacyError:
    return PrivacyError(
        "privacy.unknown-layer",
        f"The layer {layer.name} {why}.",
        where=layer.name,
        mend=f"{mend}.",
    )
