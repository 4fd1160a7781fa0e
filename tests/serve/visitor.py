"""Somebody with a browser at the pages of a server."""

from __future__ import annotations

from typing import Any

from tests.serve.running import Door


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
