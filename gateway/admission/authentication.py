"""Who is behind a request, by the methods that the rules name. Implements ``principals.Principals``.

Credentials are verified once. The principal is remembered in the request's head and by the credentials, so that a call
costs a look at the head. Failed attempts are not remembered: they are refused by cheap checks, and verifying what
remains is limited to a share of the process's time, behind which unknown tokens wait, but no verified caller does.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable

from gateway.access.api_keys import ApiKeys
from gateway.access.client_certificate import ClientCertificate
from gateway.access.dpop import ALGORITHMS as DPOP_ALGORITHMS
from gateway.access.dpop import InvalidProof, Proofs
from gateway.access.introspection import Introspection
from gateway.access.jwt import JwtIssuer, UnverifiedToken
from gateway.access.limits import Limits
from gateway.access.principal import NOBODY, Identity, Principal
from gateway.access.roles import Roles, in_class
from gateway.access.tokens import MAX_TOKEN, InvalidToken
from gateway.admission.caller import Waits
from gateway.admission.challenges import challenge, proof_challenge
from gateway.admission.request_head import RequestHead
from gateway.admission.suspects import Suspects
from gateway.telemetry.audit import AuditLog, Required
from shared.access import keys
from shared.access.methods import ClientCertificateMethod, IntrospectionMethod, JwtMethod, TrustedProxyMethod
from shared.access.rules import AccessRules, Role
from shared.egress import Egress
from shared.errors import CallError, Refused, Unauthorized
from shared.metrics.tally import Tally

_REMEMBERED = 50_000
"""How many verified credentials are remembered; the oldest go first, and are verified again when they come back."""
_MAX_WAITING = 1000
"""How many requests with unknown tokens may wait to be verified."""
_PARSED = 64
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
        owns: Callable[[str], bool],
        suspects: Suspects,
        limits: Limits | None = None,
        audit: AuditLog | None = None,
        tally: Tally | None = None,
        egress: Egress | None = None,
    ) -> None:
        """``catch_up`` waits until this front end knows what Redis holds now. ``owns``: whether the gateway is known to
        have a name (``RebindingGuard.owns``). ``suspects`` are the peers whose credentials were wrong. ``tally`` counts
        credentials that were verified anew or refused. ``egress`` are the rules for addresses of authorization
        servers."""
        self._egress = egress
        self._suspects = suspects
        self._owns = owns
        self._limits = limits
        self._audit = audit
        self._tally = tally or Tally("gateway_authentications", "", ("outcome",))
        self._noted_at = 0.0
        self._refused = 0
        self._api_keys = api_keys
        self._issuers: dict[str, JwtIssuer] = {}
        self._introspection: Introspection | None = None
        self._catch_up = catch_up
        self._known: dict[bytes, Principal] = {}
        self._of_keys: dict[tuple[str, tuple[str, ...]], Principal] = {}  # no more than there are keys
        self._proofs = Proofs()
        # A new token is looked at in both lanes, and again when it is verified.
        self._parsed = functools.lru_cache(_PARSED)(UnverifiedToken.read)
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0
        self._take(rules)

    # ---- Rules

    def _take(self, rules: AccessRules) -> None:
        methods = rules.authentication
        self._rules = rules
        self._roles = Roles(rules)
        self._anonymous = self._principal(NOBODY) if rules.anonymous or not methods else None
        issuers = {one.issuer: one for one in methods if isinstance(one, JwtMethod)}
        self._issuers = {name: _issuer(one, self._issuers.get(name), self._egress) for name, one in issuers.items()}
        asked = rules.method(IntrospectionMethod)
        if asked is None or self._introspection is None or self._introspection.method != asked:
            self._introspection = Introspection(asked, self._egress) if asked is not None else None
        proxy = rules.method(TrustedProxyMethod)
        forwarded = proxy is not None and bool(proxy.certificate_header)
        self._certificates = forwarded or rules.method(ClientCertificateMethod) is not None
        self._oauth = bool(self._issuers or asked)
        self._basic_scopes = rules.basic_scopes
        self._scopes = rules.scopes

    def take(self, rules: AccessRules) -> None:
        """Go by other rules. Whoever is known is given roles and limits anew with the next request; where other
        credentials are accepted, also those of before are verified again."""
        before = self._rules
        if before.authentication != rules.authentication:
            self._known.clear()
        self._take(rules)

    def troubles(self) -> dict[str, str]:
        """Return the authorization servers that could not be asked when that was tried last, and why."""
        found = {issuer: one.keys.trouble for issuer, one in self._issuers.items()}
        if self._introspection is not None:
            found[self._introspection.method.url] = self._introspection.trouble
        return {server: why for server, why in found.items() if why}

    def again(self, principal: Principal, before: AccessRules, after: AccessRules) -> Principal | None:
        """Return a principal under changed rules, or ``None`` if it may do something else now, or may have ended."""
        if before.authentication != after.authentication or before.anonymous != after.anonymous:
            return None
        if principal.identity is None:
            return None
        now = self._principal(principal.identity)
        if now.policy_class != principal.policy_class or before.confirm != after.confirm:
            return None
        return now if _roles_of(now, before) == _roles_of(now, after) else None

    # ---- Principals

    def of(self, head: RequestHead) -> Principal | Waits:
        """Return the principal, or ``Waits.PRINCIPAL``. Raises ``Unauthorized``."""
        known = head.principal
        if known is not None and known.alive and known.rules is self._rules and time.time() < known.expires_at:
            return known
        head.principal = found = self._look(head)
        return Waits.PRINCIPAL if found is None else found

    async def resolve(self, head: RequestHead) -> None:
        """Verify what ``of`` could not from memory. Raises ``Unauthorized``."""
        credentials = head.authorization
        assert credentials is not None
        if self._waiting >= _MAX_WAITING:
            self._tally.count("busy")
            raise Refused("too_much", "too many unknown credentials wait to be verified; try again")
        self._waiting += 1
        try:
            scheme, token = _read(credentials)
            principal = self._remember(head, await self._verify(head, token))
            if head.peer:
                self._suspects.right(head.peer)
            self._check_proof(head, principal, scheme, token)
            if not principal.lasts(time.time()):
                raise InvalidToken("the credentials have expired")
        except InvalidToken as error:
            raise self._invalid(head, error) from error
        finally:
            self._waiting -= 1
        head.principal = principal

    def knows(self, head: RequestHead) -> bool:
        """Return whether the credentials of a head are verified already, or there are none."""
        if head.authorization is None or (head.principal is not None and head.principal.lasts(time.time())):
            return True
        try:
            _, token = _read(head.authorization)
        except InvalidToken:
            return False
        if token.startswith(keys.PREFIX) and self._api_keys is not None:
            return self._api_keys.look(token) is not None
        return self._remembered(token, head) is not None

    def revoked(self, principal: str) -> None:
        """Forget everything about a principal whose API key was revoked."""
        for key in [key for key, one in self._of_keys.items() if one.id == principal]:
            self._of_keys.pop(key).alive = False

    # ---- looking

    def _look(self, head: RequestHead) -> Principal | None:
        """Return the principal if memory has it, or ``None`` if it must be found out. Raises ``Unauthorized``."""
        if head.identity is not None:
            return self._principal(head.identity)
        credentials = head.authorization
        if credentials is None:
            if head.certificate is not None:
                return self._of_certificate(head, head.certificate)
            if self._anonymous is not None:
                return self._anonymous
            self._tally.count("missing")
            raise Unauthorized(self._what_is_needed(), self._challenge(head, scopes=self._basic_scopes))
        try:
            scheme, token = _read(credentials)
            if token.startswith(keys.PREFIX) and self._api_keys is not None:
                identity = self._api_keys.look(token)
                if identity is not None:
                    return self._remember(head, identity)
                self._check_peer(head)
                if not self._api_keys.well_formed(token):
                    raise InvalidToken("the API key is wrong")
                return None
            known = self._remembered(token, head)
            if known is not None:
                self._check_proof(head, known, scheme, token)
                return known
            self._check_peer(head)
            self._check(head, token)
        except InvalidToken as error:
            raise self._invalid(head, error) from error
        return None

    def _remembered(self, token: str, head: RequestHead) -> Principal | None:
        """Return the principal of a token that was verified, with the roles that it has now."""
        digest = _digest(token, head.resource)
        known = self._known.get(digest)
        if known is None or not known.lasts(time.time()):
            return None
        if known.rules is not self._rules and known.identity is not None:
            subject_token = known.subject_token
            known = self._known[digest] = self._principal(known.identity)
            known.subject_token = subject_token
        return known

    def _check_peer(self, head: RequestHead) -> None:
        """Raise ``Refused`` if unknown credentials of the peer are not to be looked at now. Where the head does not
        name the peer, the connection has asked (``listener.wary``)."""
        if head.peer and not self._suspects.may(head.peer):
            self._suspects.unread(head.peer)
            raise self._suspects.error

    def _of_certificate(self, head: RequestHead, certificate: ClientCertificate) -> Principal:
        """Return the principal of a connection with a certificate. Raises ``Unauthorized``."""
        why = certificate.why_not()
        if why:
            self._note_failure(why)
            self._tally.count("invalid_certificate")
            raise Unauthorized(why, self._challenge(head, scopes=self._basic_scopes))
        if certificate.principal is None or certificate.principal.rules is not self._rules:
            assert certificate.identity is not None
            certificate.principal = self._principal(certificate.identity)
        return certificate.principal

    def _check_proof(self, head: RequestHead, principal: Principal, scheme: str, token: str) -> None:
        """Raise ``InvalidToken`` unless a token that is bound to a key comes with a proof, and no other one does (RFC
        9449 section 7.1), and one that is bound to a client certificate comes with that (RFC 8705 section 3)."""
        if principal.certificate:
            if head.certificate is None:
                raise InvalidToken("the token is bound to a client certificate; connect with that")
            head.certificate.check_binding(principal.certificate)
        if principal.thumbprint:
            self._proofs.check(head.proof if scheme == "dpop" else None, token, principal.thumbprint)
        elif scheme != "bearer":
            raise InvalidToken("the token is not bound to a key; send it as 'Authorization: Bearer'")

    def _check(self, head: RequestHead, token: str) -> None:
        """Raise ``InvalidToken`` for a token that cannot become valid."""
        if len(token) > MAX_TOKEN:
            raise InvalidToken("the token is too long")
        unverified = self._parsed(token) if self._issuers else None
        issuer = self._issuers.get(str(unverified.claims.get("iss"))) if unverified is not None else None
        if issuer is not None and unverified is not None:
            issuer.precheck(unverified, self._audiences(head))
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
        unverified = self._parsed(token) if self._issuers else None
        issuer = self._issuers.get(str(unverified.claims.get("iss"))) if unverified is not None else None
        if issuer is None or unverified is None:
            assert self._introspection is not None
            return await self._introspection.verify(token, self._audiences(head))
        signing = await issuer.keys_of(unverified)
        async with self._one_at_a_time:
            started = time.perf_counter()
            try:
                return issuer.verify(unverified, signing)
            except InvalidToken:
                await asyncio.sleep(min(_PAUSE * (time.perf_counter() - started), _MAX_PAUSE_S))
                raise

    def _principal(self, identity: Identity) -> Principal:
        """Return the principal with its roles and limits."""
        principal = self._roles.principal(identity)
        principal.rules = self._rules
        if self._limits is not None:
            principal.quota = self._limits.quota(principal)
        if self._audit is not None and self._audit.wanted.required:
            principal.quota = Required(self._audit, principal.quota)
        return principal

    def _remember(self, head: RequestHead, identity: Identity) -> Principal:
        """Return the principal of credentials that were verified, the same one again for an API key that is known: a
        key that is revoked must end it wherever it is held."""
        if identity.kind == "key":
            place = (identity.id, identity.given)
            known = self._of_keys.get(place)
            if known is None or known.rules is not self._rules or not known.lasts(time.time()):
                known = self._of_keys[place] = self._principal(identity)
                self._tally.count("verified")
            return known
        principal = self._principal(identity)
        assert head.authorization is not None
        token = _read(head.authorization)[1]
        if identity.has_scopes:  # an access token, not an API key
            principal.subject_token = token
        if len(self._known) >= _REMEMBERED:
            for old in list(itertools.islice(self._known, _REMEMBERED // 8)):
                del self._known[old]
        self._known[_digest(token, head.resource)] = principal
        self._tally.count("verified")
        return principal

    def _audiences(self, head: RequestHead) -> frozenset[str]:
        """Return the audiences that are accepted where the rules name none: the endpoint's URI, and that of the whole
        gateway. None where the client's ``Host`` alone says what the URI is: whoever got a token for a server of theirs
        could send it here under that server's name."""
        resource = head.resource
        scheme, _, rest = resource.partition("://")
        host = rest.partition("/")[0]
        if not self._owns(host):
            return frozenset()
        base = f"{scheme}://{host}"
        return frozenset((resource, resource.rstrip("/"), base, base + "/"))

    # ---- refusing

    def _what_is_needed(self) -> str:
        ways, tokens = [], []
        if self._certificates:
            ways.append("connect with a client certificate that is accepted here")
        if self._api_keys is not None:
            tokens.append("an API key")
        if self._oauth:
            tokens.append("an access token")
        if tokens:
            ways.append(f"send 'Authorization: Bearer …' with {' or '.join(tokens)}")
        if not ways:
            return "authentication is needed, by the proxy in front"
        return f"authentication is needed: {', or '.join(ways)}"

    def _challenge(self, head: RequestHead, error: str = "", scopes: Iterable[str] = (), text: str = "") -> str:
        resource = head.resource if self._oauth else ""
        return challenge(resource, error, sorted(scopes), text)

    def _note_failure(self, text: str) -> None:
        """Note failed attempts in the audit log: the first of each second, and how many there were since the last."""
        if self._audit is None:
            return
        self._refused += 1 + self._suspects.taken()
        now = time.monotonic()
        if now - self._noted_at >= 1.0:
            self._audit.note("authentication", outcome="unauthenticated", reason=text, count=self._refused)
            self._noted_at, self._refused = now, 0

    def _invalid(self, head: RequestHead, error: InvalidToken) -> CallError:
        if head.peer and not error.scopes:
            self._suspects.wrong(head.peer)
        self._note_failure(str(error))
        proof = isinstance(error, InvalidProof)
        self._tally.count("insufficient_scope" if error.scopes else "invalid_proof" if proof else "invalid_token")
        if error.scopes:
            scopes = self._basic_scopes.union(error.scopes)
            text = self._challenge(head, "insufficient_scope", scopes, str(error))
            return Unauthorized(str(error), text, "insufficient_scope")
        if proof:
            resource = head.resource if self._oauth else ""
            return Unauthorized(str(error), proof_challenge(resource, DPOP_ALGORITHMS, str(error)))
        return Unauthorized(str(error), self._challenge(head, "invalid_token", (), str(error)))

    def step_up(self, head: RequestHead, scopes: tuple[str, ...], text: str) -> str:
        """Return the challenge for a call that needs more scopes. It also has those of the token at hand that rules
        know, because some clients ask for exactly what is named, and would lose the others (MCP 2025-11-25, "Runtime
        Insufficient Scope Errors")."""
        held = head.principal.scopes & self._scopes if head.principal is not None else ()
        return self._challenge(head, "insufficient_scope", {*scopes, *held}, text)


def _roles_of(principal: Principal, rules: AccessRules) -> list[Role]:
    granted, reachable = in_class(principal.policy_class, rules.roles)
    return [*granted, *reachable]


def _issuer(method: JwtMethod, before: JwtIssuer | None, egress: Egress | None) -> JwtIssuer:
    """Return who verifies the tokens of an issuer, with the keys that were fetched for the same one already."""
    issuer = JwtIssuer(method, egress)
    if before is not None and _keys_of(before.method) == _keys_of(method):
        issuer.keys = before.keys
    return issuer


def _keys_of(method: JwtMethod) -> tuple[str, str, str]:
    return method.issuer, method.jwks_url, method.jwks_file


def _read(credentials: str) -> tuple[str, str]:
    """Return the scheme, in lower case, and the token. Raises ``InvalidToken``."""
    scheme, _, token = credentials.partition(" ")
    token = token.strip()
    if scheme.lower() not in ("bearer", "dpop") or not token:
        raise InvalidToken("the credentials must be a bearer token")
    if scheme.lower() == "dpop" and token.startswith(keys.PREFIX):
        raise InvalidToken("an API key is sent as 'Authorization: Bearer'")
    return scheme.lower(), token


def _digest(token: str, resource: str) -> bytes:
    """Return what a verified token is remembered by: tokens have up to 16 KiB, and are secrets."""
    return hashlib.sha256(f"{token}\0{resource}".encode("utf-8", "surrogateescape")).digest()
