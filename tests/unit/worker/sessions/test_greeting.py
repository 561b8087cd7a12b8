"""``worker.sessions.greeting``: with what a server is greeted that refuses what a client of today says of itself."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from shared.errors import CallError, NotDelivered
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.own_call import UpstreamError
from worker.sessions import handshake
from worker.sessions.greeting import greet

ANSWER = json.dumps({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}).encode()


def refusal(code: int, message: str = "no") -> UpstreamError:
    return UpstreamError(json.dumps({"code": code, "message": message}).encode())


class Server:
    """Refuses to be greeted by clients with what ``knows`` does not return true for."""

    def __init__(self, knows: Any, error: CallError) -> None:
        self.knows = knows
        self.error = error
        self.offered: list[dict[str, Any]] = []

    async def initialize(self, members: dict[str, Any]) -> bytes:
        self.offered.append(json.loads(msgspec.json.encode(members)))
        if not self.knows(self.offered[-1]):
            raise self.error
        return ANSWER


JAVA = 'Unrecognized field "form" (class McpSchema$ClientCapabilities$Elicitation), not marked as ignorable'
ERRORS = {
    "error": refusal(-32603, JAVA),
    "params": refusal(-32602, "unknown field `elicitation`"),
    "400": NotDelivered("upstream_protocol", "HTTP 400", {"http": "400"}),
    "500": NotDelivered("upstream_unavailable", "HTTP 500", {"http": "500"}),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_less_is_offered_to_a_server_that_knows_less(error: CallError) -> None:
    java_0_12 = Server(lambda one: not any(one["capabilities"].get("elicitation", {})), error)
    greeting = await greet(handshake.offer(NOBODY, "gw"), java_0_12.initialize)
    assert java_0_12.offered[-1]["capabilities"] == {"sampling": {}, "elicitation": {}}
    assert greeting.version == "2025-06-18" and "sampling, elicitation" in greeting.flaws[0]
    java_0_9 = Server(lambda one: "elicitation" not in one["capabilities"], error)
    greeting = await greet(handshake.offer(NOBODY, "gw"), java_0_9.initialize)
    assert [one["capabilities"] for one in java_0_9.offered[1:]] == [{"sampling": {}, "elicitation": {}}, {}]
    assert greeting.flaws[0].endswith(": none")


async def test_a_client_of_its_own_is_described_by_name_and_version() -> None:
    info = b'{"name":"n","version":"1","icons":[{"src":"x"}],"websiteUrl":"https://x"}'
    capabilities = b'{"roots":{"listChanged":true},"extensions":{"x/y":{}}}'
    client = ClientFacts("ada", info=info, capabilities=capabilities)
    server = Server(lambda one: set(one["clientInfo"]) <= {"name", "version"}, ERRORS["400"])
    await greet(handshake.offer(client, "gw"), server.initialize)
    assert server.offered[0]["clientInfo"]["icons"] and server.offered[1]["clientInfo"] == {"name": "n", "version": "1"}
    assert server.offered[1]["capabilities"] == {"roots": {}}


async def test_a_server_that_refuses_everything_is_told_of_by_its_first_refusal() -> None:
    errors = iter([refusal(-32603, "API_KEY is not set"), refusal(-32603, "again"), refusal(-32603, "and again")])
    server = Server(lambda one: False, ERRORS["error"])

    async def initialize(members: dict[str, Any]) -> bytes:
        server.error = next(errors)
        return await server.initialize(members)

    with pytest.raises(UpstreamError, match="API_KEY is not set"):
        await greet(handshake.offer(NOBODY, "gw"), initialize)
    assert len(server.offered) == 3


@pytest.mark.parametrize(
    "error",
    [
        refusal(-32601),
        refusal(-32022),
        NotDelivered("upstream_unavailable", "HTTP 401", {"http": "401"}),
        NotDelivered("upstream_unavailable", "not connected"),
    ],
)
async def test_what_is_not_about_the_offer_is_asked_once(error: CallError) -> None:
    server = Server(lambda one: False, error)
    with pytest.raises(CallError):
        await greet(handshake.offer(NOBODY, "gw"), server.initialize)
    assert len(server.offered) == 1


async def test_a_version_is_asked_for_again_with_all_of_the_offer() -> None:
    server = Server(lambda one: one["protocolVersion"] == "2024-11-05", refusal(-32602, "Unsupported protocol version"))
    greeting = await greet(handshake.offer(NOBODY, "gw"), server.initialize)
    assert not greeting.flaws and server.offered[1]["capabilities"] == server.offered[0]["capabilities"]
