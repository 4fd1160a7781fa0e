"""The page of each task in a real browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shuyuan import retrieval
from shuyuan.serve.shelf import models_in
from tests.serve import fake
from tests.serve.running import MANY, Door, running
from tests.serve.visitor import Visitor

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = [fake.model("demo"), fake.model("labels", "sentiment")]
    with running(tmp_path_factory.mktemp("state"), models) as opened:
        yield opened


def test_tasks(visitor: Visitor, key: str) -> None:
    page, runs = visitor.page, visitor.door.runs
    visitor.log_in(key)
    visitor.send("summarize", text="The point of it.")
    assert visitor.status("summarize") == "Done."
    assert "The point of it." in page.inner_text("#summarize .written")
    visitor.send("answer", question="Where?", context="It stands here.")
    assert visitor.status("answer") == "Done."
    assert "It stands here." in page.inner_text("#answer .result")
    visitor.send("classify")
    page.wait_for_selector("#classify .error:not(:empty)")
    assert "Either text or image" in page.inner_text("#classify .error")
    visitor.send("classify", text="even")
    assert visitor.status("classify") == "Done."
    assert page.inner_text("#classify .written") == "good"
    assert "75.0 %" in page.inner_text("#classify .labels li:first-child")
    runs["labels"].reads_images = True
    try:
        file = {"name": "a.png", "mimeType": "image/png", "buffer": base64.b64decode(picture())}
        page.fill("#classify [name=text]", "")
        page.set_input_files("#classify [name=image]", file)
        page.click("#classify .start")
        assert visitor.status("classify") == "Done."
        page.set_input_files("#classify [name=image]", {**file, "buffer": b"no picture"})
        page.click("#classify .start")
        page.wait_for_selector("#classify .error:not(:empty)")
        assert "No image can be read" in page.inner_text("#classify .error")
    finally:
        runs["labels"].reads_images = False
    visitor.quiet()


def picture() -> str:
    """A PNG of a few points, as base64."""
    file = io.BytesIO()
    Image.new("L", (8, 8), 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_parts_offer_the_models_that_are_for_them(visitor: Visitor) -> None:
    page = visitor.page
    visitor.log_in(visitor.door.key("labels-only", models=["labels"]))
    assert page.locator("#classify:visible").count() == 1  # the first that has one
    assert page.locator("#classify [name=model] option").all_inner_texts() == ["labels"]
    page.click("#nav a[href='#chat']")
    assert page.locator("#chat [name=model] option").count() == 0
    assert page.inner_text("#chat .status") == "No model here is for this."
    page.fill("#chat [name=message]", "x")
    page.press("#chat [name=message]", "Enter")
    assert page.locator("#chat .turns li").count() == 0
    visitor.quiet()


def test_an_index_answers_with_its_places(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "parking.txt").write_text(
        "Parking is free <b onclick=x>on Sundays</b>, says Dr. Chen.\n", "utf-8"
    )
    retrieval.build_index([str(tmp_path)], tmp_path / "handbook", columns=retrieval.Columns("text", None))
    models = [*models_in([tmp_path / "handbook"], None, MANY), fake.model("demo")]
    with running(tmp_path / "state", models) as door:
        visitor = Visitor(browser.new_page(locale="en-GB"), door)
        page = visitor.page
        visitor.log_in(door.key(), "answer")
        assert page.input_value("#answer [name=model]") == "handbook"
        places = [page.locator(f"#answer [name={name}]") for name in ("index", "context")]
        assert [place.is_visible() for place in places] == [False, False]  # an index reads itself alone
        visitor.send("answer", question="When is parking free?")
        assert visitor.status("answer") == "Done."
        assert "<b onclick=x>on Sundays</b>" in page.inner_text("#answer blockquote")
        assert page.inner_text("#answer cite").endswith("parking.txt:1")
        page.select_option("#answer [name=model]", "demo")
        assert [place.is_visible() for place in places] == [True, True]
        page.fill("#answer [name=context]", "It would be refused beside an index.")
        page.select_option("#answer [name=index]", "handbook")
        assert [place.is_visible() for place in places] == [True, False]
        page.click("#answer .start")  # it repeats what it is asked, which is no answer
        assert visitor.status("answer") == "Done."
        door.wait(lambda: "demo" in door.runs)
        door.runs["demo"].engine.says = lambda prompt: "Dr. Chen"
        page.click("#answer .start")
        assert visitor.status("answer") == "Done."
        assert page.inner_text("#answer .written") == "Dr. Chen"
        visitor.quiet()
        page.close()
