"""Who is behind a request, by the methods that the rules name. Implements ``principals.Principals``.

Credentials are verified once. The principal is remembered in the request's head and by the credentials, so that a call
costs a look at the head. Failed attempts are not remembered: they are refused by cheap checks, and verifying what
remains is limited to a share of the process's time, behind which unknown tokens wait, but no verified caller does.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

from gateway.access.api_keys import ApiKeys
from gateway.access.introspection import Introspection
from gateway.access.jwt import JwtIssuer, UnverifiedToken
from gateway.access.limits import Limits
from gateway.access.principal import NOBODY, Identity, Principal
from gateway.access.roles import Roles
from gateway.access.tokens import MAX_TOKEN, InvalidToken
from gateway.admission.caller import Waits
from gateway.admission.challenges import challenge
from gateway.admission.request_head import RequestHead
from gateway.telemetry.audit import AuditLog, Required
from shared.access import keys
from shared.access.rules import (
    AccessRules,
    IntrospectionMethod,
    JwtMethod,
    TrustedProxyMethod,
)
from shared.errors import CallError, Refused, Unauthorized

_REMEMBERED = 50_000
"""How many verified credentials are remembered; the oldest go first, and are verified again when they come back."""
_MAX_WAITING = 1000
"""How many requests with unknown tokens may wait to be verified."""
_PAUSE = 4.0
"""After a failed verification the next one waits this many times as long as the failed one took."""
_MAX_PAUSE_S = 0.05
CatchUp = Callable[[], Awaitable[None]]


class Authentication:
    """Verifies credentials."""

    def __init__(
        self,
        rules: AccessRules,
        api_keys: ApiKeys | None,
        catch_up: CatchUp,
        limits: Limits | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        """``catch_up`` waits until this front end knows what Redis holds now."""
        self._roles = Roles(rules)
        self._limits = limits
        self._audit = audit
        self._noted_at = 0.0
        self._refused = 0
        self._anonymous = self._principal(NOBODY) if rules.anonymous or not rules.authentication else None
        self._api_keys = api_keys
        self._catch_up = catch_up
        methods = rules.authentication
        self._issuers = {one.issuer: JwtIssuer(one) for one in methods if isinstance(one, JwtMethod)}
        asked = [Introspection(one) for one in methods if isinstance(one, IntrospectionMethod)]
        self._introspection = asked[0] if asked else None
        proxies = [one for one in methods if isinstance(one, TrustedProxyMethod)]
        self._proxy = proxies[0] if proxies else None
        self._oauth = bool(self._issuers or asked)
        self._scopes = rules.scopes
        self._known: dict[tuple[str, str], Principal] = {}
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    # ---- Principals

    def of(self, head: RequestHead) -> Principal | Waits:
        """Return the principal, or ``Waits.PRINCIPAL``. Raises ``Unauthorized``."""
        known = head.principal
        if known is not None and known.alive and time.time() < known.expires_at:
            return known
        head.principal = found = self._look(head)
        return Waits.PRINCIPAL if found is None else found

    async def resolve(self, head: RequestHead) -> None:
        """Verify what ``of`` could not from memory. Raises ``Unauthorized``."""
        credentials = head.authorization
        assert credentials is not None
        if self._waiting >= _MAX_WAITING:
            raise Refused("too_much", "too many unknown credentials wait to be verified; try again")
        self._waiting += 1
        try:
            identity = await self._verify(head, _token(credentials))
        except InvalidToken as error:
            raise self._invalid(head, error) from error
        finally:
            self._waiting -= 1
        head.principal = self._remember(head, identity)

    def revoked(self, principal: str) -> None:
        """Forget everything about a principal whose credentials were revoked."""
        for key in [key for key, one in self._known.items() if one.id == principal]:
            self._known.pop(key).alive = False

    # ---- looking

    def _look(self, head: RequestHead) -> Principal | None:
        """Return the principal if memory has it, or ``None`` if it must be found out. Raises ``Unauthorized``."""
        if head.identity is not None:
            return self._principal(head.identity)
        credentials = head.authorization
        if credentials is None:
            if self._anonymous is not None:
                return self._anonymous
            raise Unauthorized(self._what_is_needed(), self._challenge(head))
        known = self._known.get((credentials, head.resource))
        if known is not None and known.lasts(time.time()):
            return known
        try:
            token = _token(credentials)
            if token.startswith(keys.PREFIX) and self._api_keys is not None:
                identity = self._api_keys.look(token)
                if identity is not None:
                    return self._remember(head, identity)
                if not self._api_keys.well_formed(token):
                    raise InvalidToken("the API key is wrong")
                return None
            self._check(head, token)
        except InvalidToken as error:
            raise self._invalid(head, error) from error
        return None

    def _check(self, head: RequestHead, token: str) -> None:
        """Raise ``InvalidToken`` for a token that cannot become valid."""
        if len(token) > MAX_TOKEN:
            raise InvalidToken("the token is too long")
        unverified = UnverifiedToken.read(token) if self._issuers else None
        issuer = self._issuers.get(str(unverified.claims.get("iss"))) if unverified is not None else None
        if issuer is not None and unverified is not None:
            issuer.precheck(unverified, _audiences(head))
        elif self._introspection is None:
            raise InvalidToken(
                "the token is of no issuer that is accepted here" if self._oauth else "an API key is needed"
            )

    async def _verify(self, head: RequestHead, token: str) -> Identity:
        if token.startswith(keys.PREFIX) and self._api_keys is not None:
            await self._catch_up()  # it may have been made a moment ago
            identity = self._api_keys.look(token)
            if identity is None:
                raise InvalidToken("the API key is unknown, revoked or expired")
            return identity
        unverified = UnverifiedToken.read(token) if self._issuers else None
        issuer = self._issuers.get(str(unverified.claims.get("iss"))) if unverified is not None else None
        if issuer is None or unverified is None:
            assert self._introspection is not None
            return await self._introspection.verify(token, _audiences(head))
        if not issuer.keys.loaded:
            await issuer.keys.fetch()
        async with self._one_at_a_time:
            started = time.perf_counter()
            try:
                return await issuer.verify(unverified)
            except InvalidToken:
                await asyncio.sleep(min(_PAUSE * (time.perf_counter() - started), _MAX_PAUSE_S))
                raise

    def _principal(self, identity: Identity) -> Principal:
        """Return the principal with its roles and limits."""
        principal = self._roles.principal(identity)
        if self._limits is not None:
            principal.quota = self._limits.quota(principal)
        if self._audit is not None and self._audit.wanted.required:
            principal.quota = Required(self._audit, principal.quota)
        return principal

    def _remember(self, head: RequestHead, identity: Identity) -> Principal:
        principal = self._principal(identity)
        if head.authorization is not None:
            if identity.has_scopes:  # an access token, not an API key
                principal.subject_token = _token(head.authorization)
            if len(self._known) >= _REMEMBERED:
                for old in list(itertools.islice(self._known, _REMEMBERED // 8)):
                    del self._known[old]
            self._known[head.authorization, head.resource] = principal
        return principal

    # ---- refusing

    def _what_is_needed(self) -> str:
        ways = []
        if self._api_keys is not None:
            ways.append("an API key")
        if self._oauth:
            ways.append("an access token")
        named = " or ".join(ways) or "the proxy in front"
        return (
            f"authentication is needed: send 'Authorization: Bearer …' with {named}"
            if ways
            else (f"authentication is needed, by {named}")
        )

    def _challenge(self, head: RequestHead, error: str = "", scopes: tuple[str, ...] = (), text: str = "") -> str:
        resource = head.resource if self._oauth else ""
        return challenge(resource, error, scopes or (self._scopes if not error else ()), text)

    def _note_failure(self, text: str) -> None:
        """Note failed attempts in the audit log: the first of each second, and how many there were since the last."""
        if self._audit is None:
            return
        self._refused += 1
        now = time.monotonic()
        if now - self._noted_at >= 1.0:
            self._audit.note("authentication", outcome="unauthenticated", reason=text, count=self._refused)
            self._noted_at, self._refused = now, 0

    def _invalid(self, head: RequestHead, error: InvalidToken) -> CallError:
        self._note_failure(str(error))
        if error.scopes:
            text = self._challenge(head, "insufficient_scope", error.scopes, str(error))
            return Unauthorized(str(error), text, "insufficient_scope")
        return Unauthorized(str(error), self._challenge(head, "invalid_token", (), str(error)))

    def step_up(self, head: RequestHead, scopes: tuple[str, ...], text: str) -> str:
        """Return the challenge for a call that needs more scopes."""
        return self._challenge(head, "insufficient_scope", scopes, text)


def _token(credentials: str) -> str:
    scheme, _, token = credentials.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise InvalidToken("the credentials must be a bearer token")
    return token.strip()


def _audiences(head: RequestHead) -> frozenset[str]:
    """Return the audiences that are accepted where the rules name none: the endpoint's URI, and that of the whole
    gateway."""
    resource = head.resource
    base = resource.partition("://")[0] + "://" + resource.partition("://")[2].partition("/")[0]
    return frozenset((resource, resource.rstrip("/"), base, base + "/"))
