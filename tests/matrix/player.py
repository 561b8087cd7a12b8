"""The test's side of a puppet: starts it, tells it what to do, and keeps what its client heard."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from typing import Any

from tests.fleet import ROOT, eventually
from tests.machine import scaled
from tests.matrix.cells import Kind

PYTHON1 = ROOT / "tests/matrix/.venv/bin/python"
COMMANDS: dict[str, list[str]] = {
    "python2": [sys.executable, "-m", "tests.matrix.python2"],
    "python1": [str(PYTHON1), "-m", "tests.matrix.python1"],
    "typescript1": ["node", str(ROOT / "tests/node/matrix1.mjs")],
    "typescript2": ["node", str(ROOT / "tests/node/matrix2.mjs")],
}


def missing(player: str) -> str:
    """Why this player cannot play here; empty if it can."""
    if player == "python1" and not PYTHON1.exists():
        return "the 1.x client is not installed: run 'make matrix-clients'"
    if player.startswith("typescript") and not ((ROOT / "tests/node/node_modules").exists() and shutil.which("node")):
        return "tests/node is not installed: run 'make node'"
    return ""


class Refused(Exception):
    """The client's command ended in an error."""

    def __init__(self, code: int, message: str, data: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.data = code, message, data


class Player:
    """One puppet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the child."""
        self._process = await asyncio.create_subprocess_exec(
            *COMMANDS[self.name],
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
            cwd=ROOT, env=dict(os.environ, PYTHONWARNINGS="ignore"),
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        """End the child."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), scaled(10))
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
            assert self._reading is not None
            await self._reading

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "event" in message:
                self.events.append(message["event"])
                continue
            answer = self._answers.pop(message["id"])
            if answer.done():
                continue
            if "error" in message:
                error = message["error"]
                answer.set_exception(Refused(error["code"], error["message"], error.get("data")))
            else:
                answer.set_result(message["result"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RuntimeError(f"{self.name} ended"))

    def begin(self, do: str, **arguments: Any) -> tuple[int, asyncio.Future[Any]]:
        """Send a command; its id and the answer to come."""
        assert self._process is not None and self._process.stdin is not None
        self._last += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[self._last] = answer
        command = {"id": self._last, "do": do, **arguments}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return self._last, answer

    async def do(self, do: str, **arguments: Any) -> Any:
        """Carry out a command. Raises ``Refused``."""
        return await self.begin(do, **arguments)[1]

    async def connect(
        self, ports: list[int], kind: Kind, log_level: str | None = None, query: str = "", server: str = ""
    ) -> None:
        """Connect anew as a client of this kind; forget what the last one heard. ``query`` ends the URL, ``server`` is
        the name of a group or a virtual server."""
        path = (f"/servers/{server}" if server else "") + ("/sse" if kind.over_sse else "/mcp") + query
        agreed = await self.do("connect", ports=ports, path=path, version=kind.version, log_level=log_level)
        assert agreed["version"] == kind.version, agreed
        self.events.clear()

    # ---- shorthands

    async def call(self, name: str, **arguments: Any) -> Any:
        """The result of a tool."""
        return await self.do("call", name=name, arguments=arguments)

    async def text(self, name: str, **arguments: Any) -> str:
        """The first text of a tool's result, which must be no error."""
        result = await self.call(name, **arguments)
        assert not result.get("isError"), result
        return str(result["content"][0]["text"])

    async def entries(self, what: str) -> list[dict[str, Any]]:
        """All entries of a list, of all its pages."""
        key = "resourceTemplates" if what == "templates" else what
        return [entry for page in await self.do("list", what=what) for entry in page[key]]

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind."""
        return [event for event in self.events if event["kind"] == kind]

    def notices(self, method: str) -> list[dict[str, Any]]:
        """Notifications of one method."""
        return [event for event in self.heard("notification") if event.get("method") == method]

    async def hears(self, condition: Any, trigger: Any = None, within_s: float = 10.0, what: str = "") -> None:
        """Wait for a condition; ``trigger`` is repeated each second, because a stream may not stand yet."""
        if trigger is None:
            await eventually(condition, within_s, what)
            return
        for attempt in range(int(within_s)):
            await trigger()
            try:
                await eventually(condition, 1.0, what)
                return
            except AssertionError:
                if attempt + 1 >= int(within_s):
                    raise
