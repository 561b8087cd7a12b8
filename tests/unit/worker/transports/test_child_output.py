"""What a child writes in a hurry is read in turns, in order and to its end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shared.mcp.rope import Whole
from worker.transports import turns
from worker.transports.child_output import ChildOutput

JUNK = b"a\n" * 20_000
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
HEADED = b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


class Pipe:
    """One end of a pipe that can be paused."""

    paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return False


class Child:
    """A session that notes what it is given; ``child`` stands for the transport of the process."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.context: Any = SimpleNamespace(
            settings=SimpleNamespace(calls=SimpleNamespace(max_result_bytes=1 << 20)), log_line=lambda line: None
        )
        self.ready, self.opening, self.wrote_at, self.last_words = True, False, 0.0, ""
        self.messages: list[bytes] = []
        self.lines = 0
        self.is_over = False
        self.pipes = {1: Pipe(), 2: Pipe()}
        self.child: Any = SimpleNamespace(get_pipe_transport=self.pipes.get)

    def receive_bytes(self, body: Whole) -> bool:
        if body[:1] == b"{":
            self.messages.append(bytes(body))
        return body[:1] == b"{"

    def fail_unreadable(self, body: Whole) -> bool:
        return False

    def note_line(self, line: str) -> None:
        self.lines += 1

    def ended(self) -> None:
        self.is_over = True


@pytest.fixture(autouse=True)
def one_step_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)


async def turns_until_read(child: Child, output: ChildOutput) -> int:
    count = 0
    while output.busy:
        assert child.pipes[1].paused and child.pipes[2].paused, "nothing more is read meanwhile"
        await asyncio.sleep(0)
        count += 1
    assert not child.pipes[1].paused and not child.pipes[2].paused
    return count


@pytest.mark.parametrize(
    "output",
    [JUNK, b"{}\n" * 20_000, HEADED + b"\n" + JUNK, b'{"a":\n' * 100 + JUNK],
    ids=["junk", "json", "heads", "open"],
)
async def test_others_have_their_turns_while_very_many_lines_are_read(output: bytes) -> None:
    child = Child()
    pipes = ChildOutput(child)
    pipes.pipe_data_received(1, output)
    pipes.pipe_data_received(1, HEADED if output.startswith(b"Content") else ANSWER + b"\n")
    assert not child.messages or child.messages[-1] != ANSWER or output.startswith(b"Content")
    assert await turns_until_read(child, pipes) > 9
    assert child.messages[-1] == ANSWER


async def test_what_is_for_people_is_read_in_turns_too_and_in_order() -> None:
    child = Child()
    pipes = ChildOutput(child)
    pipes.pipe_data_received(2, b"warning\n" * 20_000)
    pipes.pipe_data_received(1, ANSWER + b"\n")
    assert 0 < child.lines < 20_000 and not child.messages
    assert await turns_until_read(child, pipes) > 1000
    assert child.lines == 20_000 and child.messages == [ANSWER]


async def test_a_child_is_over_when_all_that_it_wrote_is_read() -> None:
    child = Child()
    pipes = ChildOutput(child)
    pipes.pipe_data_received(1, JUNK + ANSWER + b"\n")
    pipes.process_exited()
    assert not child.is_over
    await turns_until_read(child, pipes)
    assert child.is_over and child.messages == [ANSWER]


async def test_a_session_that_is_over_reads_no_more() -> None:
    child = Child()
    pipes = ChildOutput(child)
    pipes.pipe_data_received(1, JUNK + ANSWER + b"\n")
    pipes.part()
    assert not pipes.busy
    for _ in range(3):
        await asyncio.sleep(0)
    assert not child.messages
