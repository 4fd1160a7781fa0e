"""`shuyuan plan`: what a recipe will need, before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..sizes import size
from .frame import AsJson, Changes, Debug, Key, frame

# Nats of a token of 32,000 that is guessed: of a plan that the law has worse than that, it knows nothing.
GUESSING = 10.4


def plan(
    target: Annotated[Path | None, typer.Argument(metavar="[RECIPE|RUN]", help="Left out: the demo.")] = None,
    changes: Changes = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="Other hardware than this machine: h100, h100:8, a100-80g:64x8 (nodes x devices), cpu:32.",
        ),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="What one device costs an hour, in your money.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option("--layout", help="How others lay a model over devices: tensor=8,pipeline=16,recompute."),
    ] = "",
    fit: Annotated[
        list[str] | None,
        typer.Option(
            "--fit",
            help="Finished runs on the same records (folders or patterns): fits a law of loss to them instead.",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the first settings advised into the recipe, comments kept.")
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="A new file: of --apply, instead of over the recipe; of --fit, a page with its picture.",
        ),
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Predict memory, time and storage; nothing is spent."""
    with frame(as_json, debug) as answer:
        from .. import data, hardware, pipeline
        from .run import DEMO

        if fit:
            found = pipeline.fit_law(fit, key, to)
            answer.give(found, lambda: _show_law(answer.screen.out, found))
            return
        target = target or Path(DEMO.stem)
        _, recipe = pipeline.locate(target, changes=changes or [])
        manifest = None
        if target.is_dir():
            with pipeline.look(target, key) as job:
                manifest = data.load_manifest(job.store)
        elsewhere = None if on is None else hardware.machines(on)
        found = pipeline.plan_for(recipe, manifest, answer.screen, elsewhere, price, layout)
        if apply:
            applied = pipeline.apply_advice(target, found, to, changes or [])
            _, recipe = pipeline.locate(applied["file"])
            found = pipeline.plan_for(recipe, manifest, answer.screen, elsewhere, price, layout)
            found["applied"] = applied
        answer.give(found, lambda: _show(answer.screen.out, found))


def _show(out: Any, plan: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for label, told in (*_work(plan), *_room(plan), *_verdict(plan)):
        table.add_row(label, told)
    out.print(table)
    if plan["noise"] and plan["noise"]["table"]:
        _show_noise(out, plan["noise"])
    for change in plan.get("applied", {}).get("changes", []):
        out.print(f"- {_changed(change)} in {plan['applied']['file']}", markup=False, soft_wrap=True)
    if not plan.get("applied", {}).get("comments_kept", True):
        out.print("- its comments could not be kept", markup=False)
    for line in plan["advice"] + plan["notes"] + plan["not_modelled"]:
        out.print(f"- {line}", markup=False)


def _work(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is computed, and how long it takes."""
    from .screen import duration

    yield "parameters", f"{plan['parameters']:,}"
    yield "tokens", f"{plan['tokens']:,.0f}"
    yield "training", f"{plan['train_flops']:.2e} floating-point operations"
    if plan["scaling"] and plan["scaling"]["loss"] < GUESSING:
        yield "size", _size(plan["scaling"])
    yield "time", _interval(plan["seconds"], duration)


def _room(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is held, in memory and on the disk."""
    yield "peak memory", _interval(plan["peak_bytes"], size)
    yield "of which", _parts(plan["items"])
    if plan["lora"]:
        lora = plan["lora"]
        own = sum(lora[f"{name}_bytes"] for name in ("weights", "gradients", "optimizer"))
        yield (
            "LoRA",
            f"{lora['parameters']:,} of {plan['parameters']:,} parameters learn: {size(own)} beside "
            f"{size(lora['base_bytes'])} that stay as they are",
        )
    yield "storage", f"{size(plan['storage_bytes'])}: {_parts(plan['storage_items'])}"
    if plan["host"]:
        host = plan["host"]
        yield (
            "each machine",
            f"{host['cores']} cores, so that loading stalls no device; {size(host['memory_bytes'])} of its own memory",
        )
    yield "serving", _serving(plan["serving"])


def _verdict(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Whether it fits, what it costs, and what it promises."""
    from .screen import promise

    yield "fits", "yes" if plan["fits"] else "no"
    if plan["price"]:
        yield "price", _price(plan["price"])
    yield "privacy", promise(plan["privacy"], "none asked")


def _interval(values: dict[str, float], write: Callable[[float], str]) -> str:
    return f"{write(values['expected'])}  ({write(values['low'])} to {write(values['high'])})"


def _size(scaling: dict[str, Any]) -> str:
    best = scaling["best"]
    return (
        f"{best['parameters']:,} parameters and {best['tokens']:,} tokens would be best for as much work: loss {best['loss']:.2f} for "
        f"{scaling['loss']:.2f} (a law of {scaling['of']})"
    )


def _parts(items: dict[str, int], most: int = 5) -> str:
    """The largest parts, the rest together."""
    largest = sorted(items, key=lambda name: -items[name])
    told = [f"{name} {size(items[name])}" for name in largest[:most] if items[name]]
    rest = sum(items[name] for name in largest[most:])
    return ", ".join([*told, *([f"other {size(rest)}"] if rest else [])])


def _serving(found: dict[str, Any]) -> str:
    if found["kv_bytes_per_token"] is None:
        return ", ".join(f"{name} {size(each['bytes'])}" for name, each in found["variants"].items())
    texts = [
        f"{name} {size(each['bytes'])}" + ("" if each["texts"] is None else f" and {each['texts']:,} texts")
        for name, each in found["variants"].items()
    ]
    return (
        f"{size(found['kv_bytes_per_token'])} a token, {found['context']:,} tokens a text: {', '.join(texts)}"
    )


def _show_noise(out: Any, noise: dict[str, Any]) -> None:
    """What other ε, batches and steps need: the first row is the plan's own."""
    from rich.table import Table

    from ..report.forecast import size_lines

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("ε", "noise multiplier", "units a step", "steps", "noise / batch"):
        table.add_column(heading, justify="right")
    for row in noise["table"]:
        table.add_row(
            f"{row['epsilon']:.3g}", f"{row['noise_multiplier']:.3g}", f"{row['batch_size']:,}", f"{row['steps']:,}",
            f"{row['noise_to_batch']:.2g}",
        )  # fmt: skip
    out.print()
    out.print(table)
    out.print()
    for line in [*noise["rules"], *size_lines(noise["size"])]:
        out.print(f"- {line}", markup=False)


def _changed(change: dict[str, Any]) -> str:
    was, now = (json.dumps(change[name], ensure_ascii=False) for name in ("was", "now"))
    if change["now"] is None:
        return f"{change['key']} = {was} is taken out"
    return f"{change['key']} = {now}" + ("" if change["was"] is None else f" instead of {was}")


def _show_law(out: Any, found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("constant", "fitted", "90 % of resampled fits"):
        table.add_column(heading)
    for name, value in found["law"].items():
        low, high = found["intervals"][name]
        table.add_row(name, f"{value:.4g}", f"{low:.4g} to {high:.4g}")
    out.print("loss = E + A / parameters^alpha + B / tokens^beta, in nats a token", markup=False)
    out.print(table)
    out.print(f"{found['runs']} runs, median error {found['error']:.2%}", markup=False)
    for best in found["best"]:
        out.print(
            f"- {best['flops']:.1e} operations are best spent on {best['parameters']:,.0f} parameters and "
            f"{best['tokens']:,.0f} tokens: loss {best['loss']:.3f} "
            f"({' to '.join(f'{edge:.3f}' for edge in best['loss_interval'])})",
            markup=False,
        )
    out.print(f"- {found['counting_rule']}", markup=False)
    out.print(
        f"- {'The picture is in ' + found['page'] if found['page'] else 'Nothing was written; --to FILE.html writes the picture'}",
        markup=False,
        soft_wrap=True,
    )


def _price(price: dict[str, Any]) -> str:
    parts = [f"{price['device_hours']:,.1f} device hours"]
    if price["energy_kwh"] is not None:
        parts.append(f"{price['energy_kwh']:,.1f} kWh")
    if price["amount"]:
        low, expected, high = (price["amount"][name] for name in ("low", "expected", "high"))
        parts.append(f"{expected:,.2f}  ({low:,.2f} to {high:,.2f}) at {price['hourly']:g} an hour")
    return ", ".join(parts)
