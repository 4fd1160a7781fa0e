"""Administration in a real browser: each role sees and does what the table of routes gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shuyuan.serve.routes import OPEN, ROUTES
from shuyuan.serve.shelf import REPORT
from tests.serve import fake
from tests.serve.running import Door, running
from tests.serve.visitor import Visitor

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = [fake.model("demo"), fake.model("labels", "sentiment")]
    models[0].path = tmp_path_factory.mktemp("runs") / "demo"
    models[0].has_report = True
    models[0].path.mkdir()
    (models[0].path / REPORT).write_text("<!doctype html><title>The report</title><p>of demo</p>")
    with running(tmp_path_factory.mktemp("state"), models) as opened:
        yield opened


@pytest.mark.parametrize("role", ["user", "auditor", "admin"])
def test_a_role_sees_what_the_table_of_routes_gives_it(visitor: Visitor, role: str) -> None:
    visitor.log_in(visitor.door.key(f"sees-{role}", role))
    shown: dict[str, bool] = visitor.page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('[data-route]')].map((one) => [one.dataset.route, !one.hidden]))"
    )
    assert len(shown) > 10
    for route, seen in shown.items():
        method, _, path = route.partition(" ")
        roles = ROUTES[method, path]
        assert roles != OPEN and seen == (role in roles), route


def test_administration(visitor: Visitor, key: str) -> None:
    page, door = visitor.page, visitor.door
    visitor.log_in(door.key("the-boss", "admin"))
    visitor.send("admin", name="newcomer", expires="1d")
    page.wait_for_selector("#made .key")
    made = page.inner_text("#made .key")
    assert [each["id"] for each in door.ask("GET", "/v1/models", key=made).json["data"]] == ["demo", "labels"]
    row = page.locator("#keys tr", has_text="newcomer")
    page.once("dialog", lambda asked: asked.dismiss())
    row.locator("button").click()
    assert door.ask("GET", "/v1/models", key=made).status == 200
    page.once("dialog", lambda asked: asked.accept())
    row.locator("button").click()
    row.locator("td:last-child", has_text="revoked").wait_for()
    assert door.ask("GET", "/v1/models", key=made).status == 401
    door.wait(lambda: "key.revoke" in _refreshed(page))
    assert made not in page.inner_text("#keys")
    assert page.locator("#limits tr").count() > 10
    door.ask("POST", "/v1/summarize", {"model": "demo", "text": "<b>x</b>"}, key)
    door.wait(lambda: "test_administration" in _refreshed(page, "#usage"))
    with page.context.expect_page() as opened:
        page.locator("#runs tr", has_text="demo").locator("a").click()
    opened.value.wait_for_load_state()
    assert opened.value.title() == "The report"
    visitor.send("admin", name="newcomer")
    page.wait_for_selector("#admin form .error:not(:empty)")
    page.reload()
    page.wait_for_selector("#keys table")
    assert made not in page.content()
    visitor.quiet()


def _refreshed(page: Any, part: str = "#audit") -> str:
    page.click("#refresh")
    page.wait_for_selector(f"{part} table")
    return str(page.inner_text(part))


def test_an_auditor_reads_and_changes_nothing(visitor: Visitor) -> None:
    page = visitor.page
    visitor.log_in(visitor.door.key("the-auditor", "auditor"))
    page.wait_for_selector("#audit table")
    assert page.locator("#nav a:visible").count() == 1
    assert page.locator("#admin form:visible, #keys button").count() == 0
    page.select_option("#language", "zh")
    visitor.door.wait(lambda: "年" in page.inner_text("#audit td"))
    visitor.quiet()


def test_where_no_key_is_asked_for(browser: Any, tmp_path: Path) -> None:
    with running(tmp_path, insecure_open=True) as door:
        visitor = Visitor(browser.new_page(), door)
        visitor.page.goto(door.address)
        visitor.page.wait_for_selector("#nav:visible")
        assert visitor.page.locator("#logout:visible, #nav a[href='#admin']:visible").count() == 0
        visitor.send("summarize", text="x")
        assert visitor.status("summarize") == "Done."
        visitor.quiet()
        visitor.page.close()
