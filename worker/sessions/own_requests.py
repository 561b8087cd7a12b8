"""The worker's own requests on an upstream session: ``initialize``, lists, pings, log levels.

They are functions of a session rather than an object that the session has: the two would refer to each other, and a
session that has ended would stay in memory until the garbage collector looks.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Protocol

import msgspec
import orjson

from shared.errors import CallError, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.methods import INITIALIZE, SET_LEVEL
from shared.mcp.versions import Era
from worker.bridge import params as bridge_params
from worker.calls.call import Call, Holder
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall
from worker.sessions import handshake
from worker.sessions.context import SessionContext
from worker.sessions.correlation import Correlation
from worker.sessions.greeting import greet

_log = logging.getLogger(__name__)


class RequestingSession(Holder, Protocol):
    """The session on which a request is sent (``worker.sessions.session``)."""

    context: SessionContext
    era: Era
    correlation: Correlation

    def transmit(self, call: Call) -> None:
        """Send a call on the session, which is ready."""

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        """Send a request, also before the session is ready."""


def params(context: SessionContext, era: Era, members: dict[str, Any]) -> bytes:
    """Return ``params`` of a request of the worker's own, with the ``_meta`` that the era requires."""
    return bridge_params.translate(orjson.dumps(members), Era.LEGACY, era, None, b"{}", context.client_info)


async def request(session: RequestingSession, method: str, members: dict[str, Any], timeout_s: float) -> bytes:
    """Send a request on a session that is ready, and return the JSON of the result. Raises ``CallError``."""
    call = OwnCall(method, params(session.context, session.era, members), session.era, timeout_s)
    call.upstream_era = session.era
    call.holder = session
    session.transmit(call)
    try:
        async with asyncio.timeout(timeout_s):
            return await call.future
    except TimeoutError:
        call.stop("timeout")
        raise OutcomeUnknown("timeout", f"no answer to {method} in {timeout_s:g} s") from None
    except asyncio.CancelledError:
        call.stop("nobody waits for it")
        raise
    finally:
        del call  # an error of its future refers to this frame


async def set_level(session: RequestingSession, level: str) -> None:
    """Set the level of the upstream's log messages. An upstream that refuses logs at its own level."""
    try:
        await request(session, SET_LEVEL, {"level": level}, session.context.settings.upstreams.connect_timeout_s)
    except CallError as error:
        _log.info("%s: its log level could not be set: %s", session.context.spec.id, error)


async def initialize(session: RequestingSession, client: ClientFacts) -> handshake.Greeting:
    """Send ``initialize`` for a session of ``client``, and again with what the upstream takes if it refuses that.
    Return what the upstream says. Raises ``CallError``."""
    offered = handshake.offer(client, session.context.settings.service.name)
    return await greet(offered, partial(_initialize, session))


async def _initialize(session: RequestingSession, members: dict[str, Any]) -> bytes:
    call = OwnCall(INITIALIZE, msgspec.json.encode(members), Era.LEGACY, 0)
    id = session.correlation.begin(call)
    session.send_request(id, call, jsonrpc.request(b"%d" % id, INITIALIZE, call.params))
    try:
        return await call.future
    except asyncio.CancelledError:
        session.correlation.forget(id)
        raise
    finally:
        del call  # an error of its future refers to this frame
