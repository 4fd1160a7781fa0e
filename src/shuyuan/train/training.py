"""Trains the model of a run: puts data, model, backend and driver together, and writes the model at the end."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import (
    AnyBatch,
    Images,
    Manifest,
    Rows,
    last_of,
    load_manifest,
    load_task,
    load_tokenizer,
    open_split,
    template_file,
)
from ..hardware import Hardware, detect
from ..privacy.data_sets import DataSetLedger, enter
from ..privacy.ledger import LEDGER_FILE, Ledger
from ..privacy.teachers import enter_teacher
from ..progress import Progress
from ..recipe import Recipe
from ..runs import not_prepared
from ..tasks import Prompted
from ..vault import Store
from ..version import __version__
from .augment import moved
from .backend import Backend, Batch
from .checkpoints import Checkpoints
from .distributed import world
from .driver import Driver, State
from .framework import Framework, framework_of
from .memory import give_back
from .metrics import METRICS_FILE
from .parts import predicts_last
from .resolve import VALIDATION_ROWS, mechanism_of, validation_windows
from .secret import erase_secret, run_secret
from .temperature import MOST, temper
from .tensorboard import EventFile
from .together import Leading, backend_of
from .unit_batches import private_batches

MODEL_FOLDER = "model"
EPSILON_MARKS = 10  # steps of a run after which ε is computed anew
FREE_KEYS = {
    "budget",
    "checkpoint_every",
    "keep",
    "sharded",
    "activation_checkpointing",
}  # of [train]: they shape no result; steps stand for the budget


@dataclass(frozen=True)
class TrainResult:
    """What training came to.

    Attributes:
        steps: optimizer steps.
        tokens: targets learned from, over all steps.
        seconds: time spent training, over all sessions.
        waited_seconds: of these, until a step had its batch.
        peak_bytes: the most memory used, of the GPU or of the process.
        parameters: of the model; tied ones count once.
        loss: "train": mean of the last 5 % of the steps; "validation": at the end, on at most 32 windows of the
            validation split (the whole split is the evaluation's business). None where there was nothing to measure.
    """

    steps: int
    tokens: int
    seconds: float
    waited_seconds: float
    peak_bytes: int
    parameters: int
    loss: dict[str, float | None]


def train(
    recipe: Recipe,
    store: Store,
    progress: Progress,
    stop: threading.Event,
    *,
    card: Callable[[], str] | None = None,
) -> TrainResult:
    """Trains to the last step, from the newest checkpoint if there is one, and writes `model/`.

    Does nothing if that is done already. The result is a pure function of recipe and data on one machine: however
    often it is interrupted or killed, the last bits are the same.

    Args:
        recipe: resolved (see `resolve`).
        store: the run's files, with the prepared data.
        progress: shows the steps.
        stop: when set, the state is saved after the current step and `Interrupted` raised.
        card: writes the model card, asked after the last step; left out, a short one.

    Raises:
        RunError: the data is not prepared.
        Interrupted: `stop` was set.
        TrainError: the loss stays non-finite, or a checkpoint does not fit.
        MachineError: the disk is full.
        PrivacyError: the run is private, and the ledger of its data set cannot be used; or it learns from the records that its
            teacher protects.
    """
    manifest = load_manifest(store)
    if manifest is None:
        raise not_prepared(store.path)
    enter(recipe, store, progress)
    enter_teacher(recipe, store)
    hardware = detect()
    circumstances = _circumstances(hardware, framework_of(recipe).versions())
    checkpoints = Checkpoints(store, _identity(recipe, manifest), circumstances, recipe.train.keep)
    there = checkpoints.steps()
    if there and there[-1] == recipe.train.steps and store.exists(MODEL_FOLDER):
        erase_secret(store)  # a kill may have come between the model and this
        return _result(State.read(checkpoints.state(there[-1]), there[-1]))
    with framework_of(recipe).repeatable(hardware.cores, recipe.seed, recipe.train.precision):
        return _train(recipe, store, manifest, hardware, checkpoints, progress, stop, card)


def _train(
    recipe: Recipe,
    store: Store,
    manifest: Manifest,
    hardware: Hardware,
    checkpoints: Checkpoints,
    progress: Progress,
    stop: threading.Event,
    card: Callable[[], str] | None,
) -> TrainResult:
    give_back()
    framework = framework_of(recipe)
    model = framework.trainable(recipe, manifest)
    journal = store.journal(METRICS_FILE)
    if recipe.report.tensorboard:
        journal = EventFile(journal, store, private=recipe.privacy is not None)
    validation = list(validation_batches(recipe, store, manifest))
    parts = _private_parts if recipe.privacy else _parts
    backend, sample, saving, figures, done = parts(recipe, store, manifest, hardware, model, checkpoints)
    say_who_writes(backend, progress)
    driver = Driver(
        recipe.train,
        backend,
        sample,
        validation,
        checkpoints,
        journal,
        progress,
        stop,
        saving=saving,
        figures=figures,
        speed="records_s" if manifest.labels else "tok_s",
    )
    state = driver.run(
        parameters=backend.parameters,
        tokens_per_step=_batch_size(recipe) * (1 if recipe.images else recipe.model.context),
        precision=recipe.train.precision,
        device=hardware.device,
        ranks=world().count,
    )
    result = _result(state)
    backend.close()
    done()
    if manifest.labels and recipe.privacy is None and "validation" in manifest.splits:
        _temper(framework, model, recipe, store, manifest)
    _save(framework, model, recipe, store, card() if card else _short_card(recipe, result))
    erase_secret(store)
    journal.append(
        {
            "event": "train.end",
            "time": round(time.time(), 3),
            "step": result.steps,
            "loss": result.loss["train"],
            "validation_loss": result.loss["validation"],
            "seconds": result.seconds,
            "waited_seconds": result.waited_seconds,
            "tokens": result.tokens,
            "peak_bytes": result.peak_bytes,
        }
    )
    return result


def say_who_writes(backend: Backend, progress: Progress) -> None:
    """Says of a model in shares where these are not written by the ranks that have them."""
    if isinstance(backend, Leading) and backend.one_writer:
        progress.say(
            "train.one-writer",
            "Not all ranks see the run's folder and may write there: rank 0 writes checkpoints for all of them, which takes longer.",
        )


def _temper(framework: Framework, model: Any, recipe: Recipe, store: Store, manifest: Manifest) -> None:
    """Calibrates the probabilities of labels on what is held out."""
    held_out = open_split(store, manifest, "validation", recipe.model.context)
    assert isinstance(held_out, Rows | Images)  # no others have labels
    at_once = recipe.train.micro_batch
    assert isinstance(at_once, int)  # resolved; what training had room for, this has too
    most = MOST if recipe.model.family == "ngrams" else VALIDATION_ROWS
    temper(framework, model, held_out, at_once, most)


def _save(framework: Framework, model: Any, recipe: Recipe, store: Store, card: str) -> None:
    """Writes the model folder, with what its texts are written in."""
    tokenizer = None if recipe.images else load_tokenizer(store)
    tokenizer_json = None if tokenizer is None else tokenizer.to_json()
    task = load_task(recipe, store)
    end_of_turn = last_of(task.ending, tokenizer) if isinstance(task, Prompted) and tokenizer else None
    with store.folder(MODEL_FOLDER) as folder:
        framework.save(folder, recipe, model, tokenizer_json, card, end_of_turn)
        template = template_file(store)
        if template is not None:
            folder.write("chat_template.jinja", template)


# What a run trains with: a backend, the batch of each step, what to do before a state is written, figures to show beside
# the loss, and what to do after the last step.
Parts = tuple[
    Backend,
    Callable[[int], Batch],
    Callable[[int], None],
    Callable[[int], dict[str, float]],
    Callable[[], None],
]


def _parts(
    recipe: Recipe, store: Store, manifest: Manifest, hardware: Hardware, model: Any, _: Checkpoints
) -> Parts:
    last = predicts_last(recipe, manifest)
    split = open_split(store, manifest, "train", recipe.model.context, last=last)
    size = _batch_size(recipe)

    def sample(step: int) -> Batch:
        inputs, targets = split.batch(step - 1, size, recipe.seed)
        return Batch(step, moved(inputs, recipe, np.random.default_rng((recipe.seed, step))), targets)

    backend = backend_of(recipe, manifest, model, hardware, folder=store.path)
    return backend, sample, lambda _: None, lambda _: {}, lambda: None


def _private_parts(
    recipe: Recipe,
    store: Store,
    manifest: Manifest,
    hardware: Hardware,
    model: Any,
    checkpoints: Checkpoints,
) -> Parts:
    assert recipe.privacy is not None
    mechanism = mechanism_of(recipe, manifest)
    made = checkpoints.steps()
    begun = bool(made) and 0 < made[-1] != recipe.train.steps
    framework = framework_of(recipe)
    identity = _identity(recipe, manifest) | {"weights": framework.weights_digest(model)}
    secret = run_secret(store, recipe, identity, begun=begun)
    backend = backend_of(recipe, manifest, model, hardware, mechanism, secret, store.path)
    shared = DataSetLedger.of_run(recipe, store.path)
    shared.check_writable()
    ledger = Ledger((shared, store.journal(LEDGER_FILE)), mechanism, secret)
    ledger.allow(recipe.privacy.allow)

    def spent(step: int) -> dict[str, float]:
        # ε takes a moment to compute, so between marks that of the next one is told: never too little.
        mark = math.ceil(step / mechanism.steps * EPSILON_MARKS) * mechanism.steps // EPSILON_MARKS
        return {"epsilon": math.ceil(mechanism.epsilon(max(mark, step)) * 1000) / 1000}

    batches = private_batches(store, manifest, recipe, mechanism, secret)
    return backend, batches, lambda step: ledger.steps(1, step), spent, lambda: ledger.release(MODEL_FOLDER)


def _batch_size(recipe: Recipe) -> int:
    assert isinstance(recipe.train.batch_size, int)  # resolved
    return recipe.train.batch_size


def validation_batches(recipe: Recipe, store: Store, manifest: Manifest) -> Iterator[Batch]:
    """A bounded part of the validation split, the same at every evaluation: windows drawn from all over it.

    Args:
        recipe: resolved.
        store: the run's files.
        manifest: what was prepared.

    Yields:
        Of at most `micro_batch` rows each; nothing without a validation split.
    """
    wanted = validation_windows(recipe, manifest)
    if not wanted:
        return
    last = predicts_last(recipe, manifest)
    windows = open_split(store, manifest, "validation", recipe.model.context, last=last)
    assert isinstance(recipe.train.micro_batch, int)  # resolved
    size = min(recipe.train.micro_batch, wanted)
    batches: Iterator[AnyBatch] = windows.in_order(size)
    if windows.count > wanted:
        batches = (windows.batch(number, size, 0) for number in range(wanted // size))
    for number, (inputs_BT, targets_BT) in enumerate(batches):
        yield Batch(number, inputs_BT, targets_BT)


def _identity(recipe: Recipe, manifest: Manifest) -> dict[str, Any]:
    """What shapes the result, as flat JSON values: a checkpoint of another identity is of no use here."""
    table = recipe.model_dump(by_alias=True, mode="json")
    shards = ",".join(
        shard.sha256 for name in sorted(manifest.splits) for shard in manifest.splits[name].shards
    )
    data = hashlib.sha256(shards.encode()).hexdigest()
    identity = {"seed": recipe.seed, "task": recipe.task, "data": data}
    identity |= {f"model.{key}": value for key, value in table["model"].items()}
    identity |= {f"privacy.{key}": value for key, value in (table["privacy"] or {}).items()}
    return identity | {f"train.{key}": value for key, value in table["train"].items() if key not in FREE_KEYS}


def _circumstances(hardware: Hardware, versions: dict[str, str]) -> dict[str, Any]:
    """What the last bits depend on besides."""
    count = world().count
    device = hardware.name if count == 1 else f"{count} ranks on {hardware.name}"
    own = {"device": device, "threads": hardware.cores, "shuyuan": __version__}
    return own | versions


def _result(state: State) -> TrainResult:
    loss = state.tail_loss / state.tail_steps if state.tail_steps else None
    return TrainResult(
        state.step,
        state.tokens,
        round(state.seconds, 3),
        round(state.waited_seconds, 3),
        state.peak_bytes,
        state.parameters,
        {"train": loss, "validation": state.validation_loss},
    )


def _short_card(recipe: Recipe, result: TrainResult) -> str:
    return (
        f"# {recipe.name}\n\n"
        f"A {'network for images' if recipe.images else 'language model'} of {result.parameters:,} parameters, trained by Shuyuan from the recipe `{recipe.name}` "
        f"for {result.steps:,} steps on {result.tokens:,} {'images' if recipe.images else 'tokens'}.\n\n"
        + (
            "It was trained with differential privacy; the run's ledger says how.\n"
            if recipe.privacy
            else "It was trained without differential privacy: it may repeat what stands in its training records.\n"
        )
    )
