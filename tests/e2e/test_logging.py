"""Log messages: never more than a client asked for, whoever shares the upstream's session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, stdio_connection

GROUPS = ["legacy", "modern", "old", "local", "local-legacy"]
LEVEL = "io.modelcontextprotocol/logLevel"


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with (
        SdkServer("http", "legacy") as legacy,
        SdkServer("http", "modern") as modern,
        SdkServer("sse", "old") as sse,
        Fleet(redis_url, 2, 2) as fleet,
    ):
        await fleet.register("legacy", legacy.connection, era="legacy")
        await fleet.register("modern", modern.connection, era="modern")
        await fleet.register("old", sse.connection)
        await fleet.register("local", stdio_connection("local"), era="modern")
        await fleet.register("local-legacy", stdio_connection("local-legacy"), era="legacy")
        yield fleet


def logged(answer: Any) -> list[str]:
    return [m["params"]["level"] for m in answer.messages if m.get("method") == "notifications/message"]


@pytest.mark.parametrize("group", GROUPS)
async def test_a_modern_client_hears_what_its_request_asked_for(fleet: Fleet, group: str) -> None:
    async with RawClient(fleet.url + "/mcp") as client:
        tool = f"{group}__logs"
        assert logged(await client.call(tool)) == []
        assert logged(await client.call(tool, meta={LEVEL: "error"})) == []
        assert "info" in logged(await client.call(tool, meta={LEVEL: "debug"}))
        assert "debug" not in logged(await client.call(tool, meta={LEVEL: "info"}))
        assert logged(await client.call(tool)) == []
        refused = await client.call(tool, meta={LEVEL: "loud"})
        assert (refused.status, refused.error["code"]) == (400, -32602)


@pytest.mark.parametrize("group", GROUPS)
async def test_a_legacy_session_hears_from_the_level_it_set(fleet: Fleet, group: str) -> None:
    async with RawClient(fleet.urls[0]) as client, RawClient(fleet.urls[1]) as loud:
        tool = f"{group}__logs"
        await client.initialize()
        await loud.initialize()
        assert (await loud.legacy("logging/setLevel", {"level": "debug"})).body["result"] == {}
        await loud.legacy_call(tool)
        assert (await client.legacy("logging/setLevel", {"level": "error"}, url=fleet.urls[1])).body["result"] == {}
        answer = await client.legacy_call(tool)
        if group in ("local", "local-legacy", "modern"):
            assert logged(answer) == []
        # An SDK server ignores setLevel on a session of its own: what it sends there is its business.
        assert answer.content == "logged"


async def test_a_level_counts_at_every_front_end_once_it_is_set(fleet: Fleet) -> None:
    """Also right after the answer, where the upstream session is not the client's own."""
    async with RawClient(fleet.urls[0]) as client:
        await client.initialize()
        await client.legacy_call("modern__logs", url=fleet.urls[1])
        for _ in range(15):
            for level, heard in (("error", []), ("debug", ["debug", "info"])):
                await client.legacy("logging/setLevel", {"level": level})
                assert logged(await client.legacy_call("modern__logs", url=fleet.urls[1])) == heard
