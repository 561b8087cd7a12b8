"""A tool that the gateway itself answers: behind a view it is called like any other, and no worker is asked."""

from __future__ import annotations

import json
from typing import cast

import pytest
from msgspec import Raw

from gateway.admission.caller import Caller
from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import RoutingHeaders
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.known_tasks import KnownTasks
from gateway.fleet.own_lists import OwnLists
from gateway.fleet.registry_view import RegistryView
from gateway.protocol.answers import Answer
from gateway.protocol.methods import Methods
from gateway.protocol.offers import Offers
from gateway.routing.catalog import Catalog
from gateway.routing.derived import filtered, with_local_tools
from gateway.routing.view import View
from gateway.sessions.table import SessionTable
from gateway.streams.subscriptions import StreamSubscriptions
from shared.errors import CallError, Refused
from shared.mcp.versions import Era
from shared.settings import RoutingSettings
from tests.unit.builders import record
from tests.unit.gateway.fakes import ADA, KEY, local_tool, request

HEAD = RequestHead(RoutingHeaders())
METHODS = Methods(
    Offers("unit", "9.9"),
    cast(Dispatcher, None),
    cast(StreamSubscriptions, None),
    cast(SessionTable, None),
    KEY,
    OwnLists(cast(RegistryView, None), cast(Dispatcher, None), RoutingSettings()),
    KnownTasks(KEY, cast(RegistryView, None)),
)
"""There is nobody who could send anything."""


class Echo:
    """The function of a local tool: it notes what it is called with, and answers with it."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def __call__(self, arguments: Raw) -> bytes:
        self.given.append(bytes(arguments))
        return b'{"content":[],"structuredContent":%b}' % bytes(arguments)


def _view(endpoint: str, echo: Echo) -> View:
    catalog = Catalog(RoutingSettings())
    catalog.rebuild({"a": record("a", tools=["echo", "theirs"])}, 0.0)
    return with_local_tools(catalog.view(endpoint), (endpoint, "x"), [local_tool("gw_echo", echo)])


def _call(view: View, params: str, era: Era = Era.LEGACY, method: str = "tools/call") -> Answer:
    caller = Caller(ADA, era, "2025-11-25", view)
    plan = METHODS.plan(*request(method, params), caller, HEAD)
    assert isinstance(plan, Answer)
    return plan


@pytest.mark.parametrize("endpoint", ["", "a", "nobody"])
@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize(
    ("params", "arguments"),
    [
        ('{"name":"gw_echo","arguments":{"x":1.0}}', b'{"x":1.0}'),
        ('{"name":"gw_echo"}', b"{}"),
        ('{"_meta":{"progressToken":1},"arguments":{"name":"theirs"},"name":"gw_echo"}', b'{"name":"theirs"}'),
    ],
)
def test_a_call_to_a_local_tool_is_answered_at_once(endpoint: str, era: Era, params: str, arguments: bytes) -> None:
    echo = Echo()
    answer = _call(_view(endpoint, echo), params, era)
    assert echo.given == [arguments]
    assert answer == Answer((b'{"jsonrpc":"2.0","id":"q","result":{"content":[],"structuredContent":%b}}' % arguments,))


@pytest.mark.parametrize("era", Era)
def test_a_local_tool_is_listed_beside_others(era: Era) -> None:
    listed = json.loads(_call(_view("", Echo()), "", era, "tools/list").whole)["result"]["tools"]
    assert [one["name"] for one in listed] == ["gw_echo", "echo", "theirs"]


def test_a_local_tool_that_a_view_does_not_show_is_unknown() -> None:
    view = filtered(_view("", Echo()), ("", "few"), lambda kind, name, route: route.local is None)
    message, params = request("tools/call", '{"name":"gw_echo"}')
    with pytest.raises(Refused, match="unknown tool 'gw_echo'"):
        METHODS.plan(message, params, Caller(ADA, Era.LEGACY, "2025-11-25", view), HEAD, True)


def test_what_a_local_tool_refuses_is_refused() -> None:
    def refuse(arguments: Raw) -> bytes:
        raise Refused("invalid_params", "not so")

    catalog = Catalog(RoutingSettings())
    view = with_local_tools(catalog.everything, ("", "x"), [local_tool("strict", refuse)])
    with pytest.raises(CallError, match="not so"):
        _call(view, '{"name":"strict"}')
