"""``gateway.routing.views``: a view for each endpoint and policy class, and what changes in those that are watched."""

from __future__ import annotations

import pytest

from gateway.routing.catalog import Catalog
from gateway.routing.derived import filtered
from gateway.routing.steps import Steps
from gateway.routing.view import View
from gateway.routing.views import Views
from shared.mcp.listings import Kind
from shared.mcp.methods import PROMPTS_CHANGED, TOOLS_CHANGED
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import record

A = record("a", sequence=1, tools=["x"])
B = record("b", sequence=2, tools=["y"])


class ByFirstLetter:
    """A ``ViewPolicy``: a class does not see the group of its name."""

    def __init__(self) -> None:
        self.applied: list[tuple[str, str]] = []

    def applying(self, view: View, policy_class: str) -> Steps[View]:
        """See the class."""
        self.applied.append((view.endpoint, policy_class))
        yield
        return filtered(view, (view.endpoint, policy_class), lambda kind, name, route: route.group != policy_class)


def _catalog(*records: UpstreamRecord) -> Catalog:
    catalog = Catalog(RoutingSettings())
    _rebuild(catalog, *records)
    return catalog


def _rebuild(catalog: Catalog, *records: UpstreamRecord) -> None:
    catalog.rebuild({one.spec.id: one for one in records}, 0.0)


def _tools(view: View) -> list[str]:
    return list(view.routes[Kind.TOOLS])


# ---- who sees what


def test_without_a_policy_everybody_sees_the_catalogues_own_views() -> None:
    catalog = _catalog(A, B)
    views = Views(catalog)
    assert views.of("", "a") is views.of("", "") is catalog.everything
    assert views.of("a", "a") is views.of("a", "b") is catalog.view("a")


def test_principals_of_one_class_share_a_view_of_each_endpoint() -> None:
    policy = ByFirstLetter()
    views = Views(_catalog(A, B), policy)
    ada, amy, bob = views.of("", "a"), views.of("", "a"), views.of("", "b")
    assert ada is amy is views.of("", "a")
    assert (ada.key, bob.key) == (("", "a"), ("", "b"))
    assert (_tools(ada), _tools(bob)) == (["y"], ["x"])
    assert _tools(views.of("b", "a")) == ["y"] and views.of("b", "a") is views.of("b", "a")
    assert policy.applied == [("", "a"), ("", "b"), ("b", "a")], "once for each class and endpoint"


def test_the_class_without_a_name_is_a_class_like_others() -> None:
    policy = ByFirstLetter()
    catalog = _catalog(A, B)
    views = Views(catalog, policy)
    assert views.of("", "") is views.of("", "")
    assert policy.applied == [("", "")]


def test_a_view_lives_for_one_generation_of_the_catalogue() -> None:
    policy = ByFirstLetter()
    catalog = _catalog(A, B)
    views = Views(catalog, policy)
    before = views.of("", "b")
    _rebuild(catalog, record("a", sequence=1, tools=["x", "z"]), B)
    after = views.of("", "b")
    assert after is not before and after is views.of("", "b")
    assert (_tools(before), _tools(after)) == (["x"], ["x", "z"])
    assert policy.applied == [("", "b"), ("", "b")]
    assert Views(catalog).of("", "") is catalog.everything


def test_names_that_anyone_can_make_up_are_not_kept() -> None:
    views = Views(_catalog(A))
    assert views.of("nobody", "") is not views.of("nobody", "")
    assert _tools(views.of("nobody", "")) == [] and views.of("nobody", "").groups == {}
    policy = ByFirstLetter()
    hidden = Views(_catalog(A, B), policy)
    hidden.of("b", "a")
    for number in range(3000):
        assert hidden.of(f"nobody{number}", "a").key == (f"nobody{number}", "a")
    asked = len(policy.applied)
    hidden.of("b", "a")
    assert len(policy.applied) == asked, "what is real was not pushed out"


def test_an_endpoint_that_a_class_does_not_see_is_as_if_it_did_not_exist() -> None:
    views = Views(_catalog(A, B), ByFirstLetter())
    hidden, missing = views.of("a", "a"), views.of("nobody", "a")
    for view in (hidden, missing):
        assert (dict(view.groups), view.passthrough, view.missing_groups()) == ({}, None, {})
        assert {kind: dict(routes) for kind, routes in view.routes.items()} == {kind: {} for kind in Kind}


# ---- what changes


def test_each_watched_view_hears_of_what_it_lists() -> None:
    catalog = _catalog(A, B)
    views = Views(catalog, ByFirstLetter())
    for endpoint, policy_class in (("", "a"), ("", "b"), ("a", "z"), ("b", "z")):
        views.watch(views.of(endpoint, policy_class))
    _rebuild(catalog, A, record("b", sequence=2, tools=["y"], prompts=["p"]))
    assert views.advance({}) == {("", "a"): {PROMPTS_CHANGED}, ("b", "z"): {PROMPTS_CHANGED}}
    assert views.advance({}) == {}, "told once"
    _rebuild(catalog, B)
    assert views.advance({}) == {
        ("", "a"): {PROMPTS_CHANGED},
        ("", "b"): {TOOLS_CHANGED},
        ("a", "z"): {TOOLS_CHANGED},
        ("b", "z"): {PROMPTS_CHANGED},
    }


def test_a_view_is_compared_with_what_it_was_when_it_was_watched_first() -> None:
    catalog = _catalog(A)
    views = Views(catalog)
    views.watch(views.of("", ""))
    _rebuild(catalog, A, B)
    views.watch(views.of("", ""))
    assert views.advance({}) == {("", ""): {TOOLS_CHANGED}}


def test_an_endpoint_may_be_watched_before_it_exists() -> None:
    catalog = _catalog(A)
    views = Views(catalog)
    views.watch(views.of("b", ""))
    _rebuild(catalog, A, B)
    assert views.advance({})["b", ""] == {TOOLS_CHANGED}


def test_the_view_that_all_callers_share_is_watched_from_the_start() -> None:
    catalog = _catalog(A)
    views = Views(catalog)
    assert views.lasting == {("", "")}
    _rebuild(catalog, A, B)
    assert views.advance({}) == {("", ""): {TOOLS_CHANGED}}


class _Strict:
    """``policy.ViewPolicy`` that knows two classes, of which one sees everything."""

    def applying(self, view: View, policy_class: str) -> Steps[View]:
        yield
        return {"admins": view, "users": filtered(view, view.key, lambda kind, name, route: False)}[policy_class]


def test_a_policy_is_asked_for_its_own_classes_alone_and_views_are_kept_apart_whatever_it_returns() -> None:
    catalog = _catalog(A)
    views = Views(catalog, _Strict())
    assert views.lasting == frozenset()
    seen, hidden = views.of("", "admins"), views.of("", "users")
    assert (seen.key, hidden.key) == (("", "admins"), ("", "users"))
    views.watch(seen)
    views.watch(hidden)
    _rebuild(catalog, A, B)
    assert views.advance({}) == {("", "admins"): {TOOLS_CHANGED}}


def test_what_nobody_watches_any_more_is_not_compared() -> None:
    catalog = _catalog(A)
    views = Views(catalog)
    views.watch(views.of("", ""))
    views.unwatch(("", ""))
    views.unwatch(("nobody", ""))
    _rebuild(catalog, A, B)
    assert views.advance({"a": {TOOLS_CHANGED}}) == {}


def test_what_an_upstream_announced_is_passed_on_to_whole_views_of_its_group_also_when_nothing_looks_different() -> (
    None
):
    catalog = _catalog(A, B)
    views = Views(catalog)
    for endpoint in ("", "a", "b"):
        views.watch(views.of(endpoint, ""))
    _rebuild(catalog, A, B)
    assert views.advance({"a": {TOOLS_CHANGED}}) == {("", ""): {TOOLS_CHANGED}, ("a", ""): {TOOLS_CHANGED}}
    assert views.advance({"gone": {TOOLS_CHANGED}}) == {}


def test_a_filtered_view_hears_only_of_what_it_lists() -> None:
    """What was announced may be about what the view hides."""
    catalog = _catalog(A, B)
    views = Views(catalog, ByFirstLetter())
    views.watch(views.of("", "a"))
    _rebuild(catalog, A, B)
    assert views.advance({"a": {TOOLS_CHANGED}, "b": {TOOLS_CHANGED}}) == {}


# ---- many classes, and other policies


def test_thousands_of_classes_in_turn_are_made_once_each() -> None:
    policy = ByFirstLetter()
    views = Views(_catalog(A, B), policy)
    for _ in range(2):
        for number in range(5000):
            views.of("", f"class {number}")
    assert len(policy.applied) == 5000


def test_what_is_kept_is_bounded_by_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.routing.views._KEPT_ENTRIES", 100)
    catalog = _catalog(A, B)
    policy = ByFirstLetter()
    views = Views(catalog, policy)
    for number in range(50):
        views.of("", f"class {number}")
    assert views.kept == 100 // 12
    applied = len(policy.applied)
    views.of("", "class 49")
    assert len(policy.applied) == applied, "the newest is kept"
    _rebuild(catalog, A)
    views.of("", "x")
    assert (views.kept, views.entries) == (1, 11)


def test_another_policy_counts_from_the_next_generation_on() -> None:
    catalog = _catalog(A, B)
    views = Views(catalog)
    views.watch(views.of("", ""))
    views.take(ByFirstLetter())
    _rebuild(catalog, A, B)
    assert _tools(views.of("", "a")) == ["y"]
    views.take(None)
    _rebuild(catalog, A, B)
    assert views.of("", "a") is catalog.everything
