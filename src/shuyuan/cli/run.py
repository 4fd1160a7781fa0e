"""`shuyuan run`: everything the recipe asks for; without a recipe, the demo."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .frame import AsJson, Changes, Debug, Key, Out, frame

if TYPE_CHECKING:
    from ..pipeline import Job

LONG = 40  # characters of three words; what is longer is Chinese, which has no spaces, and is cut at its first stop
DEMO = Path(__file__).parents[1] / "recipes" / "demo.toml"


def run(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE|RUN]", help="Left out: the demo.")] = None,
    out: Out = None,
    changes: Changes = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do everything the recipe asks for, from plan to report."""
    with frame(as_json, debug) as answer:
        from .. import pipeline, report

        screen = answer.screen
        with answer.leading():
            if recipe is None and key is None:
                _make_demo_key(changes, screen.show)
            with answer.begin(recipe or DEMO, "run", out, changes, key) as job:
                pipeline.everything(job)
                summary = report.summary(job.run, job.store)
                facts = _facts(job, summary)
        answer.give(summary, lambda: _show(screen.out, facts))


def _make_demo_key(changes: list[str] | None, say: Any) -> None:
    """The demo's key is made at its first run; any other recipe names a key that its owner made."""
    from .. import recipe as recipes
    from ..vault import write_key_file

    vault = recipes.load(DEMO, changes).vault
    if vault is None or not vault.key.startswith("file:"):
        return
    file = Path(vault.key.removeprefix("file:"))
    if not file.exists():
        write_key_file(file)
        say(f"Made the demo's key: {file} (mode 0600). A run whose key is lost stays closed.")


def _facts(job: Job, summary: dict[str, Any]) -> dict[str, Any]:
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


def _show(out: Any, facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..report.sections import answer_lines
    from ..tasks import task_named
    from .screen import duration, promise, quantity
    from .wrapped import laid_out

    summary, plan, manifest = facts["summary"], facts["plan"], facts["manifest"]
    scores = summary["scores"][summary["task"]]["original"]
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    measured = plan.get("measured", {})
    table.add_row(
        "plan",
        f"{summary['parameters']:,} parameters; predicted peak {quantity(plan['peak_bytes']['expected'], 'bytes')}, "
        f"measured {quantity(measured.get('peak_bytes', 0), 'bytes')}; predicted {duration(plan['seconds']['expected'])}, "
        f"measured {duration(measured.get('seconds'))}",
    )
    train, validation = manifest.splits["train"], manifest.splits["validation"]
    what = task_named(summary["task"]).target
    learned, held_out = (split.records if what == "record" else split.tokens for split in (train, validation))
    table.add_row(
        "data",
        f"{train.records + validation.records:,} records of {train.owners + validation.owners:,} owners{facts['planted']}; "
        f"{learned:,} {what}s to train on, {held_out:,} held out",
    )
    loss = scores["validation.loss"]
    if summary["loss"]["train"] is not None:
        table.add_row("training loss", f"{summary['loss']['train']:.3f} nats a {what}")
    table.add_row("validation loss", f"{loss:.3f} nats a {what}{_beside_bigram(scores)}")
    if "validation.accuracy" in scores:
        accuracy, majority = scores["validation.accuracy"], scores["validation.majority_accuracy"]
        table.add_row(
            "accuracy", f"{accuracy:.1%} of held-out records; always the most frequent label: {majority:.1%}"
        )
    if "validation.micro_f1" in scores:
        f1, exact = scores["validation.micro_f1"], scores["validation.exact_labels"]
        table.add_row(
            "labels", f"F1 {f1:.1%} over all decisions; {exact:.1%} of held-out records have all right"
        )
    for label, told in answer_lines(scores):
        table.add_row(label, told)
    sealed = (
        f"{facts['sealed']} files, readable with the key alone"
        if summary["sealed"]
        else "no: this run lies in the clear"
    )
    table.add_row("sealed", sealed)
    table.add_row("privacy", promise(summary["privacy"], "none: what the model memorised is not bounded"))
    if facts["audit"] is not None:
        found = facts["audit"]
        table.add_row(
            "audit",
            f"ε is at least {found['epsilon_lower']:.3g}: {found['correct']} of {found['guesses']} guesses right",
        )
    table.add_row("report", str(facts["folder"] / "report.html"))
    out.print()
    out.print(table)
    for number, sample in enumerate(facts["samples"], 1):
        out.print()
        prompt = Text(visible(sample["prompt"]), style="bold")
        text = Text(f"sample {number}: ", style="cyan") + prompt + Text(visible(sample["text"])[:240])
        out.print(laid_out(text, out.width))
    out.print()
    words = words_of(facts["samples"][0]["prompt"]) if facts["samples"] else ""
    words = "PICTURE" if manifest.image else words
    verb, more = task_named(summary["task"]).command
    out.print(
        Text("next: ", style="cyan") + Text(f"{_command()} {verb} {facts['folder']} {words}{more}"),
        soft_wrap=True,
    )


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


def visible(text: str) -> str:
    """Model output with its control characters made visible: what a model writes is not to steer a terminal."""
    return "".join(c if c in "\n\t" or (c.isprintable()) else f"\\x{ord(c):02x}" for c in text)


def words_of(prompt: str) -> str:
    """The first words of a prompt, as a shell takes them; a text of bytes may begin within a character, which nobody can type."""
    words = " ".join(prompt.replace("\ufffd", "").split()[:3])
    return shlex.quote(words if len(words) <= LONG else re.split(r"[，。、；：？！]", words[:LONG])[0])
