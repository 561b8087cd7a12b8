"""The operations of an OpenAPI document as tools. Pure.

The document's operations are checked by ``openapi-pydantic``, each by itself, so a flaw costs the operation that has
it. Schemas are not checked: what is odd in one is the model's to see, and the API's to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import msgspec
import openapi_pydantic.v3.v3_0 as v3_0
import openapi_pydantic.v3.v3_1 as v3_1
from msgspec import Raw
from pydantic import ValidationError

from worker.openapi import schemas
from worker.openapi.documents import Unusable, resolved
from worker.openapi.operations import Api, Asked, Body, Operation, Parameter

METHODS = ("get", "put", "post", "delete", "patch")
_SAFE, _IDEMPOTENT = frozenset(("get",)), frozenset(("get", "put", "delete"))  # RFC 9110 section 9.2
_NEVER_ARGUMENTS = frozenset(
    ("accept", "authorization", "connection", "content-length", "content-type", "cookie", "expect", "host",
     "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
"""Headers that no argument sets: the specification says so of three (OpenAPI 3.1 section 4.8.12), HTTP of others."""
_MEDIA = ("application/json", "+json", "application/x-www-form-urlencoded", "multipart/form-data", "text/", "")
"""Media types of bodies by how well a model can write them. The last one stands for all others."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MEDIA_TYPE = re.compile(r"[\x21-\x7e]+(?:[ \t]*;[ \t]*[\x20-\x7e]*)?")
"""Names of headers and cookies (RFC 9110 section 5.1, RFC 6265 section 4.1.1), and what a media type is written with.
Anything else would end its header, and begin others next to the entry's own."""
_LONGEST_NAME, _LONGEST_TEXT, _LONGEST_INSTRUCTIONS = 64, 8192, 4096
_MOST_FLAWS = 50
_STYLES = {"query": "form", "cookie": "form", "path": "simple", "header": "simple"}


def read_api(document: dict[str, Any], asked: Asked) -> Api:
    """Return the tools of a document. Operations that cannot be called are left out, with the reason.

    In some documents every schema leads to every other. If all tools would be too large together, schemas become
    smaller, so that no tool is lost.
    """
    for most_parts in schemas.MOST_PARTS:
        reader = _Reader(document, asked, most_parts)
        for path, item in document.get("paths", {}).items():
            reader.add_path(str(path), item)
        if reader.size <= asked.most_bytes:
            break
    info = document.get("info")
    said = [info.get(key) for key in ("title", "description")] if isinstance(info, dict) else []
    flaws = reader.flaws
    if len(flaws) > _MOST_FLAWS:
        flaws = [*flaws[:_MOST_FLAWS], f"and {len(flaws) - _MOST_FLAWS} more like these"]
    instructions = "\n\n".join(one for one in said if isinstance(one, str))[:_LONGEST_INSTRUCTIONS]
    return Api(instructions, tuple(reader.tools), reader.operations, tuple(flaws))


class _Reader:
    def __init__(self, document: dict[str, Any], asked: Asked, most_parts: int) -> None:
        self._document = document
        self._asked = asked
        self._most_parts = most_parts
        self.size = 0  # of all tools, in bytes; beyond what they may have no more are read
        self._is_30 = str(document.get("openapi")).startswith("3.0")
        self._models: Any = v3_0 if self._is_30 else v3_1
        self.tools: list[Raw] = []
        self.operations: dict[str, Operation] = {}
        self.flaws: list[str] = []

    def add_path(self, path: str, item: Any) -> None:
        try:
            item = resolved(self._document, item)
        except Unusable as error:
            self.flaws.append(f"{path}: {error}")
            return
        for method in METHODS:
            if self.size > self._asked.most_bytes:
                return
            if method not in item or not chosen(f"{method.upper()} {path}", self._asked.operations):
                continue
            try:
                self._add(path, method, item)
            except (Unusable, ValidationError) as error:
                why = str(error) if isinstance(error, Unusable) else _first(error)
                self.flaws.append(f"{method.upper()} {path} is left out: {why}")

    def _add(self, path: str, method: str, item: dict[str, Any]) -> None:
        raw = resolved(self._document, item[method])
        prefix = self._prefix(raw.get("servers") or item.get("servers"))
        every = [resolved(self._document, one) for one in [*_listed(item), *_listed(raw)]]
        named = {(str(one.get("name")), str(one.get("in"))): one for one in every}  # an operation's own ones win
        body = resolved(self._document, raw["requestBody"]) if raw.get("requestBody") else None
        checked = self._checked(raw, list(named.values()), body)
        schema = schemas.ToolSchema(self._document, self._is_30, self._most_parts)
        properties: dict[str, Any] = {}
        parameters = []
        for parameter, source in zip(checked.parameters or (), named.values(), strict=True):
            one = self._parameter(parameter, source, properties, schema)
            if one is not None:
                parameters.append(one)
        taken_body = None if body is None else self._body(checked.requestBody, body, properties, schema)
        operation = Operation(
            method.upper(), (prefix or "") + path, tuple(parameters), taken_body, from_root=prefix is not None
        )
        self._check_path(operation)
        self._put(operation, checked, method, path, properties, schema)

    def _checked(self, raw: dict[str, Any], parameters: list[dict[str, Any]], body: dict[str, Any] | None) -> Any:
        """Return the library's model of an operation without schemas, answers and callbacks. Raises
        ``ValidationError``."""
        texts: dict[str, Any] = {
            key: raw[key] for key in ("summary", "description", "operationId", "deprecated") if key in raw
        }
        given: dict[str, Any] = {**texts, "parameters": [_without_schema(one) for one in parameters], "responses": {}}
        if body is not None:
            content = body.get("content")
            media: dict[Any, Any] = {one: {} for one in content} if isinstance(content, dict) else {}
            given["requestBody"] = {**body, "content": media}
        return self._models.Operation.model_validate(given)

    def _put(
        self,
        operation: Operation,
        checked: Any,
        method: str,
        path: str,
        properties: dict[str, Any],
        schema: schemas.ToolSchema,
    ) -> None:
        required = [one.argument for one in operation.parameters if one.required]
        if operation.body is not None and operation.body.required:
            required.append(operation.body.argument)
        input_schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            input_schema["required"] = required
        definitions = schema.definitions()
        if definitions:
            input_schema["$defs"] = definitions
        name = self._free(checked.operationId or f"{method}_{path}")
        if schema.cut:
            self.flaws.append(f"{name}: its schema is too large, and says less than the document")
        texts = [*(("Deprecated.",) if checked.deprecated else ()), checked.summary, checked.description]
        description = "\n\n".join(dict.fromkeys(one.strip() for one in texts if one)) or f"{method.upper()} {path}"
        tool: dict[str, Any] = {"name": name, "description": description[:_LONGEST_TEXT], "inputSchema": input_schema}
        if checked.summary:
            tool["title"] = checked.summary[:200]
        tool["annotations"] = {
            "readOnlyHint": method in _SAFE,
            "destructiveHint": method not in _SAFE,
            "idempotentHint": method in _IDEMPOTENT,
            "openWorldHint": True,
        }
        self.tools.append(Raw(msgspec.json.encode(tool)))
        self.size += len(self.tools[-1])
        self.operations[name] = operation

    def _free(self, wanted: str) -> str:
        """Return a name that clients can read and no other tool has."""
        name = re.sub(r"[^A-Za-z0-9-]+", "_", wanted).strip("_")[:_LONGEST_NAME] or "operation"
        found, number = name, 1
        while found in self.operations:
            number += 1
            found = f"{name[: _LONGEST_NAME - 5]}_{number}"
        return found

    def _prefix(self, servers: Any) -> str | None:
        """Return the path of an operation's own server, or ``None`` if it has none. Raises ``Unusable`` where that is
        another origin: what the entry has for the API must not go there."""
        if not servers or not isinstance(servers, list) or not isinstance(servers[0], dict):
            return None
        parts = urlsplit(str(servers[0].get("url", "")))
        if parts.scheme and f"{parts.scheme}://{parts.netloc}".lower() == self._asked.origin and "{" not in parts.path:
            return parts.path.rstrip("/")
        raise Unusable("it has a server of its own; give it an entry with that 'url'")

    def _parameter(
        self, checked: Any, source: dict[str, Any], properties: dict[str, Any], schema: schemas.ToolSchema
    ) -> Parameter | None:
        """Return a parameter and note its schema, or ``None`` if no argument sets it."""
        where, name = checked.param_in.value, checked.name
        lower = name.lower()
        if where == "header" and (lower in _NEVER_ARGUMENTS or lower.startswith(("mcp-", "proxy-"))):
            return None
        if (where == "header" and lower in self._asked.taken) or (where == "cookie" and "cookie" in self._asked.taken):
            return None
        if where == "query" and name in self._asked.taken_query:
            return None
        if where in ("header", "cookie") and not _TOKEN.fullmatch(name):
            raise Unusable(f"{name[:60]!r} is no name of a {where}")
        style = checked.style or _STYLES[where]
        content = source.get("content")
        described = source.get("schema")
        if isinstance(content, dict) and content:
            media = next(iter(content.values()))
            described = media.get("schema") if isinstance(media, dict) else None
        shown = schema.of(described if described is not None else {})
        shown = shown if isinstance(shown, dict) else {}
        if checked.description:
            shown = {**shown, "description": checked.description[:_LONGEST_TEXT]}
        argument = _argument(name, where, properties)
        properties[argument] = shown
        explode = checked.explode if checked.explode is not None else style == "form"
        is_json = isinstance(content, dict) and bool(content)
        return Parameter(argument, name, where, style, explode, checked.required or where == "path", is_json)

    def _body(self, checked: Any, raw: dict[str, Any], properties: dict[str, Any], schema: schemas.ToolSchema) -> Body:
        """Return the body and note its schema."""
        content = {str(media): one for media, one in (raw.get("content") or {}).items()}
        if not content:
            raise Unusable("its request body has no media type")
        media = min(content, key=_rank)
        if not _MEDIA_TYPE.fullmatch(media):
            raise Unusable(f"{media[:60]!r} is no media type")
        given = content[media] if isinstance(content[media], dict) else {}
        described = given.get("schema") or {}
        shown = schema.of(described)
        shown = shown if isinstance(shown, dict) else {}
        binary = self._binary(media, described)
        if binary == ("*",):
            shown = {"type": "string", "contentEncoding": "base64"}
        texts = [checked.description, "Base64." if binary == ("*",) else ""]
        if binary and binary != ("*",):
            texts.append(f"In Base64: {', '.join(binary)}.")
        description = " ".join(one for one in texts if one)
        if description:
            shown = {**shown, "description": description[:_LONGEST_TEXT]}
        argument = _argument("body", "request", properties)
        properties[argument] = shown
        plain = media if "*" not in media else "application/octet-stream"
        return Body(argument, plain, bool(checked.required), binary)

    def _binary(self, media: str, described: Any) -> tuple[str, ...]:
        """Return the members of a form that are bytes; ``*`` if the whole body is."""
        kind = media.partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            try:
                properties = resolved(self._document, described).get("properties")
                found = {str(name): resolved(self._document, one) for name, one in (properties or {}).items()}
            except (Unusable, AttributeError):
                return ()
            return tuple(name for name, one in found.items() if _is_bytes(one) or _is_bytes(one.get("items")))
        return ("*",) if _rank(kind) == len(_MEDIA) - 1 and not kind.endswith(("xml", "yaml")) else ()

    def _check_path(self, operation: Operation) -> None:
        named = {one.name for one in operation.parameters if one.where == "path"}
        missing = [one for one in re.findall(r"\{([^{}]*)\}", operation.path) if one not in named]
        if missing:
            raise Unusable(f"its path names {missing[0][:60]!r}, which is no parameter")
        if not operation.path.startswith("/") or re.search(r"[^\x21-\x7e]|[?#]", operation.path):
            raise Unusable("its path is none that can be asked for")


def chosen(operation: str, patterns: Sequence[str]) -> bool:
    """Whether patterns of an entry choose ``METHOD /path``. ``!`` leaves out; exclusions alone keep the rest."""
    wanted = [one for one in patterns if not one.startswith("!")]
    hidden = [one[1:] for one in patterns if one.startswith("!")]
    return (not wanted or _any(operation, wanted)) and not _any(operation, hidden)


def _any(operation: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(operation, one.replace("[", "[[]").replace("?", "[?]")) for one in patterns)


def _listed(item: dict[str, Any]) -> list[Any]:
    found = item.get("parameters")
    return found if isinstance(found, list) else []


def _without_schema(parameter: dict[str, Any]) -> dict[str, Any]:
    known = ("name", "in", "description", "required", "deprecated", "style", "explode", "allowReserved")
    return {**{key: parameter[key] for key in known if key in parameter}, "schema": {}}


def _argument(name: str, where: str, taken: dict[str, Any]) -> str:
    """Return the name of an argument: letters, digits, ``_``, ``.`` and ``-``, which every model's API takes."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")[:_LONGEST_NAME] or where
    found, number = plain, 1
    while found in taken:
        found = f"{where}_{plain}"[:_LONGEST_NAME] if number == 1 else f"{plain[: _LONGEST_NAME - 5]}_{number}"
        number += 1
    return found


def _rank(media: str) -> int:
    kind = media.partition(";")[0].strip().lower()
    return next(place for place, one in enumerate(_MEDIA) if one in kind)


def _is_bytes(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    return schema.get("format") == "binary" or schema.get("contentMediaType") == "application/octet-stream"


def _first(error: ValidationError) -> str:
    """Return what is wrong first, without the value that is."""
    one = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, one['loc']))}: {one['msg']}"[:200]
