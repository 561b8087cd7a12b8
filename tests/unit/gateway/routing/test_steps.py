"""A rebuild in steps: none of them is long, nothing of it is seen before the last one, and one may be given up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from gateway.access.policy import RolePolicy
from gateway.routing.catalog import Catalog
from gateway.routing.steps import Steps, at_once, chunks
from gateway.routing.views import Views
from shared.access import rules as access_rules
from shared.mcp.listings import Kind
from shared.mcp.methods import TOOLS_CHANGED
from shared.registry.records import UpstreamRecord
from shared.settings import build
from shared.virtual_servers import read
from tests.unit.builders import record

GROUPS, TOOLS = 40, 50


def records(changed: str = "") -> dict[str, UpstreamRecord]:
    found = {}
    for number in range(GROUPS):
        extra = [f"new{changed}_{one}" for one in range(TOOLS)] if changed and number == 5 else []
        tools = [f"tool_{number}_{one}" for one in range(TOOLS)]
        found[f"u{number}"] = record(f"u{number}", f"g{number}", number + 1, tools=[*tools, *extra])
    return found


class Bench:
    """A catalogue of many tools, and virtual servers over them, of which some show the group that changes."""

    def __init__(self) -> None:
        self.catalog = Catalog(build({"pageSize": 100}).routing)
        documents: dict[str, Any] = {f"v{n}": {"tools": [f"g{n}/*", f"g{n + 1}/*"]} for n in range(20)}
        documents["all"] = {"tools": ["*"]}
        self.catalog.take_virtual({name: read(name, document) for name, document in documents.items()})
        self.catalog.rebuild(records(), 0.0)
        rules = access_rules.read({"roles": {"r": {"allow": [{"match": "*", "tool": "!tool.readOnlyHint"}]}}})
        self.views = Views(self.catalog, RolePolicy(rules))
        for name in ("", *documents):
            self.views.watch(self.views.of(name, "r"))

    def steps(self, changed: str) -> Steps[dict[Any, set[str]]]:
        found = records(changed)
        yield
        yield from self.catalog.rebuilding(found, 0.0)
        return (yield from self.views.advancing({}))


def work_of(steps: Steps[Any]) -> tuple[list[int], Any]:
    """Return how many functions each step calls, and the result."""
    counts: list[int] = []

    def one() -> Any:
        count = 0

        def called(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(called)
        try:
            next(steps)
        except StopIteration as end:
            return end
        finally:
            sys.setprofile(None)
            counts.append(count)
        return None

    end = None
    while end is None:
        end = one()
    return counts, end.value


def test_no_step_does_much_of_the_work() -> None:
    steps = Bench().steps("a")
    next(steps)
    counts, changes = work_of(steps)
    assert {key[0] for key in changes} == {"", "all", "v4", "v5"}
    assert sum(counts) > 10 * max(counts), "most of it is done in many steps"
    assert max(counts) < 2 * GROUPS * TOOLS, "no step looks at everything twice"


def test_nothing_is_seen_before_the_last_step() -> None:
    bench = Bench()
    before, generation = bench.catalog.everything, bench.catalog.generation
    steps = bench.catalog.rebuilding(records("a"), 0.0)
    for _ in range(50):
        next(steps)
        assert bench.catalog.everything is before and bench.catalog.generation == generation
        assert bench.catalog.view("v5").find(Kind.TOOLS, "newa_0") is None  # made meanwhile, of what there was
    at_once(steps)
    assert bench.catalog.view("v5").find(Kind.TOOLS, "newa_0") is not None
    assert bench.catalog.everything.find(Kind.TOOLS, "newa_0") is not None


@pytest.mark.parametrize("taken", [1, 30, 120, 200])
def test_what_was_given_up_is_done_and_told_by_the_next_one(taken: int) -> None:
    bench = Bench()
    steps = bench.steps("a")
    for _ in range(taken):
        next(steps)
    steps.close()
    told = at_once(bench.steps("b"))
    assert {key[0] for key, methods in told.items() if methods == {TOOLS_CHANGED}} == {"", "all", "v4", "v5"}
    names = bench.catalog.view("v5").routes[Kind.TOOLS]
    assert "newb_0" in names and "newa_0" not in names
    assert at_once(bench.steps("b")) == {}


def test_what_is_unwatched_meanwhile_is_not_told_of() -> None:
    bench = Bench()
    at_once(bench.catalog.rebuilding(records("a"), 0.0))
    steps = bench.views.advancing({})
    next(steps)
    bench.views.unwatch(("v5", "r"))
    told = at_once(steps)
    assert ("v4", "r") in told and ("v5", "r") not in told


def test_steps_and_chunks() -> None:
    def work(until: int, tell: Callable[[int], None]) -> Steps[int]:
        for number in range(until):
            tell(number)
            yield
        return until

    seen: list[int] = []
    assert at_once(work(3, seen.append)) == 3 and seen == [0, 1, 2]
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]] and list(chunks([], 2)) == []
