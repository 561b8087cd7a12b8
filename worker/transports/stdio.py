"""stdio: a child process of this worker, one JSON message a line on stdin and stdout.

The child gets its own session and process group, no shell, of the worker's environment what is ordinary or named
(``shared.child_environment``), and markers by which its descendants are found when it has ended
(``worker.transports.descendants``), and all of them when the worker is gone (``worker.reaper``). Lines on stdout that
are not JSON-RPC are logged and skipped (real servers print there). stderr is kept for ``gateway servers logs``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import Any, cast

from shared.child_environment import for_child
from shared.choices import EraChoice
from shared.connections import SAID, StdioConnection
from shared.errors import CallError, ConfigError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import values
from shared.mcp.methods import DISCOVER, INITIALIZE
from shared.mcp.rope import Whole
from shared.mcp.versions import LATEST_MODERN, Era
from shared.tasks import cancel, spawn
from worker.calls.call import Call
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.own_call import UpstreamError
from worker.reaper import MARKER, end_containers
from worker.sessions.context import SessionContext
from worker.sessions.session import Session
from worker.transports.child_output import EXIT_S, ChildOutput
from worker.transports.confinement import launching, of_the_user
from worker.transports.descendants import CHILD, cpu_ticks, descendants, end_descendants, new_mark
from worker.transports.eras import is_modern, speaks_modern
from worker.transports.error_output import tells_more
from worker.transports.exhausted import exhausted
from worker.transports.not_started import why_not
from worker.transports.patience import Patience
from worker.transports.sandbox import container_tool, sandboxed
from worker.transports.transport import DRIVERS, Pool, Reached, UpstreamFacts, end, facts_of

_log = logging.getLogger(__name__)
_HURRY = 0.2
"""The share of ``heartbeatTtl`` that is the longest wait between closing a child's stdin, SIGTERM and SIGKILL, if
children must end before the worker counts as dead."""
_CARRIAGE = bytes.maketrans(b"\r\n", b"  ")
_LOOK_S = 5.0
"""How often it is looked at most what a child has started."""
_SHOWN_LINE = 200
_FIRST = (INITIALIZE, DISCOVER)
"""What is sent to a child first, one of which finds out that it has ended already."""


class StdioSession(Session):
    """A child that speaks one era: a child locks to the era of its first request."""

    def __init__(
        self,
        context: SessionContext,
        era: Era,
        client: ClientFacts = NOBODY,
        sid_of_client: str = "",
        fresh: bool = False,
    ) -> None:
        super().__init__(context, era, client, sid_of_client)
        self._fresh = fresh  # the probe started the child, and may have made the handshake
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._pipes: ChildOutput | None = None
        self._unread = Refused("parse_error", "the body is not JSON")
        self._mark = ""
        self._began: dict[int, int] = {}  # descendants of the child, as they were seen last
        self._looked_at = 0.0
        self._containers: tuple[str, dict[str, str]] | None = None  # the tool that made one, with its environment
        self.pid = 0
        self.wrote_at = 0.0  # when the child last wrote something before it was ready
        self.last_words = ""  # the last line there that says what is wrong, or else the last one

    def trim(self) -> None:
        """Look what the child has started, now and then: when it has crashed, nothing leads from it to them."""
        if self.ready and self.loop.time() - self._looked_at > _LOOK_S:
            self._looked_at = self.loop.time()
            spawn(self._look(), "look-at-descendants")

    async def _look(self) -> None:
        self._began = await asyncio.to_thread(descendants, self.pid)

    @property
    def child(self) -> asyncio.SubprocessTransport | None:
        """The child's transport, while it runs."""
        return self._transport

    def patience(self) -> Patience:
        """Return how long the child may take to start (``stdioStartTimeout``)."""
        limit_s = self.context.settings.upstreams.stdio_start_timeout_s
        return Patience(limit_s, lambda: self.wrote_at, self.processor_time)

    def processor_time(self) -> int:
        """Return what the child has used so far, in clock ticks."""
        return cpu_ticks(self.pid) if self.pid else 0

    def note_line(self, line: str) -> None:
        """Take a line that the child wrote to its stderr."""
        words = line.strip()[:_SHOWN_LINE]
        if words and tells_more(words, self.last_words):
            self.last_words = words
        self.context.log_line(line)

    def unended_bytes(self) -> int:
        """Return how much the child has written to its stdout since its last line end."""
        return self._pipes.out.held_bytes if self._pipes is not None else 0

    async def spawn_child(self) -> None:
        """Start the process. Raises ``NotDelivered`` if the command cannot be started."""
        connection = cast(StdioConnection, self.context.spec.connection)
        settings = self.context.settings.upstreams
        self._mark = new_mark(self.context.incarnation)
        marks = {MARKER: self.context.incarnation, CHILD: self._mark}
        try:
            given = {**of_the_user(settings, for_child(os.environ, settings.stdio_environment)), **connection.env}
            words, folder = sandboxed(connection, settings, given, marks)
            tool = container_tool(connection, words)
            self._containers = (tool, given) if tool else None
            with launching(settings, words, given, marks, bool(tool)) as (command, env, fds):
                try:
                    transport, pipes = await self.loop.subprocess_exec(
                        lambda: ChildOutput(self), *command, cwd=folder, env=env, start_new_session=True, pass_fds=fds
                    )
                except OSError as error:
                    raise ConfigError(why_not(error, command[0], folder, env)) from error
        except (OSError, ValueError, ConfigError) as error:
            raise (
                exhausted(error)
                or exhausted(error.__cause__)
                or NotDelivered(
                    "upstream_unavailable", f"cannot start {connection.command!r}: {error}", {"certain": "1"}
                )
            ) from error
        self._transport, self._pipes = transport, pipes
        self._stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        self.pid = transport.get_pid()

    async def connect(self) -> None:
        if not self._fresh:
            await self.spawn_child()
        if self.era is Era.LEGACY:
            if not self.server:
                await self.handshake()
        else:
            self.protocol_version = LATEST_MODERN

    def ended(self) -> None:
        """Handle that the child closed its stdout or exited."""
        if self.closed or self._transport is None:
            return
        code = self._transport.get_returncode()
        if code is None:
            text = "the process closed its output"
        elif code < 0:
            text = f"the process was ended by {signal.Signals(-code).name}"
        else:
            text = f"the process exited with code {code}"
        said = _said(self.last_words) if self.opening else ""
        text = f"{text}; see 'gateway servers logs {self.context.spec.id}'{said}"
        error = NotDelivered("upstream_unavailable", text, {"certain": "1"})
        for call in [c for c in self.correlation.calls.values() if c.method == "initialize"]:
            call.fail(error)
        self.fail_opening(error)
        if not self.opening:
            self.lost(error)
            self._kill(signal.SIGKILL)
            spawn(end_descendants(self._mark, self.pid, self._began), "end-descendants")
            self._leave_pipes()

    def _leave_pipes(self) -> None:
        """Let go of the child's pipes, and they of this session."""
        if self._pipes is not None:
            self._pipes.part()
        self._transport = self._stdin = self._pipes = None

    def _fail_unreadable(self, body: Whole, error: Refused) -> bool:
        self._unread = error
        return False  # what is no message may be a part of one: ``worker.transports.odd_output``

    def fail_unreadable(self, body: Whole) -> bool:
        """Fail the call that ``body`` answers, which was just refused. Return whether there is such a call."""
        return super()._fail_unreadable(body, self._unread)

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        if self._stdin is not None and self._stdin.is_closing() and call.method in _FIRST:
            self.loop.call_later(EXIT_S, self.ended)  # which knows by then why it has ended
        elif self._stdin is None or self._stdin.is_closing():
            self.correlation.forget(id)
            call.fail(NotDelivered("upstream_unavailable", "the process has ended"))
        elif self._stdin.get_write_buffer_size() > self.context.settings.upstreams.stdio_buffer_bytes:
            self.correlation.forget(id)
            call.fail(NotDelivered("overloaded", "the process does not read its input"))
        else:
            self._write(message)

    def send_notification(self, message: bytes) -> None:
        """Send a notification, or an answer to what the child asked, unless the child does not read: it may ask without
        end."""
        if self._stdin is not None and not self._stdin.is_closing() and self.has_room():
            self._write(message)

    def has_room(self) -> bool:
        limit = self.context.settings.upstreams.stdio_buffer_bytes
        return self._stdin is not None and self._stdin.get_write_buffer_size() <= limit

    def _write(self, message: bytes) -> None:
        assert self._stdin is not None
        if b"\n" in message or b"\r" in message:  # between members only: inside strings they are escaped
            message = message.translate(_CARRIAGE)
        self._stdin.write(message + b"\n")

    async def disconnect(self) -> None:
        """Close stdin, wait, SIGTERM, wait, SIGKILL (specification, stdio, Shutdown). The whole process group ends."""
        transport, pipes = self._transport, self._pipes
        if transport is None or pipes is None:
            return
        settings = self.context.settings
        wait_s = settings.upstreams.stop_timeout_s
        if settings.upstreams.stdio_on_redis_loss == "stop":  # other workers may start the child soon: see worker.main
            wait_s = min(wait_s, settings.fleet.heartbeat_ttl_s * _HURRY)
        began = await asyncio.to_thread(descendants, self.pid)
        if self._stdin is not None:
            self._stdin.close()
        for step in (None, signal.SIGTERM, signal.SIGKILL):
            if step is not None:
                self._kill(step)
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(wait_s):
                    await asyncio.shield(pipes.exited)
            if pipes.exited.done():
                break
        self._kill(signal.SIGKILL)  # processes that the child left behind in its group
        transport.close()
        self._leave_pipes()
        await end_descendants(self._mark, self.pid, began)
        if self._containers is not None:
            label = f"{CHILD}={self._mark}"
            if not await asyncio.to_thread(end_containers, *self._containers, label):
                _log.warning("upstream %s: its container may still run (label %s)", self.context.spec.id, label)

    def _kill(self, which: signal.Signals) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, which)


# ---- reaching a child


def _said(words: str) -> str:
    """Return the end of the error of a child that does not start: what it wrote last, for those who run the gateway."""
    return f"{SAID}{words}" if words else ""


async def _reach(context: SessionContext) -> Reached:
    """Start the child and find its era. Raises ``CallError`` with the reason; then no child is left."""
    choice = context.spec.era
    unknown = choice is EraChoice.AUTO
    session = StdioSession(context, Era.MODERN if unknown else Era[choice.name], fresh=unknown)
    said: dict[str, Any] | None = None
    limit_s = context.settings.upstreams.stdio_start_timeout_s
    try:
        async with Patience(limit_s, lambda: session.wrote_at, lambda: session.processor_time()):
            if unknown:
                said = await _probed(session, context)
                if said is None and not session.ready:  # it may have ended, or refuse everything, because of the probe
                    await end(session)
                    session = StdioSession(context, Era.LEGACY)
            await session.open()
            if session.era is Era.LEGACY:
                said = session.server
            elif said is None:
                said = await _stdio_discovered(session, context)
    except TimeoutError:
        unended, said_last = session.unended_bytes(), _said(session.last_words)
        await end(session)
        said_so = f"; it wrote {unended} bytes without a line end, which must follow each message" if unended else ""
        raise NotDelivered(
            "upstream_unavailable",
            f"no handshake, and no sign of life for {limit_s:g} s{said_so}; "
            f"see 'gateway servers logs {context.spec.id}'{said_last}",
            {"certain": "1"},
        ) from None
    except BaseException:
        await end(session)
        raise
    return Reached(facts_of((session.era.word,), "stdio", "", False, session.protocol_version, said), session)


async def _probed(session: StdioSession, context: SessionContext) -> dict[str, Any] | None:
    """Start the child and greet it. Return its answer to ``server/discover`` if it is modern, else ``None``; then the
    session is ready, unless the child refuses to go on. Raises ``CallError`` if it cannot be started."""
    await session.spawn_child()
    said = None
    with contextlib.suppress(CallError):
        said = await _greeted(session, context)
        if said is None and not session.closed:
            await session.open()
    return said


async def _greeted(session: StdioSession, context: SessionContext) -> dict[str, Any] | None:
    """Return the child's answer to ``server/discover`` if it is modern, else ``None``. Raises ``CallError`` if it
    speaks neither era.

    A child that is silent for ``probeTimeout`` ignores unknown requests, or is slow to start. So ``initialize`` is sent
    as well, on the same pipe (another child would be as slow), and the answers decide.
    """
    wait_s = context.settings.upstreams.probe_timeout_s
    asking = spawn(_stdio_is_modern(session, context), f"discover {context.spec.id}")
    greeting: asyncio.Task[CallError | None] | None = None
    try:
        await asyncio.wait({asking}, timeout=wait_s)
        if not asking.done():
            greeting = spawn(_stdio_greet(session), f"greet {context.spec.id}")
            await asyncio.wait({asking, greeting}, return_when=asyncio.FIRST_COMPLETED)
            if greeting.done() and greeting.result() is not None:
                await asyncio.wait({asking}, timeout=wait_s)  # the answer may come with the next line
        modern: dict[str, Any] | None = asking.result() if asking.done() else None
        if modern is not None:
            await cancel(greeting)
            session.server, session.logs = {}, False  # forget what an answer to ``initialize`` set
            return modern
        session.become(Era.LEGACY)
        failure = await greeting if greeting is not None else None
        if failure is not None and not session.closed:
            raise failure
        return None
    finally:
        await cancel(asking, greeting)


async def _stdio_greet(session: StdioSession) -> CallError | None:
    """Make the handshake. Return its error, or ``None``."""
    try:
        await session.handshake()
    except CallError as error:
        return NotDelivered("upstream_unavailable", error.message, error.data)
    return None


async def _stdio_discovered(session: StdioSession, context: SessionContext) -> Any:
    """Return the child's answer to ``server/discover``. Raises ``CallError``."""
    answer = await session.request(DISCOVER, timeout_s=context.settings.calls.request_timeout_max_s)
    try:
        return values.loads(answer)
    except ValueError as error:
        raise OutcomeUnknown("upstream_protocol", f"its answer to server/discover is unreadable: {error}") from error


async def _stdio_is_modern(session: StdioSession, context: SessionContext) -> dict[str, Any] | None:
    """Return a modern child's answer to ``server/discover``, or ``None`` for a legacy one or one that has ended."""
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


class StdioTransport:
    """Implements ``worker.transports.transport.TransportDriver`` for child processes."""

    async def reach(self, context: SessionContext) -> Reached:
        """Start the child and find its era."""
        return await _reach(context)

    def make_pool(self, context: SessionContext, facts: UpstreamFacts) -> Pool | None:
        """Return ``None``: each session is a child of its own."""
        return None

    def make_session(
        self,
        context: SessionContext,
        era: Era,
        pool: Pool | None,
        client: ClientFacts = NOBODY,
        sid_of_client: str = "",
    ) -> Session:
        """Return a session whose child is started when first used."""
        return StdioSession(context, era, client, sid_of_client)


DRIVERS["stdio"] = StdioTransport()
