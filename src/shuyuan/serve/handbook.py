"""The handbook for browsers, read-only: pages of text. No code of a page, and none of a reader, is ever run here."""

from __future__ import annotations

import html
import re
from functools import cache
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from markdown_it import MarkdownIt
from starlette.responses import HTMLResponse, Response

from ..errors import ServeError
from ..handbook import contents, load_bank, page
from ..handbook.quantity import Language
from ..handbook.words import LANGUAGES, say
from .completions import ERRORS
from .door import Guarded
from .pages import POLICY

NAMES: Final[dict[Language, str]] = {"en": "English", "zh": "中文"}
_LINK = re.compile(r'href="([a-z0-9-]+)\.md(#[^"]*)?"')
_ELSEWHERE = re.compile(
    r'<a href="\.\./[^"]*">(.*?)</a>', re.DOTALL
)  # pages of the documentation, which are not served
PAGES: Final[dict[int | str, dict[str, Any]]] = {**ERRORS, 200: {"content": {"text/html": {}}}}
router = APIRouter(route_class=Guarded)
Asked = Annotated[Language | None, Query()]
Spoken = Annotated[str, Header(alias="accept-language")]


@router.get("/handbook", responses=PAGES, response_class=Response, summary="The questions of the handbook")
def questions(language: Asked = None, spoken: Spoken = "") -> HTMLResponse:
    """The list of questions, in English or Chinese."""
    return _answer(_index(language or _language(spoken)))


@router.get(
    "/handbook/{question}", responses=PAGES, response_class=Response, summary="One page of the handbook"
)
def one(question: str, language: Asked = None, spoken: Spoken = "") -> HTMLResponse:
    """The page of a question, in English or Chinese."""
    if question not in load_bank():
        raise ServeError(
            "serve.no-question",
            "The handbook has no such question.",
            status=404,
            mend="GET /handbook lists them.",
        )
    return _answer(_page(question, language or _language(spoken)))


def _language(spoken: str) -> Language:
    """What a browser asks for first."""
    return "zh" if spoken.strip().lower().startswith("zh") else "en"


def _answer(text: str) -> HTMLResponse:
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY, "Vary": "Accept-Language"})


@cache
def _index(language: Language) -> str:
    return _whole(
        contents(load_bank().values(), language), say(language, "index-title"), "/handbook", language
    )


@cache
def _page(question: str, language: Language) -> str:
    asked = load_bank()[question]
    back = f"[{say(language, 'index-title')}](/handbook?language={language})\n\n"
    return _whole(
        back + page(asked, language), asked.facts.title[language], f"/handbook/{question}", language
    )


def _whole(markdown: str, title: str, path: str, language: Language) -> str:
    """A page of HTML; tags inside the text are shown, and not obeyed."""
    body: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = _LINK.sub(rf'href="/handbook/\1?language={language}\2"', body)
    body = _ELSEWHERE.sub(r"\1", body)
    others = " ".join(
        f'<a href="{path}?language={other}" hreflang="{other}" lang="{other}">{NAMES[other]}</a>'
        for other in LANGUAGES
        if other != language
    )
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{html.escape(title)} · Shuyuan</title>\n'
        '<link rel="icon" href="/web/icon.svg">\n<link rel="stylesheet" href="/web/page.css">\n</head>\n<body>\n'
        '<header><p class="mark"><img src="/web/icon.svg" alt="" width="28" height="28"><a href="/">Shuyuan</a></p>'
        f'<div class="switches">{others}</div></header>\n<main class="text">\n{body}</main>\n</body>\n</html>\n'
    )
