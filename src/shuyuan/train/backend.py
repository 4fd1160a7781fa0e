"""What the driver and a backend say to each other, without any framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..vault import Permit

OVERFLOW = "the fp16 loss scale was too high"  # part of how loss scaling works, and no sign of trouble


Arrays = Mapping[str, NDArray[Any]]


class OneByOne(Mapping[str, NDArray[Any]]):
    """Arrays that are too large together: each is fetched when it is asked for, and nothing is kept.

    Args:
        names: of all of them, in the order in which they are best fetched.
        fetch: an array by its name.
    """

    def __init__(self, names: Iterable[str], fetch: Callable[[str], NDArray[Any]]) -> None:
        self._names = dict.fromkeys(names)
        self._fetch = fetch

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        return self._fetch(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Divided(OneByOne):
    """Arrays that several ranks have in shares, and of which each writes and reads its own.

    Args:
        names, fetch: as of `OneByOne`.
        shares: how many.
        write: has each rank write the file that it gets a permit for; gives digest and bytes of each.
    """

    def __init__(
        self,
        names: Iterable[str],
        fetch: Callable[[str], NDArray[Any]],
        shares: int,
        write: Callable[[Sequence[Permit]], list[tuple[str, int]]],
    ) -> None:
        super().__init__(names, fetch)
        self.shares = shares
        self.write = write


def shape_alone(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of the same type that takes no memory, whatever its shape.

    Args:
        array: whose type is wanted.
        shape: of the result, which cannot be written to.
    """
    return np.broadcast_to(np.zeros((), array.dtype), shape)


@dataclass(frozen=True)
class Batch:
    """Sequences for one step: token ids and the next ones, both int64 (B, T); -100 where nothing is to be learned.

    Of any number of labels the targets are ones and zeros (B, 1, K), or all -100, and a row has one target. Of images, the inputs are
    their pixels, uint8 (B, C, H, W), and the targets (B, 1); of questions and texts (B, 2, T), and (B, 2). In private training also the unit of
    each row (B,), in rising order; there may be no row at all.
    """

    step: int
    inputs_BT: NDArray[np.integer[Any]]
    targets_BT: NDArray[np.int64]
    unit_B: NDArray[np.int64] | None = None


def learned(targets: Any) -> Any:
    """Which targets of each row (B, T) are learned, in whatever framework: all labels of a record are one target.

    Args:
        targets: (B, T), or of any number of labels (B, 1, K).
    """
    return (targets if targets.ndim == 2 else targets[..., 0]) >= 0


@dataclass(frozen=True)
class Figures:
    """What a backend says of a step.

    Attributes:
        loss: mean over the batch's targets, in nats.
        gradient_norm: before clipping.
        tokens: targets in the batch.
        skipped: why the weights were left as they were; None if they learned.
        not_finite: units whose gradient was not finite and counted as zero; in private training alone.
    """

    loss: float
    gradient_norm: float
    tokens: int
    skipped: str | None = None
    not_finite: int = 0


class Steps(Protocol):
    """What the driver is to a backend while it trains: says which step comes next, and hears of each."""

    @property
    def next(self) -> int | None:
        """The step to be made; None when training is over."""
        ...

    @property
    def last(self) -> int:
        """The last step of the run."""
        ...

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        ...

    def batch(self, step: int) -> Batch:
        """The batch of a step, whatever step it is.

        Args:
            step: its number, from 1 on.
        """
        ...

    def made(self, figures: Figures) -> None:
        """Does all that follows a step: the log, validation, checkpoints. It may load another state, and another step is then
        next than the one after it; and it raises when training shall end early.

        Args:
            figures: of the step that was `next`.
        """
        ...


class Backend(Protocol):
    """Computes steps. All that the next step depends on, besides its batch and learning rate, is in `state`."""

    parameters: int
    device: str

    def train(self, steps: Steps) -> None:
        """Makes one step after another, until none is left.

        Args:
            steps: says what comes next, and hears of each.
        """
        ...

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """Makes one step outside of a run, as one inside is made.

        Args:
            batch: of the step.
            learning_rate: of the optimizer.
        """
        ...

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """Mean loss over the targets of all batches, in nats; the state stays as it is.

        Args:
            batches: at least one target is learned in them.
        """
        ...

    def state(self) -> Arrays:
        """What the next step depends on, by name."""
        ...

    def layout(self) -> Arrays:
        """Names, shapes and types of a state, in arrays that take no memory."""
        ...

    def load(self, arrays: Arrays) -> None:
        """Goes on from a state of this layout.

        Args:
            arrays: as `state` gave them.
        """
        ...

    def peak_bytes(self) -> int:
        """The most memory used so far, in bytes."""
        ...

    def close(self) -> None:
        """Leaves the model as an ordinary one."""
        ...


class StepByStep:
    """A backend whose steps are called one by one."""

    def train(self, steps: Steps) -> None:
        """Makes one step after another, until none is left.

        Args:
            steps: says what comes next, and hears of each.
        """
        while (step := steps.next) is not None:
            steps.made(self.step(steps.batch(step), steps.rate))

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """Computes one step.

        Args:
            batch: of the step.
            learning_rate: of the optimizer.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Leaves the model as an ordinary one."""
