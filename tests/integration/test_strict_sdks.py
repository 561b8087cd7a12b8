"""What odd servers list can be read by the SDKs of clients, after it was mended: one entry fails a client's whole list.

The schemas are those that the SDKs themselves read lists with: Python 1.x, TypeScript 1.x and 2.x (2.x of Python is in
``tests/unit/worker/ownership/test_mending.py``, with whatever hypothesis makes up).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Raw

from gateway.routing.entries import parse
from shared.mcp.listings import Kind
from tests.fleet import ROOT
from tests.machine import scaled
from tests.matrix.player import PYTHON1, missing
from worker.ownership.mending import mend

GOOD: dict[Kind, dict[str, Any]] = {
    Kind.TOOLS: {"name": "t", "inputSchema": {"type": "object"}},
    Kind.PROMPTS: {"name": "p"},
    Kind.RESOURCES: {"uri": "file:///r", "name": "r"},
    Kind.TEMPLATES: {"uriTemplate": "db://{t}", "name": "x"},
}
ANNOTATIONS: tuple[dict[str, Any], ...] = (
    *({"priority": 5}, {"priority": -1}, {"priority": "high"}, {"audience": ["user", "user"]}, {"audience": []}),
    *({"lastModified": one} for one in (5, "2024-01-01", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00")),
)
ICONS: tuple[list[Any], ...] = (
    *([{"src": "x", "sizes": one}] for one in ("any", None, [5])),
    *([{"src": "x", "mimeType": one}] for one in (5, None)),
    *([{"src": "x", "theme": one}] for one in ("blue", None)),
    [],
)
OUTPUT: tuple[dict[str, Any], ...] = (
    {},
    *({"type": one} for one in ("array", "string", ["object", "null"], None)),
    *({"type": "object", "properties": one} for one in (None, [], {"a": True}, {"a": None}, {"a": False})),
    *({"type": "object", "required": one} for one in (None, "a", [1], ["a"])),
    *({"$ref": "#/x"}, {"anyOf": [{"type": "object"}]}, {"type": "object", "properties": ["a"]}),
)
INPUT: tuple[dict[str, Any], ...] = (
    *(
        {"type": "object", "$schema": 5},
        {"type": "object", "additionalProperties": None},
        {"type": "object", "$defs": 5},
    ),
    *({"type": "object", "properties": {"a": one}} for one in ({"type": None}, [], True)),
)
URIS = (
    *("http://", "https:///x", "http://a b/x", "http://[::1", "http://:80/x", "http://host:99999/", "http://host:abc/"),
    *("x:y", "file://", "db:// ", "urn:", "a:%", "http://exa<mple/", "mailto:x", "docs://ünï/ä", "file:///a b"),
    *("repo://{owner}/x", "data:,", "javascript:alert(1)", "C:\\x\\y", "https://example.com:443/x?y#z"),
)


def _odd() -> Iterator[tuple[Kind, dict[str, Any]]]:
    for kind, good in GOOD.items():
        yield from ((kind, {**good, "annotations": one}) for one in ANNOTATIONS)
        yield from ((kind, {**good, "icons": one}) for one in ICONS)
        for support in ("maybe", None, 5, "optional"):
            yield kind, {**good, "execution": {"taskSupport": support}}
        yield kind, {**good, "_meta": {"a": None}}
    yield from ((Kind.TOOLS, {**GOOD[Kind.TOOLS], "outputSchema": one}) for one in OUTPUT)
    yield from ((Kind.TOOLS, {**GOOD[Kind.TOOLS], "inputSchema": one}) for one in INPUT)
    yield from ((Kind.RESOURCES, {**GOOD[Kind.RESOURCES], "size": one}) for one in (3.5, -1, 2**60, 1e20, "1"))
    yield from ((Kind.RESOURCES, {**GOOD[Kind.RESOURCES], "uri": one}) for one in URIS)
    for template in ("db:{", "{x}", "db://{", "file:///{+p*}{?a,b}"):
        yield Kind.TEMPLATES, {**GOOD[Kind.TEMPLATES], "uriTemplate": template}


def _listed(legacy: bool) -> str:
    """What clients of an era are shown of the odd entries, by kind."""
    shown: dict[str, list[Any]] = {}
    for kind, entry in _odd():
        mended = mend(kind, [Raw(json.dumps(entry).encode())]).entries
        for listed in parse(kind, b"[" + b",".join(bytes(one) for one in mended) + b"]"):
            shown.setdefault(kind.value, []).append(json.loads(listed.legacy if legacy else listed.modern))
    assert set(shown) == {one.value for one in Kind} and min(map(len, shown.values())) > 5
    return json.dumps(shown)


@pytest.mark.parametrize("player", ["python1", "typescript1", "typescript2"])
def test_what_odd_servers_list_can_be_read(player: str) -> None:
    why = missing(player)
    if why and (os.environ.get("CI") or shutil.which("npm")):
        pytest.fail(why)
    if why:
        pytest.skip(why)
    command = {
        "python1": [str(PYTHON1), "-m", "tests.matrix.schemas"],
        "typescript1": ["node", "tests/node/schemas.mjs", "legacy"],
        "typescript2": ["node", "tests/node/schemas.mjs"],
    }[player]
    given = _listed(legacy=player != "typescript2")
    read = subprocess.run(command, input=given, cwd=ROOT, capture_output=True, text=True, timeout=scaled(60))
    assert (read.returncode, read.stderr) == (0, ""), read.stderr
    assert not read.stdout, read.stdout
