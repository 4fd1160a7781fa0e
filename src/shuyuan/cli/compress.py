"""`shuyuan compress`: smaller variants of the trained model, scored beside it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..sizes import size
from .frame import AsJson, Changes, Debug, Key, Out, Where, frame


class Bits(StrEnum):
    """What weights can be rounded to."""

    int8 = "int8"
    int4 = "int4"


class Roundings(StrEnum):
    """How int4 rounds."""

    auto = "auto"
    gptq = "gptq"
    nearest = "nearest"


class Prunings(StrEnum):
    """Which weights are left out."""

    auto = "auto"
    sparsegpt = "sparsegpt"
    wanda = "wanda"
    magnitude = "magnitude"
    gradual = "gradual"


def compress(
    source: Where,
    quantize: Annotated[
        list[Bits] | None, typer.Option(help="Round the weights to whole numbers; may be given twice.")
    ] = None,
    prune: Annotated[
        list[float] | None,
        typer.Option(help="Leave out this share of the weights; may be given twice."),
    ] = None,
    shrink: Annotated[
        list[float] | None,
        typer.Option(help="Take out this share of the heads and channels; may be given twice."),
    ] = None,
    shorten: Annotated[
        list[float] | None,
        typer.Option(help="Take out this share of the blocks; may be given twice."),
    ] = None,
    rounding: Annotated[
        list[Roundings] | None, typer.Option(help="How int4 rounds; may be given twice.")
    ] = None,
    pruning: Annotated[
        list[Prunings] | None, typer.Option(help="Which weights are left out; may be given twice.")
    ] = None,
    recover: Annotated[
        str | None, typer.Option(help='Train what is left after pruning, such as "200 steps".')
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Look at the records of this file; of a private run, public ones."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help='Pick the smallest with "loss +1%" at most, or the best of "size 25%" at most.'),
    ] = None,
    out: Out = None,
    changes: Changes = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make smaller variants of the model, scored beside it. Those of the recipe, and others that are named."""
    with frame(as_json, debug) as answer:
        from .. import pipeline, report
        from ..compress.target import USUAL, Target

        goal = Target.parse(target) if target else None
        with answer.begin(source, "compress", out, changes, key) as job:
            wanted = pipeline.variants(
                job.recipe,
                [kind.value for kind in quantize or []],
                prune or [],
                [method.value for method in rounding or []],
                [method.value for method in pruning or []],
                recover,
                shrink or [],
                shorten or [],
            )
            if goal and not (quantize or prune or shrink or shorten):
                wanted = [*USUAL]
            pipeline.make_plan(job)
            pipeline.prepare(job)
            pipeline.train_model(job)
            pipeline.compress_model(job, wanted, calibrate)
            pipeline.evaluate_model(job)
            summary = report.summary(job.run, job.store)
        given = {key: summary[key] for key in ("variants", "scores")}
        picked = goal.pick(summary["variants"]) if goal else None

        def show() -> None:
            show_variants(answer.screen.out, summary["variants"])
            if picked:
                answer.screen.out.print(f"Picked: {picked}")

        answer.give(given | ({"picked": picked} if picked else {}), show)


def show_variants(out: Any, variants: dict[str, dict[str, Any]]) -> None:
    """Prints the variants, one a line, the original first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("variant", "size", "of it", "loss", "change", "same", "tok/s"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    whole = next(iter(variants.values()))
    for name, facts in variants.items():
        loss = facts["loss"]
        both = loss is not None and whole["loss"]
        change = f"{100 * (loss / whole['loss'] - 1):+.2f} %" if both else ""
        share = f"{facts['bytes'] / whole['bytes']:.1%}"
        same = "" if facts["agreement"] is None else f"{facts['agreement']:.1%}"
        rate = f"{facts['tokens_per_second']:,.0f}" if "tokens_per_second" in facts else ""
        table.add_row(
            name, size(facts["bytes"]), share, "" if loss is None else f"{loss:.4f}", change, same, rate
        )
    out.print(table)
