"""The handbook at /handbook: every page in both languages, read-only, and text that can do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from shuyuan.handbook import load_bank
from shuyuan.serve import handbook
from shuyuan.serve.pages import POLICY
from shuyuan.serve.routes import OPEN, ROUTES
from tests.serve.running import Door, running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with running(tmp_path_factory.mktemp("state")) as opened:
        yield opened


def test_every_question_is_listed_and_shown_in_both_languages(door: Door) -> None:
    for language in ("en", "zh"):
        index = door.ask("GET", f"/handbook?language={language}")
        assert index.status == 200 and index.headers["content-security-policy"] == POLICY
        listed = re.findall(r'href="/handbook/([a-z0-9-]+)\?language=' + language, index.body.decode())
        assert listed == list(load_bank())
        for name, question in load_bank().items():
            answer = door.ask("GET", f"/handbook/{name}?language={language}")
            text = answer.body.decode()
            assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")
            assert (
                f'<html lang="{language}">' in text
                and f"?language={'en' if language == 'zh' else 'zh'}" in text
            )
            assert re.sub(r"[`&].*", "", question.facts.title[language])[:12] in text
            assert "<table>" in text and "<script" not in text and "{{" not in text
            for place in re.findall(r'href="([^"]*)"', text):
                known = place.startswith(("https://", "/web/", "#")) or place == "/"
                found = re.fullmatch(r"/handbook(?:/([a-z0-9-]+))?\?language=(en|zh)(#.*)?", place)
                assert known or (found and (found[1] is None or found[1] in load_bank())), place


def test_a_browser_gets_its_language(door: Door) -> None:
    asked = door.ask("GET", "/handbook", headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"})
    assert '<html lang="zh">' in asked.body.decode() and asked.headers["vary"] == "Accept-Language"
    assert '<html lang="en">' in door.ask("GET", "/handbook").body.decode()


def test_what_is_not_there_is_said(door: Door) -> None:
    for path in ("/handbook/nothing", "/handbook/..%2f..%2fetc%2fpasswd", "/handbook/lora.md"):
        assert door.ask("GET", path).status == 404
    assert door.ask("GET", "/handbook/nothing").code == "serve.no-question"
    assert door.ask("GET", "/handbook?language=fr").status == 400


def test_it_is_read_only() -> None:
    there = {(method, path): roles for (method, path), roles in ROUTES.items() if "handbook" in path}
    assert there == {("GET", "/handbook"): OPEN, ("GET", "/handbook/{question}"): OPEN}


def test_tags_in_a_page_are_text() -> None:
    page = handbook._whole(
        "# <script>alert(1)</script>\n\n[x](javascript:alert(1))", "<b>", "/handbook", "en"
    )
    assert "<script" not in page and 'href="javascript' not in page and "<title>&lt;b&gt;" in page
