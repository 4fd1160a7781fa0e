"""The recurrent models: a plain keras.Sequential, and what Shuyuan asks of any model of Keras.

Legend: B rows, T positions, V entries of the vocabulary, K classes.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShuyuanError
from .keras_file import CONFIG, METADATA, WEIGHTS, bad_file, check_sizes, read_table
from .keras_library import keras_library
from .rnn_config import RnnConfig
from .working import working

keras, tf = keras_library()

EMBEDDING = ".embeddings"  # ends the name of an Embedding's weight
BIAS = ".bias"
NOTHING = -100  # a target that is not learned
LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "simple": keras.layers.SimpleRNN}
POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16"}


def build(config: RnnConfig, seed: int = 0) -> Any:
    """A plain Sequential of that shape, with weights drawn from the seed.

    Predicting the last token with one layer of the simple cell, it is the textbook's network: Embedding, SimpleRNN, Dense
    with a softmax. Its output are probabilities; training takes the logits in front of the softmax, which no rounding to 0
    or 1 can turn into an infinite loss.

    Args:
        config: the shape.
        seed: start of the weights. Default 0.
    """
    initial = keras.initializers
    embedding, *_, head = config.stack
    layers: list[Any] = [
        keras.layers.Input((None,), dtype="int32", name="tokens"),
        keras.layers.Embedding(
            embedding.inputs,
            embedding.units,
            embeddings_initializer=initial.RandomUniform(seed=seed_of(seed, "embedding")),
            mask_zero=bool(config.labels),
            name="embedding",
        ),
    ]
    for number, layer in enumerate(config.recurrent, start=1):
        cell = LAYERS[layer.kind](
            layer.units,
            return_sequences=layer.sequence,
            kernel_initializer=initial.GlorotUniform(seed=seed_of(seed, "kernel", number)),
            recurrent_initializer=initial.Orthogonal(seed=seed_of(seed, "state", number)),
            name=f"{layer.kind}_{number}",
        )
        layers.append(keras.layers.Bidirectional(cell, name=f"both_{number}") if layer.both else cell)
        if config.dropout:
            layers.append(keras.layers.Dropout(config.dropout, name=f"dropout_{number}"))
    if config.labels:
        layers.append(keras.layers.GlobalAveragePooling1D(name="mean"))
    layers.append(
        keras.layers.Dense(
            head.units,
            activation="softmax",
            kernel_initializer=initial.GlorotUniform(seed=seed_of(seed, "head")),
            name="head",
        )
    )
    return keras.Sequential(layers, name="rnn")


def seed_dropout(plain: Any, seed: int) -> None:
    """Lets all that the layers draw follow from a seed. Where they begin stands in no file, and by default is chance."""
    states = [variable for variable in plain.variables if variable.name == "seed_generator_state"]
    for number, state in enumerate(states):
        state.assign((seed_of(seed, "dropout", number), 0))


def seed_of(seed: int, *place: object) -> int:
    """A seed of 31 bits, as Keras takes them, for one of several uses of the run's seed.

    Args:
        seed: the run's.
        place: what it is for; another one gives another seed.
    """
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


class RnnModel:
    """A recurrent model of Keras beside what the run knows of it.

    Args:
        config: the shape.
        plain: a Sequential or Functional model of Keras: token ids in, logits or probabilities out.

    Attributes:
        context: tokens that it sees at once.
    """

    def __init__(self, config: RnnConfig, plain: Any) -> None:
        self.config = config
        self.plain = plain
        self.context = config.context
        self._layers = [layer for layer in plain._flatten_layers() if hasattr(layer, "dtype_policy")]
        self._policies = [layer.dtype_policy for layer in self._layers]
        self.compute_in(None)

    def compute_in(self, precision: str | None) -> None:
        """The format of matrix products from now on, "fp32" or "bf16"; None: what the model's own layers say.

        Weights are float32 always, and a saved model names the format that its layers had in the beginning.

        Args:
            precision: one of these.
        """
        for layer, own in zip(self._layers, self._policies, strict=True):
            layer.dtype_policy = own if precision is None else keras.DTypePolicy(POLICIES[precision])
        self._working: Any = None
        self._functions: dict[str, Any] = {}

    @property
    def working(self) -> Any:
        """The same weights, faster, with logits; made when it is first asked for."""
        if self._working is None:
            self._working = working(self.plain)
        return self._working

    def inputs(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Token ids as the model takes them.

        Args:
            tokens_BT: ids of B rows of T tokens; `FILL` of rows with labels becomes the 0 that Keras masks.
        """
        return (tokens_BT + self.config.offset).astype(np.int32)

    def targets(self, targets_BT: NDArray[np.int64]) -> NDArray[np.int32]:
        """Targets as the model learns them: one for each row (B,) where it predicts once.

        Args:
            targets_BT: what stands after each token, or the class (B, 1); -100: not learned.
        """
        targets = targets_BT.astype(np.int32)
        return targets[:, -1] if self.config.head[0] == 1 else targets

    def loss(self, tokens_BT: NDArray[np.integer[Any]], targets_BT: NDArray[np.int64]) -> float:
        """The sum of the cross entropies, in nats, of all targets that are not -100.

        Args:
            tokens_BT: ids of B rows of T tokens.
            targets_BT: as of `targets`.
        """

        def summed(tokens: Any, targets: Any) -> Any:
            return tf.reduce_sum(cross_entropy(self.working(tokens, training=False), targets))

        rows = tf.TensorSpec((None,) if self.config.head[0] == 1 else (None, None), tf.int32)
        compute = self._function("loss", summed, rows)
        return float(compute(self.inputs(tokens_BT), self.targets(targets_BT)))

    def losses(self, tokens_BT: NDArray[np.int64], targets_BT: NDArray[np.int64]) -> NDArray[np.float64]:
        """The sum of the cross entropies of each row (B,), in nats, float64, of a model that predicts at every position.

        Args:
            tokens_BT: ids of B rows of T tokens.
            targets_BT: what stands after each; -100 is not counted.
        """

        def summed(tokens: Any, targets: Any) -> Any:
            return tf.reduce_sum(cross_entropy(self.working(tokens, training=False), targets), 1)

        compute = self._function("losses", summed, tf.TensorSpec((None, None), tf.int32))
        found: NDArray[np.float64] = compute(self.inputs(tokens_BT), self.targets(targets_BT)).numpy()
        return found.astype(np.float64)

    def probabilities(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """The probability of each class (B, K), float64, of a model that predicts once.

        Args:
            tokens_BT: ids of B rows of T tokens.
        """

        def softmax(tokens: Any) -> Any:
            return tf.nn.softmax(tf.cast(self.working(tokens, training=False), tf.float64))

        found: NDArray[np.float64] = self._function("probabilities", softmax)(self.inputs(tokens_BT)).numpy()
        return found

    def likeliest(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The likeliest token after each (B, T), of a model that predicts at every position.

        Args:
            tokens_BT: ids of B rows of T tokens.
        """

        def best(tokens: Any) -> Any:
            return tf.argmax(self.working(tokens, training=False), -1)

        found: NDArray[np.int64] = self._function("likeliest", best)(self.inputs(tokens_BT)).numpy()
        return found

    def next_logits(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """The logits of the token after the last (B, V).

        Args:
            tokens_BT: ids of B rows of T tokens.
        """

        def last(tokens: Any) -> Any:
            found = self.working(tokens, training=False)
            return found[:, -1] if found.shape.rank == 3 else found

        found: NDArray[np.float32] = self._function("next", last)(self.inputs(tokens_BT)).numpy()
        return found

    def _function(self, name: str, compute: Any, *others: Any) -> Any:
        """A compiled function of token ids, and of `others`: one for all heights and widths of a batch."""
        if name not in self._functions:
            tokens = tf.TensorSpec((None, None), tf.int32)
            self._functions[name] = tf.function(compute, input_signature=(tokens, *others))
        return self._functions[name]


def cross_entropy(logits: Any, targets: Any) -> Any:
    """The cross entropy of each target, in nats, float32; zero where it is -100.

    Args:
        logits: (..., V), float32.
        targets: (...), int32, from 0 up to V, or -100.
    """
    there = targets >= 0
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(there, targets, 0), logits)
    return tf.where(there, losses, 0.0)


# ---- files ----------------------------------------------------------------------------------------------------------


def to_bytes(plain: Any) -> bytes:
    """A `.keras` file as plain Keras writes it, less what differs from one writing to the next: time and addresses."""
    from keras.src.saving import (
        saving_lib,
    )  # the public function writes to paths alone, and a sealed run to none

    written = io.BytesIO()
    saving_lib.save_model(plain, written)
    out = io.BytesIO()
    with zipfile.ZipFile(written) as archive, zipfile.ZipFile(out, "w") as rewritten:
        for name in (METADATA, CONFIG, WEIGHTS):
            content = archive.read(name)
            if name == METADATA:
                content = json.dumps({"keras_version": keras.__version__}).encode()
            if name == CONFIG:
                content = re.sub(r', "shared_object_id": \d+', "", content.decode()).encode()
            rewritten.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return out.getvalue()


def from_bytes(content: bytes, where: str) -> Any:
    """The model in a `.keras` file; nothing of the file is executed, and no path that it names is opened.

    Args:
        content: of the file.
        where: the file, for errors.

    Raises:
        ShuyuanError: it is no such file, is damaged, or names something else than known layers of Keras.
    """
    from keras.src.saving import saving_lib

    check_sizes(content, read_table(content, where), where)
    try:
        return saving_lib.load_model(io.BytesIO(content), compile=False, safe_mode=True)
    except ShuyuanError:
        raise
    except Exception as error:
        # Keras, h5py and zipfile raise whatever they like at a file that was tampered with; all of it means the same.
        raise bad_file(
            f"Keras does not open it ({type(error).__name__}: {str(error)[:120]})", where
        ) from None


# ---- compressed -----------------------------------------------------------------------------------------------------


def named_weights(plain: Any) -> dict[str, NDArray[np.float32]]:
    """All weights by place and name, outputs first, as compression wants them: Keras has them last.

    Returns:
        "NUMBER.NAME" to float32; of a kernel the outputs are the first dimension.
    """
    return {
        name: np.ascontiguousarray(_outputs_first(name, variable.numpy()))
        for name, variable in _variables(plain).items()
    }


def inner_matrices(plain: Any) -> frozenset[str]:
    """The names of the matrices that belong to neither embedding nor head."""
    names = [name for name, weight in named_weights(plain).items() if weight.ndim > 1]
    return frozenset(name for name in names[:-1] if not name.endswith(EMBEDDING))


def from_layers(table: dict[str, Any], weights: dict[str, NDArray[np.float32]], where: str) -> Any:
    """The model of these layers with these weights.

    Args:
        table: what a `.keras` file says of its layers, checked.
        weights: by the names of `named_weights`.
        where: the file of the layers, for errors.

    Raises:
        ShuyuanError: Keras does not make such a model, or the weights are of another one.
    """
    try:
        plain = keras.saving.deserialize_keras_object(copy.deepcopy(table), safe_mode=True)  # it eats it
    except Exception as error:
        raise bad_file(f"Keras makes no model of it ({type(error).__name__})", where) from None
    variables = _variables(plain)
    if variables.keys() != weights.keys():
        raise bad_file("its weights are of another model", where)
    for name, variable in variables.items():
        expected = _outputs_first(name, variable.numpy())
        if weights[name].shape != expected.shape:
            raise bad_file(f"{name} is of another shape", where)
        weight = np.moveaxis(weights[name], 0, -1) if _moves(name) else weights[name]
        variable.assign(weight.reshape(variable.shape))
    return plain


def _variables(plain: Any) -> dict[str, Any]:
    return {
        f"{number}.{variable.path.split('/')[-1]}": variable for number, variable in enumerate(plain.weights)
    }


def _moves(name: str) -> bool:
    return not name.endswith((EMBEDDING, BIAS))


def _outputs_first(name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """A GRU's two biases are one vector here, which no compression touches."""
    if name.endswith(BIAS):
        return weight.reshape(-1)
    return np.moveaxis(weight, -1, 0) if _moves(name) else weight
