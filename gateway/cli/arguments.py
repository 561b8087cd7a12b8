"""Arguments of a tool as a person types them: ``key=value``, with the type that the tool's schema says. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from shared.errors import ConfigError
from shared.knobs import suggestion

_SWITCHED = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Return ``key=value`` texts as a mapping. Raises ``ConfigError``."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--arg {text!r} needs a '=' between name and value")
        found[key] = value
    return found


def typed(given: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the types that ``schema`` (a tool's ``inputSchema``) gives to their keys.

    A text is what it is; numbers, booleans, lists and objects are JSON; where the schema does not say, JSON that can be
    read is taken as such. Raises ``ConfigError``.
    """
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if schema.get("additionalProperties") is False:
        for key in given:
            if key not in properties:
                raise ConfigError(f"the tool takes no {key!r}{suggestion(key, properties)}")
    return {key: value_of(text, properties.get(key), f"--arg {key}") for key, text in given.items()}


def value_of(text: str, schema: Any, what: str) -> Any:
    """Return the value that ``text`` stands for where ``schema`` is wanted. Raises ``ConfigError`` that begins with
    ``what``."""
    kinds = _kinds(schema)
    if kinds == {"boolean"} and text.lower() in _SWITCHED:
        return _SWITCHED[text.lower()]
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if not kinds or _kind(value) & kinds:
        return value if not (kinds and isinstance(value, str)) else text
    if "string" in kinds:
        return text
    raise ConfigError(f"{what}: {text!r} is no {' or '.join(sorted(kinds))}")


def _kinds(schema: Any) -> set[str]:
    """Return the JSON types that a schema allows; an empty set for any."""
    if not isinstance(schema, dict):
        return set()
    named = schema.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list):
        return {str(one) for one in named}
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        found = [_kinds(one) for one in choices]
        return set().union(*found) if all(found) else set()
    return set()


def _kind(value: Any) -> set[str]:
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number", "integer"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
        case _:
            return {"object"}
