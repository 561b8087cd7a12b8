"""``gateway.routing.entries``: what legacy clients choke on is left out, everything else stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.routing.entries import Entry, parse, renamed
from shared.mcp.listings import KINDS, Kind


def _one(**members: Any) -> Entry:
    (tool,) = parse(Kind.TOOLS, json.dumps([{"name": "t", "inputSchema": {"type": "object"}, **members}]).encode())
    return tool


def _legacy(**members: Any) -> dict[str, Any]:
    legacy = _one(**members).legacy
    assert legacy is not None
    return json.loads(legacy)  # type: ignore[no-any-return]


def test_an_ordinary_tool_is_the_same_bytes_in_both_eras() -> None:
    raw = b'{ "name":"t", "x":1.0, "inputSchema" : {"type":"object"}, "description":"\\u00e9" }'
    (tool,) = parse(Kind.TOOLS, b"[%b]" % raw)
    assert (tool.name, tool.modern, tool.legacy) == ("t", raw, raw)


@pytest.mark.parametrize(
    ("annotations", "repeatable"),
    [
        (None, False),
        ({}, False),
        ({"readOnlyHint": True}, True),
        ({"idempotentHint": True}, True),
        ({"readOnlyHint": False, "idempotentHint": True}, True),
        ({"readOnlyHint": "true"}, False),
        ({"readOnlyHint": 1}, False),
        ({"destructiveHint": False}, False),
        ("readOnlyHint", False),
    ],
)
def test_a_tool_is_repeatable_only_when_it_says_so(annotations: Any, repeatable: bool) -> None:
    assert _one(annotations=annotations).repeatable is repeatable


@pytest.mark.parametrize(
    ("execution", "left"),
    [
        ({"taskSupport": "optional"}, None),
        ({"taskSupport": "required"}, None),
        ({"taskSupport": "forbidden", "other": 1}, {"other": 1}),
        ({"other": 1}, {"other": 1}),
    ],
)
def test_clients_do_not_see_task_support(execution: Any, left: Any) -> None:
    assert _legacy(execution=execution).get("execution") == left


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        ({"type": "object", "properties": {}}, True),
        ({"type": "array"}, False),
        ({"type": ["object", "null"]}, False),
        ({"anyOf": []}, False),
        (True, False),
    ],
)
def test_legacy_clients_see_only_output_schemas_of_objects(schema: Any, kept: bool) -> None:
    tool = _one(outputSchema=schema, title="T")
    shown = json.loads(tool.legacy or b"")
    assert ("outputSchema" in shown) is kept
    assert (shown["name"], shown["title"], shown["inputSchema"]) == ("t", "T", {"type": "object"})
    assert json.loads(tool.modern)["outputSchema"] == schema


def _annotated(annotation: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": annotation}}}


def test_annotated_parameters_are_known() -> None:
    assert _one(inputSchema=_annotated("Region")).annotated == ((("region",), "Region", "string"),)
    assert _one(description="mentions x-mcp-header only").annotated == ()


def test_a_tool_with_an_invalid_annotation_is_hidden_and_costs_no_other() -> None:
    document = [
        {"name": "bad", "inputSchema": _annotated("not a token")},
        {"name": "good", "inputSchema": _annotated("Region")},
    ]
    assert [tool.name for tool in parse(Kind.TOOLS, json.dumps(document).encode())] == ["good"]


@pytest.mark.parametrize(
    ("raw", "member", "value", "expected"),
    [
        (
            b'{"a":1.0,"name":"t","b":{ "name" : "inner" },"c":12345678901234567890}',
            "name",
            'g__t"',
            b'{"a":1.0,"name":"g__t\\"","b":{ "name" : "inner" },"c":12345678901234567890}',
        ),
        (b'{"name":"keep","uri":"file:///a"}', "uri", "file://g__/a", b'{"name":"keep","uri":"file://g__/a"}'),
        (b'{"uriTemplate":"x:{y}","n":1}', "uriTemplate", "g__x:{y}", b'{"uriTemplate":"g__x:{y}","n":1}'),
        (b'{"arguments":{"name":"keep"},"name":"g__x"}', "name", "x", b'{"arguments":{"name":"keep"},"name":"x"}'),
    ],
)
def test_renaming_changes_one_member_and_nothing_else(raw: bytes, member: str, value: str, expected: bytes) -> None:
    assert renamed(raw, member, value) == expected


OTHERS = [Kind.PROMPTS, Kind.RESOURCES, Kind.TEMPLATES]


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_tool_is_the_same_bytes_in_both_eras(kind: Kind) -> None:
    raw = b'{ "description":"x-mcp-header \\u00e9","%b":"k\\u00e9:x", "n":1.0,"execution":{"taskSupport":"required"} }'
    raw %= KINDS[kind].key.encode()
    (entry,) = parse(kind, b"[%b]" % raw)
    assert entry == Entry(kind, "ké:x", raw, raw, repeatable=True, annotated=())


@pytest.mark.parametrize("kind", OTHERS)
def test_entries_are_known_by_their_own_key_and_keep_their_order(kind: Kind) -> None:
    other = {facts.key: "not this" for facts in KINDS.values()}
    document = [{**other, KINDS[kind].key: key} for key in ("z", "a", "m")]
    assert [entry.name for entry in parse(kind, json.dumps(document).encode())] == ["z", "a", "m"]


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_an_empty_list(kind: Kind) -> None:
    assert parse(kind, b"[]") == []
