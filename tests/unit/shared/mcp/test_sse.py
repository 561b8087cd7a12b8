"""``shared.mcp.sse``: WHATWG HTML 9.2, in whatever pieces the bytes arrive."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mcp import sse
from tests.unit.builders import cut

LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b"",
            b"data: a",
            b"data:b",
            b"data:  c",
            b"data",
            b": note",
            b"id: 7",
            b"id",
            b"event: e",
            b"retry: 25",
        ]
    )
    | st.binary(max_size=8).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")),
    max_size=16,
)


def _read(*chunks: bytes, limit: int = 10_000) -> list[sse.Event]:
    reader = sse.Reader(limit)
    return [event for chunk in chunks for event in reader.feed(chunk)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"data: a\n\n", [("message", b"a", None, None)]),
        (b"data: a\r\n\r\n", [("message", b"a", None, None)]),
        (b"data: a\r\rdata: b\r\r", [("message", b"a", None, None), ("message", b"b", None, None)]),
        (b"data: a\r\n\rdata: b\n\r\n", [("message", b"a", None, None), ("message", b"b", None, None)]),
        (b"data:a\n\n", [("message", b"a", None, None)]),
        (b"data:  a\n\n", [("message", b" a", None, None)]),
        (b"data: a:b\n\n", [("message", b"a:b", None, None)]),
        (b"data: a\ndata: b\n\n", [("message", b"a\nb", None, None)]),
        (b"data\ndata\n\n", [("message", b"\n", None, None)]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", b"a", None, None)]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", b"a", None, None)]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", b"a", None, None), ("message", b"b", None, None)]),
        (b"event: x\n\ndata: b\n\n", [("message", b"b", None, None)]),
        (b"id: 7\ndata: a\n\ndata: b\n\n", [("message", b"a", "7", None), ("message", b"b", None, None)]),
        (b"id: 7\ndata:\n\n", [("message", b"", "7", None)]),
        (b"id: a\0b\ndata: a\n\n", [("message", b"a", None, None)]),
        (b"retry: 1500\n\n", [("message", b"", None, 1500)]),
        (b"retry: 1x\ndata: a\n\n", [("message", b"a", None, None)]),
        (b"retry: -1\ndata: a\n\n", [("message", b"a", None, None)]),
        (b"retry: 1000000000\ndata: a\n\n", [("message", b"a", None, None)]),
        (b": comment\nunknown: x\ndata: a\n\n", [("message", b"a", None, None)]),
        (b":\n\n", []),
        (b"\n\n\n", []),
        (b"data: unfinished\n", []),
        (b"data: unfinished", []),
    ],
)
def test_events_are_read_as_the_standard_says(text: bytes, expected: list[tuple]) -> None:  # type: ignore[type-arg]
    events = _read(text)
    assert [(event.name, event.data, event.id, event.retry_ms) for event in events] == expected


@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 10_000), max_size=12))
def test_events_do_not_depend_on_how_bytes_arrive(lines: list[bytes], end: bytes, places: list[int]) -> None:
    text = end.join([*lines, b""])
    assert _read(*cut(text, places)) == _read(text)
    assert _read(*(text[i : i + 1] for i in range(len(text)))) == _read(text)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_kinds_of_line_ends_may_be_mixed_and_cut_anywhere(size: int) -> None:
    text = b"data: a\r\n\ndata: b\r\n\r\n\ndata: c\n\r\n"
    events = _read(*(text[at : at + size] for at in range(0, len(text), size)))
    assert [event.data for event in events] == [b"a", b"b", b"c"]


@given(st.lists(st.integers(1, 400_000), max_size=6), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_large_data_arrives_in_pieces(places: list[int], end: bytes) -> None:
    data = b"x" * 300_000
    text = end.join([b"event: message", b"data: " + data, b"id: 7", b"data: b", b"", b"data: c", b"", b""])
    events = _read(*cut(text, places), limit=1_000_000)
    assert events == [sse.Event("message", data + b"\nb", "7"), sse.Event("message", b"c")]


@given(st.lists(st.binary(max_size=20), max_size=5), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_line_ends_are_interchangeable(values: list[bytes], end: bytes) -> None:
    clean = [value.replace(b"\r", b"").replace(b"\n", b"") for value in values]
    events = _read(b"".join(b"data: %b%b%b" % (value, end, end) for value in clean))
    assert [event.data for event in events] == clean


@pytest.mark.parametrize(
    "chunks",
    [
        (b"data: " + b"x" * 101,),
        (b"data: " + b"x" * 60, b"x" * 60),
        (b"data: " + b"x" * 101 + b"\n\n",),
        (b"data: " + b"x" * 60 + b"\n", b"data: " + b"x" * 60 + b"\n\n"),
        (b"data: " + b"x" * 60 + b"\n", b"data: " + b"x" * 60),
        (b"data\n" * 101,),
        (b": " + b"x" * 200,),
    ],
)
def test_an_event_over_the_limit_is_an_error(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        _read(*chunks, limit=100)


def test_an_event_of_just_the_limit_is_read() -> None:
    """Each line counts with its line end."""
    assert len(_read(b"data: " + b"x" * 99 + b"\n\n", limit=100)) == 1
    assert len(_read(b"data\n" * 100 + b"\n", limit=100)) == 1


@pytest.mark.parametrize(
    "line", [b"data:\n", b"data:a\n", b"data:ab\n", b"id: 7\n", b": a\n", b"event: e\n", b"retry: 1\n"]
)
def test_many_short_lines_take_about_as_much_memory_as_they_have_bytes(line: bytes) -> None:
    reader, chunk = sse.Reader(64 * 1024 * 1024), line * (64 * 1024 // len(line))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(64):
            assert not reader.feed(chunk)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 64 * len(chunk) * 1.25


@pytest.mark.parametrize("field", [b"id", b"event"])
def test_an_endless_id_or_name_is_an_error(field: bytes) -> None:
    with pytest.raises(ValueError, match="longer than 8192 bytes"):
        _read(field + b": " + b"x" * 8193 + b"\n", limit=100_000)


def test_the_limit_is_for_one_event_not_for_the_stream() -> None:
    one = b"data: " + b"x" * 80 + b"\n\n"
    assert len(_read(*[one] * 5, limit=100)) == 5
    assert len(_read(one * 5, limit=100)) == 5


@given(
    st.text().map(str.encode),
    st.none() | st.text("0123456789abcdef-", min_size=1),
    st.text("abcdefghij", min_size=1),
)
def test_what_is_written_is_read_back(message: bytes, id: str | None, name: str) -> None:
    expected = message.replace(b"\r", b" ").replace(b"\n", b" ")
    assert _read(sse.write(message, id, name)) == [sse.Event(name, expected, id)]


@pytest.mark.parametrize("message", [b'{\n"a":1}', b'{\r"a":1}', b'{\r\n"a":1}', b'{"a":1}\n'])
def test_a_message_of_several_lines_is_still_one_event(message: bytes) -> None:
    (event,) = _read(sse.write(message))
    assert event.data == message.replace(b"\r", b" ").replace(b"\n", b" ")


def test_a_comment_is_ignored_and_harms_nothing() -> None:
    assert _read(sse.COMMENT, sse.write(b"{}"), sse.COMMENT) == [sse.Event("message", b"{}")]
