"""The shape of a recurrent model, from a recipe or from a `.keras` file: enough to plan with, without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..errors import ShuyuanError
from ..recipe import Model
from ..tasks.base import Output

MODEL_TYPE = "keras"
GATES = {"lstm": 4, "gru": 3, "simple": 1}
PASSED = (
    3.3  # copies of a layer's input and output, their gradients and both orders of their dimensions; measured
)
KEPT = {
    "lstm": (2, 4),
    "gru": (1, 4),
    "simple": (1, 0),
}  # states, and what else is kept of a position, in units
Kind = Literal["embedding", "lstm", "gru", "simple", "dense", "other"]
Predict = Literal["every", "last"]


@dataclass(frozen=True)
class Layer:
    """One layer with weights.

    Attributes:
        kind: what it computes.
        inputs: numbers of each position that come in; rows of an embedding.
        units: numbers of each position that go out, of one direction.
        both: two of it, that read from both ends; their outputs stand side by side, or are `merged`.
        sequence: whether it gives one output for each position, or one for the whole.
        weights: how many, where the kind does not tell.
    """

    kind: Kind
    inputs: int
    units: int
    both: bool = False
    sequence: bool = True
    merged: bool = False
    weights: int = 0

    @property
    def outputs(self) -> int:
        """Numbers of each position that go out."""
        return self.units * (2 if self.both and not self.merged else 1)

    @property
    def matrices(self) -> Iterator[tuple[int, int]]:
        """(rows, columns) of each matrix that inputs are multiplied with."""
        if self.kind == "dense":
            yield self.inputs, self.units
        elif self.kind in GATES:
            columns = GATES[self.kind] * self.units
            for _ in range(2 if self.both else 1):
                yield self.inputs, columns
                yield self.units, columns

    @property
    def parameters(self) -> int:
        """Weights of the layer, biases included."""
        if self.kind == "embedding":
            return self.inputs * self.units
        if self.kind == "other":
            return self.weights
        biases = 2 if self.kind == "gru" else 1  # Keras' GRU has one for the input and one for the state
        directions = 2 if self.both else 1
        columns = GATES.get(self.kind, 1) * self.units
        return sum(rows * columns for rows, columns in self.matrices) + biases * directions * columns

    def position_bytes(self, number: int) -> int:
        """Bytes that a position of one row takes from forward to backward pass, the gradients on its way included.

        Args:
            number: bytes of a number in the format of the products.
        """
        passed = PASSED * (self.inputs + self.units) * number
        if self.kind not in GATES:
            return 0 if self.kind == "embedding" or not self.sequence else round(passed)
        states, kept = KEPT[self.kind]
        # Pre-activations, of the GRU apart for input and state; states, the same one position earlier, and what is kept, in float32.
        pre = (2 if self.kind == "gru" else 1) * GATES[self.kind] * self.units * number
        held = (2 * states + kept) * self.units * 4
        return (2 if self.both else 1) * round(pre + held + passed)


@dataclass(frozen=True)
class RnnConfig:
    """A recurrent model.

    Args:
        vocab_size: entries of the run's tokenizer.
        stack: the layers with weights, in order.
        context: tokens that the model sees at once.
        dropout: share of each layer's output that is left out at random, in training.
        predict: "every": the next token at each position; "last": the one after the window.
        end_id: token that closes every record and opens generation.
        labels: names of the classes that the model tells apart; without any, it predicts tokens.
        given: whether layers and weights come from a file, and not from the recipe's shape.
    """

    multi_label: ClassVar[bool] = False
    vocab_size: int
    stack: tuple[Layer, ...]
    context: int
    dropout: float = 0.0
    predict: Predict = "every"
    end_id: int | None = None
    labels: tuple[str, ...] = ()
    given: bool = False

    @classmethod
    def from_recipe(cls, model: Model, vocab_size: int, end_id: int, labels: Sequence[str] = ()) -> RnnConfig:
        """The shape that a recipe's [model] table asks for, with the vocabulary of the run's tokenizer."""
        shape, cell, both = model.shape(), model.cell or "lstm", bool(model.bidirectional)
        predict = model.predict or "every"
        stack = [Layer("embedding", vocab_size + (1 if labels else 0), shape["width"])]
        for number in range(shape["layers"]):
            last = number == shape["layers"] - 1
            sequence = bool(labels) or predict == "every" or not last
            stack.append(Layer(cell, stack[-1].outputs, shape["width"], both, sequence))
        every = not labels and predict == "every"
        stack.append(Layer("dense", stack[-1].outputs, len(labels) or vocab_size, sequence=every))
        return cls(
            vocab_size, tuple(stack), model.context, model.dropout or 0.0, predict, end_id, tuple(labels)
        )

    @property
    def width(self) -> int:
        """Units of the widest recurrent layer."""
        return max(
            (layer.units for layer in self.recurrent), default=max(each.outputs for each in self.stack)
        )

    @property
    def recurrent(self) -> list[Layer]:
        """The recurrent layers."""
        return [layer for layer in self.stack if layer.kind in GATES]

    @property
    def layers(self) -> int:
        """Number of recurrent layers."""
        return len(self.recurrent)

    @property
    def parameters(self) -> int:
        """Exact number of parameters."""
        return sum(layer.parameters for layer in self.stack)

    @property
    def offset(self) -> int:
        """What is added to token ids: a classifier's 0 stands where no token is, which Keras' mask knows."""
        return 1 if self.labels else 0

    @property
    def output(self) -> Output:
        """What the head gives."""
        return "labels" if self.labels else "tokens"

    @property
    def head(self) -> tuple[int, int]:
        """(predictions a sequence, logits a prediction)."""
        if self.labels:
            return 1, len(self.labels)
        return (self.context if self.predict == "every" else 1), self.vocab_size

    def sequence_bytes(self, number: int) -> int:
        """Bytes that one more sequence takes while a step is computed, beside its logits.

        Args:
            number: bytes of a number in the format of the products.
        """
        return self.context * sum(layer.position_bytes(number) for layer in self.stack[:-1])

    def to_json(self) -> dict[str, Any]:
        """The content of config.json: what the .keras file beside it does not say."""
        return {
            "model_type": MODEL_TYPE,
            "vocab_size": self.vocab_size,
            "context": self.context,
            "predict": self.predict,
            "end_id": self.end_id,
            "labels": list(self.labels),
            "added_to_token_ids": self.offset,
        }

    @classmethod
    def from_json(cls, table: Mapping[str, Any], stack: tuple[Layer, ...], *, where: str) -> RnnConfig:
        """Reads config.json, beside the layers that the `.keras` file tells.

        Args:
            table: content of config.json.
            stack: the layers.
            where: the file, for errors.

        Raises:
            ShuyuanError: a value is missing or makes no sense.
        """
        labels, end_id = table.get("labels"), table.get("end_id")
        sound = (
            _is_size(table.get("vocab_size"))
            and _is_size(table.get("context"))
            and table.get("predict") in ("every", "last")
            and (end_id is None or (_is_whole(end_id) and 0 <= end_id < table["vocab_size"]))
            and isinstance(labels, list)
            and all(isinstance(label, str) for label in labels)
        )
        if not sound:
            raise ShuyuanError(
                "models.bad-config",
                "The file does not describe a recurrent model.",
                where=where,
                mend="Use a whole model folder, as a run or `shuyuan export` writes it.",
            )
        return cls(
            vocab_size=table["vocab_size"],
            stack=stack,
            context=table["context"],
            predict=table["predict"],
            end_id=end_id,
            labels=tuple(labels or ()),
            given=True,
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return _is_whole(value) and 1 <= value <= 2**24
