"""Somebody with valid credentials of their own tries to reach what is another caller's.

Whatever is of another one is answered as what never was, at both front ends. ``ann`` is who owns something, ``eve`` who
wants it. Both may use everything, so that only who they are keeps them apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.clients import RawClient
from tests.e2e.test_access import As
from tests.fleet import Fleet, SdkServer, eventually
from tests.issuer import Issuer
from tests.streams import calling, listening, sse_data, standing

ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
STEPS = {"name": "web__progress", "arguments": {"steps": 60}, "_meta": {"progressToken": "t"}}
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": STEPS}
MADE_UP = "AAAAAAAA"


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, issuer: Issuer) -> AsyncIterator[Fleet]:
    rules = {
        "authentication": [{"type": "jwt", "issuer": issuer.url, "audience": "https://mcp.example/mcp"}],
        "roles": {"all": {"when": "principal.kind == 'user'", "allow": ["*"]}},
    }
    settings = {"admin_token": "t", "access_rules": json.dumps(rules), "public_url": "https://mcp.example"}
    async with (
        SdkServer("http", "web") as web,
        SdkServer("sse", "old") as old,
        Fleet(redis_url, 2, 2, **settings) as fleet,
    ):
        await fleet.register("old", old.connection)
        await fleet.register("web", web.connection)
        yield fleet


@pytest_asyncio.fixture
async def ann(fleet: Fleet, issuer: Issuer) -> AsyncIterator[As]:
    async with As(fleet.urls[0], issuer.token(sub="ann")) as client:
        await client.initialize(capabilities={"elicitation": {}})
        yield client


@pytest_asyncio.fixture
async def eve(fleet: Fleet, issuer: Issuer) -> AsyncIterator[As]:
    async with As(fleet.urls[1], issuer.token(sub="eve")) as client:
        await client.initialize(capabilities={"elicitation": {}})
        yield client


def changed(sid: str) -> str:
    """Return the id of a session that never was, which looks like this one."""
    return sid[:-8] + MADE_UP


async def get(client: RawClient, url: str, headers: dict[str, str]) -> tuple[int, str]:
    """Open a stream, and return the status and the text of the refusal."""
    sent = {"Accept": "text/event-stream", **headers}
    async with client.session.get(url, headers=sent) as response:
        return response.status, await response.text() if response.status != 200 else "a stream"


@contextlib.asynccontextmanager
async def with_sid(client: As, sid: str) -> AsyncIterator[As]:
    """Let a client use another session's id."""
    own, client.sid = client.sid, sid
    yield client
    client.sid = own


async def test_every_use_of_anothers_session_is_as_of_one_that_never_was(fleet: Fleet, ann: As, eve: As) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    answers: list[list[Any]] = []
    for sid in (ann.sid, changed(ann.sid)):
        headers = {"Mcp-Session-Id": sid, "MCP-Protocol-Version": "2025-11-25"}
        seen: list[Any] = []
        for url in fleet.urls:
            for body in (ping, cancel, {"jsonrpc": "2.0", "id": "q", "result": {}}, [ping], CALL):
                answer = await eve.post(body, headers, url)
                seen.append((answer.status, answer.text))
            seen.append(await get(eve, url, headers))
            seen.append(await get(eve, url, {**headers, "Last-Event-ID": "1-0-0"}))
            async with eve.session.delete(url, headers=headers) as response:
                seen.append((response.status, await response.text()))
            base = url.removesuffix("/mcp")
            for path in ("", "/servers/web"):
                answer = await eve.post(ping, url=f"{base}{path}/messages?session_id={sid}")
                seen.append((answer.status, answer.text))
        answers.append(seen)
    assert answers[0] == answers[1]
    assert {status for status, _ in answers[0]} == {404}
    assert (await ann.legacy("ping")).status == 200


async def test_a_call_is_neither_watched_nor_cancelled_by_others(fleet: Fleet, ann: As, eve: As) -> None:
    async with calling(ann, fleet.urls[0], CALL) as first:
        await eventually(lambda: len(first.messages) >= 3, 10.0, "some progress")
        last = first.ids[-1]
        for url in fleet.urls:
            seen = [await get(eve, url, {**eve.legacy_headers(), "Last-Event-ID": one}) for one in (last, "a.b.9.9")]
            assert [status for status, _ in seen] == [400, 400]
            assert seen[0][1] == seen[1][1]
            await eve.legacy_notice("notifications/cancelled", {"requestId": 7}, url=url)
            async with with_sid(eve, ann.sid):
                assert (await eve.legacy_notice("notifications/cancelled", {"requestId": 7}, url=url)).status == 404
        await eventually(lambda: first.closed, 10.0, "the call goes on to its end")
    assert first.messages[-1]["result"]["content"][0]["text"] == "finished"


async def test_a_question_is_answered_only_by_who_was_asked(fleet: Fleet, ann: As, eve: As) -> None:
    ask = {"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "web__ask", "arguments": {}}}

    def answer(colour: str) -> dict[str, Any]:
        result = {"action": "accept", "content": {"colour": colour}}
        return {"jsonrpc": "2.0", "id": stream.messages[-1]["id"], "result": result}

    async with calling(ann, fleet.urls[0], ask) as stream:
        await eventually(lambda: stream.messages, 10.0, "the question")
        for url in fleet.urls:
            await eve.post(answer("stolen"), eve.legacy_headers(), url)
        await ann.post(answer("red"), ann.legacy_headers(), fleet.urls[1])
        await eventually(lambda: stream.closed, 10.0, "the answer")
    assert stream.messages[-1]["result"]["content"][0]["text"] == "accept: red"


async def test_a_parked_call_is_taken_up_only_by_who_made_it(fleet: Fleet, ann: As, eve: As) -> None:
    call = {"name": "old__ask", "arguments": {}}
    first = await ann.modern("tools/call", call, meta=ASKABLE)
    assert "result" in first.body, first.text
    asked = first.body["result"]
    key = next(iter(asked["inputRequests"]))
    answers = {key: {"action": "accept", "content": {"colour": "blue"}}}

    def retry(state: str) -> dict[str, Any]:
        return {**call, "inputResponses": answers, "requestState": state}

    state = asked["requestState"]
    stolen = await eve.modern("tools/call", retry(state), meta=ASKABLE)
    never = await eve.modern("tools/call", retry(state[:-8] + MADE_UP), meta=ASKABLE)
    assert stolen.status == never.status == 400 and stolen.error == never.error
    assert (await ann.modern("tools/call", retry(state), meta=ASKABLE)).content == "accept: blue"


async def test_news_go_to_those_who_asked_for_them(fleet: Fleet, ann: As, eve: As) -> None:
    fixed, note = "memo://web/fixed", "memo://web/notes/1"
    await ann.legacy("resources/subscribe", {"uri": fixed})
    await eve.legacy("resources/subscribe", {"uri": note})
    async with (
        standing(ann, fleet.urls[1]) as hers,
        standing(eve, fleet.urls[0]) as mine,
        listening(ann, fleet.urls[0], resourceSubscriptions=[fixed]) as listen,
    ):
        # The same id of a request is another request's with another principal.
        async with with_sid(eve, ""):
            notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "listen-1"}}
            await eve.post(notice, {"MCP-Protocol-Version": "2026-07-28"})
        await eve.legacy("resources/unsubscribe", {"uri": fixed})

        async def told() -> bool:
            await ann.call("web__touch", {"uri": fixed})
            await asyncio.sleep(0.05)
            return fixed in hers.updated() and fixed in listen.updated()

        await eventually(told, 10.0, "who subscribed is told")
        await ann.call("web__touch", {"uri": note})
        await eventually(lambda: note in mine.updated(), 10.0, "the other one too")
        assert fixed not in mine.updated() and note not in hers.updated()


async def test_messages_of_another_http_sse_session_are_refused(fleet: Fleet, ann: As, eve: As) -> None:
    async with ann.session.get(f"{fleet.url}/sse") as stream:
        place = await sse_data(stream)
        place = place if isinstance(place, str) else place.decode()
        place = place.removeprefix("https://mcp.example")
        ping = {"jsonrpc": "2.0", "id": 3, "method": "ping"}
        for frontend in fleet.frontends:
            stolen = await eve.post(ping, url=frontend.url + place)
            never = await eve.post(ping, url=frontend.url + changed(place))
            assert stolen.status == never.status == 404 and stolen.text == never.text
            async with RawClient(frontend.url) as nobody:
                assert (await nobody.post(ping, url=frontend.url + place)).status == 401
        assert (await ann.post(ping, url=fleet.frontends[1].url + place)).status == 202
        assert json.loads(await sse_data(stream))["id"] == 3
