"""What was approved of tools: which of them a catalogue shows, on which replicas, and to whom."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from gateway.routing.catalog import Catalog, parse_list
from gateway.routing.unlisted import unlisted
from shared.mcp.listings import Kind
from shared.models import make_spec
from shared.pins import GroupPins, Pinned, digest, same
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import record, spec, tool


def pins(*tools: dict[str, Any]) -> GroupPins:
    return GroupPins(1.0, {one["name"]: Pinned(1.0, "first use", Raw(msgspec.json.encode(one))) for one in tools})


def catalog(*records: UpstreamRecord, **approved: GroupPins) -> Catalog:
    made = Catalog(RoutingSettings())
    made.take_pins(approved)
    made.rebuild({one.spec.id: one for one in records}, 0.0)
    return made


def shown(made: Catalog) -> dict[str, list[str]]:
    """The tools that are shown, with the upstreams that have them."""
    return {name: [one.id for one in route.replicas] for name, route in made.everything.routes[Kind.TOOLS].items()}


@pytest.mark.parametrize(
    ("listed", "is_same"),
    [
        (b'{"name":"a","inputSchema":{"type":"object"}}', True),
        (b'{ "inputSchema": {"type": "object"}, "name": "\\u0061" }', True),
        (b'{"name":"a","inputSchema":{"type":"object"},"title":"A"}', False),
        (b'{"name":"a","inputSchema":{"type":"object"},"_meta":{}}', False),
        (b'{"name":"a","inputSchema":{"type":"object","default":1}}', False),
    ],
)
def test_a_definition_is_all_that_is_listed_and_not_how_it_is_written(listed: bytes, is_same: bool) -> None:
    approved = msgspec.json.encode(tool("a"))
    assert same(approved, listed) is is_same
    assert (digest(approved) == digest(listed)) is is_same


def test_true_and_one_are_not_the_same() -> None:
    assert not same(b'{"default":1}', b'{"default":true}')


def test_what_was_not_approved_is_not_there() -> None:
    listed = [tool("same"), tool("other", description="new words"), tool("added")]
    approved = pins(tool("same"), tool("other"), tool("gone"))
    made = catalog(record("u", tools=listed, pin="block"), u=approved)
    assert shown(made) == {"same": ["u"]}
    assert made.pinning.differing == {"u": {"other": "changed", "added": "new"}}
    assert made.everything.find(Kind.TOOLS, "u__other") is None

    warned = catalog(record("u", tools=listed, pin="warn"), u=approved)
    assert list(shown(warned)) == ["same", "other", "added"] and warned.pinning.differing == made.pinning.differing
    assert list(shown(catalog(record("u", tools=listed), u=approved))) == ["same", "other", "added"]


def test_nothing_is_shown_while_it_is_not_known_what_was_approved() -> None:
    assert shown(catalog(record("u", tools=["a"], pin="block"))) == {}
    assert shown(catalog(record("u", tools=["a"], pin="warn"))) == {"a": ["u"]}


def test_approval_shows_a_tool_without_a_change_of_records() -> None:
    one = record("u", tools=["a"], pin="block")
    made = catalog(one, u=pins())
    made.take_pins({"u": pins(tool("a"))})
    made.rebuild({"u": one}, 0.0)
    assert shown(made) == {"a": ["u"]} and made.pinning.differing == {}
    made.rebuild({}, 0.0)
    made.rebuild({"u": record("u", tools=["b"], pin="block")}, 0.0)
    assert made.pinning.differing == {"u": {"b": "new"}}
    made.rebuild({"u": record("u", tools=["b"])}, 0.0)
    assert made.pinning.differing == {}


def test_each_replica_is_looked_at_for_itself() -> None:
    changed = tool("a", description="other")
    one = record("one", "g", 1, tools=[changed, tool("b")], pin="block")
    two = record("two", "g", 2, tools=["a", "b"], pin="block")
    free = record("three", "g", 3, tools=["c"])
    made = catalog(one, two, free, g=pins(tool("a"), tool("b")))
    assert shown(made) == {"a": ["two"], "b": ["one", "two"], "c": ["three"]}
    assert made.everything.routes[Kind.TOOLS]["a"].entry.modern == msgspec.json.encode(tool("a"))


def test_what_is_not_passed_on_counts_as_well() -> None:
    approved = tool("a", execution={"taskSupport": "optional"})
    made = catalog(record("u", tools=[tool("a")], pin="block"), u=pins(approved))
    assert made.pinning.differing == {"u": {"a": "changed"}}
    assert shown(catalog(record("u", tools=[approved], pin="block"), u=pins(approved))) == {"a": ["u"]}


def test_a_clients_own_session_cannot_show_what_nobody_approved() -> None:
    one = record("u", tools=["a"], pin="block", isolation="client", transport="stdio")
    made = catalog(one, u=pins(tool("a")))
    own = parse_list(one.spec, Kind.TOOLS, msgspec.json.encode([tool("a"), tool("hidden")]))
    for endpoint in ("", "u"):
        assert list(made.view_with(endpoint, {"u": {Kind.TOOLS: own}}).routes[Kind.TOOLS]) == ["a"]
    changed = parse_list(one.spec, Kind.TOOLS, msgspec.json.encode([tool("a", title="B")]))
    assert not made.view_with("u", {"u": {Kind.TOOLS: changed}}).routes[Kind.TOOLS]
    assert unlisted(made.view("u"), Kind.TOOLS, "never_listed", ["u"]) == []
    assert unlisted(catalog(record("u", tools=["a"])).view("u"), Kind.TOOLS, "never_listed", ["u"])


@pytest.mark.parametrize(("said", "meant"), [(False, "off"), ("off", "off"), ("warn", "warn"), ("block", "block")])
def test_pin_is_read_as_people_write_it(said: Any, meant: str) -> None:
    assert spec("u", pin=said).pin.value == meant


def test_a_pin_that_is_not_understood_is_refused() -> None:
    for wrong in (True, "on", "blok", 1):
        with pytest.raises(Exception, match=r"pin: .* is not one of off, warn, block"):
            make_spec("u", {"type": "http", "url": "http://up.test/mcp"}, pin=wrong)
