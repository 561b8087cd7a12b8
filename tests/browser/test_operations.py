"""What somebody on call does with the dashboard: drain and disable upstreams, look which calls failed and who carries
what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from shared.choices import Duty
from shared.models import ServerStatus
from tests.browser.conftest import NewPage
from tests.browser.test_dashboard import AXE, MADE
from tests.browser.upstreams import Hotel
from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.servers.scripted import Exchange, Scripted

MARKUP = "<img src=x onerror=alert(9)>"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENTS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, browser: Any) -> AsyncIterator[Fleet]:
    async def fail(exchange: Exchange) -> None:
        exchange.abort()

    async with (
        Hotel() as hotel,
        Scripted("broken", "modern", "break", MARKUP) as broken,
        Fleet(redis_url, trace_url="http://127.0.0.1:1/trace/{trace}") as fleet,
    ):
        broken.on["tools/call"] = fail
        await fleet.register("hotel", hotel.connection)
        await fleet.register("broken", broken.connection)
        yield fleet


def at(fleet: Fleet, page: str) -> str:
    return f"{fleet.url}/ui/#/{page}"


async def test_an_upstream_is_drained_disabled_and_enabled(fleet: Fleet, new_page: NewPage) -> None:
    async def is_(duty: Duty, status: ServerStatus) -> None:
        async def found() -> bool:
            record = await fleet.record("hotel")
            return record is not None and (record.duty, record.status) == (duty, status)

        await eventually(found, 15.0, f"it is {duty} and {status}")

    async with new_page(at(fleet, "upstreams/hotel")) as page:
        for verb, said, duty, status in (
            ("Drain", "It drains.", Duty.DRAINING, ServerStatus.CONNECTED),
            ("Disable", "It is disabled.", Duty.DISABLED, ServerStatus.STOPPED),
        ):
            await page.get_by_role("button", name=verb, exact=True).click()
            await page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()
            await page.get_by_text(said, exact=True).wait_for()
            await expect(page.locator(".chip.warn")).to_have_text(duty.value)
            await is_(duty, status)
            await expect(page.get_by_role("button", name=verb, exact=True)).to_have_count(0)
        await page.goto(at(fleet, "upstreams"))
        await expect(page.locator(".virtual li", has_text="hotel")).to_contain_text("disabled")
        await page.goto(at(fleet, "tools"))
        await page.get_by_text("2 tools", exact=True).wait_for()
        await page.goto(at(fleet, "upstreams/hotel"))
        await page.get_by_role("button", name="Enable", exact=True).click()
        await page.get_by_text("It takes calls.", exact=True).wait_for()
        await expect(page.locator(".chip.connected")).to_be_visible()
        await is_(Duty.ACTIVE, ServerStatus.CONNECTED)
        await expect(page.get_by_label("What happened to it")).to_contain_text("active now")


async def test_a_call_that_failed_is_found_with_its_trace(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(at(fleet, "errors")) as page, RawClient(f"{fleet.url}/mcp") as client:
        assert "error" in (await client.call("break", headers=CLIENTS)).body
        row = page.get_by_role("row", name="break")
        await expect(row.first).to_contain_text(TRACE)
        link = row.first.get_by_role("link", name=TRACE)
        await expect(link).to_have_attribute("href", f"http://127.0.0.1:1/trace/{TRACE}")
        await page.get_by_label("Trace id").fill("no such trace")
        await page.get_by_text("None fits.").wait_for()
        await page.get_by_label("Trace id").fill(TRACE)
        await expect(row.first).to_contain_text("broken")
        await page.goto(at(fleet, "upstreams/broken"))
        await expect(page.get_by_role("table", name="Failed calls")).to_contain_text(TRACE)
        await page.goto(at(fleet, "overview"))
        await expect(page.get_by_role("heading", name="Calls that failed lately")).to_be_visible()


async def test_who_carries_what_is_shown(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(at(fleet, "topology")) as page:
        worker = page.locator("article", has_text="Calls under way")
        await expect(worker).to_contain_text("2 upstreams, leads 2")
        await expect(worker.get_by_role("link", name="hotel")).to_be_visible()
        await expect(page.locator("article", has_text="Linked to").first).to_contain_text("1 of 1 workers")
        await worker.get_by_role("link", name="broken").click()
        await page.get_by_role("heading", name="broken").wait_for()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390)])
async def test_axe_finds_no_violation_and_what_a_client_says_is_text(
    fleet: Fleet, new_page: NewPage, scheme: str, width: int
) -> None:
    async with RawClient(f"{fleet.url}/mcp") as client:
        assert "error" in (await client.call(MARKUP)).body
    size = {"width": width, "height": 850}
    pages = {
        "errors": "calls that failed",
        "topology": "Calls under way",
        "upstreams": "2 upstreams",
        "settings": "traceUrl",
    }
    async with new_page(at(fleet, "errors"), color_scheme=scheme, viewport=size, bypass_csp=True) as page:
        await page.evaluate(AXE.read_text())
        for where, text in pages.items():
            await page.goto(at(fleet, where))
            await expect(page.locator("main")).to_contain_text(text)
            if where == "errors":
                await expect(page.locator("main")).to_contain_text(MARKUP)
            found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            shown = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found["violations"]]
            assert not shown, f"{where}: {shown}"
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{where} is {wide} wide on a screen of {width}"
            assert await page.evaluate(MADE) == {"images": [], "bad": 0, "links": []}, where
