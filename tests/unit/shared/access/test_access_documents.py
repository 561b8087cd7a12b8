"""The document ``access``: what is taken, and how what is wrong is said."""

from __future__ import annotations

from typing import Any

import pytest

from shared.access import keys, patterns, rules
from shared.access.conditions import Condition
from shared.errors import ConfigError
from shared.mcp.listings import Kind

ROLE = {"allow": ["*"]}


@pytest.mark.parametrize(
    ("pattern", "kind", "group", "name", "matches"),
    [
        ("*", Kind.TOOLS, "a", "b", True),
        ("a/*", Kind.TOOLS, "a", "b", True),
        ("a/*", Kind.TOOLS, "ab", "b", False),
        ("a/b", Kind.PROMPTS, "a", "b", True),
        ("*/delete_*", Kind.TOOLS, "io.x/y", "delete_all", True),
        ("a/file:///x/*", Kind.RESOURCES, "a", "file:///x/y/z", True),
        ("a/file:///x/*", Kind.RESOURCES, "a", "file:///y", False),
        ("tools:a/*", Kind.TOOLS, "a", "b", True),
        ("tools:a/*", Kind.RESOURCES, "a", "b", False),
        ("resources:a/*", Kind.TEMPLATES, "a", "x{y}", True),
        ("a/b.c", Kind.TOOLS, "a", "bxc", False),
        ("a/*", Kind.TOOLS, "a", "line\nbreak", True),
        ("methods:*", Kind.TOOLS, "a", "b", False),
    ],
)
def test_patterns(pattern: str, kind: Kind, group: str, name: str, matches: bool) -> None:
    assert patterns.read(pattern).matches(kind, group, name) is matches


@pytest.mark.parametrize("pattern", ["", "a", "/b", "a/", "tools:", "tools:a"])
def test_what_is_no_pattern_says_so(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|group"):
        patterns.read(pattern)


@pytest.mark.parametrize(
    ("pattern", "may"), [("a/file:///pub/*", True), ("a/file:///pub/x", False), ("a/http*", False), ("*", True)]
)
def test_a_template_may_make_what_a_pattern_allows(pattern: str, may: bool) -> None:
    assert patterns.read(pattern).may_match(Kind.TEMPLATES, "a", "file:///{path}") is may


@pytest.mark.parametrize(
    ("document", "where", "says"),
    [
        ({"authentification": []}, "access", "unknown field"),
        ({"authentication": [{"type": "magic"}]}, "access.authentication[0]", "magic"),
        ({"authentication": [{"type": "jwt"}]}, "access.authentication[0]", "issuer"),
        ({"authentication": [{"type": "jwt", "issuer": "https://i", "algorithms": ["none"]}]}, "algorithms", "'none'"),
        ({"authentication": [{"type": "jwt", "issuer": "https://i", "algorithms": ["HS256"]}]}, "algorithms", "HS256"),
        ({"authentication": [{"type": "jwt", "issuer": "http://idp.example"}]}, "issuer", "https://"),
        ({"authentication": [{"type": "apiKey", "roles": ["x"]}]}, "roles", "no role 'x'"),
        ({"authentication": [{"type": "apiKey"}, {"type": "apiKey"}]}, "authentication", "is enough"),
        ({"authentication": [{"type": "apiKey", "keys": [{"name": "a", "digest": "x"}]}]}, "digest", "64 hexadecimal"),
        ({"authentication": [{"type": "trustedProxy", "addresses": ["x"]}]}, "addresses", "no address"),
        ({"authentication": [{"type": "trustedProxy", "addresses": []}]}, "addresses", "needed"),
        ({"roles": {"r": {"allow": ["x"]}}}, "access.roles.r.allow[0]", "names no group"),
        ({"roles": {"r": {"when": "claims.", **ROLE}}}, "access.roles.r.when", "no CEL expression"),
        ({"roles": {"r": {"when": "claim.x == 1", **ROLE}}}, "access.roles.r.when", "'claim' means nothing"),
        ({"roles": {"r": {"when": "args.x == 1", **ROLE}}}, "access.roles.r.when", "'args' means nothing"),
        ({"roles": {"r": {}}}, "access.roles.r", "allows nothing"),
        ({"roles": {"r": {"allow": ["methods:ping"]}}}, "access.roles.r.allow[0]", "only be denied"),
        ({"roles": {"r": {"stepUp": True, **ROLE}}}, "access.roles.r.stepUp", "scopes"),
        ({"roles": {"r": {"admin": "all", **ROLE}}}, "access.roles.r.admin", "all"),
        ({"limits": {"r": {"calls": "1/s"}}}, "access.limits.r", "no role"),
        ({"limits": {"*": {"calls": "many"}}}, "access.limits.*.calls", "no rate"),
        ({"limits": {"*": {"calls": "0/s"}}}, "access.limits.*.calls", "no rate"),
        ({"limits": {"*": {"concurrent": -1}}}, "concurrent", "at least 1"),
        ({"audit": {"redis": False}}, "access.audit", "goes nowhere"),
        ({"audit": {"redis": False, "otlp": True, "required": True}}, "access.audit.required", "may lose"),
        ({"audit": {"redact": ["x"]}}, "access.audit.redact", "JSON pointer"),
        ({"confirm": "everything"}, "access.confirm", "names no group"),
        ([], "access", "object"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(document: Any, where: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules.read(document)
    path, text = caught.value.problems[0]
    assert where in path and says in text, caught.value.problems


def test_every_problem_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        rules.read({"roles": {"a": {"allow": ["x"]}, "b": {"when": "+", **ROLE}}, "limits": {"*": {"calls": "x"}}})
    assert len(caught.value.problems) == 3


def test_no_secret_is_in_a_repr() -> None:
    method = {"type": "introspection", "url": "https://i/x", "clientId": "a", "clientSecret": "hush"}
    assert "hush" not in repr(rules.read({"authentication": [method]}).authentication)


@pytest.mark.parametrize("text", ["", "   "])
def test_without_a_document_everybody_is_let_in(text: str) -> None:
    found = rules.parse(text)
    assert not found.authentication and not found.roles


# ---- conditions


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("'a' in claims.groups", True),
        ("claims.groups.exists(g, g == 'a')", True),
        ("claims.missing == 1", None),
        ("claims.n", False),
        ("claims.email.endsWith('@x.example')", True),
        ("claims.n + 'a' == 'b'", None),
    ],
)
def test_conditions(text: str, holds: bool | None) -> None:
    claims = {"groups": ["a"], "n": 1, "email": "ann@x.example"}
    condition = Condition(text)
    assert condition.unknown(rules.WHEN) == set()
    assert condition.holds({"claims": claims, "principal": {}, "scopes": []}) is holds


# ---- keys


def test_a_key_is_recognised_and_a_mistyped_one_is_not() -> None:
    record, key = keys.make("ci", ("r",), "90d")
    assert keys.well_formed(key) and record.digest == keys.digest_of(key) and key not in repr(record)
    assert record.lasts(record.created_at + 89 * 86_400) and not record.lasts(record.created_at + 91 * 86_400)
    for wrong in (key[:-1], key + "0", key.replace(key[10], "-" if key[10] != "-" else "_", 1), key.upper(), ""):
        assert not keys.well_formed(wrong)


@pytest.mark.parametrize("expires", ["1", "d", "0d", "-1d", "1.5d", "90 days"])
def test_what_is_no_duration_is_refused(expires: str) -> None:
    with pytest.raises(ConfigError, match="duration"):
        keys.make("ci", (), expires)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "ä", "x" * 65, "a\n"])
def test_what_cannot_be_the_name_of_a_key(name: str) -> None:
    with pytest.raises(ConfigError, match="name of a key"):
        keys.make(name)
