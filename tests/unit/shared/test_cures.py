"""``shared.cures``: what helps against the errors that upstreams have."""

from __future__ import annotations

import pytest

from shared.cures import cure


@pytest.mark.parametrize(
    ("transport", "error", "words"),
    [
        ("stdio", "cannot start 'npx': command not found in PATH (/bin)", "install Node.js"),
        ("stdio", "cannot start '/x/y': there is no such file: '/x/y'", "write its whole path"),
        ("stdio", "cannot start 'x': there is no folder '/y' to start it in (cwd)", "correct cwd"),
        ("stdio", "cannot start 'x': '/y/x' is not executable", "chmod +x"),
        ("stdio", "cannot start 'x': the interpreter that its first line names is not there: '/p'", "correct the line"),
        ("stdio", "the process exited with code 1; see 'x'; it said: No module named 'm'", "virtual environment"),
        ("stdio", "the process exited with code 1; see 'x'; it said: Error: Cannot find module '/x'", "npm install"),
        ("stdio", "the process exited with code 3; see 'x'; it said: API_KEY is not set", "env of the entry"),
        ("stdio", "the process exited with code 3; see 'x'", "servers logs a"),
        ("stdio", "no handshake, and no sign of life for 4 s", "MCP on stdio"),
        ("http", "cannot connect to h:1: [Errno 111] Connection refused", "start the server"),
        ("http", "cannot connect to h:80: no address is known of the host 'h' (…)", "correct the host"),
        ("http", "h answered HTTP 401: check the headers", "gateway connect a"),
        ("http", "h answered HTTP 401 (invalid_token: token expired): check the headers", "put a new token"),
        (
            "http",
            "cannot connect to h:1: its certificate is not trusted (it has expired)",
            "renew the server's certificate",
        ),
        ("http", "nobody has connected to it yet: 'gateway connect a'", "somebody has to sign in"),
        ("stdio", "args[0]: environment variable API_KEY is not set; set it", "from which the gateway is started"),
        ("http", "h answered HTTP 404, no MCP answer", "/mcp"),
        ("http", "h answered text/html instead of MCP (9 bytes)", "web page"),
        ("http", "cannot connect to h:443: it speaks no TLS at this port (wrong version number)", "http://"),
        ("sse", "GET h/mcp answered HTTP 405 (text/plain), not an event stream", "Streamable HTTP"),
        ("http", "no answer in 4 s", "startTimeout"),
        ("http", "the upstream answered error -32000: license expired", "the server itself"),
        ("sse", "GET h/x answered HTTP 200 (text/html), not an event stream", "web page"),
        ("sse", "no handshake in time", "startTimeout"),
        ("http", "cannot connect to h:1: tls: there is no file '/x' on this worker's host", "caFile"),
        ("http", "something new", ""),
        ("stdio", None, ""),
    ],
)
def test_each_error_has_a_cure(transport: str, error: str | None, words: str) -> None:
    found = cure(error, transport, "a")
    assert words in found and bool(found) is bool(words)
    assert "ID" not in found.split()


@pytest.mark.parametrize(
    "error",
    [
        "its certificate is not trusted (self-signed certificate); name its authority in tls.caFile",
        "its certificate is not trusted (Hostname mismatch); write its name in tls.serverName",
    ],
)
def test_a_cure_does_not_repeat_what_the_error_says(error: str) -> None:
    """Both are shown, one behind the other."""
    found = cure(error, "http", "a")
    assert found and not any(word in found for word in ("tls.caFile", "tls.serverName"))


def test_an_id_is_written_as_it_is() -> None:
    assert "'gateway connect \\1 x'" in cure("HTTP 401", "http", "\\1 x")
