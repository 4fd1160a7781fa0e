"""Scores a run's model on its held-out splits and shows what it writes; every score names its split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Manifest, PromptRows, Sliding, Tokenizer, Windows, load_tokenizer, open_split
from ..errors import ShuyuanError
from ..hardware import choose_precision, detect
from ..inference import Engine
from ..models import AnyNetwork, CompiledModel, load_network, load_writer
from ..progress import Progress
from ..recipe import Recipe
from ..runs import ORIGINAL, not_trained, variant_folder, variants_in
from ..tasks import task_named
from ..vault import Store
from .agreement import guesses
from .bigram import Bigram
from .labels import label_samples, score_labels
from .losses import mean_loss
from .prompted import score_answers
from .spans import score_spans
from .speed import speed

SCORES_FILE = "scores.json"
SPEEDS_FILE = "speeds.json"  # of variants, on the machine where they were scored
SAMPLES_FILE = "samples.json"
LABELS_FILE = "labels.json"  # of tasks with labels: what stands behind their scores
ANSWERS_FILE = "answers.json"  # of tasks with prompts: the same
AUDIT_FILE = "audit.json"
COUNTED_TOKENS = 1 << 19  # that the bigram counts at once; more take longer, and memory
SAMPLES = 3
TEACHER = "teacher"  # what its scores stand under, beside the variants
WRITTEN, SAMPLE_TOKENS, TEMPERATURE = 16, 120, 0.8  # texts that are written to see how much they repeat
MOST_LAST = 16_384  # windows that a model is scored on which predicts one token of each
PROMPT_TOKENS = 8  # a record shorter than this gives no prompt


def evaluate(
    recipe: Recipe, store: Store, manifest: Manifest, progress: Progress, again: bool = False
) -> dict[str, Any]:
    """Scores the model and its variants on validation and test, beside a baseline, and writes three samples.

    Args:
        recipe: as resolved; its precision is the one that scores are computed in.
        store: the run's files; scores.json and samples.json are written, labels.json for tasks with labels, and answers.json for
            those with prompts.
        manifest: what was prepared.
        progress: shows it.
        again: also what was scored before.

    Returns:
        {task: {variant: {"SPLIT.METRIC": value}}}; a student's teacher stands beside its variants.

    Raises:
        RunError: there is no trained model yet.
    """
    variants = variants_in(store.names())
    if not variants:
        raise not_trained(store.path)
    behind = LABELS_FILE if manifest.labels else ANSWERS_FILE if manifest.prompted else None
    metrics: dict[str, Any] = {} if again else _before(store, SCORES_FILE).get(recipe.task, {})
    details: dict[str, Any] = {} if again or behind is None else _before(store, behind)
    original: NDArray[np.integer[Any]] | None = None
    for variant in variants:
        if variant in metrics and (variant != ORIGINAL or store.exists(SAMPLES_FILE)):
            continue
        model = load_network(store, variant_folder(variant))
        write = partial(_writer, recipe, store, variant, progress)
        found = _score(recipe, store, manifest, model, write, progress, variant == ORIGINAL)
        metrics[variant], details[variant], samples = found
        said = guesses(recipe, store, manifest, model) if len(variants) > 1 else None
        if variant == ORIGINAL:
            store.write_json(SAMPLES_FILE, samples)
            original = said
            continue
        if original is None:  # scored before
            original = guesses(recipe, store, manifest, load_network(store))
        if original is not None and said is not None:
            metrics[variant]["validation.agreement"] = float((said == original).mean())
    if recipe.train.distill is not None and (again or TEACHER not in metrics):
        metrics |= _beside_the_teacher(recipe, store, manifest, progress)
    if len(variants) > 1 and manifest.output == "tokens":
        _measure_speeds(recipe, store, variants, again, progress)
    if behind is not None:
        store.write_json(behind, details)
    told = [*variants, *({TEACHER} & metrics.keys())]
    scores: dict[str, Any] = {recipe.task: {variant: metrics[variant] for variant in told}}
    store.write_json(SCORES_FILE, scores)
    return scores


def _measure_speeds(
    recipe: Recipe, store: Store, variants: Sequence[str], again: bool, progress: Progress
) -> None:
    """How fast each variant writes, for those where it is not known."""
    known = {} if again else _before(store, SPEEDS_FILE)
    found = {name: known.get(name) or speed(_writer(recipe, store, name, progress)) for name in variants}
    if found != known:
        store.write_json(SPEEDS_FILE, found)


def _beside_the_teacher(
    recipe: Recipe, store: Store, manifest: Manifest, progress: Progress
) -> dict[str, dict[str, float]]:
    """The scores of the model that a student learned from, under its name; none where it is no longer there."""
    from ..models import hub

    assert recipe.train.distill is not None
    try:
        teacher = hub.load_folder(recipe.train.distill.from_)
    except ShuyuanError as error:
        progress.say("evaluate.no-teacher", f"The teacher is not scored beside the student: {error.what}")
        return {}
    metrics, _, _ = _score(recipe, store, manifest, teacher, lambda: teacher, progress, False)
    return {TEACHER: metrics}


def _score(
    recipe: Recipe,
    store: Store,
    manifest: Manifest,
    model: AnyNetwork,
    writer: Callable[[], AnyNetwork | CompiledModel],
    progress: Progress,
    is_original: bool,
) -> tuple[dict[str, float], dict[str, Any], list[dict[str, Any]]]:
    """({"SPLIT.METRIC": value}, what stands behind them, samples) of one variant; how it writes is looked at in the original alone.

    `writer` gives the model as it is asked for text.
    """
    if manifest.labels:
        metrics, details = score_labels(recipe, store, manifest, model, progress)
        samples = label_samples(recipe, store, manifest, model) if is_original else []
        return metrics, details, samples
    if manifest.output == "spans":
        return score_spans(recipe, store, manifest, model, progress)
    metrics = _score_tokens(recipe, store, manifest, model, progress, beside=is_original)
    if manifest.prompted:
        found, details, samples = score_answers(recipe, store, manifest, writer(), progress)
        return metrics | found, details, samples
    if not is_original:
        return metrics, {}, []
    found, samples = _samples(recipe, store, manifest, writer(), progress)
    return metrics | found, {}, samples


def _writer(recipe: Recipe, store: Store, variant: str, progress: Progress) -> AnyNetwork | CompiledModel:
    """The model as it is asked for text, here and by whoever uses the run."""
    precision = choose_precision(recipe.train.precision, detect())
    return load_writer(store, variant_folder(variant), precision, progress)


def _before(store: Store, file: str) -> dict[str, Any]:
    """What was scored before; empty where nothing was."""
    found: dict[str, Any] = store.read_json(file) if store.exists(file) else {}
    return found


def _score_tokens(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork, progress: Progress, beside: bool
) -> dict[str, float]:
    """{"SPLIT.METRIC": value} of a model that predicts tokens; `beside` it, those of a Kneser-Ney bigram."""
    task = task_named(recipe.task)
    bigram = _fit_bigram(recipe, store, manifest, progress) if beside else None
    precision = choose_precision(recipe.train.precision, detect())
    at_once = recipe.train.micro_batch
    assert isinstance(at_once, int)  # resolved; what training had room for, this has too
    metrics: dict[str, float] = {}
    for split in ("validation", "test"):
        if split not in manifest.splits or not manifest.splits[split].tokens:
            continue
        windows = open_split(store, manifest, split, recipe.model.context)
        assert isinstance(windows, Windows | PromptRows)  # of tokens
        scored = windows
        if model.config.head[0] == 1:
            scored = _spread(Sliding(store, manifest, split, recipe.model.context), progress)
        loss = mean_loss(model, scored, at_once, precision, progress, split)
        facts = manifest.splits[split]
        scores = task.metrics(loss, windows.tokens, facts.text_bytes)
        if bigram is not None:
            scores["bigram_loss"] = bigram.loss(windows.in_order(at_once))
        metrics |= {f"{split}.{name}": value for name, value in scores.items()}
    return metrics


def _spread(windows: Sliding, progress: Progress) -> Sliding:
    """Every n-th window, where reading one for every token would take as many times longer as a window has tokens."""
    windows.stride = -(-windows.tokens // MOST_LAST)
    if windows.stride > 1:
        progress.say(
            "evaluate.spread",
            f"The model predicts one token of a window: it is scored on every {windows.stride}th token of a split.",
        )
    return windows


def _fit_bigram(recipe: Recipe, store: Store, manifest: Manifest, progress: Progress) -> Bigram:
    bigram = Bigram(manifest.vocab_size)
    windows = open_split(store, manifest, "train", recipe.model.context)
    with progress.stage("fit the bigram baseline", windows.count, "windows") as stage:

        def counted() -> Any:
            for inputs, targets in windows.in_order(max(1, COUNTED_TOKENS // recipe.model.context)):
                yield inputs, targets
                stage.advance(len(inputs))

        bigram.fit(counted())
    return bigram


def _samples(
    recipe: Recipe,
    store: Store,
    manifest: Manifest,
    model: AnyNetwork | CompiledModel,
    progress: Progress,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Scores of continuations of the first words of held-out windows, and three of them."""
    tokenizer = load_tokenizer(store)
    engine = Engine(model, tokenizer, progress=progress)
    split = "validation" if "validation" in manifest.splits else "train"
    windows = Windows(store, manifest, split, recipe.model.context)
    prompts = _prompts(windows, tokenizer, recipe.seed)
    with progress.stage("write samples", len(prompts), "samples") as stage:
        texts = engine.generate_all(
            prompts,
            max_tokens=SAMPLE_TOKENS,
            temperature=TEMPERATURE,
            seed=recipe.seed,
            done=lambda _: stage.advance(),
        )
    samples = [
        {"prompt": prompt, "text": text, "seed": recipe.seed + number, "temperature": TEMPERATURE}
        for number, (prompt, text) in enumerate(zip(prompts[:SAMPLES], texts, strict=False))
    ]
    scores = task_named(recipe.task).text_scores(texts)
    return {f"{split}.{name}": value for name, value in scores.items()}, samples


def _prompts(windows: Windows, tokenizer: Tokenizer, seed: int) -> list[str]:
    """Openings of held-out text: of a record where one begins in the window, else of the window."""
    inputs, _ = windows.batch(0, max(SAMPLES, min(WRITTEN, windows.count)), seed)
    return [_opening(tokenizer.decode(_first_record(row, tokenizer.end_id).tolist())) for row in inputs]


def _first_record(window: NDArray[np.int64], end_id: int) -> NDArray[np.int64]:
    """The tokens after the window's first end token; the whole window if no record of some length begins in it."""
    records = np.split(window, np.flatnonzero(window == end_id))
    long_enough = [record[1:] for record in records[1:] if len(record) > PROMPT_TOKENS]
    return long_enough[0] if long_enough else window[window != end_id]


def _opening(text: str) -> str:
    """The first whole words, at most 60 characters."""
    text = text.strip().split("\n\n", 1)[0]
    return text[:60].rsplit(" ", 1)[0] if len(text) > 60 and " " in text[:60] else text[:60]
