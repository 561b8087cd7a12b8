"""The bytes of an OpenAPI document as an object, and the references in it. Pure."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import orjson
import yaml

_MOST_HOPS = 16
"""References that lead to references: no document needs more in a row."""


class Unusable(Exception):
    """The document, or a part of it, cannot be used. ``str(error)`` says why without quoting the document."""


class _Loader(yaml.CSafeLoader):
    """YAML as JSON has it: ``no`` and dates are texts (OpenAPI 3.1 section 4.2 asks for YAML 1.2's JSON schema)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if not tag.endswith((":bool", ":timestamp"))]
    for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def parse(data: bytes) -> dict[str, Any]:
    """Return the document. Raises ``Unusable``."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        found = _yaml(data)
    if not isinstance(found, dict):
        raise Unusable("it is no OpenAPI document: not an object")
    version = str(found.get("openapi", ""))
    if "swagger" in found:
        raise Unusable("it is Swagger 2.0; convert it to OpenAPI 3 first (for example with swagger2openapi)")
    if not version.startswith(("3.0", "3.1", "3.2")):
        raise Unusable("it is no OpenAPI document of version 3.0 or 3.1: it has no such 'openapi'")
    if not isinstance(found.get("paths", {}), dict):
        raise Unusable("its 'paths' are no object")
    return found


def _yaml(data: bytes) -> Any:
    try:
        return yaml.load(data, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise Unusable(f"it is neither JSON nor YAML{where}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Unusable("it is neither JSON nor YAML") from None


def resolved(document: dict[str, Any], part: Any) -> dict[str, Any]:
    """Return the object that ``part`` is, or refers to within the document. Raises ``Unusable``."""
    for _ in range(_MOST_HOPS):
        if not isinstance(part, dict):
            raise Unusable("it has something else where an object must be")
        reference = part.get("$ref")
        if not isinstance(reference, str):
            return part
        part = lookup(document, reference)
    raise Unusable("it has references that lead in a circle")


def lookup(document: dict[str, Any], reference: str) -> Any:
    """Return what a JSON pointer within the document means (RFC 6901). Raises ``Unusable``, for other documents too:
    what a stranger's document names is not fetched."""
    if not reference.startswith("#"):
        raise Unusable("it refers to another document, which is not fetched: bundle them into one")
    found: Any = document
    for word in unquote(reference[1:]).split("/")[1:]:
        word = word.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and word.isdecimal() and int(word) < len(found):
            found = found[int(word)]
        elif isinstance(found, dict) and word in found:
            found = found[word]
        else:
            raise Unusable(f"its reference {reference[:120]!r} leads nowhere")
    return found
