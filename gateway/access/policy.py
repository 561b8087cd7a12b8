"""What the roles of a policy class let its principals see and call: a function from view to view. Pure.

An entry is shown if an ``allow`` of a role matches and no ``deny`` of any role does. What is not shown is unknown in
every way. Conditions on annotations are decided here, once for each generation of the catalogue; conditions on
arguments become the route's guard.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from msgspec import Struct, structs

from gateway.access.roles import in_class
from gateway.routing.derived import rewriting
from gateway.routing.guards import Guard
from gateway.routing.routes import Route
from gateway.routing.steps import Steps, at_once
from gateway.routing.view import View
from shared.access import patterns
from shared.access.conditions import Condition
from shared.access.rules import AccessRules, Role, Rule
from shared.mcp.listings import Kind


class Verdict(Struct, frozen=True):
    """Whether an entry is shown, with which guard, and the rules that decided (``explain``)."""

    shown: bool
    rules: tuple[Rule, ...] = ()
    guard: Guard | None = None


class RolePolicy:
    """Implements ``routing.policy.ViewPolicy`` with roles."""

    def __init__(self, rules: AccessRules) -> None:
        self._roles = rules.roles
        self._confirm = rules.confirm

    def apply(self, view: View, policy_class: str) -> View:
        """Return what ``applying`` returns, at once."""
        return at_once(self.applying(view, policy_class))

    def applying(self, view: View, policy_class: str) -> Steps[View]:
        """Return what principals of the class see of ``view``, in steps."""
        granted, reachable = in_class(policy_class, self._roles)

        def change(kind: Kind, name: str, route: Route) -> Route | None:
            verdict = self.judge(granted, reachable, kind, route)
            if not verdict.shown:
                return None
            return structs.replace(route, guard=verdict.guard) if verdict.guard is not None else route

        def admits(group: str, uri: str) -> bool:
            return not self._roles or _allowed(granted, Kind.RESOURCES, group, uri)

        def keep_group(name: str) -> bool:
            # A group that has listed nothing yet: whoever may use what it will list hears that it is starting.
            if self._roles and not any(rule.pattern.may_concern(name) for role in granted for rule in role.allow):
                return False
            if any(_covers(rule, name) for role in granted for rule in role.deny):
                return False
            return bool(view.groups[name].absence)

        def passes_on(group: str) -> bool:
            # Nobody knows what a method does that the gateway does not know: it is for those who may use everything.
            return not self._roles or any(_covers(rule, group) for role in granted for rule in role.allow)

        denied = frozenset(rule.pattern for role in granted for rule in role.deny if rule.pattern.kind == "methods")
        key = view.endpoint, policy_class
        return (yield from rewriting(view, key, change, admits, denied, keep_group, passes_on))

    def judge(self, granted: list[Role], reachable: list[Role], kind: Kind, route: Route) -> Verdict:
        """Return whether principals with these roles see an entry, and on which conditions they may use it."""
        verdict = self._by_roles(granted, reachable, kind, route) if self._roles else Verdict(True)
        if not verdict.shown or not self._needs_confirmation(kind, route):
            return verdict
        return structs.replace(verdict, guard=structs.replace(verdict.guard or Guard(), confirm=True))

    def _needs_confirmation(self, kind: Kind, route: Route) -> bool:
        confirm = self._confirm
        if confirm is None or kind is not Kind.TOOLS:
            return False
        if any(pattern.matches(kind, route.group, route.entry.name) for pattern in confirm.patterns):
            return True
        said = orjson.loads(route.entry.own).get("annotations")
        return confirm.destructive and isinstance(said, dict) and said.get("destructiveHint") is True

    def _by_roles(self, granted: list[Role], reachable: list[Role], kind: Kind, route: Route) -> Verdict:
        group, name = route.group, route.entry.name
        hints = functools.cache(lambda: _annotations(route) if kind is Kind.TOOLS else {})
        denying = [rule for rule in _matching(granted, "deny", kind, group, name) if _about(rule, hints, True)]
        final = next((rule for rule in denying if rule.args is None), None)
        if final is not None:
            return Verdict(False, (final,))
        allowing = [rule for rule in _matching(granted, "allow", kind, group, name) if _about(rule, hints, False)]
        if not allowing:
            for role in reachable:
                rules = [one for one in _matching([role], "allow", kind, group, name) if _about(one, hints, False)]
                if rules:
                    return Verdict(True, tuple(rules), Guard(scopes=tuple(sorted(role.scopes))))
            return Verdict(False)
        free = [rule for rule in allowing if rule.args is None]
        any_of = () if free else _conditions(allowing)
        none_of = _conditions(denying)
        guard = Guard(any_of, none_of) if any_of or none_of else None
        return Verdict(True, (*(free[:1] or allowing), *denying), guard)


def may_concern(rules: AccessRules, policy_class: str, group: str) -> bool:
    """Whether principals of a class may be shown anything of a group, whatever it lists."""
    granted, reachable = in_class(policy_class, rules.roles)
    if not rules.roles:
        return True
    if any(_covers(rule, group) for role in granted for rule in role.deny):
        return False
    return any(rule.pattern.may_concern(group) for role in (*granted, *reachable) for rule in role.allow)


def _conditions(rules: Iterable[Rule]) -> tuple[Condition, ...]:
    return tuple(rule.args for rule in rules if rule.args is not None)


def _matching(roles: Iterable[Role], which: str, kind: Kind, group: str, name: str) -> list[Rule]:
    found = []
    for role in roles:
        for rule in getattr(role, which):
            pattern = rule.pattern
            if pattern.matches(kind, group, name) or (
                # A template is shown if URIs made from it may be allowed; each URI is decided when it is read.
                which == "allow" and kind is Kind.TEMPLATES and pattern.may_match(kind, group, name)
            ):
                found.append(rule)
    return found


def _allowed(roles: list[Role], kind: Kind, group: str, name: str) -> bool:
    """Whether a resource that no list has may be read. Its annotations are not known, so conditions never hold.

    The group's servers may take several spellings of a URI for the same: all must be allowed, and none denied.
    """
    spellings = patterns.spellings(name)
    if any(_matching(roles, "deny", kind, group, one) for one in spellings):
        return False
    as_written = {one.lower(): one for one in reversed(spellings)}  # of those that differ in case only
    return all(
        any(rule.tool is None and rule.args is None for rule in _matching(roles, "allow", kind, group, one))
        for one in as_written.values()
    )


def _covers(rule: Rule, group: str) -> bool:
    return rule.tool is None and rule.args is None and rule.pattern.covers(group)


def _about(rule: Rule, hints: Callable[[], dict[str, Any]], undecided: bool) -> bool:
    """Whether a rule's condition on annotations holds; ``undecided`` is the answer where it cannot be decided. Most
    rules have none, so that annotations are read only if one has."""
    if rule.tool is None:
        return True
    held = rule.tool.holds({"tool": hints()})
    return undecided if held is None else held


def _annotations(route: Route) -> dict[str, Any]:
    """Return the annotations of a tool with their defaults (2025-11-25, schema, ``ToolAnnotations``), and its name."""
    found = orjson.loads(route.entry.own).get("annotations")
    hints = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
    return {**hints, **(found if isinstance(found, dict) else {}), "name": route.entry.name, "group": route.group}
