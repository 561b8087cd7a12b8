"""``servers add``: its options are the keys of an entry, and what cannot be meant is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import registration, servers
from gateway.cli.main import cli
from shared.models import UpstreamSpec
from shared.own_settings import OWN

CLI = "http://127.0.0.1:4000"


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the command in a folder of its own: exit code, output, and what would be registered where."""
    registered: list[tuple[str, UpstreamSpec, dict[str, Any], bool]] = []
    monkeypatch.setattr(registration, "register", lambda *given: registered.append(given))
    monkeypatch.delenv("GATEWAY_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    servers.add_to(cli)

    def run(*arguments: str) -> Any:
        registered.clear()
        result = CliRunner().invoke(cli, ["servers", *arguments])
        return result.exit_code, result.output, *(registered[0] if registered else (None, None, None, None))

    return run


def test_a_url_has_every_key_of_an_entry(add: Any, tmp_path: Path) -> None:
    code, output, url, spec, connection, replace = add(
        "add", "api", "https://host/mcp", "--url", "http://gw:1", "--name", "group", "--weight", "3",
        "--balancer", "weighted", "--isolation", "client", "--era", "legacy", "--include-tool", "a*",
        "--include-tool", "b", "--exclude-tool", "c", "--metadata", "team=1.0", "--set", "startTimeout=60000",
        "--set", "maxPending=5", "--header", "Authorization: Bearer x:y", "--proxy", "http://proxy:3128",
        "--ca-file", "ca.pem", "--cert-file", "/c.pem", "--key-file", "/k.pem", "--server-name", "name",
        "--insecure-skip-verify", "--replace",
    )  # fmt: skip
    assert code == 0 and output == "replaced api (group, http)\n" and replace is True and url == "http://gw:1"
    assert connection == {
        "url": "https://host/mcp", "headers": {"Authorization": "Bearer x:y"}, "proxy": "http://proxy:3128",
        "tls": {"caFile": str(tmp_path / "ca.pem"), "certFile": "/c.pem", "keyFile": "/k.pem", "serverName": "name",
                "insecureSkipVerify": True},
    }  # fmt: skip
    assert (spec.weight, spec.balancer, spec.isolation, spec.era) == (3, "weighted", "client", "legacy")
    assert (spec.include_tools, spec.exclude_tools, spec.metadata) == (("a*", "b"), ("c",), {"team": "1.0"})
    assert spec.settings == {"startTimeout": 60000, "maxPending": 5} and spec.source == "cli"


def test_an_api_has_a_document(add: Any, tmp_path: Path) -> None:
    code, output, _, spec, connection, _ = add(
        "add", "api", "https://host/v1", "--spec", "api.yaml", "--operations", "GET *", "--health", "/up"
    )
    assert code == 0 and output == "registered api (api, openapi)\n"
    wanted = {"spec": str(tmp_path / "api.yaml"), "operations": ("GET *",), "health": "/up"}
    assert connection == {"url": "https://host/v1", "headers": {}, **wanted}
    assert spec.connection.touches_host() == "reads files of the host"
    *_, spec, connection, _ = add("add", "api", "https://host/v1", "--spec", "https://host/openapi.json")
    assert connection["spec"] == "https://host/openapi.json" and spec.connection.touches_host() == ""


def test_auth_is_json_or_a_file_with_it(add: Any, tmp_path: Path) -> None:
    auth = {"type": "clientCredentials", "clientId": "gw", "privateKeyFile": "k.pem"}
    (tmp_path / "auth.json").write_text(json.dumps(auth))
    for given in (json.dumps(auth), "@auth.json"):
        code, output, _, spec, connection, _ = add("add", "api", "https://host/mcp", "--auth", given)
        assert code == 0, output
        assert connection["auth"] == {**auth, "privateKeyFile": str(tmp_path / "k.pem")}
        assert spec.connection.auth.client_id == "gw"
    for wrong, why in (("{", "no JSON"), ("@none", "cannot read none"), ('{"type": "x"}', "types: clientCredentials")):
        code, output, *_ = add("add", "api", "https://host/mcp", "--auth", wrong)
        assert code != 0 and why in output, output


def test_a_command_has_its_folder_and_environment(add: Any, tmp_path: Path) -> None:
    (tmp_path / "some.env").write_text("A=file\nB='two words'\n")
    code, output, url, _, connection, replace = add(
        "add", "files", "--env-file", "some.env", "--env", "A=flag", "--cwd", "below", "--", "npx", "-y", "--url", "x"
    )
    assert (code, output, url, replace) == (0, "registered files (files, stdio)\n", CLI, False)
    assert connection == {
        "type": "stdio", "command": "npx", "args": ["-y", "--url", "x"], "env": {"A": "flag", "B": "two words"},
        "cwd": str(tmp_path / "below"),
    }  # fmt: skip
    assert add("add", "files", "--", "x")[4]["cwd"] == str(tmp_path)


def test_url_is_the_gateway_s_unless_nothing_else_can_be_meant(add: Any) -> None:
    for arguments in (
        ["--url", "http://gw:1", "add", "a", "http://up"],
        ["add", "--url", "http://gw:1", "a", "http://up"],
        ["add", "a", "--url", "http://gw:1", "--", "command"],
    ):
        code, output, url, *_ = add(*arguments)
        assert (code, url) == (0, "http://gw:1") and "deprecated" not in output
    code, output, url, _, connection, _ = add("--url", "http://gw:1", "add", "a", "--url", "http://up")
    assert (code, url, connection["url"]) == (0, "http://gw:1", "http://up")
    assert "deprecated: --url names the gateway; write 'gateway servers add a http://up'" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give the server's URL, or -- COMMAND ARGS"),
        (["localhost:3000/mcp"], "'localhost:3000/mcp' is no URL: write http://"),
        (["npx", "server"], "or '-- COMMAND ARGS' for a command"),
        (["http://up", "more"], "is no URL"),
        (["--", "http://up", "more"], "a URL takes no arguments"),
        (["http://up", "--cwd", "x"], "--cwd is for a server that is reached by a command"),
        (["http://up", "--env", "A=b"], "--env is for a server that is reached by a command"),
        (["--ca-file", "x", "--", "cat"], "--ca-file is for a server that is reached by a URL"),
        (["--header", "A: b", "--", "cat"], "--header is for a server that is reached by a URL"),
        (["http://up", "--header", "A"], "--header: 'A' needs a ':' between name and value"),
        (
            ["http://up", "--set", "startTime=1"],
            "startTime: is no setting of one upstream (did you mean 'startTimeout'",
        ),
        (["http://up", "--set", "startTimeout=soon"], "startTimeout"),
        (["http://up", "--operations", "GET *"], "name its document with --spec"),
        (["http://up", "--transport", "openapi"], "needs 'spec'"),
        (["--spec", "x", "--", "cat"], "--spec is for a server that is reached by a URL"),
        (["http://up", "--set", "hedge.after=p20"], "'p20' is not a percentile from p50 to p99"),
        (["http://up", "--set", "hedge=p95"], "must be an object with after"),
        (["http://up", "--balancer", "none"], "balancer"),
        (["http://up", "--key-file", "k"], "tls.keyFile needs tls.certFile"),
        (["http://up", "--transport", "stdio"], "needs 'command'"),
        (["--env-file", "missing", "--", "cat"], "--env-file: cannot read missing"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_line(add: Any, arguments: list[str], words: str) -> None:
    code, output, *rest = add("add", "a", *arguments)
    assert code == 2 and words in output and rest[0] is None, output


def test_every_setting_of_an_upstream_can_be_set(add: Any) -> None:
    hedged = add("add", "a", "http://up", "--set", "hedge.after=p95", "--set", "maxPending=7")[3]
    assert hedged.settings == {"hedge": {"after": "p95"}, "maxPending": 7}
    for key in (one for one in OWN if one != "hedge"):
        value = "adaptive" if key == "concurrency" else 2000
        assert add("add", "a", "http://up", "--set", f"{key}={value}")[3].settings == {key: value}, key
