"""``shared.registry.records``: what is written is read back, and the public view has no secrets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.choices import STRATEGIES, Duty, EraChoice, Isolation
from shared.connections import HttpConnection, StdioConnection
from shared.mcp.listings import Kind
from shared.models import HealthCheckResult, ServerStatus, ToolEntry, UpstreamSpec, make_spec
from shared.registry.records import Fields, ListedCatalog, UpstreamRecord, read_health, read_record, spec_fields

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
PAIRS = st.dictionaries(TEXT, TEXT, max_size=3)
CONNECTIONS = st.one_of(
    st.builds(StdioConnection, TEXT, st.lists(TEXT, max_size=3).map(tuple), PAIRS, st.none() | TEXT),
    st.builds(HttpConnection, TEXT, st.sampled_from(["http", "sse"]), PAIRS),
)


@st.composite
def specs(draw: Any) -> UpstreamSpec:
    """Any spec, as registered."""
    connection = draw(CONNECTIONS)
    return UpstreamSpec(
        id=draw(TEXT),
        name=draw(TEXT),
        transport=connection.type,
        connection=connection,
        weight=draw(st.integers(1, 1000)),
        metadata=draw(st.dictionaries(TEXT, st.integers(-9, 9) | TEXT | st.none(), max_size=3)),
        isolation=draw(st.sampled_from(Isolation)),
        era=draw(st.sampled_from(EraChoice)),
        balancer=draw(st.none() | st.sampled_from(list(STRATEGIES))),
        source=draw(TEXT),
        include_tools=draw(st.none() | st.lists(TEXT, max_size=3).map(tuple)),
        exclude_tools=draw(st.lists(TEXT, max_size=3).map(tuple)),
        problem=draw(st.sampled_from(["", "variable X is not set"])),
    )


def _hash(values: list[str | bytes]) -> Fields:
    """The alternating list as Redis gives it back."""
    raw = [value if isinstance(value, bytes) else value.encode() for value in values]
    return dict(zip(raw[::2], raw[1::2], strict=True))


@given(specs(), st.integers(0, 2**40))
def test_a_spec_survives_redis(spec: UpstreamSpec, sequence: int) -> None:
    record = read_record(spec.id, sequence, _hash(spec_fields(spec)), {}, {})
    assert record is not None
    assert record.spec == spec
    assert record.sequence == sequence
    assert record.transport_in_use == spec.transport


def test_what_is_not_registered_has_no_record() -> None:
    assert read_record("a", 1, {}, {}, {}) is None
    assert read_record("a", 1, {b"owner:0": b"w1"}, {b"digest": b"x"}, {}) is None


MINIMAL: Fields = {b"name": b"g", b"transport": b"stdio", b"connection": b'{"command":"x"}'}


def test_a_fresh_record_has_the_defaults() -> None:
    record = read_record("a", 3, MINIMAL, {}, {})
    assert record == UpstreamRecord(
        spec=UpstreamSpec("a", "g", "stdio", StdioConnection("x")), sequence=3, transport_in_use="stdio"
    )


def test_an_entry_that_cannot_be_run_has_its_reason_for_status_whatever_else_is_written() -> None:
    server = {**MINIMAL, b"problem": b"K is not set", b"status": b"registered", b"status_since": b"5", b"owner:0": b"w"}
    record = read_record("a", 3, server, {}, {})
    assert record is not None
    assert (record.status, record.error, record.status_since) == (ServerStatus.ERROR, "K is not set", 5.0)
    assert record.owners == ((0, "w"),), "its owner sees that there is something to give up"
    assert record.health == HealthCheckResult("a", False, None, "K is not set", 5.0)
    assert record.entry().error == "K is not set"


def test_tools_that_are_hidden_are_not_shown() -> None:
    catalog = {b"digest": b"d", b"tools": b'[{"name":"a"},{"name":"b"}]'}
    for hiding in ({b"include_tools": b'["a"]'}, {b"exclude_tools": b'["b"]'}):
        record = read_record("a", 3, {**MINIMAL, **hiding}, catalog, {})
        assert record is not None
        assert [tool.name for tool in record.entry().tools] == ["a"]


def test_every_reported_fact_is_read() -> None:
    server = {
        **MINIMAL,
        b"revision": b"7",
        b"status": b"connected",
        b"status_since": b"12.5",
        b"error": "trop occupé".encode(),
        b"eras": b"legacy,modern",
        b"sessionful": b"1",
        b"protocol_version": b"2025-11-25",
        b"transport_in_use": b"sse",
        b"url_in_use": b"http://h/sse",
        b"capabilities": b'{"prompts":{"listChanged":true}}',
        b"instructions": "sois bref é".encode(),
        b"owner:1": b"w2",
        b"owner:0": b"w1",
    }
    catalog = {
        b"digest": b"d1",
        b"tools": b'[{"name":"t"}]',
        b"resource_templates": b'[{"uriTemplate":"x:{y}"}]',
        b"listed_at": b"9.5",
    }
    health = {b"healthy": b"1", b"latency_ms": b"1.5", b"checked_at": b"3.25", b"error": b""}
    record = read_record("a", 3, server, catalog, health)
    assert record is not None
    assert (record.revision, record.status, record.status_since) == (7, ServerStatus.CONNECTED, 12.5)
    assert (record.error, record.eras, record.sessionful) == ("trop occupé", ("legacy", "modern"), True)
    assert (record.protocol_version, record.transport_in_use) == ("2025-11-25", "sse")
    assert record.url_in_use == "http://h/sse"
    assert (record.capabilities, record.instructions) == ({"prompts": {"listChanged": True}}, "sois bref é")
    assert record.owners == ((0, "w1"), (1, "w2"))
    assert record.catalog == ListedCatalog(
        "d1", {Kind.TOOLS: b'[{"name":"t"}]', Kind.TEMPLATES: b'[{"uriTemplate":"x:{y}"}]'}, 9.5
    )
    assert record.health == HealthCheckResult("a", True, 1.5, None, 3.25)


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected"),
    [
        (b"error", b"", "error", None),
        (b"eras", b"", "eras", ()),
        (b"sessionful", b"0", "sessionful", False),
        (b"protocol_version", b"", "protocol_version", None),
        (b"capabilities", b"", "capabilities", {}),
        (b"instructions", b"", "instructions", ""),
    ],
)
def test_empty_fields_mean_nothing(field: bytes, value: bytes, attribute: str, expected: Any) -> None:
    record = read_record("a", 1, {**MINIMAL, field: value}, {}, {})
    assert getattr(record, attribute) == expected


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_has_its_own_field_and_an_empty_list_without_it(kind: Kind) -> None:
    record = read_record("a", 1, MINIMAL, {kind.value.encode(): b"[1]"}, {})
    assert record is not None
    assert {one: record.catalog.document(one) for one in Kind} == dict.fromkeys(Kind, b"[]") | {kind: b"[1]"}


def test_the_owner_of_a_slot() -> None:
    record = read_record("a", 1, {**MINIMAL, b"owner:0": b"w1", b"owner:2": b"w3"}, {}, {})
    assert record is not None
    assert [record.owner(slot) for slot in range(4)] == ["w1", None, "w3", None]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({b"failures": b"2"}, None),
        ({b"healthy": b"0", b"error": b"refused"}, HealthCheckResult("a", False, None, "refused", 0.0)),
        ({b"healthy": b"0", b"latency_ms": b""}, HealthCheckResult("a", False)),
        ({b"healthy": b"1", b"latency_ms": b"0.0"}, HealthCheckResult("a", True, 0.0)),
    ],
)
def test_health_is_read_as_reported(fields: Fields, expected: HealthCheckResult | None) -> None:
    assert read_health("a", fields) == expected


def test_the_public_entry_tells_everything_but_secrets() -> None:
    spec = make_spec(
        "a",
        {"url": "http://me:hush-pw@h/", "headers": {"X-Key": "hush-header"}},
        name="g",
        weight=3,
        metadata={"k": 1},
        isolation="client",
        balancer="random",
    )
    tools = [{"name": "t", "description": "d", "inputSchema": {"type": "object"}}, {"name": "bare"}]
    record = UpstreamRecord(
        spec=spec,
        sequence=1,
        status=ServerStatus.ERROR,
        status_since=5.0,
        error="down",
        eras=("legacy",),
        protocol_version="2025-11-25",
        owners=((0, "w1"), (1, "w2")),
        catalog=ListedCatalog("d", {Kind.TOOLS: msgspec.json.encode(tools)}),
        health=HealthCheckResult("a", False),
    )
    entry = record.entry()
    assert "hush" not in repr(entry)
    assert b"hush" not in msgspec.json.encode(entry)
    assert (entry.id, entry.name, entry.transport, entry.weight) == ("a", "g", "http", 3)
    assert (entry.status, entry.status_since, entry.error) == (ServerStatus.ERROR, 5.0, "down")
    assert (entry.metadata, entry.isolation, entry.balancer) == (
        {"k": 1},
        Isolation.CLIENT,
        "random",
    )
    assert (entry.eras, entry.protocol_version, entry.owners) == (("legacy",), "2025-11-25", ("w1", "w2"))
    assert entry.tools == (ToolEntry("t", "a", "d", {"type": "object"}), ToolEntry("bare", "a", None, {}))
    assert entry.last_health_check == HealthCheckResult("a", False)
    assert entry.connection["headers"] == {"X-Key": "***"}
    assert record.entry(with_tools=False).tools == ()


@pytest.mark.parametrize(
    ("duty", "owner", "read", "status"),
    [
        ("", b"w", Duty.ACTIVE, ServerStatus.CONNECTED),
        ("draining", b"w", Duty.DRAINING, ServerStatus.CONNECTED),
        ("disabled", b"w", Duty.DISABLED, ServerStatus.CONNECTED),
        ("disabled", b"", Duty.DISABLED, ServerStatus.STOPPED),
        ("of a newer version", b"w", Duty.ACTIVE, ServerStatus.CONNECTED),
    ],
)
def test_a_disabled_upstream_has_stopped_once_no_worker_has_it(
    duty: str, owner: bytes, read: Duty, status: ServerStatus
) -> None:
    spec = make_spec("u", {"type": "http", "url": "http://up.test/mcp"})
    fields = list(spec_fields(spec))
    server = {str(name).encode(): value.encode() if isinstance(value, str) else value
              for name, value in zip(fields[::2], fields[1::2], strict=True)}  # fmt: skip
    server |= {b"status": b"connected", b"error": b"old", b"duty": duty.encode()}
    server |= {b"owner:0": owner} if owner else {}
    found = read_record("u", 1, server, {}, {b"healthy": b"1"})
    assert found is not None and (found.duty, found.status) == (read, status)
    assert found.entry().duty is read
    stopped = status is ServerStatus.STOPPED
    assert (found.error is None, found.health is None) == (stopped, stopped)
