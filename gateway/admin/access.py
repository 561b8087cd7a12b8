"""Handlers of the admin API about access: API keys, and why a principal may use a tool or not."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
from aiohttp import web

from gateway.access.policy import RolePolicy
from gateway.access.principal import Identity
from gateway.access.roles import Roles
from gateway.admin.explaining import tool_at
from gateway.admin.rights import PRINCIPAL
from gateway.admin.schemas import AccessExplanation, MadeKey, NewKey, ShownKey
from gateway.admission.authentication import Authentication
from gateway.fleet.registry_view import RegistryView
from gateway.http.bodies import BodyReader
from gateway.routing.routes import Route
from gateway.telemetry.audit import AuditLog
from shared.access import keys
from shared.access.methods import ApiKeyMethod
from shared.access.rules import EVERYBODY, AccessRules
from shared.errors import ConfigError, EntryNotFound
from shared.mcp.listings import Kind
from shared.registry.api_keys import KeyStore
from shared.registry.audit import AuditStore

_PLACE = re.compile(r"\d{1,20}-\d{1,20}")


class AccessApi:
    """The handlers. They are behind the checks of rights that ``routes`` adds."""

    def __init__(
        self,
        rules: AccessRules,
        store: KeyStore,
        audit: AuditStore,
        registry: RegistryView,
        bodies: BodyReader,
        log: AuditLog | None = None,
        authentication: Authentication | None = None,
    ) -> None:
        """``log`` is this front end's audit log, if there is one."""
        self._log = log
        self._authentication = authentication
        self.rules = rules
        """Those of now: they may change while this front end runs."""
        self._audit = audit
        self._store = store
        self._registry = registry
        self._bodies = bodies

    @property
    def roles(self) -> list[str]:
        """The names of the roles that there are."""
        return sorted(self.rules.roles)

    @property
    def takes_keys(self) -> bool:
        """Whether callers may use API keys."""
        return self.rules.method(ApiKeyMethod) is not None

    @property
    def has_audit(self) -> bool:
        """Whether an audit log is kept in Redis."""
        return self.rules.audit is not None and self.rules.audit.redis

    @property
    def audit_trouble(self) -> str:
        """Why this front end cannot write its audit log now, or nothing."""
        return self._log.failing if self._log is not None else ""

    @property
    def server_troubles(self) -> dict[str, str]:
        """The authorization servers that this front end could not ask, and why."""
        return self._authentication.troubles() if self._authentication is not None else {}

    async def keys(self, request: web.Request) -> web.Response:
        """``GET /admin/v1/keys``: all keys, without what they are."""
        made = [
            ShownKey(key.id, key.name, list(key.roles), key.created_at, key.expires_at)
            for key in (await self._store.all()).values()
        ]
        method = self.rules.method(ApiKeyMethod)
        given = [ShownKey("", key.name, list(key.roles), source="file") for key in (method.keys if method else ())]
        return _json(sorted([*given, *made], key=lambda one: one.name))

    async def create(self, request: web.Request) -> web.Response:
        """``POST /admin/v1/keys``: make a key."""
        wanted = msgspec.json.decode(await self._bodies.read(request), type=NewKey)
        self._check(wanted)
        key, text = keys.make(wanted.name, tuple(wanted.roles), wanted.expires)
        await self._store.add(key)
        return _json(MadeKey(key.id, key.name, text), 201)

    async def revoke(self, request: web.Request) -> web.Response:
        """``DELETE /admin/v1/keys/{name}``: revoke a key everywhere."""
        await self._store.remove(request.match_info["name"])
        return web.Response(status=204)

    def note_change(self, request: web.Request, status: int) -> None:
        """Note in the audit log that a request changed something, or failed to."""
        if self._log is not None and request.method not in ("GET", "HEAD"):
            self._log.note(
                "admin",
                principal=request.get(PRINCIPAL, ""),
                method=request.method,
                name=request.path,
                outcome=str(status),
            )

    async def audit(self, request: web.Request) -> web.Response:
        """``GET /admin/v1/audit?after=PLACE&limit=N&principal=&tool=``: events of the audit log in Redis, oldest first.

        Without ``after`` the latest. ``next`` is the place to go on from.
        """
        if not self.has_audit:
            raise ConfigError("no audit log is kept in Redis here: add 'audit': {} to 'access' in the gateway's file")
        try:
            limit = max(1, min(1000, int(request.query.get("limit", "100"))))
        except ValueError as error:
            raise ConfigError("limit must be a number") from error
        after = request.query.get("after", "")
        if after and not _PLACE.fullmatch(after):
            raise ConfigError("after must be the 'next' of an earlier answer")
        rows = await (self._audit.after(after, limit) if after else self._audit.latest(limit))
        wanted = {name: request.query[name] for name in ("principal", "event", "outcome") if name in request.query}
        if "tool" in request.query:
            wanted["name"] = request.query["tool"]
        events = [msgspec.json.decode(line) for _, line in rows]
        shown = [one for one in events if all(one.get(name) == value for name, value in wanted.items())]
        return _json({"events": shown, "next": rows[-1][0] if rows else after})

    def _check(self, wanted: NewKey) -> None:
        method = self.rules.method(ApiKeyMethod)
        if method is None:
            raise ConfigError(
                'this gateway takes no API keys: add {"type": "apiKey"} to \'access.authentication\' of its file'
            )
        for role in wanted.roles:
            if role not in self.rules.roles:
                known = ", ".join(self.rules.roles) or "none"
                raise ConfigError(f"there is no role {role!r}; 'access.roles' has {known}")
        if any(key.name == wanted.name for key in method.keys):
            raise ConfigError(f"the file has a key {wanted.name!r} already; choose another name")

    async def explain(self, request: web.Request) -> web.Response:
        """``GET /admin/v1/access/explain?as=PRINCIPAL&tool=NAME``: which rule decides, and how.

        ``claims`` may hold a token's claims as JSON, for principals of an issuer.
        """
        principal, tool = request.query.get("as"), request.query.get("tool")
        if principal is None or not tool:
            raise ConfigError("name the principal and the tool: /admin/v1/access/explain?as=key:ci&tool=NAME")
        claims, server = request.query.get("claims", ""), request.query.get("server", "")
        return _json(await self.explained(tool, principal, claims, server))

    async def explained(self, tool: str, principal: str, claims: str, server: str = "") -> AccessExplanation:
        """Return which rule decides whether a principal may use a tool of ``/mcp``, or of the endpoint ``server``.
        Raises ``ConfigError`` or ``EntryNotFound``."""
        identity = await self._identity(principal, claims)
        await self._registry.catch_up()
        route = tool_at(self._registry.catalog, tool, server)
        granted, reachable = Roles(self.rules).of(identity)
        names = [role.name for role in granted]
        limits = list(_limits(self.rules, names, route))
        if not self.rules.roles:
            why = "allowed: no roles are configured"
            return AccessExplanation(tool, principal, names, True, why, limits=limits)
        verdict = RolePolicy(self.rules).judge(granted, reachable, Kind.TOOLS, route)
        rules = [f"{rule.path}: {rule.pattern.text}" for rule in verdict.rules]
        conditions = [one.text for one in (*verdict.guard.any_of, *verdict.guard.none_of)] if verdict.guard else []
        if not verdict.shown:
            why = "hidden: a rule denies it" if verdict.rules else "hidden: no role allows it"
        elif verdict.guard is not None and verdict.guard.scopes:
            why = f"shown, and refused until the token has the scope {' '.join(verdict.guard.scopes)!r}"
        else:
            why = "allowed if its arguments fulfil the conditions" if conditions else "allowed"
        return AccessExplanation(tool, principal, names, verdict.shown, why, rules, conditions, limits)

    async def _identity(self, principal: str, claims: str) -> Identity:
        if principal.startswith("key:"):
            return await self._of_key(principal.removeprefix("key:"))
        try:
            said = msgspec.json.decode(claims, type=dict[str, Any]) if claims else {}
        except msgspec.DecodeError as error:
            raise ConfigError(f"claims: {error}") from error
        scope = said.get("scope", "")
        scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset()
        return Identity(principal, "user" if principal else "anonymous", said, scopes, has_scopes=bool(principal))

    async def _of_key(self, name: str) -> Identity:
        method = self.rules.method(ApiKeyMethod)
        given = {key.name: key.roles for key in (method.keys if method else ())}
        record = await self._store.read(name)
        if record is None and name not in given:
            raise EntryNotFound(f"there is no key {name!r}; 'gateway keys list' shows those that there are")
        roles = given[name] if record is None else record.roles
        every = method.roles if method else ()
        return Identity(f"key:{name}", "key", {"key": name}, given=(*every, *roles))


def _limits(rules: AccessRules, roles: Collection[str], route: Route) -> Iterator[str]:
    """Yield the limits that calls of a route count for, if they are made by a principal with these roles."""
    for limit in rules.limits:
        if limit.role not in (EVERYBODY, *roles):
            continue
        if limit.pattern is not None and not limit.pattern.matches_call("tools/call", route.group, route.entry.name):
            continue
        rate = limit.rate
        most = f"{rate.calls} calls in {rate.seconds:g} s" if rate is not None else f"{limit.concurrent} calls at once"
        yield f"{limit.name}: {most}{', of all its callers together' if limit.shared else ''}"


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
