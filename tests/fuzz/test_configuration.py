"""Configuration files: whatever is in one, it is read, or refused with words."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.documents import decode
from shared.config.load import parse
from shared.errors import ConfigError
from tests.fuzz.engine import ROUNDS, fuzz

WORDS = [
    b'"command":',
    b'"url":',
    b'"args":',
    b'"env":',
    b'"headers":',
    b'"type":',
    b'"sandbox":',
    b'"auth":',
    b'"tls":',
    b'"timeout":',
    b'"disabled":',
    b'"mcpServers":',
    b'"servers":',
    b'"gateway":',
    b'"virtualServers":',
    b'"access":',
    b"null",
    b"true",
    b"5",
    b"-1",
    b"1e400",
    b'"x"',
    b"[]",
    b"{}",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"\n",
    b"  ",
    b"- ",
    b"*a",
    b"&a ",
    b"<<: ",
    b"${X}",
    b"${",
    b"${file:x}",
    b"~",
    b"\x00",
    b"\xff",
    b"\\u0000",
    b"[[a]]\n",
    b"a.b = 1\n",
    b"2001-01-01",
    b"!!binary x",
    b"? ",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["json", "yaml", "toml"])
def test_a_file_is_read_or_refused_with_words(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"gateway.{kind}"
    read = 0

    def check(data: bytes) -> None:
        nonlocal read
        for strict in (False, True):
            try:
                parse(decode(data, file), {"HOME": "/home/x", "X": "y"}, tmp_path, strict)
                read += 1
            except ConfigError as error:
                assert str(error)

    fuzz(f"configuration-{kind}", WORDS, check, ROUNDS // 20)
    assert read > 50, "most inputs are worth nothing"
