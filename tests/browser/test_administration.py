"""What people change with the dashboard, what they may not, and that what upstreams say stays text there as well."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.conftest import NewPage
from tests.browser.test_dashboard import AXE, MADE
from tests.browser.upstreams import XSS
from tests.e2e.test_access import As
from tests.fleet import Fleet, eventually, script_connection
from tests.servers.raw import RawUpstreams

TOKEN = "the admin's own token"
RULES = {
    "authentication": [{"type": "apiKey"}],
    "anonymous": True,
    "roles": {"eyes": {"admin": "read"}, "hands": {"admin": "write"}, "user": {"allow": ["*"]}},
    "audit": {},
}
PAY: dict[str, Any] = {"name": "pay", "description": "Pay a bill.", "inputSchema": {"type": "object"}}
NAME = "<img src=x onerror=alert(9)>"
EVIL: dict[str, Any] = {"name": NAME, "description": XSS, "inputSchema": {"type": "object", "title": XSS}}
CHILD = """
import json, os, sys
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m: continue
    if m["method"] == "initialize":
        r = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "c", "version": ""}}
    elif m["method"] == "tools/list":
        r = {"tools": [{"name": "pid%d" % os.getpid(), "inputSchema": {"type": "object"}}]}
    else: r = {}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
PAGES = {
    "upstreams/bank": "are as they were approved",
    "virtual": "support",
    "virtual/support": "As it is written",
    "sessions": "sessions",
    "audit": "admin token",
    "access": "Why may somebody use a tool?",
    "processes": "serves",
    "errors": "No call has failed lately.",
    "topology": "Calls under way",
    "settings": "adminToken",
}
"""Pages, and what is there once they have what they ask for first."""


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams, browser: Any) -> AsyncIterator[Fleet]:
    upstreams.add("bank", [PAY, {**EVIL, "name": "evil"}, EVIL])
    settings = {"refresh_interval_s": 0.3, "health_check_interval_s": 0.3, "admin_token": TOKEN}
    async with Fleet(redis_url, access_rules=json.dumps(RULES), **settings) as fleet:
        await fleet.register("bank", upstreams.connection("bank"), pin="block")
        await admin(fleet, "PUT", "virtual-servers/support", {"tools": ["bank/*"], "instructions": XSS})
        yield fleet


async def admin(fleet: Fleet, method: str, path: str, body: Any = None) -> Any:
    """Ask the admin API with its token."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, f"{fleet.url}/admin/v1/{path}", json=body) as response,
    ):
        assert response.status < 300, await response.text()
        return await response.json() if response.status != 204 else None


async def enter(page: Any, token: str = TOKEN) -> None:
    """Give the token that a page asks for."""
    await page.get_by_label("Admin token").fill(token)
    await page.keyboard.press("Enter")
    await page.get_by_text("live", exact=True).wait_for()


def at(fleet: Fleet, page: str) -> str:
    return f"{fleet.url}/ui/#/{page}"


async def test_an_upstream_is_changed_and_begun_anew(fleet: Fleet, new_page: NewPage) -> None:
    await fleet.register("child", script_connection(CHILD))
    async with new_page(at(fleet, "upstreams/child"), expected=("401", "400")) as page:
        await enter(page)
        await page.get_by_role("button", name="Change").click()
        box = page.get_by_role("dialog")
        await box.get_by_label("Weight").fill("0")
        await box.get_by_role("button", name="Save").click()
        await expect(box.get_by_role("alert"), "what is wrong is said").to_contain_text("1 to 1000")
        await box.get_by_label("Weight").fill("7")
        await box.get_by_label("Hide these tools").fill("x*\n y ")
        await box.get_by_role("button", name="Save").click()
        await expect(page.locator(".facts")).to_contain_text("x*, y")
        record = await fleet.record("child")
        assert record is not None
        assert (record.spec.weight, record.spec.exclude_tools) == (7, ("x*", "y"))
        assert record.spec.connection.public()["command"], "the connection is as it was"
        tool = page.locator("li strong").first
        await tool.wait_for()
        before = await tool.inner_text()
        await page.get_by_role("button", name="Restart").click()
        await page.get_by_role("dialog").get_by_role("button", name="Restart").click()
        await expect(tool, "another process lists its own pid").not_to_have_text(before)
        await expect(page.get_by_label("What happened to it")).to_contain_text("restart")
    await admin(fleet, "DELETE", "servers/child")


async def test_changed_tools_are_looked_at_approved_and_quarantined(
    fleet: Fleet, upstreams: RawUpstreams, new_page: NewPage
) -> None:
    bank = upstreams.endpoints["bank"]
    key = await caller(fleet)

    async def listed() -> list[str]:
        async with As(f"{fleet.url}/mcp", key) as client:
            return await client.tools()

    bank.tools = [{**PAY, "description": f"Pay a bill. {XSS}"}, *bank.tools[1:]]
    await eventually(lambda: _without(listed, "pay"), 15.0, "the changed tool is held back")
    async with new_page(at(fleet, "upstreams/bank"), expected=("401", "409")) as page:
        await enter(page)
        await page.get_by_text("1 of 3 are not as they were approved").wait_for()
        await page.get_by_role("button", name="Look at pay").click()
        box = page.get_by_role("dialog")
        await expect(box.locator("del")).to_have_text('−   "description": "Pay a bill.",\n')
        await expect(box.locator("ins")).to_contain_text("<script>alert(2)</script>")
        bank.tools = [{**PAY, "description": "Pay two bills."}, *bank.tools[1:]]
        wanted = {"digest": ""}
        seen = (await admin(fleet, "GET", "servers/bank/pins/pay"))["digest"]

        async def other() -> bool:
            wanted["digest"] = (await admin(fleet, "GET", "servers/bank/pins/pay"))["digest"]
            return bool(wanted["digest"] != seen)

        await eventually(other, 15.0, "the gateway has seen the next definition")
        await box.get_by_role("button", name="Approve").click()
        await expect(box.get_by_role("alert"), "nobody approves what they have not seen").to_contain_text("another")
        await expect(box.locator("ins")).to_contain_text("Pay two bills.")
        await box.get_by_role("button", name="Approve").click()
        await page.get_by_text("All 3 are as they were approved").wait_for()
        assert "pay" in await listed()
        await page.get_by_role("button", name="Look at pay").click()
        await box.get_by_role("button", name="Quarantine").click()
        await page.get_by_role("dialog", name="Quarantine pay?").get_by_role("button", name="Quarantine").click()
        await page.get_by_role("row", name="pay new quarantined never").wait_for()
        await eventually(lambda: _without(listed, "pay"), 15.0, "the quarantined tool is held back")
        await page.get_by_role("button", name="Look at pay").click()
        await box.get_by_role("button", name="Approve").click()
        await page.get_by_text("All 3 are as they were approved").wait_for()


async def _without(listed: Any, name: str) -> bool:
    return name not in await listed()


async def caller(fleet: Fleet) -> str:
    """The key of a client that may use everything."""
    made = await admin(fleet, "GET", "keys")
    if any(one["name"] == "caller" for one in made):
        await admin(fleet, "DELETE", "keys/caller")
    made = await admin(fleet, "POST", "keys", {"name": "caller", "roles": ["user"]})
    return str(made["key"])


async def test_a_virtual_server_is_made_changed_and_removed(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(at(fleet, "virtual"), expected=("401", "400")) as page:
        await enter(page)
        await page.get_by_role("button", name="Make a virtual server").click()
        box = page.get_by_role("dialog")
        await box.get_by_label("Name").fill("payments")
        await box.get_by_label("What it shows").fill('{"tools": ["bank/pay"], "mistake": 1}')
        await box.get_by_role("button", name="Save").click()
        await expect(box.get_by_role("alert")).to_contain_text("mistake")
        await box.get_by_label("What it shows").fill('{"tools": ["bank/pay"]}')
        await box.get_by_role("button", name="Save").click()
        await page.get_by_role("heading", name="payments").wait_for()
        await page.get_by_text(f"{fleet.url}/servers/payments/mcp").wait_for()
        await page.get_by_role("button", name="Change").click()
        await box.get_by_label("What it shows").fill('{"tools": ["bank/*", "!bank/pay"]}')
        await box.get_by_role("button", name="Save").click()
        await page.get_by_role("listitem").get_by_text("evil", exact=True).wait_for()
        await page.get_by_role("button", name="Remove").click()
        await box.get_by_role("button", name="Remove").click()
        await page.get_by_role("heading", name="Virtual servers").wait_for()
        await expect(page.get_by_role("link", name="payments")).to_have_count(0)
        await page.get_by_role("link", name="support", exact=True).wait_for()


async def test_a_key_is_made_shown_once_and_revoked_and_rules_are_explained(fleet: Fleet, new_page: NewPage) -> None:
    async with new_page(at(fleet, "access"), expected=("401",)) as page:
        await enter(page)
        await expect(page.locator(".facts").first).to_contain_text("admin token")
        await page.get_by_role("button", name="Make a key").click()
        box = page.get_by_role("dialog")
        await box.get_by_label("Name").fill("ci")
        await box.get_by_label("Roles").select_option(["user"])
        await box.get_by_label("Expires").fill("90d")
        await box.get_by_role("button", name="Make it").click()
        field = page.get_by_role("dialog", name="The key of ci").get_by_label("Key")
        await expect(field).to_be_focused()
        key = await field.input_value()
        async with As(f"{fleet.url}/mcp", key) as client:
            assert (await client.modern("tools/list")).status == 200
            await page.get_by_role("button", name="Close").click()
            row = page.get_by_role("row", name="ci user")
            await row.wait_for()
            assert key not in await page.content()
            await page.get_by_label("Principal").fill("key:ci")
            await page.get_by_label("Tool").fill("evil")
            await page.get_by_role("button", name="Explain").click()
            await page.get_by_text("allowed", exact=True).wait_for()
            await row.get_by_role("button", name="Revoke").click()
            await box.get_by_role("button", name="Revoke").click()
            await expect(row).to_have_count(0)
            assert (await client.modern("tools/list")).status == 401


async def test_the_audit_log_is_followed_and_filtered_and_sessions_are_ended(fleet: Fleet, new_page: NewPage) -> None:
    async with (
        As(f"{fleet.url}/mcp", await caller(fleet)) as client,
        new_page(at(fleet, "audit"), expected=("401",)) as page,
    ):
        await enter(page)
        await page.get_by_label("Principal").fill("key:caller")
        await page.get_by_label("Event", exact=True).select_option("call")
        await client.call(NAME, {})
        await page.get_by_role("row", name="key:caller tools/call").first.wait_for()
        assert await page.evaluate(MADE) == {"images": [], "bad": 0, "links": []}
        await page.get_by_label("Outcome").fill("no such outcome")
        await page.get_by_text("Nothing that fits").wait_for()
        await client.initialize()
        await page.get_by_role("link", name="Sessions").click()
        row = page.get_by_role("row", name="key:caller")
        await row.get_by_role("button", name="End").click()
        await page.get_by_role("dialog").get_by_role("button", name="End it").click()
        await expect(row).to_have_count(0)
        assert (await client.legacy("tools/list")).status == 404


async def test_who_may_only_read_sees_everything_and_nothing_to_press(fleet: Fleet, new_page: NewPage) -> None:
    key = (await admin(fleet, "POST", "keys", {"name": "watcher", "roles": ["eyes"]}))["key"]
    async with new_page(at(fleet, "upstreams/bank"), expected=("401",)) as page:
        await enter(page, key)
        await expect(page.locator("#who")).to_have_text("key:watcher, read only")
        await page.get_by_role("button", name="Look at evil").click()
        await expect(page.get_by_role("dialog").get_by_role("button")).to_have_text(["Close"])
        await page.keyboard.press("Escape")
        allowed = {"Theme: auto", "Look", "Explain", "Forget the token", "Call", "Cancel"}
        others = {"upstreams": "1 upstream", "tools/evil": "Where a call would go", "events": "hold still"}
        for where, text in {**PAGES, **others}.items():
            await page.goto(at(fleet, where))
            await expect(page.locator("main")).to_contain_text(text)
            shown = await page.locator("button:visible").all_inner_texts()
            assert set(shown) <= allowed, where
    await admin(fleet, "DELETE", "keys/watcher")


async def test_a_role_with_admin_rights_may_change_things_and_is_refused_commands(
    fleet: Fleet, new_page: NewPage
) -> None:
    key = (await admin(fleet, "POST", "keys", {"name": "doer", "roles": ["hands"]}))["key"]
    async with new_page(at(fleet, "access"), expected=("401",)) as page:
        await enter(page, key)
        await expect(page.locator("#who")).to_have_text("")
        await expect(page.locator(".facts").first).to_contain_text("key:doer")
        await page.get_by_role("link", name="Upstreams").click()
        await page.get_by_role("button", name="Add an upstream").click()
        await expect(page.get_by_role("dialog")).to_contain_text("gateway servers add")
        await expect(page.get_by_label("Or a command")).to_have_count(0)
    await admin(fleet, "DELETE", "keys/doer")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_axe_finds_no_violation_and_nothing_is_markup(
    fleet: Fleet, new_page: NewPage, scheme: str, width: int
) -> None:
    async def checked(page: Any, where: str) -> None:
        found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        shown = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found["violations"]]
        assert not shown, f"{where}: {shown}"
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{where} is {wide} wide on a screen of {width}"
        assert await page.evaluate(MADE) == {"images": [], "bad": 0, "links": []}, where

    size = {"width": width, "height": 850}
    expected = ("401",)
    async with new_page(at(fleet, "overview"), expected, color_scheme=scheme, viewport=size, bypass_csp=True) as page:
        await enter(page)
        await page.evaluate(AXE.read_text())
        for where, text in PAGES.items():
            await page.goto(at(fleet, where))
            await expect(page.locator("main")).to_contain_text(text)
            await checked(page, where)
        await page.goto(at(fleet, "upstreams/bank"))
        for button in ("Look at evil", "Change", "Restart", "Remove"):
            await page.get_by_role("button", name=button).click()
            await page.get_by_role("dialog").get_by_role("button").last.wait_for()
            await checked(page, button)
            await page.keyboard.press("Escape")
            await expect(page.get_by_role("dialog")).to_have_count(0)
