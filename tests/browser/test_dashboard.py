"""The dashboard: what people see and do with it, by keyboard, on a phone and in the dark, and that nothing of an
upstream becomes more than text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from shared.models import make_spec
from tests.browser.conftest import NewPage
from tests.browser.upstreams import XSS, Hostile, Hotel
from tests.clients import RawClient
from tests.fleet import ROOT, Fleet, eventually
from tests.machine import scaled
from tests.servers.scripted import Scripted

AXE = ROOT / "tests/node/node_modules/axe-core/axe.min.js"
TOKEN = "the admin's own token"
MADE = """() => {
    const bad = 'main script, main iframe, main object, main b, [onerror], [onload], [onmouseover]';
    return {
        images: [...document.querySelectorAll('main img')].map(one => one.src),
        bad: document.querySelectorAll(bad).length,
        links: [...document.querySelectorAll('a')].map(one => one.href).filter(one => !one.startsWith('http')),
    };
}"""
"""What markup of an upstream would make."""
PAGES = ("overview", "upstreams", "upstreams/hotel", "tools", "tools/book", "tools/evil", "events", "processes")
DOWN = {"type": "http", "url": "http://127.0.0.1:1/mcp"}


@pytest_asyncio.fixture(scope="module")
async def hotel() -> AsyncIterator[Hotel]:
    async with Hotel() as hotel:
        yield hotel


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, hotel: Hotel, browser: Any) -> AsyncIterator[Fleet]:
    async with Hostile() as hostile, Fleet(redis_url, name="city") as fleet:
        await fleet.register("hotel", hotel.connection)
        await fleet.register("evil", hostile.connection, name='<b onmouseover="alert(8)">group</b>')
        await fleet.store.register(make_spec("down", DOWN))
        await fleet.failed("down")
        yield fleet


async def _shown(page: Any) -> None:
    """Wait until a page has what it asks for first."""
    await page.get_by_text("live", exact=True).wait_for()

    async def filled() -> bool:
        return len(await page.locator("main").inner_text()) > 120

    await eventually(filled, 10.0, "the page has content")


def _at(fleet: Fleet, page: str = "overview") -> str:
    return f"{fleet.url}/ui/#/{page}"


async def test_the_root_leads_to_the_dashboard(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(fleet.url) as page:
        assert page.url == f"{fleet.url}/ui/"
        await page.get_by_role("heading", name="Overview").wait_for()
        await expect(page).to_have_title("Overview · city")
        await page.get_by_text("live", exact=True).wait_for()
    async with aiohttp.ClientSession() as session, session.get(f"{fleet.url}/ui/nothing.js") as response:
        assert response.status == 404
    async with aiohttp.ClientSession() as session, session.get(f"{fleet.url}/ui/..%2F..%2Fpages.py") as response:
        assert response.status == 404


async def test_it_is_small_and_cached(fleet: Fleet, new_page: NewPage) -> None:
    sizes: dict[str, int] = {}

    async def note(response: Any) -> None:
        sizes[response.url] = int(response.headers.get("content-length", 0))

    async with new_page("about:blank") as page:
        page.on("response", lambda response: asyncio.ensure_future(note(response)))
        await page.goto(_at(fleet))
        await page.get_by_text("Calls a second").first.wait_for()
        total = sum(size for url, size in sizes.items() if "/ui/" in url)
        assert 20_000 < total <= 200_000, sizes
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{fleet.url}/ui/main.js") as response:
            tag = response.headers["ETag"]
        async with session.get(f"{fleet.url}/ui/main.js", headers={"If-None-Match": tag}) as response:
            assert response.status == 304


async def test_the_overview_counts_calls_and_says_what_fails(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(_at(fleet)) as page, RawClient(f"{fleet.url}/mcp") as client:
        failing = page.get_by_role("heading", name="Upstreams that fail").locator("..")
        await failing.get_by_text("cannot connect").first.wait_for()
        tile = page.locator(".tile", has_text="Calls a second").locator("dd")

        async def counted() -> bool:
            await client.call("book", {"city": "Oslo"})
            return float((await tile.inner_text()).replace("–", "0")) > 0

        await eventually(counted, 15.0, "calls a second")
        row = page.get_by_role("table", name="Calls by group").get_by_role("row", name="hotel")
        await row.wait_for()
        await expect(page.locator(".chart canvas")).to_have_count(3)


async def test_an_upstream_is_found_added_followed_and_removed(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(_at(fleet, "upstreams")) as page, Scripted("fresh", "modern") as fresh:
        await page.get_by_role("link", name="hotel").wait_for()
        await page.get_by_label("Status").select_option("error")
        await page.get_by_text("1 upstream", exact=True).wait_for()
        await page.get_by_label("Status").select_option("")
        await page.get_by_role("button", name="Add an upstream").click()
        await page.get_by_label("Id", exact=True).fill("fresh/one?")
        await page.get_by_label("URL").fill(fresh.connection["url"])
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="fresh/one?").wait_for()
        await page.locator(".chip.connected").wait_for()
        await page.get_by_label("What happened to it").get_by_text("connected").wait_for()
        await page.get_by_role("button", name="Remove").click()
        await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        await page.get_by_label("Search").fill("fresh")
        await page.get_by_text("None fits.").wait_for()


async def test_a_tool_is_called_with_a_form_made_of_its_schema(fleet: Fleet, hotel: Hotel, new_page: NewPage) -> None:
    async with new_page(_at(fleet, "tools")) as page:
        await page.get_by_label("Search").fill("boo")
        await page.get_by_role("link", name="book").click()
        await page.get_by_role("button", name="Call").click()
        await page.get_by_text("is required").wait_for()
        await expect(page.locator(":focus")).to_have_attribute("aria-invalid", "true")
        await page.get_by_label("city").fill("Lima")
        await page.get_by_label("nights").fill("99")
        await page.get_by_role("button", name="Call").click()
        await page.get_by_text("must be at most 30").wait_for()
        await page.get_by_label("nights").fill("3")
        await page.get_by_label("budget").fill("12.5")
        await page.get_by_label("board").select_option("half")
        await page.get_by_label("breakfast").select_option("yes")
        await page.get_by_label("guests").fill("Ann\nBob")
        await page.get_by_label("extras").select_option(["sauna"])
        await page.get_by_label("street").fill("Main St")
        await page.get_by_label("anything").fill('{"a": [1]}')
        await page.get_by_role("button", name="Call").click()
        await page.get_by_text("The tool answered.").wait_for()
        sent = {
            "city": "Lima", "nights": 3, "budget": 12.5, "board": "half", "breakfast": True, "guests": ["Ann", "Bob"],
            "extras": ["sauna"], "address": {"street": "Main St"}, "anything": {"a": [1]},
        }  # fmt: skip
        assert hotel.got[-1]["arguments"] == sent
        await page.get_by_label("write JSON").check()
        raw = page.get_by_label("Arguments as JSON")
        assert json.loads(await raw.input_value()) == sent
        await raw.fill("{")
        await page.get_by_role("button", name="Call").click()
        await page.get_by_text("is no JSON").wait_for()
        await raw.fill('{"city": "Rome", "big": 12345678901234567890}')
        await page.get_by_role("button", name="Call").click()
        await eventually(lambda: hotel.got[-1]["arguments"].get("city") == "Rome", 10.0, "sent as it was written")
        assert hotel.got[-1]["arguments"]["big"] == 12345678901234567890


async def test_progress_is_shown_and_a_call_can_be_cancelled(fleet: Fleet, hotel: Hotel, new_page: NewPage) -> None:
    hotel.go_on.clear()
    async with new_page(_at(fleet, "tools/count")) as page:
        await page.get_by_role("button", name="Call").click()
        await page.get_by_text("2 of 4 step 2").wait_for()
        await expect(page.get_by_role("progressbar")).to_have_attribute("value", "0.5")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_text("Cancelled.").wait_for()
        await page.get_by_role("button", name="Call").click()
        await page.get_by_text("2 of 4 step 2").wait_for()
        hotel.go_on.set()
        await page.get_by_text("counted").first.wait_for()


async def test_what_a_tool_asks_is_asked(fleet: Fleet, hotel: Hotel, new_page: NewPage) -> None:
    async with new_page(_at(fleet, "tools/ask")) as page:
        await page.get_by_role("button", name="Call").click()
        await page.get_by_text("Which one?").wait_for()
        await page.get_by_label("colour").select_option("blue")
        await page.get_by_role("button", name="Answer").click()
        await page.get_by_text("you said").first.wait_for()
        assert hotel.got[-1]["inputResponses"] == {"q": {"action": "accept", "content": {"colour": "blue"}}}
        await page.get_by_role("button", name="Call").click()
        await page.get_by_role("button", name="Decline").click()
        await eventually(lambda: hotel.got[-1].get("inputResponses") == {"q": {"action": "decline"}}, 10.0, "declined")


async def test_images_are_shown_and_failures_are_said(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(_at(fleet, "tools/draw")) as page:
        await page.get_by_role("button", name="Call").click()
        image = page.get_by_role("img", name="image of the tool")
        await image.wait_for()
        await expect(image).to_have_js_property("naturalWidth", 1)
        await page.get_by_text("an image of type image/svg+xml, which is not shown").wait_for()
        await page.get_by_role("link", name="broken").click()
        await page.get_by_role("heading", name="broken").wait_for()
        await page.get_by_role("button", name="Call").click()
        await page.get_by_text("The tool says that it failed.").wait_for()


async def test_nothing_that_an_upstream_says_becomes_markup(fleet: Fleet, new_page: NewPage) -> None:
    """``new_page`` fails on a dialog, a failing script, a broken policy and a request to elsewhere."""

    async def only_text(page: Any) -> None:
        made = await page.evaluate(MADE)
        assert made == {"images": [], "bad": 0, "links": []}
        assert "\u202e" not in await page.locator("main").inner_text(), "text is not turned around"

    async with new_page(_at(fleet, "tools/evil"), expected=("404",)) as page:
        await page.get_by_role("heading", name="evil").wait_for()
        await page.get_by_text("Schema", exact=True).click()
        await only_text(page)
        await expect(page.locator("main")).to_contain_text(XSS.replace("\u202e", r"\u202e"))
        await page.get_by_role("button", name="Call").click()
        answer = page.get_by_role("button", name="Answer")
        await answer.wait_for()
        await only_text(page)
        await answer.click()
        await page.get_by_text("It wants you to open").wait_for()
        await only_text(page)
        place = page.get_by_text("Open it in a new tab")
        assert (await place.get_attribute("href") or "").startswith("https://example.com/")
        assert await place.get_attribute("rel") == "noopener noreferrer"
        await page.get_by_role("button", name="Decline").click()
        await page.get_by_text("The tool says that it failed.").wait_for()
        await page.get_by_text("Whole result as JSON").click()
        await only_text(page)
        for where in (
            "upstreams",
            "upstreams/evil",
            "overview",
            "events",
            "tools/%3Cimg%20src=x%20onerror=alert(9)%3E",
        ):
            await page.goto(_at(fleet, where))
            await _shown(page)
            await only_text(page)


async def test_the_policy_of_the_page_would_stop_a_script(fleet: Fleet, new_page: NewPage) -> None:
    """Should text become markup one day, the browser runs none of it."""
    async with new_page(
        _at(fleet), expected=("Content Security Policy", "TrustedHTML", "TrustedScript", "Trusted Type")
    ) as page:
        await page.get_by_text("live", exact=True).wait_for()
        with pytest.raises(Exception, match="TrustedHTML"):
            await page.evaluate("document.querySelector('main').innerHTML = '<img src=x onerror=\"window.ran = 1\">'")
        with pytest.raises(Exception, match="TrustedScript"):
            await page.evaluate("document.body.setAttribute('onclick', 'window.ran = 2')")
        await page.evaluate("""async () => {
            const script = document.createElement('img');
            script.src = 'http://127.0.0.1:1/elsewhere';
            document.body.append(script);
            await new Promise(done => { script.onerror = done; });
        }""")
        assert await page.evaluate("window.ran") is None


async def test_the_token_is_asked_for_and_kept_in_the_tab(redis_url: str, hotel: Hotel, new_page: NewPage) -> None:
    async with Fleet(redis_url, admin_token=TOKEN) as fleet, new_page(f"{fleet.url}/ui/", expected=("401",)) as page:
        await page.get_by_label("Admin token").fill("wrong")
        await page.keyboard.press("Enter")
        await page.get_by_text("That is not the token.").wait_for()
        await page.get_by_label("Admin token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Overview").wait_for()
        await page.get_by_text("live", exact=True).wait_for()
        assert await page.context.cookies() == []
        assert TOKEN not in await page.evaluate("JSON.stringify(localStorage) + location.href")
        await page.reload()
        await page.get_by_role("heading", name="Overview").wait_for()
        other = await page.context.new_page()
        await other.goto(f"{fleet.url}/ui/")
        await other.get_by_label("Admin token").wait_for()


async def test_the_level_of_logs_is_changed_for_all(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(_at(fleet, "processes")) as page:
        await page.get_by_role("table", name="Workers").wait_for()
        await page.get_by_label("Level of all processes").select_option("error")
        await page.get_by_text("All processes log at error now").wait_for()
        await page.get_by_role("link", name="Events").click()
        await page.get_by_text("processes log at error now").wait_for()


async def test_everything_can_be_done_by_keyboard(fleet: Fleet, hotel: Hotel, new_page: NewPage) -> None:
    async with new_page(_at(fleet)) as page:
        await page.get_by_text("live", exact=True).wait_for()

        async def tab_to(name: str) -> None:
            for _ in range(40):
                await page.keyboard.press("Tab")
                if name in await page.evaluate("document.activeElement.textContent || document.activeElement.id"):
                    return
            raise AssertionError(f"{name} is not reached")

        await tab_to("Tools")
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name="book").wait_for()
        await expect(page.locator("h1:focus"), "the page that opened has the focus").to_be_visible()
        await tab_to("draw")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="draw").wait_for()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.get_by_text("The tool answered.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_axe_finds_no_violation(fleet: Fleet, new_page: NewPage, scheme: str, width: int) -> None:
    assert AXE.exists(), "'make node' installs axe-core"
    size = {"width": width, "height": 850}
    async with new_page(_at(fleet), color_scheme=scheme, viewport=size, bypass_csp=True) as page:
        for where in PAGES:
            await page.goto(_at(fleet, where))
            await page.reload()
            await page.get_by_role("heading").first.wait_for()
            await _shown(page)
            await page.evaluate(AXE.read_text())
            found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            shown = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found["violations"]]
            assert not shown, f"{where}: {shown}"
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{where} is {wide} wide on a screen of {width}"


async def test_a_thousand_upstreams_and_ten_thousand_tools(redis_url: str, new_page: NewPage, tmp_path: Path) -> None:
    async with (
        Scripted("many", "modern", *(f"tool_{number:05}" for number in range(4900))) as many,
        Fleet(redis_url) as fleet,
    ):
        for number in range(2):
            await fleet.store.register(make_spec(f"many{number}", many.connection))
        await fleet.connected("many0", "many1")
        for start in range(0, 1000, 25):
            ids = [f"off{number:04}" for number in range(start, start + 25)]
            await asyncio.gather(*(fleet.store.register(make_spec(id, DOWN)) for id in ids))

        async with new_page(_at(fleet, "tools")) as page:
            await page.get_by_text("9,800 tools", exact=True).wait_for()
            await page.locator(".virtual").evaluate("one => one.scrollTo(0, one.scrollHeight)")
            await expect(page.locator(".virtual li").last).to_contain_text("tool_04899")
            assert await page.locator(".virtual li").count() < 100
            await page.get_by_label("Search").fill("tool_04321")
            await page.get_by_text("2 tools", exact=True).wait_for()
            await page.goto(_at(fleet, "upstreams"))
            await page.get_by_text("1,002 upstreams", exact=True).wait_for()
            await page.locator(".virtual").evaluate("one => one.scrollTo(0, one.scrollHeight)")
            await expect(page.locator(".virtual li").last).to_contain_text("off0999")
            assert await page.locator(".virtual li").count() < 100
            took_ms = await page.evaluate("""async () => {
                const wait = () => new Promise(done => requestAnimationFrame(done));
                let longest = 0, last = performance.now();
                for (let at = 0; at < 60; at += 1) {
                    document.querySelector('.virtual').scrollBy(0, -400);
                    await wait();
                    longest = Math.max(longest, performance.now() - last);
                    last = performance.now();
                }
                return longest;
            }""")
            assert took_ms < scaled(1000), f"a frame took {took_ms} ms"
