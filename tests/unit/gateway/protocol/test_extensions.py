"""``gateway.protocol.extensions``: what is not carried is not declared upwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocol.extensions import declared_upwards, params_upwards
from shared.mcp.tasks import EXTENSION as TASKS

UI = "io.modelcontextprotocol/ui"


@pytest.mark.parametrize(
    ("given", "alone", "left"),
    [
        ({}, False, {}),
        ({"sampling": {}}, False, {"sampling": {}}),
        ({"tasks": {"requests": {}}, "roots": {}}, False, {"roots": {}}),
        ({"tasks": {}}, True, {}),
        ({"extensions": {TASKS: {}}}, False, {}),
        ({"extensions": {TASKS: {}}}, True, {}),
        ({"extensions": {TASKS: {}, UI: {"a": 1}}}, False, {"extensions": {UI: {"a": 1}}}),
        ({"extensions": {"com.x/y": {}}}, False, {}),
        ({"extensions": {"com.x/y": {}}}, True, {"extensions": {"com.x/y": {}}}),
        ({"extensions": []}, False, {}),
    ],
)
def test_capabilities_as_they_are_declared_upwards(given: dict[str, Any], alone: bool, left: dict[str, Any]) -> None:
    assert json.loads(declared_upwards(json.dumps(given).encode(), alone)) == left


def test_params_lose_the_task_and_what_is_not_carried_and_nothing_else() -> None:
    meta = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}, "a/b": {}}}, "progressToken": 1}
    params = {"name": "t", "arguments": {"task": 1}, "task": {"ttl": 5}, "_meta": meta}
    found = json.loads(params_upwards(json.dumps(params).encode(), False))
    assert found == {
        "name": "t",
        "arguments": {"task": 1},
        "_meta": {"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}, "progressToken": 1},
    }
    assert params_upwards(b'{"name":"t"}', False) == b'{"name":"t"}'
