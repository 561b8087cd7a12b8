"""Which roles a principal has. The conditions are evaluated once for each set of credentials, never for a call. Pure.

Principals with the same roles share a *policy class*: the names of their roles, in order, and of the roles that they
would have with more scopes. A class is a text from which its roles can be read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.access.principal import Identity, Principal
from shared.access.rules import AccessRules, Role

_BETWEEN = "\n"
_STEP_UP = "\t"
_ADMIN = ("none", "read", "write")


class Roles:
    """Gives principals their roles."""

    def __init__(self, rules: AccessRules) -> None:
        self._roles = rules.roles

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
        )

    def of(self, identity: Identity) -> tuple[list[Role], list[Role]]:
        """Return the roles that somebody has, and those that more scopes would give and that say so (``stepUp``)."""
        granted: list[Role] = []
        reachable: list[Role] = []
        variables = {
            "principal": {"id": identity.id, "kind": identity.kind},
            "claims": dict(identity.claims),
            "scopes": sorted(identity.scopes),
        }
        for role in self._roles.values():
            if role.name in identity.given:
                granted.append(role)
            elif not role.by_name and (role.when is None or role.when.holds(variables)):
                if role.scopes <= identity.scopes:
                    granted.append(role)
                elif role.step_up and identity.has_scopes:
                    reachable.append(role)
        return granted, reachable


def class_of(granted: Iterable[Role], reachable: Iterable[Role] = ()) -> str:
    """Return the policy class of principals that have these roles."""
    return _BETWEEN.join([*(role.name for role in granted), *(_STEP_UP + role.name for role in reachable)])


def in_class(policy_class: str, roles: Mapping[str, Role]) -> tuple[list[Role], list[Role]]:
    """Return the roles of a policy class: those that its principals have, and those that more scopes would give."""
    names = policy_class.split(_BETWEEN) if policy_class else []
    granted = [roles[name] for name in names if name in roles]
    reachable = [roles[name[1:]] for name in names if name.startswith(_STEP_UP) and name[1:] in roles]
    return granted, reachable
