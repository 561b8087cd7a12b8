"""``shared.connections``: what may be shown of a connection, and what a shown one may be turned back into."""

from __future__ import annotations

import pytest

from shared.connections import (
    HttpConnection,
    OpenApiConnection,
    StdioConnection,
    Tls,
    mask_args,
    mask_url,
    origin_of,
    unmasked,
    without_places,
)
from shared.errors import ConfigError
from shared.transports import parse_connection
from shared.upstream_auth import ClientCredentials

UUID = "3f2b6c1e-8d4a-4c55-9b1e-0a1b2c3d4e5f"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/mcp", "http://h/mcp"),
        ("http://user:pw@h:81/mcp", "http://***@h:81/mcp"),
        ("http://ghp_token@h/mcp", "http://***@h/mcp"),
        ("https://h/mcp?api_key=s&page=2", "https://h/mcp?api_key=***&page=2"),
        ("https://h/mcp?x=sk-abc123def456", "https://h/mcp?x=***"),
        ("https://h/s/Zk93mQ0aLw81xYv27Bn4/mcp", "https://h/s/***/mcp"),
        (f"https://h/{UUID}/mcp", "https://h/***/mcp"),
        ("https://h/my-long-server-name-v2-production/mcp", "https://h/my-long-server-name-v2-production/mcp"),
        ("unix:///run/user/1000/Zk93mQ0aLw81xYv27Bn4.sock#/mcp", "unix:///run/user/1000/Zk93mQ0aLw81xYv27Bn4.sock#/mcp"),
        ("http://[bad/mcp", "***"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_in_a_url_is_not_shown(url: str, shown: str) -> None:
    assert mask_url(url) == shown
    assert mask_url(shown) == shown


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (("-y", "@modelcontextprotocol/server-everything@2025.11.25"),) * 2,
        (("--api-key", "abc", "--port", "80"), ("--api-key", "***", "--port", "80")),
        (("--token=abc", "--verbose=true"), ("--token=***", "--verbose=true")),
        (("--password", "--next"), ("--password", "--next")),
        (("-e", "API_KEY=abc", "-e", "MODE=fast"), ("-e", "API_KEY=***", "-e", "MODE=fast")),
        (("--header", "Authorization: Bearer abc"), ("--header", "Authorization: ***")),
        (("postgresql://u:p@h/db",), ("postgresql://***@h/db",)),
        (("--url=https://h/?token=abc",), ("--url=https://h/?token=***",)),
        (("ghp_abcDEF123456789",), ("***",)),
        (("/home/me/project", "C:\\Users\\me", "8080", "read-only"),) * 2,
    ],
)
def test_what_looks_like_a_secret_in_an_argument_is_not_shown(args: tuple[str, ...], shown: tuple[str, ...]) -> None:
    assert tuple(mask_args(args)) == shown


def test_nothing_secret_in_what_is_public_or_printed() -> None:
    for connection in (
        StdioConnection("npx", ("--key", "s3cret"), {"A": "s3cret"}),
        HttpConnection("http://u:s3cret@h/?key=s3cret", headers={"X": "s3cret"}, proxy="http://u:s3cret@p:1"),
        HttpConnection("http://h/", auth=ClientCredentials("id", "s3cret", scopes=("a",))),
        OpenApiConnection("http://u:s3cret@h/", headers={"X": "s3cret"}, spec="http://h/api.json?token=s3cret"),
    ):
        assert "s3cret" not in repr(connection) and "s3cret" not in str(connection.public())
        back = unmasked(connection.public(), connection)
        assert parse_connection({key: value for key, value in back.items() if key != "type"})[1] == connection


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://elsewhere/?key=***"},
        {"proxy": "http://***@elsewhere:1"},
        {"url": "http://elsewhere/"},
        {"proxy": "http://elsewhere:1"},
        {"tls": {"insecureSkipVerify": True}},
    ],
)
def test_secrets_are_not_filled_in_for_somebody_new(change: dict[str, object]) -> None:
    known = HttpConnection("http://h/?key=s", headers={"X": "s"}, proxy="http://u:s@p:1")
    with pytest.raises(ConfigError, match="stands for a secret"):
        unmasked({**known.public(), **change}, known)


def test_masked_arguments_are_not_filled_in_for_another_command() -> None:
    known = StdioConnection("npx", ("--key", "s"), {})
    with pytest.raises(ConfigError, match=r"connection.args has"):
        unmasked({"command": "sh", "args": ["-c", "***"]}, known)
    with pytest.raises(ConfigError):
        unmasked({"command": "npx", "args": ["--key", "***"]}, None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h/a", "http://H:80/b", True),
        ("https://h", "https://h:443", True),
        ("http://h", "https://h", False),
        ("http://h:443", "https://h:443", False),
        ("http://h.", "http://h", True),
        ("http://u:p@h", "http://h", True),
        ("http://[::1]/", "http://[::1]:80/", True),
        ("unix:///a#/x", "unix:///a#/y", True),
        ("unix:///a", "unix:///b", False),
    ],
)
def test_the_same_origin(one: str, other: str, same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) is same


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"url": "ftp://h/"}, "not an http://, https:// or unix:// address"),
        ({"url": "unix://host/path"}, "names no socket"),
        ({"url": "unix:"}, "names no socket"),
        ({"url": "http://h:0/"}, "port 0"),
        ({"url": "http://h:x/"}, "is not a URL"),
        ({"url": "http://h/", "proxy": "socks5://p:1"}, "neither 'direct' nor"),
        ({"url": "http://h/", "headers": {"Host": "x"}}, "the HTTP client sets it"),
        ({"url": "http://h/", "headers": {"transfer-encoding": "chunked"}}, "the HTTP client sets it"),
        ({"url": "http://h/", "headers": {"A B": "x"}}, "not a valid HTTP header"),
        ({"url": "http://h/", "tls": {"keyFile": "k"}}, "needs tls.certFile"),
        ({"url": "http://h/", "tls": {"cafile": "k"}}, "unknown field"),
    ],
)
def test_what_cannot_be_a_connection_is_refused_with_words(raw: dict[str, object], words: str) -> None:
    with pytest.raises(Exception, match=words):
        parse_connection(raw)


def test_notes_name_what_has_no_effect() -> None:
    connection = HttpConnection("https://h", headers={"Accept": "x", "X": "y"}, tls=Tls(insecure_skip_verify=True))
    accept, unverified = connection.notes()
    assert "header Accept" in accept and "not verified" in unverified
    assert HttpConnection("https://h", headers={"X": "y"}).notes() == ()


@pytest.mark.parametrize(
    ("connection", "text", "shown"),
    [
        (
            HttpConnection("http://payroll.internal:8443/v1/mcp"),
            "cannot connect to payroll.internal:8443: Connect call failed ('10.1.2.3', 8443)",
            "cannot connect to ***: Connect call failed ('***)",
        ),
        (
            HttpConnection("http://h.internal/v1/mcp"),
            "GET h.internal/v1/mcp answered HTTP 404",
            "GET ****** answered HTTP 404",
        ),
        (
            HttpConnection("http://[fd00::1]:80/"),
            "cannot connect to [fd00::1]: refused",
            "cannot connect to ***: refused",
        ),
        (
            HttpConnection("https://h/", proxy="http://p.internal:1"),
            "the proxy p.internal:1 is away",
            "the proxy *** is away",
        ),
        (HttpConnection("http://h.internal/"), "HTTP 401: check the headers", "HTTP 401: check the headers"),
        (StdioConnection("/opt/x/pay", cwd="/srv/x"), "cannot start '/opt/x/pay': no", "cannot start '***': no"),
        (
            HttpConnection("http://h.internal/", tls=Tls(ca_file="/etc/x/ca.pem", server_name="n.internal")),
            "tls: there is no file '/etc/x/ca.pem'; not valid for 'n.internal'",
            "tls: there is no file '***'; not valid for '***'",
        ),
        (
            HttpConnection("http://h.internal/"),
            "redirects (HTTP 302) to 'http://b.corp/secret', which is another origin",
            "redirects (HTTP 302) to '***', which is another origin",
        ),
        (
            HttpConnection("http://h.internal/"),
            "its answer has the type text/event-stream, not application/json",
            "its answer has the type text/event-stream, not application/json",
        ),
        (
            StdioConnection("payroll-mcp", args=("--db", "db.internal")),
            "cannot start 'payroll-mcp': db.internal, ~/x and C:\\y",
            "cannot start '***': ***, *** and ***",
        ),
        (
            HttpConnection("http://h.internal:8/mcp"),
            "h.internal:8 answered HTTP 413, no MCP answer",
            "it answered HTTP 413, no MCP answer",
        ),
        (StdioConnection("npx"), "see 'gateway servers logs a'", "see 'gateway servers logs a'"),
        (StdioConnection("npx"), "the process exited with code 3", "the process exited with code 3"),
        (StdioConnection("npx"), "it ended; see 'x'; it said: the key sk-1 is wrong", "it ended; see 'x'"),
        (StdioConnection("npx"), "starting: with token sk-1", "starting"),
        (StdioConnection("srv"), "cannot start 'srv': command not found in PATH (/a/b, /c)",
         "cannot start '***': command not found in PATH (***, ***)"),
    ],
)  # fmt: skip
def test_what_a_client_reads_of_an_error_names_no_address_and_no_command(
    connection: HttpConnection | StdioConnection, text: str, shown: str
) -> None:
    assert connection.concealed(text) == shown


def test_a_text_without_places_names_no_host_that_a_url_in_it_has() -> None:
    said = "https://idp.inside:8443/a cannot be asked: Cannot connect to host idp.inside:8443 ('10.0.0.5', 8443)"
    shown = without_places(said)
    assert not any(word in shown for word in ("idp", "10.0", "8443")) and shown.startswith("it cannot be asked")
    assert without_places("https://idp.test offers no PKCE (S256)") == "it offers no PKCE (S256)"
