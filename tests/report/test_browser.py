"""The page in a real browser: wide and narrow, light and dark, without a word to console or network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shuyuan.report import write_report
from tests.chromium import FAINT

from .conftest import NOTICE, RECIPE, SAMPLES, MakeRun, start_line, step_lines

pytestmark = pytest.mark.browser
ATTACK = "<script>console.error('ran')</script><img src=x onerror=console.error('ran')>"
LONG = "an_endless_word_" * 40


@pytest.fixture(params=["open", "sealed"])
def page_file(request: pytest.FixtureRequest, make_run: MakeRun) -> Path:
    hostile = [*SAMPLES, {"prompt": LONG, "text": ATTACK + "\u202e" + LONG, "seed": 1, "temperature": 1.0}]
    sealed = request.param == "sealed"
    metrics = [{**NOTICE, "text": ATTACK + LONG}, start_line(), *step_lines(1, 100)]
    changed = {"samples.json": hostile, "metrics.jsonl": metrics}
    toml = RECIPE.format(extra='\n[vault]\nkey = "env:KEY"\n' if sealed else "").replace(
        "stdlib", f"/nowhere/{LONG}.txt"
    )
    run, store = make_run(sealed=sealed, changed=changed, recipe=toml)
    return write_report(run, store, run.recipe())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_it_fits_and_is_silent(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_CUT) == []
    assert said == []
    assert asked == [page_file.as_uri()]
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == (
        "rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 20, 27)"
    )  # so the style sheet applies
    assert page.evaluate(FAINT) == []
    context.close()


# Everything outside the scrolling parts that is wider than its place.
_CUT = """() => [...document.querySelectorAll('main *, header *')]
  .filter((one) => !one.closest('.scroll, pre, svg') && getComputedStyle(one).display !== 'inline')
  .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.className + one.tagName)"""


def test_headings_and_pictures_have_names(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((one) => one.tagName)")
    assert levels[0] == "H1" and levels.count("H1") == 1 and len(levels) > 4
    pictures = page.locator("svg[role=img]")
    names = [pictures.nth(number).evaluate(_NAME) for number in range(pictures.count())]
    assert names and all(names)
    page.close()


_NAME = """(svg) => svg.getAttribute('aria-label')
  || svg.getAttribute('aria-labelledby').split(' ').map((id) => document.getElementById(id).textContent).join(' ')"""
