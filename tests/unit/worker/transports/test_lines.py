"""``worker.transports.lines``: complete lines, in whatever pieces; an overlong one costs only itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.builders import cut
from worker.transports.lines import LineReader


def _read(chunks: list[bytes], limit: int = 1000) -> tuple[list[bytes], int]:
    reader = LineReader(limit)
    return [bytes(line) for chunk in chunks for line in reader.feed(chunk)], reader.overlong


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a", b"b", b"\n"], [b"ab"]),
        ([b"a\nb"], [b"a"]),
        ([b"\n\n"], [b"", b""]),
        ([b"a", b"\nb", b"\n"], [b"a", b"b"]),
        ([b""], []),
        ([b"a", b"", b"\n"], [b"a"]),
        ([b"\x00\xff\n"], [b"\x00\xff"]),
    ],
)
def test_lines_come_out_when_they_are_complete(chunks: list[bytes], lines: list[bytes]) -> None:
    assert _read(chunks) == (lines, 0)


@given(
    st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=8),
    st.lists(st.integers(0, 99), max_size=9),
)
def test_lines_do_not_depend_on_how_bytes_arrive(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    whole = ([line for line in data.split(b"\n")[:-1] if len(line) <= 3], None)
    for chunks in (
        cut(data, places),
        [data[i : i + 1] for i in range(len(data))],
        [data + b"\n"],
        [data, b"\n"],
    ):
        lines, overlong = _read(chunks, limit=3)
        assert lines[: len(whole[0])] == whole[0]
        assert overlong == sum(len(line) > 3 for line in data.split(b"\n"))


@pytest.mark.parametrize(
    "chunks",
    [
        [b"1234\nok\n"],
        [b"123", b"4\nok\n"],
        [b"1234", b"5678", b"\nok", b"\n"],
        [b"1234\n", b"ok\n"],
        [b"1234", b"\n", b"ok\n"],
    ],
)
def test_an_overlong_line_is_skipped_to_its_end_and_counted_once(chunks: list[bytes]) -> None:
    assert _read(chunks, limit=3) == ([b"ok"], 1)


def test_a_line_of_exactly_the_limit_is_fine() -> None:
    assert _read([b"123\n"], limit=3) == _read([b"12", b"3", b"\n"], limit=3) == ([b"123"], 0)


def test_an_endless_line_is_not_kept() -> None:
    reader = LineReader(10)
    for _ in range(1000):
        assert reader.feed(b"x" * 1000) == []
    assert reader.overlong == 1
    assert reader.held_bytes == 0
    assert reader.feed(b"\nok\n") == [b"ok"]
