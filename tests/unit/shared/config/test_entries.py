"""``shared.config.entries``: what can be mended is, what restricts is obeyed, and a flaw costs its entry alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.config.documents import decode
from shared.config.entries import read_entry, shown_id
from shared.config.expand import editor_variables
from shared.config.readings import Reading
from shared.config.roots import Found
from shared.connections import HttpConnection, OpenApiConnection, StdioConnection
from tests.unit.shared.config.readings import http_in, stdio_in

BASE = Path("/w/proj")
ELSEWHERE = "is part of another client, and has no command or URL to reach it by"
ENVIRONMENT = {"HOME": "/home/ada", "TOKEN": "t0", "NAME": "n0"}


def _read(raw: Any, id: str = "one", base: Path = BASE, **found: Any) -> Reading:
    return read_entry(Found(id, f"mcpServers.{id}", raw, **found), editor_variables(ENVIRONMENT, base), base)


def _stdio(raw: dict[str, Any]) -> StdioConnection:
    return stdio_in(_read({"command": "x", **raw}))


def _http(raw: dict[str, Any]) -> HttpConnection:
    return http_in(_read(raw))


@pytest.mark.parametrize("key", ["url", "httpUrl", "serverUrl", "server_url", "uri", "endpoint"])
def test_a_url_has_many_names(key: str) -> None:
    assert _http({key: "http://u/mcp", "timeout": 5}).url == "http://u/mcp"
    assert not _read({key: "http://u/mcp", "timeout": 5}).warnings


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({"type": "remote"}, "http"),
        ({"type": "streamableHttp"}, "http"),
        ({"type": "streamable_http"}, "http"),
        ({"type": "streamable-http"}, "http"),
        ({"type": "Streamable HTTP"}, "http"),
        ({"transportType": "sse"}, "sse"),
        ({"transport": "HTTP"}, "http"),
        ({"type": "SSE"}, "sse"),
        ({"type": None}, "http"),
        ({}, "http"),
    ],
)
def test_a_transport_has_many_names(kind: dict[str, Any], expected: str) -> None:
    assert _http({"url": "http://u/mcp", **kind}).type == expected


@pytest.mark.parametrize("kind", [{}, {"type": "local"}, {"type": "stdio"}, {"transportType": "stdio"}])
def test_a_command_needs_no_type(kind: dict[str, Any]) -> None:
    assert _stdio(kind).command == "x"


@pytest.mark.parametrize(
    ("raw", "command", "args"),
    [
        ({"command": ["npx", "-y", "x"]}, "npx", ("-y", "x")),
        ({"command": ["npx"], "args": ["x"]}, "npx", ("x",)),
        ({"command": {"path": "npx", "args": ["x"], "env": {"A": "b"}}}, "npx", ("x",)),
        ({"cmd": "npx", "args": ["x"], "command": None}, "npx", ("x",)),
        ({"args": "x"}, "x", ("x",)),
        ({"command": 'npx -y @a/b "c d"'}, "npx", ("-y", "@a/b", "c d")),
        ({"command": "/has a/space", "args": ["x"]}, "/has a/space", ("x",)),
        ({"command": "C:\\Program Files\\x.exe"}, "C:\\Program Files\\x.exe", ()),
        ({"command": "it's one"}, "it's one", ()),
        ({"transport": {"type": "stdio", "command": "npx", "args": ["x"]}, "command": None}, "npx", ("x",)),
        ({"args": None}, "x", ()),
        ({"args": [8080, True, 1.5, 8e3, None, "y"]}, "x", ("8080", "true", "1.5", "8000", "y")),
        ({"command": "~/bin/x", "args": ["~/d", "--a=~/d"]}, "/home/ada/bin/x", ("/home/ada/d", "--a=~/d")),
        ({"command": "${userHome}/x", "args": ["${workspaceFolder}${/}y"]}, "/home/ada/x", ("/w/proj/y",)),
    ],
)
def test_a_command_is_written_in_many_ways(raw: dict[str, Any], command: str, args: tuple[str, ...]) -> None:
    found = _stdio(raw)
    assert (found.command, found.args) == (command, args)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"env": {"A": 1, "B": False, "C": None, "D": "${TOKEN}"}}, {"A": "1", "B": "false", "D": "t0"}),
        ({"environment": {"A": "b"}}, {"A": "b"}),
        ({"envs": {"A": "b"}, "env_keys": ["TOKEN"]}, {"A": "b", "TOKEN": "t0"}),
        ({"env_vars": ["TOKEN", "NOT_THERE"], "env": {"A": "b"}}, {"A": "b", "TOKEN": "t0"}),
        ({"env": {"A": "~/x", "B": "$NAME", "C": "a$NAME"}}, {"A": "/home/ada/x", "B": "n0", "C": "a$NAME"}),
        ({"env": ["A=b=c", "D="]}, {"A": "b=c", "D": ""}),
        ({"env": [{"name": "A", "value": "${TOKEN}"}, {"key": "B", "value": None}]}, {"A": "t0"}),
        ({"env": None}, {}),
    ],
)
def test_an_environment_is_written_in_many_ways(raw: dict[str, Any], expected: dict[str, str]) -> None:
    assert _stdio(raw).env == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"headers": {"A": 1, "B": True, "C": None}}, {"A": "1", "B": "true"}),
        ({"http_headers": {"A": "b"}, "env_http_headers": {"X": "NAME"}}, {"A": "b", "X": "n0"}),
        ({"bearer_token_env_var": "TOKEN"}, {"Authorization": "Bearer t0"}),
        ({"requestOptions": {"headers": {"A": "b"}}}, {"A": "b"}),
        ({"auth": "secret-token"}, {"Authorization": "Bearer secret-token"}),
        ({"headers": None}, {}),
    ],
)
def test_headers_are_written_in_many_ways(raw: dict[str, Any], expected: dict[str, str]) -> None:
    assert _http({"url": "http://u/", **raw}).headers == expected


@pytest.mark.parametrize(
    ("cwd", "expected"),
    [(None, "/w/proj"), ("sub", "/w/proj/sub"), ("~/x", "/home/ada/x"), ("${workspaceFolder}", "/w/proj")],
)
def test_a_working_directory_may_be_at_home(cwd: str | None, expected: str) -> None:
    assert _stdio({"cwd": cwd}).cwd == expected


def test_an_env_file_is_read_as_dotenv_writes_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(
        b'\xef\xbb\xbfexport A=1\nB=\'two = 2\' # note\nC="x\\ny"\nD=a b # note\nE=${A}\nF=\nG\nH="over\nlines"\n'
    )
    reading = _read({"command": "x", "envFile": "${workspaceFolder}/.env", "env": {"F": "entry"}}, base=tmp_path)
    assert reading.spec is not None
    assert isinstance(reading.spec.connection, StdioConnection)
    assert reading.spec.connection.env == {
        "A": "1", "B": "two = 2", "C": "x\ny", "D": "a b", "E": "${A}", "F": "entry", "H": "over\nlines",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "off"),
    [
        ({"disabled": True}, "disabled is true"),
        ({"enabled": False}, "enabled is false"),
        ({"disabled": "true"}, "disabled is true"),
        ({"enabled": 0}, "enabled is false"),
        ({"isActive": False}, "isActive is false"),
        ({"active": False}, "active is false"),
        ({"disabled": False, "enabled": True}, ""),
    ],
)
def test_a_switch_is_obeyed(raw: dict[str, Any], off: str) -> None:
    reading = _read({"command": "x", **raw})
    assert (reading.off, reading.spec is None) == (off, bool(off))


def test_a_switch_that_cannot_be_read_leaves_nothing_on() -> None:
    reading = _read({"command": "x", "disabled": ["maybe"]})
    assert reading.problems == [("mcpServers.one.disabled", "must be true or false")]


@pytest.mark.parametrize(
    "key", ["tools", "includeTools", "enabled_tools", "enabledTools", "allowedTools", "available_tools"]
)
@pytest.mark.parametrize(("value", "expected"), [(["a", "b"], ("a", "b")), ("a", ("a",)), (["*"], None), (None, None)])
def test_a_list_of_what_may_be_used_is_obeyed(key: str, value: Any, expected: tuple[str, ...] | None) -> None:
    spec = _read({"command": "x", key: value}).spec
    assert spec is not None
    assert (spec.include_tools, spec.problem) == (expected, "")


@pytest.mark.parametrize("key", ["excludeTools", "disabledTools", "disabled_tools"])
def test_a_list_of_what_may_not_be_used_is_obeyed(key: str) -> None:
    spec = _read({"command": "x", key: ["a"]}, hidden=("b",)).spec
    assert spec is not None
    assert spec.exclude_tools == ("a", "b")


@pytest.mark.parametrize(
    ("raw", "include", "exclude"),
    [
        ({"tools": []}, (), ()),
        ({"available_tools": []}, None, ()),
        ({"includeTools": ["a", "b"], "tools": ["b", "c"]}, ("b",), ()),
        ({"tools": {"a": False, "b": True, "c": {"enabled": False}}}, None, ("a", "c")),
        ({"enabled_tools": ["a"], "disabled_tools": ["a"]}, ("a",), ("a",)),
    ],
)
def test_several_restrictions_hold_together(raw: dict[str, Any], include: Any, exclude: Any) -> None:
    spec = _read({"command": "x", **raw}).spec
    assert spec is not None
    assert (spec.include_tools, spec.exclude_tools) == (include, exclude)


@pytest.mark.parametrize(
    "raw",
    [
        {"tools": 5},
        {"tools": [1]},
        {"tools": {"a": {"name": "b"}}},
        {"excludeTools": {"a": True}},
        {"sandboxEnabled": True},
        {"sandbox": {"filesystem": {}}},
        {"include_tags": ["x"]},
        {"toolFilter": {"allow": ["x"]}},
        {"readOnly": True},
    ],
)
def test_a_restriction_that_cannot_be_obeyed_refuses_the_entry(raw: dict[str, Any]) -> None:
    reading = _read({"command": "x", **raw})
    assert [path for path, _ in reading.problems] == [f"mcpServers.one.{key}" for key in raw]
    assert reading.spec is not None
    assert reading.spec.problem


@pytest.mark.parametrize(
    "raw", [{"sandboxEnabled": False}, {"sandbox": {}}, {"readOnly": False}, {"include_tags": None}]
)
def test_a_restriction_that_is_switched_off_restricts_nothing(raw: dict[str, Any]) -> None:
    assert not _read({"command": "x", **raw}).problems


@pytest.mark.parametrize("key", ["_comment", "_tools", "$schema", "//", "// tools", "#note"])
def test_comments_are_read_as_such(key: str) -> None:
    reading = _read({"command": "x", key: ["a"]})
    assert reading.spec is not None and reading.spec.include_tools is None
    assert not reading.warnings and not reading.problems


def test_unknown_keys_and_those_without_effect_are_warnings() -> None:
    reading = _read({"url": "http://u/", "weigth": 2, "zzz": 1, "oauth": {"clientId": "x"}, "auth": "oauth"})
    assert not reading.problems
    assert [(path.rpartition(".")[2], text.partition(":")[0]) for path, text in reading.warnings] == [
        ("weigth", "unknown key (did you mean 'weight'?)"),
        ("zzz", "unknown key"),
        ("oauth", "is not used"),
        ("auth", "is not used"),
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("x", "must be an object with 'command' or 'url'"),
        (None, "must be an object with 'command' or 'url'"),
        ({}, "has neither 'command' nor 'url'"),
        ({"source": "extension", "settings": {}}, ELSEWHERE),
        ({"type": "builtin", "name": "developer"}, ELSEWHERE),
        ({"command": "x", "env": {"K": "${input:k}"}},
         "env.K: ${input:k} asks a person, and a gateway has none: set the environment variable GATEWAY_INPUT_K"),
        ({"url": "http://u/", "bearer_token_env_var": "NOPE"}, "headers: environment variable NOPE is not set; set it"),
        ({"cmd": "x", "env_keys": ["NOPE"]}, "env_keys: environment variable NOPE is not set; set it"),
        ({"type": "ws", "url": "wss://u/"}, "connection: unknown transport 'ws'; use stdio, http, sse or openapi"),
        ({"command": "x", "args": {"a": 1}}, "args: must be a list of texts"),
        ({"command": "x", "cwd": 5}, "cwd: must be a path"),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_run_is_listed_with_the_reason(raw: Any, reason: str) -> None:
    spec = _read(raw).spec
    assert spec is not None
    assert (spec.id, spec.problem, spec.source) == ("one", reason, "file")


def test_an_entry_that_cannot_be_run_holds_nothing_that_could_be() -> None:
    for raw in ({"command": "x", "env": {"A": "hush", "B": "${NOPE}"}}, {"url": "http://hush/", "weight": 0}):
        spec = _read(raw).spec
        assert spec is not None
        assert spec.problem
        assert "hush" not in repr(spec.connection_json())


def test_what_has_no_effect_costs_nothing_even_if_it_is_flawed() -> None:
    assert not _read({"command": "x", "description": "${NOPE}", "dev": {"watch": "${NOPE}"}}).problems


def test_a_member_that_is_written_twice_is_a_flaw_of_its_entry() -> None:
    raw = decode(b'{"command": "x", "env": {"A": "1", "A": "2"}}', Path("c.json"))
    assert _read(raw).problems == [("mcpServers.one.env.A", "is written twice")]


def test_a_bare_url_is_taken_for_one() -> None:
    reading = _read("https://u/mcp")
    assert reading.spec is not None
    assert reading.spec.connection == HttpConnection("https://u/mcp")
    assert reading.mended == [("mcpServers.one", "was taken for a 'url'")]


def test_the_type_decides_between_a_command_and_a_url() -> None:
    both = {"command": "x", "url": "http://u/"}
    assert _http({**both, "type": "http"}).url == "http://u/"
    assert _stdio({**both, "type": "stdio"}).command == "x"
    assert _read(both).problems


@pytest.mark.parametrize(
    ("id", "expected"),
    [("a b", "a b"), (" a\n", "a_"), ("a\x1bb", "a_b"), ("//", "unnamed"), ("", "unnamed"), ("x" * 200, "x" * 128)],
)
def test_an_id_that_cannot_be_one_is_shown_as_what_can(id: str, expected: str) -> None:
    assert shown_id(id) == expected


def test_spaces_around_an_id_are_left_out_and_other_ids_are_kept() -> None:
    for id, expected in ((" a b ", "a b"), ("高德地图", "高德地图"), ("my__server", "my__server")):
        spec = _read({"command": "x"}, id=id).spec
        assert spec is not None
        assert (spec.id, spec.name, spec.problem) == (expected, expected, "")


def test_headers_may_be_a_list() -> None:
    for headers in (["A: b:c", "D:e"], [{"name": "A", "value": "b:c"}, {"name": "D", "value": "e"}]):
        assert _http({"url": "http://u/mcp", "headers": headers}).headers == {"A": "b:c", "D": "e"}


def test_an_api_is_an_entry_with_its_document(tmp_path: Path) -> None:
    reading = _read({"url": "https://h/v1", "spec": "api.yaml", "operations": ["GET *"]}, base=tmp_path)
    assert reading.spec is not None and not reading.problems and not reading.warnings
    assert reading.spec.transport == "openapi"
    assert reading.spec.connection == OpenApiConnection(
        "https://h/v1", spec=str(tmp_path / "api.yaml"), operations=("GET *",)
    )
    assert "needs 'url'" in str(_read({"spec": "api.yaml"}, base=tmp_path).problems)
    assert "operations" in str(_read({"url": "https://h/v1", "operations": ["GET *"]}, base=tmp_path).warnings)


@pytest.mark.parametrize(
    ("raw", "usual"),
    [
        ({"Command": "x", "Args": ["y"]}, {"command": "x", "args": ["y"]}),
        ({"URL": "http://u/"}, {"url": "http://u/"}),
        ({"command": " x ", "url": ""}, {"command": "x"}),
        ({"command": "", "url": "http://u/"}, {"url": "http://u/"}),
        ({"type": "stdio", "url": "http://u/"}, {"url": "http://u/"}),
        ({"type": "auto", "url": "http://u/"}, {"url": "http://u/"}),
        ({"type": "http", "command": "x"}, {"command": "x"}),
        ("npx -y x", {"command": "npx", "args": ["-y", "x"]}),
        ({"command": "npx", "args": "-y x --name 'a b'"}, {"command": "npx", "args": ["-y", "x", "--name", "a b"]}),
        ({"command": "x", "env": "A=1\nB=2"}, {"command": "x", "env": {"A": "1", "B": "2"}}),
        ({"url": "http://u/", "headers": "X-A: 1"}, {"url": "http://u/", "headers": {"X-A": "1"}}),
        ({"url": "http://u/", "headers": {"X-A": "1\n"}}, {"url": "http://u/", "headers": {"X-A": "1"}}),
        (
            {"url": "http://u/", "authorization_token": "t"},
            {"url": "http://u/", "headers": {"Authorization": "Bearer t"}},
        ),
        ({"command": "x", "timeout": "30s"}, {"command": "x", "requestTimeout": 30_000.0}),
        ({"command": "x", "timeout": "90000"}, {"command": "x", "requestTimeout": 90_000.0}),
        ({"command": "x", "timeout": "2m"}, {"command": "x", "requestTimeout": 120_000.0}),
        ({"command": "x", "tool_call_timeout_secs": 20}, {"command": "x", "requestTimeout": 20_000}),
        ({"command": "x", "serverStartupTimeout": 20}, {"command": "x", "startTimeout": 20_000}),
        ({"command": "x", "toolsWhitelist": ["a"]}, {"command": "x", "includeTools": ["a"]}),
        ({"command": "x", "denied-tools": ["a"]}, {"command": "x", "excludeTools": ["a"]}),
        ({"command": "x", "tools": "a, b"}, {"command": "x", "includeTools": ["a", "b"]}),
        ({"command": "x", "tools": "all"}, {"command": "x"}),
        ({"command": "x", "tools": [{"name": "a"}]}, {"command": "x", "includeTools": ["a"]}),
        ({"command": "x", "tool_configuration": {"allowed_tools": ["a"]}}, {"command": "x", "includeTools": ["a"]}),
    ],
)
def test_what_is_written_unusually_is_read_as_what_is_usual(raw: Any, usual: dict[str, Any]) -> None:
    reading, expected = _read(raw), _read(usual)
    assert reading.problems == []
    assert reading.spec == expected.spec


@pytest.mark.parametrize(
    "raw", [{"status": "disabled"}, {"tool_configuration": {"enabled": False}}, {"Disabled": True}]
)
def test_a_server_is_off_however_that_is_said(raw: dict[str, Any]) -> None:
    assert _read({"command": "x", **raw}).off


@pytest.mark.parametrize("key", ["allow", "denylist", "disabledPrompts", "blockedResources", "filters"])
def test_an_unknown_key_that_seems_to_restrict_is_refused(key: str) -> None:
    assert "seems to restrict the server" in _read({"command": "x", key: ["a"]}).problems[0][1]
    assert not _read({"command": "x", key: []}).problems


@pytest.mark.parametrize("key", ["alwaysAllowTools", "autoApproveTools", "enableLogging"])
def test_what_is_about_approval_hides_no_tool(key: str) -> None:
    spec = _read({"command": "x", key: ["a"] if "Tools" in key else True}).spec
    assert spec is not None
    assert (spec.include_tools, spec.exclude_tools, spec.problem) == (None, (), "")
