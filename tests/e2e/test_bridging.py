"""Needs for input between the eras: parked (modern client, legacy upstream), asked (legacy client, modern upstream)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp.types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent

from tests.clients import RawClient
from tests.fleet import ROOT, Fleet, SdkServer, stdio_connection


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    suite = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.conformance.upstream", "http",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert suite.stdout is not None
    port = int(await suite.stdout.readline())
    async with SdkServer("http", "web") as http, SdkServer("sse", "old") as sse, Fleet(redis_url, 2, 2) as fleet:
        await fleet.register("web", http.connection, era="legacy")
        await fleet.register("old", sse.connection)
        await fleet.register("local", stdio_connection("local"), era="legacy")
        await fleet.register("suite", {"type": "http", "url": f"http://127.0.0.1:{port}/mcp"}, era="modern")
        yield fleet
    suite.kill()
    await suite.wait()


async def elicited(context: Any, params: Any) -> ElicitResult:
    name = next(iter(params.requested_schema["properties"]))
    return ElicitResult(action="accept", content={name: "blue"})


async def sampled(context: Any, params: Any) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="hello"), model="m")


async def rooted(context: Any) -> ListRootsResult:
    return ListRootsResult(roots=[Root(uri="file:///mine")])


def client(url: str, mode: str) -> Client:
    return Client(
        url,
        mode=mode,
        elicitation_callback=elicited,
        sampling_callback=sampled,
        list_roots_callback=rooted,
    )


@pytest.mark.parametrize("group", ["web", "old", "local"])
async def test_a_modern_client_is_asked_for_a_legacy_upstream(fleet: Fleet, group: str) -> None:
    async with client(fleet.urls[0], "2026-07-28") as modern:
        assert (await modern.call_tool(f"{group}__ask", {})).content[0].text == "accept: blue"
        assert (await modern.call_tool(f"{group}__sample", {})).content[0].text == "model said hello"
        if group != "local":
            assert (await modern.call_tool(f"{group}__roots", {})).content[0].text == "file:///mine"


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("test_input_required_result_elicitation", "blue"),
        ("test_input_required_result_sampling", "hello"),
        ("test_input_required_result_list_roots", "file:///mine"),
        ("test_input_required_result_request_state", "state"),
        ("test_input_required_result_multiple_inputs", "All inputs received."),
        ("test_input_required_result_multi_round", ""),
    ],
)
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_any_client_is_asked_for_a_modern_upstream(fleet: Fleet, mode: str, tool: str, expected: str) -> None:
    async with client(fleet.urls[1], mode) as one:
        result = await one.call_tool(tool, {})
        assert not result.is_error, result
        assert expected in result.content[0].text


@pytest.mark.parametrize(
    ("tool", "missing"),
    [
        ("elicitation", {"elicitation": {"form": {}}}),
        ("sampling", {"sampling": {}}),
        ("list_roots", {"roots": {}}),
    ],
)
async def test_a_modern_client_is_never_asked_for_what_it_did_not_declare(
    fleet: Fleet, tool: str, missing: dict[str, Any]
) -> None:
    async with RawClient(fleet.urls[0]) as raw:
        answer = await raw.call(f"test_input_required_result_{tool}")
        assert answer.status == 400 and answer.error["code"] == -32021
        assert answer.error["data"]["requiredCapabilities"] == missing


ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
BLUE = {"action": "accept", "content": {"colour": "blue"}}


async def parked(raw: RawClient, **params: Any) -> dict[str, Any]:
    """Call a tool that asks; the ``input_required`` result."""
    answer = await raw.modern("tools/call", {"name": "web__ask", "arguments": {}, **params}, meta=ASKABLE)
    assert answer.body["result"]["resultType"] == "input_required", answer.body
    return answer.body["result"]


async def test_a_retry_at_another_front_end_wakes_the_call_once(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as first, RawClient(fleet.urls[1]) as second:
        asked = await parked(first)
        ((key, request),) = asked["inputRequests"].items()
        assert request["method"] == "elicitation/create" and request["params"]["message"] == "Which colour?"
        retry = {
            "name": "web__ask",
            "arguments": {},
            "inputResponses": {key: BLUE},
            "requestState": asked["requestState"],
        }
        answer = await second.modern("tools/call", retry, meta=ASKABLE)
        assert answer.content == "accept: blue"
        again = await first.modern("tools/call", retry, meta=ASKABLE)
        assert (again.status, again.error["code"]) == (400, -32602)


async def test_a_missing_answer_is_asked_for_again_and_unknown_ones_are_ignored(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as raw:
        asked = await parked(raw)
        ((key, _),) = asked["inputRequests"].items()
        again = await parked(raw, requestState=asked["requestState"], inputResponses={"other": BLUE})
        assert list(again["inputRequests"]) == [key] and again["requestState"] != asked["requestState"]
        params = {"name": "web__ask", "arguments": {}, "inputResponses": {key: BLUE}}
        stale = await raw.modern("tools/call", {**params, "requestState": asked["requestState"]}, meta=ASKABLE)
        assert (stale.status, stale.error["code"]) == (400, -32602)
        answer = await raw.modern("tools/call", {**params, "requestState": again["requestState"]}, meta=ASKABLE)
        assert answer.content == "accept: blue"


@pytest.mark.parametrize(
    "change",
    [
        {"requestState": "A" * 120},
        {"requestState": ""},
        {"requestState": 5},
        {"arguments": {"other": 1}},
        {"name": "old__ask"},
        {"inputResponses": [1]},
    ],
)
async def test_state_that_is_not_for_this_request_is_refused(fleet: Fleet, change: dict[str, Any]) -> None:
    async with RawClient(fleet.urls[0]) as raw:
        asked = await parked(raw)
        ((key, _),) = asked["inputRequests"].items()
        params = {"name": "web__ask", "arguments": {}, "inputResponses": {key: BLUE}}
        params = {**params, "requestState": asked["requestState"], **change}
        answer = await raw.modern("tools/call", params, meta=ASKABLE)
        assert (answer.status, answer.error["code"]) == (400, -32602), answer.body


async def test_a_client_is_never_asked_for_what_it_did_not_declare(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as raw:
        for tool in ("web__ask", "web__sample", "local__sample"):
            answer = await raw.call(tool)
            assert "error" in answer.body or answer.body["result"]["isError"], answer.body


async def test_state_of_a_modern_upstream_comes_back_to_it_as_it_was(fleet: Fleet) -> None:
    """Ours around it on the way down, and off again on the way up: the upstream checks its own."""
    async with RawClient(fleet.urls[0]) as raw:
        name = "test_input_required_result_request_state"
        first = (await raw.modern("tools/call", {"name": name, "arguments": {}}, meta=ASKABLE)).body["result"]
        answers = {key: {"action": "accept", "content": {"ok": True}} for key in first["inputRequests"]}
        retry = {"name": name, "arguments": {}, "inputResponses": answers, "requestState": first["requestState"]}
        raw.url = fleet.urls[1]
        answer = await raw.modern("tools/call", retry, meta=ASKABLE)
        assert answer.body["result"]["resultType"] == "complete" and "state" in answer.content
        tampered = {**retry, "requestState": first["requestState"][:-4] + "AAAA"}
        answer = await raw.modern("tools/call", tampered, meta=ASKABLE)
        assert (answer.status, answer.error["code"]) == (400, -32602)
