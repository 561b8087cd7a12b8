"""``worker.transports.transport``: the facts that a probe finds."""

from __future__ import annotations

from typing import Any

import pytest

from worker.transports.transport import UpstreamFacts, facts_of


@pytest.mark.parametrize(
    ("said", "capabilities", "instructions"),
    [
        ({"capabilities": {"prompts": {}}, "instructions": "Ask."}, {"prompts": {}}, "Ask."),
        ({"capabilities": {}, "instructions": ""}, {}, ""),
        ({}, {}, ""),
        ({"capabilities": None, "instructions": None}, {}, ""),
        ({"capabilities": ["tools"], "instructions": {"text": "x"}}, {}, ""),
        ({"capabilities": "tools", "instructions": 5}, {}, ""),
    ],
)
def test_what_an_upstream_says_of_itself_is_kept_when_it_makes_sense(
    said: dict[str, Any], capabilities: dict[str, Any], instructions: str
) -> None:
    facts = facts_of(("legacy",), "sse", "http://h/sse", True, "2025-11-25", said)
    assert facts == UpstreamFacts(("legacy",), "sse", "http://h/sse", True, "2025-11-25", capabilities, instructions)
