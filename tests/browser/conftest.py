"""A page of Debian's Chromium that records what goes wrong in it; tests are skipped where there is no browser."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Watched:
    """A browser page with the errors of its console and every request that left this machine."""

    page: Any
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def record_console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def record_request(self, request: Any) -> None:
        local = ("file:", "data:", "blob:", "http://127.0.0.1", "ws://127.0.0.1")
        if not request.url.startswith(local):
            self.outside.append(request.url)

    def check(self) -> None:
        """No error in the console and nothing loaded from outside."""
        assert self.errors == []
        assert self.outside == []


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser; Debian: `apt-get install chromium`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[pytest.param((1280, 900), id="desktop"), pytest.param((390, 844), id="phone", marks=pytest.mark.long)])
def watched(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A page at the width of a desktop and of a phone."""
    width, height = request.param
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(120_000)
    watched = Watched(page)
    page.on("console", watched.record_console)
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on("request", watched.record_request)
    yield watched
    page.close()
