"""Streamable HTTP to an upstream: reaching it and finding its eras.

Counterpart: ``worker.transports.streamable_http_sessions``, which carries the calls.
"""

from __future__ import annotations

import asyncio
from typing import Any

from shared.choices import EraChoice
from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import sse, values
from shared.mcp.methods import DISCOVER
from shared.mcp.versions import LATEST_MODERN, Era
from shared.tasks import cancel, spawn
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.sessions.context import SessionContext
from worker.sessions.session import Session
from worker.transports.eras import http_verdict
from worker.transports.http_client import HttpPool
from worker.transports.http_post import OLDER
from worker.transports.http_reach import http_pool, reach_by_url
from worker.transports.http_sse import reach_sse
from worker.transports.streamable_http_sessions import ACCEPT, LegacyHttp, ModernHttp
from worker.transports.transport import DRIVERS, Pool, Reached, UpstreamFacts, facts_of, opened


class _Answer:
    """Collects one HTTP response. An event stream ends with its first message."""

    def __init__(self, pool: HttpPool, request: bytes) -> None:
        self.pool = pool
        self.request: bytes | tuple[bytes, ...] = request
        self.status = 0
        self.refusal = b""
        self.body = b""
        self.reader: sse.Reader | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status, self.refusal = status, headers.get(b"www-authenticate", b"")
        if headers.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            self.reader = sse.Reader(1024 * 1024)

    def on_body(self, data: bytes) -> None:
        if self.reader is None:
            self.body = (self.body + data)[: 1024 * 1024]
            return
        for event in self.reader.feed(data):
            if event.data and not self.done.done():
                self.body = bytes(event.data)
                self.done.set_result(None)

    def on_complete(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def on_failed(self, error: CallError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def _ask_discover(pool: HttpPool, context: SessionContext) -> _Answer:
    """Return the upstream's answer to ``server/discover``. Raises ``CallError``."""
    session = ModernHttp(context, pool)
    message = b'{"jsonrpc":"2.0","id":"probe","method":"server/discover","params":%b}' % session.own_params({})
    head = pool.endpoint.head("POST", {**ACCEPT, "MCP-Protocol-Version": LATEST_MODERN, "Mcp-Method": DISCOVER})
    answer = _Answer(pool, b"%bContent-Length: %d\r\n\r\n%b" % (head, len(message), message))
    pool.submit(answer)
    try:
        async with asyncio.timeout(context.settings.upstreams.start_timeout_s):
            await answer.done
    except TimeoutError:
        raise NotDelivered(
            "upstream_unavailable", f"no answer in {context.settings.upstreams.start_timeout_s:g} s"
        ) from None
    finally:
        pool.cancel(answer)
    return answer


async def _discovered(pool: HttpPool, context: SessionContext) -> dict[str, Any] | CallError | None:
    """Return what a modern upstream says of itself, ``None`` for a legacy one, or why its answer means nothing."""
    try:
        answer = await _ask_discover(pool, context)
        if not http_verdict(answer.status, answer.body, answer.refusal):
            return None
        return values.loads(answer.body).get("result") or {}
    except CallError as error:
        return error


async def _reach_modern(context: SessionContext, pool: HttpPool) -> Reached:
    said = await _discovered(pool, context)
    if isinstance(said, CallError):
        raise said
    if said is None:
        raise OutcomeUnknown("upstream_protocol", "'era' is 'modern', but it does not speak 2026-07-28")
    facts = facts_of((Era.MODERN.word,), "http", pool.endpoint.url, False, LATEST_MODERN, said)
    return Reached(facts, ModernHttp(context, pool))


async def _reach_streamable(context: SessionContext, pool: HttpPool) -> Reached:
    """Ask for the modern era, and make a handshake in the legacy one.

    Servers meet a method that they do not know with any status, or with silence. So only an upstream that cannot be
    connected to is not greeted as well.
    """
    if context.spec.era is EraChoice.MODERN:
        return await _reach_modern(context, pool)
    if context.spec.era is EraChoice.LEGACY:
        return await _reach_both(context, pool, None)
    asking = spawn(_discovered(pool, context), f"discover {context.spec.id}")
    try:
        await asyncio.wait({asking}, timeout=context.settings.upstreams.probe_timeout_s)
        if asking.done() and isinstance(said := asking.result(), CallError) and said.data.get("certain"):
            raise said
        return await _reach_both(context, pool, asking)
    finally:
        await cancel(asking)


async def _reach_both(
    context: SessionContext, pool: HttpPool, asking: asyncio.Task[dict[str, Any] | CallError | None] | None
) -> Reached:
    """Make the handshake. An upstream that refuses it is one of the modern era alone, or cannot be reached."""
    legacy = LegacyHttp(context, pool)
    failure: CallError | None = None
    try:
        await opened(legacy)
    except CallError as error:
        failure = error
    modern: dict[str, Any] | CallError | None = None
    if asking is not None and (failure is not None or asking.done()):
        modern = await asking
    if failure is None:
        eras: tuple[str, ...] = (Era.LEGACY.word,)
        sessionful = bool(legacy.sid)
        if not isinstance(modern, dict):
            facts = facts_of(eras, "http", pool.endpoint.url, sessionful, legacy.protocol_version, legacy.server)
            return Reached(facts, legacy)
        eras += (Era.MODERN.word,)
        await legacy.close()
    elif isinstance(modern, dict):
        eras, sessionful = (Era.MODERN.word,), False
    elif OLDER in failure.data or failure.data.get("http") in ("400", "404", "405"):
        return await _fall_back_to_sse(context, pool, failure)
    elif isinstance(modern, CallError) and failure.data.get("http") in (None, modern.data.get("http")):
        raise modern  # it says as much, and is about the first request
    else:
        raise failure
    facts = facts_of(eras, "http", pool.endpoint.url, sessionful, LATEST_MODERN, modern)
    return Reached(facts, ModernHttp(context, pool))


async def _fall_back_to_sse(context: SessionContext, pool: HttpPool, first: CallError) -> Reached:
    """Reach an old server under an ``http`` entry by HTTP+SSE (specification, "Backward Compatibility")."""
    try:
        return await reach_sse(context, pool)
    except CallError as second:
        if "http" not in second.data:  # it has opened its stream, so that is what it speaks
            raise
        raise first from None


class StreamableHttpTransport:
    """Implements ``worker.transports.transport.TransportDriver`` for Streamable HTTP."""

    async def reach(self, context: SessionContext) -> Reached:
        """Probe for the modern era, then make a handshake in the legacy era as well."""
        return await reach_by_url(context, "/mcp", False, _reach_streamable)

    def make_pool(self, context: SessionContext, facts: UpstreamFacts) -> Pool | None:
        return http_pool(context, facts.url)

    def make_session(
        self,
        context: SessionContext,
        era: Era,
        pool: Pool | None,
        client: ClientFacts = NOBODY,
        sid_of_client: str = "",
    ) -> Session:
        assert isinstance(pool, HttpPool)
        if era is Era.MODERN:
            return ModernHttp(context, pool)
        return LegacyHttp(context, pool, client, sid_of_client)


DRIVERS["http"] = StreamableHttpTransport()
