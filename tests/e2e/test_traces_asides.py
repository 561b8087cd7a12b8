"""Traces of what the gateway does itself: asking whether a call is meant, and searching for tools."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp.types import ElicitResult

from tests.clients import RawClient
from tests.collector import Collector, Span
from tests.e2e.test_traces import ROOT, fresh, one, trace_of, variables
from tests.fleet import Fleet, eventually
from tests.servers.raw import RawUpstreams

TOOLS = [{"name": "wipe", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": True}}]


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, collector: Collector) -> AsyncIterator[Fleet]:
    with variables(collector):
        async with RawUpstreams() as upstreams:
            upstreams.add("disk", TOOLS, era="legacy")
            rules = json.dumps({"confirm": ["destructive"]})
            async with Fleet(redis_url, access_rules=rules, access_log=True) as fleet:
                await fleet.register("disk", upstreams.connection("disk"))
                yield fleet


async def confirmed(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={})


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_asking_whether_a_call_is_meant_is_a_span_below_the_call(
    fleet: Fleet, collector: Collector, mode: str
) -> None:
    before = len(collector.spans)
    async with Client(f"{fleet.url}/mcp", mode=mode, elicitation_callback=confirmed) as client:
        answer = await client.call_tool("wipe", {"path": "/secret/place"})
        assert not answer.is_error

    def asked() -> list[Span]:
        return [one for one in collector.spans[before:] if one.facts.get("gateway.confirmation") is True]

    await eventually(asked, 15.0, "the span of the question")
    (question,) = asked()
    assert (question.name, question.kind, question.failed) == ("elicitation/create", "client", False)

    def call() -> list[Span]:
        return [one for one in collector.spans if one.id == question.parent]

    await eventually(call, 15.0, "the span of the call")
    assert call()[0].name == "tools/call wipe" and call()[0].resource["gateway.process"] == "frontend"
    assert "/secret/place" not in repr([vars(one) for one in collector.spans[before:]])
    if mode == "legacy":

        def sent() -> list[Span]:
            below = [one for one in collector.of_trace(question.trace) if one.parent == question.parent]
            return [one for one in below if one.name == "tools/call wipe"]

        await eventually(sent, 15.0, "the span of the call to the upstream")
        assert question.ended <= sent()[0].began + 0.01, "it goes once it is confirmed"


async def test_a_search_goes_on_with_the_clients_trace(fleet: Fleet, collector: Collector) -> None:
    async with RawClient(f"{fleet.url}/mcp?discovery=search") as client:
        for way in ("meta", "header"):
            trace, parent = fresh()
            meta = {"traceparent": parent} if way == "meta" else None
            headers = {"traceparent": parent} if way == "header" else None
            found = await client.call("search_tools", {"query": "wipe"}, meta=meta, headers=headers)
            assert "result" in found.body
            (span,) = await trace_of(collector, trace, 1)
            assert one([span], "server", "frontend").parent == ROOT
            assert span.name == "tools/call search_tools" and span.facts["gateway.outcome"] == "answered"
