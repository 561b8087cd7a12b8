"""Tools that say that they are destructive run only after a person has confirmed the call, in both eras."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet
from tests.servers.raw import Endpoint, RawUpstreams

SCHEMA = {"type": "object"}
TOOLS = [
    {"name": "wipe", "inputSchema": SCHEMA, "annotations": {"destructiveHint": True}},
    {"name": "look", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}},
    {"name": "named", "inputSchema": SCHEMA},
]
ASKED = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}


@pytest_asyncio.fixture(scope="module")
async def fleet_and_upstreams(redis_url: str) -> AsyncIterator[tuple[Fleet, dict[str, Endpoint]]]:
    async with RawUpstreams() as upstreams:
        found = {era: upstreams.add(era, TOOLS, era=era) for era in ("modern", "legacy")}
        rules = {"confirm": ["destructive", "*/named"]}
        async with Fleet(redis_url, frontends=2, workers=2, access_rules=json.dumps(rules)) as fleet:
            for era in found:
                await fleet.register(era, upstreams.connection(era))
            yield fleet, found


def _ran(upstream: Endpoint, name: str) -> int:
    return sum(1 for call in upstream.tool_calls if call["params"]["name"] == name)


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("tool", ["wipe", "named"])
async def test_a_modern_client_is_asked_and_comes_again(fleet_and_upstreams: Any, era: str, tool: str) -> None:
    fleet, upstreams = fleet_and_upstreams
    before = _ran(upstreams[era], tool)
    async with RawClient(f"{fleet.url}/servers/{era}/mcp") as client:
        arguments = {"path": "/everything"}
        asked = (await client.call(tool, arguments, meta=ASKED)).body["result"]
        assert asked["resultType"] == "input_required" and _ran(upstreams[era], tool) == before
        (key, question), *_ = asked["inputRequests"].items()
        assert question["method"] == "elicitation/create" and "/everything" in question["params"]["message"]

        async def again(response: Any, state: str = asked["requestState"], given: Any = arguments) -> Any:
            responses = {} if response is None else {key: response}
            params = {"name": tool, "arguments": given, "inputResponses": responses, "requestState": state}
            return await client.modern("tools/call", params, meta=ASKED)

        for response in (None, {}, {"action": "decline"}, {"action": "cancel"}, "accept", {"action": "Accept"}):
            refused = await again(response)
            assert "error" in refused.body, response
        assert "error" in (await again({"action": "accept"}, given={"path": "/other"})).body
        assert "error" in (await again({"action": "accept"}, state="made-up")).body
        assert _ran(upstreams[era], tool) == before
        assert (await again({"action": "accept", "content": {}})).content == era
        assert _ran(upstreams[era], tool) == before + 1
        for front in fleet.frontends:  # a confirmation is good for one call
            client.url = f"{front.url}/servers/{era}/mcp"
            used = await again({"action": "accept", "content": {}})
            assert used.error["data"]["code"] == "confirmation_needed" and "already" in used.error["message"]
        assert _ran(upstreams[era], tool) == before + 1


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("action", ["accept", "decline"])
async def test_a_legacy_client_is_asked_on_the_stream_of_the_call(
    fleet_and_upstreams: Any, era: str, action: str
) -> None:
    fleet, upstreams = fleet_and_upstreams
    before = _ran(upstreams[era], "wipe")
    async with RawClient(f"{fleet.url}/servers/{era}/mcp") as client:
        await client.initialize(capabilities={"elicitation": {}})
        message = {
            "jsonrpc": "2.0",
            "id": 77,
            "method": "tools/call",
            "params": {"name": "wipe", "arguments": {"x": 1}},
        }
        headers = {
            **client.legacy_headers(), "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }  # fmt: skip
        async with client.session.post(client.url, data=json.dumps(message), headers=headers) as response:
            async for line in response.content:
                if not line.startswith(b"data:") or not line[5:].strip():
                    continue
                said = json.loads(line[5:])
                if said.get("method") == "elicitation/create":
                    assert _ran(upstreams[era], "wipe") == before
                    answer = {"jsonrpc": "2.0", "id": said["id"], "result": {"action": action}}
                    await client.post(
                        answer, client.legacy_headers(), url=f"{fleet.frontends[1].url}/servers/{era}/mcp"
                    )
                elif said.get("id") == 77:
                    break
        assert ("result" in said) == (action == "accept"), said
        assert _ran(upstreams[era], "wipe") == before + (action == "accept")


async def test_who_cannot_be_asked_is_refused_with_the_reason(fleet_and_upstreams: Any) -> None:
    fleet, upstreams = fleet_and_upstreams
    before = _ran(upstreams["modern"], "wipe")
    async with RawClient(f"{fleet.url}/servers/modern/mcp") as client:
        refused = await client.call("wipe")
        assert (
            refused.error["data"]["code"] == "confirmation_needed" and "nobody can be asked" in refused.error["message"]
        )
        await client.initialize()
        assert (await client.legacy_call("wipe")).error["data"]["code"] == "confirmation_needed"
        assert (await client.call("look")).content == "modern", "other tools run as ever"
    assert _ran(upstreams["modern"], "wipe") == before
