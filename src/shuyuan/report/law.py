"""The page of a law of loss that was fitted to one's own runs: its picture, its constants and the best sizes."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from ..planning.scaling import CONFIDENCE, CONSTANTS, COUNTING_RULE, Fit
from . import wording
from .plots import NARROW, WIDE, bare_figure
from .svg import PALETTE, Styles, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HERE = Path(__file__).parent
BEYOND, STEPS = 4, 40  # how far the lines go beyond the longest run, and their points
MOST_SIZES = 6  # lines; of more sizes, some of them


def law_page(fit: Fit) -> str:
    """The page as text; the same fit gives the same text.

    Args:
        fit: a law of loss fitted to finished runs.
    """
    styles = Styles()
    pictures = [Markup(picture) for picture in law_plots(fit, styles)]
    sheet = Markup((_HERE / "page.css").read_text(encoding="utf-8") + styles.css() + "\n")
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    return environment.get_template("law.html").render(
        law=_told(fit), pictures=pictures, sheet=sheet, sheet_digest=digest
    )


def law_plots(fit: Fit, styles: Styles) -> list[str]:
    """Loss over tokens, drawn for wide and for narrow screens."""
    text = "; ".join(
        f"{wording.rounded(point.parameters)} parameters and {wording.rounded(point.tokens)} tokens: {wording.nats(point.loss)}"
        for point in fit.points
    )
    pictures = []
    for name, shape in (("law-wide", WIDE), ("law-narrow", NARROW)):
        with bare_figure(shape, left=46, right=84) as (figure, axes):
            _draw(axes, fit)
            pictures.append(
                to_svg(figure, name, "Loss over the tokens learned from", f"Measured: {text}.", styles)
            )
    return pictures


def _draw(axes: Axes, fit: Fit) -> None:
    sizes = sorted({point.parameters for point in fit.points})
    shown = [sizes[round(place)] for place in np.linspace(0, len(sizes) - 1, min(MOST_SIZES, len(sizes)))]
    lengths = [point.tokens for point in fit.points]
    tokens_K = np.geomspace(min(lengths), BEYOND * max(lengths), STEPS)
    edges = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    for size in shown:
        losses_RK = np.array([[law.loss(size, tokens) for tokens in tokens_K] for law in fit.resampled])
        low_K, high_K = np.quantile(losses_RK, edges, axis=0)
        axes.fill_between(tokens_K, low_K, high_K, color=PALETTE["band"], linewidth=0)
    for size in shown:
        line_K = [fit.law.loss(size, tokens) for tokens in tokens_K]
        axes.plot(tokens_K, line_K, color=PALETTE["train"], linewidth=1.4)
        axes.annotate(
            wording.rounded(size), (tokens_K[-1], line_K[-1]), xytext=(8, 0), textcoords="offset points", va="center",
            color=PALETTE["train"], annotation_clip=False,
        )  # fmt: skip
    axes.plot(
        lengths,
        [point.loss for point in fit.points],
        linestyle="",
        marker="o",
        markersize=4,
        color=PALETTE["validation"],
    )
    axes.set_xscale("log")
    losses = [point.loss for point in fit.points]
    pad = 0.08 * (max(losses) - min(losses)) or 0.01
    lowest = min(fit.law.loss(size, float(tokens_K[-1])) for size in shown)
    axes.set_ylim(min(*losses, lowest) - pad, max(losses) + pad)
    axes.set_xlim(tokens_K[0] / 1.1, tokens_K[-1])
    axes.xaxis.set_major_formatter(lambda value, _: wording.rounded(value))
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.set_ylabel("nats a token", color=PALETTE["muted"])
    axes.set_xlabel("tokens; at the right, parameters", color=PALETTE["muted"])


def _told(fit: Fit) -> dict[str, Any]:
    told = fit.to_json()
    constants = [
        (
            name,
            f"{getattr(fit.law, name):.4g}",
            f"{fit.intervals[name][0]:.4g} to {fit.intervals[name][1]:.4g}",
        )
        for name in CONSTANTS
    ]
    best = [
        [
            wording.flops(row["flops"]),
            f"{wording.rounded(row['parameters'])} ({' to '.join(wording.rounded(edge) for edge in row['parameters_interval'])})",
            wording.rounded(row["tokens"]),
            f"{wording.nats(row['loss'])} ({' to '.join(wording.nats(edge) for edge in row['loss_interval'])})",
        ]
        for row in told["best"]
    ]
    return {
        "runs": fit.runs, "error": wording.percent(fit.error), "confidence": f"{CONFIDENCE:.0%}".replace("%", " %"),
        "constants": constants, "counting_rule": COUNTING_RULE, "best": best,
    }  # fmt: skip
