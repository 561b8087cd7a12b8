"""``shared.config.file_rules``: what a file says of its servers as a whole is obeyed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.config import parse

SERVERS = {
    "a": {"command": "npx", "args": ["-y", "server-a"]},
    "b b": {"command": "uvx", "args": ["server-b"]},
    "web": {"url": "https://api.test/mcp"},
}


def _read(**rest: Any) -> tuple[list[str], dict[str, tuple[str, ...]], list[str]]:
    """The servers that run, which tools of them are hidden, and the keys that were warned of."""
    config = parse({"mcpServers": SERVERS, **rest}, {}, Path("/w"))
    hidden = {spec.id: spec.exclude_tools for spec in config.upstreams if spec.exclude_tools}
    return [spec.id for spec in config.upstreams], hidden, [path for path, _ in config.warnings]


@pytest.mark.parametrize(
    ("rules", "running"),
    [
        ({"allowMCPServers": ["a"]}, ["a"]),
        ({"excludeMCPServers": ["a"]}, ["b b", "web"]),
        ({"disabled_servers": ["web"]}, ["a", "b b"]),
        ({"deniedMcpServers": [{"serverName": "a"}]}, ["b b", "web"]),
        ({"deniedMcpServers": [{"serverCommand": ["npx", "-y", "server-a"]}]}, ["b b", "web"]),
        ({"deniedMcpServers": [{"serverCommand": ["npx"]}]}, ["a", "b b", "web"]),
        ({"deniedMcpServers": [{"serverUrl": "https://api.test/*"}]}, ["a", "b b"]),
        ({"allowedMcpServers": []}, []),
        ({"allowedMcpServers": [{"serverName": "a"}, {"serverUrl": "https://*.test/*"}]}, ["a", "web"]),
        ({"allowedMcpServers": [{"serverName": "web"}, {"serverUrl": "https://other.test/*"}]}, []),
        ({"allowedMcpServers": [{"serverName": "a"}], "deniedMcpServers": [{"serverName": "a"}]}, []),
        ({"amp.mcpPermissions": [{"matches": {"url": "*"}, "action": "reject"}]}, ["a", "b b"]),
        (
            {
                "amp.mcpPermissions": [
                    {"matches": {"command": "npx -y server-*"}, "action": "allow"},
                    {"matches": {"command": "uvx", "args": "*-b"}, "action": "reject"},
                    {"matches": {"command": "*"}, "action": "reject"},
                ]
            },
            ["a", "web"],
        ),
        ({"amp.mcpPermissions": [{"matches": {"command": "npx", "user": "x"}, "action": "reject"}]}, ["b b", "web"]),
        (
            {
                "amp.mcpPermissions": [
                    {"matches": {"command": "npx", "user": "x"}, "action": "allow"},
                    {"matches": {"command": "npx"}, "action": "reject"},
                ]
            },
            ["b b", "web"],
        ),
    ],
)
def test_servers_that_a_file_does_not_want_are_left_out(rules: dict[str, Any], running: list[str]) -> None:
    assert _read(**rules) == (running, {}, [])


@pytest.mark.parametrize(
    ("rules", "hidden"),
    [
        ({"permissions": {"deny": ["mcp__a__rm", "Bash(rm:*)", "mcp__web"]}}, {"a": ("rm",), "web": ("*",)}),
        ({"permissions": {"deny": ["mcp__b_b__rm"]}}, {"b b": ("rm",)}),
        ({"permissions": {"allow": ["mcp__a"], "deny": ["Mcp(a:rm)", "Mcp(w*:*)"]}}, {"a": ("rm",), "web": ("*",)}),
        ({"amp.tools.disable": ["mcp__a__rm", "builtin:edit"]}, {"a": ("rm",)}),
        ({"excludeTools": ["rm", "a__mv"]}, {"a": ("rm", "mv"), "b b": ("rm", "a__mv"), "web": ("rm", "a__mv")}),
    ],
)
def test_tools_that_a_file_denies_are_hidden(rules: dict[str, Any], hidden: dict[str, tuple[str, ...]]) -> None:
    assert _read(**rules) == (["a", "b b", "web"], hidden, [])


def test_tools_that_crush_disables_are_hidden_and_its_own_are_not_meant() -> None:
    _, hidden, warned = _read(options={"disabled_tools": ["bash", "mcp_a_rm"], "debug": True})
    assert hidden == {"a": ("rm",)}
    assert warned == ["options"]


def test_tools_that_zed_denies_are_hidden() -> None:
    denied = {"mcp:a:rm": {"default": "deny"}, "mcp:b b:mv": {"default": "confirm"}, "terminal": {"default": "deny"}}
    _, hidden, _ = _read(agent={"tool_permissions": {"default": "allow", "tools": denied}})
    assert hidden == {"a": ("rm",)}


def test_what_is_about_approval_restricts_nothing() -> None:
    assert _read(permissions={"allow": ["mcp__a__rm"]}, trustedMcpServers=["a"])[:2] == (["a", "b b", "web"], {})
