"""Messages as Locust's users and the benchmarks write and read them."""

from __future__ import annotations

import json

import pytest

from loadtest import wire


def test_a_modern_call_repeats_itself_in_headers() -> None:
    request = wire.modern("tools/call", {"name": "echo", "arguments": {}, "_meta": {"progressToken": 7}}, id=3)
    message = json.loads(request.body)
    assert request.headers["Mcp-Method"] == "tools/call" and request.headers["Mcp-Name"] == "echo"
    assert message["id"] == 3 and message["params"]["_meta"]["progressToken"] == 7
    assert message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == wire.MODERN


def test_a_legacy_request_carries_its_session() -> None:
    request = wire.legacy("ping", sid="abc")
    assert request.headers["Mcp-Session-Id"] == "abc" and "_meta" not in json.loads(request.body)["params"]
    assert "Mcp-Session-Id" not in wire.legacy("ping").headers


def test_a_notification_has_no_id() -> None:
    assert "id" not in json.loads(wire.notice("notifications/initialized", "abc").body)


def test_bytes_of_a_request() -> None:
    request = wire.Request(b"{}", {"A": "b"}, "/x")
    assert request.to_bytes("h:1") == b"POST /x HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"


def test_names_that_are_no_header_text_travel_in_base64() -> None:
    assert wire.header_value("plain name") == "plain name"
    assert wire.header_value("größe") == "=?base64?Z3LDtsOfZQ==?="


def test_annotated_parameters_become_headers() -> None:
    schema = {"properties": {"tenant": {"type": "string", "x-mcp-header": "Tenant"}, "n": {"type": "integer"}}}
    assert wire.parameter_headers(schema, {"tenant": "a", "n": 1}) == {"Mcp-Param-Tenant": "a"}
    assert wire.parameter_headers(schema, {"n": 1}) == {}


STREAM = (
    ": comment\r\n\r\n"
    'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\r\n\r\n'
    'data: {"jsonrpc":"2.0","id":1,"result":{"ok":true}}\r\n\r\n'
)


@pytest.mark.parametrize(
    ("kind", "text", "result", "error"),
    [
        ("application/json", '{"jsonrpc":"2.0","id":1,"result":{"ok":true}}', {"ok": True}, None),
        ("application/json", '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}', None, "-32602 no"),
        ("text/event-stream", STREAM, {"ok": True}, None),
        ("text/event-stream; charset=utf-8", STREAM.replace("\r", ""), {"ok": True}, None),
        ("text/event-stream", ": nothing\n\n", None, "no JSON-RPC response in the body"),
        ("text/html", "<html>", None, "no JSON: '<html>'"),
        ("", "", None, "no JSON: ''"),
    ],
)
def test_answers_are_read_by_what_they_mean(kind: str, text: str, result: object, error: str | None) -> None:
    assert wire.read(kind, text) == wire.Answer(result, error)  # type: ignore[arg-type]
