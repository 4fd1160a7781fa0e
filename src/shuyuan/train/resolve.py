"""Fills what a recipe leaves open: batch size, precision, learning rate, and how many steps a budget is.

All but a time budget follows from recipe, manifest and hardware facts by formula, the same each time. A time budget is
calibrated once: a few real steps on made-up tokens or pixels and scratch weights, of which nothing stays behind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from ..data import NOTHING, Manifest
from ..data.widths import FILL
from ..errors import PrivacyError
from ..hardware import Hardware, choose_precision, measured_rates
from ..models import (
    ImageConfig,
    NgramConfig,
    RnnConfig,
    TransformerConfig,
)
from ..privacy import Mechanism, mechanism, mechanism_in
from ..privacy.accountant import INTERVAL
from ..progress import Progress
from ..recipe import MOST_STEPS, Budget, Recipe, Train
from .backend import Batch
from .driver import safe_steps_apart, validation_steps
from .parts import config_of, evenly, predicts_last, row_width, rows_at
from .rates import WEIGHT_DECAYS, choose_learning_rate, choose_optimizer

CALIBRATION_SHARE = 0.03  # of the budget, but at least and at most so many seconds:
CALIBRATION_SECONDS = (1.0, 10.0)
SEALING_BYTES_PER_SECOND = 1e9
VALIDATION_WINDOWS, VALIDATION_TOKENS = 32, 65_536  # the most of validation that training measures each time
VALIDATION_ROWS = 512  # the same of labelled records and images, which have one target each
LABELLED_BATCH = 32  # the fewest labelled records a step
IMAGE_BATCH = {"cpu": 128, "cuda": 1024}
# Tokens a step: on a CPU, 1024 and 4096 learned less in the same time at 4x128; a GPU needs more to be busy.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}
RNN_BATCH_TOKENS = 4096  # a step: fewer rows leave the product of a position too small to be fast
LAST_BATCH = 128  # the fewest windows a step of a model that predicts one token of each
NGRAM_BATCH = 64  # the fewest records a step of the family ngrams
# A time budget ends early where it has passed over its texts so often, in at least so many steps: beyond, it learns them by heart,
# and held-out ones are thought ever less likely; of bytes, which are few and all seen often, somewhat later (docs/lab-notes.md).
ENOUGH_EPOCHS, ENOUGH_BYTE_EPOCHS, ENOUGH_STEPS, ENOUGH_NGRAM_STEPS = 4, 6, 50, 600
PRIVATE_TOKENS = {"cpu": 4096, "cuda": 32_768}  # of a physical batch
PRIVATE_BATCHES = 4  # times as many sequences a step in private training
PRIVATE_IMAGES = {"cpu": 128, "cuda": 2048}  # of a physical batch
# Times as many images a step in private training, and of few units one in so many at most.
PRIVATE_IMAGE_BATCHES, PRIVATE_SHARE = 8, 8
FEW_STEPS = 50  # a run of fewer learns little, and says so


@dataclass(frozen=True)
class Costs:
    """What the parts of training take, in seconds.

    Attributes:
        step: one step.
        evaluation: once over the validation part.
        checkpoint: one.
        start: once, beyond all steps: what a framework builds at the first one.
        update: of a step, what changing the weights takes.
    """

    step: float
    evaluation: float
    checkpoint: float
    start: float = 0.0
    update: float = 0.0


def resolve(recipe: Recipe, manifest: Manifest, hardware: Hardware, progress: Progress) -> Recipe:
    """The recipe with every `auto` of [train] filled in, and its budget turned into `train.steps`.

    Args:
        recipe: as asked; what is filled in already stays.
        manifest: of the prepared data.
        hardware: where training will run.
        progress: shows the calibration of a time budget.
    """
    recipe = fill_in(recipe, manifest, hardware, progress)
    if recipe.train.steps is not None:
        return recipe
    budget = Budget.parse(recipe.train.budget)
    if budget.unit == "seconds":
        costs = calibrate(recipe, manifest, hardware, progress)
        steps = steps_within(budget.amount, recipe.train, costs, enough := enough_steps(recipe, manifest))
        if steps == enough:
            progress.say("train.enough", enough_said(steps, recipe.train.budget))
    else:
        steps = steps_of(budget, recipe, manifest)
    if steps < FEW_STEPS:
        progress.say(
            "train.few-steps",
            f'{steps:,} steps are too few to learn much: give train.budget more than "{recipe.train.budget}", or take a smaller model.',
        )
    return recipe.replace(**{"train.steps": steps})


# ---- by formula ----------------------------------------------------------------------------------------------------


def fill_in(
    recipe: Recipe, manifest: Manifest, hardware: Hardware, progress: Progress | None = None
) -> Recipe:
    """Batch size, micro batch, precision and learning rate: a pure function of the arguments, which never measures.

    Args:
        recipe: as asked; what is filled in already stays.
        manifest: of the prepared data.
        hardware: where training will run.
        progress: is told what is not as asked. Default: nobody is.

    Returns:
        The recipe, in which of [train] only `steps` may be open.

    Raises:
        ShuyuanError: as of `config_of`.
    """
    precision = choose_precision(recipe.train.precision, hardware, progress)
    if recipe.privacy is not None and precision == "fp16":
        precision = "fp32"
        if progress is not None:
            progress.say(
                "train.private-fp32",
                "Private training is done in fp32: fp16 needs a scale that follows the records.",
            )
    batch_size, micro_batch = recipe.train.batch_size, recipe.train.micro_batch
    if batch_size == "auto":
        batch_size = choose_batch(recipe, manifest, hardware)
        if micro_batch != "auto":
            batch_size = math.ceil(batch_size / micro_batch) * micro_batch
        else:  # a few less where the number has no divisors: 179 would be computed one at a time
            batch_size -= batch_size % math.ceil(
                batch_size / most_at_once(recipe, manifest, hardware, precision)
            )
    if micro_batch == "auto":
        micro_batch = choose_micro_batch(recipe, manifest, hardware, batch_size, precision)
    config = config_of(recipe, manifest)
    optimizer = recipe.train.optimizer
    if optimizer == "auto":
        optimizer = choose_optimizer(recipe, config)
    rate, decay = recipe.train.learning_rate, recipe.train.weight_decay
    return recipe.replace(
        **{
            "train.precision": precision,
            "train.batch_size": batch_size,
            "train.micro_batch": micro_batch,
            "train.optimizer": optimizer,
            "train.learning_rate": choose_learning_rate(recipe, optimizer, config.width)
            if rate == "auto"
            else rate,
            "train.weight_decay": WEIGHT_DECAYS[optimizer] if decay == "auto" else decay,
        }
    )


def mechanism_of(recipe: Recipe, manifest: Manifest, interval: float = INTERVAL) -> Mechanism:
    """What each step of a private run does; the noise follows from ε and the number of steps.

    Args:
        recipe: resolved, with a [privacy] table.
        manifest: says how many units the training split has; once it stands in the resolved recipe, that is used.
        interval: by which privacy losses are rounded: a plan may be coarser than training.

    Raises:
        PrivacyError: there are fewer units than a batch has, or no noise is enough.
    """
    privacy, steps, batch_size = recipe.privacy, recipe.train.steps, recipe.train.batch_size
    assert privacy is not None and steps is not None and batch_size != "auto"
    units = units_of(recipe, manifest)
    if batch_size > units:
        raise PrivacyError(
            "privacy.few-units",
            f"A step would have {batch_size:,} units on average, and there are {units:,}.",
            where="train.batch_size",
            mend="Lower it: a tenth of the units or less is usual, since few units a step cost little ε.",
        )
    return mechanism_in(recipe) or mechanism(
        units=units,
        expected_batch=batch_size,
        steps=steps,
        epsilon=privacy.epsilon,
        noise_multiplier=privacy.noise_multiplier,
        delta=privacy.delta,
        clip=privacy.clip,
        clipping=privacy.clipping,
        unit=privacy.unit,
        interval=interval,
    )


def units_of(recipe: Recipe, manifest: Manifest) -> int:
    """How many units the training split has.

    Args:
        recipe: with a [privacy] table, which says what a unit is.
        manifest: of the prepared data.
    """
    assert recipe.privacy is not None
    split = manifest.splits["train"]
    return split.owners if recipe.privacy.unit == "owner" else split.records


def choose_batch(recipe: Recipe, manifest: Manifest, hardware: Hardware) -> int:
    """Sequences a step: about BATCH_TOKENS tokens, and never more than the training split has windows.

    In private training, units a step on average: more of them, since the noise is the same for many as for few.

    Args:
        recipe: says family, context and privacy.
        manifest: of the prepared data.
        hardware: where training will run.
    """
    if manifest.image is not None:
        return _choose_images(recipe, manifest, hardware)
    tokens = RNN_BATCH_TOKENS if recipe.model.family == "rnn" else BATCH_TOKENS[hardware.device]
    wanted = round(tokens / recipe.model.context)
    there = manifest.splits["train"].tokens // recipe.model.context
    if predicts_last(recipe, manifest):
        wanted, there = max(wanted, LAST_BATCH), manifest.splits["train"].tokens
    if manifest.labels:
        least = NGRAM_BATCH if recipe.model.family == "ngrams" else LABELLED_BATCH
        wanted, there = max(wanted, least), manifest.splits["train"].records
    if manifest.prompted:
        wanted, there = round(tokens / _mean_row(recipe, manifest)), manifest.splits["train"].rows
    if recipe.privacy is not None:
        wanted, there = PRIVATE_BATCHES * wanted, units_of(recipe, manifest)
    return max(1, min(wanted, there))


def _mean_row(recipe: Recipe, manifest: Manifest) -> float:
    """Tokens of a row of a prompt and its answer; how long they are is private."""
    train = manifest.splits["train"]
    return recipe.model.context if recipe.privacy is not None else max(1.0, train.tokens / train.rows)


def _choose_images(recipe: Recipe, manifest: Manifest, hardware: Hardware) -> int:
    """The same of images: of few units only a share is in each step, since large shares cost much ε."""
    wanted, there = IMAGE_BATCH[hardware.device], manifest.splits["train"].records
    if recipe.privacy is not None:
        wanted, there = (
            PRIVATE_IMAGE_BATCHES * IMAGE_BATCH["cpu"],
            units_of(recipe, manifest) // PRIVATE_SHARE,
        )
    return max(1, min(wanted, there))


def choose_micro_batch(
    recipe: Recipe, manifest: Manifest, hardware: Hardware, batch_size: int, precision: str
) -> int:
    """The largest divisor of the batch that can be computed at once.

    Args:
        recipe, manifest, hardware, precision: as of `most_at_once`.
        batch_size: rows a step, or units on average.
    """
    most = most_at_once(recipe, manifest, hardware, precision)
    return max((size for size in divisors(batch_size) if size <= most), default=1)


def most_at_once(recipe: Recipe, manifest: Manifest, hardware: Hardware, precision: str) -> int:
    """How many sequences or images have activations that, beside weights and optimizer, fill half of the memory; at least one.

    Args:
        recipe: says model and privacy.
        manifest: of the prepared data.
        hardware: where training will run.
        precision: of matrix products, as resolved.
    """
    config = config_of(recipe, manifest)
    if isinstance(config, RnnConfig) and recipe.privacy is None:
        return MOST_STEPS  # Keras computes a batch at once
    room = hardware.memory_bytes / 2 - 16 * config.parameters
    each = sequence_bytes(config, precision, recipe.train.activation_checkpointing)
    if recipe.privacy is not None:  # the gradients of all its units are held; larger parts gain no speed
        most = PRIVATE_TOKENS[hardware.device] / recipe.model.context
        room = min(room, each * (PRIVATE_IMAGES[hardware.device] if recipe.images else most))
    return max(1, int(room / each))


def divisors(number: int) -> list[int]:
    """All whole numbers that divide it, the smallest first.

    Args:
        number: at least 1.
    """
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)})


def sequence_bytes(
    config: TransformerConfig | ImageConfig | RnnConfig, precision: str, checkpointing: bool = False
) -> int:
    """Bytes that one more sequence or image takes while a step is computed, within about a quarter.

    Args:
        config: the model's shape.
        precision: of matrix products, as resolved.
        checkpointing: whether each block is computed again in the backward pass. Default: it is not.
    """
    number = 4 if precision == "fp32" else 2
    if isinstance(config, ImageConfig):
        return config.kept_bytes(number)
    if isinstance(config, NgramConfig):
        return config.kept_bytes()
    if isinstance(config, RnnConfig):
        return config.sequence_bytes(number) + 20 * math.prod(config.head)
    attention = (config.heads + config.kv_heads) * config.head_dim
    a_block = 4 * config.width + 4 * attention + 4 * config.hidden + config.heads * config.context
    blocks = a_block + config.layers * config.width if checkpointing else config.layers * a_block
    predictions, logits = config.head
    return number * (config.context * blocks + 2 * predictions * logits)


def steps_of(budget: Budget, recipe: Recipe, manifest: Manifest) -> int:
    """How many steps an amount of steps, tokens or epochs is, rounded up.

    Args:
        budget: of any unit but seconds. An epoch passes once over the tokens of the training split; of records with labels or prompts over
            their rows; privately, over as many units on average as there are.
        recipe: with the batch size filled in.
        manifest: of the prepared data.

    Returns:
        At least 1.
    """
    batch_size = recipe.train.batch_size
    assert isinstance(batch_size, int)  # filled in
    amount = budget.amount
    if (
        budget.unit == "epochs" and recipe.privacy is not None
    ):  # how long records are is private, how many units is not
        return max(1, math.ceil(amount * units_of(recipe, manifest) / batch_size))
    if budget.unit == "epochs" and manifest.labels:
        return max(1, math.ceil(amount * manifest.splits["train"].records / batch_size))
    if budget.unit == "epochs" and manifest.prompted:
        return max(1, math.ceil(amount * manifest.splits["train"].rows / batch_size))
    if budget.unit == "epochs":
        amount *= manifest.splits["train"].tokens
    if budget.unit != "steps":  # nor epochs of labelled records
        amount /= batch_size * (1 if predicts_last(recipe, manifest) else recipe.model.context)
    return max(1, math.ceil(amount))


# ---- by calibration ------------------------------------------------------------------------------------------------


def calibrate(recipe: Recipe, manifest: Manifest, hardware: Hardware, progress: Progress) -> Costs:
    """Times real steps on made-up tokens and scratch weights; random state and settings are put back.

    Args:
        recipe: with batch size, precision and learning rate filled in.
        manifest: says how large the vocabulary and the validation split are.
        hardware: where training will run.
        progress: shows it.
    """
    from .framework import framework_of
    from .together import backend_of

    train, framework = recipe.train, framework_of(recipe)
    batch_size, micro_batch, rate = train.batch_size, train.micro_batch, train.learning_rate
    if batch_size == "auto" or micro_batch == "auto" or rate == "auto":
        raise ValueError("the recipe is not filled in")
    random = np.random.default_rng(0)

    def batch(size: int) -> Batch:
        return made_up(recipe, manifest, size, random)

    share = CALIBRATION_SHARE * Budget.parse(train.budget).amount
    seconds = min(max(share, CALIBRATION_SECONDS[0]), CALIBRATION_SECONDS[1])
    repeatable = framework.repeatable(hardware.cores, 0, train.precision)
    with progress.stage("calibrate", seconds, "s") as stage, repeatable:
        model = framework.scratch(recipe, manifest)
        trial = None
        if recipe.privacy is not None:
            trial = mechanism(units=batch_size, expected_batch=batch_size, steps=1, noise_multiplier=1.0)
        backend = backend_of(recipe, manifest, model, hardware, trial, bytes(32))
        whole = batch(batch_size)
        prepares = recipe.model.family == "rnn" or train.compile  # at the first step
        start = seconds_of(lambda: backend.step(whole, rate)) if prepares else 0.0
        step = _time(lambda: backend.step(whole, rate), seconds, stage.advance)
        windows = validation_windows(recipe, manifest)
        evaluation = 0.0
        if windows:
            part = [batch(min(micro_batch, windows))]
            each = _time(lambda: backend.evaluate(part), seconds / 10)
            evaluation = each * windows / len(part[0].inputs_BT)
        saved = sum(array.nbytes for array in backend.layout().values())
        backend.close()
        rates = measured_rates(hardware, progress)  # in here, because it draws random numbers
    checkpoint = saved / rates.disk_bytes_per_second + saved / SEALING_BYTES_PER_SECOND
    return Costs(step, evaluation, checkpoint, max(0.0, start - step))


def seconds_of(work: Callable[[], object]) -> float:
    """What a piece of work takes, done once.

    Args:
        work: any.
    """
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def made_up(recipe: Recipe, manifest: Manifest, size: int, random: np.random.Generator) -> Batch:
    """A batch of random tokens or pixels, each row of a unit of its own.

    Args:
        recipe: says the context.
        manifest: says vocabulary, labels and shape of images.
        size: rows.
        random: draws them.
    """
    shape = (size, 1, len(manifest.labels)) if manifest.multi_label else (size, 1)
    labels = random.integers(0, 2 if manifest.multi_label else max(1, len(manifest.labels)), shape)
    if manifest.image is not None:
        pixels_BCHW = random.integers(0, 256, (size, *manifest.image.shape), np.uint8)
        return Batch(0, pixels_BCHW, labels, np.arange(size))
    if manifest.output == "spans":
        return _made_up_pairs(recipe, manifest, size, random)
    tokens_BT = random.integers(0, manifest.vocab_size, (size, row_width(recipe, manifest) + 1))
    targets_BT = labels if manifest.labels else tokens_BT[:, 1:].copy()
    if predicts_last(recipe, manifest):
        targets_BT = targets_BT[:, -1:]
    elif manifest.prompted:  # an answer at the end of each row
        width_B, learned_B = (each[:, None] for each in rows_at(recipe, manifest, evenly(size)))
        place_T = np.arange(targets_BT.shape[1])
        targets_BT[(place_T >= width_B) | (place_T < width_B - np.maximum(learned_B, 1))] = NOTHING
    return Batch(0, tokens_BT[:, :-1].copy(), targets_BT, np.arange(size))


def _made_up_pairs(recipe: Recipe, manifest: Manifest, size: int, random: np.random.Generator) -> Batch:
    width = row_width(recipe, manifest)
    inputs_B2T = np.zeros((size, 2, width), np.int64)
    width_B, _ = rows_at(recipe, manifest, evenly(size))
    there_BT = np.arange(width) < width_B[:, None]
    inputs_B2T[:, 0] = np.where(there_BT, random.integers(0, manifest.vocab_size, (size, width)), FILL)
    return Batch(0, inputs_B2T, random.integers(0, width_B[:, None], (size, 2)), np.arange(size))


def _time(
    work: Callable[[], object], seconds: float, advance: Callable[[float], None] = lambda _: None
) -> float:
    """Median seconds of `work`, done for about `seconds` and at least four times, of which the first warms up."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < 4:
        times.append(seconds_of(work))
        advance(times[-1])
    return median(times[1:])


def validation_windows(recipe: Recipe, manifest: Manifest) -> int:
    """Windows of the validation split that are measured during training: a bounded part of it.

    Args:
        recipe: says the context.
        manifest: of the prepared data.

    Returns:
        Rows or images where a record is one; 0 without a validation split.
    """
    if "validation" not in manifest.splits:
        return 0
    if manifest.image is not None:
        return min(manifest.splits["validation"].records, VALIDATION_ROWS)
    there, most = math.ceil(manifest.splits["validation"].tokens / recipe.model.context), VALIDATION_WINDOWS
    if manifest.labels:
        there, most = manifest.splits["validation"].records, VALIDATION_ROWS
    elif manifest.prompted:
        there, most = manifest.splits["validation"].rows, VALIDATION_ROWS
    elif predicts_last(recipe, manifest):
        there, most = manifest.splits["validation"].tokens, VALIDATION_ROWS
    return max(1, min(there, most, VALIDATION_TOKENS // recipe.model.context))


def stage_seconds(steps: int, train: Train, costs: Costs) -> float:
    """Seconds that training takes with all its evaluations and checkpoints.

    Args:
        steps: that are made.
        train: the recipe's [train]: how often it evaluates and saves.
        costs: in seconds.
    """
    return sum(stage_items(steps, train, costs).values())


def stage_items(steps: int, train: Train, costs: Costs) -> dict[str, float]:
    """These seconds by part.

    Args:
        steps, train, costs: as of `stage_seconds`.

    Returns:
        {start, steps, evaluations, checkpoints}.
    """
    stepping = steps * costs.step
    saves = 2 + steps / safe_steps_apart(steps)
    interval = Budget.parse(train.checkpoint_every)
    saves += (stepping if interval.unit == "seconds" else steps) / interval.amount
    return {
        "start": costs.start,
        "steps": stepping,
        "evaluations": len(validation_steps(steps, train.evaluations)) * costs.evaluation,
        "checkpoints": saves * costs.checkpoint,
    }


def enough_steps(recipe: Recipe, manifest: Manifest) -> int:
    """The most steps that a time budget becomes: a pure function of how many records there are. Images, which are changed at every
    step, and private records, which noise keeps from being learned by heart, are never enough.

    Args:
        recipe: with the batch size filled in.
        manifest: of the prepared data.

    Returns:
        `MOST_STEPS` where there is no such number.
    """
    family = recipe.model.family
    if recipe.images or (recipe.privacy is not None and family != "ngrams"):
        return MOST_STEPS
    if family == "ngrams":
        return max(ENOUGH_NGRAM_STEPS, steps_of(Budget("epochs", ENOUGH_EPOCHS), recipe, manifest))
    epochs = ENOUGH_BYTE_EPOCHS if manifest.marks.kind == "byte" else ENOUGH_EPOCHS
    return max(ENOUGH_STEPS, steps_of(Budget("epochs", epochs), recipe, manifest))


def enough_said(steps: int, budget: str) -> str:
    """What people are told where a time budget ends early.

    Args:
        steps: that are enough.
        budget: as it stands in the recipe.
    """
    return f"{steps:,} steps are enough for these records, and take less than {budget}; a budget in epochs or steps is done to its end."


def steps_within(seconds: float, train: Train, costs: Costs, most: int = MOST_STEPS) -> int:
    """The most steps that, with their evaluations and checkpoints, fit into a time; at least one, and at most `most`.

    Args:
        seconds: that there are.
        train: the recipe's [train]: how often it evaluates and saves.
        costs: in seconds.
        most: steps.
    """
    low, high = 1, min(most, max(1, int(seconds / costs.step)))
    while low < high:
        middle = (low + high + 1) // 2
        if stage_seconds(middle, train, costs) <= seconds:
            low = middle
        else:
            high = middle - 1
    return low
