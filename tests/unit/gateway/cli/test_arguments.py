"""``--arg key=value`` as the values that a tool's schema wants."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.arguments import pairs, typed
from shared.errors import ConfigError


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "12", "12"),
        ({"type": "string"}, "true", "true"),
        ({"type": "string"}, '"quoted"', '"quoted"'),
        ({"type": "integer"}, "12", 12),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "number"}, "2", 2),
        ({"type": "boolean"}, "yes", True),
        ({"type": "boolean"}, "False", False),
        ({"type": "array"}, "[1, 2]", [1, 2]),
        ({"type": "object"}, '{"a": null}', {"a": None}),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "5", "5"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "5", 5),
        ({"anyOf": [{"type": "integer"}, {"$ref": "#/x"}]}, "free", "free"),
        ({}, "5", 5),
        ({}, "free text", "free text"),
        (True, "5", 5),
    ],
)
def test_a_value_has_the_type_of_its_schema(schema: Any, text: str, value: Any) -> None:
    found = typed({"key": text}, {"properties": {"key": schema}})["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("integer", "1.5"), ("integer", "x"), ("integer", "true"), ("boolean", "maybe"), ("array", "1"), ("object", "[]")],
)
def test_what_does_not_fit_is_said(kind: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"--arg key: .* is no {kind}"):
        typed({"key": text}, {"properties": {"key": {"type": kind}}})


def test_unknown_keys_are_refused_where_the_schema_refuses_them() -> None:
    schema: dict[str, Any] = {"properties": {"text": {}}}
    assert typed({"txt": "x"}, schema) == {"txt": "x"}
    with pytest.raises(ConfigError, match=r"no 'txt' \(did you mean 'text'\?\)"):
        typed({"txt": "x"}, {**schema, "additionalProperties": False})
    assert typed({"a": "1"}, {"properties": "nonsense"}) == {"a": 1}


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert pairs(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    for text in ("a", "=b"):
        with pytest.raises(ConfigError, match="--arg"):
            pairs([text])
