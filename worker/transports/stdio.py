"""stdio: a child process of our own, one JSON message a line on stdin and stdout.

The child gets its own session and process group, no shell, our environment without ``GATEWAY_*``, and a marker
by which ``worker.reaper`` finds it and its descendants when this worker is gone. Lines on stdout that are not
JSON-RPC are logged and skipped (real servers print there); stderr is kept for ``gateway servers logs``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import cast

from shared.errors import NotDelivered
from shared.mcp.rope import Large
from shared.mcp.versions import LATEST_MODERN, Era
from shared.models import StdioConnection
from worker.calls.calls import NOBODY, Call, ClientFacts
from worker.reaper import MARKER
from worker.sessions.context import SessionContext
from worker.sessions.session import Session
from worker.transports.lines import LineReader

_HURRY = 0.2
"""Of ``heartbeatTtl``: the longest wait between closing a child's stdin, SIGTERM and SIGKILL where children must be
gone before the worker counts as dead."""
_CARRIAGE = bytes.maketrans(b"\r\n", b"  ")
_STDERR_LINE = 8 * 1024
_EXIT_S = 0.25
"""How long the exit of a child that closed its output is waited for."""


class _Pipes(asyncio.SubprocessProtocol):
    def __init__(self, session: StdioSession) -> None:
        self.session = session
        self.out = LineReader(session.context.settings.calls.max_result_bytes)
        self.err = LineReader(_STDERR_LINE)
        self.exited = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            for line in self.err.feed(data):
                self.session.context.log_line(bytes(line).decode("utf-8", "replace"))
            return
        skipped = self.out.overlong
        for line in self.out.feed(data):
            if (isinstance(line, Large) or line.strip()) and not self.session.receive_bytes(line):
                self.session.context.log_line("[stdout, not MCP] " + line[:500].decode("utf-8", "replace"))
        if self.out.overlong > skipped:
            self.session.context.log_line("[stdout] a line larger than maxResultBytes was skipped")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:  # mostly because it exits: how says more than that
            self.session.loop.call_later(_EXIT_S, self.session.ended)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)
        self.session.ended()


class StdioSession(Session):
    """A child speaking one era; a child locks to the era of its first request."""

    def __init__(self, context: SessionContext, era: Era, client: ClientFacts = NOBODY, fresh: bool = False) -> None:
        super().__init__(context, client)
        self.era = era
        self._fresh = fresh  # spawned by the probe, which may have shaken hands too
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._pipes: _Pipes | None = None
        self.pid = 0

    async def spawn_child(self) -> None:
        """Start the process. Raises ``NotDelivered`` when the command cannot be started."""
        connection = cast(StdioConnection, self.context.spec.connection)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        environment.update(connection.env)
        environment[MARKER] = self.context.incarnation
        try:
            transport, pipes = await self.loop.subprocess_exec(
                lambda: _Pipes(self),
                connection.command,
                *connection.args,
                cwd=connection.cwd,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise NotDelivered(
                "upstream_unavailable", f"cannot start {connection.command!r}: {error}", {"certain": "1"}
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
        """The child closed its stdout or exited."""
        if self.closed or self._transport is None:
            return
        code = self._transport.get_returncode()
        if code is None:
            text = "the process closed its output"
        elif code < 0:
            text = f"the process was ended by {signal.Signals(-code).name}"
        else:
            text = f"the process exited with code {code}"
        error = NotDelivered(
            "upstream_unavailable",
            f"{text}; see 'gateway servers logs {self.context.spec.id}'",
            {"certain": "1"},
        )
        for call in [c for c in self.correlation.calls.values() if c.method == "initialize"]:
            call.fail(error)
        self._failure = error
        if self._opening is None or self._opening.done():
            self.lost(error)
            self._kill(signal.SIGKILL)

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        if self._stdin is None or self._stdin.is_closing():
            self.correlation.forget(id)
            call.fail(NotDelivered("upstream_unavailable", "the process has ended"))
        elif self._stdin.get_write_buffer_size() > self.context.settings.upstreams.stdio_buffer_bytes:
            self.correlation.forget(id)
            call.fail(NotDelivered("overloaded", "the process does not read its input"))
        else:
            self._write(message)

    def send_notification(self, message: bytes) -> None:
        if self._stdin is not None and not self._stdin.is_closing():
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
        """Close stdin, wait, SIGTERM, wait, SIGKILL (specification, stdio, Shutdown); the whole group goes."""
        transport, pipes = self._transport, self._pipes
        if transport is None or pipes is None:
            return
        settings = self.context.settings
        wait_s = settings.upstreams.stop_timeout_s
        if settings.upstreams.stdio_on_redis_loss == "stop":  # there may not be more time: see worker.main
            wait_s = min(wait_s, settings.fleet.heartbeat_ttl_s * _HURRY)
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
        self._kill(signal.SIGKILL)  # what the child left behind in its group
        transport.close()

    def _kill(self, which: signal.Signals) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, which)
