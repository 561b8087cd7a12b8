"""``shared.rpc.framing``: frames come out as they were put in, however the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.rpc.framing import BUFFER, CHUNK, MAX_FRAME_HEAD, FrameError, FrameReader, pack_sizes
from tests.unit.builders import cut

Frame = tuple[bytes, bytes]


def _bytes_of(frames: list[Frame]) -> bytes:
    return b"".join(pack_sizes(len(head), len(body)) + head + body for head, body in frames)


def _receive(reader: FrameReader, data: bytes) -> list[Frame]:
    """As ``asyncio.BufferedProtocol`` does: never more at once than there is room for."""
    frames: list[Frame] = []
    while data:
        room = reader.buffer()
        part = data[: len(room)]
        assert part, "no room to receive into"
        room[: len(part)] = part
        reader.received(len(part), lambda head, body: frames.append((head, body)))
        data = data[len(part) :]
    return frames


FRAMES = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=40)), max_size=8)
SIZES = st.sampled_from([1, 2, 100, MAX_FRAME_HEAD - 1, MAX_FRAME_HEAD])


@given(FRAMES, st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_do_not_depend_on_how_bytes_arrive(frames: list[Frame], places: list[int]) -> None:
    reader = FrameReader()
    assert [frame for piece in cut(_bytes_of(frames), places) for frame in _receive(reader, piece)] == frames


@given(
    st.lists(st.tuples(SIZES, st.sampled_from([0, 1, 100, CHUNK - 1, CHUNK])), min_size=1, max_size=12),
    st.integers(1, BUFFER),
)
def test_the_largest_frames_fit_the_one_buffer(sizes: list[tuple[int, int]], step: int) -> None:
    frames = [(bytes([n]) * head, bytes([n + 1]) * body) for n, (head, body) in enumerate(sizes)]
    data, reader = _bytes_of(frames), FrameReader()
    step = max(step, len(data) // 200)
    found = [frame for at in range(0, len(data), step) for frame in _receive(reader, data[at : at + step])]
    assert found == frames


def test_a_frame_is_not_handed_out_before_its_last_byte() -> None:
    reader, data = FrameReader(), _bytes_of([(b"head", b"body")])
    assert _receive(reader, data[:-1]) == []
    assert _receive(reader, data[-1:]) == [(b"head", b"body")]


def test_frames_do_not_change_when_the_buffer_is_used_again() -> None:
    reader = FrameReader()
    first = _receive(reader, _bytes_of([(b"a" * 50, b"b" * 50)]))
    _receive(reader, _bytes_of([(b"x" * 50, b"y" * 50)]))
    assert first == [(b"a" * 50, b"b" * 50)]


@pytest.mark.parametrize(
    ("head", "body"),
    [(0, 0), (0, 10), (MAX_FRAME_HEAD + 1, 0), (1, CHUNK + 1), (int.from_bytes(b"GET ", "big"), 0)],
)
def test_nonsense_sizes_end_the_link(head: int, body: int) -> None:
    with pytest.raises(FrameError, match="not one of our processes"):
        _receive(FrameReader(), pack_sizes(head, body))


def test_frames_before_the_nonsense_are_still_handed_out() -> None:
    reader, data = FrameReader(), _bytes_of([(b"h", b"b")]) + pack_sizes(0, 0)
    reader.buffer()[: len(data)] = data
    arrived: list[Frame] = []
    with pytest.raises(FrameError):
        reader.received(len(data), lambda head, body: arrived.append((head, body)))
    assert arrived == [(b"h", b"b")]
