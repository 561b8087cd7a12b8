"""A tool's arguments as the HTTP request that its operation describes. Pure."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping

from msgspec import Raw, Struct

from worker.openapi.operations import Body, Operation, Parameter
from worker.openapi.serialization import (
    WrongArgument,
    encoded,
    in_header,
    in_path,
    in_query,
    is_null,
    items,
    scalar,
)

_IN_BRACES = re.compile(r"\{([^{}]*)\}")
_FORM = "application/x-www-form-urlencoded"
_UNSAFE_NAME = re.compile(r'[\r\n"]')


class HttpRequest(Struct, frozen=True):
    """``target`` starts with a slash and is below the API's own URL. ``headers`` are those of the operation alone."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def make_request(operation: Operation, arguments: Mapping[str, Raw]) -> HttpRequest:
    """Return the request. Raises ``WrongArgument`` that says to the model what to change."""
    given = {name: raw for name, raw in arguments.items() if not is_null(raw) or _is_body(operation, name)}
    _check(operation, given)
    headers: dict[str, str] = {"Accept": "application/json, */*;q=0.8"}
    query: list[str] = []
    cookies: list[str] = []
    in_braces: dict[str, str] = {}
    for one in operation.parameters:
        raw = given.get(one.argument)
        if raw is None:
            continue
        if one.where == "path":
            in_braces[one.name] = in_path(one, raw)
        elif one.where == "query":
            query += in_query(one, raw)
        elif one.where == "header":
            headers[one.name] = in_header(one, raw)
        else:
            cookies.append(f"{one.name}={encoded(in_header(one, raw))}")
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    body = b""
    if operation.body is not None and operation.body.argument in given:
        body = _body(operation.body, given[operation.body.argument], headers)
    target = _path(operation, in_braces)
    return HttpRequest(operation.method, f"{target}?{'&'.join(query)}" if query else target, headers, body)


def _is_body(operation: Operation, name: str) -> bool:
    return operation.body is not None and operation.body.argument == name


def _check(operation: Operation, given: Mapping[str, Raw]) -> None:
    known = {one.argument: one.required for one in operation.parameters}
    if operation.body is not None:
        known[operation.body.argument] = operation.body.required
    unknown = [name for name in given if name not in known]
    missing = [name for name, required in known.items() if required and name not in given]
    if unknown:
        raise WrongArgument(f"unknown argument {unknown[0][:100]!r}; known: {', '.join(known) or 'none'}")
    if missing:
        raise WrongArgument(f"missing {'arguments' if len(missing) > 1 else 'argument'} {', '.join(missing)}")


def _path(operation: Operation, in_braces: Mapping[str, str]) -> str:
    """Return the path. No value can lead to another operation: an empty one and dots are refused, as servers resolve
    ``..`` even if it is encoded."""
    made = []
    for segment in operation.path.split("/"):
        filled = _IN_BRACES.sub(lambda found: in_braces.get(found[1], ""), segment)
        if filled != segment and filled in ("", ".", ".."):
            named = ", ".join(_IN_BRACES.findall(segment))
            raise WrongArgument(f"{named!r} stands in the path, and cannot be empty or dots alone")
        made.append(filled)
    return "/".join(made)


def _body(body: Body, raw: Raw, headers: dict[str, str]) -> bytes:
    """Return the bytes of a body, and note its type. Raises ``WrongArgument``."""
    media = body.media
    headers["Content-Type"] = media
    if media == _FORM:
        return "&".join(_form_members(body, raw)).encode()
    if media == "multipart/form-data":
        boundary = secrets.token_hex(16)
        headers["Content-Type"] = f"{media}; boundary={boundary}"
        return _multipart(body, raw, boundary)
    if "*" in body.binary:
        return _decoded(body.argument, raw)
    if media.partition(";")[0].endswith(("json", "json-seq")) or not bytes(raw).startswith(b'"'):
        return bytes(raw)
    return scalar(raw).encode()


def _members(body: Body, raw: Raw) -> dict[str, Raw]:
    found = items(raw)
    if not isinstance(found, dict):
        raise WrongArgument(f"{body.argument!r} must be an object: the API takes a form")
    return {name: one for name, one in found.items() if not is_null(one)}


def _form_members(body: Body, raw: Raw) -> list[str]:
    members: list[str] = []
    for name, one in _members(body, raw).items():
        style = "deepObject" if bytes(one)[:1] == b"{" else "form"
        members += in_query(Parameter(name, name, "query", style, True), one)
    return members


def _multipart(body: Body, raw: Raw, boundary: str) -> bytes:
    """Return a form in parts (RFC 7578). Members that are files are given in Base64."""
    parts: list[bytes] = []
    for name, given in _members(body, raw).items():
        found = items(given)
        for one in found if isinstance(found, list) else [given]:
            shown = _UNSAFE_NAME.sub("_", name)
            if name in body.binary:
                kind, data = f'; filename="{shown}"\r\nContent-Type: application/octet-stream', _decoded(name, one)
            elif isinstance(items(one), dict):
                kind, data = "\r\nContent-Type: application/json", bytes(one)
            else:
                kind, data = "", scalar(one).encode()
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{shown}"{kind}\r\n\r\n'
            parts += [head.encode(), data, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _decoded(name: str, raw: Raw) -> bytes:
    try:
        return base64.b64decode(scalar(raw), validate=True)
    except (binascii.Error, ValueError):
        raise WrongArgument(f"{name!r} must be Base64 (RFC 4648): the API takes bytes there") from None
