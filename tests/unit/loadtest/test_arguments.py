"""Arguments made from tools' schemas."""

from __future__ import annotations

import random
from typing import Any

import jsonschema
import pytest

from loadtest.arguments import make, slow_properties

SCHEMAS: list[dict[str, Any]] = [
    {"type": "object"},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 10, "maximum": 12}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "integer", "exclusiveMaximum": 1}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "number", "exclusiveMinimum": 7.5}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 8}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"const": 3}}, "required": ["a", "b"]},
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 30}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 2}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": ["null", "boolean"]}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"type": "number"}]}}, "required": ["a"]},
    {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "integer"}, "minItems": 4}},
        "required": ["a"],
    },
    {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/City"}},
        "required": ["city"],
        "$defs": {"City": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_arguments_are_valid_for_their_schema(schema: dict[str, Any]) -> None:
    for seed in range(20):
        for slow in (False, True):
            jsonschema.validate(make(schema, random.Random(seed), slow), schema)


def test_optional_properties_come_sometimes() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    found = {tuple(make(schema, random.Random(seed))) for seed in range(30)}
    assert found == {(), ("a",)}


def test_a_slow_call_takes_a_while_and_a_usual_one_does_not() -> None:
    schema = {
        "type": "object",
        "properties": {"delay_seconds": {"type": "number", "maximum": 0.5}, "steps": {"type": "integer"}},
        "required": ["delay_seconds", "steps"],
    }
    assert slow_properties(schema) == ["delay_seconds", "steps"]
    usual, slow = make(schema, random.Random(1)), make(schema, random.Random(1), slow=True)
    assert usual == {"delay_seconds": 0.01, "steps": 1}
    assert 0.2 <= slow["delay_seconds"] <= 0.5 and slow["steps"] >= 3


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {
        "type": "object",
        "properties": {"child": {"$ref": "#"}, "name": {"type": "string"}},
        "required": ["child", "name"],
    }
    assert "child" in make(schema, random.Random(0))


@pytest.mark.parametrize("schema", [{}, {"properties": True}, {"properties": {"a": True}, "required": ["a"]}])
def test_odd_schemas_do_no_harm(schema: dict[str, Any]) -> None:
    assert isinstance(make(schema, random.Random(0)), dict)
