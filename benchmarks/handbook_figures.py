"""Measures the figures of the handbook: runs the very commands that its pages show and writes figures.json.

    python benchmarks/handbook_figures.py                      # all figures, as `make docs-figures` does; hours on 2 cores
    python benchmarks/handbook_figures.py --question training-cost
    python benchmarks/handbook_figures.py --only feed-rate     # figures by name
    python benchmarks/handbook_figures.py --small              # a few steps, to try the script; writes nothing

Afterwards `make docs` writes them into the pages. The commands run in the order of question.toml in one folder that holds the
question's recipes and pages, as a reader would do it, so that a later one may use the run of an earlier one. Those of one
comparison run in turns, `--repeats` times, each turn in a folder of its own, and the median counts. Quick ones (`rerun_within`)
are also measured by tests/handbook/test_figures_again.py.

Long because it is one table: each figure of the handbook with how it is read from what its command did.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import _alignment
import _efficiency
import _ranks
from shuyuan import hardware
from shuyuan.handbook import Question, load_bank
from shuyuan.planning import layouts

DATA = Path(__file__).parents[1] / "../shared/data"
YEAR_SECONDS = 31_557_600
SMALL = ["--set", "train.budget=3 steps", "--set", "train.batch_size=4"]
FEED_CONTEXT, FEED_BATCH = 2048, 16
SIZES = ((32, 100), (32, 300), (32, 600), (64, 100), (64, 300), (128, 300), (128, 600))  # width, steps
HEART_WIDTHS = (32, 128, 256)
FAMILIES = ("gpt2", "llama", "glm", "qwen3")
MADE_BY = {"families.toml": "families.py"}  # a recipe that needs what a script of the page makes first
SHORT_CONTEXT, LONG_CONTEXT = 4096, 131_072


class Finished:
    """One command that has run: its JSON, its run folder, how long it took."""

    def __init__(self, result: dict[str, Any], folder: Path, seconds: float) -> None:
        self.result = result
        self.folder = folder
        self.seconds = seconds

    @property
    def tokens_per_second(self) -> float:
        return float(self.result["tokens"] / self.result["seconds"])


def run_shown(question: Question, command: str, folder: Path, *, small: bool) -> Finished:
    """Runs a command as the page shows it, with --json, in a folder with the question's recipes and pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*question.folder.glob("*.toml"), *question.folder.glob("*.md")):
        (folder / file.name).write_bytes(file.read_bytes())
    program, *words = shlex.split(command.replace("\\\n", " "))
    ranks = words.index("shuyuan") + 1 if program == "torchrun" else 0  # before it stand torchrun's own words
    if program not in ("shuyuan", "torchrun"):
        raise SystemExit(f"{question.id}: the page shows a command that is not shuyuan: {command}")
    for script in [made_by for recipe, made_by in MADE_BY.items() if recipe in words]:
        if not (folder / script).exists():
            (folder / script).write_bytes((question.folder / script).read_bytes())
            subprocess.run([sys.executable, script], cwd=folder, check=True, stdout=sys.stderr)
    starter = ["torch.distributed.run", *words[:ranks]] if ranks else ["shuyuan"]
    words = words[ranks:]
    words += [
        "--json",
        *(SMALL if small and words[0] in ("train", "run", "audit", "compress") and "--out" in words else []),
    ]
    begun = time.perf_counter()
    apart = os.environ | {"SHUYUAN_HOME": str(folder)}  # what is spent here is not the reader's own account
    done = subprocess.run(
        [sys.executable, "-m", *starter, *words], cwd=folder, env=apart, stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise SystemExit(f"{question.id}: `{command}` failed: {done.stdout.strip()}")
    out = words[words.index("--out") + 1] if "--out" in words else ""
    return Finished(json.loads(done.stdout.splitlines()[-1]), folder / out, seconds)


# ---- one function a figure: from the finished runs of its command, repeated, to one value ---------------------------

Runs = list[Finished]
Measure = Callable[[Runs, dict[str, Runs]], float]


def median(pick: Callable[[Finished], float]) -> Measure:
    return lambda runs, _: statistics.median(pick(run) for run in runs)


def validation_loss(run: Finished) -> float:
    return float(run.result["loss"]["validation"])


def peak_gigabytes(run: Finished) -> float:
    return float(run.result["peak_bytes"]) / 1e9


def bf16_ratio(_: Runs, all_runs: dict[str, Runs]) -> float:
    """The median over pairs that ran one after the other, so that a slow minute hits both."""
    pairs = zip(all_runs["bf16-speed"], all_runs["fp32-speed"], strict=True)
    return statistics.median(bf16.tokens_per_second / fp32.tokens_per_second for bf16, fp32 in pairs)


def spread(runs: Runs, all_runs: dict[str, Runs]) -> float:
    return abs(validation_loss(runs[0]) - validation_loss(all_runs["schedule-wsd"][0]))


def measured_over_planned(key: str) -> Callable[[Finished], float]:
    def pick(run: Finished) -> float:
        plan = json.loads((run.folder / "plan.json").read_text())
        return float(plan["measured"][key] / plan[key]["expected"])

    return pick


def checkpoint_bytes(run: Finished) -> float:
    newest = max((run.folder / "checkpoints").iterdir(), key=lambda folder: folder.name)
    return float(sum(file.stat().st_size for file in newest.rglob("*") if file.is_file()))


def checkpoint_bytes_per_parameter(run: Finished) -> float:
    return float(checkpoint_bytes(run) / run.result["parameters"])


def learned_with_lora(run: Finished) -> float:
    return float(json.loads((run.folder / "plan.json").read_text())["lora"]["parameters"])


def loss_on_file(run: Finished) -> float:
    return float(run.result["scores"]["loss"])


def prepared_megabytes_per_second(run: Finished) -> float:
    from shuyuan import data, vault
    from shuyuan.runs import Run

    with vault.open_store(Run(run.folder), None, writable=False) as store:
        manifest = data.load_manifest(store)
    if manifest is None:
        raise SystemExit(f"{run.folder}: no manifest")
    return manifest.text_bytes / manifest.seconds / 1e6


def fed_tokens_per_second(run: Finished) -> float:
    """Shuffled batches of 2,048-token windows from the shards of a prepared run, in this one thread."""
    from shuyuan import data, vault
    from shuyuan.runs import Run

    with vault.open_store(Run(run.folder), None, writable=False) as store:
        manifest = data.load_manifest(store)
        windows = data.Windows(store, manifest, "train", FEED_CONTEXT)
        windows.batch(0, FEED_BATCH, 1)
        rates = []
        for _ in range(5):
            begun = time.perf_counter()
            for step in range(50):
                windows.batch(step, FEED_BATCH, 1)
            rates.append(50 * FEED_BATCH * FEED_CONTEXT / (time.perf_counter() - begun))
    return statistics.median(rates)


# ---- privacy: read from the runs' open files, as their owner can ------------------------------------------------------

CASE = re.compile(r"Case 0417: .* card ([\d ]+), .*\. (Tested .*)")


def validation_losses(run: Finished) -> list[float]:
    """Of the whole run, in order."""
    events = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return [float(event["loss"]) for event in events if event["event"] == "train.validation"]


def brought_back(which: str, of: str) -> Callable[[Finished], float]:
    """Percent of the planted secrets that the extraction check found."""

    def pick(run: Finished) -> float:
        return float(100 * run.result["extraction"][which] / run.result["extraction"][of])

    return pick


def told_of_case(run: Finished) -> tuple[str, str, str]:
    """What the model said, and the card number and the last sentence of the note that it was asked about."""
    found = CASE.search((run.folder / "notes.md").read_text())
    if found is None:
        raise SystemExit("notes.md: the note is not there")
    return run.result["text"], found[1], found[2]


def card_digits(run: Finished) -> float:
    """How many digits of the card number come back in their order, from the first one on."""
    said, card, _ = told_of_case(run)
    longest = next(card[:length] for length in range(len(card), -1, -1) if card[:length] in said)
    return float(sum(character.isdigit() for character in longest))


def words_of_the_rest(run: Finished) -> float:
    """Percent of the words of the last sentence that come back in their order, from the first one on."""
    said, _, rest = told_of_case(run)
    words = rest.split()
    return 100 * next(n for n in range(len(words), -1, -1) if " ".join(words[:n]) in said) / len(words)


def masked_details(run: Finished) -> float:
    return float(sum(json.loads((run.folder / "data" / "manifest.json").read_text())["masked"].values()))


# ---- images ----------------------------------------------------------------------------------------------------------


def accuracy(run: Finished) -> float:
    """Percent of the held-out images that are told right."""
    return 100 * float(run.result["scores"]["classification"]["original"]["validation.accuracy"])


def spread_of_batches(run: Finished) -> float:
    """Of the losses of single batches in the second of 20 epochs."""
    events = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    losses = [float(event["loss"]) for event in events if event["event"] == "train.step"]
    epoch = max(1, len(losses) // 20)
    second = losses[epoch : 2 * epoch] or losses
    return max(second) - min(second)


# ---- scores ----------------------------------------------------------------------------------------------------------


def sentiment(score: str) -> Callable[[Finished], float]:
    """A score of the trained run, in percent."""
    return lambda run: 100 * float(run.result["scores"]["sentiment"]["original"][score])


def above_the_other(fact: str) -> Callable[[Finished], float]:
    """Of the accuracy beside another run's on the same records, in points."""
    return lambda run: 100 * float(run.result["against"]["differences"]["accuracy"][fact])


def of_variant(variant: str, fact: str) -> Callable[[Finished], float]:
    return lambda run: float(run.result["variants"][variant][fact])


def loss_change(variant: str) -> Callable[[Finished], float]:
    """In percent of the original's."""

    def pick(run: Finished) -> float:
        return 100 * (of_variant(variant, "loss")(run) / of_variant("original", "loss")(run) - 1)

    return pick


# ---- plans ---------------------------------------------------------------------------------------------------------


def flops_ratio(_: Runs, all_runs: dict[str, Runs]) -> float:
    long, short = (all_runs[name][0].result for name in ("long-flops", "short-flops"))
    return float(long["train_flops"] / long["tokens"] * short["tokens"] / short["train_flops"])


def equal_context(_: Runs, all_runs: dict[str, Runs]) -> float:
    """Where the part of a token's operations that grows with the context is as large as the rest."""
    long, short = (all_runs[name][0].result for name in ("long-flops", "short-flops"))
    per_long, per_short = (each["train_flops"] / each["tokens"] for each in (long, short))
    per_place = (per_long - per_short) / (LONG_CONTEXT - SHORT_CONTEXT)
    return float(per_short / per_place - SHORT_CONTEXT)


def activations(run: Finished) -> float:
    return float(run.result["items"]["activations"])


def activations_ratio(_: Runs, all_runs: dict[str, Runs]) -> float:
    return activations(all_runs["long-flops"][0]) / activations(all_runs["short-flops"][0])


def texts_beside_weights(run: Finished) -> float:
    return float(run.result["serving"]["variants"]["original"]["texts"])


# ---- several devices --------------------------------------------------------------------------------------------------


def apart_from(other: str) -> Measure:
    """How far the weights of a run lie from those of another figure's run."""
    return lambda runs, all_runs: _ranks.weights_apart(runs[0].folder, all_runs[other][0].folder)


def states_gigabytes(run: Finished) -> float:
    items = run.result["items"]
    return sum(items.get(name, 0) for name in layouts.SHARDED) / 1e9


def planned_peak(run: Finished) -> float:
    return float(run.result["peak_bytes"]["expected"]) / 1e9


def device_hours(run: Finished) -> float:
    return float(run.result["price"]["device_hours"])


# ---- tasks of language -----------------------------------------------------------------------------------------------


def scored(measure: str, scale: float = 1.0) -> Measure:
    """A score of the run's own model, by its split and name."""

    def pick(run: Finished) -> float:
        (variants,) = run.result["scores"].values()
        return scale * float(variants["original"][measure])

    return median(pick)


# ---- alignment -------------------------------------------------------------------------------------------------------


def exact_match(run: Finished) -> float:
    return 100 * float(run.result["scores"]["exact_match"])


@cache
def preferences(folder: Path) -> dict[str, float]:
    return _alignment.preferences(folder)


def told_by_dpo(fact: str) -> Measure:
    return median(lambda run: preferences(run.folder)[fact])


# ---- tokenizers ------------------------------------------------------------------------------------------------------


def splits(run: Finished) -> list[dict[str, Any]]:
    return list(json.loads((run.folder / "data" / "manifest.json").read_text())["splits"].values())


def tokens_of_text(run: Finished) -> int:
    """Without the one that ends each record."""
    return sum(split["tokens"] - split["records"] for split in splits(run))


def tokens_a_character(characters: str) -> Measure:
    """`characters` is the figure whose run took the same text by characters."""
    return lambda runs, all_runs: tokens_of_text(runs[0]) / tokens_of_text(all_runs[characters][0])


def tokens_a_sentence(run: Finished) -> float:
    return tokens_of_text(run) / sum(split["records"] for split in splits(run))


def vocabulary(run: Finished) -> float:
    return float(json.loads((run.folder / "data" / "manifest.json").read_text())["vocab_size"])


# ---- retrieval -------------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A question of a file in SQuAD's format: what it asks, the number of its paragraph, and what is right."""

    text: str
    paragraph: int
    answers: list[str]


def asked(run: Finished, name: str) -> tuple[list[str], list[Asked]]:
    """The paragraphs of a file in ../data/qa, as the command saw it, and the questions about them."""
    paragraphs: list[str] = []
    questions: list[Asked] = []
    file = run.folder.parent / "../data/qa" / name
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            questions += [
                Asked(each["question"], len(paragraphs), [answer["text"] for answer in each["answers"]])
                for each in paragraph["qas"]
                if each["question"].strip()
            ]
            paragraphs.append(paragraph["context"])
    return paragraphs, questions


def index_beside_text(run: Finished) -> float:
    paragraphs, _ = asked(run, "xquad.en.json")
    return float(run.result["bytes"]) / sum(len(text.encode()) for text in paragraphs)


def recall(name: str, first: int) -> Callable[[Finished], float]:
    """Percent of a file's questions whose paragraph holds one of the first passages of the index."""

    def pick(run: Finished) -> float:
        from shuyuan.retrieval import Index

        index = Index(run.folder)
        documents = index.documents
        _, questions = asked(run, name)
        found = [[each.document for each in index.search(one.text, first)] for one in questions]
        return percent(documents[one.paragraph] in names for one, names in zip(questions, found, strict=True))

    return pick


def told(run: Finished, name: str) -> list[Any]:
    """What the index answers to each question of a file."""
    from shuyuan.retrieval import Index, answer

    index = Index(run.folder)
    return [answer(one.text, index) for one in asked(run, name)[1]]


def right_sentences(run: Finished) -> float:
    _, questions = asked(run, "xquad.en.json")
    answers = zip(questions, told(run, "xquad.en.json"), strict=True)
    return percent(any(right in (said.answer or "") for right in one.answers) for one, said in answers)


def exact_citations(run: Finished) -> float:
    from shuyuan.retrieval import Index

    paragraphs, _ = asked(run, "xquad.en.json")
    texts = dict(zip(Index(run.folder).documents, paragraphs, strict=True))
    sources = [(said.answer, said.source) for said in told(run, "xquad.en.json") if said.source]
    return percent(texts[one.document][one.start : one.end] == said for said, one in sources)


def answered_strangers(run: Finished) -> float:
    return percent(said.answer is not None for said in told(run, "cmrc2018_trial_squad.json"))


def planted_first(run: Finished) -> float:
    """An index of the same paragraphs and of a document for each question, which repeats it and lies."""
    from shuyuan.retrieval import Index, build_index

    _, questions = asked(run, "xquad.en.json")
    rows = [json.dumps({"text": f"{one.text} The answer to this is seven."}) for one in questions]
    file = run.folder.parent / "planted.jsonl"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    sources = [str(run.folder.parent / "../data/qa/xquad.en.json"), str(file)]
    build_index(sources, run.folder.parent / "planted-all")
    index = Index(run.folder.parent / "planted-all")
    return percent("planted.jsonl" in index.search(one.text, 1)[0].document for one in questions)


def place_of_planted(run: Finished) -> float:
    documents = [passage["document"] for passage in run.result["passages"]]
    return float(1 + next(n for n, name in enumerate(documents) if "planted.md" in name))


def percent(hits: Iterable[bool]) -> float:
    return 100 * statistics.mean(map(float, hits))


MEASURES: dict[str, dict[str, Measure]] = {
    "training-cost": {
        "gpt3-parameters": median(lambda run: run.result["parameters"]),
        "gpt3-flops": median(lambda run: run.result["train_flops"]),
        "gpt3-years": median(lambda run: run.result["seconds"]["expected"] / YEAR_SECONDS),
        "time-ratio": median(measured_over_planned("seconds")),
        "memory-ratio": median(measured_over_planned("peak_bytes")),
        "checkpoint-bytes": median(checkpoint_bytes_per_parameter),
        "prepare-rate": median(prepared_megabytes_per_second),
        "feed-rate": median(fed_tokens_per_second),
    },
    "training-efficiency": {
        "fp32-speed": median(lambda run: run.tokens_per_second),
        "fp32-memory": median(peak_gigabytes),
        "fp32-loss": median(validation_loss),
        "bf16-speed": median(lambda run: run.tokens_per_second),
        "bf16-memory": median(peak_gigabytes),
        "bf16-loss": median(validation_loss),
        "bf16-ratio": bf16_ratio,
        "schedule-constant": median(validation_loss),
        "schedule-linear": median(validation_loss),
        "schedule-cosine": median(validation_loss),
        "schedule-wsd": median(validation_loss),
        "schedule-spread": spread,
        "padding": median(lambda run: _efficiency.padding(run.folder)),
        "duplicates": median(lambda run: _efficiency.duplicates(run.folder)),
    },
    "safety-and-privacy": {
        "public-parameters": median(lambda run: run.result["parameters"]),
        "base-loss": median(validation_loss),
        "gentle-best": median(lambda run: min(validation_losses(run))),
        "open-extracted": median(brought_back("brought_back", "put_in")),
        "open-left-out": median(brought_back("brought_back_of_left_out", "left_out")),
        "open-lower": median(lambda run: run.result["epsilon_lower"]),
        "open-loss": median(lambda run: validation_losses(run)[-1]),
        "little-extracted": median(brought_back("brought_back", "put_in")),
        "little-lower": median(lambda run: run.result["epsilon_lower"]),
        "little-upper": median(lambda run: run.result["epsilon_upper"]),
        "private-extracted": median(brought_back("brought_back", "put_in")),
        "private-lower": median(lambda run: run.result["epsilon_lower"]),
        "private-upper": median(lambda run: run.result["epsilon_upper"]),
        "private-loss": median(lambda run: validation_losses(run)[-1]),
        "white-box-lower": median(lambda run: run.result["epsilon_lower"]),
        "notes-loss": median(lambda run: run.result["loss"]["train"]),
        "notes-card": median(card_digits),
        "shy-loss": median(lambda run: run.result["loss"]["train"]),
        "shy-card": median(card_digits),
        "masked-count": median(masked_details),
        "masked-card": median(card_digits),
        "masked-rest": median(words_of_the_rest),
    },
    "what-is-a-large-model": {
        **{f"loss-{width}-{steps}": median(validation_loss) for width, steps in SIZES},
        **{f"parameters-{width}": median(lambda run: run.result["parameters"]) for width in (32, 64, 128)},
        **{f"heart-{width}": median(validation_loss) for width in HEART_WIDTHS},
        **{f"heart-{width}-best": median(lambda run: min(validation_losses(run))) for width in HEART_WIDTHS},
        **{f"heart-{width}-train": median(lambda run: run.result["loss"]["train"]) for width in (32, 256)},
        **{f"decayed-{width}": median(validation_loss) for width in HEART_WIDTHS},
        "strong-256": median(validation_loss),
        **{f"family-{name}": median(validation_loss) for name in FAMILIES},
        "fit-error": median(lambda run: 100 * run.result["error"]),
        "fit-parameters": median(lambda run: run.result["best"][1]["parameters"]),
        "fit-tokens": median(lambda run: run.result["best"][1]["tokens"]),
    },
    "rnn-in-tensorflow": {
        "parameters": median(lambda run: run.result["parameters"]),
        "every-loss": median(validation_loss),
        "last-loss": median(validation_loss),
        "lstm-loss": median(validation_loss),
        "epsilon-loss": median(validation_loss),
    },
    "cnn-in-pytorch": {
        "textbook-accuracy": median(accuracy),
        "textbook-parameters": median(lambda run: run.result["parameters"]),
        "small-accuracy": median(accuracy),
        "augmented-accuracy": median(accuracy),
        "one-batch-spread": median(spread_of_batches),
        "private-accuracy": median(accuracy),
        "private-textbook": median(accuracy),
    },
    "attention": {
        "short-flops": median(lambda run: run.result["train_flops"]),
        "long-flops": median(lambda run: run.result["train_flops"]),
        "flops-ratio": flops_ratio,
        "equal-context": equal_context,
        "activations-ratio": activations_ratio,
        "long-activations": median(lambda run: activations(run) / 1e9),
    },
    "tokenizers": {
        "en-byte": tokens_a_character("en-chars"),
        "zh-byte": tokens_a_character("zh-chars"),
        "en-chars": median(vocabulary),
        "zh-chars": median(vocabulary),
        "en-bpe": tokens_a_character("en-chars"),
        "zh-bpe": tokens_a_character("zh-chars"),
        "zh-by-en": tokens_a_character("zh-chars"),
        "en-sentence": median(tokens_a_sentence),
        "zh-sentence": median(tokens_a_sentence),
        "zh-sentence-by-en": median(tokens_a_sentence),
    },
    "evaluation": {
        "clean-validation": median(sentiment("validation.accuracy")),
        "clean-test": median(sentiment("test.accuracy")),
        "clean-low": median(sentiment("test.accuracy_low")),
        "clean-high": median(sentiment("test.accuracy_high")),
        "leaked-validation": median(sentiment("validation.accuracy")),
        "leaked-test": median(lambda run: 100 * run.result["scores"]["accuracy"]),
        "difference": median(above_the_other("difference")),
        "difference-low": median(above_the_other("difference_low")),
        "difference-high": median(above_the_other("difference_high")),
    },
    "lora": {
        "lora-base": median(lambda run: run.result["parameters"]),
        "before": median(loss_on_file),
        "full": median(validation_loss),
        "slow": median(validation_loss),
        **{f"rank-{rank}": median(validation_loss) for rank in (1, 4, 16, 64)},
        "rank-16-learned": median(learned_with_lora),
        "old-base": median(loss_on_file),
        "old-full": median(loss_on_file),
        "old-lora": median(loss_on_file),
        "private-full": median(validation_loss),
        "private-lora": median(validation_loss),
        "wide-parameters": median(lambda run: run.result["parameters"]),
        "wide-full-memory": median(lambda run: 1000 * peak_gigabytes(run)),
        "wide-lora-memory": median(lambda run: 1000 * peak_gigabytes(run)),
        "wide-full-checkpoint": median(lambda run: checkpoint_bytes(run) / 1e6),
        "wide-lora-checkpoint": median(lambda run: checkpoint_bytes(run) / 1e6),
    },
    "rag": {
        "en-passages": median(lambda run: run.result["passages"]),
        "en-bytes": median(index_beside_text),
        "zh-passages": median(lambda run: run.result["passages"]),
        "en-first": median(recall("xquad.en.json", 1)),
        "en-five": median(recall("xquad.en.json", 5)),
        "zh-first": median(recall("xquad.zh.json", 1)),
        "zh-five": median(recall("xquad.zh.json", 5)),
        "crossed-five": median(recall("xquad.zh.json", 5)),
        "sentence": median(right_sentences),
        "cited": median(exact_citations),
        "strangers": median(answered_strangers),
        "planted": median(planted_first),
        "planted-passages": median(lambda run: run.result["passages"]),
        "planted-place": median(place_of_planted),
    },
    "kv-cache-size": {
        "grouped-token": median(lambda run: run.result["serving"]["kv_bytes_per_token"]),
        "grouped-texts": median(texts_beside_weights),
        "plain-token": median(lambda run: run.result["serving"]["kv_bytes_per_token"]),
        "plain-texts": median(texts_beside_weights),
        "one-texts": median(texts_beside_weights),
        "long-texts": median(texts_beside_weights),
    },
    "language-tasks": {
        "tone-accuracy": scored("validation.accuracy", 100),
        "tone-majority": scored("validation.majority_accuracy", 100),
        "intent-accuracy": scored("test.accuracy", 100),
        "to-chinese": scored("validation.bleu_en_zh"),
        "to-chinese-memory": scored("validation.baseline_memory_bleu_en_zh"),
        "to-english": scored("validation.bleu_zh_en"),
        "to-english-memory": scored("validation.baseline_memory_bleu_zh_en"),
        "plays-loss": scored("validation.loss"),
        "plays-bigram": scored("validation.bigram_loss"),
        "titles-rouge": scored("validation.rouge_l", 100),
        "titles-lead": scored("validation.baseline_lead_rouge_l", 100),
    },
    "distributed-training": {
        "one-loss": median(validation_loss),
        "two-loss": median(validation_loss),
        "two-apart": apart_from("one-loss"),
        "sharded-loss": median(validation_loss),
        "uneven": median(lambda run: _ranks.uneven_targets(run.folder)),
        "gradient-off": median(lambda run: statistics.median(_ranks.gradients_off(run.folder))),
        "gradient-worst": median(lambda run: max(_ranks.gradients_off(run.folder))),
        "alone-peak": median(planned_peak),
        "eight-states": median(states_gigabytes),
        "eight-peak": median(planned_peak),
        "eight-hours": median(device_hours),
        "many-hours": median(device_hours),
    },
    "alignment": {
        "start-loss": median(validation_loss),
        "start-exact": median(exact_match),
        "answers-loss": median(validation_loss),
        "everything-loss": median(
            lambda run: _alignment.held_out_loss(_alignment.tuned_on_everything(run.folder))
        ),
        "right-before": told_by_dpo("right-before"),
        "right-after": told_by_dpo("right-after"),
        "wrong-before": told_by_dpo("wrong-before"),
        "wrong-after": told_by_dpo("wrong-after"),
        "wins-before": told_by_dpo("wins-before"),
        "wins-after": told_by_dpo("wins-after"),
        "margin": told_by_dpo("margin"),
        "answers-exact": median(exact_match),
        "everything-exact": median(
            lambda run: _alignment.exact_of(_alignment.tuned_on_everything(run.folder))
        ),
    },
    "generation-speed": {
        "whole-speed": median(of_variant("original", "tokens_per_second")),
        "int8-speed": median(of_variant("int8", "tokens_per_second")),
        "int4-speed": median(of_variant("int4", "tokens_per_second")),
        "int8-memory": median(
            lambda run: of_variant("int8", "memory_bytes")(run) / of_variant("original", "memory_bytes")(run)
        ),
        "int8-loss": median(loss_change("int8")),
        "int4-loss": median(loss_change("int4")),
    },
}
# Figures that need the runs of others: measured together with them, after them.
START = "public-parameters"  # of the model that all runs of its page start from
NEEDS = {name: [START] for name in MEASURES["safety-and-privacy"] if name != START} | {
    "bf16-ratio": ["fp32-speed", "bf16-speed"],
    "schedule-spread": ["schedule-wsd"],
    **{key: [f"loss-{w}-{n}" for w, n in SIZES] for key in ("fit-error", "fit-parameters", "fit-tokens")},
    **{f"family-{name}": ["loss-128-300"] for name in FAMILIES},
    "en-byte": ["en-chars"],
    "zh-byte": ["zh-chars"],
    "en-bpe": ["en-chars"],
    "zh-bpe": ["zh-chars"],
    "zh-by-en": ["en-bpe", "zh-chars"],
    "zh-sentence-by-en": ["en-bpe"],
    "flops-ratio": ["short-flops", "long-flops"],
    "equal-context": ["short-flops", "long-flops"],
    "activations-ratio": ["short-flops", "long-flops"],
    "two-apart": ["one-loss"],
    **{name: ["start-loss", "answers-loss"] for name in MEASURES["alignment"] if "start" not in name},
    "answers-loss": ["start-loss"],
    "start-exact": ["start-loss"],
    "white-box-lower": [START, "private-extracted"],
    "notes-card": [START, "notes-loss"],
    "shy-card": [START, "shy-loss"],
    "masked-card": [START, "masked-count"],
    "masked-rest": [START, "masked-count"],
    "planted-place": ["planted-passages"],
    **{key: ["lora-base"] for key in MEASURES["lora"] if not key.startswith("wide-") and key != "lora-base"},
    "old-full": ["lora-base", "full"],
    "old-lora": ["lora-base", "rank-16"],
    **{
        f"wide-{way}-{what}": ["wide-parameters"]
        for way in ("full", "lora")
        for what in ("memory", "checkpoint")
    },
    **{
        key: ["clean-test", "leaked-validation"]
        for key in ("leaked-test", "difference", "difference-low", "difference-high")
    },
}
# Figures that differ from run to run: their commands run in turns.
TIMED = {"fp32-speed", "bf16-speed", "bf16-ratio", "time-ratio", "prepare-rate"}
# What a figure measures in Python stands on the run of this figure's command.
STANDS_ON = {
    "feed-rate": "prepare-rate",
    **dict.fromkeys(("en-first", "en-five", "crossed-five", "sentence", "cited", "planted"), "en-passages"),
    **dict.fromkeys(("zh-first", "zh-five", "strangers"), "zh-passages"),
    **dict.fromkeys(("gradient-off", "gradient-worst"), "uneven"),
    **dict.fromkeys(("everything-loss", "everything-exact"), "answers-loss"),
    **{
        f"{what}-{when}": "answers-loss"
        for what in ("right", "wrong", "wins")
        for when in ("before", "after")
    },
    "margin": "answers-loss",
}


def measure(
    question: Question, names: list[str], folder: Path, *, repeats: int, small: bool
) -> dict[str, float]:
    """Runs what the figures need, each command once a round, and returns the values."""
    wanted = list(dict.fromkeys(need for name in names for need in [*NEEDS.get(name, []), name]))
    commands = {name: question.facts.figures[STANDS_ON.get(name, name)].command for name in wanted}
    timed = {commands[name] for name in wanted if name in TIMED}
    done: dict[str, Runs] = {command: [] for command in dict.fromkeys(commands.values())}
    for turn in range(repeats):
        for command in done:
            if turn == 0 or command in timed:
                print(f"{question.id}: {' '.join(command.replace(chr(92), ' ').split())}", file=sys.stderr)
                done[command].append(run_shown(question, command, folder / str(turn), small=small))
    runs = {name: done[commands[name]] for name in wanted}
    return {name: MEASURES[question.id][name](runs[name], runs) for name in names}


def write_figures(question: Question, values: dict[str, float]) -> None:
    """Adds the values to the question's figures.json, each with its command, hardware and date."""
    file = question.folder / "figures.json"
    table = json.loads(file.read_text()) if file.exists() else {}
    machine = hardware.detect()
    facts = {
        "hardware": f"{machine.name}, {machine.cores} core{'s' * (machine.cores > 1)}, {machine.memory_bytes / 1e9:.0f} GB",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {
            "shuyuan": version("shuyuan"),
            "torch": version("torch"),
            "Python": sys.version.split()[0],
        },
    }
    for name, value in values.items():
        figure = question.facts.figures[name]
        table[name] = {"value": value, "unit": figure.unit.en, "command": figure.command} | facts
    ordered = {name: table[name] for name in question.facts.figures if name in table}
    file.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--question", choices=list(MEASURES))
    parser.add_argument("--only", nargs="+", default=[], metavar="FIGURE")
    parser.add_argument("--data", type=Path, default=DATA, help="public data, for recipes that read ../data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    bank, found = load_bank(), {}
    for question_id, measures in MEASURES.items():
        names = [name for name in measures if not asked.only or name in asked.only]
        if not names or asked.question not in (None, question_id):
            continue
        question = bank[question_id]
        with tempfile.TemporaryDirectory(prefix="shuyuan-figures-") as folder:
            (Path(folder) / "data").symlink_to(asked.data.resolve())  # which some recipes read
            repeats = 1 if asked.small else asked.repeats
            values = measure(question, names, Path(folder), repeats=repeats, small=asked.small)
        if not asked.small:
            write_figures(question, values)
        found[question_id] = values
        for name, value in values.items():
            print(f"{question_id:<22} {name:<20} {value:>14.6g} {question.facts.figures[name].unit.en}")
    print(json.dumps({"figures": found, "written": not asked.small}))


if __name__ == "__main__":
    main()
