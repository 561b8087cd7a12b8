"""Spans, or log records, on their way to a collector: a bounded queue, and a task that sends it by OTLP over HTTP.

Nothing waits for it. While the collector does not answer, spans are kept as long as there is room and then lost and
counted, and the log has one line about it, and one when it is over. The exporter of OpenTelemetry's SDK is not used: it
takes only the SDK's own spans (``spans``), and sends from a thread, with which the loop would contend for the
interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import ssl
from collections import deque
from collections.abc import Mapping
from itertools import islice

import aiohttp

from shared.errors import ConfigError
from shared.tasks import cancel, spawn
from shared.tracing.configuration import TraceConfiguration
from shared.tracing.spans import Value, request
from shared.version import VERSION

_log = logging.getLogger(__name__)
_PASSING = frozenset((429, 502, 503, 504))
"""The statuses after which a batch is sent again (OTLP, "Retryable Response Codes")."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_SCOPE = "mcp-one-gateway"


class _Refused(Exception):
    """The collector will never take a batch."""


class _NotNow(Exception):
    """The collector did not take a batch, and may do so later."""


class Exporter:
    """Sends the spans of one process. ``exported`` and ``lost`` count them; ``resource`` says whose they are."""

    def __init__(self, configuration: TraceConfiguration, resource: Mapping[str, Value], what: str = "traces") -> None:
        """``what`` they are called in the log. Raises ``ConfigError`` if certificates cannot be read."""
        self._what = what
        self._configuration = configuration
        self._resource = resource
        self._waiting: deque[bytes] = deque()
        self._limit = configuration.queue
        self._batch = configuration.batch
        self._full = asyncio.Event()
        self._tls = _tls(configuration)
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._lost_when_failing = 0
        self.exported = 0
        self.lost = 0

    @property
    def _item(self) -> str:
        return "spans" if self._what == "traces" else "events"

    @property
    def waiting(self) -> int:
        """How many spans are still to be sent."""
        return len(self._waiting)

    def add(self, span: bytes) -> None:
        """Take a span that ``spans.span`` made, or lose it if too many wait."""
        waiting = self._waiting
        if len(waiting) >= self._limit:
            self.lost += 1
            return
        waiting.append(span)
        if len(waiting) == self._batch:
            self._full.set()

    def start(self) -> None:
        """Begin to send."""
        self._task = spawn(self._run(), f"export-{self._what}")

    async def close(self, within_s: float) -> None:
        """Send what waits, but no longer than ``within_s``, and end."""
        await cancel(self._task)
        try:
            async with asyncio.timeout(within_s):
                while self._waiting and not self._failing:
                    await self._send_batch()
        except (TimeoutError, _NotNow):
            pass
        self.lost += len(self._waiting)
        if self._waiting:
            _log.warning("%d %s could not be exported before the end", len(self._waiting), self._item)
            self._waiting.clear()
        if self._session is not None:
            await self._session.close()

    async def _run(self) -> None:
        wait_s = 0.0
        while True:
            if wait_s:
                await asyncio.sleep(wait_s)
            elif len(self._waiting) < self._batch:
                self._full.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._configuration.delay_s):
                        await self._full.wait()
            if not self._waiting:
                continue
            try:
                await self._send_batch()
                wait_s = 0.0
            except _NotNow:
                wait_s = min(max(2 * wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
            except Exception:  # a flaw here must not end what is exported later
                _log.exception("exporting %s failed", self._what)
                wait_s = _LONGEST_WAIT_S

    async def _send_batch(self) -> None:
        """Send the oldest spans, which stay in the queue until the collector has them. Raises ``_NotNow``."""
        batch = list(islice(self._waiting, self._batch))
        body = request(self._resource, _SCOPE, VERSION, batch)
        try:
            await self._post(body)
        except _NotNow as error:
            self._note_failure(str(error))
            raise
        except _Refused as error:
            self._note_failure(str(error))
            self.lost += len(batch)
        else:
            self.exported += len(batch)
            if self._failing:
                self._failing = False
                lost = self.lost - self._lost_when_failing
                _log.warning("%s are exported again; %d %s were lost", self._what, lost, self._item)
        for _ in batch:
            self._waiting.popleft()

    async def _post(self, body: bytes) -> None:
        given = self._configuration
        headers = {**dict(given.headers), "Content-Type": "application/x-protobuf", "User-Agent": f"{_SCOPE}/{VERSION}"}
        if given.gzip:
            body = await asyncio.to_thread(gzip.compress, body, 5)
            headers["Content-Encoding"] = "gzip"
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls, limit=1)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=True)
        limit = aiohttp.ClientTimeout(total=given.timeout_s)
        try:
            async with self._session.post(
                given.endpoint, data=body, headers=headers, timeout=limit, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _NotNow(str(error) or f"no answer in {given.timeout_s:g} s") from error
        if status in _PASSING:
            raise _NotNow(f"HTTP {status}")
        if not 200 <= status < 300:
            raise _Refused(f"HTTP {status}")

    def _note_failure(self, why: str) -> None:
        if not self._failing:
            self._failing, self._lost_when_failing = True, self.lost
            _log.warning(
                "%s cannot be exported to %s: %s", self._what, self._configuration.endpoint.partition("?")[0], why
            )


def _tls(configuration: TraceConfiguration) -> ssl.SSLContext | bool:
    if not configuration.endpoint.startswith("https:"):
        return True
    try:
        context = ssl.create_default_context(cafile=configuration.certificate or None)
        if configuration.client_certificate:
            context.load_cert_chain(configuration.client_certificate, configuration.client_key or None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"a certificate for exporting traces cannot be used: {error}") from error
    return context
