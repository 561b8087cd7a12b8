"""A small file of every client as its own documentation writes it: what of it runs, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import load
from shared.connections import StdioConnection
from shared.models import UpstreamSpec

ENVIRONMENT = {"HOME": "/home/ada", "KEY": "k0"}

CLIENTS: list[tuple[str, str, list[str]]] = [
    ("claude_desktop_config.json",
     '{"globalShortcut": "", "mcpServers": {"fs": {"command": "npx", "args": ["-y", "fs"], "env": {"A": "b"}}}}',
     ["fs: npx -y fs A"]),
    (".mcp.json",  # Claude Code
     '{"mcpServers": {"a": {"type": "stdio", "command": "npx", "env": {"C": "${NOPE:-/tmp}"}, "alwaysLoad": true},'
     ' "h": {"type": "http", "url": "${BASE:-https://h.test}/mcp", "headersHelper": "/x"}}}',
     ["a: npx C", "h: http https://h.test/mcp"]),
    (".claude.json",
     '{"numStartups": 1, "projects": {"/p": {"mcpServers": {}}}, "mcpServers": {"m": {"type": "sse", "url": "http://s"}}}',
     ["m: sse http://s"]),
    (".cursor/mcp.json",
     '{"mcpServers": {"h": {"command": "py", "args": ["${workspaceFolder}/s", "${userHome}"],'
     ' "env": {"K": "${env:KEY}"}}}}',
     ["h: py {folder}/s /home/ada K"]),
    (".vscode/mcp.json",
     '{ // mine\n "inputs": [{"type": "promptString", "id": "k", "password": true}],\n "servers": {\n'
     '"fs": {"type": "stdio", "command": "npx", "args": ["${workspaceFolder}${/}x",],}, /* no */\n'
     '"asks": {"command": "npx", "env": {"K": "${input:k}"}}, "s": {"command": "npx", "sandboxEnabled": true},},}',
     ["fs: npx {folder}/x", "asks: error GATEWAY_INPUT_K", "s: error sandbox"]),
    ("settings.json",  # VS Code's own
     '{"editor.fontSize": 14, "mcp": {"inputs": [], "servers": {"m": {"command": "npx"}}}}',
     ["m: npx"]),
    ("mcp_config.json",  # Windsurf
     '{"mcpServers": {"g": {"command": "docker", "disabledTools": ["rm"]}, "r": {"serverUrl": "https://r/mcp"}}}',
     ["g: docker -rm", "r: http https://r/mcp"]),
    (".gemini/settings.json",
     '{"general": {}, "mcp": {"excluded": ["x"]}, "mcpServers": {"p": {"command": "py", "includeTools": ["a"],'
     ' "excludeTools": ["b"], "trust": false, "env": {"K": "$KEY"}}, "h": {"httpUrl": "http://h/mcp"},'
     ' "x": {"command": "x"}}}',
     ["p: py K +a -b", "h: http http://h/mcp"]),
    ("config.toml",  # Codex
     'model = "m"\n[mcp_servers.c]\ncommand = "npx"\nenv_vars = ["KEY"]\nenabled_tools = ["a"]\n'
     'disabled_tools = ["b"]\n'
     'startup_timeout_sec = 20\n[mcp_servers.f]\nurl = "https://f/mcp"\nbearer_token_env_var = "KEY"\n'
     '[mcp_servers.off]\ncommand = "x"\nenabled = false\n',
     ["c: npx KEY +a -b", "f: http https://f/mcp Authorization"]),
    ("zed.json",
     '{"theme": "One", "context_servers": {"l": {"source": "custom", "command": "npx"}, "e": {"source": "extension"},'
     ' "o": {"command": {"path": "npx", "args": ["x"]}, "settings": {}}, }, }',
     ["l: npx", "e: error part of another client", "o: npx x"]),
    ("opencode.json",
     '{"$schema": "s", "tools": {"l_rm": false}, "mcp": {"l": {"type": "local", "command": ["npx", "-y"],'
     ' "environment": {"A": "b"}}, "r": {"type": "remote", "url": "https://r/mcp", "headers": {"A": "{env:KEY}"}}}}',
     ["l: npx -y A -rm", "r: http https://r/mcp A"]),
    ("continue.yaml",
     'name: C\nversion: 1.0.0\nschema: v1\nmcpServers:\n  - name: My Memory\n    command: npx\n'
     '    env: {K: "${{ secrets.KEY }}"}\n'
     "  - name: R\n    type: streamable-http\n    url: https://r/mcp\n    requestOptions: {headers: {A: b}}\n",
     ["My Memory: npx K", "R: http https://r/mcp A"]),
    ("cline_mcp_settings.json",
     '{"mcpServers": {"l": {"command": "node", "alwaysAllow": ["t"], "autoApprove": [],'
     ' "disabled": false, "timeout": 60},'
     ' "r": {"type": "streamableHttp", "url": "https://r/mcp", "disabled": true}}}',
     ["l: node"]),
    (".roo/mcp.json",
     '{"mcpServers": {"l": {"command": "npx", "watchPaths": ["x"], "disabledTools": ["rm"],'
     ' "cwd": "${workspaceFolder}"}}}',
     ["l: npx -rm"]),
    (".kiro/settings/mcp.json",
     '{"mcpServers": {"l": {"command": "uvx", "args": ["${workspaceFolder}"],'
     ' "disabled": false, "autoApprove": ["*"]}}}',
     ["l: uvx {folder}"]),
    ("goose.yaml",
     "extensions:\n  developer: {type: builtin, enabled: true, bundled: true}\n"
     "  gh: {type: stdio, enabled: true, cmd: npx, args: [-y], envs: {A: b},"
     " env_keys: [KEY], available_tools: []}\n"
     "  r: {type: streamable_http, uri: 'https://r/mcp', enabled: true}\n"
     "  off: {type: stdio, cmd: x, enabled: false}\n",
     ["developer: error part of another client", "gh: npx -y KEY A", "r: http https://r/mcp"]),
    (".gemini/settings.json",
     '{"mcpServers": {"gh": {"httpUrl": "https://g/mcp", "headers": {"Authorization": "Bearer $KEY"}}},'
     ' "excludeTools": ["rm"]}',
     ["gh: http https://g/mcp Authorization -rm"]),
    ("config.toml",
     '[mcp_servers.d]\ncommand = "npx"\n[mcp_servers.d.tools.search]\napproval_mode = "approve"\n',
     ["d: npx"]),
    ("claude_desktop_config.json",  # on Windows, with mcp-remote
     '{"mcpServers": {"r": {"command": "cmd", "args": ["/c", "npx", "mcp-remote", "https://r", "--header", "A:${T}"],'
     ' "env": {"T": "Bearer x"}}}}',
     ["r: npx mcp-remote https://r --header A:${T} T"]),
    (".kiro/agents/a.json",
     '{"name": "a", "mcpServers": {"git": {"command": "git-mcp"}, "fs": {"command": "fs-mcp"}},'
     ' "tools": ["read", "@git/log"]}',
     ["git: git-mcp +log"]),
    ("mcp_settings.json",  # MCPHub
     '{"mcpServers": {"x": {"command": "npx", "tools": {"a": {"enabled": false, "description": "d"}}}}, "groups": []}',
     ["x: npx -a"]),
    ("agent.json",  # tiny-agents
     '{"model": "m", "servers": [{"type": "stdio", "config": {"command": "npx", "args": ["x"]}}]}',
     ["server-1: npx x"]),
    ("manifest.json",
     '{"manifest_version": "0.3", "name": "ext", "server": {"type": "node", "entry_point": "x.js",'
     ' "mcp_config": {"command": "node", "args": ["${__dirname}/x.js"]}}, "user_config": {}}',
     ["ext: node {folder}/x.js"]),
    ("lmstudio.json", '{"mcpServers": {"hf": {"url": "https://hf/mcp", "headers": {"A": "b"}}}}',
     ["hf: http https://hf/mcp A"]),
    ("mcp-config.json",  # Copilot CLI
     '{"mcpServers": {"p": {"type": "local", "command": "npx", "tools": ["*"]},'
     ' "c": {"type": "http", "url": "https://c/mcp", "tools": ["get"]}}}',
     ["p: npx", "c: http https://c/mcp +get"]),
    ("warp.json",
     '{"Mem Server": {"command": "npx", "start_on_launch": true, "working_directory": null},'
     ' "r": {"url": "https://r/sse"}}',
     ["Mem Server: npx", "r: http https://r/sse"]),
    ("librechat.yaml",
     "version: 1.2.1\ncache: true\nmcpServers:\n  e:\n    type: streamable-http\n    url: https://e/mcp\n"
     "    headers: {A: '${KEY}', X-User: '{{LIBRECHAT_USER_ID}}'}\n"
     "  f: {command: npx, args: [-y, 8080], startup: false}\n",
     ["e: error LIBRECHAT_USER_ID", "f: npx -y 8080"]),
    ("fastmcp.json",
     '{"mcpServers": {"w": {"url": "https://w/mcp", "transport": "streamable-http", "auth": "oauth", "icon": "i"},'
     ' "t": {"command": "py", "transport": "stdio", "include_tags": ["x"]}}}',
     ["w: http https://w/mcp", "t: error tags"]),
    ("config.toml",  # OpenHands
     '[core]\nx = 1\n[mcp]\nsse_servers = ["https://s/sse"]\nshttp_servers = [{url = "https://h/mcp", api_key = "k"}]\n'
     'stdio_servers = [{name = "f", command = "uvx"}]\n',
     ["f: uvx", "sse_server-1: http https://s/sse", "shttp_server-1: http https://h/mcp Authorization"]),
    ("litellm.yaml",
     'model_list: []\nmcp_servers:\n  z: {url: "https://z/mcp", auth_type: bearer_token, auth_value: os.environ/KEY,'
     " allowed_tools: [a]}\n  k: {url: 'https://k/mcp', auth_type: api_key, auth_value: x,"
     " static_headers: {X-A: b}}\n  o: {url: 'https://o/mcp', auth_type: oauth2, client_id: x}\n",
     ["z: http https://z/mcp Authorization +a", "k: http https://k/mcp X-A X-API-Key", "o: http https://o/mcp"]),
    ("inspector.json",
     '{"mcpServers": {"default-server": {"type": "sse", "url": "http://l/sse", "note": "For SSE connections"}}}',
     ["default-server: sse http://l/sse"]),
]  # fmt: skip


def _shown(spec: UpstreamSpec) -> str:
    if spec.problem:
        return f"{spec.id}: error"
    connection = spec.connection
    if isinstance(connection, StdioConnection):
        words = [connection.command, *connection.args, *connection.env]
    else:
        words = [connection.type, connection.url, *connection.headers]
    words += [f"+{name}" for name in spec.include_tools or ()] + [f"-{name}" for name in spec.exclude_tools]
    return f"{spec.id}: {' '.join(words)}"


@pytest.mark.parametrize(("name", "text", "expected"), CLIENTS, ids=[name for name, *_ in CLIENTS])
def test_a_file_of_every_client_is_taken(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    config = load(file, ENVIRONMENT)
    wanted = [one.replace("{folder}", str(tmp_path)).partition(" error ") for one in expected]
    assert [_shown(spec) for spec in config.upstreams] == [
        head + (" error" if reason else "") for head, _, reason in wanted
    ]
    for spec, (_, _, reason) in zip(config.upstreams, wanted, strict=True):
        assert reason in spec.problem


def test_the_folder_of_the_workspace_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"servers": {"a": {"command": "x", "args": ["${workspaceFolder}"]}}}')
    for environment, expected in (({}, str(tmp_path)), ({"GATEWAY_WORKSPACE_FOLDER": "/else"}, "/else")):
        (upstream,) = load(file, environment).upstreams
        assert isinstance(upstream.connection, StdioConnection)
        assert upstream.connection.args == (expected,)
    file.write_text('{"gateway": {"workspaceFolder": "/set"}, "servers": {"a": {"command": "${workspaceFolder}/x"}}}')
    (upstream,) = load(file, {}).upstreams
    assert isinstance(upstream.connection, StdioConnection)
    assert upstream.connection.command == "/set/x"


def test_an_input_has_its_default_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"inputs": [{"id": "k", "default": "d"}], "servers": {"a": {"command": "${input:k}"}}}')
    for environment, expected in (({}, "d"), ({"GATEWAY_INPUT_K": "given"}, "given")):
        (upstream,) = load(file, environment).upstreams
        assert isinstance(upstream.connection, StdioConnection)
        assert upstream.connection.command == expected
