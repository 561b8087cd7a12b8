"""``shared.errors``: every code that the source uses can be told to a client."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.errors import WIRE, CallError, ConfigError, GatewayError, NotDelivered, OutcomeUnknown, Refused

ROOT = Path(__file__).resolve().parents[3]
RAISED = {"CallError": 0, "Refused": 0, "NotDelivered": 0, "OutcomeUnknown": 0, "Failed": 1}
"""Calls that carry a code, and which argument it is."""


def _constants(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _constants(node.body)
        yield from _constants(node.orelse)


def _used() -> Iterator[tuple[str, str]]:
    for package in ("gateway", "worker", "shared"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                place = RAISED.get(name)
                values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                if place is not None and len(node.args) > place:
                    values.append(node.args[place])
                for value in values if place is not None else ():
                    for code in _constants(value):
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", code


def test_every_code_in_the_source_is_in_the_table() -> None:
    used = list(_used())
    assert {"method_unknown", "not_delivered", "outcome_unknown", "timeout", "overloaded"} <= {code for _, code in used}
    assert [(where, code) for where, code in used if code not in WIRE] == []


def _classes(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


def test_every_class_has_a_code_in_the_table() -> None:
    ours = [kind for kind in _classes() if kind.__module__ == errors.__name__]
    assert len(ours) == 16
    assert [kind for kind in ours if kind.code not in WIRE] == []


STANDARD = {
    "parse_error": -32700,
    "invalid_request": -32600,
    "method_unknown": -32601,
    "invalid_params": -32602,
    "tool_unknown": -32602,
    "prompt_unknown": -32602,
    "resource_unknown": -32602,
    "internal": -32603,
    "header_mismatch": -32020,
    "capability_missing": -32021,
    "version_unsupported": -32022,
}


def test_codes_of_the_specifications_are_theirs() -> None:
    assert {code: WIRE[code].rpc for code in STANDARD} == STANDARD


def test_codes_of_ours_are_distinct_and_outside_the_reserved_range() -> None:
    ours = [wire.rpc for code, wire in WIRE.items() if code not in STANDARD]
    assert len(set(ours)) == len(ours)
    assert all(not -32768 <= rpc <= -32000 for rpc in ours)


@pytest.mark.parametrize("code", sorted(WIRE))
def test_every_status_is_a_real_one(code: str) -> None:
    assert WIRE[code].http in (200, 400, 401, 403, 404, 408, 409, 413, 415, 429, 431, 500, 503)


def test_a_call_error_carries_what_the_client_is_told() -> None:
    error = Refused("tool_unknown", "unknown tool 'x'", {"tool": "x"})
    assert (str(error), error.code, error.message, error.data) == (
        "unknown tool 'x'",
        "tool_unknown",
        "unknown tool 'x'",
        {"tool": "x"},
    )
    assert error.wire == WIRE["tool_unknown"] == (-32602, 400)
    assert NotDelivered("timeout", "m").data == {}


def test_only_what_never_arrived_is_not_delivered() -> None:
    for kind in (NotDelivered, OutcomeUnknown, Refused):
        assert issubclass(kind, CallError)
    assert not issubclass(OutcomeUnknown, NotDelivered)
    assert not issubclass(Refused, NotDelivered)


def test_a_config_error_tells_every_problem_with_its_path() -> None:
    assert str(ConfigError([("a.b", "wrong"), ("", "bad"), ("c", "missing")])) == "a.b: wrong; bad; c: missing"
    assert ConfigError("only text").problems == [("", "only text")]
    assert ConfigError("only text").wire.http == 400
