"""Chromium, once for all tests here, and pages that fail a test when a script fails or the policy is broken."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from tests.machine import scaled

SIZE = {"width": 1280, "height": 900}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_BAD = ("error", "warning")
NewPage = Callable[..., AbstractAsyncContextManager[Any]]


def _is_foreign(url: str) -> bool:
    """Whether it is anything but a gateway of the tests, or what markup of a hostile upstream would load."""
    return not url.startswith(("http://127.0.0.1:", "data:")) or url.endswith("/x")


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Any]:
    """A headless Chromium."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("there is no chromium: 'make browser' installs it")
    assert CHROMIUM is not None, "in CI 'make browser' has to install chromium"
    async with async_playwright() as playwright:
        # The sandbox needs user namespaces, which containers rarely have; what is shown here is ours.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--force-device-scale-factor=1", "--hide-scrollbars"]
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        await chromium.close()


@pytest.fixture
def new_page(browser: Any) -> NewPage:
    """Opens pages. What goes wrong in one fails the test: an exception of a script, or anything that the policy forbids
    or the page says as an error."""

    @asynccontextmanager
    async def opened(url: str, expected: tuple[str, ...] = (), **options: Any) -> AsyncIterator[Any]:
        context = await browser.new_context(**{"viewport": SIZE, "locale": "en-GB", **options})
        context.set_default_timeout(scaled(10.0) * 1000)
        expect.set_options(timeout=scaled(10.0) * 1000)
        page = await context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(f"script: {error}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("console", lambda said: problems.append(f"console: {said.text}") if said.type in _BAD else None)
        page.on("request", lambda sent: problems.append(f"asked {sent.url}") if _is_foreign(sent.url) else None)
        try:
            await page.goto(url)
            yield page
        finally:
            await context.close()
        left = [one for one in problems if not any(word in one for word in expected)]
        assert not left, left

    return opened
