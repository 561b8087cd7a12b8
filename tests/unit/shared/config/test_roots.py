"""``shared.config.roots``: entries are found wherever clients keep them, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pytest

from shared.config.roots import find

ONE = {"command": "x"}


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({"mcpServers": {"a": ONE}}, ["mcpServers.a"]),
        ({"servers": {"a": ONE}}, ["servers.a"]),
        ({"mcp": {"servers": {"a": ONE}}}, ["mcp.servers.a"]),
        ({"mcp.servers": {"a": ONE}}, ["mcp.servers.a"]),
        ({"amp.mcpServers": {"a": ONE}}, ["amp.mcpServers.a"]),
        ({"mcp_servers": {"a": ONE}}, ["mcp_servers.a"]),
        ({"context_servers": {"a": ONE}}, ["context_servers.a"]),
        ({"mcp": {"a": ONE, "b": {"type": "remote"}}}, ["mcp.a", "mcp.b"]),
        ({"mcp": {"allowed": [], "serverCommand": "x"}, "mcpServers": {}}, []),
        ({"extensions": {"a": {"type": "stdio", "cmd": "x"}}}, ["extensions.a"]),
        ({"extensions": {"a": {"autoUpdate": True}}}, []),
        ({"extensions": {"autoUpdate": True}}, []),
        ({"a": ONE, "b": {"url": "http://u"}}, ["a", "b"]),
        ({"gateway": {"port": 1}, "a": ONE}, ["a"]),
        ({"a": ONE, "flawed": {}}, ["a", "flawed"]),
        ({"a": ONE, "theme": "dark"}, []),
        ({"editor": {"size": 1}}, []),
        ({"mcpServers": [ONE, {"name": "b"}]}, ["mcpServers[0]", "mcpServers[1]"]),
        ({"settings": {"mcp": {"servers": {"a": ONE}}, "mcp.x": 1}, "folders": []}, ["settings.mcp.servers.a"]),
        ({"command": "x", "args": []}, [""]),
        ({"name": "n", "url": "http://u"}, [""]),
        ({"name": "n", "server": {"type": "node", "mcp_config": ONE}}, ["server.n"]),
        ({"name": "n", "server": {"type": "node"}}, []),
        ({"settings": {"servers": {"a": ONE}, "extensions": {"b": ONE}}}, []),
        ({"customizations": {"vscode": {"mcp": {"servers": {"a": ONE}}}}}, ["customizations.vscode.mcp.servers.a"]),
        ({"mcpServers": {"a": ONE}, "powers": {"mcpServers": {"b": ONE}}}, ["mcpServers.a", "powers.mcpServers.b"]),
        ({"augment.advanced": {"mcpServers": [ONE]}}, ["augment.advanced.mcpServers[0]"]),
        (
            {"experimental": {"modelContextProtocolServers": [{"transport": ONE}]}},
            ["experimental.modelContextProtocolServers[0]"],
        ),
        ({"mcpservers": {"a": ONE}}, ["mcpservers.a"]),
        ({"mcp-servers": {"a": ONE}}, ["mcp-servers.a"]),
        ({"MCPServer": {"a": ONE}}, ["MCPServer.a"]),
        ({"mcp_server": "x", "Servers": {"count": 3}}, []),
        ({"mcpServers": {"mcpServers": {"a": ONE}, "b": ONE}}, ["mcpServers.mcpServers.a", "mcpServers.b"]),
        ({"mcpServers": {"servers": ONE}}, ["mcpServers.servers"]),
        ({"mcpServers": None}, []),
        ({"mcpServers": {"a": ONE}, "servers": {"b": ONE}}, ["mcpServers.a", "servers.b"]),
        ({}, []),
    ],
)
def test_entries_are_found_with_their_paths(document: dict[str, Any], paths: list[str]) -> None:
    assert [entry.path for entry in find(document).entries] == paths


def test_entries_of_a_list_are_called_by_what_names_them_or_by_their_place() -> None:
    entries = find({"mcpServers": [{"id": "i", "name": "n", "url": "u"}, {"name": "n"}, ONE]}).entries
    assert [entry.id for entry in entries] == ["i", "n", "server-3"]
    assert entries[0].raw == {"name": "n", "url": "u"}
    assert entries[1].raw == {}, "what names an entry of a list is not the name of its group"


@pytest.mark.parametrize(
    ("more", "off"),
    [
        ({"mcp": {"allowed": ["a"]}}, {"b": "not in mcp.allowed"}),
        ({"mcp": {"excluded": ["a"]}}, {"a": "in mcp.excluded"}),
        ({"disabledMcpjsonServers": ["b"]}, {"b": "in disabledMcpjsonServers"}),
        ({"enabledMcpjsonServers": ["b"]}, {"a": "not in enabledMcpjsonServers"}),
        ({"mcp": {"allowed": []}}, {"a": "not in mcp.allowed", "b": "not in mcp.allowed"}),
        ({"allowed": ["a"]}, {}),
    ],
)
def test_servers_that_the_file_as_a_whole_shuts_off_are_off(more: dict[str, Any], off: dict[str, str]) -> None:
    entries = find({"mcpServers": {"a": ONE, "b": ONE}, **more}).entries
    assert {entry.id: entry.off for entry in entries if entry.off} == off


@pytest.mark.parametrize(
    ("tools", "hidden"),
    [
        ({"a_x": False, "b_y": True}, {"a": ("x",)}),
        ({"a*": False}, {"a": ("*",)}),
        ({"a_get_*": False}, {"a": ("get_*",)}),
        ({"*": False}, {"a": ("*",), "b": ("*",)}),
        ({"write": False}, {}),
    ],
)
def test_tools_that_opencode_turns_off_for_all_are_hidden(tools: Any, hidden: dict[str, Any]) -> None:
    entries = find({"mcp": {"a": ONE, "b": ONE}, "tools": tools}).entries
    assert {entry.id: entry.hidden for entry in entries if entry.hidden} == hidden


def test_keys_at_the_top_that_are_not_read_are_named_with_a_suggestion_or_in_one_line() -> None:
    assert find({"mcpServer": {}}).warnings == [("mcpServer", "unknown key (did you mean 'mcpServers'?)")]
    assert find({"mcpServers": {}, "theme": 1}).warnings == [("theme", "unknown key")]
    found = find({"mcpServers": {}, "theme": 1, "tips": 2, "zoom": 3, "$schema": "x"}).warnings
    assert found == [("theme", "unknown key; others that are not read: tips, zoom")]


def test_a_place_of_entries_that_is_none_is_named() -> None:
    assert find({"servers": 5}).problems == [("servers", "must be an object of id: connection")]


@pytest.mark.parametrize(
    ("url", "runs"),
    [
        ("https://x.org/mcp", True),
        ("http://x.org:81/mcp", True),
        ("https://a.y.org/mcp", True),
        ("https://z.org/mcp", True),
        ("https://y.org/mcp", False),
        ("https://x.org.evil.net/mcp", False),
        ("https://x.org@evil.net/mcp", False),
        ("https://[/mcp", False),
    ],
)
def test_hosts_that_a_file_does_not_allow_are_off(url: str, runs: bool) -> None:
    document = {
        "mcpServers": {"remote": {"url": url}, "child": {"command": "c"}},
        "mcpSettings": {"allowedDomains": ["x.org", "*.y.org", "https://z.org:8443"]},
    }
    assert {one.id: not one.off for one in find(document).entries} == {"remote": runs, "child": True}


@pytest.mark.parametrize("root", [True, False])
def test_comments_among_entries_are_no_entries(root: bool) -> None:
    entries = {"_comment": "these are ours", "//": "npx -y x", "a": {"command": "x"}, "_b": {"command": "y"}}
    found = find({"$schema": "s", "_note": "n", **({"mcpServers": entries} if root else entries)})
    assert [one.id for one in found.entries] == ["a", "_b"]
    assert not found.problems and not found.warnings


def test_an_agent_has_the_tools_that_its_file_names() -> None:
    servers = dict.fromkeys(("all", "some", "none", "many"), ONE)
    tools = ["read", "@all", "@some/a", "@some/b*", "@ma*"]
    found = {one.id: one for one in find({"mcpServers": servers, "tools": tools, "allowedTools": ["@none"]}).entries}
    assert {id: one.shown for id, one in found.items() if not one.off} == {
        "all": None,
        "some": ("a", "b*"),
        "many": None,
    }
    assert found["none"].off == "not in tools"
    assert all(one.shown is None for one in find({"mcpServers": servers, "tools": [*tools, "*"]}).entries)
    assert all(one.shown is None for one in find({"mcpServers": servers, "tools": [{"name": "a"}]}).entries)


def test_lists_at_the_top_take_tools_of_all_servers_out() -> None:
    document = {"mcpServers": {"a": ONE}, "excludeTools": ["x", "a__y"], "tools": {"exclude": ["z"]}}
    assert [one.hidden for one in find(document).entries] == [("x", "y", "z")]
    denied = {
        "mcp": {"a": {"type": "local", "command": ["x"]}},
        "permission": {"a_x": "deny", "a_y": "ask", "bash": "deny"},
    }
    assert [one.hidden for one in find(denied).entries] == [("x",)]


def test_a_description_of_the_registry_is_named_as_such() -> None:
    assert "gateway add" in find({"name": "io.github.x/y", "packages": []}).warnings[0][1]
