"""The pages in a real browser: who works with them, and what a model writes, which is text and nothing else."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shuyuan import retrieval
from shuyuan.serve.pages import KINDS, POLICY
from shuyuan.serve.routes import OPEN, ROUTES
from shuyuan.serve.shelf import REPORT, models_in
from tests.chromium import FAINT
from tests.serve import fake
from tests.serve.running import MANY, Door, running

pytestmark = pytest.mark.browser
STEP_SECONDS = 0.005
FOLDER = Path(fake.__file__).parents[2] / "src/shuyuan/serve/web"
ATTACK = (
    "<script>document.title='taken'</script><img src=http://127.0.0.1:1/a onerror=document.title='taken'>"
    "<a href=http://127.0.0.1:1/b>x</a><style>*{display:none}</style> ![i](http://127.0.0.1:1/c) "
    "[l](javascript:document.title='taken') <http://127.0.0.1:1/d> \u202eright\u202c \x1b[2J \x00 \u2066z"
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = [fake.model("demo"), fake.model("labels", "sentiment")]
    models[0].path = tmp_path_factory.mktemp("runs") / "demo"
    models[0].has_report = True
    models[0].path.mkdir()
    (models[0].path / REPORT).write_text("<!doctype html><title>The report</title><p>of demo</p>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake, "CONTEXT", 4096)
        with running(tmp_path_factory.mktemp("state"), models, seconds=STEP_SECONDS) as opened:
            yield opened


class Visitor:
    """Somebody with a browser at the server's pages.

    Attributes:
        asked: every address that the page asked for.
        said: what the page said to the console; answers of 4xx are told there too, and left out.
    """

    def __init__(self, page: Any, door: Door) -> None:
        self.page, self.door = page, door
        self.asked: list[str] = []
        self.said: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("console", lambda message: self.said.append(message.text))

    def log_in(self, key: str, part: str = "") -> None:
        self.page.goto(f"{self.door.address}/#{part}")
        self.page.fill("#login input", key)
        self.page.click("#login .start")
        self.page.wait_for_selector("#nav:visible")

    def send(self, part: str, **fields: str) -> None:
        """Goes to a part, fills its form and sends it."""
        self.page.click(f"#nav a[href='#{part}']")
        for name, value in fields.items():
            self.page.fill(f"#{part} [name={name}]", value)
        self.page.click(f"#{part} .start")

    def until(self, so: str) -> None:
        """Waits until something is so on the page, whose policy lets no other script than its own wait there."""
        self.door.wait(lambda: bool(self.page.evaluate(so)), 60)

    def status(self, part: str) -> str:
        """Where a form stands, once it has ended."""
        self.page.wait_for_selector(f"#{part} form[aria-busy=false]")
        return str(self.page.inner_text(f"#{part} .status"))

    def quiet(self) -> None:
        """Nothing was asked of others, and no script failed or was refused."""
        assert all(url.startswith(f"{self.door.address}/") for url in self.asked), self.asked
        assert [each for each in self.said if "Failed to load resource" not in each] == []


@pytest.fixture
def visitor(browser: Any, door: Door) -> Iterator[Visitor]:
    context = browser.new_context(locale="en-GB")
    context.set_default_timeout(60_000)
    made = Visitor(context.new_page(), door)
    yield made
    context.close()


@pytest.fixture
def key(door: Door, request: pytest.FixtureRequest) -> str:
    return door.key(re.sub(r"\W", ".", request.node.name)[:60])


def test_every_file_has_a_route_and_the_policy(door: Door) -> None:
    names = {"/" if each.name == "index.html" else f"/web/{each.name}": each for each in FOLDER.iterdir()}
    assert names.keys() == {path for _, path in ROUTES if path == "/" or path.startswith("/web/")}
    for path, file in names.items():
        answer = door.ask("GET", path)
        assert answer.status == 200 and answer.body == file.read_bytes()
        assert answer.headers["content-type"].startswith(KINDS[file.suffix])
        assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY and POLICY.startswith("default-src 'none'")


def test_log_in_and_out(visitor: Visitor, key: str) -> None:
    page = visitor.page
    page.goto(visitor.door.address)
    page.wait_for_selector("#login:visible")
    assert page.locator("#nav:visible").count() == 0
    page.fill("#login input", "sk-wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#login .error:not(:empty)")
    assert "unknown, expired or revoked" in page.inner_text("#login .error")
    visitor.log_in(key)
    assert page.locator("#chat:visible, #login:visible").count() == 1
    assert page.input_value("#login input") == ""
    page.reload()
    page.wait_for_selector("#nav:visible")  # the session holds
    assert key not in str(
        page.evaluate("[document.cookie, JSON.stringify(localStorage), document.body.outerHTML]")
    )
    page.click("#logout")
    page.wait_for_selector("#login:visible")
    page.reload()
    page.wait_for_selector("#login:visible")
    visitor.quiet()


def test_chat_is_streamed_and_stopped(visitor: Visitor, key: str) -> None:
    page = visitor.page
    visitor.log_in(key)
    page.fill("#chat [name=message]", "hello")
    page.press("#chat [name=message]", "Enter")
    assert "tokens read" in visitor.status("chat")
    assert "hello" in page.inner_text("#chat .assistant .written")
    engine = visitor.door.runs["demo"].engine
    cancelled = engine.cancelled
    visitor.send("chat", message="long " * 60)
    visitor.until("document.querySelectorAll('#chat .assistant .written')[1]?.textContent.length > 5")
    page.click("#chat button[data-word=stop]")
    assert visitor.status("chat") == "Stopped."
    visitor.door.wait(lambda: engine.cancelled == cancelled + 1)  # the server knows too
    told = page.inner_text("#chat .assistant:last-child .written")
    assert 0 < len(told) < 300
    assert page.evaluate("document.activeElement.dataset.word") == "send"
    page.click("#renew")
    assert page.locator("#chat .turns li").count() == 0
    visitor.quiet()


def test_what_a_model_writes_is_text(visitor: Visitor, key: str) -> None:
    page = visitor.page
    visitor.log_in(key)
    visitor.asked.clear()
    visitor.send("chat", message=ATTACK)
    assert "tokens read" in visitor.status("chat")
    visitor.send("generate", prompt=ATTACK, temperature="0", most="400")
    assert "tokens read" in visitor.status("generate")
    visitor.send("translate", text=ATTACK, to="zh")
    assert visitor.status("translate") == "Done."
    for place in ("#chat .assistant .written", "#generate .written", "#translate .written"):
        shown = page.text_content(place)
        assert "<script>document.title='taken'</script><img src=http" in shown
        assert "![i](http://127.0.0.1:1/c)" in shown and "\ufffd[2J" in shown
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
        assert page.evaluate("(place) => document.querySelector(place).childElementCount", place) == 0
    assert page.title() == "Shuyuan"
    assert {url.removeprefix(visitor.door.address) for url in visitor.asked} - {"/web/icon.svg"} == {
        "/v1/chat/completions", "/v1/completions", "/v1/translate",
    }  # fmt: skip
    visitor.quiet()


def test_html_cannot_be_made_of_a_text(visitor: Visitor, key: str) -> None:
    visitor.log_in(key)
    tried = "() => { try { document.body.innerHTML = '<b>x</b>'; return 'made'; } catch (error) { return error.name; } }"
    assert visitor.page.evaluate(tried) == "TypeError"


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


def test_languages(visitor: Visitor, key: str) -> None:
    page = visitor.page
    visitor.log_in(key)
    for language, word in (("zh", "对话"), ("en", "Chat")):
        page.select_option("#language", language)
        assert page.inner_text("#nav a[href='#chat']") == word
        assert page.evaluate("document.documentElement.lang") == language
        assert page.evaluate(_WORDLESS) == []
    page.select_option("#language", "zh")
    page.reload()
    page.wait_for_selector("#nav:visible")
    assert page.inner_text("#chat .start") == "发送"
    visitor.door.server.keys.revoke("test_languages")
    visitor.send("summarize", text="x")
    page.wait_for_selector("#login:visible")
    assert "已吊销" in page.inner_text("#login .error")
    visitor.quiet()


# Elements whose words are missing: they would show the word's name.
_WORDLESS = """() => [...document.querySelectorAll('[data-word], [data-word-label]')]
  .filter((one) => [one.textContent, one.getAttribute('aria-label')].includes(one.dataset.word || one.dataset.wordLabel))
  .map((one) => one.dataset.word || one.dataset.wordLabel).filter((word) => word !== 'x')"""


def test_a_revoked_key_is_refused(visitor: Visitor, key: str) -> None:
    page = visitor.page
    visitor.log_in(key)
    visitor.send("chat", message="secret " * 60)
    visitor.until("document.querySelector('#chat .assistant .written')?.textContent.length > 5")
    visitor.door.server.keys.revoke("test_a_revoked_key_is_refused")
    page.wait_for_selector("#login:visible")
    assert "revoked" in page.inner_text("#login .error")
    assert "secret" not in page.content()  # nothing of it stays on the page
    page.fill("#login input", key)
    page.click("#login .start")
    page.wait_for_selector("#login form[aria-busy=false]")
    assert "revoked" in page.inner_text("#login .error")
    visitor.quiet()


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_it_fits_and_can_be_read(browser: Any, door: Door, width: int, scheme: str, tmp_path: Path) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, locale="en-GB"
    )
    context.set_default_timeout(60_000)
    visitor = Visitor(context.new_page(), door)
    page = visitor.page
    page.goto(door.address)
    page.wait_for_selector("#login:visible")
    page.screenshot(path=tmp_path / "login.png")
    visitor.log_in(door.key(f"fits-{width}-{scheme}", "admin"))
    visitor.send("chat", message="A question, and an_endless_word_" + "word_" * 30)
    visitor.status("chat")
    for part in ("chat", "translate", "answer", "summarize", "classify", "generate", "admin"):
        page.click(f"#nav a[href='#{part}']")
        page.wait_for_selector(f"#{part}:visible")
        if part == "admin":
            page.wait_for_selector("#audit table")
        page.screenshot(path=tmp_path / f"{part}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(FAINT) == []
        assert page.evaluate(_NAMELESS) == []
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 20, 27)")
    other = "dark" if scheme == "light" else "light"
    page.select_option("#theme", other)
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != background
    visitor.quiet()
    context.close()


# What can be worked with and has no name that a screen reader could say.
_NAMELESS = """() => [...document.querySelectorAll('input, select, textarea, button, a, [role=region]')]
  .filter((one) => one.getClientRects().length)
  .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.[0]?.textContent.trim()))
  .map((one) => one.outerHTML)"""


def test_without_a_mouse(visitor: Visitor, key: str) -> None:
    page = visitor.page
    page.goto(visitor.door.address)
    page.wait_for_selector("#login:visible")
    page.keyboard.type(key)  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector("#nav:visible")
    visitor.until("document.activeElement.name === 'message'")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    assert "tokens read" in visitor.status("chat")
    assert page.inner_text("#chat .user .written") == "one\ntwo"
    page.focus("#nav a[href='#summarize']")
    page.keyboard.press("Enter")
    visitor.until("document.activeElement.name === 'text'")
    visitor.quiet()


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


def test_what_goes_wrong_is_said(visitor: Visitor, key: str) -> None:
    page = visitor.page
    visitor.log_in(key)
    page.context.set_offline(True)
    visitor.send("chat", message="again")
    page.wait_for_selector("#chat .error:not(:empty)")
    assert "does not answer" in page.inner_text("#chat .error")
    assert page.input_value("#chat [name=message]") == "again"  # nothing came of it: it can be sent again
    assert page.locator("#chat .turns li").count() == 0
    page.context.set_offline(False)
    visitor.send("chat", message=fake.BREAKS)
    visitor.status("chat")
    assert "The model failed" in page.inner_text("#chat .error")
    assert page.inner_text("#chat .assistant .written")  # what came before stays
    visitor.send("answer", question="x" * 5000)
    page.wait_for_selector("#answer .error:not(:empty)")
    assert page.get_by_role("alert").inner_text()
    visitor.send("summarize", text="x")
    assert visitor.status("summarize") == "Done." and page.inner_text("#summarize .error") == ""
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
        visitor.send("answer", question="When is parking free?")
        assert visitor.status("answer") == "Done."
        assert "<b onclick=x>on Sundays</b>" in page.inner_text("#answer blockquote")
        assert page.inner_text("#answer cite").endswith("parking.txt:1")
        page.select_option("#answer [name=model]", "demo")
        page.select_option("#answer [name=index]", "handbook")
        page.click("#answer .start")
        assert visitor.status("answer") == "Done."
        assert page.inner_text("#answer .written") == "Park"
        visitor.quiet()
        page.close()
