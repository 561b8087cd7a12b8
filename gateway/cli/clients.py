"""The programs that are clients of MCP servers: where they keep what they know of servers, and how they write it. Pure.

Sources: the documentation of each client, 2026.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from shared.errors import ConfigError


class Client(Struct, frozen=True):
    """One client.

    ``files`` are those of the user, ``project`` those in the folder of a project; ``~`` is the home, ``{settings}`` the
    folder for settings of programs. ``root`` is the key that has the entries. An entry has the endpoint's address as
    ``address``, the members of ``fixed``, and headers as ``headers``. ``variable`` is how a header names a variable of
    the environment, empty if the client has no such way.
    """

    name: str
    title: str
    files: tuple[str, ...]
    root: str = "mcpServers"
    project: tuple[str, ...] = ()
    address: str = "url"
    fixed: dict[str, Any] = {}
    headers: str = "headers"
    variable: str = ""


CLIENTS: Mapping[str, Client] = {
    one.name: one
    for one in (
        Client("claude", "Claude Desktop", ("{settings}/Claude/claude_desktop_config.json",), address=""),
        Client(
            "claude-code",
            "Claude Code",
            ("~/.claude.json",),
            project=(".mcp.json",),
            fixed={"type": "http"},
            variable="${%s}",
        ),
        Client(
            "codex",
            "Codex",
            ("~/.codex/config.toml",),
            root="mcp_servers",
            project=(".codex/config.toml",),
            headers="",
        ),
        Client("continue", "Continue", ("~/.continue/mcpServers/{name}.yaml",), fixed={"type": "streamable-http"}),
        Client("cursor", "Cursor", ("~/.cursor/mcp.json",), project=(".cursor/mcp.json",), variable="${env:%s}"),
        Client(
            "gemini",
            "Gemini CLI",
            ("~/.gemini/settings.json",),
            project=(".gemini/settings.json",),
            address="httpUrl",
            variable="${%s}",
        ),
        Client(
            "opencode",
            "opencode",
            ("~/.config/opencode/opencode.json",),
            root="mcp",
            project=("opencode.json",),
            fixed={"type": "remote", "enabled": True},
            variable="{env:%s}",
        ),
        Client(
            "vscode",
            "Visual Studio Code",
            ("{settings}/Code/User/mcp.json",),
            root="servers",
            project=(".vscode/mcp.json",),
            fixed={"type": "http"},
            variable="${env:%s}",
        ),
        Client(
            "windsurf",
            "Windsurf",
            ("~/.codeium/windsurf/mcp_config.json",),
            address="serverUrl",
            variable="${env:%s}",
        ),
        Client(
            "zed",
            "Zed",
            ("~/.config/zed/settings.json",),
            root="context_servers",
            project=(".zed/settings.json",),
        ),
    )
}


def files_of_user(client: Client, home: Path, environment: Mapping[str, str], name: str = "*") -> list[Path]:
    """Return the user's files of a client, there or not. With ``name`` ``*`` a place may stand for several files."""
    found: list[Path] = []
    for text in client.files:
        place = text.replace("{settings}", str(_settings(home, environment)))
        place = str(home) + place.removeprefix("~") if place.startswith("~") else place
        path = Path(place.replace("{name}", name))
        found += sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    return found


def files_of_project(client: Client, folder: Path) -> list[Path]:
    """Return the files of a client in the folder of a project, there or not."""
    return [folder / one for one in client.project]


def entry(client: Client, endpoint: str, variable: str = "") -> dict[str, Any]:
    """Return what a client's file says of the server at ``endpoint``.

    ``variable`` is the name of a variable of the client's environment that has an API key. Raises ``ConfigError`` if
    the client cannot take a key from there.
    """
    if not client.address:  # starts commands only
        if variable:
            raise _no_variable(client)
        return {"command": "npx", "args": ["-y", "mcp-remote", endpoint]}
    found = {**client.fixed, client.address: endpoint}
    if variable and client.name == "codex":
        return {**found, "bearer_token_env_var": variable}
    if variable and not client.variable:
        raise _no_variable(client)
    if variable:
        found[client.headers] = {"Authorization": "Bearer " + client.variable.replace("%s", variable)}
    return found


def _no_variable(client: Client) -> ConfigError:
    return ConfigError(
        f"{client.title} takes no key from a variable of its environment: leave --key-variable away, and write the "
        "header 'Authorization: Bearer KEY' into its file"
    )


def _settings(home: Path, environment: Mapping[str, str]) -> Path:
    """Return the folder in which programs keep settings on this system."""
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    if os.name == "nt":
        return Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
