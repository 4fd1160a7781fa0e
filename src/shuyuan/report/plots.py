"""The run's pictures: loss, learning rate, speed and memory over the steps.

Curves are thinned before they are drawn, which keeps each picture small; matplotlib is imported at the first picture.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..runs import ORIGINAL
from ..sizes import scale_of
from .svg import PALETTE, Styles, to_svg
from .wording import count, is_number, nats, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW, SMALL = (720, 340), (340, 300), (240, 150)  # width and height in CSS pixels at natural size
LABEL_WIDTH, LABEL_HEIGHT = 76, 36  # of a curve's label in the right margin, in the same pixels
RAW_POINTS, SMOOTH_POINTS = 400, 200
START = 0.05  # share of the steps whose fall may leave the frame
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A labelled series for the right margin's direct labels."""

    label: str
    colour: str
    end: float


def points(lines: Sequence[dict[str, Any]], name: str) -> Points:
    """(step, value) of the metrics lines that have a finite value of that name."""
    pairs = ((line.get("step"), line.get(name)) for line in lines)
    return [(float(step), float(value)) for step, value in pairs if is_number(step) and is_number(value)]


def smoothed(series: Points) -> Points:
    """A moving average over about a twentieth of the points: centred, so that it lags nowhere, and narrower at the start."""
    reach = max(1, len(series) // 40)
    values = [value for _, value in series]
    out = []
    for place, (step, _) in enumerate(series):
        left = min(reach, place)
        near = values[place - left : place + left + 1]
        out.append((step, sum(near) / len(near)))
    return out


def thinned(series: Points, limit: int) -> Points:
    """At most about `limit` points: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(series) <= limit:
        return series
    width = -(-len(series) * 2 // limit)
    kept: Points = []
    for start in range(0, len(series), width):
        stretch = series[start : start + width]
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(extremes)
    return kept if kept[-1] == series[-1] else [*kept, series[-1]]


# ---- the pictures --------------------------------------------------------------------------------------------------


def loss_plot(
    train: Points, validation: Points, bigram: float | None, target: str, styles: Styles
) -> list[str]:
    """The loss a `target` over the steps, drawn twice: for wide and for narrow screens. Empty if there is nothing to draw."""
    if not train and not validation:
        return []
    description = _describe_loss(train, validation, bigram)
    pictures = []
    for name, shape in (("loss-wide", WIDE), ("loss-narrow", NARROW)):
        with bare_figure(shape, left=46, right=LABEL_WIDTH) as (figure, axes):
            _draw_loss(axes, train, validation, bigram, target)
            pictures.append(to_svg(figure, name, "Loss over the steps of training", description, styles))
    return pictures


def rate_plot(series: Points, styles: Styles) -> str | None:
    """The learning rate over the steps."""
    peak = max((value for _, value in series), default=0.0)
    return _small(
        "rate", "Learning rate over the steps", f"Highest {peak:.3g}.", series, styles, form="{:.2g}".format
    )


def speed_plot(series: Points, target: str, styles: Styles) -> str | None:
    """Tokens or records a second over the steps."""
    mean = sum(value for _, value in series) / max(1, len(series))
    text = f"On average {count(mean)} {target}s a second."
    return _small(
        "speed", f"{target.capitalize()}s a second over the steps", text, series, styles, form=_short
    )


def memory_plot(series: Points, predicted: dict[str, Any], styles: Styles) -> str | None:
    """Peak memory over the steps, over the band that the plan predicted."""
    band = (predicted.get("low"), predicted.get("high"))
    peak = max((value for _, value in series), default=0.0)
    text = f"Measured up to {size(peak)}."
    if is_number(band[0]) and is_number(band[1]):
        text += f" Predicted between {size(band[0])} and {size(band[1])}."
    unit, word = scale_of(peak)  # so that the ticks are round in that unit
    scaled = [(step, value / unit) for step, value in series]
    edges = tuple(edge / unit if is_number(edge) else None for edge in band)
    return _small(
        "memory",
        "Peak memory over the steps",
        text,
        scaled,
        styles,
        form=(f"{{:g}} {word}").format,
        band=edges,
    )


def variant_plot(variants: dict[str, dict[str, Any]], target: str, styles: Styles) -> str | None:
    """The loss of each variant over its size; None where there are not two that were measured."""
    found = [
        (name, each["bytes"] / 1e6, each["loss"])
        for name, each in variants.items()
        if is_number(each["loss"])
    ]
    if len(found) < 2:
        return None
    text = " ".join(f"{name}: {megabytes:,.2f} MB, loss {nats(loss)}." for name, megabytes, loss in found)
    with bare_figure(WIDE, left=46, right=LABEL_WIDTH) as (figure, axes):
        for name, megabytes, loss in found:
            colour = PALETTE["validation" if name == ORIGINAL else "train"]
            axes.plot([megabytes], [loss], color=colour, marker="o", markersize=6)
            axes.annotate(
                name,
                (megabytes, loss),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=PALETTE["muted"],
            )
        losses = [loss for *_, loss in found]
        pad = 0.1 * (max(losses) - min(losses)) or 0.01
        axes.set_ylim(min(losses) - pad, max(losses) + pad)
        axes.set_xlim(0, 1.05 * max(megabytes for _, megabytes, _ in found))
        axes.set_ylabel(f"nats a {target}", color=PALETTE["muted"])
        axes.set_xlabel("MB on disk", color=PALETTE["muted"])
        return to_svg(figure, "variants", "Loss of the variants over their size", text, styles)


def _draw_loss(axes: Axes, train: Points, validation: Points, bigram: float | None, target: str) -> None:
    curves = []
    smooth = smoothed(train)
    if train:
        _line(axes, thinned(train, RAW_POINTS), "train", width=0.8, alpha=0.42)
        _line(axes, thinned(smooth, SMOOTH_POINTS), "train", width=1.8)
        curves.append(Curve("training", "train", smooth[-1][1]))
    if validation:
        _line(axes, validation, "validation", width=1.2, marker="o")
        curves.append(Curve("validation", "validation", validation[-1][1]))
    if bigram is not None:
        axes.axhline(bigram, color=PALETTE["baseline"], linewidth=1.2, linestyle=(0, (4, 3)))
        curves.append(Curve("bigram", "baseline", bigram))
    axes.set_ylim(*loss_window(train, validation, bigram))
    axes.set_xlim(0, 1.01 * max([1.0, *(step for step, _ in [*train, *validation])]))
    axes.set_ylabel(f"nats a {target}", color=PALETTE["muted"])
    axes.set_xlabel("step", color=PALETTE["muted"])
    _label_ends(axes, curves)


def loss_window(train: Points, validation: Points, bigram: float | None) -> tuple[float, float]:
    """Bottom and top of the loss picture: the fall of the first steps is cut off, or it would flatten all the rest."""
    end = max(step for step, _ in [*train, *validation])
    settled = [value for step, value in smoothed(train) if step >= START * end]
    shown = (
        settled + [value for step, value in validation if step > 0] + ([bigram] if bigram is not None else [])
    )
    shown = shown or [value for _, value in [*train, *validation]]
    low = min(shown + [value for step, value in train if step >= START * end])
    pad = max(0.06 * (max(shown) - low), 1e-3)
    return low - pad, max(shown) + pad


def _describe_loss(train: Points, validation: Points, bigram: float | None) -> str:
    parts = []
    if train:
        parts.append(
            f"Training loss goes from {nats(train[0][1])} to {nats(smoothed(train)[-1][1])}, smoothed."
        )
    if validation:
        parts.append(f"Validation loss goes from {nats(validation[0][1])} to {nats(validation[-1][1])}.")
    if bigram is not None:
        parts.append(f"A Kneser–Ney bigram model has {nats(bigram)} on validation, a dashed line.")
    return " ".join(parts)


# ---- drawing -------------------------------------------------------------------------------------------------------


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Matplotlib tells of a home that cannot be written, in two long lines; it draws as well without."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def bare_figure(
    shape: tuple[int, int], *, left: int, right: int, bottom: int | None = None
) -> Iterator[tuple[Figure, Axes]]:
    """A bare figure with margins, all in pixels, free of the user's own matplotlib settings."""
    with _without_remarks():
        import matplotlib.style
        from matplotlib.figure import Figure

    plain = {
        "svg.fonttype": "none",
        "svg.hashsalt": "shuyuan",
        "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
        "font.size": 11,
        "text.parse_math": False,  # a label may hold a $
        "axes.edgecolor": PALETTE["rule"],
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "grid.color": PALETTE["rule"],
        "grid.linewidth": 0.8,
        "xtick.color": PALETTE["muted"],
        "ytick.color": PALETTE["muted"],
        "xtick.major.size": 0,
        "ytick.major.size": 0,
    }
    width, height = shape
    with matplotlib.style.context(["default", plain]):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)  # SVG's own: a point is a pixel
        bottom = bottom or (44 if shape != SMALL else 24)
        axes = figure.add_axes(
            (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + 10) / height)
        )
        axes.set_axisbelow(True)
        yield figure, axes


def _small(
    name: str,
    title: str,
    text: str,
    series: Points,
    styles: Styles,
    *,
    form: Any,
    band: tuple[Any, ...] = (None, None),
) -> str | None:
    if not series:
        return None
    with bare_figure(SMALL, left=54, right=14) as (figure, axes):
        if is_number(band[0]) and is_number(band[1]):
            axes.axhspan(band[0], band[1], color=PALETTE["band"], linewidth=0)
        _line(axes, thinned(series, SMOOTH_POINTS), "train", width=1.5)
        top = max([value for _, value in series] + [edge for edge in band if is_number(edge)])
        axes.set_ylim(0, top * 1.08 or 1)
        axes.set_xlim(0, max(series[-1][0], 1))
        axes.locator_params(axis="both", nbins=4)
        axes.yaxis.set_major_formatter(lambda value, _: form(value) if value else "0")
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))
        return to_svg(figure, name, title, text, styles)


def _line(
    axes: Axes, series: Points, colour: str, *, width: float, alpha: float = 1.0, marker: str = ""
) -> None:
    if len(series) == 1:
        marker = "o"
    steps, values = [step for step, _ in series], [value for _, value in series]
    paint = PALETTE[colour]
    axes.plot(
        steps, values, color=paint, linewidth=width, alpha=alpha, marker=marker, markersize=4, clip_on=True
    )


def _label_ends(axes: Axes, curves: list[Curve]) -> None:
    """Names each curve at its end, in its colour, spread out so that no two labels touch."""
    low, high = axes.get_ylim()
    gap = LABEL_HEIGHT * (high - low) / axes.get_window_extent().height
    places: list[float] = []
    for curve in sorted(curves, key=lambda one: one.end):
        places.append(max(curve.end, places[-1] + gap) if places else max(curve.end, low + gap / 2))
    over = places[-1] - (high - gap / 2) if places else 0.0
    for curve, place in zip(sorted(curves, key=lambda one: one.end), places, strict=True):
        at = place - max(0.0, over)
        axes.annotate(
            f"{curve.label}\n{nats(curve.end)}",
            (1, at),
            xycoords=("axes fraction", "data"),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=PALETTE[curve.colour],
            linespacing=1.15,
            annotation_clip=False,
        )


def _short(value: float) -> str:
    for unit, word in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{word}"
    return f"{value:.3g}"
