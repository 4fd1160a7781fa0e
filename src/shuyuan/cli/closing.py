"""What `shuyuan run` shows at its end: a table of what was done, samples, and what to type next."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ..report.sections import answer_lines
from ..sizes import size
from ..tasks import task_named
from ..visible import visible
from .screen import duration, promise
from .wrapped import laid_out

if TYPE_CHECKING:
    from ..pipeline import Job

LONG = 40  # characters of three words; what is longer is Chinese, which has no spaces, and is cut at its first stop
WHOLE = 60  # characters of a question that is shown whole
Row = tuple[str, str]


def facts_of(job: Job, summary: dict[str, Any]) -> dict[str, Any]:
    """What the closing table shows."""
    from .. import data, evaluate
    from ..pipeline import PLAN_FILE

    manifest, canaries = data.load_manifest(job.store), data.load_canaries(job.store)
    return {
        "summary": summary,
        "folder": job.run.path,
        "plan": job.store.read_json(PLAN_FILE),
        "manifest": manifest,
        "planted": f", {canaries.included_M.sum():,} of them planted canaries" if canaries else "",
        "sealed": len(job.store.names()) if job.store.sealed else 0,
        "audit": job.store.read_json(evaluate.AUDIT_FILE) if job.store.exists(evaluate.AUDIT_FILE) else None,
        "samples": job.store.read_json(evaluate.SAMPLES_FILE),
    }


def show(out: Any, facts: dict[str, Any]) -> None:
    """Prints it.

    Args:
        out: a console.
        facts: as of `facts_of`.
    """
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, told in (*_made(facts), *_scored(facts["summary"]), *_promised(facts)):
        table.add_row(label, told)
    out.print()
    out.print(table)
    for number, sample in enumerate(facts["samples"], 1):
        out.print()
        prompt = Text(visible(sample["prompt"]), style="bold")
        text = Text(f"sample {number}: ", style="cyan") + prompt + Text(visible(sample["text"])[:240])
        out.print(laid_out(text, out.width))
    out.print()
    out.print(Text("next: ", style="cyan") + Text(_next(facts)), soft_wrap=True)


def _made(facts: dict[str, Any]) -> Iterator[Row]:
    """What was planned, and what was learned from."""
    summary, plan, manifest = facts["summary"], facts["plan"], facts["manifest"]
    measured = plan.get("measured", {})
    yield (
        "plan",
        f"{summary['parameters']:,} parameters; predicted peak {size(plan['peak_bytes']['expected'])}, "
        f"measured {size(measured.get('peak_bytes', 0))}; predicted {duration(plan['seconds']['expected'])}, "
        f"measured {duration(measured.get('seconds'))}",
    )
    train, validation = manifest.splits["train"], manifest.splits["validation"]
    what = task_named(summary["task"]).target
    learned, held_out = (split.records if what == "record" else split.tokens for split in (train, validation))
    yield (
        "data",
        f"{train.records + validation.records:,} records of {train.owners + validation.owners:,} owners{facts['planted']}; "
        f"{learned:,} {what}s to train on, {held_out:,} held out",
    )


def _scored(summary: dict[str, Any]) -> Iterator[Row]:
    """What the model reaches."""
    scores = summary["scores"][summary["task"]]["original"]
    what = task_named(summary["task"]).target
    if summary["loss"]["train"] is not None:
        yield "training loss", f"{summary['loss']['train']:.3f} nats a {what}"
    yield "validation loss", f"{scores['validation.loss']:.3f} nats a {what}{_beside_bigram(scores)}"
    if "validation.accuracy" in scores:
        accuracy, majority = scores["validation.accuracy"], scores["validation.majority_accuracy"]
        yield (
            "accuracy",
            f"{accuracy:.1%} of held-out records; always the most frequent label: {majority:.1%}",
        )
    if "validation.micro_f1" in scores:
        f1, exact = scores["validation.micro_f1"], scores["validation.exact_labels"]
        yield "labels", f"F1 {f1:.1%} over all decisions; {exact:.1%} of held-out records have all right"
    yield from answer_lines(scores)


def _promised(facts: dict[str, Any]) -> Iterator[Row]:
    """What is kept secret and private, and where more is told."""
    summary, audit = facts["summary"], facts["audit"]
    sealed = f"{facts['sealed']} files, readable with the key alone"
    yield "sealed", sealed if summary["sealed"] else "no: this run lies in the clear"
    yield "privacy", promise(summary["privacy"], "none: what the model memorised is not bounded")
    if audit is not None:
        yield (
            "audit",
            f"ε is at least {audit['epsilon_lower']:.3g}: {audit['correct']} of {audit['guesses']} guesses right",
        )
    yield "report", str(facts["folder"] / "report.html")


def _next(facts: dict[str, Any]) -> str:
    """The command that uses the model, with words that it has seen held out."""
    sample = facts["samples"][0] if facts["samples"] else {}
    words = "PICTURE" if facts["manifest"].image else words_of(sample) if sample else ""
    verb, more = task_named(facts["summary"]["task"]).command
    return f"{_command()} {verb} {facts['folder']} {words}{sample.get('wanted', more)}"


def _beside_bigram(scores: dict[str, float]) -> str:
    bigram = scores.get("validation.bigram_loss")
    if bigram is None:
        return ""
    gain = bigram - scores["validation.loss"]
    return f"; a Kneser-Ney bigram has {bigram:.3f}, so {abs(gain):.2f} {'better' if gain > 0 else 'worse'}"


def _command() -> str:
    """The command as this user can type it: it may lie in an environment that is not on the path."""
    called = Path(sys.argv[0])
    if called.name != "shuyuan":
        return "python -m shuyuan"
    found = shutil.which("shuyuan")
    return "shuyuan" if found and Path(found).resolve() == called.resolve() else os.path.relpath(called)


def words_of(sample: dict[str, Any]) -> str:
    """What to ask, as a shell takes it: a short question as it is; else the first words of a text, without a character cut in two."""
    text = str(sample.get("asked", sample["prompt"])).replace("\ufffd", "")
    if "asked" in sample and len(text) <= WHOLE and "\n" not in text:
        return shlex.quote(text)
    words = " ".join(text.split()[:3])
    return shlex.quote(words if len(words) <= LONG else re.split(r"[，。、；：？！]", words[:LONG])[0])
