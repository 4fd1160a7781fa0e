"""The pictures: small, the same every time, in the page's colours, and true to the curve."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.report import plots
from shuyuan.report.svg import PALETTE, Styles

from .conftest import step_lines

TRAIN = plots.points(step_lines(1, 1000, total=1000), "loss")
VALIDATION = [(step, loss + 0.1) for step, loss in TRAIN[99::100]]
BAND = {"low": 700 << 20, "expected": 760 << 20, "high": 840 << 20}


def _all(styles: Styles) -> list[str]:
    memory = [(step, 1.6e9 + step) for step, _ in TRAIN]
    small = [
        plots.rate_plot(TRAIN, styles),
        plots.speed_plot(TRAIN, "token", styles),
        plots.memory_plot(memory, BAND, styles),
    ]
    return [
        *plots.loss_plot(TRAIN, VALIDATION, 4.4, "token", styles),
        *(picture for picture in small if picture),
    ]


def test_pictures_are_small_valid_and_in_the_palette() -> None:
    styles = Styles()
    pictures = _all(styles)
    assert len(pictures) == 5
    for picture in pictures:
        assert len(picture.encode()) < 60_000
        root = ElementTree.fromstring(picture)
        assert root.attrib["role"] == "img" and root[0].tag.endswith("title") and root[1].text
        assert (
            "style=" not in picture
            and "<style" not in picture
            and "http:" not in picture.replace("http://www.w3.org/", "")
        )
        assert not any(stand_in in picture + styles.css() for stand_in in PALETTE.values())
        assert "<text" in picture
    assert "var(--train)" in styles.css() and "font-family" not in styles.css()


def test_the_same_curve_gives_the_same_bytes() -> None:
    assert _all(Styles()) == _all(Styles())


def test_ids_are_unique_over_all_pictures_and_links_lead_to_them() -> None:
    text = "".join(_all(Styles()))
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    links = re.findall(r'(?:href="#|url\(#)([^")]*)', text)
    assert links and set(links) <= set(ids)


def test_a_users_matplotlib_settings_change_nothing() -> None:
    import matplotlib

    before = _all(Styles())
    with matplotlib.rc_context(
        {"font.size": 30, "axes.grid": False, "lines.linewidth": 9, "svg.fonttype": "path"}
    ):
        assert _all(Styles()) == before


@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(4, 50))
def test_thinning_keeps_every_extreme(values: list[float], limit: int) -> None:
    series = [(float(step), value) for step, value in enumerate(values)]
    thin = plots.thinned(series, limit)
    assert len(thin) <= limit + 2
    assert thin == sorted(thin, key=lambda point: point[0]) and set(thin) <= set(series)
    if series:
        assert thin[-1] == series[-1]
        for extreme in (min, max):
            assert extreme(value for _, value in thin) == extreme(values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_smoothing_stays_within_the_values(values: list[float]) -> None:
    smooth = plots.smoothed([(float(step), value) for step, value in enumerate(values)])
    assert [step for step, _ in smooth] == list(range(len(values)))
    assert all(min(values) - 1e-6 <= value <= max(values) + 1e-6 for _, value in smooth)


def test_smoothing_lags_nowhere_on_a_straight_fall() -> None:
    line = [(float(step), 1000.0 - step) for step in range(200)]
    assert plots.smoothed(line)[50][1] == pytest.approx(950)


def test_values_that_are_not_finite_are_left_out() -> None:
    lines = [
        {"step": 1, "loss": float("nan")},
        {"step": 2, "loss": 2.0},
        {"step": 3},
        {"step": 4, "loss": "x"},
    ]
    assert plots.points(lines, "loss") == [(2.0, 2.0)]


@pytest.mark.parametrize(
    ("train", "validation", "bigram"),
    [
        ([], [], 1.0),
        ([(1.0, 2.0)], [], None),
        ([], [(5.0, 2.0)], 3.0),
        ([(0.0, 0.0)], [(0.0, 0.0)], 0.0),
        ([(1.0, 2.0)] * 3, [], 2.0),
    ],
)
def test_little_to_draw_is_no_error(
    train: plots.Points, validation: plots.Points, bigram: float | None
) -> None:
    pictures = plots.loss_plot(train, validation, bigram, "token", Styles())
    assert len(pictures) == (2 if train or validation else 0)


def test_the_window_leaves_out_the_first_fall_and_nothing_later() -> None:
    low, high = plots.loss_window(TRAIN, VALIDATION, 4.4)
    assert high < TRAIN[0][1]
    assert low < min(value for _, value in TRAIN[50:]) and high > max(value for _, value in TRAIN[100:])
    assert low < 4.4 < high


def test_a_home_that_cannot_be_written_is_no_news() -> None:
    """In a process of its own, since matplotlib looks for its folder once; /proc is closed to the administrator too."""
    code = "from shuyuan.report.plots import WIDE, bare_figure\nwith bare_figure(WIDE, left=1, right=1):\n    print('drawn')"
    home = {"HOME": "/proc/none", "XDG_CONFIG_HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | home, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("drawn\n", "")
