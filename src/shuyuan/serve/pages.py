"""The pages for browsers: files of this package, which load nothing from elsewhere and run no other script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from .door import Guarded

# `trusted-types 'none'`: no script can make HTML of a text, not even by mistake.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
KINDS: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOLDER = Path(__file__).parent / "web"
router = APIRouter(route_class=Guarded)


def _page(file: Path) -> Callable[[], Awaitable[Response]]:
    content = file.read_bytes()

    async def page() -> Response:
        """A file of the pages for browsers."""
        return Response(content, media_type=KINDS[file.suffix], headers={"Content-Security-Policy": POLICY})

    return page


for _file in sorted(_FOLDER.iterdir()):
    _path = "/" if _file.name == "index.html" else f"/web/{_file.name}"
    router.get(
        _path,
        summary=_file.name,
        responses={200: {"content": {KINDS[_file.suffix]: {}}}},
        response_class=Response,
    )(_page(_file))
