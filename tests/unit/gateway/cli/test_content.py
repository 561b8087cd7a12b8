"""What is no text is described, or saved under a name of its own."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gateway.cli.content import Shown, printable

BLOB = base64.b64encode(b"bytes").decode()


def test_words_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[2J\x07\u202eb\tc\nd") == "a\ufffd[2J\ufffd\ufffdb\tc\nd"


def test_names_are_made_of_what_files_may_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown("../../etc/passwd", tmp_path)
    shown.resource({"uri": "x:y", "blob": BLOB, "mimeType": "application/x-unknown"})
    shown.item({"type": "image", "data": BLOB, "mimeType": "../../../sh"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etc-passwd-1.bin", "etc-passwd-2.bin"]
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/etc-passwd-1.bin", f"{tmp_path}/etc-passwd-2.bin"]


def test_what_is_no_content_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown("x", None)
    for item in (
        {"type": "new", "é": 1},
        None,
        {"type": "text"},
        {"type": "image", "data": "no base64", "mimeType": 1},
    ):
        shown.item(item)
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == ['{"type": "new", "é": 1}', "null", '{"type": "text"}'] and "application/octet-stream" in out[3]
