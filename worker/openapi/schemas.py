"""Schemas of OpenAPI as JSON Schema 2020-12, which MCP clients read. Pure.

Schemas of 3.1 are that already. Those of 3.0 have words of their own (``nullable``, boolean ``exclusiveMinimum``,
``example``). References become ``$defs`` of the tool, so schemas that refer to themselves stay finite.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from worker.openapi.documents import Unusable, lookup

MOST_PARTS = (2000, 400, 80, 16)
"""The subschemas of one tool, and fewer where all tools together would be too large. Beyond them anything is allowed,
and the API itself says what is wrong."""
_DEEPEST = 48
_INNER = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else",
          "unevaluatedProperties", "unevaluatedItems", "contentSchema")  # fmt: skip
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_NOT_FOR_MODELS = frozenset(
    ("xml", "externalDocs", "discriminator", "example", "examples", "nullable", "readOnly", "writeOnly", "$id",
     "$schema", "$anchor", "$dynamicAnchor", "$dynamicRef", "$defs", "definitions", "$comment")
)  # fmt: skip


class ToolSchema:
    """Collects the schema of one tool. ``is_30``: the document is of OpenAPI 3.0. ``cut`` becomes true if the schema
    has more than ``most`` parts."""

    def __init__(self, document: dict[str, Any], is_30: bool, most: int = MOST_PARTS[0]) -> None:
        self._document = document
        self._is_30 = is_30
        self._names: dict[str, str] = {}  # reference -> name of the definition
        self._waiting: deque[str] = deque()
        self._left = most
        self.cut = False

    def of(self, schema: Any, depth: int = 0) -> Any:
        """Return a schema of the document as JSON Schema. Definitions that it needs are noted."""
        self._left -= 1
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            return {}
        if self._left < 0 or depth > _DEEPEST:
            self.cut = True
            return {}
        if isinstance(schema.get("$ref"), str):
            return self._referred(schema, depth)
        found = {name: value for name, value in schema.items() if self._is_plain(name)}
        found.update({name: self.of(schema[name], depth + 1) for name in _INNER if name in schema})
        for name in _LISTS:
            if isinstance(schema.get(name), list):
                found[name] = [self.of(one, depth + 1) for one in schema[name]]
        for name in _MAPS:
            if isinstance(schema.get(name), dict):
                found[name] = {str(key): self.of(one, depth + 1) for key, one in schema[name].items()}
        self._leave_out_read_only(schema, found)
        return self._from_30(schema, found) if self._is_30 else found

    def _is_plain(self, name: Any) -> bool:
        special = name in _NOT_FOR_MODELS or name in _INNER or name in _LISTS or name in _MAPS
        return isinstance(name, str) and not special and not name.startswith("x-")

    def _referred(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        reference = schema["$ref"]
        name = self._names.get(reference)
        if name is None:
            lookup(self._document, reference)  # which must be there
            last = re.sub(r"[^A-Za-z0-9_.-]", "_", reference.rpartition("/")[2])[:64] or "schema"
            name, number = last, 1
            while name in self._names.values():
                number += 1
                name = f"{last}_{number}"
            self._names[reference] = name
            self._waiting.append(reference)
        beside = {} if self._is_30 else {key: value for key, value in schema.items() if key != "$ref"}
        return {"$ref": f"#/$defs/{name}", **(self.of(beside, depth + 1) if beside else {})}

    def _leave_out_read_only(self, schema: dict[str, Any], found: dict[str, Any]) -> None:
        """Leave out properties that only the API sets (OpenAPI 3.0.4 section 4.7.24, ``readOnly``)."""
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return
        gone = {key for key, one in properties.items() if isinstance(one, dict) and one.get("readOnly") is True}
        for key in gone:
            found["properties"].pop(str(key), None)
        if gone and isinstance(schema.get("required"), list):
            found["required"] = [one for one in schema["required"] if one not in gone]

    def _from_30(self, schema: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if found.get(bound) is True and limit in found:
                found[bound] = found.pop(limit)
            elif isinstance(found.get(bound), bool):
                del found[bound]
        if schema.get("nullable") is not True:
            return found
        if isinstance(found.get("enum"), list) and None not in found["enum"]:
            found["enum"] = [*found["enum"], None]
        if isinstance(found.get("type"), str):
            found["type"] = [found["type"], "null"]
            return found
        return {"anyOf": [found, {"type": "null"}]} if found else found

    def definitions(self) -> dict[str, Any]:
        """Return the definitions to which the schemas refer, the nearest ones first."""
        found: dict[str, Any] = {}
        while self._waiting:
            reference = self._waiting.popleft()
            try:
                found[self._names[reference]] = self.of(lookup(self._document, reference))
            except Unusable:
                found[self._names[reference]] = {}
        return found
