"""Greeting a server that refuses a part of what ``initialize`` says. Counterparts: ``handshake``, which knows what is
said there, and ``session``, which sends it.

Servers that read the request by a closed schema refuse capabilities that are younger than they are: those on the Java
SDK before 0.17.1 know elicitation as an empty object only, and older ones do not know it. A gateway declares what any
client may have, so it would meet all of them; it can do without.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import structs

from shared.errors import CallError
from shared.mcp.versions import other_version
from worker.calls.own_call import UpstreamError
from worker.sessions import handshake

Initialize = Callable[[dict[str, Any]], Awaitable[bytes]]
_NO_METHOD = -32601
_OF_MODERN_SERVERS = range(-32029, -32019)
"""Codes of errors that only servers of the modern era send (2026-07-28, basic, "Error Codes")."""
_ABOUT_THE_REQUEST = ("400", "422", "500")
"""HTTP statuses of servers that cannot read a request."""


async def greet(offered: dict[str, Any], initialize: Initialize) -> handshake.Greeting:
    """Send ``initialize`` with ``offered``, again in another version if the server asks for it, or with less if it
    refuses that. Return what the server says. Raises ``CallError``: the first refusal, if it refuses everything."""
    refused: CallError | None = None
    try:
        return handshake.read_answer(await initialize(offered))
    except CallError as error:
        refused = error
    try:
        other = other_version(refused.detail) if isinstance(refused, UpstreamError) else None
        if other is not None:
            return handshake.read_answer(await initialize({**offered, "protocolVersion": other}))
        for less in handshake.plainer(offered) if _may_be_about_it(refused) else ():
            greeting = await _greeted_with(less, initialize)
            if greeting is not None:
                return greeting
        raise refused
    finally:
        refused = None  # it refers to this frame


async def _greeted_with(less: dict[str, Any], initialize: Initialize) -> handshake.Greeting | None:
    try:
        greeting = handshake.read_answer(await initialize(less))
    except CallError:
        return None
    said = ", ".join(less["capabilities"]) or "none"
    flaw = f"initialize: it refuses capabilities of clients that it does not know, and was told of: {said}"
    return structs.replace(greeting, flaws=(*greeting.flaws, flaw))


def _may_be_about_it(refused: CallError) -> bool:
    """Whether a refusal may be about what was offered."""
    if isinstance(refused, UpstreamError):
        return refused.rpc_code != _NO_METHOD and refused.rpc_code not in _OF_MODERN_SERVERS
    return refused.data.get("http") in _ABOUT_THE_REQUEST
