"""What a `.keras` file holds, read without TensorFlow, and believed only as far as it lists layers that are known.

A `.keras` file is a zip of config.json (the layers), metadata.json and model.weights.h5. Keras builds whatever classes the first
one names; so every name in it is looked up here before Keras sees the file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ShuyuanError
from .rnn_config import Kind, Layer, Predict

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
LARGEST_CONFIG_BYTES = 2**24
LARGEST_SIZE = 2**24
LARGEST_EXPANSION = 64  # weights hardly shrink in a zip, unless most of them are zero
RECURRENT: dict[str, Kind] = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple"}
MODELS = ("Sequential", "Functional")
# Layers that compute what their own configuration says and nothing else: none reads a file or takes a function by name.
LAYERS = frozenset({
    *RECURRENT, "Embedding", "Dense", "Bidirectional", "TimeDistributed", "InputLayer", "Masking",
    "LSTMCell", "GRUCell", "SimpleRNNCell", "LayerNormalization", "BatchNormalization", "Conv1D", "Conv2D", "Activation",
    "ReLU", "LeakyReLU", "ELU", "Softmax", "Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise", "Flatten",
    "Reshape", "Permute", "RepeatVector", "Add", "Average", "Concatenate", "Multiply", "GlobalAveragePooling1D",
    "GlobalMaxPooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "AveragePooling1D", "AveragePooling2D",
    "MaxPooling1D", "MaxPooling2D", "ZeroPadding1D", "ZeroPadding2D", "UpSampling1D",
})  # fmt: skip
PLAIN_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints")
ALSO = {"keras": ("DTypePolicy", "Sequential"), "keras.src.models.functional": ("Functional",)}
TENSOR = "__keras_tensor__"
ACTIVATIONS = frozenset({
    "relu", "leaky_relu", "relu6", "softmax", "celu", "elu", "selu", "softplus", "softsign", "squareplus", "soft_shrink",
    "sparse_plus", "silu", "gelu", "glu", "tanh", "tanh_shrink", "threshold", "sigmoid", "exponential", "hard_sigmoid",
    "hard_silu", "hard_tanh", "hard_shrink", "linear", "mish", "log_softmax", "log_sigmoid", "sparsemax",
})  # fmt: skip
ONE_OUTPUT = ("GlobalAveragePooling1D", "GlobalMaxPooling1D", "Flatten")


def read_table(content: bytes, where: str) -> dict[str, Any]:
    """The layers that a `.keras` file describes.

    Args:
        content: the file.
        where: its name, for errors.

    Raises:
        ShuyuanError: it is no such file, or names something else than known layers of Keras; that is named.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = archive.getinfo(CONFIG).file_size
            table = json.loads(archive.read(CONFIG)) if size <= LARGEST_CONFIG_BYTES else None
            names = set(archive.namelist())
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, NotImplementedError, EOFError) as error:
        raise bad_file(f"it cannot be read ({type(error).__name__})", where) from None
    if not names <= {CONFIG, METADATA, WEIGHTS}:
        raise bad_file("it holds other files than layers and weights", where)
    return check_table(table, where)


def check_table(table: Any, where: str) -> dict[str, Any]:
    """The same table, once all layers in it are Keras' own.

    Args:
        table: the content of a `.keras` file's config.json.
        where: the file, for errors.

    Raises:
        ShuyuanError: it describes no model, or names something else than known layers; that is named.
    """
    if not isinstance(table, dict) or table.get("class_name") not in MODELS:
        raise bad_file("it describes no Sequential or Functional model", where)
    _check_names(table, where)
    return table


def _check_names(value: Any, where: str) -> None:
    """Refuses every class and function that is not one of the above, wherever it stands."""
    pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, list):
            pending += found
        elif isinstance(found, dict):
            pending += [inner for key, inner in found.items() if key != "compile_config"]
            if "class_name" in found and not _is_known(found):
                name = f"{found.get('module')}.{found['class_name']}"
                raise ShuyuanError(
                    "models.unknown-layer",
                    f"The file names {name[:120]}, which is not among the layers that are opened here.",
                    where=where,
                    mend="Use layers of Keras itself: no Lambda, no class of your own, nothing that reads files.",
                )


def _is_known(entry: Mapping[str, Any]) -> bool:
    name, module = entry["class_name"], entry.get("module")
    if name == TENSOR:
        return True
    if not isinstance(name, str) or not isinstance(module, str):
        return False
    if name == "function":
        return module == "builtins" and entry.get("config") in ACTIVATIONS
    if entry.get("registered_name") not in (None, name):
        return False
    if module == "keras.layers":
        return name in LAYERS
    return module in PLAIN_MODULES or name in ALSO.get(module, ())


def layers_of(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The entries of all layers, in order, those of models inside the model too.

    Args:
        table: as `check_table` gave it.
    """
    for layer in table.get("config", {}).get("layers", []):
        if layer.get("class_name") in MODELS:
            yield from layers_of(layer)
        else:
            yield layer


def stack_of(table: Mapping[str, Any], where: str) -> tuple[Layer, ...]:
    """The layers with weights.

    Args:
        table: as `check_table` gave it.
        where: the file, for errors.

    Raises:
        ShuyuanError: no layer has weights, or the file does not say how large a layer is.
    """
    try:
        stack, sequence = [], True
        for entry in layers_of(table):
            sequence = sequence and entry["class_name"] not in ONE_OUTPUT
            layer = _layer(entry, sequence)
            if layer is not None:
                sequence = layer.sequence
                stack.append(layer)
    except (KeyError, TypeError, IndexError, AttributeError):
        raise bad_file("a layer does not say how large it is", where) from None
    if not stack:
        raise bad_file("no layer has weights", where)
    if not all(_is_size(layer.inputs) and _is_size(layer.units) for layer in stack):
        raise bad_file("a layer's size is no number, or absurd", where)
    return tuple(stack)


def _layer(entry: Mapping[str, Any], sequence: bool) -> Layer | None:
    name, config = entry["class_name"], entry["config"]
    if name == "Embedding":
        return Layer("embedding", config["input_dim"], config["output_dim"])
    inputs = (entry.get("build_config") or {}).get("input_shape") or [None]
    if name in ("Bidirectional", "TimeDistributed"):
        inner = _layer({**config["layer"], "build_config": entry.get("build_config")}, sequence)
        if inner is None or name == "TimeDistributed":
            return inner
        return replace(inner, both=True, merged=config.get("merge_mode") != "concat")
    if name in RECURRENT:
        return Layer(RECURRENT[name], inputs[-1], config["units"], sequence=config["return_sequences"])
    if name == "Dense":
        return Layer("dense", inputs[-1], config["units"], sequence=sequence)
    weights = _other_weights(name, config, inputs)
    if not weights:
        return None
    return Layer("other", inputs[-1], config.get("filters", inputs[-1]), sequence=sequence, weights=weights)


def check_sizes(content: bytes, table: Mapping[str, Any], where: str) -> None:
    """Refuses a file whose layers have more weights than it holds, or whose weights unpack to a multiple, before anything is
    allocated for them.

    Args:
        content: the file.
        table: its layers.
        where: its name, for errors.

    Raises:
        ShuyuanError: it does.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if WEIGHTS not in archive.namelist():
            raise bad_file("it holds no weights", where)
        packed = archive.getinfo(WEIGHTS)
    if packed.file_size > LARGEST_EXPANSION * packed.compress_size:
        raise bad_file(
            f"its weights unpack from {packed.compress_size:,} bytes to {packed.file_size:,}", where
        )
    weights = sum(layer.parameters for layer in stack_of(table, where))
    if weights > packed.file_size:
        raise bad_file(f"its layers have {weights:,} weights, and it holds {packed.file_size:,} bytes", where)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_SIZE


def _other_weights(name: str, config: Mapping[str, Any], inputs: list[Any]) -> int:
    if name in ("LayerNormalization", "BatchNormalization"):
        vectors = 2 if name == "LayerNormalization" else 4
        return int(vectors * inputs[-1])
    if name in ("Conv1D", "Conv2D"):
        kernel = inputs[-1] // config.get("groups", 1) * config["filters"]
        for size in config["kernel_size"]:
            kernel *= size
        return int(kernel + (config["filters"] if config.get("use_bias", True) else 0))
    return 0


def predicts(stack: tuple[Layer, ...]) -> Predict:
    """Whether a model that predicts tokens does so at every position, or once."""
    return "every" if stack[-1].sequence else "last"


def bad_file(why: str, where: str) -> ShuyuanError:
    """The error for a file that is no model of Keras."""
    return ShuyuanError(
        "models.bad-keras-file",
        f"The file is not a model that Keras saved: {why}.",
        where=where,
        mend='Save it with model.save("my_model.keras"), from Keras 3.',
    )
