"""``worker.transports.error_output``: stderr as a terminal shows it."""

from __future__ import annotations

import pytest

from worker.transports.error_output import ErrorOutput, tells_more


@pytest.mark.parametrize(
    ("chunks", "lines", "open_line"),
    [
        ([b"a\nb\r\n"], [b"a", b"b"], b""),
        ([b"a", b"b\nc"], [b"ab"], b"c"),
        ([b"\r10%", b"\r20%"], [], b"20%"),
        ([b"10%\r20%\r"], [], b"20%"),
        ([b"10%\r", b"20%\rdone\n"], [b"done"], b""),
        ([b"50%\r50%\r\n"], [b"50%"], b""),
        ([b"\n"], [b""], b""),
        ([b"x" * 50 + b"\ny\n"], [b"x" * 8, b"y"], b""),
        ([b"x" * 50, b"x" * 50, b"\n"], [b"x" * 8], b""),
        ([b"x" * 50 + b"\rready"], [], b"ready"),
    ],
)
def test_lines_and_progress_bars(chunks: list[bytes], lines: list[bytes], open_line: bytes) -> None:
    output = ErrorOutput(8)
    assert [line for chunk in chunks for line in output.feed(chunk)] == lines
    assert output.open_line == open_line


def test_a_progress_bar_without_end_takes_no_room() -> None:
    output = ErrorOutput(8 * 1024)
    for number in range(10_000):
        assert output.feed(b"\r%d of 10000 [#####     ]" % number) == []
    assert output.open_line == b"9999 of 10000 [#####     ]"
    assert sum(len(value) for value in vars(output).values() if isinstance(value, bytes)) < 100


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["Traceback (most recent call last):", "ValueError: the key is wrong"], "ValueError: the key is wrong"),
        (["FATAL: missing API_KEY", "bye"], "FATAL: missing API_KEY"),
        (
            [
                "npm error code E404",
                "npm error 404 Not Found - GET https://registry.npmjs.org/nothing",
                "npm error 404 Note that you can also install from a tarball",
                "npm error A complete log of this run can be found in: /x",
            ],
            "npm error 404 Not Found - GET https://registry.npmjs.org/nothing",
        ),
    ],
)
def test_the_line_that_says_what_is_wrong_is_kept(lines: list[str], kept: str) -> None:
    words = ""
    for line in lines:
        words = line if tells_more(line, words) else words
    assert words == kept
