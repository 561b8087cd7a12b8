"""Which eras an upstream speaks, and how it is reached. The verdicts are pure functions; the driver asks.

Specification 2026-07-28, streamable-http and stdio, "Backward Compatibility": a ``server/discover`` that names a
modern version, or one of the modern error codes, means modern; any other MCP answer, HTML or 4xx means legacy;
401, 403, 429, 5xx and network errors mean nothing yet.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
from msgspec import Struct

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import sse
from shared.mcp.methods import DISCOVER
from shared.mcp.versions import LATEST_MODERN, MODERN_VERSIONS, Era
from shared.models import EraChoice, HttpConnection
from shared.tasks import cancel, spawn
from worker.calls.calls import UpstreamError
from worker.sessions.context import SessionContext
from worker.sessions.session import Session
from worker.transports.http_client import HttpEndpoint, HttpPool
from worker.transports.http_sse import SseSession
from worker.transports.stdio import StdioSession
from worker.transports.streamable_http import LegacyHttp, ModernHttp

MODERN_CODES = (-32020, -32021, -32022)


class Facts(Struct, frozen=True):
    """What is known of an upstream once it has been reached."""

    eras: tuple[str, ...]
    transport: str
    url: str = ""
    sessionful: bool = False
    protocol_version: str = ""
    capabilities: dict[str, Any] = {}
    instructions: str = ""


class Reached(Struct):
    """A probe's outcome: the facts, and the session left open for listing and health checks."""

    facts: Facts
    session: Session


def _facts(
    eras: tuple[str, ...], transport: str, url: str, sessionful: bool, version: str, said: dict[str, Any]
) -> Facts:
    """``said`` is the upstream's answer to ``initialize`` or ``server/discover``."""
    capabilities = said.get("capabilities")
    instructions = said.get("instructions")
    return Facts(
        eras,
        transport,
        url,
        sessionful,
        version,
        capabilities if isinstance(capabilities, dict) else {},
        instructions if isinstance(instructions, str) else "",
    )


def is_modern(answer: Any) -> bool | None:
    """The verdict on a decoded answer to ``server/discover``: modern, legacy, or ``None`` for no JSON-RPC at all."""
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        return None
    result = answer.get("result")
    if isinstance(result, dict):
        versions = result.get("supportedVersions")
        return isinstance(versions, list) and any(version in MODERN_VERSIONS for version in versions)
    error = answer.get("error")
    return isinstance(error, dict) and speaks_modern(error)


def speaks_modern(error: dict[str, Any]) -> bool:
    """Whether a JSON-RPC error object is one that only a modern server sends."""
    if error.get("code") not in MODERN_CODES:
        return False
    data = error.get("data")
    supported = data.get("supported") if isinstance(data, dict) else None
    return not isinstance(supported, list) or any(version in MODERN_VERSIONS for version in supported)


def http_verdict(status: int, body: bytes) -> bool:
    """Modern or not, from the HTTP answer to ``server/discover``. Raises ``NotDelivered`` when it tells nothing."""
    if status in (401, 403):
        raise NotDelivered(
            "upstream_unavailable",
            f"HTTP {status}: check the headers configured for it",
            {"http": str(status)},
        )
    if status == 429 or status >= 500:
        raise NotDelivered("upstream_unavailable", f"HTTP {status}: it cannot serve now", {"http": str(status)})
    try:
        return bool(is_modern(orjson.loads(body)))
    except orjson.JSONDecodeError:
        return False


class _Answer:
    """Collects one HTTP answer; an event stream ends it with its first message."""

    def __init__(self, pool: HttpPool, request: bytes) -> None:
        self.pool = pool
        self.request: bytes | tuple[bytes, ...] = request
        self.status = 0
        self.body = b""
        self.reader: sse.Reader | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
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
    session = ModernHttp(context, pool)
    message = b'{"jsonrpc":"2.0","id":"probe","method":"server/discover","params":%b}' % session.own_params({})
    head = pool.endpoint.head(
        "POST",
        {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": LATEST_MODERN,
            "Mcp-Method": DISCOVER,
        },
    )
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


def urls_to_try(url: str, transport: str) -> list[str]:
    """An origin-only URL also stands for the usual path of its transport."""
    parts = urlsplit(url)
    if parts.path not in ("", "/"):
        return [url]
    usual = "/sse" if transport == "sse" else "/mcp"
    at_usual = urlunsplit(parts._replace(path=usual))
    return [at_usual, url] if transport == "sse" else [url, at_usual]


async def reach_http(context: SessionContext) -> Reached:
    """Reach an ``http`` or ``sse`` upstream. Raises ``CallError`` with the reason when none of its URLs works."""
    connection = context.spec.connection
    assert isinstance(connection, HttpConnection)
    failure: CallError | None = None
    for url in urls_to_try(connection.url, connection.type):
        pool = HttpPool(HttpEndpoint(url, connection.headers), context.settings.upstreams)
        try:
            if connection.type == "sse":
                return await _reach_sse(context, pool)
            return await _reach_streamable(context, pool)
        except asyncio.CancelledError:
            pool.close()
            raise
        except CallError as error:
            pool.close()
            failure = failure or error
            if error.data.get("certain"):
                break  # nothing listens there: other paths will not either
    assert failure is not None
    raise failure


async def _reach_sse(context: SessionContext, pool: HttpPool) -> Reached:
    session = SseSession(context, pool)
    await _opened(session)
    version = session.protocol_version
    return Reached(_facts((Era.LEGACY.word,), "sse", pool.endpoint.url, True, version, session.server), session)


async def _reach_streamable(context: SessionContext, pool: HttpPool) -> Reached:
    choice = context.spec.era
    modern: dict[str, Any] | None = None
    if choice is not EraChoice.LEGACY:
        answer = await _ask_discover(pool, context)
        if http_verdict(answer.status, answer.body):
            modern = orjson.loads(answer.body).get("result") or {}
        elif choice is EraChoice.MODERN:
            raise OutcomeUnknown("upstream_protocol", "'era' is 'modern', but it does not speak 2026-07-28")
    legacy: LegacyHttp | None = None
    if choice is not EraChoice.MODERN:
        legacy = LegacyHttp(context, pool)
        try:
            await _opened(legacy)
        except CallError as error:
            if modern is None:
                if error.data.get("http") in ("400", "404", "405"):
                    return await _fall_back_to_sse(context, pool, error)
                raise
            legacy = None
    eras = tuple(era.word for era, there in ((Era.LEGACY, legacy), (Era.MODERN, modern)) if there is not None)
    sessionful = legacy is not None and bool(legacy.sid)
    if modern is None:
        assert legacy is not None
        facts = _facts(eras, "http", pool.endpoint.url, sessionful, legacy.protocol_version, legacy.server)
        return Reached(facts, legacy)
    if legacy is not None:
        await legacy.close()
    facts = _facts(eras, "http", pool.endpoint.url, sessionful, LATEST_MODERN, modern)
    return Reached(facts, ModernHttp(context, pool))


async def _fall_back_to_sse(context: SessionContext, pool: HttpPool, first: CallError) -> Reached:
    """An old server under an ``http`` entry (specification, "Backward Compatibility")."""
    try:
        return await _reach_sse(context, pool)
    except CallError:
        raise first from None


async def _opened(session: Session) -> None:
    try:
        await session.open()
    except BaseException:
        await _end(session)
        raise


async def _end(session: Session) -> None:
    """Close it, and wait for that however often it is asked to leave: nobody else knows of its child."""
    closing = spawn(session.close(), f"close {session.context.spec.id}")
    asked: asyncio.CancelledError | None = None
    while not closing.done():
        try:
            await asyncio.wait({closing})
        except asyncio.CancelledError as error:
            asked = error
    if asked is not None:
        raise asked


async def reach_stdio(context: SessionContext) -> Reached:
    """Start the child and find its era. Raises ``CallError`` with the reason; then no child is left."""
    within_s = context.settings.upstreams.start_timeout_s
    try:
        async with asyncio.timeout(within_s):
            return await _reach_child(context)
    except TimeoutError:
        raise NotDelivered(
            "upstream_unavailable",
            f"no handshake in {within_s:g} s; see 'gateway servers logs {context.spec.id}'",
            {"certain": "1"},
        ) from None


async def _reach_child(context: SessionContext) -> Reached:
    choice = context.spec.era
    unknown = choice is EraChoice.AUTO
    session = StdioSession(context, Era.MODERN if unknown else Era[choice.name], fresh=unknown)
    said: dict[str, Any] | None = None
    try:
        if unknown:
            said = await _greeted(session, context)
            if said is None and session.closed:  # it may have ended because of the probe
                session = StdioSession(context, Era.LEGACY)
        await session.open()
        if session.era is Era.LEGACY:
            said = session.server
        elif said is None:
            said = await _stdio_discovered(session, context)
    except BaseException:
        await _end(session)
        raise
    return Reached(_facts((session.era.word,), "stdio", "", False, session.protocol_version, said), session)


async def _greeted(session: StdioSession, context: SessionContext) -> dict[str, Any] | None:
    """Start the child; what it says of itself, if it is modern. Raises ``CallError`` when it will have neither era.

    One that says nothing for ``probeTimeout`` passes over what it does not know, or is slow to start. So it is greeted
    in the handshake era too, on the same pipe (another child would be as slow), and its answers decide.
    """
    wait_s = context.settings.upstreams.probe_timeout_s
    await session.spawn_child()
    asking = spawn(_stdio_is_modern(session, context), f"discover {context.spec.id}")
    greeting: asyncio.Task[CallError | None] | None = None
    try:
        await asyncio.wait({asking}, timeout=wait_s)
        if not asking.done():
            greeting = spawn(_stdio_greet(session), f"greet {context.spec.id}")
            await asyncio.wait({asking, greeting}, return_when=asyncio.FIRST_COMPLETED)
            if greeting.done() and greeting.result() is not None:
                await asyncio.wait({asking}, timeout=wait_s)  # it may come with the next line
        modern: dict[str, Any] | None = asking.result() if asking.done() else None
        if modern is not None:
            await cancel(greeting)
            session.server, session.logs = {}, False  # what an answer to the greeting left
            return modern
        session.era = Era.LEGACY
        failure = await greeting if greeting is not None else None
        if failure is not None and not session.closed:
            raise failure
        return None
    finally:
        await cancel(asking, greeting)


async def _stdio_greet(session: StdioSession) -> CallError | None:
    """``initialize``; what is wrong, if anything is."""
    try:
        await session.handshake()
    except CallError as error:
        return NotDelivered("upstream_unavailable", error.message, error.data)
    return None


async def _stdio_discovered(session: StdioSession, context: SessionContext) -> Any:
    """What the child answers to ``server/discover``. Raises ``CallError``."""
    answer = await session.request(DISCOVER, timeout_s=context.settings.upstreams.start_timeout_s)
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise OutcomeUnknown("upstream_protocol", f"its answer to server/discover is unreadable: {error}") from error


async def _stdio_is_modern(session: StdioSession, context: SessionContext) -> dict[str, Any] | None:
    """What a modern child says of itself; ``None`` for a legacy one, dead or alive."""
    try:
        result = await _stdio_discovered(session, context)
        if is_modern({"result": result}):
            return dict(result)
    except UpstreamError as error:
        if speaks_modern(error.detail):
            return {"capabilities": {"tools": {}}}
    except CallError:
        pass
    return None
