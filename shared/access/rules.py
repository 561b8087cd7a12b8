"""The document ``access``: how callers are authenticated, which roles they have, and what roles may do. Pure.

``read`` makes ``AccessRules`` of what a file says, and names everything that is wrong: a rule that restricts is obeyed
or refused, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, structs

from shared.access import patterns
from shared.access.conditions import Condition
from shared.access.methods import (
    ApiKeyMethod,
    ClientCertificateMethod,
    IntrospectionMethod,
    JwtMethod,
    Method,
    TrustedProxyMethod,
    wrong_with,
)
from shared.errors import ConfigError

T = TypeVar("T")
Problems = list[tuple[str, str]]
DESTRUCTIVE = "destructive"
"""Stands in ``confirm`` for the tools whose annotations have ``destructiveHint``."""
EVERYBODY = "*"
"""Stands for all principals among the names of roles that have limits."""
_RATE = re.compile(r"(\d{1,9})\s*/\s*(s|sec|min|m|h|d)")
_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
WHEN = frozenset({"principal", "claims", "scopes"})
"""The variables of a role's ``when``."""


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern with conditions, in ``allow`` or ``deny``.

    ``tool`` is about the annotations of a tool, ``args`` about the arguments of a call, both in CEL.
    """

    match: str
    tool: str = ""
    args: str = ""


class RoleDocument(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One role as it is written.

    Who has it: principals for whom ``when`` holds and who have all ``scopes``; without both, whoever is given the role
    by name. ``step_up``: whether callers without the scopes see what the role allows, and are told which scopes they
    need when they use it.
    """

    when: str = ""
    scopes: tuple[str, ...] = ()
    step_up: bool = False
    allow: tuple[str | Entry, ...] = ()
    deny: tuple[str | Entry, ...] = ()
    admin: Literal["none", "read", "write"] = "none"


class LimitDocument(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The limits of a role as they are written.

    ``calls`` and the values of ``per_tool`` (by pattern) are rates such as ``600/min``; ``concurrent`` is how many
    calls may be under way at once, 0 for any number. Each principal of the role has them for itself, unless they are
    ``shared``.
    """

    calls: str = ""
    concurrent: int = 0
    per_tool: dict[str, str] = {}
    shared: bool = False


class AuditDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """The audit log as it is written.

    ``file`` gets lines of JSON, ``stdout`` too, ``redis`` keeps the last 100,000 events, and ``otlp`` sends log records
    to where the ``OTEL_*`` variables say. ``arguments`` of calls are
    left out, shown without what looks like a secret and what ``redact`` points to, shown whole, or shown as a digest.
    ``required``: calls are refused while the log cannot be written. ``chain``: each line has the digest of the line
    before it.
    """

    file: str = ""
    stdout: bool = False
    redis: bool = True
    otlp: bool = False
    arguments: Literal["none", "redacted", "full", "digest"] = "none"
    redact: tuple[str, ...] = ()
    required: bool = False
    chain: bool = False


class Rate(Struct, frozen=True):
    """So many calls in so many seconds."""

    calls: int
    seconds: float


class Limit(Struct, frozen=True):
    """One compiled limit: a rate, or a number of calls under way (``concurrent``).

    ``pattern`` says which calls count, ``None`` for all. ``shared``: all principals of the role have it together.
    """

    name: str
    role: str
    pattern: patterns.Pattern | None = None
    rate: Rate | None = None
    concurrent: int = 0
    shared: bool = False


class Rule(Struct, frozen=True):
    """One compiled entry of ``allow`` or ``deny``; ``path`` is its place in the file."""

    path: str
    pattern: patterns.Pattern
    tool: Condition | None = None
    args: Condition | None = None


class Role(Struct, frozen=True):
    """One compiled role. ``by_name``: the role is given by name only."""

    name: str
    when: Condition | None
    scopes: frozenset[str]
    step_up: bool
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    admin: str

    @property
    def by_name(self) -> bool:
        """Whether only those have the role to whom it is given by name."""
        return self.when is None and not self.scopes


class Confirm(Struct, frozen=True):
    """Which tools run only after a person has confirmed the call: those that say that they are destructive, and those
    that match a pattern."""

    destructive: bool = False
    patterns: tuple[patterns.Pattern, ...] = ()


class AccessRules(Struct, frozen=True):
    """All rules. Without ``authentication`` everybody is the same, anonymous principal."""

    authentication: tuple[Method, ...] = ()
    anonymous: bool = False
    """Whether requests without credentials are let in, and a gateway beyond loopback may do without authentication."""
    roles: Mapping[str, Role] = {}
    limits: tuple[Limit, ...] = ()
    audit: AuditDocument | None = None
    confirm: Confirm | None = None

    def __repr__(self) -> str:
        return f"AccessRules({[type(one).__name__ for one in self.authentication]}, roles={list(self.roles)})"

    def method(self, kind: type[T]) -> T | None:
        """Return the method of a kind, or ``None`` if it is not used."""
        return next((one for one in self.authentication if isinstance(one, kind)), None)

    @property
    def summary(self) -> str:
        """Who is let in, in a few words for people."""
        named = {
            "ApiKeyMethod": "API keys",
            "JwtMethod": "tokens of {0.issuer}",
            "IntrospectionMethod": "{0.url}",
            "ClientCertificateMethod": "client certificates",
        }
        ways = [named.get(type(one).__name__, "a trusted proxy").format(one) for one in self.authentication]
        if not ways:
            return "open: everybody who reaches the gateway may use everything" + (
                " that the role of nobody allows" if self.roles else ""
            )
        return f"by {', '.join(ways)}" + (", or without credentials" if self.anonymous else "")

    def of_no_group(self, groups: Collection[str]) -> Iterator[tuple[str, str, str]]:
        """Yield (path in the file, pattern, name of the group) for each rule that can match nothing of these groups."""
        for role in self.roles.values():
            for rule in (*role.allow, *role.deny):
                pattern = rule.pattern
                if pattern.kind != patterns.METHODS and not any(map(pattern.may_concern, groups)):
                    named = pattern.text.removeprefix(f"{pattern.kind}:").partition("/")[0]
                    yield rule.path, pattern.text, named

    @property
    def scopes(self) -> frozenset[str]:
        """Every scope that a rule names."""
        return self.basic_scopes.union(*(role.scopes for role in self.roles.values()))

    @property
    def basic_scopes(self) -> frozenset[str]:
        """The scopes that a client asks for at the beginning; those of ``stepUp`` come when a call needs them (MCP
        2025-11-25, "Scope Selection Strategy")."""
        named = {scope for role in self.roles.values() if not role.step_up for scope in role.scopes}
        return frozenset(named.union(*(getattr(method, "required_scopes", ()) for method in self.authentication)))


class _Document(Struct, frozen=True, forbid_unknown_fields=True):
    authentication: tuple[Any, ...] = ()
    anonymous: bool = False
    roles: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    audit: Any = None
    confirm: str | tuple[str, ...] = ()


def read(document: Any) -> AccessRules:
    """Return the rules that a document describes. Raises ``ConfigError`` that names every problem and its place."""
    problems: Problems = []
    whole = _convert(document, _Document, "access", problems)
    if whole is None:
        raise ConfigError(problems)
    roles = {}
    for name, raw in whole.roles.items():
        written = _convert(raw, RoleDocument, f"access.roles.{name}", problems)
        if written is not None:
            roles[name] = _role(name, written, problems)
    methods = []
    for number, raw in enumerate(whole.authentication):
        path = f"access.authentication[{number}]"
        method: Method | None = _convert(raw, Method, path, problems)
        if method is not None:
            problems += [(f"{path}.{key}", text) for key, text in wrong_with(method)]
            unknown = sorted({*method.roles, *_key_roles(method)} - set(whole.roles))
            problems += [(f"{path}.roles", f"there is no role {name!r}") for name in unknown]
            methods.append(method)
    issuers = [one.issuer for one in methods if isinstance(one, JwtMethod)]
    problems += [
        ("access.authentication", f"issuer {one!r} is there twice")
        for one in sorted({one for one in issuers if issuers.count(one) > 1})
    ]
    for kind in (ApiKeyMethod, IntrospectionMethod, TrustedProxyMethod, ClientCertificateMethod):
        if sum(isinstance(one, kind) for one in methods) > 1:
            problems.append(("access.authentication", f"one method of type {kind.__struct_config__.tag} is enough"))
    limits: list[Limit] = []
    for name, raw in whole.limits.items():
        path = f"access.limits.{name}"
        if name != EVERYBODY and name not in whole.roles:
            problems.append((path, f"there is no role {name!r}; '{EVERYBODY}' is everybody"))
        limit = _convert(raw, LimitDocument, path, problems)
        if limit is not None:
            limits += _limits(name, limit, path, problems)
    audit = None if whole.audit is None else _audit(whole.audit, problems)
    confirm = _confirm((whole.confirm,) if isinstance(whole.confirm, str) else whole.confirm, problems)
    if problems:
        raise ConfigError(problems)
    return AccessRules(tuple(methods), whole.anonymous, roles, tuple(limits), audit, confirm)


def with_paths(document: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Return a document that ``read`` takes with the paths of files in it relative to the folder ``base``."""

    def anchored(one: Any, key: str) -> Any:
        path = one.get(key) if isinstance(one, dict) else None
        return {**one, key: str(base / Path(path).expanduser())} if path else one

    found = dict(document)
    if "authentication" in found:
        found["authentication"] = [anchored(one, "jwksFile") for one in found["authentication"]]
    if "audit" in found:
        found["audit"] = anchored(found["audit"], "file")
    return found


def parse(text: str) -> AccessRules:
    """Return the rules in a JSON document, or rules that let everybody in for an empty text. Raises ``ConfigError``."""
    if not text.strip():
        return AccessRules()
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"access: no valid JSON: {error}") from error
    return read(document)


def of_settings(text: str, anonymous: bool, client_ca: str = "") -> AccessRules:
    """Return the rules as the settings ``accessRules``, ``anonymous`` and ``tls.clientCa`` give them. The latter is a
    method of its own, which need not be among those of the document. Raises ``ConfigError``."""
    rules = parse(text)
    listed = rules.method(ClientCertificateMethod) is not None
    if listed and not client_ca:
        text = "a method 'clientCertificate' needs tls.clientCa, the file of the authorities that sign certificates"
        raise ConfigError([("access.authentication", text)])
    if client_ca and not listed:
        rules = structs.replace(rules, authentication=(*rules.authentication, ClientCertificateMethod()))
    return structs.replace(rules, anonymous=True) if anonymous else rules


def check_access(text: str) -> str:
    """Return ``text`` if it holds rules of access. Raises ``ValueError`` that names every problem."""
    try:
        parse(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


def _convert(raw: Any, kind: Any, path: str, problems: Problems) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `")
        problems.append((path + place.rstrip("`").removeprefix("$"), text[:1].lower() + text[1:]))
        return None


def _key_roles(method: Method) -> set[str]:
    return {role for key in method.keys for role in key.roles} if isinstance(method, ApiKeyMethod) else set()


def _role(name: str, written: RoleDocument, problems: Problems) -> Role:
    path = f"access.roles.{name}"
    if written.step_up and not written.scopes:
        problems.append((f"{path}.stepUp", "needs 'scopes', which callers are told to get"))
    if not (written.allow or written.deny or written.admin != "none"):
        problems.append((path, "allows nothing, denies nothing and gives no admin rights; write 'allow': [\"*\"]"))
    return Role(
        name,
        _condition(written.when, f"{path}.when", WHEN, problems),
        frozenset(written.scopes),
        written.step_up,
        tuple(_rules(written.allow, f"{path}.allow", problems)),
        tuple(_rules(written.deny, f"{path}.deny", problems)),
        written.admin,
    )


def _confirm(written: tuple[str, ...], problems: Problems) -> Confirm | None:
    found = []
    for text in written:
        try:
            if text != DESTRUCTIVE:
                found.append(patterns.read(text))
        except ValueError as error:
            problems.append(("access.confirm", f"{error}; or '{DESTRUCTIVE}' for tools that say that they are"))
    return Confirm(DESTRUCTIVE in written, tuple(found)) if written else None


def _audit(raw: Any, problems: Problems) -> AuditDocument | None:
    audit: AuditDocument | None = _convert(raw, AuditDocument, "access.audit", problems)
    if audit is not None and not (audit.file or audit.stdout or audit.redis):
        if not audit.otlp:
            problems.append(("access.audit", "goes nowhere: give 'file', or leave 'redis' on"))
        elif audit.required:
            problems.append(("access.audit.required", "needs 'file', 'stdout' or 'redis': 'otlp' may lose events"))
    for pointer in audit.redact if audit is not None else ():
        if not pointer.startswith("/"):
            problems.append(("access.audit.redact", f"{pointer!r} is no JSON pointer: it begins with /"))
    return audit


def _limits(role: str, written: LimitDocument, path: str, problems: Problems) -> Iterator[Limit]:
    if written.calls:
        rate = _rate(written.calls, f"{path}.calls", problems)
        yield Limit(f"{role}.calls", role, rate=rate, shared=written.shared)
    for text, calls in written.per_tool.items():
        at = f"{path}.perTool.{text}"
        try:
            pattern = patterns.read(text)
        except ValueError as error:
            problems.append((at, str(error)))
            continue
        yield Limit(f"{role}.{text}", role, pattern, _rate(calls, at, problems), shared=written.shared)
    if written.concurrent < 0:
        problems.append((f"{path}.concurrent", "must be at least 1; leave it out for any number"))
    if written.concurrent:
        yield Limit(f"{role}.concurrent", role, concurrent=written.concurrent, shared=written.shared)


def _rate(text: str, path: str, problems: Problems) -> Rate:
    found = _RATE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        problems.append((path, f"{text!r} is no rate: write 10/s, 600/min, 5000/h or 100000/d"))
        return Rate(1, 1.0)
    return Rate(int(found[1]), _UNITS[found[2]])


def _condition(text: str, path: str, variables: frozenset[str], problems: Problems) -> Condition | None:
    if not text:
        return None
    try:
        condition = Condition(text)
    except ValueError as error:
        problems.append((path, str(error)))
        return None
    for unknown in sorted(condition.unknown(variables)):
        problems.append((path, f"{unknown!r} means nothing here; known are {', '.join(sorted(variables))}"))
    return condition


def _rules(written: tuple[str | Entry, ...], path: str, problems: Problems) -> Iterator[Rule]:
    for number, one in enumerate(written):
        entry = Entry(one) if isinstance(one, str) else one
        at = f"{path}[{number}]"
        try:
            pattern = patterns.read(entry.match)
        except ValueError as error:
            problems.append((at, str(error)))
            continue
        if pattern.kind == patterns.METHODS and (entry.tool or entry.args or path.endswith(".allow")):
            problems.append((at, "a method can only be denied, and without conditions"))
        yield Rule(
            at,
            pattern,
            _condition(entry.tool, f"{at}.tool", frozenset({"tool"}), problems),
            _condition(entry.args, f"{at}.args", frozenset({"args", "principal"}), problems),
        )
