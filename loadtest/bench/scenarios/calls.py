"""Calls through one front end and one worker, beside R: eras, stdio, latency, large bodies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loadtest import wire
from loadtest.bench.children import server
from loadtest.bench.compare import Comparison, Side, compare, cpu, rate
from loadtest.bench.load import Load
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.subject import Subject, config, gateway, http_upstream, open_session, stdio_upstream
from loadtest.wire import Request

ROWS = ("modern", "legacy-session", "legacy-upstream", "legacy-both", "stdio", "latency", "body")
SMALL = {"text": "sixty-four bytes"}
CONNECTIONS = 16


def call(tool: str, arguments: dict[str, object] | None = None) -> Request:
    """A modern ``tools/call``."""
    return wire.modern("tools/call", {"name": tool, "arguments": arguments or SMALL})


def session_calls(port: int, tool: str, sessions: int = CONNECTIONS) -> tuple[Request, ...]:
    """The same on as many new legacy sessions, in rotation."""
    params = {"name": tool, "arguments": SMALL}
    return tuple(wire.legacy("tools/call", params, sid=open_session(port)) for _ in range(sessions))


@dataclass(frozen=True)
class Bench:
    """What runs: the gateway with its upstreams, and R before each of them."""

    plan: Plan
    subject: Subject
    references: dict[str, tuple[int, int]]

    def beside_r(self, upstream: str, load: Load, brief: bool = False) -> Comparison:
        """The load on the gateway and on R before ``upstream``; ``brief``: see ``Plan.briefly``."""
        port, pid = self.references[upstream]
        ours = Side(self.subject.port, self.subject.pids, load)
        theirs = Side(port, [pid], load)
        return compare(ours, theirs, self.plan.briefly() if brief else self.plan)


def run(plan: Plan) -> Iterator[Outcome]:
    """The rows that the plan wants."""
    with server("upstream_http") as (_, port):
        eras = {"modern": "modern", "legacy": "legacy"}
        upstreams = {name: http_upstream(port, era, 1, name) for name, era in eras.items()}
        upstreams["stdio"] = stdio_upstream("stdio")
        with (
            server("reference", "forward", f"http://127.0.0.1:{port}/modern/1/modern") as (modern, modern_port),
            server("reference", "forward", f"http://127.0.0.1:{port}/legacy/1/legacy") as (legacy, legacy_port),
            gateway(plan.folder, config(upstreams)) as subject,
        ):
            references = {
                "modern": (modern_port, modern.pid),
                "legacy": (legacy_port, legacy.pid),
            }
            bench = Bench(plan, subject, references)
            yield from _eras(bench)
            yield from _stdio(bench)
            yield from _latency(bench)
            yield from _bodies(bench)


def _eras(bench: Bench) -> Iterator[Outcome]:
    port = bench.subject.port
    if bench.plan.wants("modern"):
        found = bench.beside_r("modern", Load((call("modern_0"),)))
        yield _cpu("modern", "modern client, modern upstream: CPU per call", 0.50, found)
        yield Outcome(
            "modern", "… calls/s", found.ratios(rate), Budget(1.5, at_least=True), note=found.note(rate, "/s")
        )
    if bench.plan.wants("legacy-session"):
        found = bench.beside_r("modern", Load(session_calls(port, "modern_0")))
        yield _cpu("legacy-session", "legacy sessions, modern upstream: CPU per call", 0.55, found)
    if bench.plan.wants("legacy-upstream"):
        found = bench.beside_r("legacy", Load((call("legacy_0"),)), brief=True)
        yield _cpu("legacy-upstream", "modern client, legacy upstream: CPU per call", 0.55, found)
    if bench.plan.wants("legacy-both"):
        found = bench.beside_r("legacy", Load(session_calls(port, "legacy_0")), brief=True)
        yield _cpu("legacy-both", "legacy sessions, legacy upstream: CPU per call", 0.55, found)


def _cpu(row: str, what: str, limit: float, found: Comparison) -> Outcome:
    return Outcome(row, what, found.ratios(cpu), Budget(limit), note=found.note(cpu, "µs"))


def _stdio(bench: Bench) -> Iterator[Outcome]:
    if bench.plan.wants("stdio"):
        found = bench.beside_r("modern", Load((call("stdio_0"),)))
        yield _cpu("stdio", "modern client, stdio upstream: CPU per call", 0.45, found)


def _latency(bench: Bench) -> Iterator[Outcome]:
    if not bench.plan.wants("latency"):
        return
    found = bench.beside_r("modern", Load((call("modern_0"),), connections=1))
    median = found.ratios(lambda cost: cost.p50_ms)
    note = found.note(lambda cost: cost.p50_ms, "ms")
    yield Outcome("latency", "p50 at 1 connection", median, Budget(0.9), note=note)
    found = bench.beside_r("modern", Load((call("modern_0"),), connections=64))
    tail = found.ratios(lambda cost: cost.p99_ms)
    note = found.note(lambda cost: cost.p99_ms, "ms")
    yield Outcome("latency", "p99 at 64 connections", tail, Budget(0.7), note=note)


def _bodies(bench: Bench) -> Iterator[Outcome]:
    if not bench.plan.wants("body"):
        return
    both = bench.beside_r("modern", Load((call("modern_0", {"text": "y" * 65_536}),)), brief=True)
    yield _cpu("body", "64 KiB arguments, 64 KiB result: CPU per call", 1.0, both)
    large = bench.beside_r("modern", Load((call("modern_0", {"bytes": 1_048_576}),)), brief=True)
    yield _cpu("body", "1 MiB result: CPU per call", 1.5, large)
