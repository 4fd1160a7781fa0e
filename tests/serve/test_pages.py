"""The pages in a real browser: who works with them, and what a model writes, which is text and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shuyuan.serve.pages import KINDS, POLICY
from shuyuan.serve.routes import ROUTES
from tests.chromium import FAINT
from tests.serve import fake
from tests.serve.running import Door, running
from tests.serve.visitor import Visitor

pytestmark = pytest.mark.browser
STEP_SECONDS = 0.005
FOLDER = Path(fake.__file__).parents[2] / "src/shuyuan/serve/web"
ATTACK = (
    "<script>document.title='taken'</script><img src=http://127.0.0.1:1/a onerror=document.title='taken'>"
    "<a href=http://127.0.0.1:1/b>x</a><style>*{display:none}</style> ![i](http://127.0.0.1:1/c) "
    "\u202eright\u202c \x1b[2J \x00 \u2066z [l](javascript:document.title='taken') <http://127.0.0.1:1/d>"
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = [fake.model("demo"), fake.model("labels", "sentiment")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake, "CONTEXT", 4096)
        with running(tmp_path_factory.mktemp("state"), models, seconds=STEP_SECONDS) as opened:
            yield opened


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


def test_chinese_errors_are_errors_that_there_are() -> None:
    """And what everyone meets first, a text that is too long, is told in Chinese."""
    documented = re.findall(r"^\| `([a-z.-]+)`", (FOLDER.parents[3] / "docs/errors.md").read_text(), re.M)
    told = set(re.findall(r'"error\.([a-z]+\.[a-z-]+)"', (FOLDER / "words.js").read_text()))
    assert told <= set(documented)
    assert {"inference.too-long", "serve.too-long", "serve.no-key", "run.other-task"} <= told


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
