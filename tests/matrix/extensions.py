"""Features beside those of the protocol itself: tasks, MCP Apps, virtual servers. See ``features``."""

from __future__ import annotations

import json
from typing import Any

from tests.fleet import eventually
from tests.matrix.cells import why_not
from tests.matrix.features import (
    completion,
    elicitation,
    progress,
    prompts,
    resources,
    structured,
    subscription,
    templates,
)
from tests.matrix.jobs import EXTENSION
from tests.matrix.stage import REDESCRIBED, RENAMED, Stage, refused
from tests.matrix.wire import META, Wire


async def tasks(stage: Stage) -> None:
    """No SDK's client declares the extension of itself: the gateway waits for the result, and says how far it is."""
    player = await stage.connect()
    assert await player.text(stage.name("job"), text="héllo", seconds=0.3) == f"héllo by {stage.group}"
    await eventually(lambda: player.heard("progress"), 5, f"the task's state as progress, saw {player.events}")
    assert player.heard("progress")[0]["message"] == "begun"


async def task_handles(stage: Stage) -> None:
    known = {**META, "io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}}}
    async with Wire(stage.ports, stage.cell.kind) as wire:

        async def ask(method: str, members: dict[str, Any], name: str) -> dict[str, Any]:
            answer = json.loads(await wire.request(method, json.dumps(members)[1:-1], name, known))
            return dict(answer["result"])

        async def job(seconds: float) -> str:
            members = {"name": stage.name("job"), "arguments": {"text": stage.key, "seconds": seconds}}
            made = await ask("tools/call", members, stage.name("job"))
            assert made["resultType"] == "task" and made["status"] == "working", made
            return str(made["taskId"])

        async def state(id: str) -> dict[str, Any]:
            found = await ask("tasks/get", {"taskId": id}, id)
            assert found["taskId"] == id, found
            return found

        async def done() -> Any:
            found = await state(quick)
            return found if found["status"] == "completed" else None

        quick, slow = await job(0.2), await job(60)
        result = (await eventually(done, 10, "the task is over"))["result"]
        assert result["content"][0]["text"] == f"{stage.key} by {stage.group}"
        assert (await state(slow))["status"] == "working"
        await ask("tasks/cancel", {"taskId": slow}, slow)
        assert (await state(slow))["status"] == "cancelled"
        unknown = json.loads(await wire.request("tasks/get", '"taskId":"made-up"', "made-up", known))
        assert unknown["error"]["code"] == -32602, unknown


async def apps(stage: Stage) -> None:
    player = await stage.connect()
    tool = {tool["name"]: tool for tool in await player.entries("tools")}[stage.name("panel")]
    assert tool["_meta"]["ui"]["visibility"] == ["model", "app"], tool
    uri = tool["_meta"]["ui"]["resourceUri"]
    assert uri.startswith("ui://"), tool
    assert uri in {resource["uri"] for resource in await player.entries("resources")}
    (content,) = (await player.do("read", uri=uri))["contents"]
    assert (content["uri"], content["mimeType"]) == (uri, "text/html;profile=mcp-app"), content
    assert content["text"] == f"<p>panel of {stage.group}</p>", content  # of all that have one, it is its own
    assert await player.text(stage.name("panel")) == f"panel of {stage.group}"


async def virtual(stage: Stage) -> None:
    """Everything that renaming could break, under the names of a virtual server."""
    cell = stage.cell
    there = Stage(cell, stage.ports, stage.first, stage.player, virtual=True)
    player = await there.connect()
    listed = {tool["name"]: tool for tool in await player.entries("tools")}
    assert sorted(listed) == sorted(f"v_{one}" for one in RENAMED["tools"])
    assert listed["v_echo"]["description"] == "Say it again."
    assert await player.text("v_echo", text="renamed") == "renamed"
    for kind, key, place in (("resources", "uri", "fixed"), ("templates", "uriTemplate", "notes/{number}")):
        said = {entry[key]: entry.get("description") for entry in await player.entries(kind)}
        assert said[stage.uri(place)] == REDESCRIBED[place], said
    for hidden in ("echo", "v_fail", "fail", f"{stage.group}__fail"):
        assert (await refused(player.call(hidden, text="x"))).code == -32602, hidden
    for inner in (structured, prompts, resources, templates, completion, subscription, progress, elicitation, apps):
        if why_not(inner.__name__, cell.kind, cell.upstream) is None:
            await inner(there)
