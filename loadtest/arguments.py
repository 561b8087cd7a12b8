"""Arguments for a tool call, made from the tool's ``inputSchema``: pure, and valid for the schemas that tools have.

Whatever a schema does not say is chosen plainly and small. Patterns are not solved: a tool that refuses such arguments
answers with ``isError``, which is an answer too.
"""

from __future__ import annotations

import random
from typing import Any

WORDS = ("gateway", "oslo", "replica", "balancer", "lima", "session", "notes", "snow")
_SLOW = ("seconds", "delay", "duration", "sleep", "wait", "steps", "timeout")
_DEPTH = 6
_FORMATS = {
    "date": "2026-07-28",
    "date-time": "2026-07-28T12:00:00Z",
    "time": "12:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "6f1c8f0e-3b1e-4b6e-9d2a-2f6f5f0c7a11",
}


def slow_properties(schema: dict[str, Any]) -> list[str]:
    """Top-level numeric properties that evidently say how long a call takes."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return []
    return [
        name
        for name, part in properties.items()
        if isinstance(part, dict)
        and part.get("type") in ("integer", "number")
        and any(word in name.lower() for word in _SLOW)
    ]


def make(schema: dict[str, Any], rng: random.Random, slow: bool = False) -> dict[str, Any]:
    """Arguments for ``schema``: all that is required, optional ones half of the time. ``slow``: take a while."""
    found = _object(schema, schema, rng, 0)
    for name in slow_properties(schema):
        part = schema["properties"][name]
        if slow:
            found[name] = _bounded(part, rng.randint(3, 10) if part["type"] == "integer" else rng.uniform(0.2, 1.0))
        elif name in found:
            found[name] = _bounded(part, 1 if part["type"] == "integer" else 0.01)
    return found


def _value(schema: Any, root: dict[str, Any], rng: random.Random, depth: int) -> Any:
    schema = _resolved(schema, root)
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    for choice in ("enum", "examples"):
        if isinstance(schema.get(choice), list) and schema[choice]:
            return rng.choice(schema[choice])
    for union in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(union), list) and schema[union]:
            kinds = [part for part in schema[union] if part != {"type": "null"}] or schema[union]
            return _value(kinds[0], root, rng, depth + 1) if depth < _DEPTH else None
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    match kind:
        case "integer":
            return _bounded(schema, rng.randint(1, 5))
        case "number":
            return _bounded(schema, round(rng.uniform(0.5, 5.0), 2))
        case "boolean":
            return rng.random() < 0.5
        case "array":
            return _array(schema, root, rng, depth)
        case "object":
            return _object(schema, root, rng, depth)
        case "null":
            return None
    return _text(schema, rng)


def _resolved(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """A schema, with a reference into ``root`` followed (``true`` and what cannot be found allow anything)."""
    for _ in range(_DEPTH):
        if not isinstance(schema, dict):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = root
        for part in reference.removeprefix("#").strip("/").split("/"):
            schema = schema.get(part) if isinstance(schema, dict) and part else schema
    return {}


def _object(schema: dict[str, Any], root: dict[str, Any], rng: random.Random, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    required = schema.get("required") or ()
    deep = depth >= _DEPTH
    return {
        name: _value(part, root, rng, depth + 1)
        for name, part in properties.items()
        if (name in required and depth < 2 * _DEPTH) or (not deep and name not in required and rng.random() < 0.5)
    }


def _array(schema: dict[str, Any], root: dict[str, Any], rng: random.Random, depth: int) -> list[Any]:
    least = schema.get("minItems", 1)
    many = max(least, min(schema.get("maxItems", 2), 2)) if depth < _DEPTH else least
    return [_value(schema.get("items", {}), root, rng, depth + 1) for _ in range(many)]


def _bounded(schema: dict[str, Any], wanted: float) -> Any:
    """``wanted``, moved to where the schema allows it."""
    whole = schema.get("type") == "integer"
    step = 1 if whole else 0.01
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(exclusive := schema.get("exclusiveMinimum"), int | float):
        low = exclusive + step
    if isinstance(exclusive := schema.get("exclusiveMaximum"), int | float):
        high = exclusive - step
    if low is not None and wanted < low:
        wanted = low
    if high is not None and wanted > high:
        wanted = high
    if isinstance(multiple := schema.get("multipleOf"), int) and multiple > 0:
        wanted = max(multiple, wanted // multiple * multiple)
    return int(wanted) if whole else wanted


def _text(schema: dict[str, Any], rng: random.Random) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = rng.choice(WORDS)
    while len(text) < schema.get("minLength", 0):
        text += " " + rng.choice(WORDS)
    return text[: schema.get("maxLength", 200)]
