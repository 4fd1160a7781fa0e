"""The plan on the page: pictures of memory and time, the table of noise, and nothing of it broken by a strange plan."""

from __future__ import annotations

from typing import Any

import pytest

from shuyuan.report import render
from shuyuan.report.plan_plots import MOST_BARS, largest, memory_parts_plot, time_parts_plot
from shuyuan.report.svg import Styles
from tests.report.conftest import PLAN, MakeRun

NOISE = {
    "noise_to_batch": 0.02,
    "table": [
        {"epsilon": 4.0, "noise_multiplier": 1.25, "batch_size": 64, "steps": 800, "noise_to_batch": 0.0195},
        {"epsilon": 16.0, "noise_multiplier": 0.75, "batch_size": 64, "steps": 800, "noise_to_batch": 0.0117},
    ],
    "size": {
        "tokens_a_parameter": 20.0,
        "best_without_privacy": 90_000,
        "best_at_most": 9000,
        "best_between": [100, 1000],
    },
    "rules": ["A batch 4 times as large is worth it."],
}


def test_a_bar_for_each_part_and_the_rest_together() -> None:
    items = {f"part {number}": number for number in range(1, 30)}
    parts = largest(items)
    assert [name for name, _ in parts[:2]] == ["part 29", "part 28"] and parts[-1][0] == "other"
    assert len(parts) == MOST_BARS + 1 and sum(value for _, value in parts) == sum(items.values())


@pytest.mark.parametrize("items", [None, [], {}, {"a": 0}, {"a": "x"}, {"a": float("nan")}, 5])
def test_no_picture_of_nothing(items: Any) -> None:
    assert largest(items) == []
    assert (
        memory_parts_plot({"items": items}, Styles()) is None
        and time_parts_plot({"time_items": items}, Styles()) is None
    )


def test_the_page_shows_what_fills_the_memory_and_where_the_time_goes(make_run: MakeRun) -> None:
    run, store = make_run()
    page = render(run, store, whole=True)
    assert "What fills the memory" in page and "Where the time goes" in page
    for part in ("activations", "weights", "evaluations", "checkpoints"):
        assert f">{part}<" in page
    assert 'id="memory-parts-title"' in page and 'id="time-parts-title"' in page
    assert "127" in page and "2 min 7 s" in page  # measured beside predicted


def test_names_of_parts_cannot_act(make_run: MakeRun) -> None:
    evil = "<script>x</script>\u202e"
    run, store = make_run(
        changed={"plan.json": {**PLAN, "items": {evil: 5 << 20}, "time_items": {evil: 3.0}}}
    )
    page = render(run, store, whole=True)
    assert "<script" not in page and "\u202e" not in page


def test_the_table_of_noise_is_on_the_page_of_those_inside_alone(make_run: MakeRun) -> None:
    run, store = make_run(changed={"plan.json": {**PLAN, "noise": NOISE}})
    inside, public = (render(run, store, whole=whole) for whole in (True, False))
    assert (
        "Noise multiplier" in inside
        and "0.0195" in inside
        and "worth it" in inside
        and "9,000 parameters at most" in inside
    )
    assert "0.0195" not in public


@pytest.mark.parametrize(
    "noise",
    [
        5,
        {},
        {"table": 3},
        {"table": [{}]},
        {"table": [{"epsilon": "x"}]},
        {"table": NOISE["table"], "size": {}, "rules": 7},
        {"table": NOISE["table"], "size": {**NOISE["size"], "best_between": ["a", None]}},
    ],
)
def test_a_strange_table_breaks_no_page(noise: Any, make_run: MakeRun) -> None:
    run, store = make_run(changed={"plan.json": {**PLAN, "noise": noise}})
    assert "What was predicted" in render(run, store, whole=True)
