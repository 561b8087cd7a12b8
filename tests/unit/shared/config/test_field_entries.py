"""``shared.config.entries``: entries as the documentation of products has them, and as people mistype them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.config.entries import read_entry
from shared.config.expand import editor_variables
from shared.config.readings import Reading
from shared.config.roots import Found
from shared.connections import HttpConnection, StdioConnection
from tests.unit.shared.config.readings import http_in, stdio_in

BASE = Path("/w/proj")
ENVIRONMENT = {"HOME": "/home/ada", "PAT": "p0", "PATH": "/nowhere"}


def _read(raw: Any, **found: Any) -> Reading:
    return read_entry(Found("one", "mcpServers.one", raw, **found), editor_variables(ENVIRONMENT, BASE), BASE)


def _stdio(raw: dict[str, Any]) -> StdioConnection:
    return stdio_in(_read(raw))


def _http(raw: dict[str, Any]) -> HttpConnection:
    return http_in(_read(raw))


def test_a_dollar_before_a_name_is_a_reference_where_the_variable_is_set() -> None:
    headers = {"Authorization": "Bearer $PAT", "A": "$NONE", "B": "pa$PAT", "C": "$PATH_x", "D": "$$PAT"}
    expected = {"Authorization": "Bearer p0", "A": "$NONE", "B": "pa$PAT", "C": "$PATH_x", "D": "$$PAT"}
    assert _http({"url": "https://u/mcp", "headers": headers}).headers == expected
    found = _stdio({"command": "$HOME/bin/x", "args": ["--at", "$HOME/y"], "cwd": "$HOME", "env": {"PATH": "/o:$PATH"}})
    assert (found.command, found.args, found.cwd) == ("/home/ada/bin/x", ("--at", "/home/ada/y"), "/home/ada")
    assert found.env == {"PATH": "/o:/nowhere"}


def test_an_argument_that_is_a_program_stays_as_it_is() -> None:
    program = "print('$PAT', \"$HOME\")\nx = $PAT"
    assert _stdio({"command": "perl", "args": ["-e", program, "--key=$PAT", "a $PAT"]}).args == (
        "-e",
        program,
        "--key=p0",
        "a $PAT",
    )


def test_shells_replace_variables_themselves() -> None:
    assert _stdio({"command": "sh", "args": ["-c", "x $PAT ${NONE}"], "env": {"NONE": "a"}}).args == (
        "-c",
        "x $PAT ${NONE}",
    )


def test_shells_behind_env_do_so_too() -> None:
    assert _stdio({"command": "/usr/bin/env", "args": ["bash", "-c", "x $PAT"]}).args[-1] == "x $PAT"
    assert _stdio({"command": "env", "args": ["A=$PAT", "node"]}).args[0] == "A=p0"


def test_a_value_that_looks_like_a_reference_and_is_none_is_said() -> None:
    reading = _read({"url": "https://u/mcp", "headers": {"A": "Bearer $NONE", "B": "$(cat /key)", "C": "costs 5$"}})
    assert [path.removeprefix("mcpServers.one.headers.") for path, _ in reading.warnings] == ["A", "B"]


def test_arguments_and_headers_may_name_variables_of_the_entry_itself() -> None:
    env = {"KEY": "k-${PAT}"}
    assert _stdio({"args": ["-e", "X=${KEY}"], "command": "docker", "env": env}).args == ("-e", "X=k-p0")
    remote = {"command": "npx", "args": ["mcp-remote", "https://u", "--header", "A:${KEY}"], "env": env}
    assert _stdio(remote).args[-1] == "A:${KEY}"  # it replaces them itself, and no secret is in the list of processes
    assert _http({"url": "https://u/mcp", "headers": {"A": "${KEY}"}, "env": env}).headers == {"A": "k-p0"}
    assert _read({"command": "npx", "args": ["mcp-remote", "${OTHER}"], "env": env}).problems


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ("cmd", ["/c", "npx", "-y", "x"], ("npx", ("-y", "x"))),
        ("cmd.exe", ["/d", "/s", "/C", "npx.cmd -y x"], ("npx", ("-y", "x"))),
        ("npx.cmd", ["x"], ("npx", ("x",))),
        ("uvx.exe", ["x"], ("uvx", ("x",))),
        ("cmd", [], ("cmd", ())),
        ("C:\\Program Files\\nodejs\\npx.cmd", ["-y", "x"], ("npx", ("-y", "x"))),
        ("C:\\Windows\\System32\\cmd.exe", ["/c", "uvx.exe x"], ("uvx", ("x",))),
        ("C:/tools/python3.exe", ["C:\\srv\\x.py"], ("python3", ("C:\\srv\\x.py",))),
        ("C:\\srv\\mine.exe", ["x"], ("C:\\srv\\mine.exe", ("x",))),
        ("wsl.exe", ["-d", "Ubuntu", "--", "npx", "-y", "x"], ("npx", ("-y", "x"))),
        ("wsl", ["bash", "-c", "npx x"], ("bash", ("-c", "npx x"))),
        ("wsl", [], ("wsl", ())),
        ("npx -y", ["x"], ("npx", ("-y", "x"))),
        ("/opt/my tools/x", ["y"], ("/opt/my tools/x", ("y",))),
    ],
)
def test_commands_as_people_write_them(command: str, args: list[str], expected: Any) -> None:
    found = _stdio({"command": command, "args": args})
    assert (found.command, found.args) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:3000/mcp", "http://localhost:3000/mcp"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("mcp.example.com/mcp?x=1", "https://mcp.example.com/mcp?x=1"),
        ("http+unix://%2Frun%2Fx.sock/mcp", "unix:///run/x.sock#/mcp"),
        ("unix:///run/x.sock", "unix:///run/x.sock"),
    ],
)
def test_urls_as_people_write_them(url: str, expected: str) -> None:
    assert _http({"url": url}).url == expected


@pytest.mark.parametrize("url", ["ws://x", "x", "//x.org/mcp", "stdio://x", "/a.b/c"])
def test_other_urls_are_problems(url: str) -> None:
    assert _read({"url": url}).problems


@pytest.mark.parametrize("key", ["config", "params", "stdio", "mcp_config"])
def test_a_connection_may_be_inside_of_an_entry(key: str) -> None:
    assert _stdio({"type": "stdio", key: {"command": "npx", "args": ["x"]}}).args == ("x",)
    assert _http({"type": "http", key: {"url": "https://u/mcp", "headers": {"A": "b"}}}).headers == {"A": "b"}


def test_what_is_said_of_this_operating_system_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    entry = {"command": "x", "args": ["a"], "env": {"A": "1", "B": "2"}}
    here = {"command": "y", "args": None, "env": {"B": "3"}}
    found = _stdio({**entry, "platform_overrides": {"win32": {"command": "x.exe"}, "linux": here}})
    assert (found.command, found.args, found.env) == ("y", ("a",), {"A": "1", "B": "3"})
    assert _stdio({**entry, "platform_overrides": {"win32": {"command": "x.exe"}}}).command == "x"


def test_what_restricts_is_found_inside_of_options() -> None:
    for options in (
        {"toolFilter": {"mode": "block", "list": ["a"]}},
        {"suppressedTools": ["a"]},
        {"disabledTools": ["a"]},
    ):
        reading = _read({"command": "x", "options": {"logEnabled": True, **options}})
        assert not reading.problems
        assert reading.spec is not None
        assert reading.spec.exclude_tools == ("a",)
    assert _read({"command": "x", "options": {"disabledTools": ["a"]}, "disabledTools": ["b"]}).problems
    assert _read({"command": "x", "prompts": {"a": {"enabled": False}}}).problems
    permitted = _read({"command": "x", "toolPermissions": {"a": "deny", "b": "ask"}, "toolApprovals": {"c": "never"}})
    assert permitted.spec is not None and permitted.spec.exclude_tools == ("a",)
    assert not _read({"command": "x", "prompts": {"a": {"enabled": True}}, "dev": {"watch": "x"}}).problems


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("startTimeout", "60s", {"startTimeout": 60_000}),
        ("startupTimeout", "2m", {"startTimeout": 120_000}),
        ("requestTimeout", "500 ms", {"requestTimeout": 500}),
        ("timeout", "30s", {"requestTimeout": 30_000}),
    ],
)
def test_durations_may_have_units(key: str, value: str, expected: dict[str, float]) -> None:
    reading = _read({"command": "x", key: value})
    assert not reading.problems
    assert reading.spec is not None
    assert reading.spec.settings == expected


def test_request_options_of_continue() -> None:
    options = {"verifySsl": False, "caBundlePath": "ca.pem", "proxy": "http://p:1", "headers": {"A": "b"}}
    options["clientCertificate"] = {"cert": "c.pem", "key": "k.pem"}
    found = _http({"url": "https://u/mcp", "apiKey": "k", "requestOptions": options})
    assert found.headers == {"A": "b", "Authorization": "Bearer k"}
    assert found.proxy == "http://p:1"
    assert found.tls is not None
    assert found.tls.insecure_skip_verify
    assert (found.tls.ca_file, found.tls.cert_file, found.tls.key_file) == (
        "/w/proj/ca.pem",
        "/w/proj/c.pem",
        "/w/proj/k.pem",
    )


def test_a_document_and_the_address_of_its_api_belong_together() -> None:
    reading = _read({"type": "openapi", "url": "http://127.0.0.1:1", "spec": "/w/api.yaml"})
    assert not (reading.problems or reading.warnings or reading.mended)
    assert reading.spec is not None and reading.spec.transport == "openapi"


@pytest.mark.parametrize(
    ("entry", "headers"),
    [
        ({"auth_type": "bearer_token", "auth_value": "v"}, {"Authorization": "Bearer v"}),
        ({"auth_type": "authorization", "authentication_token": "v"}, {"Authorization": "v"}),
        ({"auth_type": "basic", "auth_value": "u:p"}, {"Authorization": "Basic dTpw"}),
        ({"auth_type": "basic", "auth_value": "dTpw"}, {"Authorization": "Basic dTpw"}),
        ({"auth_type": "api_key", "auth_value": "v", "headers": {"A": "b"}}, {"A": "b", "X-API-Key": "v"}),
        ({"auth_token": "v"}, {"Authorization": "Bearer v"}),
        ({"auth_type": "none", "static_headers": {"A": "b"}}, {"A": "b"}),
        ({"apiKey": {"source": "admin", "authorization_type": "bearer", "key": "v"}}, {"Authorization": "Bearer v"}),
    ],
)
def test_credentials_in_the_words_of_litellm_and_librechat(entry: dict[str, Any], headers: dict[str, str]) -> None:
    assert _http({"url": "https://u/mcp", **entry}).headers == headers


def test_a_way_to_authenticate_that_is_not_known_is_said() -> None:
    reading = _read({"url": "https://u/mcp", "auth_type": "aws_sigv4"})
    assert [path for path, _ in reading.warnings] == ["mcpServers.one.auth_type"]
