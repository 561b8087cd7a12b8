"""Spans as bytes, read again by OpenTelemetry's own messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tracing import spans
from shared.tracing.naming import named
from tests.collector import Span, read

TRACE, ID, PARENT = bytes(range(16)), bytes(range(8)), bytes(range(8, 16))


def decoded(*made: bytes) -> list[Span]:
    """What a collector reads."""
    return list(read(spans.request({"service.name": "me", "process.pid": 7}, "mcp-one-gateway", "1", made)))


def test_everything_that_a_span_has() -> None:
    content = spans.fixed("tools/call t", spans.SERVER, {"a": "x", "n": 300, "yes": True, "no": False, "big": 2**40})
    content += spans.link("ab" * 16, "cd" * 8) + spans.event("happened", 5, {"why": "y" * 500}) + spans.FAILED
    content += spans.TextAttribute("id").of(b"7") + spans.TextAttribute("long").of(b"z" * 200)
    (one,) = decoded(spans.span(TRACE, ID, PARENT, content, 10**18, 10**18 + 10**9, "v=1", True))
    assert (one.trace, one.id, one.parent, one.name) == (TRACE.hex(), ID.hex(), PARENT.hex(), "tools/call t")
    assert (one.kind, one.state, one.failed, one.ended - one.began) == ("server", "v=1", True, 1.0)
    facts = {"a": "x", "n": 300, "yes": True, "no": False, "big": 2**40, "id": "7", "long": "z" * 200}
    assert one.facts == facts
    assert one.links == [("ab" * 16, "cd" * 8)]
    assert one.events == [("happened", {"why": "y" * spans.MAX_TEXT})]
    assert one.resource == {"service.name": "me", "process.pid": 7}


def test_a_first_span_has_no_parent_and_no_span_ends_before_it_begins() -> None:
    (one,) = decoded(spans.span(TRACE, ID, b"", spans.fixed("x", spans.INTERNAL, {}), 20, 10))
    assert (one.parent, one.state, one.failed, one.began) == ("", "", False, one.ended)


@given(st.text(max_size=600), st.integers(0, 2**62))
def test_any_text_and_number_can_be_read(text: str, number: int) -> None:
    (one,) = decoded(spans.span(TRACE, ID, PARENT, spans.fixed(text, spans.CLIENT, {"t": text, "n": number}), 1, 2))
    assert one.facts["n"] == number
    assert one.name == one.facts["t"] and len(one.name) < 10 * spans.MAX_TEXT
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in one.name)


@given(st.text(max_size=300))
def test_a_text_of_its_own_is_read_as_any_other(text: str) -> None:
    raw = text.encode("utf-8", "replace")
    content = spans.fixed("x", spans.CLIENT, {}) + spans.TextAttribute("a.name").of(raw)
    (one,) = decoded(spans.span(TRACE, ID, PARENT, content, 1, 2))
    assert one.facts["a.name"] == raw.decode()


@pytest.mark.parametrize(
    ("method", "name", "span", "values"),
    [
        ("tools/call", "t", "tools/call t", {"gen_ai.tool.name": "t", "gen_ai.operation.name": "execute_tool"}),
        ("prompts/get", "p", "prompts/get p", {"gen_ai.prompt.name": "p"}),
        ("resources/read", "file:///a?key=1#f", "resources/read", {"mcp.resource.uri": "file:///a"}),
        ("resources/read", "db://me:pw@host/t", "resources/read", {"mcp.resource.uri": "db://host/t"}),
        ("completion/complete", "x", "completion/complete", {}),
    ],
)
def test_names_say_what_is_called_and_no_more(method: str, name: str, span: str, values: dict[str, str]) -> None:
    assert named(method, name) == (span, {"mcp.method.name": method, **values})
