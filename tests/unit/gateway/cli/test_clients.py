"""What is written into files of other programs: what they read, and nothing else of theirs is touched."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli import clients, editing
from gateway.cli.clients import CLIENTS
from shared.config import load
from shared.connections import HttpConnection, StdioConnection
from shared.errors import ConfigError

URL = "http://127.0.0.1:4000/mcp"
ENTRY = {"url": URL}


def written(name: str, folder: Path, variable: str = "") -> Path:
    """A client's file that has the gateway."""
    client = CLIENTS[name]
    file = folder / Path(client.files[0].replace("{name}", "gateway")).name
    entry = clients.entry(client, URL, variable)
    if file.suffix == ".yaml":
        file.write_text(editing.document_of_its_own("gateway", entry))
    else:
        file.write_text(editing.with_entry("", file, client.root, "gateway", entry, False))
    return file


@pytest.mark.parametrize("name", CLIENTS)
def test_what_is_written_for_each_client_leads_to_the_gateway(name: str, tmp_path: Path) -> None:
    (spec,) = load(written(name, tmp_path), {}).upstreams
    assert spec.id == "gateway" and not spec.problem
    if isinstance(spec.connection, StdioConnection):  # by a bridge
        assert (spec.connection.command, spec.connection.args[-1]) == ("npx", URL)
    else:
        assert isinstance(spec.connection, HttpConnection) and spec.connection.url == URL


@pytest.mark.parametrize("name", CLIENTS)
def test_the_key_comes_from_the_client_s_environment_and_is_not_in_its_file(name: str, tmp_path: Path) -> None:
    if name in ("claude", "continue", "zed"):
        with pytest.raises(ConfigError, match="takes no key from a variable"):
            written(name, tmp_path, "GATEWAY_API_KEY")
        return
    (spec,) = load(written(name, tmp_path, "GATEWAY_API_KEY"), {"GATEWAY_API_KEY": "gwk_x"}).upstreams
    assert isinstance(spec.connection, HttpConnection)
    assert spec.connection.headers["Authorization"] == "Bearer gwk_x"


@pytest.mark.parametrize(
    "before",
    [
        '{\n\t"theme": "é",\n\t"mcpServers": {"a": {"command": "x"}}\n}\n',
        '{"mcpServers": {}}',
        '{"z": 1, "a": [1, 2.50, null]}',
        "",
    ],
)
def test_what_else_is_in_a_file_of_json_stays_in_its_order(before: str) -> None:
    after = editing.with_entry(before, Path("mcp.json"), "mcpServers", "gateway", ENTRY, False)
    old, new = (json.loads(text or "{}") for text in (before, after))
    assert new.pop("mcpServers") == {**old.pop("mcpServers", {}), "gateway": ENTRY}
    assert list(new.items()) == list(old.items())
    assert ("\n\t" in after) == ("\n\t" in before)
    assert editing.with_entry(after, Path("mcp.json"), "mcpServers", "gateway", ENTRY, False) == after


@pytest.mark.parametrize("text", ['{"servers": {}, // mine\n}', '{"servers": {},}', "/* x */ {}"])
def test_comments_are_not_lost(text: str) -> None:
    with pytest.raises(ConfigError, match=r'has comments(.|\n)*"gateway": \{(.|\n)*' + URL):
        editing.with_entry(text, Path("mcp.json"), "servers", "gateway", ENTRY, False)


def test_toml_is_written_behind_what_is_there() -> None:
    before = '# mine\nmodel = "x"\n\n[mcp_servers.a]\ncommand = "y"\n'
    after = editing.with_entry(before, Path("config.toml"), "mcp_servers", "my gateway", ENTRY, False)
    assert after == before + f'\n[mcp_servers."my gateway"]\nurl = "{URL}"\n'


@pytest.mark.parametrize(
    ("text", "file", "said"),
    [
        ('{"mcpServers": {"gateway": {"url": "http://other"}}}', "mcp.json", "--replace"),
        ('[mcp_servers.gateway]\nurl = "http://other"\n', "config.toml", "take it out first"),
        ('{"mcpServers": []}', "mcp.json", "must be an object"),
        ("[]", "mcp.json", "no object at its root"),
        ("{", "mcp.json", "not valid JSON"),
    ],
)
def test_what_cannot_be_written_is_said_with_the_cure(text: str, file: str, said: str) -> None:
    root = "mcp_servers" if file.endswith("toml") else "mcpServers"
    with pytest.raises(ConfigError, match=said):
        editing.with_entry(text, Path(file), root, "gateway", ENTRY, False)


def test_another_server_of_the_name_is_replaced_when_asked_to() -> None:
    text = '{"mcpServers": {"gateway": {"url": "http://other"}}}'
    after = editing.with_entry(text, Path("mcp.json"), "mcpServers", "gateway", ENTRY, True)
    assert json.loads(after) == {"mcpServers": {"gateway": ENTRY}}


def test_a_copy_is_kept_that_only_the_user_can_read_and_links_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.json", tmp_path / "home" / "mcp.json"
    real.write_text("{}")
    real.chmod(0o644)
    link.parent.mkdir()
    link.symlink_to(real)
    kept = [editing.write(link, text) for text in ("one", "two")]
    assert link.is_symlink() and real.read_text() == "two" and stat.S_IMODE(real.stat().st_mode) == 0o644
    assert [one.name for one in kept if one] == ["dotfiles.json.bak", "dotfiles.json.bak-2"]
    assert [one.read_text() for one in kept if one] == ["{}", "one"]
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in kept if one)
    fresh = tmp_path / "new" / "mcp.json"
    assert editing.write(fresh, "{}") is None and stat.S_IMODE(fresh.stat().st_mode) == 0o600
    assert not [one for one in os.listdir(tmp_path) if one.startswith(".")]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        editing.write(tmp_path / "file" / "mcp.json", "{}")


def test_files_are_where_clients_have_them(tmp_path: Path) -> None:
    home: dict[str, Any] = {"XDG_CONFIG_HOME": str(tmp_path / "settings")}
    (found,) = clients.files_of_user(CLIENTS["vscode"], tmp_path, home)
    assert found.parts[-3:] == ("Code", "User", "mcp.json")
    assert clients.files_of_user(CLIENTS["cursor"], tmp_path, {}) == [tmp_path / ".cursor" / "mcp.json"]
    assert clients.files_of_user(CLIENTS["continue"], tmp_path, {}) == []
    file = tmp_path / ".continue" / "mcpServers" / "a.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump({"mcpServers": []}))
    assert clients.files_of_user(CLIENTS["continue"], tmp_path, {}) == [file]
    assert clients.files_of_project(CLIENTS["claude-code"], tmp_path) == [tmp_path / ".mcp.json"]
