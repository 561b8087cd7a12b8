"""Values as paths, queries, headers, cookies and forms have them (OpenAPI 3.1 section 4.8.12, "Style Values"). Pure.

Values are JSON and stay as the client wrote them: a number is never read, so none loses digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import msgspec
from msgspec import Raw

from worker.openapi.operations import Parameter

_list = msgspec.json.Decoder(list[Raw])
_object = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)
_SEPARATORS = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}
_PREFIX = {"label": ".", "matrix": ";"}


class WrongArgument(Exception):
    """An argument cannot be written into the request. ``str(error)`` is for the model."""


def scalar(raw: Raw | bytes) -> str:
    """Return a value as text: a text is what it is, anything else is its JSON."""
    data = bytes(raw)
    return _text.decode(data) if data[:1] == b'"' else data.decode()


def items(raw: Raw | bytes) -> list[Raw] | dict[str, Raw] | None:
    """Return the items of a list, the members of an object, or ``None`` for any other value."""
    first = bytes(raw)[:1]
    return _list.decode(raw) if first == b"[" else _object.decode(raw) if first == b"{" else None


def is_null(raw: Raw | bytes) -> bool:
    """Whether a value is null."""
    return bytes(raw) == b"null"


def encoded(text: str) -> str:
    """Return a text percent-encoded (RFC 3986 section 2.1)."""
    return quote(text, safe="")


def in_path(parameter: Parameter, raw: Raw) -> str:
    """Return what stands in the path for the parameter. Raises ``WrongArgument``."""
    found = items(raw)
    name, prefix = encoded(parameter.name), _PREFIX.get(parameter.style, "")
    if parameter.is_json:
        return encoded(bytes(raw).decode())
    if found is None:
        value = encoded(scalar(raw))
        return f";{name}={value}" if parameter.style == "matrix" else prefix + value
    if isinstance(found, dict):
        pairs = [(encoded(key), encoded(scalar(one))) for key, one in found.items()]
        words = [f"{key}={one}" for key, one in pairs] if parameter.explode else [one for pair in pairs for one in pair]
    else:
        words = [encoded(scalar(one)) for one in found]
    if parameter.style == "matrix":
        if parameter.explode:
            return "".join(f";{word}" if isinstance(found, dict) else f";{name}={word}" for word in words)
        return f";{name}={','.join(words)}"
    return prefix + (prefix if prefix and parameter.explode else ",").join(words)


def in_query(parameter: Parameter, raw: Raw) -> Iterator[str]:
    """Yield the members of a query, or of a form, that the parameter makes."""
    found = None if parameter.is_json else items(raw)
    name = encoded(parameter.name)
    if found is None:
        yield f"{name}={encoded(bytes(raw).decode() if parameter.is_json else scalar(raw))}"
    elif isinstance(found, dict):
        if parameter.style == "deepObject":
            yield from _deep(parameter.name, found)
        elif parameter.explode:
            yield from (f"{encoded(key)}={encoded(scalar(one))}" for key, one in found.items())
        else:
            yield f"{name}={','.join(encoded(word) for key, one in found.items() for word in (key, scalar(one)))}"
    elif parameter.explode or parameter.style == "deepObject":
        yield from (f"{name}={encoded(scalar(one))}" for one in found)
    else:
        separator = _SEPARATORS.get(parameter.style, ",")
        yield f"{name}={separator.join(encoded(scalar(one)) for one in found)}"


def _deep(name: str, members: dict[str, Raw]) -> Iterator[str]:
    """Yield ``name[key]=value``, or what APIs mean by it where it is deeper: ``name[key][inner]``, ``name[key][]``."""
    for key, raw in members.items():
        inner, path = items(raw), f"{name}[{key}]"
        if isinstance(inner, dict):
            yield from _deep(path, inner)
        elif inner is not None:
            yield from (f"{encoded(path + '[]')}={encoded(scalar(one))}" for one in inner)
        else:
            yield f"{encoded(path)}={encoded(scalar(raw))}"


def in_header(parameter: Parameter, raw: Raw) -> str:
    """Return the value of a header. Raises ``WrongArgument`` for one that would begin another header."""
    found = None if parameter.is_json else items(raw)
    if found is None:
        text = bytes(raw).decode() if parameter.is_json else scalar(raw)
    elif isinstance(found, dict):
        pairs = [(key, scalar(one)) for key, one in found.items()]
        text = ",".join("=".join(pair) if parameter.explode else ",".join(pair) for pair in pairs)
    else:
        text = ",".join(scalar(one) for one in found)
    if any((one < " " and one != "\t") or one == "\x7f" for one in text):
        raise WrongArgument(f"{parameter.argument!r} becomes a header, which cannot have line breaks or controls in it")
    return text
