"""A visitor of the module's own server, and a key for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.running import Door
from tests.serve.visitor import Visitor


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
