"""What is written to a child that does not read is bounded, whatever it asks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from shared.mcp import jsonrpc
from shared.mcp.versions import Era
from shared.settings import build
from worker.transports.stdio import StdioSession

LIMIT = 8192


class Stdin:
    """A pipe that nobody reads."""

    held = 0

    def write(self, data: bytes) -> None:
        self.held += len(data)

    def get_write_buffer_size(self) -> int:
        return self.held

    def is_closing(self) -> bool:
        return False


class Deaf(StdioSession):
    """The session of a child that does not read."""

    def __init__(self, stdin: Any) -> None:
        settings = build(overrides={"stdio_buffer_bytes": LIMIT})
        context: Any = SimpleNamespace(settings=settings, unsolicited=None)
        super().__init__(context, Era.LEGACY)
        self._stdin = stdin


async def test_a_child_that_asks_without_end_and_reads_nothing_costs_a_bounded_buffer() -> None:
    stdin = Stdin()
    session = Deaf(stdin)
    for number in range(10_000):
        session.receive_bytes(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % number)
    assert LIMIT < stdin.held < LIMIT + 200
    stdin.held = 0
    session.send_notification(jsonrpc.notification("notifications/x"))
    assert stdin.held, "once it reads, it is told again"
