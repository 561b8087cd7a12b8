"""Getting the OpenAPI document of an upstream, and having it read by a process of its own (``worker.openapi``).

The document is got anew each time the upstream's lists are read, and read only if it has changed. What was read is
shared by all upstreams of this worker that have the same document, such as replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
from collections import OrderedDict
from urllib.parse import parse_qsl, urlsplit

import msgspec

from shared.child_environment import for_process
from shared.connections import HttpConnection, OpenApiConnection, origin_of
from shared.errors import CallError, NotDelivered
from shared.safe_python import SAFE_PYTHON
from shared.tasks import spawn
from worker.openapi.operations import Api, Asked, read
from worker.reaper import MARKER
from worker.sessions.context import SessionContext
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.http_reach import anonymous_pool, http_pool

_AT_ONCE = 2
"""The processes that read documents for one worker at the same time."""
_KEPT = 32
"""The APIs that are remembered by their document."""
_known: OrderedDict[bytes, Api] = OrderedDict()
_reading: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}


class _Fetch:
    """Collects one response of bounded size."""

    def __init__(self, pool: HttpPool, request: bytes, most: int) -> None:
        self.request: bytes | tuple[bytes, ...] = request
        self.status = 0
        self.etag = b""
        self.parts: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pool = pool
        self._left = most

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status, self.etag = status, headers.get(b"etag", b"")

    def on_body(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            self.parts.append(data)
        elif not self.done.done():
            self._pool.cancel(self)
            self.done.set_exception(_unusable("it is larger than maxCatalogBytes"))

    def on_complete(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def on_failed(self, error: CallError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Document:
    """The document of one upstream. ``api`` is what it says, once ``refresh`` was called."""

    def __init__(self, context: SessionContext, connection: OpenApiConnection) -> None:
        self.api: Api | None = None
        self.read_at = 0.0
        self._context = context
        self._connection = connection
        self._etag = b""
        self._pool: HttpPool | None = None
        self._refreshing: asyncio.Task[CallError | None] | None = None
        parts = urlsplit(connection.url)
        taken = {name.lower() for name in connection.headers} | set(connection.passed_names)
        if parts.username is not None or connection.auth is not None:
            taken.add("authorization")
        self._asked = msgspec.json.encode(
            Asked(
                connection.operations,
                tuple(sorted(taken)),
                tuple(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)),
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower(),
                context.settings.health.max_catalog_bytes,
            )
        )

    async def refresh(self) -> Api:
        """Get the document and return what it says. Callers that come meanwhile share the outcome. Raises
        ``CallError``."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = spawn(self._refresh(), f"document of {self._context.spec.id}")
        refreshing = self._refreshing
        await asyncio.wait({refreshing})
        failure = _unusable("the upstream was removed") if refreshing.cancelled() else refreshing.result()
        if failure is not None:
            raise failure
        assert self.api is not None
        return self.api

    async def _refresh(self) -> CallError | None:
        """Get the document, and return why that failed, if it did."""
        try:
            async with asyncio.timeout(self._context.settings.upstreams.start_timeout_s):
                data = await self._fetched() if self._connection.spec_url else await self._from_file()
                if data is not None:
                    self.api = await self._read(data)
        except TimeoutError:
            return _unusable("it was not there, or not read, within startTimeout")
        except CallError as error:
            return error
        self.read_at = asyncio.get_running_loop().time()
        return None

    async def _from_file(self) -> bytes:
        most = self._context.settings.health.max_catalog_bytes
        try:
            return await asyncio.to_thread(_file, self._connection.spec, most)
        except OSError as error:
            raise _unusable(f"cannot read {self._connection.spec}: {error.strerror or error}") from None

    async def _fetched(self) -> bytes | None:
        """Return the document at its URL, or ``None`` if it is the one that is known. Headers and credentials of the
        entry go there only if it is on the API's own origin."""
        if self._pool is None:
            url, connection = self._connection.spec_url, self._connection
            if origin_of(url) == origin_of(connection.url):
                self._pool = anonymous_pool(self._context, url) or http_pool(self._context, url)
            else:
                endpoint = HttpEndpoint(url, HttpConnection(url, proxy=connection.proxy))
                self._pool = HttpPool(endpoint, self._context.settings.upstreams)
        extra = {"Accept": "application/json, application/yaml, */*;q=0.5"}
        if self._etag and self.api is not None:
            extra["If-None-Match"] = self._etag.decode("latin-1")
        request = self._pool.endpoint.head("GET", extra) + b"\r\n"
        fetch = _Fetch(self._pool, request, self._context.settings.health.max_catalog_bytes)
        self._pool.submit(fetch)
        try:
            await fetch.done
        except CallError as error:
            raise NotDelivered(error.code, f"its OpenAPI document: {error.message}", error.data) from None
        finally:
            self._pool.cancel(fetch)
        if fetch.status == 304 and self.api is not None:
            return None
        if not 200 <= fetch.status < 300:
            raise _unusable(f"{self._pool.endpoint.shown} answered HTTP {fetch.status}")
        self._etag = fetch.etag
        return b"".join(fetch.parts)

    async def _read(self, data: bytes) -> Api:
        digest = hashlib.sha256(self._asked + b"\n" + data).digest()
        known = _known.get(digest)
        if known is None:
            known = await _read_apart(self._asked + b"\n" + data, self._context.incarnation)
            if known.problem:
                raise _unusable(known.problem)
            _known[digest] = known
            while len(_known) > _KEPT:
                _known.popitem(last=False)
        _known.move_to_end(digest)
        return known

    def trim(self) -> None:
        """Drop idle connections."""
        if self._pool is not None:
            self._pool.trim()

    def close(self) -> None:
        """Close the connections, and stop what is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        if self._pool is not None:
            self._pool.close()


def _unusable(why: str) -> NotDelivered:
    return NotDelivered("upstream_unavailable", f"its OpenAPI document cannot be used: {why}")


def _file(path: str, most: int) -> bytes:
    """Return the content of a file. Raises ``OSError`` for what is no file, and ``CallError`` if it is too large."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a FIFO would have no end
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("it is no file")
        data = file.read(most + 1)
    if len(data) > most:
        raise _unusable("it is larger than maxCatalogBytes")
    return data


async def _read_apart(data: bytes, incarnation: str) -> Api:
    """Return what another process reads in a document. Raises ``CallError``."""
    loop = asyncio.get_running_loop()
    for other in [one for one in _reading if one.is_closed()]:
        del _reading[other]
    async with _reading.setdefault(loop, asyncio.Semaphore(_AT_ONCE)):
        process = await asyncio.create_subprocess_exec(
            *SAFE_PYTHON, "-m", "worker.openapi",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={**for_process(os.environ, ()), MARKER: incarnation},
        )  # fmt: skip
        try:
            said, _ = await process.communicate(data)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        try:
            return read(said)
        except msgspec.DecodeError:
            raise _unusable(f"the process that read it ended with code {process.returncode}") from None
