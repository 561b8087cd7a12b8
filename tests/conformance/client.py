"""What the suite's client scenarios run: ``python -m tests.conformance.client URL``.

The suite plays a server at URL. A gateway is started with it as its only upstream, and a client does through the
gateway what the scenario (named in the environment, by the suite) waits for. What the suite then judges is how the
gateway's worker behaves as a client. Exits 0 when the client got what it wanted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.client.client import Client
from mcp.types import ElicitResult

from gateway import Gateway
from tests.clients import RawClient
from tests.fleet import eventually
from tests.machine import scaled

VERSION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
CONTEXT: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
MODERN = "2026-07-28"


class Waiting:
    """What the client does while it is asked."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.meanwhile: str | None = None

    async def answer(self, context: Any, params: Any) -> ElicitResult:
        """Accept with the defaults of the form (SEP-1034), after a call of another tool if there is one to make."""
        if self.meanwhile is not None and self.client is not None:
            await self.client.call_tool(self.meanwhile, {})
        properties = params.requested_schema.get("properties", {})
        content = {name: one.get("default", True) for name, one in properties.items()}
        return ElicitResult(action="accept", content=content)


async def lists(client: Client, waiting: Waiting) -> None:
    """List everything."""
    await client.list_tools()
    await client.list_prompts()
    await client.list_resources()


async def everything(client: Client, waiting: Waiting) -> None:
    """List everything, and use every entry."""
    for tool in (await client.list_tools()).tools:
        await client.call_tool(tool.name, {})
    for prompt in (await client.list_prompts()).prompts:
        await client.get_prompt(prompt.name, {})
    for resource in (await client.list_resources()).resources:
        await client.read_resource(resource.uri)


async def add(client: Client, waiting: Waiting) -> None:
    """One call with arguments."""
    result = await client.call_tool("add_numbers", {"a": 5, "b": 3})
    assert result.content[0].text == "The sum of 5 and 3 is 8", result


async def reconnect(client: Client, waiting: Waiting) -> None:
    """A call whose stream ends before its answer."""
    result = await client.call_tool("test_reconnection", {})
    assert result.content[0].text == "Reconnection test completed successfully", result


async def defaults(client: Client, waiting: Waiting) -> None:
    """A call that asks with defaults."""
    result = await client.call_tool("test_client_elicitation_defaults", {})
    assert "completed" in result.content[0].text, result


async def rounds(client: Client, waiting: Waiting) -> None:
    """Calls of several rounds, with another call between the rounds."""
    waiting.meanwhile = "test_mrtr_unrelated"
    for tool in ("test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_no_result_type"):
        assert "ok" in (await client.call_tool(tool, {})).content[0].text


async def given_calls(client: Client, waiting: Waiting) -> None:
    """The calls that the scenario asks for."""
    await client.list_tools()
    for call in CONTEXT["toolCalls"]:
        assert not (await client.call_tool(call["name"], call["arguments"])).is_error


async def echo_schema(client: Client, waiting: Waiting) -> None:
    """Give a schema back as it was listed."""
    schemas = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
    await client.call_tool("json_schema_echo", {"schema": schemas["json_schema_2020_12_tool"]})


SCENARIOS: dict[str, Callable[[Client, Waiting], Awaitable[None]]] = {
    "initialize": lists,
    "tools_call": add,
    "elicitation-sep1034-client-defaults": defaults,
    "sse-retry": reconnect,
    "request-metadata": lists,
    "sep-2322-client-request-state": rounds,
    "http-standard-headers": everything,
    "http-custom-headers": given_calls,
    "json-schema-ref-no-deref": lists,
    "json-schema-2020-12-preservation": echo_schema,
}


MODERN_ONLY = {
    "request-metadata": "era auto also asks by initialize whether the server has the handshake era, as it may; the "
    "scenario takes that for a request of 2026-07-28 without _meta",
    "http-standard-headers": "the same: it wants Mcp-Method on initialize",
}
"""Scenarios whose upstream is registered with ``era: modern``, and why."""


async def invalid_headers(url: str) -> None:
    """Raw requests, because SDK clients drop such tools by themselves: none is listed, none can be called."""
    async with RawClient(url) as raw:

        async def listed() -> list[str]:
            return [tool["name"] for tool in (await raw.modern("tools/list")).body["result"]["tools"]]

        # ``connected`` is known to this process some milliseconds before every front end lists the tools.
        assert await eventually(listed, 5.0, "tools are listed") == ["valid_tool"]
        answer = await raw.call("valid_tool", {"region": "eu"}, headers={"Mcp-Param-Region": "eu"})
        assert answer.content == "Tool call received"
        for name in ("invalid_empty_header", "invalid_object_header", "invalid_duplicate_same_case"):
            assert (await raw.call(name, {"value": "x", "data": {}, "field1": "x"})).error["code"] == -32602


async def main(url: str) -> None:
    """Start the gateway, play, stop."""
    gateway = Gateway(port=0)
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    era = "modern" if scenario in MODERN_ONLY else "auto"
    gateway.register(id="suite", connection={"type": "http", "url": url}, era=era)
    await gateway.start(wait_connected_s=scaled(15.0))
    try:
        (entry,) = gateway.list()
        assert entry.status == "connected", entry
        if scenario == "http-invalid-tool-headers":
            await invalid_headers(gateway.endpoint)
            return
        waiting = Waiting()
        mode = MODERN if VERSION == MODERN else "legacy"
        async with Client(gateway.endpoint, mode=mode, elicitation_callback=waiting.answer) as client:
            waiting.client = client
            await SCENARIOS[scenario](client, waiting)
    finally:
        await gateway.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[-1]))
