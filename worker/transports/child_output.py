"""What a child writes: messages on stdout, and what is for people on stderr. Counterpart: ``stdio``.

Output of very many lines is read a few of them at a time, between which the loop belongs to other calls (``turns``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from shared.mcp.rope import Large, Whole
from worker.sessions.context import SessionContext
from worker.transports.error_output import ErrorOutput
from worker.transports.lines import LineReader
from worker.transports.odd_output import OddOutput
from worker.transports.turns import Turns, has_many_lines

_log = logging.getLogger(__name__)
_STDERR_LINE = 8 * 1024
EXIT_S = 0.25
"""The seconds to wait for the exit of a child that closed its output."""
_LAST_WORDS_S = 0.05
"""The seconds to wait for what a child wrote before it exited, if it exits when it should start."""
_LINES, _PIECE = 16, 4 * 1024
"""The lines, or bytes of messages with heads, that are read in one step where there are very many. Junk takes longest,
some 60 µs a line."""


class ChildSession(Protocol):
    """The session of a child (``worker.transports.stdio``)."""

    context: SessionContext
    loop: asyncio.AbstractEventLoop
    ready: bool
    wrote_at: float
    last_words: str

    @property
    def child(self) -> asyncio.SubprocessTransport | None:
        """The child's transport, while it runs."""

    @property
    def opening(self) -> bool:
        """Whether the session is being opened now."""

    def receive_bytes(self, body: Whole) -> bool:
        """Handle one message of the child. Return false if it is none."""

    def fail_unreadable(self, body: Whole) -> bool:
        """Fail the call that ``body`` answers, which was just refused. Return whether there is such a call."""

    def note_line(self, line: str) -> None:
        """Take a line that the child wrote to its stderr."""

    def ended(self) -> None:
        """Handle that the child closed its stdout or exited."""


class ChildOutput(asyncio.SubprocessProtocol):
    """What comes from a child. ``session`` is ``None`` when the session is over: the transport may live longer."""

    def __init__(self, session: ChildSession) -> None:
        self.session: ChildSession | None = session
        limit = session.context.settings.calls.max_result_bytes
        self.out = LineReader(limit)
        self.err = ErrorOutput(_STDERR_LINE)
        self.odd: OddOutput | None = OddOutput(self.out, limit, self._receive, self._fail_unreadable, self._note)
        self.exited = asyncio.get_running_loop().create_future()
        self._turns: Turns | None = None  # once there were very many lines
        self._over: Callable[[], None] | None = None  # what is to be done when all is read
        self._ended = False  # whether nobody has the child's stdout any more

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        session, odd = self.session, self.odd
        if session is None or odd is None:
            return
        if not session.ready:
            session.wrote_at = session.loop.time()
        if self.busy or has_many_lines(data):
            if self._turns is None:
                self._turns = Turns(self._hold, self._read_on, self._failed)
            self._turns.add(self._said(data) if fd == 2 else self._written(data), len(data))
            return
        if fd == 2:
            self._note_errors(session, self.err.feed(data))
            return
        skipped = self.out.overlong
        if odd.active:
            odd.feed(data)
        else:
            lines = iter(self.out.feed(data))
            for line in lines:
                if (isinstance(line, Large) or line.strip()) and not session.receive_bytes(line):
                    odd.unread(line)
                    for following in lines:
                        odd.take(following)
                    odd.settle(data)
        self._note_skipped(session, skipped)

    def _note_errors(self, session: ChildSession, lines: list[bytes]) -> None:
        for said in lines:
            session.note_line(said.decode("utf-8", "replace"))
        if not session.ready and self.err.open_line:
            session.context.last_line = self.err.open_line.decode("utf-8", "replace")

    def _note_skipped(self, session: ChildSession, before: int) -> None:
        if self.out.overlong > before:
            session.context.log_line("[stdout] a line larger than maxResultBytes was skipped")

    # ---- output of very many lines, a few in each step

    def _said(self, data: bytes) -> Iterator[None]:
        lines = self.err.feed(data)
        for at in range(0, len(lines), _LINES):
            if self.session is None:
                return
            self._note_errors(self.session, lines[at : at + _LINES])
            yield

    def _written(self, data: bytes) -> Iterator[None]:
        odd, skipped = self.odd, self.out.overlong
        if odd is not None and odd.headed:
            for at in range(0, len(data), _PIECE):
                odd.feed(data[at : at + _PIECE])
                yield
            return
        lines = self.out.feed(data)
        for number, line in enumerate(lines, 1):
            if odd is None or self.session is None:
                return
            odd.take(line)
            if number % _LINES == 0:
                yield
        if odd is not None and odd.active:
            odd.settle(data)
        if self.session is not None:
            self._note_skipped(self.session, skipped)

    @property
    def busy(self) -> bool:
        """Whether some of what came is not read yet."""
        return self._turns is not None and self._turns.busy

    def _hold(self) -> None:
        """Read no more of what the child writes for now."""
        for pipe in self._readers():
            pipe.pause_reading()

    def _read_on(self) -> None:
        for pipe in self._readers():
            pipe.resume_reading()
        if self._over is not None:
            self._over()

    def _failed(self, error: Exception) -> None:
        _log.error("what a child wrote cannot be read: %r", error)
        self._read_on()

    def _readers(self) -> list[asyncio.ReadTransport]:
        transport = self.session.child if self.session is not None else None
        pipes = [transport.get_pipe_transport(fd) for fd in (1, 2)] if transport is not None else []
        return [cast(asyncio.ReadTransport, one) for one in pipes if one is not None and not one.is_closing()]

    def part(self) -> None:
        """Refer to the session no more, and to nothing that refers to this."""
        if self._turns is not None:
            self._turns.drop()
        self._turns = None
        self.session = self.odd = self._over = None

    def _receive(self, body: Whole) -> bool:
        return self.session is None or self.session.receive_bytes(body)

    def _fail_unreadable(self, body: Whole) -> bool:
        return self.session is not None and self.session.fail_unreadable(body)

    def _note(self, line: bytes) -> None:
        if self.session is not None:
            self.session.context.log_line("[stdout, not MCP] " + line[:500].decode("utf-8", "replace"))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._ended = self._ended or fd == 1
        if self.busy and self.session is not None:
            self._over = self.session.ended
        elif fd == 1 and self.session is not None:  # mostly because the child exits; its exit code says more
            self.session.loop.call_later(EXIT_S, self.session.ended)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)
        session = self.session
        if session is None:
            return
        child = session.child
        if not (session.ready or self._ended) and child is not None and child.get_returncode() == 0:
            return  # it went into the background: while another process has its stdout, that one may speak
        if self.busy:  # the answers of its last calls may be among what is not read yet
            self._over = session.ended
        elif session.opening and not session.last_words:  # why it does not start may still be on its way
            session.loop.call_later(_LAST_WORDS_S, session.ended)
        else:
            session.ended()
