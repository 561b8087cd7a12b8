"""Streams: pieces mean the same as the whole, and nothing but the named errors comes."""

from __future__ import annotations

import random
import struct

import pytest

from shared.mcp import sse
from shared.rpc.framing import FrameError, FrameReader
from shared.rpc.messages import UNREADABLE, decode
from tests.fuzz.engine import fuzz, pieces
from worker.transports.lines import LineReader

SSE_WORDS = [
    b"data: ", b"data:", b"data", b"event: x", b"id: 1", b"retry: 5", b":", b": c", b"\n", b"\r", b"\r\n", b"\n\n",
    b"\r\r", b"\0", b"\xef\xbb\xbf", b"\xff", b" ", b'{"a":1}', b"x" * 3000,
]  # fmt: skip
FRAME_WORDS = [
    struct.pack(">II", head, body) for head, body in ((1, 0), (0, 0), (3, 2), (65536, 0), (65537, 1), (5, 131073))
]
LIMIT = 100_000


def _events(data: bytes) -> list[tuple[str, bytes, str | None, int | None]]:
    """What a stream means (WHATWG HTML, "Interpreting an event stream"), read in one go. As in the gateway, an event
    that has an id or a time alone is one, too."""
    found: list[tuple[str, bytes, str | None, int | None]] = []
    lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    name, values, id, retry = b"", [], None, None  # type: bytes, list[bytes], str | None, int | None
    for line in lines:
        if not line:
            if values or id is not None or retry is not None:
                found.append((name.decode("utf-8", "replace") or "message", b"\n".join(values), id, retry))
            name, values, id, retry = b"", [], None, None
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            values.append(value)
        elif field == b"event":
            name = value
        elif field == b"id" and b"\0" not in value:
            id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit() and len(value) < 10:
            retry = int(value)
    return found


def test_events_are_the_same_however_they_arrive() -> None:
    rng = random.Random(1)

    def check(data: bytes) -> None:
        reader = sse.Reader(LIMIT)
        read = [event for piece in pieces(rng, data) for event in reader.feed(piece)]
        assert [(one.name, bytes(one.data), one.id, one.retry_ms) for one in read] == _events(data)

    fuzz("events", SSE_WORDS, check)


def test_an_event_over_the_limit_is_an_error_however_it_arrives() -> None:
    rng = random.Random(2)
    for _ in range(100):
        lines = b"".join(
            rng.choice((b"data: %b\n", b"data:%b\r", b"%b: x\r\n")) % (b"x" * rng.randrange(90)) for _ in range(60)
        )
        reader = sse.Reader(500)
        with pytest.raises(ValueError, match="larger than 500 bytes"):
            for piece in pieces(rng, b"data: a\n" * 10 + lines.replace(b": x", b"") + b"data: " + b"y" * 600):
                reader.feed(piece)


def _frames(data: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    found, at = [], 0
    while len(data) - at >= 8:
        head, body = struct.unpack_from(">II", data, at)
        if not 0 < head <= 64 * 1024 or body > 128 * 1024:
            return found, True
        if len(data) - at < 8 + head + body:
            break
        found.append((data[at + 8 : at + 8 + head], data[at + 8 + head : at + 8 + head + body]))
        at += 8 + head + body
    return found, False


def test_frames_are_the_same_however_they_arrive() -> None:
    rng = random.Random(3)

    def check(data: bytes) -> None:
        expected, broken = _frames(data)
        reader, read, failed = FrameReader(), [], False
        try:
            for piece in pieces(rng, data):
                reader.buffer()[: len(piece)] = piece
                reader.received(len(piece), lambda head, body: read.append((head, body)))
        except FrameError:
            failed = True
        assert failed is broken and read == expected

    fuzz("frames", [*FRAME_WORDS, b"\x00", b"\x00\x00\x00", b"\xff" * 8, b"x" * 500], check)


def test_a_head_of_a_frame_is_read_or_refused() -> None:
    def check(data: bytes) -> None:
        for head, _ in _frames(data)[0] or [(data, b"")]:
            try:
                decode(head)
            except UNREADABLE:
                continue

    fuzz(
        "frames",
        [b"\x93", b"\x9f", b"\xdd\xff\xff\xff\xff", b"\xc4\x05", b"\xd9\x03", b"\x05", b"\xcb", b"\x81"],
        check,
    )


def test_lines_are_the_same_however_they_arrive() -> None:
    rng = random.Random(4)

    def check(data: bytes) -> None:
        reader = LineReader(2000)
        read = [bytes(line) for piece in pieces(rng, data) for line in reader.feed(piece)]
        lines = data.split(b"\n")
        assert read == [line for line in lines[:-1] if len(line) <= 2000]
        assert reader.held_bytes == (len(lines[-1]) if len(lines[-1]) <= 2000 else 0)

    fuzz("events", SSE_WORDS, check)
