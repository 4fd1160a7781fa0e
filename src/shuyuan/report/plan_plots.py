"""Pictures of the plan: what fills the memory and where the time goes, one bar a part, the largest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..visible import visible
from .plots import bare_figure
from .svg import PALETTE, Styles, to_svg
from .wording import UNKNOWN, duration, is_number, size

WIDTH, BAR, TOP = 340, 24, 20  # in CSS pixels: of the picture, a bar with its gap, and both edges
MOST_BARS, LONGEST_LABEL = 9, 22
LABEL_ROOM, VALUE_ROOM = 150, 66


def memory_parts_plot(plan: Mapping[str, Any], styles: Styles) -> str | None:
    """The predicted peak by part, one bar a part."""
    return _bars("memory-parts", "What fills the memory, predicted", plan.get("items"), size, styles)


def time_parts_plot(plan: Mapping[str, Any], styles: Styles) -> str | None:
    """The predicted time by part."""
    return _bars("time-parts", "Where the time goes, predicted", plan.get("time_items"), duration, styles)


def largest(items: Any) -> list[tuple[str, float]]:
    """The largest parts of a table of numbers, what is left over together as "other"."""
    if not isinstance(items, Mapping):
        return []
    parts = [(str(name), float(value)) for name, value in items.items() if is_number(value) and value > 0]
    parts.sort(key=lambda part: -part[1])
    rest = sum(value for _, value in parts[MOST_BARS:])
    return parts[:MOST_BARS] + ([("other", rest)] if rest else [])


def _bars(name: str, title: str, items: Any, form: Callable[[float], str], styles: Styles) -> str | None:
    parts = largest(items)
    if not parts:
        return None
    total = sum(value for _, value in parts)
    told = ", ".join(f"{label} {form(value)}" for label, value in parts)
    shape = (WIDTH, TOP + BAR * len(parts))
    with bare_figure(shape, left=LABEL_ROOM, right=VALUE_ROOM, bottom=TOP // 2) as (figure, axes):
        axes.grid(visible=False)
        axes.set_axis_off()
        axes.set_xlim(0, max(value for _, value in parts))
        axes.set_ylim(len(parts) - 0.5, -0.5)
        for place, (label, value) in enumerate(parts):
            axes.barh([place], [value], height=0.62, color=PALETTE["train"], linewidth=0)
            _say(axes, (0, place), -8, "right", _cut(label), "ink")
            _say(axes, (value, place), 6, "left", form(value) if value else UNKNOWN, "muted")
        return to_svg(figure, name, title, visible(f"{told}. Together {form(total)}."), styles)


def _say(axes: Any, at: tuple[float, float], away: int, side: str, text: str, colour: str) -> None:
    axes.annotate(
        text, at, xytext=(away, 0), textcoords="offset points", ha=side, va="center", color=PALETTE[colour],
        annotation_clip=False,
    )  # fmt: skip


def _cut(label: str) -> str:
    label = visible(label)
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
