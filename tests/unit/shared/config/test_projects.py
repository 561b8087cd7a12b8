"""Servers of single projects (Claude Code's local scope), and the content of files that entries name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.config import Config, parse

ONE, TWO = {"command": "x", "args": ["one"]}, {"command": "x", "args": ["two"]}


def read(document: dict[str, Any], base: Path, **environment: str) -> Config:
    return parse(document, {"HOME": str(base), **environment}, base)


def test_the_servers_of_all_projects_are_read_and_what_is_alike_once(tmp_path: Path) -> None:
    here, gone = tmp_path / "here", "/nowhere/gone"
    here.mkdir()
    document = {
        "numStartups": 3,
        "mcpServers": {"a": ONE},
        "projects": {
            str(here): {"mcpServers": {"a": ONE, "b": {"command": "${CLAUDE_PROJECT_DIR}/run"}}},
            gone: {"mcpServers": {"a": TWO, "c": TWO, "off": ONE}, "disabledMcpServers": ["off"]},
            "/other/gone": {"mcpServers": {"a": {"command": "y"}}},
            "/empty": {"mcpServers": {}, "allowedTools": []},
            "/flawed": {"mcpServers": 5},
        },
    }
    config = read(document, tmp_path)
    found = {spec.id: spec.connection for spec in config.upstreams}
    assert list(found) == ["a", "b", "a (gone)", "c", "a (/other/gone)"]
    assert (found["b"].command, found["b"].cwd) == (f"{here}/run", str(here))  # type: ignore[union-attr]
    assert found["c"].cwd == str(tmp_path), "the project is not on this machine"  # type: ignore[union-attr]
    assert config.left_out == [(f"projects[{gone}].mcpServers.off", "in disabledMcpServers")]
    assert ("projects[/flawed].mcpServers", "must be an object of id: connection") in config.warnings
    assert not config.problems


def test_one_project_is_meant_if_it_is_the_workspace(tmp_path: Path) -> None:
    document = {"projects": {"/p": {"mcpServers": {"a": ONE}}, "/q": {"mcpServers": {"a": TWO}}}}
    config = read(document, tmp_path, GATEWAY_WORKSPACE_FOLDER="/q")
    assert [(one.id, one.connection.args) for one in config.upstreams] == [("a", ("two",))]  # type: ignore[union-attr]
    assert config.warnings == [("projects", "only the servers of /q are read, and not those of /p")]
    assert len(read(document, tmp_path, GATEWAY_WORKSPACE_FOLDER="/elsewhere").upstreams) == 2


def test_files_that_entries_name_are_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbf hush\n")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfd")

    def header(text: str) -> Any:
        document = {"mcp": {"a": {"type": "remote", "url": "https://h/mcp", "headers": {"A": text}}}}
        (spec,) = read(document, tmp_path).upstreams
        return spec.problem or spec.connection.headers["A"]  # type: ignore[union-attr]

    assert header("Bearer {file:token}") == header("Bearer {file:~/token}") == "Bearer hush"
    assert header(f"{{file:{tmp_path}/token}}") == "hush"
    for wrong in ("missing", "large", "binary", "."):
        assert f"{{file:{wrong}}}: this file cannot be read" in header(f"{{file:{wrong}}}")
