"""``gateway.routing.catalog``: groups, merged lists, pages, and what survives a rebuild."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.balancers import BalancerStrategy
from gateway.balancers.round_robin import RoundRobin
from gateway.balancers.weighted import Weighted
from gateway.routing.catalog import Catalog
from gateway.routing.view import changed
from shared.choices import Duty, Naming
from shared.errors import Refused
from shared.mcp.listings import CHANGES, KINDS, Kind
from shared.mcp.methods import PROMPTS_CHANGED, RESOURCES_CHANGED, TOOLS_CHANGED
from shared.mcp.versions import Era
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import listed, record, tool

NOW = 1_000_000.0
CONNECTED, ERROR, REGISTERED = ServerStatus.CONNECTED, ServerStatus.ERROR, ServerStatus.REGISTERED


def _catalog(*records: UpstreamRecord, wall_s: float = NOW, **settings: Any) -> Catalog:
    catalog = Catalog(RoutingSettings(**settings))
    _rebuild(catalog, *records, wall_s=wall_s)
    return catalog


def _rebuild(catalog: Catalog, *records: UpstreamRecord, wall_s: float = NOW) -> set[str]:
    """The catalogue takes these records; the result is what changed for those who see everything."""
    before = catalog.everything
    catalog.rebuild({one.spec.id: one for one in records}, wall_s)
    return changed(before, catalog.everything)


def _page(catalog: Catalog, endpoint: str = "", era: int = Era.LEGACY, cursor: str | None = None) -> Any:
    return json.loads(catalog.view(endpoint).page(Kind.TOOLS, era, cursor, NOW))


def _names(catalog: Catalog, endpoint: str = "", era: int = Era.LEGACY) -> list[str]:
    """Every name, through all pages."""
    names: list[str] = []
    cursor = None
    while True:
        page = _page(catalog, endpoint, era, cursor)
        names += [one["name"] for one in page["tools"]]
        cursor = page.get("nextCursor")
        if cursor is None:
            return names
        assert page["tools"], "an empty page that leads on"


# ---- names and groups


def test_tools_are_listed_in_registration_order_of_their_groups() -> None:
    catalog = _catalog(record("b", sequence=1, tools=["z", "y"]), record("a", sequence=2, tools=["x"]))
    assert _names(catalog) == ["z", "y", "x"]
    assert list(catalog.groups) == ["b", "a"]


def test_a_collision_is_listed_with_its_group_under_the_own_schema() -> None:
    catalog = _catalog(
        record("a", sequence=1, tools=[tool("x", description="A's")]),
        record("b", sequence=2, tools=[tool("x", description="B's"), "y"]),
    )
    shown = {one["name"]: one.get("description") for one in _page(catalog)["tools"]}
    assert shown == {"x": "A's", "b__x": "B's", "y": None}
    assert catalog.everything.routes[Kind.TOOLS]["b__x"].entry.name == "x"
    assert catalog.everything.routes[Kind.TOOLS]["b__x"].group == "b"


def test_prefix_naming_lists_every_tool_with_its_group() -> None:
    catalog = _catalog(record("a", tools=["x"]), record("b", sequence=2, tools=["y"]), naming=Naming.PREFIX)
    assert _names(catalog) == ["a__x", "b__y"]


def test_a_bare_name_stays_reserved_while_its_group_is_down() -> None:
    down = record("a", sequence=1, tools=["x"], status=ERROR, status_since=0.0)
    catalog = _catalog(down, record("b", sequence=2, tools=["x"]))
    assert catalog.everything.routes[Kind.TOOLS]["x"].group == "a"
    assert _names(catalog) == ["b__x"]


def test_a_bare_name_is_free_again_when_its_group_is_unregistered() -> None:
    second = record("b", sequence=2, tools=["x"])
    catalog = _catalog(record("a", sequence=1, tools=["x"]), second)
    assert _rebuild(catalog, second)
    assert _names(catalog) == ["x"]
    assert catalog.everything.routes[Kind.TOOLS]["x"].group == "b"


# ---- replicas


def test_replicas_share_a_group_and_a_route_has_those_that_have_the_tool() -> None:
    catalog = _catalog(
        record("g1", "g", sequence=1, tools=["both", "one"]),
        record("g2", "g", sequence=2, tools=["two", "both"]),
    )
    assert _names(catalog) == ["both", "one", "two"]
    having = {
        name: [replica.id for replica in route.replicas]
        for name, route in catalog.everything.routes[Kind.TOOLS].items()
    }
    assert having == {"both": ["g1", "g2"], "one": ["g1"], "two": ["g2"]}


def test_the_first_replicas_word_on_a_tool_is_shown() -> None:
    catalog = _catalog(
        record("g2", "g", sequence=2, tools=[tool("t", description="second")]),
        record("g1", "g", sequence=1, tools=[tool("t", description="first")]),
    )
    assert _page(catalog)["tools"][0]["description"] == "first"


def test_a_tool_that_one_upstream_lists_twice_has_one_route_and_one_replica() -> None:
    catalog = _catalog(record("a", tools=["t", "t"]))
    assert _names(catalog) == ["t"]
    assert [replica.id for replica in catalog.everything.routes[Kind.TOOLS]["t"].replicas] == ["a"]


@pytest.mark.parametrize("options", [{"include_tools": ["echo"]}, {"exclude_tools": ["delete_everything"]}])
def test_a_hidden_tool_does_not_exist_at_any_endpoint(options: dict[str, Any]) -> None:
    catalog = _catalog(record("a", tools=["echo", "delete_everything"], **options))
    for view in (catalog.everything, catalog.view("a")):
        assert list(view.routes[Kind.TOOLS]) == ["echo"]
        assert view.find(Kind.TOOLS, "delete_everything") is None
        assert view.find(Kind.TOOLS, "a__delete_everything") is None


def test_a_tool_that_one_replica_hides_is_called_on_the_others_only() -> None:
    catalog = _catalog(
        record("one", "g", sequence=1, tools=["x", "y"], exclude_tools=["x"]),
        record("two", "g", sequence=2, tools=["x", "y"]),
    )
    routes = catalog.everything.routes[Kind.TOOLS]
    assert [replica.id for replica in routes["x"].replicas] == ["two"]
    assert [replica.id for replica in routes["y"].replicas] == ["one", "two"]


def test_a_filter_that_changes_is_obeyed_although_the_lists_are_the_same() -> None:
    catalog = _catalog(record("a", tools=["x", "y"]))
    catalog.rebuild({"a": record("a", tools=["x", "y"], exclude_tools=["x"])}, NOW)
    assert list(catalog.everything.routes[Kind.TOOLS]) == ["y"]


def test_prompts_are_not_tools_of_the_same_name() -> None:
    catalog = _catalog(record("a", tools=["x"], prompts=["x"], exclude_tools=["x"]))
    assert list(catalog.everything.routes[Kind.PROMPTS]) == ["x"]


def test_counts_survive_a_rebuild_and_end_with_the_registration() -> None:
    catalog = _catalog(record("a", tools=["x"]))
    replica = catalog.replica("a")
    assert replica is not None
    replica.in_flight, replica.in_flight_elsewhere = 3, 4
    _rebuild(catalog, record("a", tools=["x", "y"], weight=5))
    assert catalog.replica("a") is replica is catalog.everything.routes[Kind.TOOLS]["y"].replicas[0]
    assert (replica.load, replica.weight) == (7, 5)
    _rebuild(catalog)
    assert catalog.replica("a") is None
    _rebuild(catalog, record("a", tools=["x"]))
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
    replica = _catalog(record("a", status=status, owners=owners)).replica("a")
    assert replica is not None
    replica.suspect_until = suspect_until
    assert replica.available(50.0) is expected


def test_only_news_of_a_connection_clear_a_suspicion() -> None:
    catalog = _catalog(record("a", status_since=1.0))
    replica = catalog.replica("a")
    assert replica is not None
    replica.suspect_until = 99.0
    _rebuild(catalog, record("a", status_since=1.0, weight=2))
    _rebuild(catalog, record("a", status=ERROR, status_since=2.0))
    assert replica.suspect_until == 99.0
    _rebuild(catalog, record("a", status_since=3.0))
    assert replica.suspect_until == 0.0


# ---- balancers


def test_a_group_is_balanced_as_its_first_opinionated_replica_says_or_as_configured() -> None:
    plain = record("p", sequence=1, tools=["p"])
    silent = record("g1", "g", sequence=2, tools=["t"])
    wanting = record("g2", "g", sequence=3, tools=["t"], balancer="weighted")
    catalog = _catalog(plain, silent, wanting)
    assert isinstance(catalog.everything.routes[Kind.TOOLS]["p"].balancer, RoundRobin)
    assert isinstance(catalog.everything.routes[Kind.TOOLS]["t"].balancer, Weighted)
    catalog = _catalog(plain, balancer=BalancerStrategy.WEIGHTED)
    assert isinstance(catalog.everything.routes[Kind.TOOLS]["p"].balancer, Weighted)


def test_a_balancers_memory_survives_rebuilds_until_the_strategy_changes() -> None:
    catalog = _catalog(record("a", tools=["x"]))
    first = catalog.everything.routes[Kind.TOOLS]["x"].balancer
    _rebuild(catalog, record("a", tools=["x", "y"]), record("b", "a", sequence=2, tools=["x"]))
    assert (
        catalog.everything.routes[Kind.TOOLS]["x"].balancer
        is catalog.everything.routes[Kind.TOOLS]["y"].balancer
        is first
    )
    _rebuild(catalog, record("a", tools=["x"], balancer="random"))
    assert catalog.everything.routes[Kind.TOOLS]["x"].balancer is not first


# ---- endpoints of one group


def test_at_the_endpoint_of_a_group_tools_have_their_own_names() -> None:
    catalog = _catalog(record("a", sequence=1, tools=["x"]), record("b", sequence=2, tools=["y", "x"]))
    assert _names(catalog) == ["x", "y", "b__x"]
    assert _names(catalog, endpoint="b") == ["y", "x"]
    assert _names(catalog, endpoint="a") == ["x"]
    assert _names(catalog, endpoint="nobody") == []


# ---- what is listed


@pytest.mark.parametrize(
    ("status", "since", "listed"),
    [(CONNECTED, 0.0, True), (ERROR, NOW - 59, True), (ERROR, NOW - 61, False), (REGISTERED, NOW - 1, True)],
)
def test_tools_of_an_upstream_that_is_down_stay_listed_for_the_grace_time(
    status: ServerStatus, since: float, listed: bool
) -> None:
    catalog = _catalog(record("a", tools=["x"], status=status, status_since=since), catalog_grace_s=60.0)
    assert _names(catalog) == _names(catalog, endpoint="a") == (["x"] if listed else [])
    assert catalog.everything.routes[Kind.TOOLS]["x"].group == "a"


def test_one_connected_replica_keeps_a_tool_listed() -> None:
    down = record("g1", "g", sequence=1, tools=["t"], status=ERROR)
    assert _names(_catalog(down, record("g2", "g", sequence=2, tools=["t"]))) == ["t"]


HIDDEN = tool("hidden")
"""A tool that no client may see, since its annotation for a header is invalid."""
HIDDEN["inputSchema"] = {"type": "object", "properties": {"a": {"type": "object", "x-mcp-header": "A"}}}


def test_legacy_clients_are_not_shown_what_they_choke_on() -> None:
    tools = [HIDDEN, tool("odd", outputSchema={"type": "array"})]
    catalog = _catalog(record("a", tools=tools))
    legacy, modern = _page(catalog, era=Era.LEGACY), _page(catalog, era=Era.MODERN)
    assert [(one["name"], "outputSchema" in one) for one in legacy["tools"]] == [("odd", False)]
    assert modern["tools"] == tools[1:]


def test_the_result_is_worded_for_its_era() -> None:
    catalog = _catalog(record("a", tools=["x"]), list_ttl_s=2.5)
    assert set(_page(catalog)) == {"tools"}
    modern = _page(catalog, era=Era.MODERN)
    assert (modern.pop("resultType"), modern.pop("ttlMs"), modern.pop("cacheScope")) == (
        "complete",
        2500,
        "private",
    )
    assert set(modern) == {"tools"}


def test_groups_with_nobody_connected_are_named_with_the_reason() -> None:
    catalog = _catalog(
        record("up", sequence=1, tools=["x"]),
        record("down", sequence=2, status=ERROR, error="refused"),
        record("fresh", sequence=3, status=REGISTERED),
        record("half1", "half", sequence=4, status=ERROR),
        record("half2", "half", sequence=5),
    )
    missing = {"down": "unavailable", "fresh": "unavailable"}
    assert catalog.everything.missing_groups() == missing
    assert _page(catalog)["_meta"] == {"gateway/unavailableGroups": missing}
    assert _page(catalog, endpoint="down")["_meta"] == {"gateway/unavailableGroups": {"down": "unavailable"}}
    assert "_meta" not in _page(catalog, endpoint="up")


# ---- pages


def _many(*counts: int) -> list[UpstreamRecord]:
    return [
        record(f"u{n}", sequence=n + 1, tools=[f"u{n}-t{index}" for index in range(count)])
        for n, count in enumerate(counts)
    ]


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.integers(1, 9),
    st.sampled_from(Era),
    st.sampled_from(["", "u0"]),
)
def test_pages_together_are_the_whole_list_once_in_order(counts: list[int], size: int, era: Era, endpoint: str) -> None:
    records = _many(*counts)
    paged, whole = _catalog(*records, page_size=size), _catalog(*records)
    assert _names(paged, endpoint, era) == _names(whole, endpoint, era)
    assert len(_names(whole, endpoint, era)) == (sum(counts) if not endpoint else counts[0])
    assert len(_page(paged, endpoint, era)["tools"]) <= size


@pytest.mark.parametrize(("count", "size", "pages"), [(4, 2, 2), (5, 2, 3), (1, 2, 1), (0, 2, 1), (2, 2, 1)])
def test_there_is_no_page_more_than_needed(count: int, size: int, pages: int) -> None:
    catalog, cursor, seen = _catalog(*_many(count), page_size=size), None, 0
    while seen == 0 or cursor is not None:
        cursor = _page(catalog, cursor=cursor).get("nextCursor")
        seen += 1
    assert seen == pages


def test_a_page_of_hidden_tools_leads_nowhere() -> None:
    hidden = [{**HIDDEN, "name": f"hidden{n}"} for n in range(5)]
    catalog = _catalog(record("a", tools=["x", *hidden]), page_size=1)
    assert _page(catalog) == {"tools": [tool("x")]}
    catalog = _catalog(record("a", tools=[*hidden, "x", *hidden, "y"]), page_size=1)
    assert _names(catalog) == ["x", "y"]


@pytest.mark.parametrize("cursor", ["x", "!!!!", "é", "AAAA", "MQ", "MS4y4", "MS54", "a" * 10_000, "LjE", "MS4"])
@pytest.mark.parametrize("endpoint", ["", "u0", "nobody"])
def test_a_bad_cursor_is_invalid_params(cursor: str, endpoint: str) -> None:
    catalog = _catalog(*_many(3), page_size=1)
    with pytest.raises(Refused, match="is not one of ours; list again without it") as caught:
        catalog.view(endpoint).page(Kind.TOOLS, Era.LEGACY, cursor, NOW)
    assert caught.value.code == "invalid_params"
    assert len(str(caught.value)) < 200


@given(st.text(min_size=1, max_size=30))
def test_no_cursor_raises_anything_but_refused(cursor: str) -> None:
    catalog = _catalog(*_many(3), page_size=1)
    try:
        _page(catalog, cursor=cursor)
    except Refused as error:
        assert error.code == "invalid_params"


def test_an_empty_cursor_is_the_first_page() -> None:
    catalog = _catalog(*_many(3), page_size=1)
    assert _page(catalog, cursor="") == _page(catalog, cursor=None)


def test_a_cursor_goes_on_after_its_entry_when_a_later_group_appears() -> None:
    first, second, third = _many(3, 2, 2)
    catalog = _catalog(first, second, page_size=2)
    cursor = _page(catalog)["nextCursor"]
    _rebuild(catalog, first, second, third)
    assert [one["name"] for one in _page(catalog, cursor=cursor)["tools"]] == ["u0-t2", "u1-t0"]


def test_a_page_is_the_same_however_often_and_in_whatever_order_it_is_asked_for() -> None:
    catalog = _catalog(*_many(5), page_size=2)
    cursors: list[str | None] = [None]
    while (cursor := _page(catalog, cursor=cursors[-1]).get("nextCursor")) is not None:
        cursors.append(cursor)
    assert len(cursors) == 3
    for turn in (cursors, cursors[::-1], cursors):
        shown = {cursor: [one["name"] for one in _page(catalog, cursor=cursor)["tools"]] for cursor in turn}
        assert [shown[cursor] for cursor in cursors] == [["u0-t0", "u0-t1"], ["u0-t2", "u0-t3"], ["u0-t4"]]


def test_pages_are_fresh_after_a_rebuild() -> None:
    catalog = _catalog(record("a", tools=["x"]))
    assert _names(catalog) == ["x"]
    _rebuild(catalog, record("a", tools=["y"]))
    assert _names(catalog) == ["y"]
    assert _names(catalog, endpoint="a") == ["y"]


# ---- changes


def test_a_rebuild_tells_whether_the_list_changed() -> None:
    catalog = _catalog(record("a", tools=["x"]))
    generation = catalog.generation
    assert _rebuild(catalog, record("a", tools=["x"], weight=9)) == set()
    assert catalog.generation == generation + 1
    assert _rebuild(catalog, record("a", tools=["x", "y"])) == {TOOLS_CHANGED}
    assert _rebuild(catalog, record("a", tools=[tool("x", description="new"), "y"])) == {TOOLS_CHANGED}
    assert _rebuild(catalog, record("a", tools=[tool("x", description="new"), "y"])) == set()
    assert _rebuild(catalog) == {TOOLS_CHANGED}


CHANGED = {"prompts": PROMPTS_CHANGED, "resources": RESOURCES_CHANGED, "templates": RESOURCES_CHANGED}


@pytest.mark.parametrize("kind", ["tools", *CHANGED])
def test_a_rebuild_names_exactly_the_kinds_that_changed(kind: str) -> None:
    method = CHANGED.get(kind, TOOLS_CHANGED)
    everything: dict[str, Any] = {"tools": ["t"], "prompts": ["p"], "resources": ["x:r"], "templates": ["x:{t}"]}
    catalog = _catalog(record("a", **everything))
    for entries in ([*everything[kind], "x:more"], ["x:more"], []):
        assert _rebuild(catalog, record("a", **{**everything, kind: entries})) == {method}
    assert _rebuild(catalog, record("a", **everything)) == {method}


def test_a_rebuild_names_every_kind_that_comes_or_goes_with_an_upstream() -> None:
    both = record("b", sequence=2, prompts=["p"], templates=["x:{t}"])
    catalog = _catalog(record("a", tools=["t"]))
    assert _rebuild(catalog, record("a", tools=["t"]), both) == {PROMPTS_CHANGED, RESOURCES_CHANGED}
    assert _rebuild(catalog, both) == {TOOLS_CHANGED}
    down = record("b", sequence=2, prompts=["p"], templates=["x:{t}"], status=ERROR, status_since=NOW)
    assert _rebuild(catalog, down) == set()
    assert _rebuild(catalog, down, wall_s=NOW + 3600) == {PROMPTS_CHANGED, RESOURCES_CHANGED}


def test_what_collides_is_named_as_changed() -> None:
    second = record("b", sequence=2, prompts=["p"], resources=["x:r"])
    catalog = _catalog(record("a", sequence=1, prompts=["p"]), second)
    assert _rebuild(catalog, second) == {PROMPTS_CHANGED}


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
    catalog = _catalog(record("a", sequence=1, **offered[0]), record("b", sequence=2, **offered[1]))
    renamed = {**second, KINDS[kind].key: composed}
    assert _shown(catalog, kind, era=era) == [first, renamed, listed(kind, "mem://q")]
    assert _shown(catalog, kind, "b", era) == [second, listed(kind, "mem://q")]
    route = catalog.everything.routes[kind][composed]
    assert (route.group, route.entry.kind, route.entry.name) == ("b", kind, own)


@pytest.mark.parametrize("kind", KEYS)
def test_kinds_do_not_collide_with_each_other(kind: Kind) -> None:
    word, own, _ = KEYS[kind]
    mine: dict[str, Any] = {word: [own]}
    catalog = _catalog(record("a", sequence=1, tools=[own]), record("b", sequence=2, **mine))
    assert list(catalog.everything.routes[kind]) == [own]
    assert [one for one in Kind if catalog.everything.routes[one]] == [Kind.TOOLS, kind]


def test_prefix_naming_leaves_uris_as_they_are() -> None:
    one = record("a", prompts=["p"], resources=["file:///r"], templates=["file:///{t}"])
    catalog = _catalog(one, naming=Naming.PREFIX)
    assert [list(catalog.everything.routes[kind]) for kind in KEYS] == [["a__p"], ["file:///r"], ["file:///{t}"]]


@pytest.mark.parametrize("kind", KEYS)
def test_a_route_of_any_kind_has_the_replicas_that_have_it(kind: Kind) -> None:
    word, own, _ = KEYS[kind]
    both: dict[str, Any] = {word: [own, "mem://1"]}
    last: dict[str, Any] = {word: [own]}
    catalog = _catalog(record("g1", "g", 1, **both), record("g2", "g", 2), record("g3", "g", 3, **last))
    having = {name: [one.id for one in route.replicas] for name, route in catalog.groups["g"].routes[kind].items()}
    assert having == {own: ["g1", "g3"], "mem://1": ["g1"]}


@pytest.mark.parametrize("kind", Kind)
def test_an_empty_list_of_any_kind_is_worded_for_its_era(kind: Kind) -> None:
    catalog, member = _catalog(), KINDS[kind].member
    assert json.loads(catalog.everything.page(kind, Era.LEGACY, None, NOW)) == {member: []}
    modern = json.loads(catalog.everything.page(kind, Era.MODERN, None, NOW))
    assert (modern["resultType"], modern[member], modern["cacheScope"]) == ("complete", [], "private")


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_has_pages_of_its_own(kind: Kind) -> None:
    word = KEYS[kind][0]
    mine: dict[str, Any] = {word: [f"mem://{n}" for n in range(5)]}
    catalog = _catalog(record("a", tools=["t1", "t2", "t3"], **mine), page_size=2)
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        page = json.loads(catalog.everything.page(kind, Era.LEGACY, cursor, NOW))
        seen += [one[KINDS[kind].key] for one in page[KINDS[kind].member]]
        cursor = page.get("nextCursor")
    assert cursor is None
    assert seen == mine[word]
    assert _names(catalog) == ["t1", "t2", "t3"]


def test_each_change_is_announced_by_one_of_three_notifications() -> None:
    assert set(CHANGES) == {TOOLS_CHANGED, PROMPTS_CHANGED, RESOURCES_CHANGED}
    assert {facts.changed for facts in KINDS.values()} == set(CHANGES)


APP = {"ui": {"resourceUri": "ui://app", "csp": 1}, "ui/resourceUri": "ui://app", "x": 2}


def test_a_tools_user_interface_follows_its_listed_uri() -> None:
    mine = record("a", sequence=1, tools=[tool("t", _meta=APP)], resources=["ui://app"])
    theirs = record("b", sequence=2, tools=[tool("u", _meta=APP)], resources=["ui://app"])
    catalog = _catalog(mine, theirs)
    first, second = _page(catalog)["tools"]
    assert first["_meta"] == APP
    uri = second["_meta"]["ui"]["resourceUri"]
    assert uri != "ui://app" and uri.startswith("ui://")
    assert catalog.everything.routes[Kind.RESOURCES][uri].group == "b"
    assert second["_meta"] == {"ui": {"resourceUri": uri, "csp": 1}, "ui/resourceUri": uri, "x": 2}
    assert _page(catalog, endpoint="b")["tools"][0]["_meta"] == APP, "alone it has its own names"
    assert TOOLS_CHANGED in _rebuild(catalog, theirs), "its URI is listed as it is now"
    assert _page(catalog)["tools"][0]["_meta"] == APP


@pytest.mark.parametrize("meta", [{"ui": 1}, {"ui": {"resourceUri": 1}}, {"ui": {}}, [], "resourceUri"])
def test_a_user_interface_that_is_none_passes_as_it_is(meta: Any) -> None:
    odd = tool("t", _meta=meta, title='"resourceUri"')
    assert _page(_catalog(record("a", tools=[odd], resources=["ui://app"])))["tools"] == [odd]


def test_a_list_gets_older_until_it_is_read_again() -> None:
    aged = record("a", tools=["t"])
    aged = structs.replace(aged, catalog=structs.replace(aged.catalog, ttl_s=4.0, listed_at=NOW))
    catalog = _catalog(aged, list_ttl_s=10.0)

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
        page = _catalog(*records).everything.page(Kind.TOOLS, Era.MODERN, None, NOW)
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
    catalog = _catalog(active, record("b", sequence=2, tools=["y"]))
    assert _names(catalog) == ["x", "y"]
    assert TOOLS_CHANGED in _rebuild(catalog, disabled, record("b", sequence=2, tools=["y"]))
    assert _names(catalog) == ["y"] and _names(catalog, "a") == []
    assert "group 'a' is disabled" in str(catalog.view("a").unknown(Kind.TOOLS, "x"))
    twin = record("c", "a", sequence=3, tools=["x"])
    assert TOOLS_CHANGED in _rebuild(catalog, disabled, twin)
    assert _names(catalog) == ["x"], "another replica has it"
