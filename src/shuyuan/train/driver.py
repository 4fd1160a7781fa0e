"""The training loop: steps, learning rate, batches, checkpoints, metrics, and what happens when a step goes wrong.

It knows no framework: a `Backend` computes the steps and hands over its state as named arrays. A run is a pure function
of recipe and data: batches follow from the step alone, and the clock decides only when further checkpoints fall.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import Interrupted, MachineError, TrainError, out_of_memory
from ..progress import Progress
from ..recipe import Budget, Train
from ..vault import Journal
from .backend import OVERFLOW, Backend, Batch, Figures
from .background import Background
from .checkpoints import Checkpoints
from .schedules import Schedule

LOGGED_STEPS = 1000  # a run logs at most about so many steps
BAD_STEPS = 3  # skipped steps in a row that lead to a rollback
ROLLBACKS = 3  # rollbacks after which training gives up
SAFE_SHARE, SAFE_STEPS = 0.25, 1000  # safe points lie at most this share of the run, and so many steps, apart
TAIL_SHARE = 0.05  # the reported training loss is the mean over this last share of the steps


@dataclass
class State:
    """How far a run is: with the backend's arrays, all that resume needs.

    Attributes:
        step: steps made.
        parameters: of the model.
        tokens: targets learned from.
        seconds: time spent training, over all sessions; `waited_seconds`: of this, until a step had its batch.
        peak_bytes: the most memory used, over all sessions.
        skipped: steps that left the weights alone; `skipped_in_row`: those just now.
        not_finite: units whose gradient was not finite, in private training.
        rollbacks: times the run went back; each halves `rate_factor`, which multiplies the learning rate.
        safe_step: the checkpoint that a rollback returns to. Safe points follow from the step alone, so that the
            moment at which other checkpoints fall never changes the result.
        tail_loss: sum of the losses of the run's last `tail_steps` steps.
        validation_loss: the newest one.
        schedule: the schedule's own state.
    """

    step: int = 0
    parameters: int = 0
    tokens: int = 0
    seconds: float = 0.0
    waited_seconds: float = 0.0
    peak_bytes: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    not_finite: int = 0
    rollbacks: int = 0
    rate_factor: float = 1.0
    safe_step: int = 0
    tail_loss: float = 0.0
    tail_steps: int = 0
    validation_loss: float | None = None
    schedule: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, table: dict[str, Any], step: int) -> State:
        """The state that a checkpoint of a step holds.

        Args:
            table: as the checkpoint holds it.
            step: the checkpoint's.

        Raises:
            TrainError: it is none, or that of another step.
        """
        plain = asdict(cls())
        sound = all(key in plain and type(value) in _LIKE[type(plain[key])] for key, value in table.items())
        schedule = table.get("schedule", {})
        sound = sound and all(type(value) in _LIKE[type(None)] for value in schedule.values())
        if not sound or table.get("step") != step:
            raise TrainError(
                "train.damaged-checkpoint",
                f"What the checkpoint of step {step} says of the run is no state of that step.",
                where=f"checkpoints/step-{step:08}",
                mend="Restore it from a copy, or delete its folder; training then goes on from the one before.",
            )
        return cls(**table)


# Which types a value of a state may have when it comes back from JSON.
_LIKE: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    type(None): (float, int, type(None)),
    dict: (dict,),
}


def validation_steps(steps: int, evaluations: int) -> set[int]:
    """The steps after which the validation loss is measured; always the last one.

    Args:
        steps: of the run.
        evaluations: how often it is measured, evenly apart, at least once.
    """
    return {max(1, round(steps * number / evaluations)) for number in range(1, evaluations + 1)} | {steps}


def safe_steps_apart(steps: int) -> int:
    """Steps between two safe points, at which a checkpoint is always written.

    Args:
        steps: of the run.
    """
    return min(math.ceil(steps * SAFE_SHARE), SAFE_STEPS)


class Driver:
    """Trains from the newest checkpoint, or from the beginning, to the last step.

    Args:
        train: the recipe's section, resolved.
        backend: computes the steps.
        sample: the batch of a step, a pure function of it; called on another thread, one step ahead.
        validation: a bounded, fixed part of the validation split; empty if there is none.
        checkpoints: those of this run.
        journal: hears the events.
        progress: shows the steps.
        stop: when set, the run saves and ends after the current step.
        clock: seconds; only differences matter.
        saving: told the step before its state is written.
        figures: of a step, to be shown beside the loss.
        speed: what targets learned a second are called there.
    """

    def __init__(
        self,
        train: Train,
        backend: Backend,
        sample: Callable[[int], Batch],
        validation: Sequence[Batch],
        checkpoints: Checkpoints,
        journal: Journal,
        progress: Progress,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        saving: Callable[[int], None] = lambda _: None,
        figures: Callable[[int], dict[str, float]] = lambda _: {},
        speed: str = "tok_s",
    ) -> None:
        if train.steps is None or train.learning_rate == "auto":
            raise ValueError("the recipe is not resolved")
        self.steps = train.steps
        self.state = State(parameters=backend.parameters)
        self._peak_rate = train.learning_rate
        self._schedule = Schedule(train, self.steps)
        self._interval = Budget.parse(train.checkpoint_every)
        self._validation_steps = validation_steps(self.steps, train.evaluations) if validation else set()
        self._safe_every = safe_steps_apart(self.steps)
        self._log_every = math.ceil(self.steps / LOGGED_STEPS)
        self._tail_begins = self.steps - max(1, round(self.steps * TAIL_SHARE))
        self._backend = backend
        self._sample = sample
        self._validation = validation
        self._checkpoints = checkpoints
        self._journal = journal
        self._progress = progress
        self._stop = stop
        self._clock = clock
        self._saving = saving
        self._figures = figures
        self._speed = speed

    def run(self, **facts: Any) -> State:
        """Trains to the last step; there is a checkpoint of it when this returns.

        Args:
            facts: what the log should say at the start.

        Raises:
            Interrupted: `stop` was set; the state is saved.
            TrainError: the loss or gradient stays non-finite, or a checkpoint does not fit.
            MachineError: a checkpoint cannot be written, or the memory is exhausted.
        """
        with (
            Background(self._sample, self.steps, self._journal) as self._background,
            self._progress.stage("train", self.steps, "steps") as self._stage,
        ):
            self._begin(facts)
            self._ready_at = self._clock()
            with self._counting_on_memory():
                self._backend.train(self)
            self._save()
        return self.state

    @contextmanager
    def _counting_on_memory(self) -> Iterator[None]:
        """Says of memory that is exhausted in a step where the run goes on afterwards."""
        try:
            yield
        except Exception as error:
            if out_of_memory(error) is None:
                raise
            raise MachineError(
                "machine.out-of-memory",
                f"The memory is exhausted in step {self.state.step + 1}; the checkpoint of step {self._saved_step} is whole.",
                mend="End what else needs memory and run the same command again: it goes on from there. Or start a new run "
                "with a smaller train.micro_batch, model.context or model.size.",
            ) from None

    # -- the start --

    def _begin(self, facts: dict[str, Any]) -> None:
        there = self._checkpoints.steps()
        if there:
            self._restore(there[-1])
            self._say_what_changed(there[-1])
        self._saved_step = there[-1] if there else -1
        self._saved_at = self._clock()
        self._begun = self._clock() - self.state.seconds
        self._waited_before = self.state.waited_seconds
        self._logged_tokens, self._logged_seconds = 0, 0.0
        self._background.log(
            "train.start", step=self.state.step, steps=self.steps, **facts, resumed=bool(there)
        )
        self._stage.advance(self.state.step)
        self._save()

    def _restore(self, step: int) -> None:
        state, arrays = self._checkpoints.load(step, self._backend.layout())
        self._backend.load(arrays)
        self.state = State.read(state, step)
        self._schedule.load(self.state.schedule)

    def _say_what_changed(self, step: int) -> None:
        changed = self._checkpoints.changed_circumstances(step)
        if changed:
            self._progress.say(
                "train.other-circumstances",
                "Training goes on under other circumstances, so its last bits may differ from an uninterrupted run's "
                f"({'; '.join(changed)}).",
            )

    # -- one step: what the backend asks and tells, as `Steps` has it --

    @property
    def next(self) -> int | None:
        """The step to be made; None when training is over."""
        return self.state.step + 1 if self.state.step < self.steps else None

    @property
    def last(self) -> int:
        """The last step of the run."""
        return self.steps

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self._peak_rate * self._schedule.factor(self.state.step + 1) * self.state.rate_factor

    def batch(self, step: int) -> Batch:
        """The batch of a step; the one after it is read meanwhile."""
        return self._background.batch(step)

    def made(self, figures: Figures) -> None:
        """Does all that follows a step."""
        rate = self.rate
        self.state.step += 1
        self._logged_seconds += self._clock() - self._ready_at
        if figures.skipped:
            self._skipped(figures)
        else:
            self._learned(figures, rate)
        if self.state.skipped_in_row >= BAD_STEPS:
            self._roll_back(str(figures.skipped))
        else:
            if self.state.step in self._validation_steps:
                self._validate()
            if self._save_is_due():
                self._save()
        if self._stop.is_set() and self.state.step < self.steps:
            self._save()
            raise self._interrupted()
        self._ready_at = self._clock()

    def _learned(self, figures: Figures, rate: float) -> None:
        state = self.state
        state.skipped_in_row = 0
        state.tokens += figures.tokens
        state.not_finite += figures.not_finite
        if state.step > self._tail_begins and figures.tokens:
            state.tail_loss += figures.loss
            state.tail_steps += 1
        self._logged_tokens += figures.tokens
        speed = self._logged_tokens / max(self._logged_seconds, 1e-9)
        loss = {"loss": figures.loss} if figures.tokens else {}  # a private batch may be empty
        self._stage.advance(1, **loss, lr=rate, **{self._speed: speed}, **self._figures(state.step))
        if state.step % self._log_every and state.step not in (1, self.steps):
            return
        self._measure()
        self._background.log(
            "train.step",
            step=state.step,
            **loss,
            learning_rate=rate,
            gradient_norm=figures.gradient_norm,
            tokens=state.tokens,
            tokens_per_second=round(speed, 1),
            seconds=round(state.seconds, 3),
            waited_seconds=round(state.waited_seconds, 3),
            peak_bytes=state.peak_bytes,
        )
        self._logged_tokens, self._logged_seconds = 0, 0.0

    def _skipped(self, figures: Figures) -> None:
        self.state.skipped += 1
        self._stage.advance(1)
        self._background.log("train.skipped", step=self.state.step, reason=figures.skipped)
        if figures.skipped != OVERFLOW:
            self.state.skipped_in_row += 1
            self._progress.say("train.skipped", f"Step {self.state.step} was skipped: {figures.skipped}.")

    def _validate(self) -> None:
        self.state.validation_loss = self._backend.evaluate(self._validation)
        self._schedule.validated(self.state.validation_loss)
        self._background.log("train.validation", step=self.state.step, loss=self.state.validation_loss)

    # -- saving and going back --

    def _is_safe(self) -> bool:
        return self.state.step % self._safe_every == 0 and self.state.skipped_in_row == 0

    def _save_is_due(self) -> bool:
        if self._interval.unit == "steps":
            return self._is_safe() or self.state.step % max(1, round(self._interval.amount)) == 0
        return self._is_safe() or self._clock() - self._saved_at >= self._interval.amount

    def _save(self) -> None:
        """Writes a checkpoint of this step, unless there is one."""
        if self._saved_step == self.state.step:
            return
        self._background.flush()
        begun = self._clock()
        if self._is_safe():
            self.state.safe_step = self.state.step
        self._measure()
        self.state.schedule = self._schedule.state()
        self._saving(self.state.step)
        self._checkpoints.save(self.state.step, asdict(self.state), self._backend.state())
        self._saved_step, self._saved_at = self.state.step, self._clock()
        self._background.log(
            "train.checkpoint",
            step=self.state.step,
            seconds=round(self._saved_at - begun, 3),
            **self._figures(self.state.step),
        )

    def _measure(self) -> None:
        self.state.seconds = self._clock() - self._begun
        self.state.waited_seconds = self._waited_before + self._background.waited_seconds
        self.state.peak_bytes = max(self.state.peak_bytes, self._backend.peak_bytes())

    def _roll_back(self, reason: str) -> None:
        """Returns to the safe point with half the learning rate. All of it follows from the steps, so a repeat does the same."""
        bad = self.state
        if bad.rollbacks >= ROLLBACKS:
            raise self._diverged(reason)
        self._restore(bad.safe_step)
        self._checkpoints.remove_after(bad.safe_step)
        self.state.skipped = bad.skipped
        self.state.rollbacks = bad.rollbacks + 1
        self.state.rate_factor = bad.rate_factor / 2
        self.state.peak_bytes = bad.peak_bytes
        self._saved_step = -1
        self._background.log("train.rollback", step=bad.step, to_step=self.state.step, reason=reason)
        self._progress.say(
            f"train.rollback-{self.state.rollbacks}",
            f"{BAD_STEPS} steps in a row up to step {bad.step} failed because {reason}: training goes back to step "
            f"{self.state.step} and on with {self.state.rate_factor:g} times the learning rate.",
        )
        self._stage.advance(self.state.step - bad.step)
        self._save()

    def _diverged(self, reason: str) -> TrainError:
        return TrainError(
            "train.diverged",
            f"{BAD_STEPS} steps in a row up to step {self.state.step} failed because {reason}, after {ROLLBACKS} "
            "rollbacks that each halved the learning rate.",
            where="train.learning_rate",
            mend='Start a new run with a lower train.learning_rate, or with train.precision = "fp32".',
        )

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            "train.interrupted",
            f"Training was interrupted after step {self.state.step} of {self.steps}; the state is saved.",
            mend="Run the same command again to go on.",
        )
