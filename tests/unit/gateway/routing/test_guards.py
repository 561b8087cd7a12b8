"""What a call must fulfil beside being shown, where parsers read differently, and where there are no arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway.access.policy import RolePolicy
from gateway.admission.caller import Caller
from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import RoutingHeaders
from gateway.protocol.plans import OneOf
from gateway.routing.guards import Guard
from gateway.routing.shapes import shape_of
from shared.access import rules as access_rules
from shared.access.conditions import Condition
from shared.errors import Refused
from shared.virtual_servers import Argument
from tests.unit.builders import record
from tests.unit.gateway.fakes import ADA, request
from tests.unit.gateway.protocol.bench import MODERN, VERSIONS, Bench

PUBLIC = Condition("args.path.startsWith('/public/')")
ETC = Condition("has(args.path) && args.path.startsWith('/etc/')")
NESTED = Condition("has(args.options) && args.options['Force'] == true")


def passes(guard: Guard, arguments: str) -> str:
    """Return the code of the refusal, or nothing."""
    try:
        guard.check(arguments.encode(), "ann", "user")
    except Refused as error:
        return error.code
    return ""


@pytest.mark.parametrize(
    ("guard", "arguments", "code"),
    [
        (Guard(any_of=(PUBLIC,)), '{"path":"/public/a"}', ""),
        (Guard(any_of=(PUBLIC,)), '{"path":"/public/a","Path":"/etc/a"}', "invalid_params"),
        (Guard(any_of=(PUBLIC,)), '{"path":"/public/a","path":"/etc/a"}', "invalid_params"),
        (Guard(any_of=(PUBLIC,)), '{"path":"/public/a","\\u0070ath":"/etc/a"}', "invalid_params"),
        (Guard(any_of=(PUBLIC,)), '{"path":["/public/a"]}', "arguments_denied"),
        (Guard(any_of=(PUBLIC,)), '{"path":{"startsWith":"/public/"}}', "arguments_denied"),
        (Guard(any_of=(PUBLIC,)), "null", "arguments_denied"),
        (Guard(any_of=(PUBLIC,)), "[]", "arguments_denied"),
        (Guard(none_of=(ETC,)), '{"path":"/home/a"}', ""),
        (Guard(none_of=(ETC,)), '{"PATH":"/etc/a"}', "invalid_params"),  # some parsers take it for the same
        (Guard(none_of=(NESTED,)), '{"options":{"Force":true}}', "arguments_denied"),
        (Guard(none_of=(NESTED,)), '{"options":{"force":true}}', "invalid_params"),
        (Guard(none_of=(NESTED,)), '{"optionſ":{"Force":true}}', "invalid_params"),  # as Go compares
        (Guard(none_of=(ETC,)), '{"path":7}', "arguments_denied"),  # undecided
        (Guard(none_of=(ETC,)), '{"STARTSWITH":1}', ""),  # a function is no member
    ],
)
def test_arguments_that_could_mean_something_else_are_refused(guard: Guard, arguments: str, code: str) -> None:
    assert passes(guard, arguments) == code


def test_which_members_a_condition_reads() -> None:
    text = "'x' in args && args.a.b['C d'] == 'Q' && args.l.all(i, i.n.size() > 2) && args.to != principal.id"
    assert Condition(text).reads == {"x", "a", "b", "C d", "l", "n", "to"}


def test_a_closed_argument_is_closed_as_go_compares() -> None:
    shape = shape_of({"sort": Argument(b'"new"', closed=True), "key": Argument(b"1", closed=True)})
    assert shape is not None
    for name in ("ſort", "SORT", "\u212aey"):
        assert shape.closes(name)
        with pytest.raises(Refused):
            shape.params(Raw(json.dumps({"arguments": {name: 1}}).encode()), "t")


async def test_only_calls_have_arguments_that_conditions_go_by() -> None:
    """What reads a resource or completes is not let in by arguments that nobody will look at."""
    rule = {"match": "files/*", "args": "args.path.startsWith('/public/')"}
    rules = access_rules.read({"roles": {"r": {"allow": [rule]}}})
    offered: dict[str, Any] = {"resources": ["file:///a"], "prompts": ["ask"], "templates": ["db://{t}"]}
    files = record("files", tools=["read"], capabilities={"completions": {}}, **offered)
    bench = Bench(files, policy=RolePolicy(rules))
    caller = Caller(ADA, MODERN, VERSIONS[MODERN], bench.front.registry.views.of("", "r"))
    head = RequestHead(RoutingHeaders())
    good = '"arguments":{"path":"/public/a"}'

    def plan(method: str, params: str) -> Any:
        found = bench.methods.plan(*request(method, f"{{{params}}}"), caller, head, True)
        return found.calls() if isinstance(found, OneOf) else found

    assert plan("tools/call", f'"name":"read",{good}').name == "read"
    assert plan("prompts/get", f'"name":"ask",{good}').name == "ask"
    asked = '"ref":{"type":"ref/prompt","name":"ask"},"argument":{"name":"x","value":""}'
    of_template = '"ref":{"type":"ref/resource","uri":"db://{t}"},"argument":{"name":"t","value":""}'
    for method, params in (
        ("tools/call", '"name":"read","arguments":{"path":"/etc"}'),
        ("resources/read", f'"uri":"file:///a",{good}'),
        ("completion/complete", f"{asked},{good}"),
        ("completion/complete", f"{of_template},{good}"),
    ):
        with pytest.raises(Refused, match="rules of access"):
            plan(method, params)


def test_arguments_with_a_condition_have_a_bounded_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of small objects took half a second to be taken apart, in which nobody else was served."""
    guard = Guard(any_of=(Condition("args.path == 'a'"),))
    long_text = json.dumps({"path": "a", "text": "," * 200_000, "rows": list(range(5000))})
    guard.check(long_text.encode(), "ada", "key")
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it is not taken apart"))
    many = json.dumps({"path": "a", "rows": [{"a": 1}] * 100_000})
    with pytest.raises(Refused, match="more than 10000 members and elements"):
        guard.check(many.encode(), "ada", "key")
    Guard().check(many.encode(), "ada", "key")
