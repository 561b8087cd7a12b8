"""``gateway.routing.catalog``: groups, merged lists, pages, and what survives a rebuild."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from gateway.balancers import BalancerStrategy
from gateway.balancers.round_robin import RoundRobin
from gateway.balancers.weighted import Weighted
from gateway.routing.catalog import Catalog
from shared.choices import Duty, Naming
from shared.mcp.listings import CHANGES, KINDS, Kind
from shared.mcp.methods import PROMPTS_CHANGED, RESOURCES_CHANGED, TOOLS_CHANGED
from shared.mcp.versions import Era
from shared.models import ServerStatus
from shared.settings import RoutingSettings
from tests.unit.builders import listed, record, tool
from tests.unit.gateway.routing.catalogues import (
    CONNECTED,
    ERROR,
    HIDDEN,
    NOW,
    REGISTERED,
    catalog_of,
    names_at,
    page_of,
    rebuild_with,
)

# ---- names and groups


def test_tools_are_listed_in_registration_order_of_their_groups() -> None:
    catalog = catalog_of(record("b", sequence=1, tools=["z", "y"]), record("a", sequence=2, tools=["x"]))
    assert names_at(catalog) == ["z", "y", "x"]
    assert list(catalog.groups) == ["b", "a"]


def test_a_collision_is_listed_with_its_group_under_the_own_schema() -> None:
    catalog = catalog_of(
        record("a", sequence=1, tools=[tool("x", description="A's")]),
        record("b", sequence=2, tools=[tool("x", description="B's"), "y"]),
    )
    shown = {one["name"]: one.get("description") for one in page_of(catalog)["tools"]}
    assert shown == {"x": "A's", "b__x": "B's", "y": None}
    assert catalog.everything.routes[Kind.TOOLS]["b__x"].entry.name == "x"
    assert catalog.everything.routes[Kind.TOOLS]["b__x"].group == "b"


def test_prefix_naming_lists_every_tool_with_its_group() -> None:
    catalog = catalog_of(record("a", tools=["x"]), record("b", sequence=2, tools=["y"]), naming=Naming.PREFIX)
    assert names_at(catalog) == ["a__x", "b__y"]


def test_a_bare_name_stays_reserved_while_its_group_is_down() -> None:
    down = record("a", sequence=1, tools=["x"], status=ERROR, status_since=0.0)
    catalog = catalog_of(down, record("b", sequence=2, tools=["x"]))
    assert catalog.everything.routes[Kind.TOOLS]["x"].group == "a"
    assert names_at(catalog) == ["b__x"]


def test_a_bare_name_is_free_again_when_its_group_is_unregistered() -> None:
    second = record("b", sequence=2, tools=["x"])
    catalog = catalog_of(record("a", sequence=1, tools=["x"]), second)
    assert rebuild_with(catalog, second)
    assert names_at(catalog) == ["x"]
    assert catalog.everything.routes[Kind.TOOLS]["x"].group == "b"


# ---- replicas


def test_replicas_share_a_group_and_a_route_has_those_that_have_the_tool() -> None:
    catalog = catalog_of(
        record("g1", "g", sequence=1, tools=["both", "one"]),
        record("g2", "g", sequence=2, tools=["two", "both"]),
    )
    assert names_at(catalog) == ["both", "one", "two"]
    having = {
        name: [replica.id for replica in route.replicas]
        for name, route in catalog.everything.routes[Kind.TOOLS].items()
    }
    assert having == {"both": ["g1", "g2"], "one": ["g1"], "two": ["g2"]}


def test_the_first_replicas_word_on_a_tool_is_shown() -> None:
    catalog = catalog_of(
        record("g2", "g", sequence=2, tools=[tool("t", description="second")]),
        record("g1", "g", sequence=1, tools=[tool("t", description="first")]),
    )
    assert page_of(catalog)["tools"][0]["description"] == "first"


def test_a_tool_that_one_upstream_lists_twice_has_one_route_and_one_replica() -> None:
    catalog = catalog_of(record("a", tools=["t", "t"]))
    assert names_at(catalog) == ["t"]
    assert [replica.id for replica in catalog.everything.routes[Kind.TOOLS]["t"].replicas] == ["a"]


@pytest.mark.parametrize("options", [{"include_tools": ["echo"]}, {"exclude_tools": ["delete_everything"]}])
def test_a_hidden_tool_does_not_exist_at_any_endpoint(options: dict[str, Any]) -> None:
    catalog = catalog_of(record("a", tools=["echo", "delete_everything"], **options))
    for view in (catalog.everything, catalog.view("a")):
        assert list(view.routes[Kind.TOOLS]) == ["echo"]
        assert view.find(Kind.TOOLS, "delete_everything") is None
        assert view.find(Kind.TOOLS, "a__delete_everything") is None


def test_a_tool_that_one_replica_hides_is_called_on_the_others_only() -> None:
    catalog = catalog_of(
        record("one", "g", sequence=1, tools=["x", "y"], exclude_tools=["x"]),
        record("two", "g", sequence=2, tools=["x", "y"]),
    )
    routes = catalog.everything.routes[Kind.TOOLS]
    assert [replica.id for replica in routes["x"].replicas] == ["two"]
    assert [replica.id for replica in routes["y"].replicas] == ["one", "two"]


def test_a_filter_that_changes_is_obeyed_although_the_lists_are_the_same() -> None:
    catalog = catalog_of(record("a", tools=["x", "y"]))
    catalog.rebuild({"a": record("a", tools=["x", "y"], exclude_tools=["x"])}, NOW)
    assert list(catalog.everything.routes[Kind.TOOLS]) == ["y"]


def test_prompts_are_not_tools_of_the_same_name() -> None:
    catalog = catalog_of(record("a", tools=["x"], prompts=["x"], exclude_tools=["x"]))
    assert list(catalog.everything.routes[Kind.PROMPTS]) == ["x"]


def test_counts_survive_a_rebuild_and_end_with_the_registration() -> None:
    catalog = catalog_of(record("a", tools=["x"]))
    replica = catalog.replica("a")
    assert replica is not None
    replica.in_flight, replica.in_flight_elsewhere = 3, 4
    rebuild_with(catalog, record("a", tools=["x", "y"], weight=5))
    assert catalog.replica("a") is replica is catalog.everything.routes[Kind.TOOLS]["y"].replicas[0]
    assert (replica.load, replica.weight) == (7, 5)
    rebuild_with(catalog)
    assert catalog.replica("a") is None
    rebuild_with(catalog, record("a", tools=["x"]))
    assert catalog.everything.routes[Kind.TOOLS]["x"].replicas[0].load == 0


@pytest.mark.parametrize(
    ("status", "owners", "suspect_until", "expected"),
    [
        (CONNECTED, [(0, "w1")], 0.0, True),
        (CONNECTED, [(0, "w1")], 50.0, True),
        (CONNECTED, [(0, "w1")], 50.1, False),
        (CONNECTED, [], 0.0, False),
        (ERROR, [(0, "w1")], 0.0, False),
        (REGISTERED, [(0, "w1")], 0.0, False),
    ],
)
def test_a_replica_is_available_when_connected_owned_and_not_suspect(
    status: ServerStatus, owners: list[tuple[int, str]], suspect_until: float, expected: bool
) -> None:
    replica = catalog_of(record("a", status=status, owners=owners)).replica("a")
    assert replica is not None
    replica.suspect_until = suspect_until
    assert replica.available(50.0) is expected


def test_only_news_of_a_connection_clear_a_suspicion() -> None:
    catalog = catalog_of(record("a", status_since=1.0))
    replica = catalog.replica("a")
    assert replica is not None
    replica.suspect_until = 99.0
    rebuild_with(catalog, record("a", status_since=1.0, weight=2))
    rebuild_with(catalog, record("a", status=ERROR, status_since=2.0))
    assert replica.suspect_until == 99.0
    rebuild_with(catalog, record("a", status_since=3.0))
    assert replica.suspect_until == 0.0


# ---- balancers


def test_a_group_is_balanced_as_its_first_opinionated_replica_says_or_as_configured() -> None:
    plain = record("p", sequence=1, tools=["p"])
    silent = record("g1", "g", sequence=2, tools=["t"])
    wanting = record("g2", "g", sequence=3, tools=["t"], balancer="weighted")
    catalog = catalog_of(plain, silent, wanting)
    assert isinstance(catalog.everything.routes[Kind.TOOLS]["p"].balancer, RoundRobin)
    assert isinstance(catalog.everything.routes[Kind.TOOLS]["t"].balancer, Weighted)
    catalog = catalog_of(plain, balancer=BalancerStrategy.WEIGHTED)
    assert isinstance(catalog.everything.routes[Kind.TOOLS]["p"].balancer, Weighted)


def test_a_balancers_memory_survives_rebuilds_until_the_strategy_changes() -> None:
    catalog = catalog_of(record("a", tools=["x"]))
    first = catalog.everything.routes[Kind.TOOLS]["x"].balancer
    rebuild_with(catalog, record("a", tools=["x", "y"]), record("b", "a", sequence=2, tools=["x"]))
    assert (
        catalog.everything.routes[Kind.TOOLS]["x"].balancer
        is catalog.everything.routes[Kind.TOOLS]["y"].balancer
        is first
    )
    rebuild_with(catalog, record("a", tools=["x"], balancer="random"))
    assert catalog.everything.routes[Kind.TOOLS]["x"].balancer is not first


# ---- endpoints of one group


def test_at_the_endpoint_of_a_group_tools_have_their_own_names() -> None:
    catalog = catalog_of(record("a", sequence=1, tools=["x"]), record("b", sequence=2, tools=["y", "x"]))
    assert names_at(catalog) == ["x", "y", "b__x"]
    assert names_at(catalog, endpoint="b") == ["y", "x"]
    assert names_at(catalog, endpoint="a") == ["x"]
    assert names_at(catalog, endpoint="nobody") == []


# ---- what is listed


@pytest.mark.parametrize(
    ("status", "since", "listed"),
    [(CONNECTED, 0.0, True), (ERROR, NOW - 59, True), (ERROR, NOW - 61, False), (REGISTERED, NOW - 1, True)],
)
def test_tools_of_an_upstream_that_is_down_stay_listed_for_the_grace_time(
    status: ServerStatus, since: float, listed: bool
) -> None:
    catalog = catalog_of(record("a", tools=["x"], status=status, status_since=since), catalog_grace_s=60.0)
    assert names_at(catalog) == names_at(catalog, endpoint="a") == (["x"] if listed else [])
    assert catalog.everything.routes[Kind.TOOLS]["x"].group == "a"


def test_one_connected_replica_keeps_a_tool_listed() -> None:
    down = record("g1", "g", sequence=1, tools=["t"], status=ERROR)
    assert names_at(catalog_of(down, record("g2", "g", sequence=2, tools=["t"]))) == ["t"]


def test_legacy_clients_are_not_shown_what_they_choke_on() -> None:
    tools = [HIDDEN, tool("odd", outputSchema={"type": "array"})]
    catalog = catalog_of(record("a", tools=tools))
    legacy, modern = page_of(catalog, era=Era.LEGACY), page_of(catalog, era=Era.MODERN)
    assert [(one["name"], "outputSchema" in one) for one in legacy["tools"]] == [("odd", False)]
    assert modern["tools"] == tools[1:]


def test_the_result_is_worded_for_its_era() -> None:
    catalog = catalog_of(record("a", tools=["x"]), list_ttl_s=2.5)
    assert set(page_of(catalog)) == {"tools"}
    modern = page_of(catalog, era=Era.MODERN)
    assert (modern.pop("resultType"), modern.pop("ttlMs"), modern.pop("cacheScope")) == (
        "complete",
        2500,
        "private",
    )
    assert set(modern) == {"tools"}


def test_groups_with_nobody_connected_are_named_with_the_reason() -> None:
    catalog = catalog_of(
        record("up", sequence=1, tools=["x"]),
        record("down", sequence=2, status=ERROR, error="refused"),
        record("fresh", sequence=3, status=REGISTERED),
        record("half1", "half", sequence=4, status=ERROR),
        record("half2", "half", sequence=5),
    )
    missing = {"down": "unavailable", "fresh": "unavailable"}
    assert catalog.everything.missing_groups() == missing
    assert page_of(catalog)["_meta"] == {"gateway/unavailableGroups": missing}
    assert page_of(catalog, endpoint="down")["_meta"] == {"gateway/unavailableGroups": {"down": "unavailable"}}
    assert "_meta" not in page_of(catalog, endpoint="up")


# ---- prompts, resources and templates

KEYS = {
    Kind.PROMPTS: ("prompts", "p", "b__p"),
    Kind.RESOURCES: ("resources", "file:///p", "file://b__/p"),
    Kind.TEMPLATES: ("templates", "file:///{p}", "file://b__/{p}"),
}


def _shown(catalog: Catalog, kind: Kind, endpoint: str = "", era: int = Era.LEGACY) -> list[dict[str, Any]]:
    page = json.loads(catalog.view(endpoint).page(kind, era, None, NOW))
    return page[KINDS[kind].member]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("era", Era)
def test_every_kind_is_merged_and_a_collision_is_listed_with_its_group(kind: Kind, era: Era) -> None:
    word, own, composed = KEYS[kind]
    first, second = listed(kind, own, title="A's"), listed(kind, own, title="B's", name="keep")
    second[KINDS[kind].key] = own
    offered: list[dict[str, Any]] = [{word: [first]}, {word: [second, "mem://q"]}]
    catalog = catalog_of(record("a", sequence=1, **offered[0]), record("b", sequence=2, **offered[1]))
    renamed = {**second, KINDS[kind].key: composed}
    assert _shown(catalog, kind, era=era) == [first, renamed, listed(kind, "mem://q")]
    assert _shown(catalog, kind, "b", era) == [second, listed(kind, "mem://q")]
    route = catalog.everything.routes[kind][composed]
    assert (route.group, route.entry.kind, route.entry.name) == ("b", kind, own)


@pytest.mark.parametrize("kind", KEYS)
def test_kinds_do_not_collide_with_each_other(kind: Kind) -> None:
    word, own, _ = KEYS[kind]
    mine: dict[str, Any] = {word: [own]}
    catalog = catalog_of(record("a", sequence=1, tools=[own]), record("b", sequence=2, **mine))
    assert list(catalog.everything.routes[kind]) == [own]
    assert [one for one in Kind if catalog.everything.routes[one]] == [Kind.TOOLS, kind]


def test_prefix_naming_leaves_uris_as_they_are() -> None:
    one = record("a", prompts=["p"], resources=["file:///r"], templates=["file:///{t}"])
    catalog = catalog_of(one, naming=Naming.PREFIX)
    assert [list(catalog.everything.routes[kind]) for kind in KEYS] == [["a__p"], ["file:///r"], ["file:///{t}"]]


@pytest.mark.parametrize("kind", KEYS)
def test_a_route_of_any_kind_has_the_replicas_that_have_it(kind: Kind) -> None:
    word, own, _ = KEYS[kind]
    both: dict[str, Any] = {word: [own, "mem://1"]}
    last: dict[str, Any] = {word: [own]}
    catalog = catalog_of(record("g1", "g", 1, **both), record("g2", "g", 2), record("g3", "g", 3, **last))
    having = {name: [one.id for one in route.replicas] for name, route in catalog.groups["g"].routes[kind].items()}
    assert having == {own: ["g1", "g3"], "mem://1": ["g1"]}


@pytest.mark.parametrize("kind", Kind)
def test_an_empty_list_of_any_kind_is_worded_for_its_era(kind: Kind) -> None:
    catalog, member = catalog_of(), KINDS[kind].member
    assert json.loads(catalog.everything.page(kind, Era.LEGACY, None, NOW)) == {member: []}
    modern = json.loads(catalog.everything.page(kind, Era.MODERN, None, NOW))
    assert (modern["resultType"], modern[member], modern["cacheScope"]) == ("complete", [], "private")


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_has_pages_of_its_own(kind: Kind) -> None:
    word = KEYS[kind][0]
    mine: dict[str, Any] = {word: [f"mem://{n}" for n in range(5)]}
    catalog = catalog_of(record("a", tools=["t1", "t2", "t3"], **mine), page_size=2)
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        page = json.loads(catalog.everything.page(kind, Era.LEGACY, cursor, NOW))
        seen += [one[KINDS[kind].key] for one in page[KINDS[kind].member]]
        cursor = page.get("nextCursor")
    assert cursor is None
    assert seen == mine[word]
    assert names_at(catalog) == ["t1", "t2", "t3"]


def test_each_change_is_announced_by_one_of_three_notifications() -> None:
    assert set(CHANGES) == {TOOLS_CHANGED, PROMPTS_CHANGED, RESOURCES_CHANGED}
    assert {facts.changed for facts in KINDS.values()} == set(CHANGES)


APP = {"ui": {"resourceUri": "ui://app", "csp": 1}, "ui/resourceUri": "ui://app", "x": 2}


def test_a_tools_user_interface_follows_its_listed_uri() -> None:
    mine = record("a", sequence=1, tools=[tool("t", _meta=APP)], resources=["ui://app"])
    theirs = record("b", sequence=2, tools=[tool("u", _meta=APP)], resources=["ui://app"])
    catalog = catalog_of(mine, theirs)
    first, second = page_of(catalog)["tools"]
    assert first["_meta"] == APP
    uri = second["_meta"]["ui"]["resourceUri"]
    assert uri != "ui://app" and uri.startswith("ui://")
    assert catalog.everything.routes[Kind.RESOURCES][uri].group == "b"
    assert second["_meta"] == {"ui": {"resourceUri": uri, "csp": 1}, "ui/resourceUri": uri, "x": 2}
    assert page_of(catalog, endpoint="b")["tools"][0]["_meta"] == APP, "alone it has its own names"
    assert TOOLS_CHANGED in rebuild_with(catalog, theirs), "its URI is listed as it is now"
    assert page_of(catalog)["tools"][0]["_meta"] == APP


@pytest.mark.parametrize("meta", [{"ui": 1}, {"ui": {"resourceUri": 1}}, {"ui": {}}, [], "resourceUri"])
def test_a_user_interface_that_is_none_passes_as_it_is(meta: Any) -> None:
    odd = tool("t", _meta=meta, title='"resourceUri"')
    assert page_of(catalog_of(record("a", tools=[odd], resources=["ui://app"])))["tools"] == [odd]


def test_a_list_gets_older_until_it_is_read_again() -> None:
    aged = record("a", tools=["t"])
    aged = structs.replace(aged, catalog=structs.replace(aged.catalog, ttl_s=4.0, listed_at=NOW))
    catalog = catalog_of(aged, list_ttl_s=10.0)

    def ttl_ms(wall_s: float) -> int:
        return int(json.loads(catalog.everything.page(Kind.TOOLS, Era.MODERN, None, wall_s))["ttlMs"])

    assert [ttl_ms(NOW + age_s) for age_s in (0, 0.5, 1, 3, 4, 9, 10, 11)] == [4000, 4000, 3000, 1000, 0, 0, 4000, 3000]
    assert ttl_ms(NOW - 5) == 3000, "a page is written anew after a second; a clock that runs behind makes nothing up"


def test_a_merged_list_is_as_fresh_as_the_tightest_upstream_that_does_not_announce_changes() -> None:
    def ttl_ms(*given: float | None) -> int:
        records = [record(f"u{place}", tools=[f"t{place}"]) for place in range(len(given))]
        records = [
            structs.replace(one, catalog=structs.replace(one.catalog, ttl_s=ttl_s))
            for one, ttl_s in zip(records, given, strict=True)
        ]
        page = catalog_of(*records).everything.page(Kind.TOOLS, Era.MODERN, None, NOW)
        return int(json.loads(page)["ttlMs"])

    assert ttl_ms(None) == 5000
    assert ttl_ms(None, 2.0, 60.0) == 2000
    assert ttl_ms(60.0) == 5000
    assert ttl_ms(0.0) == 0


def test_a_group_of_which_no_record_changed_is_not_built_again() -> None:
    catalog = Catalog(RoutingSettings())
    records = {"a": record("a", "one", 1, tools=["x"]), "b": record("b", "two", 2, tools=["y"])}
    catalog.rebuild(records, 0.0)
    before = dict(catalog.groups)
    catalog.rebuild({**records, "b": record("b", "two", 2, tools=["z"])}, 0.0)
    assert catalog.groups["one"] is before["one"] and catalog.groups["two"] is not before["two"]
    assert set(catalog.everything.routes[Kind.TOOLS]) == {"x", "z"}
    catalog.rebuild({"a": records["a"], "c": record("c", "one", 3, tools=["x"])}, 0.0)
    assert [replica.id for replica in catalog.groups["one"].replicas] == ["a", "c"] and "two" not in catalog.groups
    catalog.rebuild({"a": records["a"]}, 0.0)
    assert [replica.id for replica in catalog.groups["one"].replicas] == ["a"]


def test_nothing_of_a_disabled_upstream_is_listed_and_its_group_says_why() -> None:
    active, disabled = record("a", tools=["x"]), record("a", tools=["x"], duty=Duty.DISABLED)
    catalog = catalog_of(active, record("b", sequence=2, tools=["y"]))
    assert names_at(catalog) == ["x", "y"]
    assert TOOLS_CHANGED in rebuild_with(catalog, disabled, record("b", sequence=2, tools=["y"]))
    assert names_at(catalog) == ["y"] and names_at(catalog, "a") == []
    assert "group 'a' is disabled" in str(catalog.view("a").unknown(Kind.TOOLS, "x"))
    twin = record("c", "a", sequence=3, tools=["x"])
    assert TOOLS_CHANGED in rebuild_with(catalog, disabled, twin)
    assert names_at(catalog) == ["x"], "another replica has it"
