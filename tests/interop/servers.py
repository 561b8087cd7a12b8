"""The servers of the comparison, as their registries have them, and what each is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from msgspec import Struct

HERE = Path(__file__).resolve().parent
NODE = HERE / "node_modules"
VENV = HERE / ".venv"
VENV_OLD = HERE / ".venv-1"
GO = HERE / ".go"
NPM = (
    "@modelcontextprotocol/server-everything",
    "@modelcontextprotocol/server-filesystem",
    "@modelcontextprotocol/server-memory",
)
PYPI = ("mcp-server-git", "mcp-server-time", "mcp-server-fetch", "fastmcp")
PYPI_OLD = ("mcp-server-sqlite", "mcp<2")
"""What does not run on the SDK 2.x, in an environment of its own."""
GO_SERVER = "github.com/modelcontextprotocol/go-sdk/examples/server/everything@latest"
Step = list[Any]


class Server(Struct, frozen=True):
    """One server over one transport. ``command`` starts it; ``port`` is where it listens, if it is no stdio server, and
    ``path`` where its endpoint is. ``steps`` are what it is asked beside its lists (``asker``)."""

    name: str
    source: str
    transport: str
    command: list[str]
    steps: list[Step]
    port: int = 0
    path: str = ""
    env: dict[str, str] = {}

    @property
    def connection(self) -> dict[str, Any]:
        """Return the server as an entry of a gateway."""
        if self.transport == "stdio":
            return {"type": "stdio", "command": self.command[0], "args": self.command[1:], "env": self.env}
        return {"type": self.transport, "url": f"http://127.0.0.1:{self.port}{self.path}"}


def everything(transport: str, port: int = 0) -> Server:
    """Return ``server-everything`` of npm, which has all that the protocol has."""
    argument = {"http": "streamableHttp"}.get(transport, transport)
    script = NODE / "@modelcontextprotocol/server-everything/dist/index.js"
    steps: list[Step] = [
        ["call", "echo", {"message": "h\u00e9llo"}],
        ["call", "get-sum", {"a": 2, "b": 3.5}],
        ["call", "get-sum", {"a": "wrong"}],
        ["call", "get-tiny-image", {}],
        ["call", "get-annotated-message", {"messageType": "error", "includeImage": True}],
        ["call", "get-structured-content", {"location": "Chicago"}],
        ["call", "get-resource-links", {"count": 3}],
        ["call", "get-resource-reference", {"resourceType": "Text", "resourceId": 1}],
        ["call", "trigger-long-running-operation", {"duration": 1, "steps": 4}],
        ["call", "trigger-sampling-request", {"prompt": "Say it", "maxTokens": 10}],
        ["call", "trigger-elicitation-request", {}],
        ["call", "get-roots-list", {}],
        ["prompt", "simple-prompt", {}],
        ["prompt", "args-prompt", {"city": "Ulm"}],
        ["prompt", "resource-prompt", {"resourceType": "Text", "resourceId": "2"}],
        ["complete", {"type": "ref/prompt", "name": "completable-prompt"}, {"name": "department", "value": "E"}],
        ["read", "demo://resource/dynamic/text/1"],
        ["read", "demo://resource/static/document/architecture.md"],
        ["level", "debug"],
    ]
    env = {"PORT": str(port)} if port else {}
    path = {"http": "/mcp", "sse": "/sse"}.get(transport, "")
    command = ["node", str(script), argument]
    return Server(f"everything-{transport}", f"npm {NPM[0]}", transport, command, steps, port, path, env)


def of_npm(folder: Path) -> list[Server]:
    """Return the other servers of npm, working in ``folder``."""
    (folder / "notes.txt").write_text("first\nsecond\n")
    (folder / "deep/er").mkdir(parents=True)
    at, name = str(folder), "@modelcontextprotocol/server-filesystem"
    files: list[Step] = [
        ["call", "read_text_file", {"path": f"{at}/notes.txt", "head": 1}],
        ["call", "list_directory", {"path": at}],
        ["call", "directory_tree", {"path": at}],
        ["call", "search_files", {"path": at, "pattern": "**/*.txt"}],
        ["call", "list_allowed_directories", {}],
        ["call", "read_text_file", {"path": "/etc/passwd"}],
    ]
    graph = [{"name": "Ada", "entityType": "person", "observations": ["wrote programs"]}]
    memory: list[Step] = [
        ["call", "create_entities", {"entities": graph}],
        ["call", "read_graph", {}],
        ["call", "search_nodes", {"query": "programs"}],
        ["call", "delete_entities", {"entityNames": ["Ada"]}],
    ]
    env = {"MEMORY_FILE_PATH": f"{at}/memory.json"}
    script = "dist/index.js"
    return [
        Server("filesystem", f"npm {name}", "stdio", ["node", str(NODE / name / script), at], files),
        Server("memory", f"npm {NPM[2]}", "stdio", ["node", str(NODE / NPM[2] / script)], memory, env=env),
    ]


def of_pypi(repository: Path, database: Path, page: str, port: int) -> list[Server]:
    """Return the servers of PyPI. ``page`` is the URL of a page to fetch."""
    at = str(repository)
    git: list[Step] = [
        ["call", "git_status", {"repo_path": at}],
        ["call", "git_log", {"repo_path": at, "max_count": 2}],
        ["call", "git_show", {"repo_path": at, "revision": "HEAD"}],
        ["call", "git_show", {"repo_path": at, "revision": "nothing"}],
    ]
    hours = {"source_timezone": "Europe/Berlin", "time": "16:30", "target_timezone": "Asia/Tokyo"}
    sql: list[Step] = [
        ["call", "create_table", {"query": "CREATE TABLE IF NOT EXISTS t (a INTEGER, b TEXT)"}],
        ["call", "write_query", {"query": "INSERT INTO t VALUES (1, 'one'), (2, 'zwei')"}],
        ["call", "read_query", {"query": "SELECT * FROM t ORDER BY a"}],
        ["call", "list_tables", {}],
        ["call", "describe_table", {"table_name": "t"}],
        ["call", "write_query", {"query": "DELETE FROM t"}],
        ["call", "read_query", {"query": "no SQL"}],
        ["read", "memo://insights"],
        ["prompt", "mcp-demo", {"topic": "tea"}],
    ]
    fastmcp: list[Step] = [
        ["call", "add", {"a": 1, "b": 2}],
        ["call", "fails", {}],
        ["call", "asks", {}],
        ["call", "samples", {}],
        ["call", "counts", {"to": 3}],
        ["read", "data://config"],
        ["read", "data://users/7"],
        ["prompt", "review", {"code": "x = 1"}],
    ]
    run = VENV / "bin"
    script = [str(run / "python"), str(HERE / "fastmcp_server.py")]
    return [
        Server("git", "PyPI mcp-server-git", "stdio", [str(run / "mcp-server-git"), "-r", at], git),
        Server(
            "time",
            "PyPI mcp-server-time",
            "stdio",
            [str(run / "mcp-server-time"), "--local-timezone", "UTC"],
            [["call", "convert_time", hours], ["call", "get_current_time", {"timezone": "Nowhere/Else"}]],
        ),
        Server(
            "fetch",
            "PyPI mcp-server-fetch",
            "stdio",
            [str(run / "mcp-server-fetch"), "--ignore-robots-txt"],
            [["call", "fetch", {"url": page, "raw": True}], ["prompt", "fetch", {"url": page}]],
        ),
        Server(
            "sqlite",
            "PyPI mcp-server-sqlite",
            "stdio",
            [str(VENV_OLD / "bin/mcp-server-sqlite"), "--db-path", str(database)],
            sql,
        ),
        Server("fastmcp-stdio", "PyPI fastmcp", "stdio", [*script, "stdio"], fastmcp),
        Server("fastmcp-http", "PyPI fastmcp", "http", [*script, "http", str(port)], fastmcp, port, "/mcp"),
    ]


def of_go(port: int) -> list[Server]:
    """Return the server of the Go SDK."""
    steps: list[Step] = [
        ["call", "greet", {"name": "Ada"}],
        ["call", "greet", {}],
        ["call", "greet (structured)", {"name": "Ada"}],
        ["call", "ping", {}],
        ["call", "log", {}],
        ["call", "sample", {}],
        ["call", "greet (with Icons)", {"name": "Ada"}],
        ["call", "roots", {}],
        ["prompt", "greet", {"name": "Ada"}],
        ["read", "embedded:info"],
    ]
    program = str(GO / "everything")
    return [
        Server("go-stdio", "Go go-sdk", "stdio", [program], steps),
        Server("go-http", "Go go-sdk", "http", [program, "-http", f"127.0.0.1:{port}"], steps, port, ""),
    ]


def environment(server: Server) -> dict[str, str]:
    """Return the environment of a server that runs directly."""
    return {**os.environ, **server.env}
