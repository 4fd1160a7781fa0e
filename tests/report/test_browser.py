"""The page in a real browser: wide and narrow, light and dark, without a word to console or network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shuyuan.report import write_report

from .conftest import NOTICE, RECIPE, SAMPLES, MakeRun, start_line, step_lines

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ATTACK = "<script>console.error('ran')</script><img src=x onerror=console.error('ran')>"
LONG = "an_endless_word_" * 40


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next((found for found in map(shutil.which, NAMES) if found), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=QUIET)
        yield chromium
        chromium.close()


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
    assert page.evaluate(_FAINT) == []
    context.close()


# Everything outside the scrolling parts that is wider than its place.
_CUT = """() => [...document.querySelectorAll('main *, header *')]
  .filter((one) => !one.closest('.scroll, pre, svg') && getComputedStyle(one).display !== 'inline')
  .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.className + one.tagName)"""

# Every text whose contrast to the background behind it is below WCAG's 4.5 to 1.
_FAINT = """() => {
  const level = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!colour.endsWith(', 0)')) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faint = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || ['title', 'desc'].includes(element.tagName) || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = level(element.tagName === 'text' ? style.fill : style.color), paper = level(behind(element));
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) faint.push(`${element.tagName} ${element.textContent.slice(0, 40)} ${contrast.toFixed(2)}`);
  }
  return faint;
}"""


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
