"""``worker.sessions.handshake``: whom a session goes on with, and in which version."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import OutcomeUnknown
from worker.sessions.handshake import read_answer


@pytest.mark.parametrize("version", ["2024-10-07", "2024-11-05", "2025-11-25"])
def test_a_known_version_is_taken_without_a_word(version: str) -> None:
    greeting = read_answer(json.dumps({"protocolVersion": version, "capabilities": {"logging": {}}}).encode())
    assert (greeting.version, greeting.logs, greeting.flaws) == (version, True, ())


@pytest.mark.parametrize(
    ("given", "sent"),
    [("1.0", "1.0"), (1, "1"), ("DRAFT-2025-v3", "DRAFT-2025-v3"), (None, ""), ("a\r\nb: c", ""), ({}, "")],
)
def test_an_unknown_version_is_said_and_sent_back_where_a_header_can_have_it(given: Any, sent: str) -> None:
    greeting = read_answer(json.dumps({"protocolVersion": given}).encode())
    assert greeting.version == sent and len(greeting.flaws) == 1 and repr(sent) in greeting.flaws[0]
    assert read_answer(b"{}").version == ""


@pytest.mark.parametrize("answer", [b"[]", b"5", b"{", b'{"protocolVersion":"2026-07-28"}'])
def test_what_is_no_greeting_is_named(answer: bytes) -> None:
    with pytest.raises(OutcomeUnknown):
        read_answer(answer)
