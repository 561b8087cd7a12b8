"""What roles let principals see and call."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.policy import RolePolicy
from gateway.access.principal import Identity, Principal
from gateway.access.roles import Roles
from gateway.routing.catalog import Catalog
from gateway.routing.view import View
from gateway.routing.views import Views
from shared.access import rules as access_rules
from shared.errors import Refused
from shared.mcp.listings import Kind
from shared.settings import RoutingSettings
from tests.unit.builders import record

RECORDS = [
    record("files", sequence=1, tools=["read", "delete"], resources=["file:///pub/a", "file:///priv/a"],
           templates=["file:///{+path}"]),
    record("notes", sequence=2, tools=["add"], prompts=["ask"]),
]  # fmt: skip


def views(**roles: Any) -> tuple[Views, Roles]:
    rules = access_rules.read({"roles": roles})
    catalog = Catalog(RoutingSettings())
    catalog.rebuild({one.spec.id: one for one in RECORDS}, 0.0)
    return Views(catalog, RolePolicy(rules)), Roles(rules)


def view_of(identity: Identity, endpoint: str = "", **roles: Any) -> View:
    found, of = views(**roles)
    return found.of(endpoint, of.principal(identity).policy_class)


def names(view: View, kind: Kind = Kind.TOOLS) -> list[str]:
    return sorted(one.name for one in view.lists[kind])


ANN = Identity("i#ann", "user", {"groups": ["a"]}, frozenset({"read"}), has_scopes=True)


def test_nothing_matches_so_nothing_is_seen() -> None:
    view = view_of(ANN, r={"when": "'b' in claims.groups", "allow": ["*"]})
    assert not any(view.lists.values()) and not view.groups


def test_allowed_by_one_role_and_denied_by_another_is_denied() -> None:
    view = view_of(ANN, r={"when": "true", "allow": ["*"]}, s={"when": "true", "deny": ["files/delete"]})
    assert names(view) == ["add", "read"]
    assert view.find(Kind.TOOLS, "delete") is None and view.find(Kind.TOOLS, "files__delete") is None


def test_a_group_of_which_nothing_is_allowed_is_hidden() -> None:
    view = view_of(ANN, r={"when": "true", "allow": ["notes/*"]})
    assert list(view.groups) == ["notes"] and names(view, Kind.PROMPTS) == ["ask"]
    assert not view_of(ANN, "files", r={"when": "true", "allow": ["notes/*"]}).groups


def test_a_resource_that_no_list_has_is_decided_when_it_is_read() -> None:
    view = view_of(ANN, r={"when": "true", "allow": ["files/file:///pub/*"]})
    assert names(view, Kind.RESOURCES) == ["file:///pub/a"] and names(view, Kind.TEMPLATES) == ["file:///{+path}"]
    assert [uri for _, uri in view.locate("file:///pub/unlisted")] == ["file:///pub/unlisted"]
    assert view.locate("file:///priv/unlisted") == [] == view.locate("file:///priv/a")
    assert view.locate("files__file:///priv/a") == []


def test_roles_by_name_by_scope_and_with_more_scopes() -> None:
    _, of = views(
        named={"allow": ["*"]},
        reader={"scopes": ["read"], "allow": ["*"]},
        writer={"scopes": ["write"], "stepUp": True, "allow": ["*"]},
        secret={"scopes": ["other"], "allow": ["*"]},
    )
    granted, reachable = of.of(ANN)
    assert [one.name for one in granted] == ["reader"] and [one.name for one in reachable] == ["writer"]
    granted, reachable = of.of(Identity("key:k", "key", given=("named",)))
    assert [one.name for one in granted] == ["named"] and reachable == []


def test_the_best_admin_right_of_all_roles_counts() -> None:
    _, of = views(
        a={"when": "true", "admin": "read"}, b={"when": "true", "admin": "write"}, c={"when": "false", "admin": "write"}
    )
    assert of.principal(ANN).admin == "write"
    assert of.principal(Identity("", "anonymous", given=())).admin == "write"


def test_a_condition_that_cannot_be_decided_gives_no_role() -> None:
    _, of = views(r={"when": "claims.missing == 'x'", "allow": ["*"]})
    assert of.of(ANN) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "good"),
    [
        (b'{"path":"/public/a"}', True),
        (b'{"path":"/etc"}', False),
        (b"{}", False),
        (b"", False),
        (b"[]", False),
        (b'{"path":1}', False),
        (b'{"path":"/etc","path":"/public/a"}', False),
        (b'{"PATH":"/etc","path":"/public/a"}', False),
        (b'{"path":"/public/a","deep":[{"a":1,"a":2}]}', False),
    ],
)
def test_conditions_on_arguments(arguments: bytes, good: bool) -> None:
    view = view_of(ANN, r={"when": "true", "allow": [{"match": "files/*", "args": "args.path.startsWith('/public/')"}]})
    route = view.find(Kind.TOOLS, "read")
    assert route is not None and route.guard is not None
    if good:
        route.guard.check(arguments, "ann", "user")
    else:
        with pytest.raises(Refused):
            route.guard.check(arguments, "ann", "user")


def test_a_denial_that_cannot_be_decided_denies() -> None:
    view = view_of(ANN, r={"when": "true", "allow": ["*"], "deny": [{"match": "files/*", "args": "args.force"}]})
    route = view.find(Kind.TOOLS, "read")
    assert route is not None and route.guard is not None
    route.guard.check(b'{"force":false}', "ann", "user")
    for arguments in (b'{"force":true}', b"{}", b'{"force":"x"}'):
        if arguments == b'{"force":"x"}':
            continue  # a text is not true: CEL has no truthy values
        with pytest.raises(Refused):
            route.guard.check(arguments, "ann", "user")


def test_principals_of_the_same_roles_share_a_view() -> None:
    found, of = views(r={"when": "true", "allow": ["*"]}, s={"when": "'b' in claims.groups", "allow": ["*"]})
    classes = {of.principal(Identity(f"i#{n}", "user", {"groups": ["a"]})).policy_class for n in range(100)}
    assert len(classes) == 1
    (policy_class,) = classes
    assert found.of("", policy_class) is found.of("", policy_class)


def test_a_principal_is_over_when_revoked_or_expired() -> None:
    principal = Principal("x", "key", expires_at=100.0)
    assert principal.lasts(99.0) and not principal.lasts(100.0)
    principal.alive = False
    assert not principal.lasts(1.0)
