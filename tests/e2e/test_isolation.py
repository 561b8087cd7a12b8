"""Whose upstream session is it: clients never see each other's state, and what ended clients had is closed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, alive, eventually, stdio_connection
from tests.machine import stretched


async def pid(client: RawClient, url: str | None = None) -> int:
    return int((await client.legacy_call("who", url=url)).content.split(":")[1])


async def test_each_client_has_a_child_of_its_own_that_ends_with_its_session(redis_url: str) -> None:
    async with Fleet(redis_url, 2, 2) as fleet:
        await fleet.register("own", stdio_connection("own"), isolation="client")
        async with RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[1]) as other:
            await one.initialize()
            await other.initialize()
            first, second = await asyncio.gather(pid(one), pid(other))
            assert first != second
            assert await pid(one, fleet.urls[1]) == first, "the same child at any front end"
            assert [(await one.legacy_call("count")).content for _ in range(2)] == ["1", "2"]
            assert (await other.legacy_call("count")).content == "1", "a state of its own"
            async with one.session.delete(fleet.urls[1], headers=one.legacy_headers()) as response:
                assert response.status == 200
            await eventually(lambda: not alive(first), 10.0, "the child of the ended session is gone")
            assert alive(second) and await pid(other) == second


async def test_a_client_without_a_session_borrows_one_and_no_state_is_left_of_another(redis_url: str) -> None:
    async with SdkServer("http", "web") as server, Fleet(redis_url, 1, 1) as fleet:
        await fleet.register("web", server.connection, era="legacy")
        async with RawClient(fleet.urls[0]) as modern:
            answers = await asyncio.gather(*(modern.call("echo", {"text": str(n)}) for n in range(20)))
            assert [answer.content for answer in answers] == [str(n) for n in range(20)]


async def test_sessions_are_limited_with_a_clear_error_and_closed_when_idle(redis_url: str) -> None:
    settings: dict[str, Any] = {"max_upstream_sessions": 2, "upstream_session_idle_s": 1.0}
    async with Fleet(redis_url, 1, 1, **settings) as fleet:
        await fleet.register("own", stdio_connection("own"), isolation="client")
        clients = [RawClient(fleet.urls[0]) for _ in range(3)]
        try:
            for client in clients:
                await client.initialize()
            children = [await pid(client) for client in clients[:2]]
            refused = await clients[2].legacy_call("who")
            assert refused.error["data"]["code"] == "overloaded", refused.body
            assert "maxUpstreamSessions" in refused.error["message"]
            await eventually(lambda: not any(map(alive, children)), 15.0, "idle children are closed")
            assert await pid(clients[2]) not in children
            assert await pid(clients[0]) not in children, "an idle client's next call opens another one"
        finally:
            for client in clients:
                await client.session.close()


async def test_a_session_lives_on_where_it_is_used_although_another_front_end_has_forgotten_it(redis_url: str) -> None:
    async with Fleet(redis_url, 2, 1, session_ttl_s=stretched(4.0), stream_keepalive_s=0.5) as fleet:
        await fleet.register("own", stdio_connection("own"), isolation="client")
        async with RawClient(fleet.urls[0]) as client, RawClient(fleet.urls[0]) as listener:
            await client.initialize()
            await listener.initialize()
            headers = {**listener.legacy_headers(), "Accept": "text/event-stream"}
            async with listener.session.get(fleet.urls[1], headers=headers) as stream:
                assert stream.status == 200
                child = await pid(client)
                # More than two life times, all of them at the other front end.
                until = time.monotonic() + 2.25 * fleet.settings.sessions.session_ttl_s
                while time.monotonic() < until:
                    assert await pid(client, fleet.urls[1]) == child
                assert await pid(client) == child, "the first one knows it again"
                assert (await listener.legacy("ping", url=fleet.urls[0])).status == 200, "its open stream is a use"


async def test_a_session_that_nobody_uses_ends_with_its_child(redis_url: str) -> None:
    async with Fleet(redis_url, 2, 1, session_ttl_s=1.0) as fleet:
        await fleet.register("own", stdio_connection("own"), isolation="client")
        async with RawClient(fleet.urls[0]) as client:
            await client.initialize()
            child = await pid(client)
            await eventually(lambda: not alive(child), 15.0, "its child is closed")
            assert (await client.legacy_call("who")).status == 404
