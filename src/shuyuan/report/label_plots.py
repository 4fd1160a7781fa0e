"""Pictures of how labels are told apart: which are taken for which, and how sure the model is against how often it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .plots import bare_figure
from .svg import PALETTE, Styles, to_svg
from .wording import count, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHAPE = (340, 340)  # width and height in CSS pixels at natural size
MOST_DRAWN, MOST_WRITTEN = 20, 10  # labels of a matrix; those whose counts are written into it
LABEL_CHARS, LABEL_PIXELS = 12, 6.4  # of the longest name beside it, and of one of its characters
DEEPEST, SHADES, FAINTEST = (
    0.6,
    20,
    5,
)  # how dark a cell gets, so that ink is read on it; in how many steps, from which on


def confusion_plot(
    matrix: list[list[int]] | None, labels: list[str], split: str, styles: Styles
) -> str | None:
    """The confusion matrix: a row a label, a column a prediction, darker the larger the share of the row.

    None for more labels than can be told apart in a picture.
    """
    if matrix is None or len(labels) > MOST_DRAWN:
        return None
    names = [label if len(label) <= LABEL_CHARS else f"{label[: LABEL_CHARS - 1]}…" for label in labels]
    margin = round(LABEL_PIXELS * max(map(_width, names))) + 34
    with bare_figure(SHAPE, left=margin, right=6, bottom=margin) as (figure, axes):
        _draw_cells(axes, matrix)
        axes.set_xlim(0, len(labels))
        axes.set_ylim(len(labels), 0)
        places = [number + 0.5 for number in range(len(labels))]
        upright = max(map(_width, names)) > 2
        turned: dict[str, Any] = (
            {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"} if upright else {}
        )
        axes.set_xticks(places, names, **turned)
        axes.set_yticks(places, names)
        axes.set_xlabel("told", color=PALETTE["muted"])
        axes.set_ylabel("label", color=PALETTE["muted"])
        axes.grid(visible=False)
        return to_svg(
            figure,
            f"confusion-{split}",
            f"Labels of {split} and what they are taken for",
            _described(matrix, labels),
            styles,
        )


def _draw_cells(axes: Axes, matrix: list[list[int]]) -> None:
    from matplotlib.patches import Rectangle

    written = len(matrix) <= MOST_WRITTEN
    for row, counts in enumerate(matrix):
        for column, number in enumerate(counts):
            if not number:
                continue
            shade = max(FAINTEST, round(number / sum(counts) * SHADES)) / SHADES
            colour = PALETTE["train" if row == column else "validation"]
            axes.add_patch(Rectangle((column, row), 1, 1, color=colour, alpha=shade * DEEPEST, linewidth=0))
            if written:
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    count(number),
                    ha="center",
                    va="center",
                    color=PALETTE["ink"],
                    fontsize=9,
                )


def _described(matrix: list[list[int]], labels: list[str]) -> str:
    total = sum(map(sum, matrix))
    right = sum(matrix[number][number] for number in range(len(matrix)))
    text = f"Of {count(total)} records, {count(right)} are told right, on the diagonal."
    wrong = [
        (number, row, column)
        for row, counts in enumerate(matrix)
        for column, number in enumerate(counts)
        if row != column
    ]
    number, row, column = max(wrong, key=lambda pair: pair[0])
    return (
        f"{text} Most often, {labels[row]} is taken for {labels[column]}: {count(number)} times."
        if number
        else text
    )


def _width(name: str) -> int:
    """About how many narrow characters wide: those beyond the Latin ones count twice."""
    return sum(1 if character < "\u2e80" else 2 for character in name)


def calibration_plot(bins: list[dict[str, Any]], split: str, styles: Styles) -> str | None:
    """Accuracy over confidence, a point a bin that has records; the dashed diagonal is a model that knows how sure it may be."""
    filled = [each for each in bins if each["records"]]
    if not filled:
        return None
    total = sum(each["records"] for each in filled)
    error = sum(each["records"] * abs(each["confidence"] - each["accuracy"]) for each in filled) / total
    with bare_figure(SHAPE, left=50, right=22) as (figure, axes):
        axes.plot((0, 1), (0, 1), color=PALETTE["baseline"], linewidth=1.2, linestyle=(0, (4, 3)))
        for each in filled:  # how many records stand behind a point
            width, height = each["high"] - each["low"], each["records"] / total
            axes.bar(each["low"], height, width, align="edge", color=PALETTE["band"], linewidth=0)
        points = [(each["confidence"], each["accuracy"]) for each in filled]
        axes.plot(
            *zip(*points, strict=True),
            color=PALETTE["train"],
            linewidth=1.5,
            marker="o",
            markersize=4,
            clip_on=False,
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(_fifths())
            axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("confidence", color=PALETTE["muted"])
        axes.set_ylabel("accuracy", color=PALETTE["muted"])
        text = f"The expected calibration error is {percent(error)}; {percent(filled[-1]['records'] / total)} of the records lie in the bin of the highest confidence."
        return to_svg(figure, f"calibration-{split}", f"Accuracy over confidence on {split}", text, styles)


def _fifths() -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(0.2)
