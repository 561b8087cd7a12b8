"""The JSON-RPC 2.0 envelope, decoded once. The payload stays as the bytes that were sent.

Nothing here parses arguments or results: ``params``, ``result`` and ``error`` are ``msgspec.Raw`` slices, so member
order, unknown members, big integers and floats pass through unchanged. msgspec's ``Raw`` accepts invalid UTF-8, so
bodies are checked first. Deep nesting raises ``RecursionError``, which is caught here.
"""

from __future__ import annotations

import functools
import re
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Raw, Struct

from shared.errors import Refused
from shared.mcp.batch_items import MAX_BATCH, batch_items
from shared.mcp.large_json import WORTHWHILE, ShortenedJson
from shared.mcp.once import check_count, check_inputs, check_members, check_width, spaces
from shared.mcp.rope import Body, Large, Whole
from shared.mcp.text import BOM, without_lone_surrogates

_T = TypeVar("_T")

ABSENT = Raw()
"""The value of a member that was not sent: false, unlike any JSON value."""
_NULL = Raw(b"null")
_NO_MEMBERS = Raw(b"[]")

MAX_ID = 1024
"""The longest request id, in bytes. Ids travel in the head of frames, and with every message of a stream."""
_KEPT_META = 1024
_ZERO = ord("0")
_INTEGER = re.compile(rb"-?(0|[1-9][0-9]*)\Z")


class Meta(Struct, gc=False):
    """The members of ``params._meta`` that a gateway reads (specification 2026-07-28, basic, ``_meta``)."""

    version: Raw = msgspec.field(name="io.modelcontextprotocol/protocolVersion", default=ABSENT)
    capabilities: Raw = msgspec.field(name="io.modelcontextprotocol/clientCapabilities", default=ABSENT)
    client_info: Raw = msgspec.field(name="io.modelcontextprotocol/clientInfo", default=ABSENT)
    progress_token: Raw = msgspec.field(name="progressToken", default=ABSENT)
    log_level: Raw = msgspec.field(name="io.modelcontextprotocol/logLevel", default=ABSENT)
    trace_parent: Raw = msgspec.field(name="traceparent", default=ABSENT)
    trace_state: Raw = msgspec.field(name="tracestate", default=ABSENT)
    baggage: Raw = ABSENT
    extended: bool = msgspec.field(name=" ", default=False)
    """Whether the capabilities may have extensions or tasks among them. Set after decoding, whatever is called so."""


class Params(Struct, gc=False):
    """The members of ``params`` by which a gateway routes. ``meta`` is what it reads of ``_meta``, or ``None``."""

    name: Raw = ABSENT
    uri: Raw = ABSENT
    cursor: Raw = ABSENT
    arguments: Raw = ABSENT
    task: Raw = ABSENT
    request_state: Raw = msgspec.field(name="requestState", default=ABSENT)
    input_responses: Raw = msgspec.field(name="inputResponses", default=ABSENT)
    raw_meta: Raw = msgspec.field(name="_meta", default=ABSENT)
    meta: Meta | None = msgspec.field(name=" ", default=None)  # set after decoding, whatever is called so


class Message(Struct, gc=False):
    """One JSON-RPC message. A request has ``method`` and ``id``, a notification only ``method``."""

    jsonrpc: str = ""
    id: Raw = ABSENT
    method: str = ""
    params: Raw = ABSENT
    result: Raw = ABSENT
    error: Raw = ABSENT

    @property
    def is_request(self) -> bool:
        """Whether the message is a request: it has a method and an id."""
        return bool(self.method) and bool(self.id)


_message = msgspec.json.Decoder(Message)
_params = msgspec.json.Decoder(Params)
_meta = msgspec.json.Decoder(Meta)
_IN_PLACE_OF_VERSIONS = (b'"2.0"', b"", b'"1.0"', b"2", b"2.0", b"null")
"""What is there as the version of JSON-RPC in the answers of some servers."""
_VERSION = _IN_PLACE_OF_VERSIONS[0]
_AROUND_REQUEST = len(b'{"jsonrpc":"2.0","id":,"method":"","params":}')
_AROUND_CALL, _AROUND_META = len(b'{"name":,"arguments":}'), len(b',"_meta":')
"""Bytes around the values of a message that is written without spaces and without other members, in whatever order. A
text of just this length, spaces not counted, has each of these members once: whatever else were in it would make it
longer."""
_object = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode
NO_PARAMS = Params()


class _OnlyMeta(Struct, gc=False):
    value: Raw = msgspec.field(name="_meta", default=ABSENT)


class _OnlyArguments(Struct, gc=False):
    value: Raw = msgspec.field(name="arguments", default=ABSENT)


_only_meta = msgspec.json.Decoder(_OnlyMeta)
_only_arguments = msgspec.json.Decoder(_OnlyArguments)


def check_text(body: Whole) -> None:
    """Raise ``Refused`` (-32700) unless ``body`` is UTF-8 (RFC 8259 section 8.1)."""
    if not body.isascii():
        try:
            bytes(body).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused("parse_error", f"the body is not UTF-8: {error.reason} at byte {error.start}") from error


def _without_texts(decoder: msgspec.json.Decoder[_T], hollow: ShortenedJson) -> _T | None:
    """Return what ``decoder`` reads from ``hollow.text``, or ``None`` if the whole data has to be decoded."""
    if not hollow.text:
        return None
    try:
        return decoder.decode(hollow.text)
    except (msgspec.DecodeError, RecursionError):
        return None  # decoding the whole data says what is wrong, if anything is


def decode(body: Whole) -> Message:
    """Return the message in ``body``. Raises ``Refused``: -32700 if ``body`` is not JSON, -32600 if it is not a
    JSON-RPC message or has a member twice."""
    if len(body) >= WORTHWHILE and type(body) is bytes:
        found = _without_clear_texts(body, 0)
        if found is not None:
            return _whole(*found)
    if not body.isascii():
        check_text(body)
    return _decode_checked(body, once=True)


def decode_request(data: bytes, at: int = 0) -> tuple[Message, Params]:
    """Return what ``decode`` and ``decode_params`` return, for a large message that begins at ``at`` in ``data``."""
    found = _without_clear_texts(data, at)
    if found is None:
        if data.isascii():
            body: Body = memoryview(data)[at:]
        else:
            body = data[at:]
            check_text(body)
        message = _decode_checked(body, once=True)
        return message, params_of(message.params)
    message, hollow = found
    _checked(message)  # first, as in ``decode``: the order decides which error is told
    params = params_of(message.params)  # without the long strings, which were checked already
    hollow.fill(params)
    params.meta = _meta_in(params)
    return _whole(message, hollow), params


def _without_clear_texts(data: bytes, at: int) -> tuple[Message, ShortenedJson] | None:
    hollow = ShortenedJson(data, at, clear=True)
    if not hollow.text.isascii():
        return None
    message = _without_texts(_message, hollow)
    if message is None or hollow.marks(message.method):
        return None
    if not _is_plain_request(message, len(hollow.text)):
        check_members(hollow.text, message.params, message.result, message.error)
    return message, hollow


def _whole(message: Message, hollow: ShortenedJson) -> Message:
    hollow.fill(message)
    return _checked(message)


def decode_answer(body: Whole) -> Message:
    """Return the message in a body that an upstream sent for one client. Raises ``Refused`` like ``decode``.

    The content of long strings is not checked, because only that client reads them.
    """
    check_text(body)
    if len(body) >= WORTHWHILE:
        hollow = ShortenedJson(body)
        message = _without_texts(_message, hollow)
        if message is not None and not hollow.marks(message.method):
            return _whole(message, hollow)
    try:
        return _decode_checked(body)
    except Refused:
        answer = _lenient(body)
        if answer is None:
            raise
        return answer


class _Lenient(Struct, gc=False):
    id: Raw = ABSENT
    jsonrpc: Raw = ABSENT
    method: str | None = None
    params: Raw = ABSENT
    result: Raw = ABSENT
    error: Raw = ABSENT


def _lenient(body: Body) -> Message | None:
    """Return the message in a body, though it says wrongly or not at all which version of JSON-RPC it is in, has
    members that are null because nothing is in them, or an id with a fraction."""
    try:
        found = msgspec.json.decode(bytes(body), type=_Lenient)
    except (msgspec.DecodeError, RecursionError):
        return None
    if bytes(found.jsonrpc) not in _IN_PLACE_OF_VERSIONS:
        return None
    params, error = (ABSENT if one == _NULL else one for one in (found.params, found.error))
    if not found.method:
        return (
            Message("2.0", found.id, "", ABSENT, found.result, error) if found.id and (found.result or error) else None
        )
    if bytes(found.jsonrpc) != _VERSION:  # programs log objects that have a method, too
        return None
    id = ABSENT if found.id == _NULL else found.id
    message = Message("2.0", id, found.method, params)
    try:
        return _checked(message)
    except Refused:
        return None


def _decode_checked(body: Body, once: bool = False) -> Message:
    """Return the message in a body that is known to be UTF-8. Members of the message are views of the body. ``once``:
    each member may be there only once."""
    try:
        try:
            message = _message.decode(bytes(body) if type(body) is Large else body)  # type: ignore[arg-type]
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            given = bytes(body)
            body = without_lone_surrogates(given.removeprefix(BOM))  # once: there may be a million marks
            if body == given:
                raise
            message = _message.decode(body)
    except msgspec.ValidationError as error:
        raise Refused("invalid_request", f"not a JSON-RPC message: {error}") from error
    except msgspec.DecodeError as error:
        raise Refused("parse_error", f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise Refused("parse_error", "the body is nested too deeply") from error
    if once and not _is_plain_request(message, len(body)):
        text = bytes(body)
        beside = spaces(text, message.id, message.method.encode(), message.params)
        if not _is_plain_request(message, len(text) - beside):
            check_members(text, message.params, message.result, message.error)
    return _checked(message)


def _is_plain_request(message: Message, size: int) -> bool:
    """Whether a message of ``size`` bytes is a request that has only what each has, each member once."""
    id, method, params = message.id, message.method, message.params
    return bool(
        size == _AROUND_REQUEST + len(id) + len(method) + len(params)
        and id and method and params and message.jsonrpc == "2.0"
    )  # fmt: skip


def _checked(message: Message) -> Message:
    """Return the message if it is one. ``params`` and ``error`` that are null count as absent, and so does the null id
    of a notification: many programs send them. ``params`` that are an empty list are PHP's empty object."""
    if message.params == _NULL or message.params == _NO_MEMBERS:
        message.params = ABSENT
    if message.error == _NULL:
        message.error = ABSENT
    if message.jsonrpc != "2.0":
        raise Refused("invalid_request", "not a JSON-RPC message: member 'jsonrpc' must be \"2.0\"")
    if not message.method and not message.result and not message.error:
        raise Refused("invalid_request", "not a JSON-RPC message: it has none of 'method', 'result', 'error'")
    if message.id:
        if message.id == _NULL and message.method.startswith("notifications/"):
            message.id = ABSENT
            return message
        check_id(message)
    return message


def check_id(message: Message) -> None:
    """Raise ``Refused`` unless the id is a string or an integer (MCP: never null, never a fraction). An error response
    may have a null id."""
    raw = bytes(message.id)
    if len(raw) > MAX_ID:
        raise Refused("invalid_request", f"member 'id' is longer than {MAX_ID} bytes")
    if raw.isdigit() and raw[0] != _ZERO:
        return
    if raw[:1] != b'"' and not _INTEGER.match(raw) and not (raw == b"null" and message.error):
        raise Refused("invalid_request", "member 'id' must be a string or an integer")


def decode_batch(body: Whole) -> list[Message]:
    """Return the messages of a JSON-RPC batch (MCP 2025-03-26 only). Raises ``Refused`` like ``decode``."""
    check_text(body)
    try:
        items = batch_items(bytes(body))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("parse_error", f"the body is not JSON: {error}") from error
    if not items:
        raise Refused("invalid_request", "an empty batch")
    if len(items) > MAX_BATCH:
        raise Refused("invalid_request", f"a batch of more than {MAX_BATCH} messages")
    return [decode(bytes(item)) for item in items]


def decode_params(message: Message) -> Params:
    """Return the routing members of ``message.params``. Raises ``Refused`` (-32602) if one has the wrong type."""
    return params_of(message.params)


def params_of(raw: Raw | bytes) -> Params:
    """Return the routing members of ``params``. Raises ``Refused``: -32602 if one has the wrong type, -32600 if one is
    there twice."""
    if not raw:
        return NO_PARAMS
    size = len(raw)
    try:
        if size >= WORTHWHILE:
            hollow = ShortenedJson(bytes(raw))
            params = _without_texts(_params, hollow)
            if params is not None:
                check_members(hollow.text, params.arguments, params.raw_meta)
                check_inputs(bytes(params.input_responses))
                hollow.fill(params)
                params.meta = _meta_in(params)
                return params
        params = _params.decode(raw)
    except msgspec.ValidationError as error:
        raise Refused("invalid_params", f"params: {error}") from error
    except RecursionError as error:
        raise Refused("parse_error", "params are nested too deeply") from error
    name, arguments, meta = params.name, params.arguments, params.raw_meta
    plain = _AROUND_CALL + len(name) + len(arguments) + (_AROUND_META + len(meta) if meta else 0)
    if not name or not arguments or (size != plain and size - spaces(bytes(raw), name, arguments, meta) != plain):
        check_members(bytes(raw), arguments, meta)
        check_inputs(bytes(params.input_responses))
    params.meta = _meta_in(params) if meta else None
    return params


def _meta_in(params: Params) -> Meta | None:
    """Return the members of ``_meta`` in ``params``. Raises ``Refused`` like ``params_of``."""
    raw = bytes(params.raw_meta)
    if not raw or raw == b"null":
        return None
    return _kept_meta(raw) if len(raw) <= _KEPT_META else _read_meta(raw)


def _read_meta(raw: bytes) -> Meta:
    check_count(raw)  # before a million members are read
    try:
        meta = _meta.decode(raw)
    except msgspec.ValidationError as error:
        raise Refused("invalid_params", f"params: {error} - at `$._meta`") from error
    except RecursionError as error:
        raise Refused("parse_error", "params are nested too deeply") from error
    check_members(raw)
    for told in (meta.capabilities, meta.client_info):
        if len(told) > 2:
            check_members(bytes(told))
    meta.extended = b'"extensions"' in raw or b'"tasks"' in raw
    return meta


_kept_meta = functools.lru_cache(1024)(_read_meta)
"""Most clients send the same ``_meta`` with each request."""


def meta_of(raw: Raw | bytes) -> bytes:
    """Return the JSON of ``_meta`` in ``params``, empty without one. Raises ``Refused`` (-32602) if ``params`` are not
    an object."""
    if len(raw) >= WORTHWHILE or not raw:
        return _one_member(raw, _only_meta)
    try:
        return bytes(_only_meta.decode(raw).value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("invalid_params", f"expected an object: {error}") from error


def arguments_of(raw: Raw | bytes) -> bytes:
    """Return the JSON of ``arguments`` in ``params``, empty without them. Raises ``Refused`` like ``meta_of``."""
    return _one_member(raw, _only_arguments)


def _one_member(raw: Raw | bytes, decoder: msgspec.json.Decoder[Any]) -> bytes:
    """Return one member of an object. That takes a twentieth of the time of ``members`` where there are a million."""
    if not raw:
        return b""
    try:
        if len(raw) >= WORTHWHILE:
            hollow = ShortenedJson(bytes(raw))
            found = _without_texts(decoder, hollow)
            if found is not None:
                return bytes(hollow.whole(found.value)) if found.value else b""
        return bytes(decoder.decode(raw).value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("invalid_params", f"expected an object: {error}") from error


def without_meta(params: bytes, meta: bytes) -> bytes | None:
    """Return ``params`` without their ``_meta``, or ``None`` if that takes more than cutting off one end. ``meta`` is
    what ``meta_of`` returns for ``params``.

    Cutting is possible if ``_meta`` is the first or the last of several members and is written without spaces, as most
    clients do. Text at the very beginning, or right before the last brace, is a member of ``params`` itself and not of
    an object inside.
    """
    last = b',"_meta":%b}' % meta
    if params.endswith(last):
        return params[: -len(last)] + b"}"
    first = b'{"_meta":%b,' % meta
    return b"{" + params[len(first) :] if params.startswith(first) else None


def text(raw: Raw, member: str) -> str:
    """Return the string in ``raw``. Raises ``Refused`` (-32602) if ``raw`` is missing or not a string."""
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError as error:
        raise Refused("invalid_params", f"params.{member} must be a string") from error


def members(raw: Raw | bytes) -> dict[str, Raw]:
    """Return the members of an object in their order, values untouched. Raises ``Refused`` (-32602) for anything
    else, and for far too many."""
    if not raw:
        return {}
    try:
        if len(raw) >= WORTHWHILE:
            hollow = ShortenedJson(bytes(raw))
            check_width(hollow.text or bytes(raw))
            found = _without_texts(_object, hollow)
            if found is not None and not any(map(hollow.marks, found)):
                return {name: cast(Raw, hollow.whole(value)) for name, value in found.items()}
        return _object.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("invalid_params", f"expected an object: {error}") from error


def few_members(raw: Raw | bytes) -> dict[str, Raw]:
    """Return ``members`` of what a client sent as ``params`` of a method that needs few. Raises ``Refused`` also if
    there may be more than ``once.MAX_MEMBERS`` in it, at any depth: a million take half a second."""
    check_count(bytes(raw))
    return members(raw)


def assemble(parts: dict[str, Any]) -> bytes:
    """Return the JSON of an object with these members. ``Raw`` values are written as they are."""
    return _encode(parts)


def request(id: bytes, method: str, params: bytes | Raw) -> bytes:
    """Return the bytes of a request. ``id`` and ``params`` are JSON already; empty ``params`` are left out."""
    if params:
        return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (id, _word(method), bytes(params))
    return b'{"jsonrpc":"2.0","id":%b,"method":%b}' % (id, _word(method))


@functools.lru_cache(256)
def _word(method: str) -> bytes:
    return _encode(method)


def notification(method: str, params: bytes | Raw = b"") -> bytes:
    if params:
        return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (_encode(method), bytes(params))
    return b'{"jsonrpc":"2.0","method":%b}' % _encode(method)


def response(id: bytes, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, result)


def around(id: bytes, is_error: bool = False) -> tuple[bytes, bytes]:
    """Return what stands before and after the result, or the error, in a response whose body is not copied."""
    return b'{"jsonrpc":"2.0","id":%b,"%b":' % (id, b"error" if is_error else b"result"), b"}"


def error_response(id: bytes, error: bytes) -> bytes:
    """Return the bytes of an error response. ``error`` is the JSON of the error object."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id or b"null", error)


def error_object(code: int, message: str, data: dict[str, Any] | None = None) -> bytes:
    """Return the JSON of an error object."""
    body: dict[str, Any] = {"code": code, "message": message}
    if data:
        body["data"] = data
    return _encode(body)
