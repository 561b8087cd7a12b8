"""The table of methods: what each one means, in which era, as a plan. Planning awaits and sends nothing.

Both lanes call ``plan``. A plan follows only from the request, its caller's view, and memory. What a view does not show
is answered exactly as if it did not exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
from msgspec import Raw

from gateway.access.used_states import UsedStates
from gateway.admission.caller import Caller, Waits
from gateway.admission.request_head import RequestHead
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.known_tasks import KnownTasks
from gateway.fleet.outgoing import Only, Outgoing
from gateway.fleet.own_lists import OwnLists
from gateway.fleet.tool_search import ToolSearch
from gateway.protocol import answers
from gateway.protocol.annotated import parameter_headers
from gateway.protocol.answers import Answer
from gateway.protocol.offers import Offers
from gateway.protocol.outgoing_requests import OutgoingRequests
from gateway.protocol.plans import Listen, OneOf, Plan, Widen
from gateway.protocol.session_methods import SessionMethods
from gateway.protocol.tool_discovery import ToolDiscovery
from gateway.routing.discovery import SEARCH_TOOLS
from gateway.routing.entries import renamed
from gateway.routing.local_tools import LocalTool
from gateway.routing.routes import Route
from gateway.sessions.table import SessionTable
from gateway.streams.subscriptions import StreamSubscriptions
from shared.errors import CallError, Refused
from shared.mcp import jsonrpc, tasks
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.listings import KINDS, Kind
from shared.mcp.methods import (
    DISCOVER,
    INITIALIZE,
    LISTEN,
    OURS,
    PING,
    SET_LEVEL,
    SUBSCRIBE,
    UNSUBSCRIBE,
)
from shared.mcp.once import check_inside
from shared.mcp.versions import Era
from shared.rpc.framing import COPIED
from shared.secrets import FleetKey

_MAX_METHOD = 256
NO_ARGUMENTS = Raw(b"{}")
"""Params of requests that have no arguments, whatever a client writes into them: no condition on arguments may go by
that."""
Planner = Callable[[Message, Params, Caller, RequestHead, bool], Plan]
"""Plans one method. The last argument (``fresh``) is True if the registry's copy was brought up to date just now, so
that a name that is unknown here is unknown everywhere."""


class Methods:
    """Plans requests."""

    def __init__(
        self,
        offers: Offers,
        dispatcher: Dispatcher,
        subscriptions: StreamSubscriptions,
        sessions: SessionTable,
        key: FleetKey,
        own_lists: OwnLists,
        known_tasks: KnownTasks,
        discovery: ToolDiscovery | None = None,
        used_states: UsedStates | None = None,
    ) -> None:
        """``discovery`` answers the tools by which others are found; there are none of them without it.
        ``used_states`` count retries that are calls of their own; without them they are not counted."""
        self._requests = OutgoingRequests(key, used_states or UsedStates())
        self._own_lists = own_lists
        self._known_tasks = known_tasks
        self._discovery = discovery or ToolDiscovery(dispatcher, ToolSearch(0))
        self._call_tool = self._named(Kind.TOOLS)
        self._offers = offers
        of_sessions = SessionMethods(offers, dispatcher, subscriptions, sessions, own_lists, self._requests)
        both: dict[str, Planner] = {
            "tools/call": self._call_tool,
            "prompts/get": self._named(Kind.PROMPTS),
            "resources/read": self._read,
            "completion/complete": self._complete,
            **{facts.method: self._list(kind) for kind, facts in KINDS.items()},
        }
        legacy: dict[str, Planner] = {
            PING: self._ping,
            INITIALIZE: of_sessions.initialize,
            SUBSCRIBE: of_sessions.subscribe,
            UNSUBSCRIBE: of_sessions.unsubscribe,
            SET_LEVEL: of_sessions.set_level,
        }
        modern: dict[str, Planner] = {
            DISCOVER: self._discover,
            LISTEN: self._listen,
            **dict.fromkeys(tasks.METHODS, self._task),
        }
        self._by_era = ({**both, **legacy}, {**both, **modern})
        self._known = {*both, *legacy, *modern}

    def plan(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool = False) -> Plan:
        """Return what is to be done for a request. Raises ``CallError`` for what cannot be done.

        ``fresh``: the registry's copy was brought up to date just now (after ``Waits.CATALOGUE``).
        """
        if caller.view.denied and caller.view.denies(message.method):
            raise Refused("method_unknown", f"method {message.method[:64]!r} is not offered here")
        planner = self._by_era[caller.era].get(message.method)
        if planner is not None:
            return planner(message, params, caller, head, fresh)
        return self._unknown_method(message, params, caller, head)

    def _unknown_method(self, message: Message, params: Params, caller: Caller, head: RequestHead) -> Plan:
        """Pass on a method that the gateway does not know, at an endpoint of one group.

        Methods of the other era concern the client's own connection and are never passed on. Raises ``Refused``.
        """
        if caller.era and message.method == INITIALIZE:
            raise Refused("method_unknown", "initialize belongs to earlier protocol versions; call server/discover")
        ours = message.method in self._known or message.method.startswith(OURS)
        route = None if ours else caller.view.passthrough
        if route is None:
            raise Refused("method_unknown", f"method {message.method[:64]!r} is not offered here")
        if len(message.method) > _MAX_METHOD:
            raise Refused("method_unknown", f"method {message.method[:64]!r}… is too long")
        return self._requests.make(message, bytes(message.params), params, caller, route, head)

    # ---- the gateway's own answers

    def _ping(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        return answers.result(bytes(message.id), b"{}")

    def _discover(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        return answers.result(bytes(message.id), self._offers.discover(caller.view))

    def _listen(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        return Listen()

    def _list(self, kind: Kind) -> Planner:
        def plan(message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
            view = caller.view
            if view.whole and not fresh and not any(view.routes.values()):
                return Waits.CATALOGUE  # nothing at all: the registry's copy may be behind
            if not caller.widened and self._own_lists.wants(caller.session, caller.view, kind):
                return Widen(kind)
            given = params.cursor and bytes(params.cursor) != b"null"
            cursor = jsonrpc.text(params.cursor, "cursor") if given else None
            return answers.result(bytes(message.id), view.page(kind, caller.era, cursor, time.time()))

        return plan

    # ---- by name

    def _named(self, kind: Kind) -> Planner:
        def plan(message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
            name = jsonrpc.text(params.name, "name")
            route = caller.view.routes[kind].get(name)
            if route is None:
                route = caller.view.find(kind, name) or self._own_lists.find(caller.session, caller.view, kind, name)
                if route is None:
                    if not fresh:
                        return Waits.CATALOGUE
                    if not caller.widened and self._own_lists.wants(caller.session, caller.view, kind):
                        return Widen(kind)
                    route = next(iter(self._own_lists.beyond(caller.session, caller.view, kind, name)), None)
                    if route is None:
                        raise caller.view.unknown(kind, name)
            sent = message.params
            if route.shape is not None:
                sent = Raw(route.shape.params(sent, route.entry.name))
            if route.guard is not None:
                _check_guard(route, sent, caller)
            if route.local is not None:
                return self._local(route.local, message, params, caller, head, fresh)
            upstream_name = route.entry.name
            body: bytes | memoryview = memoryview(sent)
            if upstream_name != name and route.shape is None:
                body = renamed(bytes(body), "name", upstream_name)
            elif len(body) <= COPIED:
                body = bytes(body)
            headers = parameter_headers(route, message.params, sent, caller, head) if route.entry.annotated else None
            outgoing = self._requests.make(message, body, params, caller, route, head, upstream_name, headers)
            if route.guard is not None and route.guard.confirm:
                outgoing.confirm = name
            return outgoing

        return plan

    def _local(
        self, tool: LocalTool, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool
    ) -> Plan:
        """Plan a call of a tool of the gateway's own."""
        if tool.call is not None:
            arguments = Raw(jsonrpc.arguments_of(message.params) or b"{}")
            return answers.result(bytes(message.id), tool.call(arguments))
        if tool is SEARCH_TOOLS:
            if not caller.widened and self._own_lists.wants(caller.session, caller.view, Kind.TOOLS):
                return Widen(Kind.TOOLS)
            return self._discovery.search(
                message, caller, self._own_lists.view_of(caller.session, caller.view), head, params.meta
            )
        called = self._discovery.called(message, caller)
        if isinstance(called, Answer):
            return called
        inner = jsonrpc.params_of(called.params)
        try:
            return self._call_tool(called, inner, caller, head, fresh)
        except CallError as error:
            error.about = jsonrpc.text(inner.name, "name")
            raise

    def _complete(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        """Plan ``completion/complete``, by prompt name or exact template. For any other there is nothing to suggest."""
        parts = jsonrpc.few_members(message.params)
        check_inside(bytes(message.params), "ref", "argument", "context")
        reference = jsonrpc.members(parts.get("ref", jsonrpc.ABSENT))
        is_prompt = jsonrpc.text(reference.get("type", jsonrpc.ABSENT), "ref.type") == "ref/prompt"
        member, kind = ("name", Kind.PROMPTS) if is_prompt else ("uri", Kind.TEMPLATES)
        name = jsonrpc.text(reference.get(member, jsonrpc.ABSENT), f"ref.{member}")
        route = caller.view.find(kind, name) or self._own_lists.find(caller.session, caller.view, kind, name)
        if route is not None and route.guard is not None:
            _check_guard(route, NO_ARGUMENTS, caller)
        if (
            route is None
            or _completes_closed(route, parts)
            or not any("completions" in one.record.capabilities for one in route.replicas)
        ):
            nothing: dict[str, Any] = {"completion": {"values": [], "total": 0, "hasMore": False}}
            if caller.era is Era.MODERN:
                nothing["resultType"] = "complete"
            return answers.result(bytes(message.id), orjson.dumps(nothing))
        body = bytes(message.params)
        if route.entry.name != name:
            parts["ref"] = Raw(renamed(bytes(parts["ref"]), member, route.entry.name))
            body = jsonrpc.assemble(parts)
        return self._requests.make(message, body, params, caller, route, head)

    def _task(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        """Plan what a client asks about a task: only the upstream that has the task can answer. The worker puts the
        upstream's id in place of the client's (``worker.input.tasks``)."""
        tasks.check_declared(params.meta.capabilities if params.meta is not None else b"")
        id = tasks.id_in(message.params)
        try:
            task = self._known_tasks.find(id, caller.principal.id, caller.view)
        except Refused as error:
            if fresh or error.code != "invalid_params" or not self._known_tasks.ours(id, caller.principal.id):
                raise
            return Waits.CATALOGUE  # the copy may not have its upstream yet
        outgoing = self._requests.make(message, bytes(message.params), params, caller, task.route, head)
        outgoing.affinity, outgoing.name = Only(task.upstream, task.worker), task.route.entry.name
        return outgoing

    def _read(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        """Plan ``resources/read``. A listed URI leads to one group.

        Any other URI goes to the groups that may know it, one after another.
        """
        uri = jsonrpc.text(params.uri, "uri")
        own, session, view = self._own_lists, caller.session, caller.view
        listed = view.find(Kind.RESOURCES, uri) or own.find(session, view, Kind.RESOURCES, uri)
        if listed is not None:
            return self._read_at(message, params, caller, head, uri, listed, listed.entry.name)
        if not caller.widened and own.wants(session, view, Kind.RESOURCES):
            return Widen(Kind.RESOURCES)

        def calls() -> list[Outgoing]:
            found: list[Outgoing] = []
            refused: CallError | None = None
            routes = own.view_of(session, view).locate(uri)
            there = {route.group for route, _ in routes}
            beyond = own.beyond(session, view, Kind.RESOURCES, uri)
            routes += [(route, uri) for route in beyond if route.group not in there]
            for route, upstream_uri in routes:
                try:
                    found.append(self._read_at(message, params, caller, head, uri, route, upstream_uri))
                except Refused as error:
                    if not params.request_state:
                        raise
                    refused = error  # the state of a retry belongs to one group; the others refuse it
            if refused is not None and not found:
                raise refused
            return found

        code = -32002 if caller.era is Era.LEGACY else -32602
        unknown = jsonrpc.error_object(code, f"resource not found: {uri[:256]}", {"uri": uri[:256]})
        return OneOf(calls, answers.error(bytes(message.id), unknown, caller.era, code))

    def _read_at(
        self,
        message: Message,
        params: Params,
        caller: Caller,
        head: RequestHead,
        uri: str,
        route: Route,
        upstream_uri: str,
    ) -> Outgoing:
        """Return the request that reads ``uri`` at a group that names it ``upstream_uri``."""
        if route.guard is not None:
            _check_guard(route, NO_ARGUMENTS, caller)
        body = bytes(message.params)
        if upstream_uri == uri:
            return self._requests.make(message, body, params, caller, route, head, upstream_uri)
        body = renamed(body, "uri", upstream_uri)
        return self._requests.make(message, body, params, caller, route, head, upstream_uri, listed_name=uri)


def _check_guard(route: Route, params: Raw, caller: Caller) -> None:
    """Raise ``Refused`` unless the call fulfils what the rules of access demand of it. ``params`` are what the upstream
    gets."""
    assert route.guard is not None
    arguments = jsonrpc.arguments_of(params) or b""
    route.guard.check(arguments, caller.principal.id, caller.principal.kind)


def _completes_closed(route: Route, parts: dict[str, Any]) -> bool:
    """Whether a completion is about an argument that clients do not see."""
    if route.shape is None:
        return False
    argument = jsonrpc.members(parts.get("argument", jsonrpc.ABSENT))
    return route.shape.closes(jsonrpc.text(argument.get("name", jsonrpc.ABSENT), "argument.name"))
