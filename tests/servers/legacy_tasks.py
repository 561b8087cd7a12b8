"""A stdio server of 2025-11-25 whose tools need tasks: ``python -m tests.servers.legacy_tasks``. Standard library only.

``tools/call`` without ``task`` is refused. ``tasks/result`` blocks until the task is over, and has the question of
``confirm`` beside it. ``seen`` (a tool without tasks) returns the methods that were asked for.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

TOOLS = ("wait", "fail", "confirm", "forever")
_lock = threading.Lock()
_seen: list[str] = []
_answers: dict[str, Any] = {}
_answered = threading.Condition()
tasks: dict[str, dict[str, Any]] = {}


def say(message: dict[str, Any]) -> None:
    with _lock:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def text(said: str, **members: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}], **members}


def finish(task: dict[str, Any], request: dict[str, Any]) -> None:
    """Answer ``tasks/result`` when the task is over."""
    id, tool = request["id"], task["tool"]
    if tool == "confirm":
        task["status"] = "input_required"
        schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
        related = {"io.modelcontextprotocol/related-task": {"taskId": task["taskId"]}}
        params = {"message": "sure?", "requestedSchema": schema, "_meta": related}
        say({"id": f"q{id}", "method": "elicitation/create", "params": params})
        with _answered:
            _answered.wait_for(lambda: f"q{id}" in _answers, 20)
        answer = _answers[f"q{id}"].get("result", {})
        result = text(f"{answer.get('action')} {answer.get('content')}")
    else:
        while task["status"] == "working" and time.time() < task["until"]:
            time.sleep(0.02)
        result = text(tool, isError=True) if tool == "fail" else text(f"{tool} {task['arguments']}")
    if task["status"] == "cancelled":
        say({"id": id, "error": {"code": -32000, "message": "cancelled"}})
        return
    task["status"] = "failed" if tool == "fail" else "completed"
    say({"id": id, "result": result})


def call(params: dict[str, Any]) -> dict[str, Any]:
    name = params["name"]
    if name == "seen":
        return {"result": text(" ".join(_seen))}
    if "task" not in params:
        return {"error": {"code": -32601, "message": f"tool {name} needs a task"}}
    life = {"wait": 0.6, "forever": 60.0}.get(name, 0.0)
    id = f"task-{len(tasks)}"
    tasks[id] = {"taskId": id, "status": "working", "tool": name, "arguments": params.get("arguments"),
                 "until": time.time() + life}  # fmt: skip
    return {"result": {"task": shown(tasks[id])}}


def shown(task: dict[str, Any]) -> dict[str, Any]:
    now = "2025-11-25T00:00:00Z"
    said = {"taskId": task["taskId"], "status": task["status"], "statusMessage": f"{task['tool']}: {task['status']}"}
    return {**said, "createdAt": now, "lastUpdatedAt": now, "ttl": 60_000, "pollInterval": 100}


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    method, params = message["method"], message.get("params") or {}
    _seen.append(method)
    if method == "initialize":
        capabilities = {"tools": {}, "tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}
        info = {"name": "legacy-tasks", "version": "1"}
        return {"result": {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}}
    if method == "tools/list":
        plain = {"inputSchema": {"type": "object"}}
        found = [{"name": name, **plain, "execution": {"taskSupport": "required"}} for name in TOOLS]
        return {"result": {"tools": [*found, {"name": "seen", **plain}]}}
    if method == "tools/call":
        return call(params)
    if method == "tasks/get":
        return {"result": shown(tasks[params["taskId"]])}
    if method == "tasks/cancel":
        tasks[params["taskId"]]["status"] = "cancelled"
        return {"result": shown(tasks[params["taskId"]])}
    if method == "tasks/result":
        threading.Thread(target=finish, args=(tasks[params["taskId"]], message), daemon=True).start()
        return None
    return {"result": {}} if method == "ping" else {"error": {"code": -32601, "message": "Method not found"}}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "method" not in message:
            with _answered:
                _answers[message["id"]] = message
                _answered.notify_all()
        elif "id" in message:
            found = answer(message)
            if found is not None:
                say({"id": message["id"], **found})


if __name__ == "__main__":
    main()
