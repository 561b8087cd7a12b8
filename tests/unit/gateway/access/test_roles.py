"""``gateway.access.roles``: who has which roles, and that a thousand of them cost little."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.principal import Identity
from gateway.access.roles import Roles
from shared.access.conditions import Condition
from shared.access.rules import read


def named(roles: dict[str, Any], identity: Identity) -> tuple[list[str], list[str]]:
    granted, reachable = Roles(read({"roles": roles})).of(identity)
    return [role.name for role in granted], [role.name for role in reachable]


def somebody(claims: dict[str, Any], *given: str, scopes: frozenset[str] = frozenset()) -> Identity:
    return Identity("https://idp#ann", "user", claims, scopes, given=given, has_scopes=True)


ROLES = {
    "last": {"allow": ["c/*"]},
    "support": {"when": "'support' in claims.groups", "allow": ["a/*"]},
    "ann": {"when": "principal.id == 'https://idp#ann'", "allow": ["b/*"]},
    "writer": {"when": '"support" in claims.groups', "scopes": ["write"], "stepUp": True, "allow": ["d/*"]},
    "missing": {"when": "claims.nothing == 'x'", "allow": ["e/*"]},
}


def test_roles_are_in_the_order_of_the_file_whatever_kind_of_condition_they_have() -> None:
    assert named(ROLES, somebody({"groups": ["x", "support"]}, "last")) == (["last", "support", "ann"], ["writer"])
    held = somebody({"groups": ["support", "support"]}, scopes=frozenset({"write"}))
    assert named(ROLES, held) == (["support", "ann", "writer"], [])
    assert named(ROLES, somebody({"groups": ["Support"]})) == (["ann"], [])


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"groups": None},
        {"groups": "support"},
        {"groups": "a support b"},
        {"groups": 5},
        {"groups": [["support"]]},
        {"groups": [{"support": 1}, 5, None]},
        {"groups": {"support": True}},
        {"groups": {"other": "support"}},
        {"groups": ["support"]},
        {"groups": ["supports", "suppor"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("text", ["'support' in claims.groups", '"support"  in claims.groups '])
def test_what_is_looked_up_is_what_the_expression_says(claims: dict[str, Any], text: str) -> None:
    condition = Condition(text)
    assert condition.member == ("groups", "support")
    said = condition.holds({"claims": claims, "principal": {}, "scopes": []}) is True
    assert bool(named({"one": {"when": text, "allow": ["*"]}}, somebody(claims))[0]) is said


@pytest.mark.parametrize(
    "text",
    [
        "!('a' in claims.groups)",
        "'a' in claims.groups || true",
        "'a' in claims.groups.inner",
        "'a' in claims",
        "'a\\n' in claims.groups",
        "'a' in scopes",
        "r'a' in claims.groups",
    ],
)
def test_other_expressions_are_not_taken_for_a_look_up(text: str) -> None:
    assert Condition(text).member is None


def test_of_a_thousand_roles_only_those_are_evaluated_that_cannot_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    roles = {f"r{n}": {"when": f"'g{n}' in claims.groups", "allow": ["*"]} for n in range(1000)}
    roles["other"] = {"when": "claims.team == 'x'", "allow": ["*"]}
    found = Roles(read({"roles": roles}))
    evaluated: list[str] = []
    holds = Condition.holds

    def counted(self: Condition, variables: Any) -> bool | None:
        evaluated.append(self.text)
        return holds(self, variables)

    monkeypatch.setattr(Condition, "holds", counted)
    granted, _ = found.of(somebody({"groups": ["g7", "g993"], "team": "x"}))
    assert [role.name for role in granted] == ["r7", "r993", "other"]
    assert evaluated == ["claims.team == 'x'"]


def test_variables_are_translated_once_for_all_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    import cel

    made: list[Any] = []
    context = cel.Context

    def noted(variables: Any) -> Any:
        made.append(variables)
        return context(variables)

    monkeypatch.setattr(cel, "Context", noted)
    roles = {f"r{n}": {"when": f"claims.team == 'g{n}'", "allow": ["*"]} for n in range(50)}
    assert named(roles, somebody({"team": "g7"})) == (["r7"], [])
    assert len(made) == 1
