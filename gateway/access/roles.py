"""Which roles a principal has. The conditions are evaluated once for each set of credentials, never for a call. Pure.

Principals with the same roles share a *policy class*: the names of their roles, in order, and of the roles that they
would have with more scopes. A class is a text from which its roles can be read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.access.principal import Identity, Principal
from shared.access.conditions import Prepared
from shared.access.rules import AccessRules, Role

_BETWEEN = "\n"
_STEP_UP = "\t"
_ADMIN = ("none", "read", "write")


class Roles:
    """Gives principals their roles."""

    def __init__(self, rules: AccessRules) -> None:
        self._roles = rules.roles
        self._place = {name: place for place, name in enumerate(rules.roles)}
        # Most conditions are about one value of one claim. Those are looked up: there may be a thousand of them.
        self._by_member: dict[str, dict[str, list[Role]]] = {}
        self._conditional: list[Role] = []
        for role in rules.roles.values():
            if role.when is not None and role.when.member is not None:
                claim, value = role.when.member
                self._by_member.setdefault(claim, {}).setdefault(value, []).append(role)
            elif not role.by_name:
                self._conditional.append(role)

    def principal(self, identity: Identity) -> Principal:
        """Return the principal with its policy class and its rights in the admin API."""
        granted, reachable = self.of(identity)
        return Principal(
            identity.id,
            identity.kind,
            class_of(granted, reachable),
            identity.scopes,
            max((role.admin for role in granted), key=_ADMIN.index, default="none"),
            identity.expires_at,
            identity=identity,
            thumbprint=identity.thumbprint,
            certificate=identity.certificate,
        )

    def of(self, identity: Identity) -> tuple[list[Role], list[Role]]:
        """Return the roles that somebody has, and those that more scopes would give and that say so (``stepUp``)."""
        given = {name for name in identity.given if name in self._roles}
        granted = [self._roles[name] for name in given]
        reachable: list[Role] = []
        for role in self._whose_condition_holds(identity):
            if role.name not in given:
                if role.scopes <= identity.scopes:
                    granted.append(role)
                elif role.step_up and identity.has_scopes:
                    reachable.append(role)
        for found in (granted, reachable):
            found.sort(key=lambda role: self._place[role.name])
        return granted, reachable

    def _whose_condition_holds(self, identity: Identity) -> Iterator[Role]:
        for claim, roles in self._by_member.items():
            held = identity.claims.get(claim)
            if isinstance(held, list | tuple | dict):
                for value in {one for one in held if isinstance(one, str)}:
                    yield from roles.get(value, ())
        if self._conditional:
            variables = self._variables(identity)
            yield from (role for role in self._conditional if role.when is None or role.when.holds(variables))

    def _variables(self, identity: Identity) -> Mapping[str, Any] | Prepared:
        variables = {
            "principal": {"id": identity.id, "kind": identity.kind},
            "claims": dict(identity.claims),
            "scopes": sorted(identity.scopes),
        }
        if not any(role.when is not None for role in self._conditional):
            return variables
        try:
            return Prepared(variables)
        except ValueError:
            return variables  # then no condition that needs it holds


def class_of(granted: Iterable[Role], reachable: Iterable[Role] = ()) -> str:
    """Return the policy class of principals that have these roles."""
    return _BETWEEN.join([*(role.name for role in granted), *(_STEP_UP + role.name for role in reachable)])


def in_class(policy_class: str, roles: Mapping[str, Role]) -> tuple[list[Role], list[Role]]:
    """Return the roles of a policy class: those that its principals have, and those that more scopes would give."""
    names = policy_class.split(_BETWEEN) if policy_class else []
    granted = [roles[name] for name in names if name in roles]
    reachable = [roles[name[1:]] for name in names if name.startswith(_STEP_UP) and name[1:] in roles]
    return granted, reachable
