"""The two tools by which others are found and called, where tools are searched (``routing.discovery``).

``search_tools`` is answered here. A call of ``call_tool`` becomes a call of the tool that it names, and is planned as
such: everything that is true of that tool's own calls is true of this one, its limits and its line in the audit log
included.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from gateway.admission.caller import Caller
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.tool_search import ToolSearch
from gateway.protocol import answers
from gateway.protocol.answers import Answer
from gateway.protocol.plans import Effect
from gateway.routing.discovery import CALL_TOOL, DEFAULT_FOUND, MOST_FOUND, SEARCH_TOOLS, SearchView, searched
from gateway.routing.entries import renamed
from gateway.routing.view import Listed, View
from gateway.sessions.session import ClientSession
from gateway.telemetry.observer import ClientHead, ObservedCall
from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.listings import KINDS, Kind

_SHOWN = ("name", "title", "description", "inputSchema")
"""The members of a tool that a search returns."""
_MOST_QUERY = 2000


class _Query(Struct):
    query: str
    limit: int = DEFAULT_FOUND


class _Called(Struct):
    name: str
    arguments: Raw = Raw(b"{}")


class _Search(ObservedCall, kw_only=True):
    """A search as observers see it."""

    params: bytes
    session: ClientSession | None = None


class ToolDiscovery:
    """Answers ``search_tools``, and says what ``call_tool`` calls."""

    def __init__(self, dispatcher: Dispatcher, search: ToolSearch) -> None:
        self._dispatcher = dispatcher
        self._search = search

    def search(
        self,
        message: Message,
        caller: Caller,
        view: View,
        client: ClientHead | None = None,
        meta: jsonrpc.Meta | None = None,
    ) -> Answer | Effect:
        """Return the plan of a search in ``view``, which may list its tools by now (``auto``). ``client`` and ``meta``
        are what observers see of the request.

        What is wrong with the arguments is the tool's error, which models read.
        """
        try:
            wanted = msgspec.json.decode(jsonrpc.arguments_of(message.params) or b"{}", type=_Query)
        except msgspec.DecodeError as error:
            return _wrong(message, caller, f"search_tools needs a 'query' of a few words: {error}")
        if not wanted.query.strip() or not 1 <= wanted.limit <= MOST_FOUND:
            return _wrong(message, caller, f"search_tools needs a 'query', and a 'limit' from 1 to {MOST_FOUND}")
        searchable = view if isinstance(view, SearchView) else searched(view, None)
        call = _Search(
            id=bytes(message.id),
            method=message.method,
            name=SEARCH_TOOLS.name,
            principal=caller.principal.id,
            era=caller.era,
            quota=caller.principal.quota,
            params=bytes(message.params),
            session=caller.session,
            client=client,
            meta=meta,
        )

        async def run() -> Answer:
            query = wanted.query[:_MOST_QUERY]
            found = await self._dispatcher.here(call, lambda: self._search.find(searchable, query, wanted.limit))
            return _result(message, caller, _found(found), {"tools": [_shown(one) for one in found]})

        return Effect(run)

    def called(self, message: Message, caller: Caller) -> Message | Answer:
        """Return the call that a call of ``call_tool`` stands for, or the answer if it does not say which. Raises
        ``Refused`` for one of these two tools."""
        try:
            wanted = msgspec.json.decode(jsonrpc.arguments_of(message.params) or b"{}", type=_Called)
            given = bytes(wanted.arguments)
            arguments = {} if given == b"null" else jsonrpc.members(wanted.arguments)
        except (msgspec.DecodeError, Refused) as error:
            return _wrong(
                message, caller, f"call_tool needs the 'name' of a tool, and its 'arguments' as an object: {error}"
            )
        if wanted.name in (SEARCH_TOOLS.name, CALL_TOOL.name):
            raise caller.view.unknown(Kind.TOOLS, wanted.name)
        parts: dict[str, Any] = jsonrpc.members(message.params)
        parts["name"] = wanted.name
        parts["arguments"] = wanted.arguments if arguments else {}
        return structs.replace(message, params=Raw(jsonrpc.assemble(parts)))


def _shown(tool: Listed) -> dict[str, Raw]:
    members = jsonrpc.members(renamed(tool.route.entry.modern, KINDS[Kind.TOOLS].key, tool.name))
    return {name: members[name] for name in _SHOWN if name in members}


def _found(tools: list[Listed]) -> str:
    return "" if tools else "No tool fits. Try other words for what it should do, or fewer."


def _wrong(message: Message, caller: Caller, text: str) -> Answer:
    return _result(message, caller, text, None)


def _result(message: Message, caller: Caller, text: str, structured: dict[str, Any] | None) -> Answer:
    """Return the answer of a tool of the gateway's own; without ``structured`` it is an error that models read."""
    complete = {"resultType": "complete"} if caller.era else {}
    said = text or msgspec.json.encode(structured).decode()
    result: dict[str, Any] = {**complete, "content": [{"type": "text", "text": said}]}
    if structured is None:
        result["isError"] = True
    else:
        result["structuredContent"] = structured
    return answers.result(bytes(message.id), msgspec.json.encode(result))
