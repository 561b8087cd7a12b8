"""``worker.ownership.mending``: one entry with a flaw costs itself, and what is listed is read by a strict SDK."""

from __future__ import annotations

import json
from typing import Any

import mcp_types
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from pydantic import BaseModel

from shared.mcp.listings import KINDS, Kind
from worker.ownership.mending import mend

GOOD: dict[Kind, dict[str, Any]] = {
    Kind.TOOLS: {"name": "t", "description": "d", "inputSchema": {"type": "object", "properties": {"a": {}}}},
    Kind.PROMPTS: {"name": "p", "arguments": [{"name": "a", "required": True}]},
    Kind.RESOURCES: {"uri": "file:///r", "name": "r", "size": 3},
    Kind.TEMPLATES: {"uriTemplate": "db://{t}", "name": "x"},
}
MODELS: dict[Kind, type[BaseModel]] = {
    Kind.TOOLS: mcp_types.Tool,
    Kind.PROMPTS: mcp_types.Prompt,
    Kind.RESOURCES: mcp_types.Resource,
    Kind.TEMPLATES: mcp_types.ResourceTemplate,
}
OBJECT = {"type": "object"}
ABSENT = object()


def _mended(kind: Kind, *entries: Any) -> tuple[list[Any], list[str]]:
    found = mend(kind, [Raw(json.dumps(one).encode()) for one in entries])
    return [json.loads(bytes(one)) for one in found.entries], found.flaws


def _with(kind: Kind, **members: Any) -> dict[str, Any]:
    entry = {**GOOD[kind], **members}
    return {name: value for name, value in entry.items() if value is not ABSENT}


@pytest.mark.parametrize("kind", Kind)
def test_an_entry_without_a_flaw_keeps_its_bytes(kind: Kind) -> None:
    raw = Raw(b' {"x-own" : 1.0, ' + json.dumps(GOOD[kind]).encode()[1:])
    found = mend(kind, [raw])
    assert found.entries == [raw] and found.entries[0] is raw and not found.flaws


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (ABSENT, OBJECT),
        (None, OBJECT),
        ([], OBJECT),
        (True, OBJECT),
        ({}, OBJECT),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"type": None, "properties": {}}, {"type": "object", "properties": {}}),
        ({"type": ["object", "null"]}, OBJECT),
        ({"type": "object", "properties": None, "required": None}, OBJECT),
        ({"type": "object", "properties": []}, {"type": "object", "properties": {}}),
        ({"type": "object", "required": {}}, OBJECT),
        ({"type": "object", "required": "a"}, OBJECT),
        (
            {"type": "object", "properties": {"a": True, "b": False, "c": None}},
            {"type": "object", "properties": {"a": {}, "b": {"not": {}}, "c": {}}},
        ),
    ],
)
def test_an_input_schema_is_mended(schema: Any, expected: Any) -> None:
    entries, flaws = _mended(Kind.TOOLS, _with(Kind.TOOLS, inputSchema=schema), GOOD[Kind.TOOLS])
    assert [one["inputSchema"] for one in entries] == [expected, GOOD[Kind.TOOLS]["inputSchema"]]
    assert len(flaws) == 1 and "'t'" in flaws[0] and "inputSchema" in flaws[0]


@pytest.mark.parametrize("key", ["input_schema", "parameters"])
def test_an_input_schema_of_another_name_is_taken(key: str) -> None:
    schema = {"properties": {"a": None}}
    entries, flaws = _mended(Kind.TOOLS, _with(Kind.TOOLS, **{"inputSchema": ABSENT, key: schema}))
    assert entries[0]["inputSchema"] == {"type": "object", "properties": {"a": {}}}
    assert f"was called {key}" in flaws[0]


def test_an_input_schema_that_is_a_text_is_read() -> None:
    entries, flaws = _mended(Kind.TOOLS, _with(Kind.TOOLS, inputSchema='{"type": "object", "required": ["a"]}'))
    assert entries[0]["inputSchema"] == {"type": "object", "required": ["a"]} and "was a text" in flaws[0]
    assert _mended(Kind.TOOLS, _with(Kind.TOOLS, inputSchema="{object"))[0] == []


@pytest.mark.parametrize("schema", ["object", 5, False, [1], {"type": "string"}, {"type": 5}, {"properties": ["a"]}])
def test_a_tool_whose_arguments_cannot_be_known_is_left_out_alone(schema: Any) -> None:
    entries, flaws = _mended(Kind.TOOLS, _with(Kind.TOOLS, inputSchema=schema), GOOD[Kind.TOOLS])
    assert entries == [GOOD[Kind.TOOLS]]
    assert len(flaws) == 1 and "not listed" in flaws[0] and "inputSchema" in flaws[0]


@pytest.mark.parametrize(
    "mark",
    ["\u00ad", "\u200b", "\u200d", "\u202e", "\U000e0041", "\ufe0f", "\u3164", "\u034f", "\u00a0", "\u2003", "\u2800",
     "\u2028", "\ue000", "\x00", "\n", "\x1b", "\x9b"],
)  # fmt: skip
def test_a_name_with_what_nobody_sees_is_left_out(mark: str) -> None:
    for name in (f"pay{mark}", f"p{mark}ay", f"{mark}pay"):
        found = mend(Kind.TOOLS, [Raw(msgspec.json.encode({"name": name, "inputSchema": {"type": "object"}}))])
        assert not found.entries and "not seen" in found.flaws[0]
    kept = [Raw(msgspec.json.encode({"name": "工具 two", "inputSchema": {"type": "object"}}))]
    assert mend(Kind.TOOLS, kept).entries == kept


@pytest.mark.parametrize("name", [" pay", "pay ", "pay\t"])
def test_a_name_with_spaces_at_its_ends_is_left_out(name: str) -> None:
    assert not mend(Kind.PROMPTS, [Raw(msgspec.json.encode({"name": name}))]).entries


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("entry", [None, 5, "x", [], {}, {"name": 5}, {"uri": None}, {"name": ""}])
def test_what_cannot_be_named_is_left_out_alone(kind: Kind, entry: Any) -> None:
    entries, flaws = _mended(kind, entry, GOOD[kind])
    assert entries == [GOOD[kind]]
    assert len(flaws) == 1 and "is not listed" in flaws[0]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("description", None),
        ("title", None),
        ("title", 5),
        ("description", {"en": "x"}),
        ("annotations", None),
        ("annotations", []),
        ("_meta", None),
        ("_meta", "x"),
        ("icons", None),
        ("icons", {}),
        ("icons", [{"sizes": "any"}]),
        ("mimeType", None),
        ("size", None),
        ("outputSchema", None),
        ("x-anything", None),
    ],
)
def test_a_null_or_wrong_member_is_dropped(kind: Kind, member: str, value: Any) -> None:
    entries, flaws = _mended(kind, _with(kind, **{member: value}))
    assert entries == [_with(kind, **{member: ABSENT})]
    assert len(flaws) == 1 and member in flaws[0]


@pytest.mark.parametrize(
    ("given_annotations", "kept"),
    [
        ({"readOnlyHint": None, "title": "x"}, {"title": "x"}),
        ({"readOnlyHint": "yes", "idempotentHint": True}, {"idempotentHint": True}),
        ({"audience": None, "priority": 0.5}, {"priority": 0.5}),
        ({"audience": "user", "priority": "high"}, {}),
        ({"audience": ["everybody"]}, {}),
        ({"lastModified": "2024-01-01", "priority": 1}, {"priority": 1}),
        ({"lastModified": "2024-01-01T00:00:00+01:00"}, {"lastModified": "2024-01-01T00:00:00+01:00"}),
    ],
)
def test_annotations_are_mended(given_annotations: Any, kept: Any) -> None:
    for kind in Kind:
        entries, _ = _mended(kind, _with(kind, annotations=given_annotations))
        assert entries == [_with(kind, annotations=kept)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (None, ABSENT),
        ({}, ABSENT),
        ([{"name": "a", "description": None, "required": None}], [{"name": "a"}]),
        ([{"name": "a", "required": "yes"}, {}, None, {"name": 5}], [{"name": "a"}]),
    ],
)
def test_arguments_of_a_prompt_are_mended(arguments: Any, expected: Any) -> None:
    entries, flaws = _mended(Kind.PROMPTS, _with(Kind.PROMPTS, arguments=arguments))
    assert entries == [_with(Kind.PROMPTS, arguments=expected)]
    assert len(flaws) == 1


@pytest.mark.parametrize("kind", [Kind.RESOURCES, Kind.TEMPLATES])
def test_a_resource_without_a_name_is_named_by_its_uri(kind: Kind) -> None:
    key = KINDS[kind].key
    for name in (ABSENT, None, 5):
        entries, _ = _mended(kind, _with(kind, name=name))
        assert entries[0]["name"] == GOOD[kind][key]


def test_a_resource_whose_uri_is_none_is_left_out_alone() -> None:
    entries, flaws = _mended(Kind.RESOURCES, {"uri": "/etc/x", "name": "x"}, GOOD[Kind.RESOURCES])
    assert entries == [GOOD[Kind.RESOURCES]]
    assert "scheme" in flaws[0]


def test_half_a_character_costs_itself() -> None:
    raw = Raw(rb'{"name":"t","description":"a \ud83d b \ud83d\ude00 \\ud83d","inputSchema":{"type":"object"}}')
    found = mend(Kind.TOOLS, [raw])
    assert json.loads(bytes(found.entries[0]))["description"] == "a \ufffd b \U0001f600 \\ud83d"
    assert len(found.flaws) == 1


KEYS = [
    "type",
    "properties",
    "required",
    "name",
    "src",
    "title",
    "x",
    "lastModified",
    "priority",
    "taskSupport",
    "sizes",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.sampled_from(["object", "user"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = (
    *("title", "description", "annotations", "_meta", "icons", "inputSchema", "arguments", "mimeType", "size"),
    *("outputSchema", "execution"),
)


@given(st.sampled_from(list(Kind)), st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_whatever_is_listed_is_read_by_a_strict_sdk(kind: Kind, members: dict[str, Any]) -> None:
    for entry in _mended(kind, {**GOOD[kind], **members})[0]:
        MODELS[kind].model_validate(entry)


@pytest.mark.parametrize(
    "name", ["t\u202egpj.exe", "t\u0000x", "t\r\nX: y", "t\u2028x", "t\u200bx", "\ufefft", "t\u061cx", "x" * 5000]
)
def test_a_name_that_people_cannot_read_as_it_is_is_left_out(name: str) -> None:
    given = [Raw(json.dumps({"name": one, "inputSchema": {"type": "object"}}).encode()) for one in (name, "té", "a b")]
    mended = mend(Kind.TOOLS, given)
    assert [json.loads(bytes(one))["name"] for one in mended.entries] == ["té", "a b"]
    (flaw,) = mended.flaws
    assert "not seen" in flaw and "\n" not in flaw and "\u202e" not in flaw


@pytest.mark.parametrize(
    ("icon", "kept"),
    [
        ({"src": "a"}, {"src": "a"}),
        ({"src": "a", "mimeType": None, "sizes": None}, {"src": "a"}),
        ({"src": "a", "sizes": "48x48"}, {"src": "a", "sizes": ["48x48"]}),
        ({"src": "a", "sizes": [48]}, {"src": "a"}),
        ({"src": "a", "theme": "blue", "mimeType": 5, "x-own": 1}, {"src": "a", "x-own": 1}),
        ({"src": "a", "theme": "dark", "sizes": ["any"]}, {"src": "a", "theme": "dark", "sizes": ["any"]}),
    ],
)
def test_icons_are_mended(icon: Any, kept: Any) -> None:
    for kind in Kind:
        entries, _ = _mended(kind, _with(kind, icons=[icon]))
        assert entries == [_with(kind, icons=[kept])]


@pytest.mark.parametrize(
    "annotations", [{"priority": 2}, {"priority": -1}, {"lastModified": 5}, {"lastModified": None}]
)
def test_annotations_of_resources_are_within_their_bounds(annotations: Any) -> None:
    entries, flaws = _mended(Kind.RESOURCES, _with(Kind.RESOURCES, annotations=annotations))
    assert entries == [_with(Kind.RESOURCES, annotations={})] and flaws


@pytest.mark.parametrize("size", [1.5, "5", True])
def test_a_size_that_is_no_number_of_bytes_is_left_out(size: Any) -> None:
    entries, _ = _mended(Kind.RESOURCES, _with(Kind.RESOURCES, size=size))
    assert entries == [_with(Kind.RESOURCES, size=ABSENT)]
