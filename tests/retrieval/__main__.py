"""Measures searching for tools: ``python -m tests.retrieval [FOLDER]``. See the package."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.balancers import NO_CHOICE
from gateway.fleet.tool_search import ToolSearch
from gateway.routing.catalog import Catalog
from gateway.routing.discovery import CALL_TOOL, SEARCH_TOOLS, SearchView, searched, tokens
from gateway.routing.entries import Entry
from gateway.routing.routes import Route
from gateway.routing.tool_index import ToolIndex
from gateway.routing.view import Listed, View
from shared.mcp.listings import Kind
from shared.settings import RoutingSettings

PACKAGE = "bfcl-eval==2026.3.23"
PARTS = ("simple_python", "multiple", "live_simple", "live_multiple")
MANY = 10_000


def fetched(folder: Path) -> Path:
    """Fetch the package from PyPI, and return where its data is."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder / "bfcl_eval" / "data"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").splitlines():
        yield json.loads(line)


def tools_of(data: Path) -> list[Listed]:
    """Return every function of the set as a tool, once for each name."""
    found: dict[str, Listed] = {}
    for part in PARTS:
        for case in _lines(data / f"BFCL_v4_{part}.json"):
            for one in case["function"]:
                if one["name"] not in found:
                    schema = {**one["parameters"], "type": "object"}
                    found[one["name"]] = listed(one["name"], one["description"], schema, len(found))
    return list(found.values())


def listed(name: str, description: str, schema: Any, place: int) -> Listed:
    """Return a tool as a view lists it."""
    raw = msgspec.json.encode({"name": name, "description": description, "inputSchema": schema})
    return Listed((0, place), name, Route("", Entry(Kind.TOOLS, name, raw, raw), (), NO_CHOICE))


def questions(data: Path, part: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each question of a part, and the names of the functions that answer it."""
    answers = {one["id"]: one["ground_truth"] for one in _lines(data / "possible_answer" / f"BFCL_v4_{part}.json")}
    for case in _lines(data / f"BFCL_v4_{part}.json"):
        said = [turn["content"] for turn in case["question"][0] if turn["role"] == "user"]
        yield " ".join(said), {name for call in answers[case["id"]] for name in call}


def show_recall(data: Path, tools: list[Listed]) -> None:
    """Print the share of questions whose tool is found."""
    index = ToolIndex()
    index.sync(tools)
    for part in PARTS:
        asked = first = found = 0
        for question, wanted in questions(data, part):
            names = [one.name for one in index.search(question, 5)]
            asked += 1
            first += bool(wanted.intersection(names[:1]))
            found += bool(wanted.intersection(names))
        print(f"{part}: {asked} questions, recall@1 {first / asked:.3f}, recall@5 {found / asked:.3f}")


def many(tools: list[Listed]) -> list[Listed]:
    """Return ``MANY`` tools: each of these under several names."""
    found = []
    for place in range(MANY):
        plain = json.loads(tools[place % len(tools)].route.entry.modern)
        name = f"{plain['name']}_{place // len(tools)}"
        found.append(listed(name, plain["description"], plain["inputSchema"], place))
    return found


def show_speed(data: Path, tools: list[Listed]) -> None:
    """Print what building an index of many tools takes, and searching in it: the time of the thread that does it."""
    index = ToolIndex()
    began = time.thread_time()
    index.sync(tools)
    print(f"{len(tools)} tools: built in {time.thread_time() - began:.2f} s of CPU, {index.size_bytes / 1e6:.0f} MB")
    changed = [*tools[:-50], *(listed(one.name, "Another.", {}, 0) for one in tools[-50:])]
    began = time.thread_time()
    written = index.sync(changed)
    print(f"50 of them changed: {written} written in {(time.thread_time() - began) * 1000:.1f} ms")
    for words in (8, 1000):
        took = []
        for question, _ in questions(data, "live_multiple"):
            began = time.thread_time()
            index.search(" ".join(question.split()[:words]), 5)
            took.append((time.thread_time() - began) * 1000)
        took.sort()
        shown = f"median {statistics.median(took):.2f} ms, 95 % below {took[int(len(took) * 0.95)]:.2f} ms"
        print(f"a search of up to {words} words: {shown}")


async def longest_pauses_s(view: SearchView) -> tuple[float, float]:
    """Return how long the loop was kept from its work, at most, while an index was built, and in the same time while
    nothing was done: other processes of the machine do so, too."""
    search = ToolSearch(1 << 30)
    began = time.perf_counter()
    building = asyncio.ensure_future(search.find(view, "weather", 5))
    busy = await _pause_until(building.done)
    end = 2 * time.perf_counter() - began
    search.close()
    return busy, await _pause_until(lambda: time.perf_counter() > end)


async def _pause_until(over: Callable[[], bool]) -> float:
    longest = 0.0
    while not over():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began - 0.001)
    return longest


def view_of(tools: list[Listed]) -> SearchView:
    """Return a view in which these tools are searched."""
    empty = Catalog(RoutingSettings()).everything
    routes = {**empty.routes, Kind.TOOLS: {one.name: one.route for one in tools}}
    return searched(View(("", ""), empty.scope, routes, {**empty.lists, Kind.TOOLS: tools}), None)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(sys.argv[1]) if len(sys.argv) > 1 else fetched(Path(folder))
        tools = tools_of(data)
        after = (len(SEARCH_TOOLS.document) + len(CALL_TOOL.document)) // 4
        print(
            f"{len(tools)} tools; the first list costs a client about {tokens(tools)} tokens, and with search {after}"
        )
        show_recall(data, tools)
        more = many(tools)
        show_speed(data, more)
        busy, idle = (f"{pause_s * 1000:.1f} ms" for pause_s in asyncio.run(longest_pauses_s(view_of(more))))
        print(f"the loop was kept from its work for {busy} at most while {len(more)} were indexed, else for {idle}")


if __name__ == "__main__":
    main()
