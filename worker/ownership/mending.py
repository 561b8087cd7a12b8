"""What upstreams list, made readable for the strictest clients: flaws are mended where that is safe.

One entry that an SDK cannot parse fails the client's whole list, so each entry is checked alone, and left out
if it cannot be mended. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson
from msgspec import Raw, Struct

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.listings import KINDS, Kind
from shared.mcp.text import is_hidden, without_lone_surrogates

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")
_TEXTS = ("title", "description", "mimeType")
_OBJECTS = ("annotations", "_meta", "execution", "outputSchema")
_OBJECT = Raw(b'{"type":"object"}')
_MAX_NAME = 2048
"""The longest name or URI of an entry, in characters."""
_ROLES = {"user", "assistant"}
_WEB = re.compile(r"(?:https?|wss?|ftp):", re.IGNORECASE)
_NO_HOST = re.compile(r"[\s<>\\^`{|}\"%]")
_MAX_EXACT = 2**53
_TASK_SUPPORT = ("forbidden", "optional", "required")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")
_HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


class Mended(Struct, frozen=True):
    """Entries as they may be listed. ``flaws`` say what was left out or mended, one sentence each."""

    entries: list[Raw]
    flaws: list[str]


def mend(kind: Kind, given: list[Raw]) -> Mended:
    """Return the usable entries among ``given``, in their order; bytes of an entry without a flaw stay as they are."""
    entries: list[Raw] = []
    flaws: list[str] = []
    for number, raw in enumerate(given):
        entry = _Entry(kind, raw)
        try:
            entry.check()
        except _Unusable as why:
            flaws.append(f"{entry.shown(number)} is not listed: {why}")
            continue
        except (ValueError, TypeError, RecursionError, Refused) as error:
            flaws.append(f"{entry.shown(number)} is not listed: it cannot be read ({error})")
            continue
        if entry.flaws:
            flaws.append(f"{entry.shown(number)} was mended: {', '.join(entry.flaws)}")
        entries.append(entry.raw)
    return Mended(entries, flaws)


class _Unusable(Exception):
    """Why an entry is left out."""


class _Entry:
    """One entry that is being checked. ``plain`` is its content, ``raw`` its JSON."""

    def __init__(self, kind: Kind, raw: Raw) -> None:
        self.kind = kind
        self.raw = raw
        self.plain: dict[str, Any] = {}
        self.flaws: list[str] = []
        self._changed: dict[str, Raw | None] = {}

    def shown(self, number: int) -> str:
        """Return how the entry is named in a sentence."""
        word = self.kind.value.rstrip("s")
        name = self.plain.get(KINDS[self.kind].key) if self.plain else None
        return f"{word} {name[:64]!r}" if isinstance(name, str) else f"{word} number {number + 1}"

    def check(self) -> None:
        """Find the flaws and mend them. Raises ``_Unusable``, or ``ValueError`` for what is no JSON object."""
        text = bytes(self.raw)
        legible = without_lone_surrogates(text)
        if legible is not text:
            self.raw = Raw(legible)
            self.flaws.append("half of a character was replaced")
        plain = orjson.loads(bytes(self.raw))
        if not isinstance(plain, dict):
            raise _Unusable("it is no object")
        self.plain = plain
        key = KINDS[self.kind].key
        if not isinstance(plain.get(key), str) or not plain[key]:
            raise _Unusable(f"it has no {key}")
        name = plain[key]
        if len(name) > _MAX_NAME or name != name.strip() or any(map(is_hidden, name)):
            raise _Unusable(f"its {key} is too long, or has characters or spaces in it that are not seen")
        self._members()
        {Kind.TOOLS: self._tool, Kind.PROMPTS: self._prompt}.get(self.kind, self._resource)()
        if self._changed:
            parts = jsonrpc.members(self.raw)
            for name, value in self._changed.items():
                if value is None:
                    parts.pop(name, None)
                else:
                    parts[name] = value
            self.raw = Raw(jsonrpc.assemble(parts))

    # ---- mending

    def _drop(self, name: str, why: str) -> None:
        self._changed[name] = None
        self.flaws.append(f"{name} {why}")

    def _put(self, name: str, value: Any, why: str) -> None:
        self._changed[name] = value if isinstance(value, Raw) else Raw(msgspec.json.encode(value))
        self.flaws.append(f"{name} {why}")

    def _members(self) -> None:
        """Mend what all kinds have: null is absent, and what has the wrong type is left out."""
        for name, value in self.plain.items():
            if name in ("inputSchema", "arguments", KINDS[self.kind].key):
                continue
            if value is None:
                self._drop(name, "was null")
            elif name in _TEXTS and not isinstance(value, str):
                self._drop(name, "was no text")
            elif name in _OBJECTS and not isinstance(value, dict):
                self._drop(name, "was no object")
            elif name == "icons":
                self._icons(value)
            elif name == "annotations":
                self._annotations(value)

    def _icons(self, given: Any) -> None:
        if not _all(given, lambda one: isinstance(one.get("src"), str)):
            self._drop("icons", "was no list of icons")
            return
        kept = [{name: value for name, value in map(_of_icon, one.items()) if value is not None} for one in given]
        if kept != given:
            self._put("icons", kept, "had wrong members")

    def _annotations(self, given: dict[str, Any]) -> None:
        wrong = [name for name, value in given.items() if value is None]
        wrong += [name for name in _HINTS if given.get(name) is not None and not isinstance(given[name], bool)]
        if given.get("title") is not None and not isinstance(given["title"], str):
            wrong.append("title")
        priority = given.get("priority")
        if priority is not None and not (_is_number(priority) and 0 <= priority <= 1):
            wrong.append("priority")
        if given.get("lastModified") is not None and not _is_moment(given["lastModified"]):
            wrong.append("lastModified")
        audience = given.get("audience")
        if audience is not None and not (isinstance(audience, list) and set(map(str, audience)) <= _ROLES):
            wrong.append("audience")
        if wrong:
            kept = {name: value for name, value in given.items() if name not in wrong}
            self._put("annotations", kept, f"had a wrong {', '.join(wrong)}")

    def _tool(self) -> None:
        self._output_schema()
        execution = self.plain.get("execution")
        if isinstance(execution, dict) and execution.get("taskSupport", _TASK_SUPPORT[0]) not in _TASK_SUPPORT:
            kept = {name: value for name, value in execution.items() if name != "taskSupport"}
            self._put("execution", kept, "had a wrong taskSupport")
        schema = self._input_schema()
        if schema is None or schema is True or schema == [] or schema == {}:
            self._put("inputSchema", _OBJECT, "was no object schema")
            return
        if not isinstance(schema, dict):
            raise _Unusable("its inputSchema is no object")
        parts = jsonrpc.members(self._changed.get("inputSchema") or jsonrpc.members(self.raw)["inputSchema"])
        kind = schema.get("type")
        if kind is not None and kind != "object" and not (isinstance(kind, list) and "object" in kind):
            raise _Unusable(f"its inputSchema is of type {str(kind)[:64]}, and arguments are an object")
        found = _mend_schema(schema, parts)
        if found is None:
            raise _Unusable("its inputSchema has properties that are no object")
        if kind != "object":
            parts = {"type": Raw(b'"object"'), **{name: value for name, value in parts.items() if name != "type"}}
            found.append("no type object")
        if found:
            self._put("inputSchema", Raw(jsonrpc.assemble(parts)), f"had {', '.join(found)}")

    def _input_schema(self) -> Any:
        """Return the schema of the arguments, which some servers have under the names of models' own interfaces, or as
        a text."""
        schema = self.plain.get("inputSchema")
        for name in ("input_schema", "parameters"):
            if schema is None and isinstance(self.plain.get(name), dict):
                schema = self.plain[name]
                self._put("inputSchema", jsonrpc.members(self.raw)[name], f"was called {name}")
        if isinstance(schema, str) and schema.lstrip().startswith("{"):
            schema = orjson.loads(schema)
            self._put("inputSchema", schema, "was a text")
        return schema

    def _output_schema(self) -> None:
        """Mend the schema of results. Front ends show one of another type than object to modern clients alone."""
        schema = self.plain.get("outputSchema")
        if not isinstance(schema, dict):
            return
        parts = jsonrpc.members(jsonrpc.members(self.raw)["outputSchema"])
        found = _mend_schema(schema, parts)
        if found is None:
            self._drop("outputSchema", "had properties that are no object")
        elif found:
            self._put("outputSchema", Raw(jsonrpc.assemble(parts)), f"had {', '.join(found)}")

    def _prompt(self) -> None:
        if "arguments" not in self.plain:
            return
        given = self.plain["arguments"]
        if not isinstance(given, list):
            self._drop("arguments", "was no list")
            return
        kept = [_argument(one) for one in given if isinstance(one, dict) and isinstance(one.get("name"), str)]
        if kept != given:
            self._put("arguments", kept, "had wrong members")

    def _resource(self) -> None:
        key = KINDS[self.kind].key
        address = self.plain[key]
        if not _SCHEME.match(address) and not (self.kind is Kind.TEMPLATES and address.startswith("{")):
            raise _Unusable(f"its {key} {address[:64]!r} has no scheme")
        if self.kind is Kind.RESOURCES and not _names_a_host(address):
            raise _Unusable(f"its {key} {address[:64]!r} names no host that there can be")
        if not isinstance(self.plain.get("name"), str):
            self._put("name", address, "was missing")
        size = self.plain.get("size")
        if size is not None and not (_is_number(size) and abs(size) <= _MAX_EXACT and size == int(size)):
            self._drop("size", "was no number of bytes")


def _mend_schema(schema: dict[str, Any], parts: dict[str, Raw]) -> list[str] | None:
    """Mend the members of a JSON schema that clients read, in ``parts``, and return what was wrong with it, or ``None``
    if it cannot be mended."""
    found: list[str] = []
    for name in [name for name, value in schema.items() if value is None]:
        del parts[name]
        found.append(f"a null {name}")
    properties = schema.get("properties")
    if properties is not None:
        if not isinstance(properties, dict):
            if properties:
                return None
            parts["properties"] = Raw(b"{}")
            found.append("properties that were no object")
        elif not all(isinstance(one, dict) for one in properties.values()):
            inner = jsonrpc.members(parts["properties"])
            for name, value in properties.items():
                if not isinstance(value, dict):
                    inner[name] = Raw(b'{"not":{}}' if value is False else b"{}")
            parts["properties"] = Raw(jsonrpc.assemble(inner))
            found.append("properties without a schema")
    required = schema.get("required")
    if required is not None and not (isinstance(required, list) and all(isinstance(one, str) for one in required)):
        del parts["required"]
        found.append("a wrong required")
    return found


def _names_a_host(uri: str) -> bool:
    """Whether a URI of the web has a host and a port that clients can read. Others need none."""
    if not _WEB.match(uri):
        return True
    try:
        parts = urlsplit(uri)
        return (
            bool(parts.hostname)
            and not _NO_HOST.search(parts.hostname or "")
            and (parts.port is None or parts.port >= 0)
        )
    except ValueError:
        return False


def _is_moment(value: Any) -> bool:
    """Whether a value is a date with a time and an offset (RFC 3339), as some SDKs demand."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_icon(member: tuple[str, Any]) -> tuple[str, Any]:
    """Return a member of an icon, with ``None`` in place of a value that it cannot have. One size may be a text, as
    drafts had it."""
    name, value = member
    if name == "sizes":
        sizes = [value] if isinstance(value, str) else value
        return name, sizes if isinstance(sizes, list) and all(isinstance(one, str) for one in sizes) else None
    if name == "theme":
        return name, value if value in ("light", "dark") else None
    return name, value if name != "mimeType" or isinstance(value, str) else None


def _argument(given: dict[str, Any]) -> dict[str, Any]:
    """Return a prompt's argument without members that are null or of the wrong type."""
    types = {"title": str, "description": str, "required": bool}
    return {
        name: value for name, value in given.items() if value is not None and isinstance(value, types.get(name, object))
    }


def _all(value: Any, check: Callable[[dict[str, Any]], bool]) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and check(one) for one in value)
