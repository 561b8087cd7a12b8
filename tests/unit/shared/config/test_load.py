"""``shared.config.load``: three formats, other clients' files, and every problem at once with its path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.choices import EraChoice, Isolation
from shared.config import Config, load, parse
from shared.connections import HttpConnection, StdioConnection
from shared.errors import ConfigError

BASE = Path("/project")


def _parse(document: Any, **environment: str) -> Config:
    return parse(document, environment, BASE)


def _problems(document: Any, **environment: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse(document, environment, BASE, strict=True)
    return caught.value.problems


def _one(entry: dict[str, Any], **environment: str) -> Any:
    return _parse({"mcpServers": {"one": entry}}, **environment).upstreams[0]


JSON_TEXT = """{"gateway": {"port": 4100, "requestTimeout": 2500},
 "mcpServers": {"a": {"command": "run", "args": ["-x"], "env": {"K": "${TOKEN}"}},
                "b": {"url": "http://b.test/mcp", "headers": {"X-Key": "${MISSING:-d}"}, "weight": 3}}}"""
YAML_TEXT = """
gateway: {port: 4100, requestTimeout: 2500}
mcpServers:
  a: {command: run, args: [-x], env: {K: "${TOKEN}"}}
  b: {url: "http://b.test/mcp", headers: {X-Key: "${MISSING:-d}"}, weight: 3}
"""
TOML_TEXT = """
[gateway]
port = 4100
requestTimeout = 2500
[mcpServers.a]
command = "run"
args = ["-x"]
env = {K = "${TOKEN}"}
[mcpServers.b]
url = "http://b.test/mcp"
headers = {X-Key = "${MISSING:-d}"}
weight = 3
"""
FORMATS = [("c.json", JSON_TEXT), ("c.yaml", YAML_TEXT), ("c.yml", YAML_TEXT), ("c.toml", TOML_TEXT)]


@pytest.mark.parametrize(("name", "text"), FORMATS)
def test_every_format_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    config = load(tmp_path / name, {"TOKEN": "t0"})
    assert config.settings == {"port": 4100, "requestTimeout": 2500}
    first, second = config.upstreams
    assert (first.id, first.name, first.transport, first.source) == ("a", "a", "stdio", "file")
    assert first.connection == StdioConnection("run", ("-x",), {"K": "t0"}, str(tmp_path.resolve()))
    assert (second.id, second.weight, second.transport) == ("b", 3, "http")
    assert second.connection == HttpConnection("http://b.test/mcp", "http", {"X-Key": "d"})


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("c.json", "{", "JSON"),
        ("c.conf", "a: b", "JSON"),
        ("c.yaml", "a: [", "YAML"),
        ("c.toml", "a = ", "TOML"),
    ],
)
def test_a_file_in_bad_syntax_is_named_with_its_format(tmp_path: Path, name: str, text: str, kind: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"{name} is not valid {kind}: .*") as caught:
        load(tmp_path / name, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"mcpServers": {"dup": {"command": "a"}, "dup": {"command": "b"}}}'),
        ("c.yaml", "mcpServers:\n  dup: {command: a}\n  dup: {command: b}\n"),
    ],
)
def test_an_id_written_twice_is_a_duplicate_not_the_last_one(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="duplicate key 'dup'; ids must be unique"):
        load(tmp_path / name, {}, strict=True)
    (dup,) = load(tmp_path / name, {}).upstreams
    assert (dup.id, dup.problem) == ("dup", "duplicate key 'dup'; ids must be unique, rename one of them")


def test_toml_refuses_an_id_written_twice_too(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[mcpServers.dup]\ncommand="a"\n[mcpServers.dup]\ncommand="b"\n')
    with pytest.raises(ConfigError, match="dup"):
        load(tmp_path / "c.toml", {})


def test_a_later_entry_of_an_id_that_is_taken_is_listed_beside_the_first_and_not_run() -> None:
    entry = {"command": "a"}
    found = _parse({"mcpServers": {"dup": entry}, "servers": {"dup": entry}}).upstreams
    assert [(one.id, one.problem) for one in found] == [
        ("dup", ""),
        ("dup (2)", "duplicate id; ids must be unique, rename one of them"),
    ]


def test_an_id_in_both_rooms_is_a_duplicate() -> None:
    entry = {"command": "a"}
    problems = _problems({"mcpServers": {"dup": entry}, "servers": {"dup": entry, "other": entry}})
    assert problems == [("servers.dup", "duplicate id; ids must be unique, rename one of them")]


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.json: No such file"):
        load(tmp_path / "none.json", {})
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "latin.json", {})


CLAUDE = {"mcpServers": {"fs": {"command": "npx", "args": ["-y", "server-fs"], "env": {"A": "1"}}}}
CURSOR = {
    "mcpServers": {
        "fs": {
            "command": "npx",
            "args": ["-y", "server-fs"],
            "env": {"A": "1"},
            "autoApprove": ["x"],
            "timeout": 60,
        },
    }
}
VS_CODE = {
    "$schema": "https://example.test/mcp.json",
    "inputs": [{"id": "k"}],
    "servers": {
        "fs": {
            "type": "stdio",
            "command": "npx",
            "args": ["-y", "server-fs"],
            "env": {"A": "${env:ONE}"},
            "dev": {"watch": "src/**"},
            "gallery": True,
        }
    },
}


@pytest.mark.parametrize("document", [CLAUDE, CURSOR, VS_CODE], ids=["claude", "cursor", "vscode"])
def test_files_of_other_clients_are_read_as_they_are(document: dict[str, Any]) -> None:
    (upstream,) = _parse(document, ONE="1").upstreams
    assert upstream.connection == StdioConnection("npx", ("-y", "server-fs"), {"A": "1"}, str(BASE))


@pytest.mark.parametrize(
    ("entry", "transport"),
    [
        ({"url": "http://u.test/"}, "http"),
        ({"url": "http://u.test/", "type": "http"}, "http"),
        ({"url": "http://u.test/", "type": "streamable-http"}, "http"),
        ({"url": "http://u.test/", "type": "streamableHttp"}, "http"),
        ({"url": "http://u.test/", "transport": "sse"}, "sse"),
        ({"command": "x"}, "stdio"),
        ({"connection": {"url": "http://u.test/", "type": "sse"}}, "sse"),
    ],
)
def test_the_transport_is_told_by_name_or_by_what_is_there(entry: dict[str, Any], transport: str) -> None:
    assert _one(entry).transport == transport


@pytest.mark.parametrize("off", [{"disabled": True}, {"enabled": False}])
def test_a_disabled_server_is_left_out_without_a_look_at_it(off: dict[str, Any]) -> None:
    document = {"mcpServers": {"off": {"strange": "${MISSING}", **off}, "on": {"command": "x", "disabled": False}}}
    assert [upstream.id for upstream in _parse(document).upstreams] == ["on"]


def test_options_become_the_specs_own() -> None:
    upstream = _one(
        {
            "command": "x",
            "name": "group",
            "weight": 2,
            "metadata": {"team": "a"},
            "isolation": "client",
            "era": "legacy",
            "balancer": "weighted",
        }
    )
    assert (upstream.id, upstream.name, upstream.weight, upstream.metadata) == (
        "one",
        "group",
        2,
        {"team": "a"},
    )
    assert (upstream.isolation, upstream.era) == (Isolation.CLIENT, EraChoice.LEGACY)
    assert upstream.balancer == "weighted"


@pytest.mark.parametrize(
    ("cwd", "expected"),
    [(None, "/project"), ("sub/..", "/project"), ("sub", "/project/sub"), ("/abs", "/abs")],
)
def test_a_working_directory_starts_from_the_files_folder(cwd: str | None, expected: str) -> None:
    assert _one({"command": "x"} if cwd is None else {"command": "x", "cwd": cwd}).connection.cwd == expected


def test_an_http_entry_gets_no_working_directory() -> None:
    assert isinstance(_one({"url": "http://u.test/"}).connection, HttpConnection)


def test_numbers_in_env_become_text_and_other_things_do_not() -> None:
    assert _one({"command": "x", "env": {"PORT": 80, "RATE": 1.5, "ON": True, "NONE": None}}).connection.env == {
        "PORT": "80",
        "RATE": "1.5",
        "ON": "true",
    }
    problems = _problems({"mcpServers": {"one": {"command": "x", "env": {"ON": [1]}}}})
    assert problems == [("mcpServers.one.env", "must be an object of NAME: value")]


def test_an_env_file_gives_variables_that_env_overrides(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("# note\nA=1\nB = 'two = 2' \n\nnothing\nC=file\n")
    document = {"mcpServers": {"one": {"command": "x", "envFile": "x.env", "env": {"C": "entry"}}}}
    (upstream,) = parse(document, {}, tmp_path).upstreams
    assert isinstance(upstream.connection, StdioConnection)
    assert upstream.connection.env == {"A": "1", "B": "two = 2", "C": "entry"}


def test_an_env_file_that_is_not_there_is_named() -> None:
    [(path, text)] = _problems({"mcpServers": {"one": {"command": "x", "envFile": "no.env"}}})
    assert path == "mcpServers.one.envFile"
    assert "cannot read /project/no.env" in text


@pytest.mark.parametrize(
    ("document", "path", "text"),
    [
        ("x", "", "a configuration is an object"),
        ({"mcpServer": {}}, "mcpServer", "unknown key (did you mean 'mcpServers'?)"),
        ({"zzz": {}}, "zzz", "unknown key"),
        ({"gateway": {"requestTimeuot": 5}}, "gateway.requestTimeuot", "(did you mean 'requestTimeout'?)"),
        ({"gateway": {"port": "x"}}, "gateway.port", "Expected `int`"),
        ({"gateway": {"port": 70_000}}, "gateway.port", "65535"),
        (
            {"gateway": {"adminToken": "${NOPE}"}},
            "gateway.adminToken",
            "environment variable NOPE is not set",
        ),
        ({"gateway": [1]}, "gateway", "must be an object"),
        ({"mcpServers": 1}, "mcpServers", "must be an object of id: connection"),
        ({"mcpServers": [1]}, "mcpServers[0]", "must be an object with 'command' or 'url'"),
        ({"mcpServers": {"a": "x"}}, "mcpServers.a", "must be an object with 'command' or 'url'"),
        ({"mcpServers": {"a": {"comand": "x"}}}, "mcpServers.a.comand", "(did you mean 'command'?)"),
        ({"mcpServers": {"a": {}}}, "mcpServers.a", "has neither 'command' nor 'url'"),
        ({"mcpServers": {"a": {"type": "http"}}}, "mcpServers.a.connection", "needs 'url'"),
        ({"mcpServers": {"a": {"command": " "}}}, "mcpServers.a.connection", "needs 'command'"),
        ({"mcpServers": {"a": {"url": "ftp://x/"}}}, "mcpServers.a.connection", "not an http://, https:// or unix://"),
        (
            {"mcpServers": {"a": {"type": "ws", "url": "ws://x"}}},
            "mcpServers.a.connection",
            "unknown transport",
        ),
        ({"mcpServers": {"a": {"command": "x", "url": "http://x"}}}, "mcpServers.a.url", "stands beside 'command'"),
        ({"mcpServers": {"a": {"url": "${U}"}}}, "mcpServers.a.url", "environment variable U is not set"),
        ({"mcpServers": {"a": {"args": ["${U}"], "command": "x"}}}, "mcpServers.a.args[0]", "variable U "),
        ({"mcpServers": {"//": {"command": "x", "name": "n"}}}, "mcpServers.//.id", "'//' must be 1-128 characters"),
        ({"mcpServers": {"a": {"command": "x", "weight": 0}}}, "mcpServers.a.weight", "from 1 to 1000"),
        ({"mcpServers": {"a": {"command": "x", "weight": True}}}, "mcpServers.a.weight", "from 1 to 1000"),
        ({"mcpServers": {"a": {"command": "x", "era": "old"}}}, "mcpServers.a.era", "auto, legacy, modern"),
        ({"mcpServers": {"a": {"command": "x", "balancer": "rr"}}}, "mcpServers.a.balancer", "round-robin"),
    ],
)
def test_a_problem_is_told_with_its_path(document: Any, path: str, text: str) -> None:
    problems = _problems(document)
    assert [where for where, told in problems if text in told] == [path], problems


def test_all_problems_are_told_at_once_in_the_files_order() -> None:
    document = {
        "gatway": {},
        "gateway": {"prot": 1, "frontends": 0},
        "mcpServers": {
            "good": {"command": "x"},
            "typo": {"comand": "x"},
            "twice": {"command": "x", "weight": 0, "era": "x"},
            "missing": {"url": "${URL}"},
        },
        "servers": {"bad": 5},
    }
    assert [path for path, _ in _problems(document)] == [
        "gatway",
        "gateway.prot",
        "gateway.frontends",
        "mcpServers.typo.comand",
        "mcpServers.typo",
        "mcpServers.twice.weight",
        "mcpServers.twice.era",
        "mcpServers.missing.url",
        "servers.bad",
    ]


def test_an_empty_configuration_is_fine() -> None:
    documents: list[Any] = [{}, {"gateway": None, "mcpServers": None}, {"gateway": {}, "servers": {}}]
    for document in documents:
        assert _parse(document) == Config(settings={}, upstreams=[])


def test_secrets_of_upstreams_are_not_in_any_repr() -> None:
    document = {
        "mcpServers": {
            "a": {"command": "x", "args": ["--key=hush-arg"], "env": {"KEY": "hush-env"}},
            "b": {"url": "http://me:hush-url@u.test/", "headers": {"X-Key": "${SECRET}"}},
        }
    }
    shown = repr(_parse(document, SECRET="hush-header"))
    assert "KEY" in shown
    assert "X-Key" in shown
    assert "hush" not in shown


def test_secrets_are_not_in_what_is_said_about_problems() -> None:
    document = {
        "gateway": {"adminToken": ["hush-token"]},
        "mcpServers": {
            "a": {"command": 5, "env": {"KEY": "hush-env"}},
            "b": {"url": "ftp://me:hush-url@u.test/"},
            "c": {"url": "http://u.test/", "headers": {"bad name": "hush-header"}},
        },
    }
    problems = _problems(document)
    assert len(problems) == 4
    assert "hush" not in str(problems)


def test_load_takes_the_processes_environment_when_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIT_TEST_COMMAND", "from-environment")
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"mcpServers": {"a": {"command": "${UNIT_TEST_COMMAND}"}}}))
    assert load(str(file)).upstreams[0].connection.command == "from-environment"  # type: ignore[union-attr]


def test_a_rule_about_a_group_that_the_file_does_not_have_is_told() -> None:
    role = {
        "allow": [
            "notes/*",
            "note/*",
            "tools:serch/find",
            "no*/x",
            "*/read_*",
            {"match": "resources:nowhere/file:///*"},
        ],
        "deny": ["methods:logging/*", "search/drop", "drop/search"],
    }
    document = {
        "access": {"roles": {"all": role}},
        "mcpServers": {"notes": {"command": "run"}, "search": {"command": "run"}},
    }
    assert _parse(document).warnings == [
        ("access.roles.all.allow[1]", "'note/*' matches nothing: the file has no group 'note' (did you mean 'notes'?)"),
        (
            "access.roles.all.allow[2]",
            "'tools:serch/find' matches nothing: the file has no group 'serch' (did you mean 'search'?)",
        ),
        (
            "access.roles.all.allow[5]",
            "'resources:nowhere/file:///*' matches nothing: the file has no group 'nowhere'",
        ),
        ("access.roles.all.deny[2]", "'drop/search' matches nothing: the file has no group 'drop'"),
    ]
    assert len(_problems(document)) == 4
    del document["mcpServers"]
    assert _parse(document).warnings == []


def test_an_extension_of_claude_s_with_its_configuration() -> None:
    server = {
        "type": "node",
        "mcp_config": {"command": "node", "args": ["${__dirname}/x.js"], "env": {"U": "${user_config.url}"}},
    }
    document = {
        "manifest_version": "0.3",
        "name": "ext",
        "server": server,
        "user_config": {"url": {"default": "http://d"}},
    }
    (spec,) = parse(document, {}, Path("/x")).upstreams
    assert spec.id == "ext"
    assert isinstance(spec.connection, StdioConnection)
    assert (spec.connection.args, spec.connection.env) == (("/x/x.js",), {"U": "http://d"})
    (spec,) = parse(document, {"GATEWAY_INPUT_URL": "http://e"}, Path("/x")).upstreams
    assert isinstance(spec.connection, StdioConnection)
    assert spec.connection.env == {"U": "http://e"}
