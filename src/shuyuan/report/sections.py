"""What each section of the page says, as plain values: sentences, rows and figures with their origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..recipe import MIXABLE_TASKS
from ..runs import ORIGINAL
from ..tasks import task_named
from . import sources, wording
from .facts import Facts, parameters, trained_so_far, validation_loss, variants

MEASURED, PREDICTED, COUNTED, ASKED = "measured", "predicted", "counted", "from the recipe"
SAMPLE_CHARS = 4000  # of one sample; a page is to be read
_SPLITS = ("train", "validation", "test")
_METRICS = {
    "accuracy": ("Accuracy", "whose likeliest label is right", wording.percent),
    "macro_precision": ("Precision", "mean over the labels", wording.percent),
    "macro_recall": ("Recall", "mean over the labels", wording.percent),
    "macro_f1": ("F1", "mean over the labels", wording.percent),
    "exact_labels": ("All labels right", "and no others told", wording.percent),
    "micro_precision": ("Precision", "over all decisions", wording.percent),
    "micro_recall": ("Recall", "over all decisions", wording.percent),
    "micro_f1": ("F1 of all decisions", "of all labels together", wording.percent),
    "hamming_loss": ("Wrong decisions", "one for each label of each record", wording.percent),
    "majority_exact_labels": ("All labels right, saying what most have", "the baseline", wording.percent),
    "majority_micro_f1": ("F1 of all decisions, saying what most have", "the baseline", wording.percent),
    "calibration_error": ("Calibration error", "confidence against accuracy", wording.percent),
    "agreement": ("Agreement with the original", "the likeliest token or label is the same", wording.percent),
    "majority_accuracy": ("Accuracy of the most frequent label", "the baseline", wording.percent),
    "loss": ("Loss", "nats a {target}", wording.nats),
    "perplexity": ("Perplexity", "", lambda value: f"{value:,.2f}"),
    "bits_per_byte": ("Bits per byte", "free of the tokenizer", wording.nats),
    "bigram_loss": ("Loss of a Kneser–Ney bigram", "the baseline, nats a {target}", wording.nats),
}
# Of tasks with prompts.
_ANSWERS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "answers": ("Prompts answered", "", wording.count),
    "bleu": ("BLEU", "0 to 100", lambda value: f"{value:.1f}"),
    "chrf": ("chrF", "0 to 100", lambda value: f"{value:.1f}"),
    "rouge_1": ("ROUGE-1", "F of shared words", wording.percent),
    "rouge_2": ("ROUGE-2", "F of shared pairs of words", wording.percent),
    "rouge_l": ("ROUGE-L", "F of the longest common sequence", wording.percent),
    "exact_match": ("Exact match", "but for case, articles and punctuation", wording.percent),
    "f1": ("F1", "of the words of the answer", wording.percent),
    "repetition": ("Repetition", "share of a text's 4-grams that stood in it before", wording.percent),
    "distinct_1": ("Different words", "of all that are written", wording.percent),
    "distinct_2": ("Different pairs of words", "of all that are written", wording.percent),
}
BASELINES = {
    "memory": "what stands beside the most similar training record",
    "lead": "the first sentence",
    "textrank": "the sentence of TextRank",
    "sentence": "the sentence most like the question",
    "simple": "the simple method of each task",
}


@dataclass(frozen=True)
class Figure:
    """One figure with its name, and where it comes from: measured, counted, predicted, or from the recipe."""

    label: str
    value: str
    note: str


# ---- at the top ----------------------------------------------------------------------------------------------------


def lead(facts: Facts) -> str:
    """The run in one or two plain sentences."""
    recipe = facts.recipe
    count = parameters(facts)
    model = f"A {recipe.model.family}" + (f" of {wording.rounded(count)} parameters" if count else "")
    start = "fine-tuned" if recipe.model.from_ else "trained from scratch"
    if not facts.trained:
        return f"{model}, to be {start} on {sources.described(recipe)}. Training has not ended yet."
    steps, seconds = _effort(facts)
    effort = f" for {wording.count(steps)} steps" if steps else ""
    effort += f" in {wording.duration(seconds)}" if seconds else ""
    return f"{model}, {start} on {sources.described(recipe)}{effort}.{_quality(facts)}"


def _quality(facts: Facts) -> str:
    loss, bigram = validation_loss(facts), facts.score.get("validation.bigram_loss")
    if not wording.is_number(loss):
        return ""
    accuracy, majority = _accuracies(facts)
    if accuracy is not None and majority is not None:
        return (
            f" It tells the label of {wording.percent(accuracy)} of the held-out validation records; always saying the most "
            f"frequent one would be right for {wording.percent(majority)}."
        )
    f1, exact = (facts.score.get(f"validation.{name}") for name in ("micro_f1", "exact_labels"))
    if f1 is not None and exact is not None:
        return (
            f" Of the labels of the held-out validation records it tells F1 {wording.percent(f1)}, and for {wording.percent(exact)} of "
            "the records all of them and no others."
        )
    sentence = f" On held-out validation text its loss is {wording.nats(loss)} nats a {target(facts)}"
    if not wording.is_number(bigram):
        return sentence + "."
    apart = f"{abs(bigram - loss):.2f}"
    if bigram > loss:
        return f"{sentence}, {apart} below a Kneser–Ney bigram model, which only counts pairs of tokens."
    return f"{sentence}, {apart} above a Kneser–Ney bigram model: counting pairs of tokens does no worse."


def target(facts: Facts) -> str:
    """What a loss is a mean over: "token" or "record"."""
    return task_named(facts.recipe.task).target


def _accuracies(facts: Facts) -> tuple[float | None, float | None]:
    """Of the model, and of always saying the most frequent label; None where the task has no labels."""
    return facts.score.get("validation.accuracy"), facts.score.get("validation.majority_accuracy")


def _effort(facts: Facts) -> tuple[Any, Any]:
    """Steps and seconds of training; the public page takes them from the open files."""
    done = trained_so_far(facts)
    return done["steps"] or facts.recipe.train.steps, done["seconds"] or facts.measured.get("seconds")


def headline(facts: Facts) -> list[Figure]:
    """The four figures that matter most."""
    done = trained_so_far(facts)
    steps, seconds = _effort(facts)
    count = parameters(facts)
    counted = COUNTED if facts.last("train.start") else PREDICTED
    peak = done["peak_bytes"] or facts.measured.get("peak_bytes")
    loss, bigram = validation_loss(facts), facts.score.get("validation.bigram_loss")
    accuracy, majority = _accuracies(facts)
    f1, exact = (facts.score.get(f"validation.{name}") for name in ("micro_f1", "exact_labels"))
    figures = [
        (f1, Figure("F1 of all decisions", wording.percent(f1), f"validation, {MEASURED}")),
        (exact, Figure("All labels right", wording.percent(exact), f"validation, {MEASURED}")),
        (accuracy, Figure("Accuracy", wording.percent(accuracy), f"validation, {MEASURED}")),
        (majority, Figure("Most frequent label", wording.percent(majority), f"the baseline, {MEASURED}")),
        (loss, Figure("Validation loss", wording.nats(loss), f"nats a {target(facts)}, {MEASURED}")),
        (bigram, Figure("Bigram baseline", wording.nats(bigram), f"validation, {MEASURED}")),
        (count, Figure("Parameters", wording.rounded(count), counted)),
        (seconds, Figure("Training time", wording.duration(seconds), MEASURED)),
        (facts.trained and steps, Figure("Steps", wording.count(steps), ASKED)),
        (peak, Figure("Peak memory", wording.size(peak), MEASURED)),
    ]
    return [figure for known, figure in figures if known][:4]


def secrecy(facts: Facts) -> tuple[str, str]:
    """Sealed or open: a word and what it means."""
    if not facts.sealed:
        return "Open", (
            "This run has no vault: everything in its folder lies in the clear, and whoever can read the folder can "
            "read the records, the model and this page."
        )
    sealed = "Whatever holds or derives from records is encrypted and authenticated; it opens with the run’s key alone."
    if not facts.whole:
        given_away = " and the scores that it gives away" if facts.scores else ""
        return (
            "Sealed",
            f"{sealed} This page lies in the clear, so it says nothing about the records but what the recipe names{given_away}.",
        )
    if facts.recipe.report.open:
        return "Sealed, with an open report", (
            f"{sealed} This page alone shows losses, counts and samples in the clear, because the recipe says so: "
            "report.open = true."
        )
    return "Sealed", f"{sealed} This copy of the page was asked for with the key and shows what is sealed."


# ---- results -------------------------------------------------------------------------------------------------------


def score_table(facts: Facts) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
    """(splits, rows): a row is a metric's name, its unit, and its value on each split."""
    scores = {key: value for key, value in facts.score.items() if wording.is_number(value)}
    found = {key.partition(".")[0] for key in scores}
    splits = [split for split in _SPLITS if split in found] + sorted(found - set(_SPLITS))
    names = dict.fromkeys(key.partition(".")[2] for key in scores)
    metrics = [name for name in names if not _is_bound(name, names)]
    rows = []
    for metric in sorted(metrics, key=lambda name: list(_METRICS).index(name) if name in _METRICS else 99):
        label, unit, form = _METRICS.get(metric) or _of_answers(metric)
        values = [scores.get(f"{split}.{metric}") for split in splits]
        told = [wording.UNKNOWN if value is None else form(value) for value in values]
        told = [
            value + _interval(scores, f"{split}.{metric}", form)
            for value, split in zip(told, splits, strict=True)
        ]
        rows.append((label, unit.format(target=target(facts)), told))
    return splits, rows


def variant_table(facts: Facts) -> dict[str, Any]:
    """{headings, rows} of the model's variants, the original first: size, loss, agreement, accuracy; empty where there is but one."""
    found = variants(facts)
    sizes = {name: each["bytes"] for name, each in found.items()}
    losses = {name: each["loss"] for name, each in found.items()}
    if len(found) < 2:
        return {}
    accuracies = {name: facts.scores.get(name, {}).get("validation.accuracy") for name in sizes}
    labelled = any(accuracies.values())
    written = any("tokens_per_second" in each for each in found.values())
    rows = []
    for name, size in sizes.items():
        share = wording.percent(size / sizes[ORIGINAL])
        loss, whole = losses[name], losses[ORIGINAL]
        told = wording.UNKNOWN if loss is None else wording.nats(loss)
        more = wording.UNKNOWN if loss is None or not whole else f"{100 * (loss / whole - 1):+.1f} %"
        accuracy = [wording.percent(accuracies[name])] if labelled else []
        agrees = wording.percent(found[name]["agreement"])
        fast = [_rate(found[name])] if written else []
        rows.append([name, wording.size(size), share, told, more, agrees, *accuracy, *fast])
    headings = ["Variant", "Size", "Of the original", "Loss", "Change", "Says the same"]
    headings += ["Accuracy"] if labelled else []
    headings += ["Tokens a second"] if written else []
    return {"headings": headings, "rows": rows}


def _rate(variant: dict[str, Any]) -> str:
    rate = variant.get("tokens_per_second")
    return wording.UNKNOWN if rate is None else f"{rate:,.0f}"


def answer_lines(scores: Mapping[str, float], split: str = "validation") -> list[tuple[str, str]]:
    """(measure, its value with its interval and those of the baselines) of each score of answers on a split.

    Args:
        scores: names such as "validation.f1" to values, as scores.json has them.
        split: "train", "validation" or "test". Default "validation".
    """
    metrics = [key.partition(".")[2].removesuffix("_low") for key in scores if key.endswith("_low")]
    lines = []
    for metric in metrics:
        label, _, form = _of_answers(metric)
        value = scores.get(f"{split}.{metric}")
        if value is None or metric in _METRICS:
            continue
        others = [
            f"{BASELINES.get(method, method)} {form(scores[f'{split}.baseline_{method}_{metric}'])}"
            for method in BASELINES
            if f"{split}.baseline_{method}_{metric}" in scores
        ]
        told = form(value) + _interval(scores, f"{split}.{metric}", form)
        lines.append((label, "; ".join([told, *others])))
    return list(dict.fromkeys(lines))


def _is_bound(name: str, names: Mapping[str, Any]) -> bool:
    """Whether a figure is an end of another's interval."""
    return name.removesuffix("_low").removesuffix("_high") in names.keys() - {name}


def _interval(scores: Mapping[str, float], name: str, form: Callable[[float], str]) -> str:
    """Where a score lies with 95 % confidence, where that was computed."""
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    return "" if low is None or high is None else f" ({form(low)} to {form(high)})"


def _of_answers(metric: str) -> tuple[str, str, Callable[[float], str]]:
    """Name, unit and form of a score of answers, or of another method's: baseline_METHOD_MEASURE."""
    method, unit = "", ""
    if metric.startswith("baseline_"):
        _, method, metric = metric.split("_", 2)
        unit = "the baseline"
    task = next((name for name in MIXABLE_TASKS if metric.startswith(f"{name.replace('-', '_')}_")), "")
    metric = metric.removeprefix(f"{task.replace('-', '_')}_") if task else metric
    kind, _, direction = metric.partition("_") if metric.startswith(("bleu_", "chrf_")) else (metric, "", "")
    label, note, form = _ANSWERS.get(kind, (metric.replace("_", " "), "", wording.nats))
    source, _, to = direction.partition("_")
    label = f"{task.replace('-', ' ')}: {label}" if task else label
    label += f", {source} to {to}" if direction else ""
    label += f", {BASELINES.get(method, method)}" if method else ""
    return label, unit or note, form


def effort(facts: Facts) -> list[Figure]:
    """What training took, and with which settings."""
    recipe, start, done = facts.recipe, facts.last("train.start"), trained_so_far(facts)
    train = recipe.train
    rows = [Figure("Optimizer", f"{train.optimizer}, schedule {train.schedule}", ASKED)]
    if train.learning_rate != "auto":
        rows.append(Figure("Peak learning rate", f"{train.learning_rate:.3g}", ASKED))
    if train.batch_size != "auto":
        text = f"{train.batch_size} sequences of {recipe.model.context} tokens"
        text = f"{train.batch_size} images" if recipe.images else text
        rows.append(Figure("Batch", text, ASKED))
    rows.append(Figure("Precision", str(start.get("precision") or train.precision), "" if start else ASKED))
    rows += _done(facts, done)
    for label, event in (("Steps skipped", "train.skipped"), ("Rolled back", "train.rollback")):
        if lines := facts.events(event):
            rows.append(Figure(label, f"{len(lines)} times: {_reasons(lines)}", COUNTED))
    resumed = sum(bool(line.get("resumed")) for line in facts.events("train.start"))
    if resumed:
        rows.append(Figure("Interrupted and resumed", f"{resumed} times", COUNTED))
    return rows


def _done(facts: Facts, done: dict[str, Any]) -> list[Figure]:
    steps, seconds = _effort(facts)
    tokens, peak = done["tokens"], done["peak_bytes"] or facts.measured.get("peak_bytes")
    rows = []
    if steps:
        rows.append(Figure("Steps", wording.count(steps), COUNTED if done["steps"] else ASKED))
    if seconds:
        rows.append(Figure("Time", wording.duration(seconds), MEASURED))
    if seconds and wording.is_number(done["waited_seconds"]):
        waited = f"{100 * done['waited_seconds'] / seconds:.1f} % of the time"
        rows.append(Figure("Steps waited for their batches", waited, MEASURED))
    if tokens:
        rows.append(Figure(f"{target(facts).capitalize()}s seen", wording.rounded(tokens), COUNTED))
    if tokens and seconds:
        speed = f"{wording.count(tokens / seconds)} {target(facts)}s a second"
        rows.append(Figure("Mean speed", speed, MEASURED))
    if peak:
        rows.append(Figure("Peak memory", wording.size(peak), MEASURED))
    return rows


def _reasons(lines: list[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(str(line.get("reason", "no reason given")) for line in lines))


# ---- the data ------------------------------------------------------------------------------------------------------


def split_rows(facts: Facts) -> list[list[str]]:
    """Split, records, owners, tokens and bytes of text, one row a split."""
    splits = facts.manifest.get("splits")
    if not isinstance(splits, Mapping):
        return []
    names = [name for name in _SPLITS if name in splits] + sorted(set(splits) - set(_SPLITS))
    return [_split_row(name, splits[name]) for name in names if isinstance(splits[name], Mapping)]


def _split_row(name: str, split: Mapping[str, Any]) -> list[str]:
    counts = [wording.count(split.get(key)) for key in ("records", "owners", "tokens")]
    return [name, *counts, wording.size(split.get("text_bytes"))]


def data_rows(facts: Facts) -> list[Figure]:
    """What preparation did to the records: masked, taken out as duplicates, skipped."""
    manifest, recipe = facts.manifest, facts.recipe
    if not manifest:
        return []
    asked = bool(recipe.data.mask or recipe.data.mask_patterns or recipe.data.mask_names)
    masked = _listed(
        manifest.get("masked"), "nothing was found" if asked else "nothing: the recipe asks for no masking"
    )
    kept = "none looked for: the recipe keeps them" if recipe.data.duplicates == "keep" else "none found"
    rows = [
        Figure("Personal data masked", masked, COUNTED),
        Figure("Duplicates removed", _listed(manifest.get("duplicates"), kept), COUNTED),
        Figure("Left out", _listed(manifest.get("skipped"), "none"), COUNTED),
    ]
    if wording.is_number(manifest.get("changed")):
        rows.append(Figure("Records changed by cleaning", wording.count(manifest["changed"]), COUNTED))
    if wording.is_number(manifest.get("vocab_size")):
        tokenizer = manifest.get("tokenizer")
        kind = tokenizer.get("kind") if isinstance(tokenizer, Mapping) else recipe.tokenizer.kind
        rows.append(Figure("Tokenizer", f"{kind}, {wording.count(manifest['vocab_size'])} entries", COUNTED))
    if wording.is_number(manifest.get("seconds")):
        rows.append(Figure("Time to prepare", wording.duration(manifest["seconds"]), MEASURED))
    return rows


def _listed(counts: Any, nothing: str) -> str:
    found = {name: number for name, number in counts.items() if number} if isinstance(counts, Mapping) else {}
    return ", ".join(f"{wording.count(number)} {name}" for name, number in found.items()) or nothing


# ---- samples, notices, circumstances -------------------------------------------------------------------------------


def samples(facts: Facts) -> list[dict[str, str]]:
    """What the model wrote: {prompt, text, settings}; long ones are cut, and say so."""
    return [_sample(sample) for sample in facts.samples]


def _sample(sample: dict[str, Any]) -> dict[str, str]:
    text = str(sample.get("text", ""))
    cut = len(text) > SAMPLE_CHARS
    settings = [f"{name} {sample[name]}" for name in ("temperature", "seed") if name in sample]
    settings += [f"first {SAMPLE_CHARS:,} of {len(text):,} characters"] if cut else []
    return {
        "answer": str(sample.get("answer", ""))[:SAMPLE_CHARS],
        "prompt": str(sample.get("prompt", "")),
        "text": text[:SAMPLE_CHARS],
        "settings": ", ".join(settings),
    }


def notices(facts: Facts) -> list[str]:
    """What the user was told once: slower paths, skipped records, settings without effect."""
    return list(
        dict.fromkeys(str(line.get("text", "")) for line in facts.events("notice") if line.get("text"))
    )


def circumstances(facts: Facts) -> list[tuple[str, str]]:
    """Machine, date and versions, as they were when the run was resolved."""
    resolved = facts.recipe.resolved
    rows = [
        (label, str(resolved[key]))
        for label, key in (("Machine", "machine"), ("Date", "date"))
        if key in resolved
    ]
    device = facts.last("train.start").get("device")
    rows += [("Device", str(device))] if device else []
    versions = resolved.get("versions")
    return (
        rows + [(str(name), str(version)) for name, version in versions.items()]
        if isinstance(versions, dict)
        else rows
    )
