"""``gateway.http.heads``: heads of answers are kept for a second, and then say the new one."""

from __future__ import annotations

import email.utils

import pytest

from gateway.http.heads import Process, json_head


@pytest.mark.parametrize(("status", "keep_alive"), [(200, True), (200, False), (503, True)])
def test_a_head_says_the_second_in_which_it_is_sent(
    status: int, keep_alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for second in ("Sun, 22 Nov 2026 12:00:00 GMT", "Sun, 22 Nov 2026 12:00:01 GMT"):
        monkeypatch.setattr(email.utils, "formatdate", lambda usegmt, second=second: second)
        Process.tick()
        for length in (5, 6, 5):
            lines = json_head(status, length, keep_alive).decode().split("\r\n")
            assert lines[0].startswith(f"HTTP/1.1 {status} ")
            assert f"Date: {second}" in lines and f"Content-Length: {length}" in lines
            assert ("Connection: close" in lines) != keep_alive
    monkeypatch.undo()
    Process.tick()
