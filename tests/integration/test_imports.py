"""What a process imports: the SDK takes 0.8 s and 64 MiB, and only the commands that speak MCP may pay for it."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.fleet import PYTHON

SDK = {"mcp", "mcp_types", "pydantic", "httpx2", "starlette", "uvicorn"}
SHOW = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("a front end", "import gateway.app"),
        (
            "the supervisor and the Python API",
            "import gateway.api, gateway.supervisor.lifecycle, gateway.supervisor.config_follower",
        ),
        ("a worker", "import worker.main"),
        (
            "the command line with all its commands",
            "from gateway.cli import adoption, calls, look, main, servers, tools, up\n"
            "for module in (tools, calls, look, servers, up, adoption): module.add_to(main.cli)\n"
            "main.cli(['tools', '--help'], standalone_mode=False)",
        ),
    ],
)
async def test_nothing_but_the_commands_that_speak_mcp_imports_the_sdk(what: str, code: str) -> None:
    assert not SDK & await _imported(code), what


async def test_the_commands_that_speak_mcp_use_the_sdk() -> None:
    assert await _imported("import gateway.cli.mcp_client") >= SDK


async def _imported(code: str) -> set[str]:
    """The top-level packages that a process has after ``code``."""
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-c", f"{code}\n{SHOW}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return set(json.loads(out.decode().splitlines()[-1]))
