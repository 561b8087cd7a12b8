"""An HTTP API that an OpenAPI document describes, as an upstream: its operations are tools.

There is no MCP on the wire. ``OpenApiSession`` answers lists from the document, and makes one HTTP request of each
``tools/call``. Towards the rest of the worker it is a session of the modern era: stateless, for all clients.
Counterparts: ``openapi_document`` gets the document, ``worker.openapi`` makes requests and results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from shared.connections import OpenApiConnection
from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.methods import DISCOVER, TOOLS_CALL, TOOLS_LIST
from shared.mcp.rope import Whole
from shared.mcp.versions import LATEST_MODERN, MODERN_VERSIONS, Era
from shared.oauth.challenges import read_challenge
from shared.tasks import spawn
from worker.calls.call import Call
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.openapi import answers
from worker.openapi.operations import Api, Operation
from worker.openapi.requests import make_request
from worker.openapi.serialization import WrongArgument
from worker.sessions.context import SessionContext
from worker.sessions.session import Session
from worker.transports import overload
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import header_lines
from worker.transports.http_post import Post
from worker.transports.http_reach import anonymous_pool, http_pool
from worker.transports.openapi_document import Document
from worker.transports.streamable_http_sessions import HttpSession
from worker.transports.transport import DRIVERS, Pool, Reached, UpstreamFacts, end

_UNKNOWN_AGAIN_S = 5.0
"""How often an unknown name has the document got again: another worker may have listed a newer one."""


class _Params(Struct):
    name: str
    arguments: dict[str, Raw] = {}


class _Exchange(Post):
    """One request to the API. Event streams are collected like any other answer."""

    __slots__ = ()

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self.retry_after = headers.get(b"retry-after", b"")


class _Look:
    """Asks whether the API is there. The status is enough: the answer to ``HEAD`` has no body, whatever it announces,
    so its connection is closed."""

    def __init__(self, pool: HttpPool, request: bytes) -> None:
        self.request: bytes | tuple[bytes, ...] = request
        self.retry_after = b""
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pool = pool

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.retry_after = headers.get(b"retry-after", b"")
        if not self.done.done():
            self.done.set_result(status)
        self._pool.cancel(self)

    def on_body(self, data: bytes) -> None:
        """Ignore the body."""

    def on_complete(self) -> None:
        """Do nothing: the status was taken."""

    def on_failed(self, error: CallError) -> None:
        if self.done.done():
            return
        status = error.data.get("http", "")
        if status.startswith("3"):  # it leads elsewhere, so somebody is there
            self.done.set_result(int(status))
        else:
            self.done.set_exception(error)


class OpenApiPool:
    """What the sessions of one upstream share: the connections, and the document."""

    def __init__(self, context: SessionContext) -> None:
        connection = cast(OpenApiConnection, context.spec.connection)
        self.http = http_pool(context, connection.url)
        # Whether an API is there at all is asked without an account: of a caller's own there is none before the first
        # one has connected, and the tools should be known by then.
        self.looking = anonymous_pool(context, connection.url) if not connection.health else None
        self.document = Document(context, connection)
        self.health = connection.health
        parts = urlsplit(connection.url)
        path, query = (parts.fragment, "") if parts.scheme == "unix" else (parts.path, parts.query)
        self._base = path.rstrip("/")
        self._query = query

    def head(self, method: str, target: str, headers: dict[str, str], from_root: bool = False) -> bytes:
        """Return the start of a request to a target below the API's URL, or below its origin (``from_root``)."""
        whole = target if from_root else self._base + target
        if self._query:
            whole += ("&" if "?" in whole else "?") + self._query
        return self.http.endpoint.head(method, headers, whole or "/")

    def trim(self) -> None:
        """Drop idle connections."""
        self.http.trim()
        if self.looking is not None:
            self.looking.trim()
        self.document.trim()

    def close(self) -> None:
        """Close everything."""
        self.http.close()
        if self.looking is not None:
            self.looking.close()
        self.document.close()


class OpenApiSession(HttpSession):
    """See the module."""

    streams_apart = True

    def __init__(
        self,
        context: SessionContext,
        shared: OpenApiPool,
        era: Era = Era.MODERN,
        client: ClientFacts = NOBODY,
        sid_of_client: str = "",
    ) -> None:
        super().__init__(context, era, shared.http, client, sid_of_client)
        self.protocol_version = LATEST_MODERN
        self.shared = shared

    async def connect(self) -> None:
        """Read the document, unless that has been done."""
        if self.shared.document.api is None:
            await self.shared.document.refresh()

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        if call.method == TOOLS_CALL:
            self._call(id, call)
        elif call.method == TOOLS_LIST:
            self._later(id, self._list())
        elif call.method == DISCOVER:
            self._later(id, self._discover())
        else:
            self._answer(id, True, jsonrpc.error_object(-32601, f"an HTTP API has no {call.method}"))

    def send_notification(self, message: bytes) -> None:
        """Do nothing: there is nothing that an HTTP API could be notified of."""

    def cancel_request(self, id: int, call: Call, reason: str) -> None:
        post = self.posts.pop(id, None)
        if post is not None:
            self.pool.cancel(post)

    def _answer(self, id: int, is_error: bool, raw: bytes) -> None:
        call = self.correlation.forget(id)
        if call is not None and not call.done:
            call.answer(is_error, raw)

    def _later(self, id: int, work: Coroutine[Any, Any, bytes]) -> None:
        spawn(self._answer_later(id, work), "ask-api")

    async def _answer_later(self, id: int, work: Coroutine[Any, Any, bytes]) -> None:
        try:
            self._answer(id, False, await work)
        except CallError as error:
            call = self.correlation.forget(id)
            if call is not None:
                call.fail(error)

    # ---- lists and health

    async def look(self) -> None:
        """Raise ``CallError`` unless the API is there: it answers ``HEAD`` of its URL, or ``GET`` of ``health`` with
        success."""
        health = self.shared.health
        head = self.shared.head("GET" if health else "HEAD", health, {"Accept": "*/*"})
        pool = self.shared.looking or self.pool
        look = _Look(pool, head + b"\r\n")
        pool.submit(look)
        try:
            async with asyncio.timeout(self.context.settings.health.health_check_timeout_s):
                status = await look.done
        except TimeoutError:
            raise OutcomeUnknown("timeout", "the API did not answer a health check in time") from None
        finally:
            pool.cancel(look)
        where = self.pool.endpoint.shown
        if status in overload.STATUSES:
            raise overload.overloaded(where, status, look.retry_after)
        if status >= 400 if health else (status >= 500 and status != 501):
            raise NotDelivered("upstream_unavailable", f"{where} answered HTTP {status}", {"http": str(status)})

    async def _discover(self) -> bytes:
        await self.look()
        api = self.shared.document.api
        return _discovered(api.instructions if api is not None else "")

    async def _list(self) -> bytes:
        api = await self.shared.document.refresh()
        await self.look()
        self.flaws = api.flaws
        return jsonrpc.assemble({"resultType": "complete", "tools": api.tools})

    # ---- calls

    def _call(self, id: int, call: Call) -> None:
        document = self.shared.document
        assert document.api is not None
        age_s = self.loop.time() - document.read_at
        try:
            params = msgspec.json.decode(call.params, type=_Params)
        except msgspec.DecodeError as error:
            self._answer(id, True, jsonrpc.error_object(-32602, f"params: {error}"))
            return
        operation = document.api.operations.get(params.name)
        if operation is not None:
            self._send(id, call, operation, params.arguments)
            if age_s > 2 * self.context.settings.health.refresh_interval_s:  # only the upstream's leader lists
                spawn(self._refresh(), "refresh-document")
        elif age_s > _UNKNOWN_AGAIN_S:
            spawn(self._call_after_refresh(id, call), "refresh-document")
        else:
            self._unknown(id, params.name)

    async def _refresh(self) -> None:
        try:
            await self.shared.document.refresh()
        except CallError:
            self.shared.document.read_at = self.loop.time()  # later again

    async def _call_after_refresh(self, id: int, call: Call) -> None:
        await self._refresh()
        if not call.done and self.correlation.calls.get(id) is call:
            self._call(id, call)

    def _unknown(self, id: int, name: str) -> None:
        self._answer(id, True, jsonrpc.error_object(-32602, f"Unknown tool: {name}"))

    def _send(self, id: int, call: Call, operation: Operation, arguments: dict[str, Raw]) -> None:
        try:
            request = make_request(operation, arguments)
        except WrongArgument as error:
            self._answer(id, False, answers.tool_error(str(error)))
            return
        head = self.shared.head(request.method, request.target, request.headers, operation.from_root)
        if call.passed:
            head += header_lines(call.passed)
        head += call.trace_lines
        if request.body or operation.method != "GET":
            head += b"Content-Length: %d\r\n" % len(request.body)
        exchange = _Exchange(self, (head + b"\r\n", request.body) if request.body else head + b"\r\n", id, call)
        self.posts[id] = exchange
        self.pool.submit(exchange)

    def answered(self, post: Post, body: Whole) -> None:
        call = post.call
        if call is None or not post.unanswered:
            return
        where, status = self.pool.endpoint.authority, post.status
        if status == 401:
            self.correlation.forget(post.id)
            said = read_challenge(status, post.refusal).said
            text = f"{where} answered HTTP 401{said}: check the headers configured for it, or its auth"
            call.fail(NotDelivered(self.pool.refused_code, text, {"http": "401"}))
        elif status in overload.STATUSES:
            self.correlation.forget(post.id)
            call.fail(overload.overloaded(where, status, post.retry_after))
        else:
            self._answer(post.id, False, answers.result(status, post.kind, bytes(body)))

    def release(self) -> None:
        """Close the connections, which no other session uses."""
        self.shared.close()


def _discovered(instructions: str) -> bytes:
    said: dict[str, Any] = {
        "resultType": "complete",
        "supportedVersions": list(MODERN_VERSIONS),
        "capabilities": {"tools": {}},
    }
    if instructions:
        said["instructions"] = instructions
    return jsonrpc.assemble(said)


class OpenApiTransport:
    """Implements ``worker.transports.transport.TransportDriver`` for HTTP APIs."""

    async def reach(self, context: SessionContext) -> Reached:
        """Read the document, and look whether the API is there."""
        connection = cast(OpenApiConnection, context.spec.connection)
        session = OpenApiSession(context, OpenApiPool(context))
        try:
            await session.open()
            await session.look()
        except BaseException:
            await end(session)
            session.release()
            raise
        api = cast(Api, session.shared.document.api)
        facts = UpstreamFacts(
            (Era.MODERN.word,), "openapi", connection.url, False, LATEST_MODERN, {"tools": {}}, api.instructions
        )
        return Reached(facts, session)

    def make_pool(self, context: SessionContext, facts: UpstreamFacts) -> Pool | None:
        return OpenApiPool(context)

    def make_session(
        self,
        context: SessionContext,
        era: Era,
        pool: Pool | None,
        client: ClientFacts = NOBODY,
        sid_of_client: str = "",
    ) -> Session:
        assert isinstance(pool, OpenApiPool)
        return OpenApiSession(context, pool, era, client, sid_of_client)


DRIVERS["openapi"] = OpenApiTransport()
