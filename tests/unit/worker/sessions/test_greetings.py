"""What is remembered of an upstream's greeting is bounded, whatever it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import OutcomeUnknown
from worker.sessions import handshake
from worker.transports.transport import facts_of


def greeting(**members: Any) -> bytes:
    return json.dumps({"protocolVersion": "2025-11-25", **members}).encode()


def test_of_a_usual_greeting_capabilities_and_instructions_are_remembered() -> None:
    said = greeting(
        capabilities={"logging": {}, "x": {"y": 1}}, instructions="Use it.", serverInfo={"name": "n"}, other=[1]
    )
    found = handshake.read_answer(said)
    assert found.logs and found.version == "2025-11-25"
    assert found.server == {
        "protocolVersion": "2025-11-25",
        "capabilities": {"logging": {}, "x": {"y": 1}},
        "instructions": "Use it.",
    }
    assert handshake.read_answer(greeting()).server, "a server without capabilities has greeted, too"


def test_of_a_greeting_of_megabytes_little_is_remembered() -> None:
    long = "a" * 1_000_000
    capabilities = {"tools": {"x": long}, "logging": {}, **{f"c{number}": {} for number in range(20_000)}}
    said = greeting(capabilities=capabilities, instructions=long, serverInfo={"name": long}, other=long)
    found = handshake.read_answer(said)
    assert len(json.dumps(found.server)) < 100_000
    assert found.logs and found.server["capabilities"] == {"logging": {}, "tools": {}}
    facts = facts_of(("modern",), "http", "http://x", False, "2026-07-28", json.loads(said))
    assert facts.capabilities == {"logging": {}, "tools": {}} and len(facts.instructions) < 100_000


def test_a_greeting_of_a_million_objects_is_not_taken_apart() -> None:
    with pytest.raises(OutcomeUnknown):
        handshake.read_answer(b'{"protocolVersion":"2025-11-25","x":[%b{}]}' % (b"{}," * 1_000_000))
