"""Small calls while another client takes 20 MB results, or takes one at 1 KiB a second; and what memory that costs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from loadtest.bench import accounting
from loadtest.bench.children import running, server
from loadtest.bench.load import Load, Sample, drive
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.scenarios.calls import call
from loadtest.bench.subject import Subject, config, gateway, http_upstream

ROWS = ("beside",)
LARGE_BYTES = 20_000_000
_PER_SECOND = 300
# The slow reader's 20 MB first come from the upstream in one go, which is what the other kind is about.
_UNTIL_STEADY_S = 1.0
_CONNECTIONS = 8
_P99 = 3.0
# The worker holds the answer (20 MB), and parses, joins and passes it on in pieces.
_MEMORY_MIB = 100
# In this order: a few seconds after a large result its memory goes back, which must not fall into the other's window.
_KINDS = {
    "slow": "beside a reader of 1 KiB/s: small calls' p99",
    "large": "beside 20 MB results: small calls' p99",
}


def run(plan: Plan) -> Iterator[Outcome]:
    """Two kinds of disturbance, two rows each."""
    with server("upstream_http") as (_, small), server("upstream_http") as (large, big):
        large.step_back()  # making 20 MB of JSON holds a core for 8 ms: not the gateway's doing, and not what is asked
        upstreams = {
            "small": http_upstream(small, "modern", 1, "small"),
            "big": http_upstream(big, "modern", 1, "big"),
        }
        with gateway(plan.folder, config(upstreams)) as subject:
            for kind, what in _KINDS.items():
                yield from _disturbed(plan, subject, kind, what)


def _small_calls(plan: Plan, subject: Subject) -> Sample:
    return drive(subject.port, Load((call("small_0"),), _CONNECTIONS), max(2.0, plan.seconds), _PER_SECOND)


def _disturbed(plan: Plan, subject: Subject, kind: str, what: str) -> Iterator[Outcome]:
    arguments = [str(subject.port), "big_0", kind, str(LARGE_BYTES)]
    command = [sys.executable, "-m", "loadtest.bench.disturber", *arguments]
    ratios, grown, quiet, loud = [], [], [], []
    for _ in range(1 if plan.quick else plan.rounds):
        alone = _small_calls(plan, subject)
        before = accounting.begin_peak(subject.pids)
        with running(command) as disturber:
            disturber.step_back()
            disturber.line_with("began")
            time.sleep(_UNTIL_STEADY_S if kind == "slow" else 0.0)
            beside = _small_calls(plan, subject)
            assert disturber.process.poll() is None, "the disturber ended"
        ratios.append(beside.p99_ms / alone.p99_ms)
        grown.append((accounting.peak_bytes(subject.pids) - before) / 2**20)
        quiet.append(alone.p99_ms)
        loud.append(beside.p99_ms)
    note = f"{max(loud):.3g} ms at worst; undisturbed {max(quiet):.3g} ms, {_PER_SECOND} calls/s"
    yield Outcome("beside", what, tuple(ratios), Budget(_P99), unit="×alone", note=note)
    yield Outcome("beside", "… memory at most", tuple(grown), Budget(_MEMORY_MIB), unit="MiB", note="more than before")
