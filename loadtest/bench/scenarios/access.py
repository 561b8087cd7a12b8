"""What it costs to know who calls: keys and tokens beside no credentials, roles beside none, new tokens, made-up ones.

Rows are ratios to the same gateway without credentials, in the same run and in turns; those with roles, to another
gateway without.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from loadtest.bench import accounting
from loadtest.bench.children import ChildProcess, running, server
from loadtest.bench.compare import Comparison, Side, compare, cpu, measure
from loadtest.bench.figures import median
from loadtest.bench.load import Load, drive
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.scenarios.calls import call
from loadtest.bench.subject import Subject, config, gateway, http_upstream
from loadtest.wire import Request

ROWS = ("access-key", "access-jwt", "access-first", "access-refusal", "access-flood", "access-roles", "access-crowd")
ISSUER, AUDIENCE = "https://idp.example", "https://mcp.example/mcp"
_ADMIN = "admin-token-of-the-benchmark"
_AUTHENTICATED, _WITH_ROLES, _FIRST_MS, _BESIDE_FLOOD = 1.03, 1.05, 1.0, 1.5
_REFUSAL = 0.5
_ROLES, _PRINCIPALS = 1000, 10_000
_CROWD, _CROWD_KIB = 1.15, 20
_NEW_TOKENS = 200
_STEADY_PER_SECOND, _FLOOD_PER_SECOND = 300, 10_000


class Credentials:
    """A key and an issuer of tokens, and the rules that accept them."""

    def __init__(self, folder: Path) -> None:
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(RSAAlgorithm.to_jwk(self._private.public_key()))
        self._quick = ec.generate_private_key(ec.SECP256R1())
        other = json.loads(ECAlgorithm.to_jwk(self._quick.public_key()))
        self._keys = folder / "keys.json"
        self._keys.write_text(json.dumps({"keys": [{**public, "kid": "one"}, {**other, "kid": "two"}]}))
        random = "gwk_" + secrets.token_urlsafe(32)
        self.key = f"{random}{zlib.crc32(random.encode()):08x}"

    def token(self, subject: str = "ann", *groups: str) -> str:
        """A signed token as issuers make them; with ``groups`` it has a signature that takes little time to make."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600}
        claims |= {
            "groups": list(groups) or ["support", "everybody"],
            "scope": "mcp:read mcp:write",
            "jti": secrets.token_hex(8),
        }
        if groups:
            return jwt.encode(claims, self._quick, "ES256", {"kid": "two", "typ": "at+jwt"})
        return jwt.encode(claims, self._private, "RS256", {"kid": "one", "typ": "at+jwt"})

    def rules(self, roles: dict[str, Any] | None = None) -> dict[str, Any]:
        """The document ``access``; ``roles`` are those of the key."""
        digest = hashlib.sha256(self.key.encode()).hexdigest()
        given = {"name": "bench", "digest": digest, "roles": list(roles or ())[:3]}
        issuer = {"type": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "jwksFile": str(self._keys)}
        return {
            "authentication": [{"type": "apiKey", "keys": [given]}, issuer],
            "anonymous": True,
            **({"roles": roles} if roles else {}),
        }


def run(plan: Plan) -> Iterator[Outcome]:
    """The rows that the plan wants."""
    credentials = Credentials(plan.folder)
    with server("upstream_http") as (_, port):
        document = config({"modern": http_upstream(port, "modern", 20, "modern")}, adminToken=_ADMIN)
        if plan.wants("access-key", "access-jwt", "access-first", "access-refusal", "access-flood"):
            with gateway(plan.folder, {**document, "access": credentials.rules()}, token=_ADMIN) as subject:
                yield from _authenticated(plan, subject, credentials)
                if plan.wants("access-first"):
                    what = "a new token: its first request takes longer by"
                    yield _first(subject, "access-first", what, lambda number: credentials.token(f"user{number}"))
                if plan.wants("access-refusal"):
                    yield _refusal(plan, subject, credentials)
                if plan.wants("access-flood"):
                    yield _flood(plan, subject, credentials)
        if plan.wants("access-roles"):
            yield _roles(plan, document, credentials)
        if plan.wants("access-crowd"):
            yield from _crowd(plan, document, credentials)


def _with(request: Request, credentials: str) -> Request:
    return replace(request, headers={**request.headers, "Authorization": f"Bearer {credentials}"})


def _authenticated(plan: Plan, subject: Subject, credentials: Credentials) -> Iterator[Outcome]:
    for row, what, sent in (
        ("access-key", "with an API key: CPU per call", credentials.key),
        ("access-jwt", "with a signed token: CPU per call", credentials.token()),
    ):
        if plan.wants(row):
            ours = Side(subject.port, subject.pids, Load((_with(call("modern_0"), sent),)))
            theirs = Side(subject.port, subject.pids, Load((call("modern_0"),)))
            found = compare(ours, theirs, plan)
            note = found.note(cpu, "µs", "without")
            yield Outcome(row, what, found.ratios(cpu), Budget(_AUTHENTICATED), "×anonymous", note)


def _roles(plan: Plan, document: dict[str, Any], credentials: Credentials) -> Outcome:
    """Twenty roles, of which the caller has three, beside a gateway that has none and a caller without credentials."""
    roles: dict[str, Any] = {
        f"role{number}": {"allow": ["modern/*"], "deny": [f"*/delete_{number}*"]} for number in range(20)
    }
    found = Comparison()
    for _ in range(plan.instances):
        with (
            gateway(plan.folder, {**document, "access": credentials.rules(roles)}, token=_ADMIN) as subject,
            gateway(plan.folder, {**document, "access": credentials.rules()}, token=_ADMIN) as other,
        ):
            ours = Side(subject.port, subject.pids, Load((_with(call("modern_0"), credentials.key),)))
            theirs = Side(other.port, other.pids, Load((call("modern_0"),)))
            found += compare(ours, theirs, plan.of_each_instance())
    note = found.note(cpu, "µs", "without")
    what = "with a key and roles: CPU per call"
    return Outcome("access-roles", what, found.ratios(cpu), Budget(_WITH_ROLES), "×anonymous", note)


def _crowd(plan: Plan, document: dict[str, Any], credentials: Credentials) -> Iterator[Outcome]:
    """A thousand roles and ten thousand principals, of whom each has two: calls of all in turn beside calls of one."""
    principals = _PRINCIPALS // 10 if plan.quick else _PRINCIPALS
    roles = {
        f"role{number}": {"when": f"'team{number}' in claims.groups", "allow": ["modern/*"], "deny": [f"*/x{number}_*"]}
        for number in range(_ROLES)
    }

    def token(number: int) -> str:
        return credentials.token(f"user{number}", f"team{number % _ROLES}", f"team{number * 7 % _ROLES}")

    with gateway(plan.folder, {**document, "access": credentials.rules(roles)}, token=_ADMIN) as subject:
        yield _first(
            subject, "access-crowd", f"{_ROLES:,} roles, a new token: its first request takes longer by", token
        )
        one = Side(subject.port, subject.pids, Load((_with(call("modern_0"), token(0)),)))
        measure(one, 1.0)
        before, everybody = (
            subject.memory_bytes(),
            tuple(_with(call("modern_0"), token(number)) for number in range(principals)),
        )
        drive(subject.port, Load(everybody, 4), principals / 300.0, 300.0)  # everybody has called
        more = (subject.memory_bytes() - before) / principals / 1024
        found = compare(Side(subject.port, subject.pids, Load(everybody)), one, plan)
        note = found.note(cpu, "µs", "one principal")
        what = f"{_ROLES:,} roles, {principals:,} principals: CPU per call"
        yield Outcome("access-crowd", what, found.ratios(cpu), Budget(_CROWD), "×one", note)
        yield Outcome("access-crowd", "… memory of each principal", (more,), Budget(_CROWD_KIB), "KiB")


def _first(subject: Subject, row: str, what: str, token: Callable[[int], str]) -> Outcome:
    """The first request with a new token, beside the second one with it, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=30)
    differences, firsts = [], []
    for number in range(_NEW_TOKENS):
        request = _with(call("modern_0"), token(_PRINCIPALS + number))
        took = []
        for _ in range(2):
            began = time.perf_counter()
            connection.request(request.method, request.path, request.body, request.headers)
            response = connection.getresponse()
            response.read()
            took.append((time.perf_counter() - began) * 1000)
            if response.status != 200:
                raise RuntimeError(f"HTTP {response.status}")
        differences.append(took[0] - took[1])
        firsts.append(took[0])
    connection.close()
    note = f"the first request {median(firsts):.3g} ms"
    return Outcome(row, what, tuple(differences), Budget(_FIRST_MS), "ms", note)


def _refusal(plan: Plan, subject: Subject, credentials: Credentials) -> Outcome:
    """What made-up credentials cost the gateway, of each kind, beside a call that is served."""
    served = Side(subject.port, subject.pids, Load((_with(call("modern_0"), credentials.key),)))
    ratios, by_kind = [], dict[str, list[float]]()
    for _ in range(plan.rounds):
        of_call = measure(served, max(1.0, plan.seconds)).cpu_us
        for kind, template in (("tokens", _template(credentials)), ("keys", "")):
            command = [sys.executable, "-m", "loadtest.bench.token_flood", str(subject.port), str(_FLOOD_PER_SECOND)]
            with running([*command, template]) as flood:
                flood.line_with("refused")
                before, so_far = accounting.cpu_s(subject.pids), _refused(flood)[1]
                time.sleep(max(2.0, plan.seconds))
                cost_s, count = accounting.cpu_s(subject.pids) - before, _refused(flood)[1] - so_far
            by_kind.setdefault(kind, []).append(cost_s / count * 1e6)
            ratios.append(cost_s / count * 1e6 / of_call)
    note = ", ".join(f"{kind} {median(found):.3g} µs" for kind, found in by_kind.items())
    what = "a made-up credential: CPU per refusal"
    return Outcome("access-refusal", what, tuple(ratios), Budget(_REFUSAL), "×call", note)


def _refused(flood: ChildProcess) -> tuple[float, int]:
    """The refusals a second, and all so far, in the last whole line."""
    last = [line.split() for line in flood.said.splitlines(keepends=True) if line.endswith("\n")][-1]
    return float(last[1]), int(last[2])


def _flood(plan: Plan, subject: Subject, credentials: Credentials) -> Outcome:
    """A caller at a steady pace, while somebody sends made-up tokens, each of them once."""
    steady = Load((_with(call("modern_0"), credentials.key),), 8)
    command = [sys.executable, "-m", "loadtest.bench.token_flood", str(subject.port), str(_FLOOD_PER_SECOND)]
    ratios, alone_ms, beside_ms, refused = [], [], [], list[float]()
    for _ in range(plan.rounds):
        alone = drive(subject.port, steady, max(2.0, plan.seconds), _STEADY_PER_SECOND)
        with running([*command, _template(credentials)]) as flood:
            flood.line_with("began")
            flood.step_back()  # not before: it would have no CPU to begin with on a busy machine
            beside = drive(subject.port, steady, max(2.0, plan.seconds), _STEADY_PER_SECOND)
            refused.append(_refused(flood)[0])
        ratios.append(beside.p99_ms / alone.p99_ms)
        alone_ms.append(alone.p99_ms)
        beside_ms.append(beside.p99_ms)
    note = f"{median(beside_ms):.3g} ms; alone {median(alone_ms):.3g} ms; {median(refused):,.0f} tokens/s refused"
    what = "beside made-up tokens: a steady caller's p99"
    return Outcome("access-flood", what, tuple(ratios), Budget(_BESIDE_FLOOD), "×alone", note)


def _template(credentials: Credentials) -> str:
    """A good token's header and claims, to which wrong signatures are put."""
    header, claims, signature = credentials.token().split(".")
    assert len(base64.urlsafe_b64decode(signature + "==")) == 256
    return f"{header}.{claims}"
