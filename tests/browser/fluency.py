"""Measures the dashboard with 1,000 upstreams and 10,000 tools, in Chromium: ``python -m tests.browser.fluency``.

Time to load: from the start of the navigation to the first row, in a fresh profile. Scrolling: the time between frames
while the list goes by from top to bottom, which is 17 ms where nothing is late.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
from playwright.async_api import async_playwright

from shared.models import make_spec
from tests.browser.conftest import CHROMIUM, SIZE
from tests.browser.screenshots import DOWN, own_redis
from tests.fleet import Fleet
from tests.servers.scripted import Scripted

SCROLL = """async (what) => {
    const place = what ? document.querySelector(what) : document.scrollingElement;
    const frame = () => new Promise(done => requestAnimationFrame(done));
    const took = [], step = (place.scrollHeight - place.clientHeight) / 240;
    let last = await frame();
    for (let at = 1; at <= 240; at += 1) {
        place.scrollTo(0, at * step);
        const now = await frame();
        took.push(now - last);
        last = now;
    }
    took.sort((one, other) => one - other);
    return [took[120], took[228], took[239]].map(one => Math.round(one));
}"""


async def _loaded(browser: Any, url: str, row: str) -> tuple[float, Any]:
    """Return how long a page took to its first row, in ms, and the page."""
    page = await (await browser.new_context(viewport=SIZE)).new_page()
    await page.goto(url)
    took = await page.evaluate(
        """async (row) => {
            while (!document.querySelector(row)) await new Promise(done => requestAnimationFrame(done));
            return performance.now();
        }""",
        row,
    )
    return took, page


async def _measure(browser: Any, fleet: Fleet) -> None:
    pages = (("overview", ".tile dd"), ("tools", ".virtual li a"), ("upstreams", ".virtual li a"))
    async with aiohttp.ClientSession() as session:
        for path in ("me", "overview", "tools?limit=200&offset=0&schemas=false", "servers?limit=100&offset=0"):
            took = []
            for _ in range(10):
                began = asyncio.get_running_loop().time()
                async with session.get(f"{fleet.url}/admin/v1/{path}") as response:
                    await response.read()
                took.append(round((asyncio.get_running_loop().time() - began) * 1000))
            print(f"{path}: answered after {sorted(took)} ms")
    for where, row in pages:
        took = []
        for _ in range(5):
            ms, page = await _loaded(browser, f"{fleet.url}/ui/#/{where}", row)
            took.append(round(ms))
            await page.context.close()
        print(f"{where}: first row after {sorted(took)} ms")
    _, page = await _loaded(browser, f"{fleet.url}/ui/#/tools", ".virtual li a")
    print("tools, scrolling, ms between frames (half, 95 %, all within):", await page.evaluate(SCROLL, ".virtual"))
    print(
        "rows that exist:",
        await page.locator(".virtual li").count(),
        await page.locator("main .card p").all_inner_texts(),
    )
    await page.context.close()
    _, page = await _loaded(browser, f"{fleet.url}/ui/#/upstreams", ".virtual li a")
    print("upstreams, scrolling:", await page.evaluate(SCROLL, ".virtual"))


async def main() -> None:
    """Start a gateway with so many, and measure."""
    names = (f"tool_{number:05}" for number in range(5000))
    async with own_redis() as redis, Scripted("many", "modern", *names) as many, Fleet(redis) as fleet:
        for number in range(2):
            await fleet.store.register(make_spec(f"many{number}", many.connection, settings={"maxEntries": 10000}))
        await fleet.connected("many0", "many1")
        for start in range(0, 1000, 25):
            ids = [f"off{number:04}" for number in range(start, start + 25)]
            await asyncio.gather(*(fleet.store.register(make_spec(id, DOWN)) for id in ids))
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            print(f"Chromium {browser.version}, Python {sys.version.split()[0]}")
            await _measure(browser, fleet)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
