"""``gateway.protocol.offers``: what the gateway says of itself is what a view's upstreams say together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocol.offers import Offers
from gateway.routing.catalog import Catalog
from gateway.routing.derived import filtered
from gateway.routing.view import View
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import record

CAPABILITIES = {name: {"listChanged": True} for name in ("tools", "prompts", "resources")}
OFFERS = Offers("unit", "9.9")


def _view(endpoint: str, *records: UpstreamRecord) -> View:
    catalog = Catalog(RoutingSettings())
    catalog.rebuild({one.spec.id: one for one in records}, 0.0)
    return catalog.view(endpoint)


def _of_view(view: View) -> tuple[Any, Any]:
    """Capabilities and instructions, which both eras are told alike."""
    legacy = json.loads(OFFERS.initialize(view, "2025-11-25"))
    modern = json.loads(OFFERS.discover(view))
    assert legacy["capabilities"] == modern["capabilities"]
    assert legacy.get("instructions") == modern.get("instructions")
    return legacy["capabilities"], legacy.get("instructions")


def _offers(endpoint: str, *records: UpstreamRecord) -> tuple[Any, Any]:
    return _of_view(_view(endpoint, *records))


def test_initialize_names_the_version_and_the_server() -> None:
    answer = json.loads(OFFERS.initialize(_view("", record("a", capabilities={"completions": {}})), "2025-06-18"))
    assert answer["protocolVersion"] == "2025-06-18"
    assert answer["serverInfo"] == {"name": "unit", "version": "9.9"}
    assert answer["capabilities"] == CAPABILITIES | {"completions": {}}
    assert "instructions" not in answer


@pytest.mark.parametrize(("endpoint", "expected"), [("", True), ("g", True), ("plain", False), ("nobody", False)])
@pytest.mark.parametrize("name", ["completions", "logging"])
def test_what_some_upstreams_have_is_offered_where_one_of_them_has_it(name: str, endpoint: str, expected: bool) -> None:
    records = (
        record("plain", sequence=1, capabilities={"tools": {}}),
        record("g1", "g", sequence=2, capabilities={"tools": {}}),
        record("g2", "g", sequence=3, capabilities={name: {}}),
    )
    capabilities, _ = _offers(endpoint, *records)
    assert capabilities == CAPABILITIES | ({name: {}} if expected else {})


def test_instructions_are_told_by_group_in_registration_order() -> None:
    records = (
        record("g2", "g", sequence=3, instructions="not this"),
        record("g1", "g", sequence=2, instructions="Ask twice."),
        record("late", sequence=4, instructions="Be é."),
        record("silent", sequence=1),
    )
    assert _offers("", *records)[1] == "## g\nAsk twice.\n\n## late\nBe é."
    assert _offers("g", *records)[1] == "Ask twice."
    assert _offers("silent", *records)[1] is None
    assert _offers("nobody", *records)[1] is None


def test_a_replica_without_instructions_leaves_the_word_to_the_next() -> None:
    records = (record("g1", "g", sequence=1), record("g2", "g", sequence=2, instructions="Second."))
    assert _offers("", *records)[1] == "## g\nSecond."


def test_instructions_are_capped_each_and_together() -> None:
    one = _offers("u0", record("u0", instructions="x" * 100_000))[1]
    assert one == "x" * 2048
    many = [record(f"u{n}", sequence=n, instructions=str(n % 10) * 5000) for n in range(50)]
    together = _offers("", *many)[1]
    assert together.startswith("## u0\n" + "0" * 2048 + "\n\n## u1\n111")
    assert len(together) == 16 * 1024


def test_a_group_that_a_view_hides_offers_nothing_there() -> None:
    records = (
        record("a", sequence=1, tools=["x"]),
        record("b", sequence=2, tools=["y"], capabilities={"logging": {}}, instructions="Secret."),
    )
    whole = _view("", *records)
    assert _of_view(whole) == (CAPABILITIES | {"logging": {}}, "## b\nSecret.")
    view = filtered(whole, ("", "few"), lambda kind, name, route: route.group == "a")
    assert _of_view(view) == (CAPABILITIES, None)
