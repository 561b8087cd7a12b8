"""The two tools by which others are found and called, without a fleet: what is planned, and what it is answered."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from gateway.admission.caller import Caller
from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import RoutingHeaders
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.known_tasks import KnownTasks
from gateway.fleet.outgoing import Outgoing
from gateway.fleet.own_lists import OwnLists
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.tool_search import ToolSearch
from gateway.protocol.answers import Answer
from gateway.protocol.methods import Methods
from gateway.protocol.offers import Offers
from gateway.protocol.plans import Effect, Plan
from gateway.protocol.tool_discovery import ToolDiscovery
from gateway.routing.catalog import Catalog
from gateway.routing.discovery import searched
from gateway.sessions.table import SessionTable
from gateway.streams.subscriptions import StreamSubscriptions
from gateway.telemetry.observer import ObservedCall
from shared.errors import Refused
from shared.mcp.versions import Era
from shared.settings import RoutingSettings
from tests.unit.builders import record
from tests.unit.gateway.fakes import ADA, KEY, request


class Observed:
    """A dispatcher that only does what the gateway answers itself, and remembers it."""

    def __init__(self) -> None:
        self.calls: list[ObservedCall] = []

    async def here(self, call: ObservedCall, work: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append(call)
        return await work()


OBSERVED = Observed()
DISCOVERY = ToolDiscovery(cast(Dispatcher, OBSERVED), ToolSearch(1 << 20))
METHODS = Methods(
    Offers("unit", "9.9"),
    cast(Dispatcher, None),
    cast(StreamSubscriptions, None),
    cast(SessionTable, None),
    KEY,
    OwnLists(cast(RegistryView, None), cast(Dispatcher, None), RoutingSettings()),
    KnownTasks(KEY, cast(RegistryView, None)),
    DISCOVERY,
)
CATALOG = Catalog(RoutingSettings())
CATALOG.rebuild(
    {"a": record("a", sequence=1, tools=["echo"]), "b": record("b", sequence=2, tools=["echo", "tell"])}, 0.0
)
VIEW = searched(CATALOG.everything, None)


def plan(params: str, era: Era = Era.LEGACY) -> Plan:
    caller, head = Caller(ADA, era, "2025-11-25", VIEW), RequestHead(RoutingHeaders())
    return METHODS.plan(*request("tools/call", params), caller, head, fresh=True)


def through(arguments: str, era: Era = Era.LEGACY) -> Plan:
    """The plan of ``call_tool`` with these arguments."""
    return plan('{"name":"call_tool","arguments":' + arguments + "}", era)


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("spaces", ["", " "])
def test_a_call_by_way_of_the_tool_is_the_call_of_what_it_names(era: Era, spaces: str) -> None:
    by_way = plan(
        '{"_meta":{"progressToken":1,"x":1.0},"name":"call_tool","unknown":[1e400],'
        f'"arguments":{spaces}{{"name":"b__echo","arguments":{{"n":{spaces}123456789012345678901234567890}}}}}}',
        era,
    )
    direct = plan(
        '{"_meta":{"progressToken":1,"x":1.0},"name":"b__echo","unknown":[1e400],'
        f'"arguments":{{"n":{spaces}123456789012345678901234567890}}}}',
        era,
    )
    assert isinstance(by_way, Outgoing) and isinstance(direct, Outgoing)
    assert bytes(by_way.params) == bytes(direct.params)
    for fact in ("method", "name", "group", "route", "principal", "affinity", "token", "id", "quota", "listed_name"):
        assert getattr(by_way, fact) == getattr(direct, fact), fact
    assert (by_way.group, by_way.name) == ("b", "echo")


@pytest.mark.parametrize("given", ["", ',"arguments":null', ',"arguments":{}'])
def test_without_arguments_there_are_none(given: str) -> None:
    made = through('{"name":"tell"' + given + "}")
    assert isinstance(made, Outgoing) and json.loads(bytes(made.params)) == {"name": "tell", "arguments": {}}


def test_large_arguments_go_through() -> None:
    text = "x" * 3_000_000
    made = through('{"name":"tell","arguments":{"text":"' + text + '","n":1.0}}')
    assert isinstance(made, Outgoing)
    assert bytes(made.params) == b'{"name":"tell","arguments":{"text":"%b","n":1.0}}' % text.encode()


@pytest.mark.parametrize("name", ["nothing", "call_tool", "search_tools", "a__call_tool"])
def test_what_it_names_wrongly_is_unknown_as_in_a_direct_call(name: str) -> None:
    with pytest.raises(Refused, match=f"unknown tool '{name}'") as refused:
        through(json.dumps({"name": name}))
    assert refused.value.code == "tool_unknown"


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("arguments", ["null", "{}", "[]", '"tell"', '{"name":1}', '{"name":"tell","arguments":"{}"}'])
def test_arguments_that_cannot_be_read_are_an_error_for_the_model(era: Era, arguments: str) -> None:
    made = through(arguments, era)
    assert isinstance(made, Answer) and made.status == 200
    result = json.loads(made.whole)["result"]
    assert result["isError"] is True and result.get("resultType") == ("complete" if era else None)


async def test_a_search_is_observed_with_what_was_asked() -> None:
    made = plan('{"name":"search_tools","arguments":{"query":"tell"}}')
    assert isinstance(made, Effect)
    result = json.loads((await made.run()).whole)["result"]
    assert [one["name"] for one in result["structuredContent"]["tools"]] == ["tell"] and "resultType" not in result
    call: Any = OBSERVED.calls[-1]
    assert (call.method, call.name, call.group, call.principal) == ("tools/call", "search_tools", "", "ada")
    assert b'"tell"' in call.params


async def test_a_view_that_lists_by_now_can_still_be_searched() -> None:
    message, _ = request("tools/call", '{"name":"search_tools","arguments":{"query":"echo","limit":1}}')
    made = DISCOVERY.search(message, Caller(ADA, Era.MODERN, "2026-07-28", VIEW), CATALOG.everything)
    assert isinstance(made, Effect)
    assert [one["name"] for one in json.loads((await made.run()).whole)["result"]["structuredContent"]["tools"]] == [
        "echo"
    ]
