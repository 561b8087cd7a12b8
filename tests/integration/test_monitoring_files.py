"""``deploy/monitoring``: the files are well-formed, and every metric and label that they name exists."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from gateway.fleet.tool_search import ToolSearch
from gateway.telemetry.counters import Counters
from gateway.telemetry.figures import FrontEndFigures
from gateway.telemetry.observer import ANSWERED, ObservedCall
from gateway.telemetry.tallies import Tallies
from shared.metrics.families import Family
from shared.metrics.publisher import Publisher
from shared.registry.store import RegistryStore
from shared.secrets import FleetKey
from shared.settings import build
from shared.tasks import Deadlines
from tests.fleet import ROOT
from tests.unit.builders import record
from worker.calls.observer import Counters as WorkerCounters
from worker.input.tasks import Tasks
from worker.main import Worker
from worker.ownership import figures

FOLDER = ROOT / "deploy/monitoring"
_NAME = re.compile(r"\b((?:gateway|process)_[a-z0-9_]+)(?:\{([^}]*)\})?")
_BY = re.compile(r"\bby \(([^)]*)\)")
_OF_PROMETHEUS = {"instance", "le"}


class _Publisher(Publisher):
    """One that is asked for its own families alone."""

    def of_every_process(self) -> list[Family]:
        """Return them."""
        return self.snapshot().families


def _known() -> dict[str, set[str]]:
    """Every series that a gateway exposes, with its labels."""
    counters = Counters()
    call = ObservedCall(method="tools/call", name="t", group="g", upstream="u", attempts=2)
    counters.attempted(call, "u", "w")
    counters.finished(call, ANSWERED, 0.1)
    tallies = Tallies()
    of_tallies = functools.partial(tallies.families, (), ToolSearch(1), 0)
    holds = (1, 1, 1, 1)
    front = FrontEndFigures(
        counters, lambda: holds, 1, lambda: [record("u")], lambda: 1, lambda upstream: 0, of_tallies
    )
    store = RegistryStore(build(overrides={"redis_url": "redis://127.0.0.1:1"}).registry)
    publisher = _Publisher("frontend", "f", front.counted, front.known, store, 5.0, {})
    families = [*publisher.of_every_process(), *front.known(), *WorkerCounters().families()]
    families += [Tasks(FleetKey.from_secret("s"), Deadlines(lambda: 0.0)).tally.family, *figures.families((), 1)]
    found: dict[str, set[str]] = {}
    for family in families:
        names = [f"{family.name}_total"] if family.kind == "counter" else [family.name]
        if family.kind == "histogram":
            names = [f"{family.name}_{end}" for end in ("bucket", "sum", "count")]
        found.update(dict.fromkeys(names, set(family.labels) | _OF_PROMETHEUS))
    for name in Worker.FIGURES:
        found[name] = set(_OF_PROMETHEUS)
    return found


def _expressions() -> list[str]:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return found + [target["expr"] for panel in board["panels"] for target in panel["targets"]]


async def test_every_metric_and_label_that_is_named_exists() -> None:
    known, expressions = _known(), _expressions()
    assert len(expressions) > 25
    for expression in expressions:
        named = _NAME.findall(expression)
        assert named, expression
        labels: set[str] = set()
        for name, matchers in named:
            assert name in known, f"{name} of {expression}"
            labels |= known[name]
            for label in re.findall(r"(\w+)\s*[!=]~?", matchers):
                assert label in known[name], f"{label} of {expression}"
        for by in _BY.findall(expression):
            assert {one.strip() for one in by.split(",")} <= labels, expression


def test_rules_say_what_to_do_and_promtool_takes_them() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"] and rule["annotations"]["description"], rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical") and "for" in rule
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here; the rest was checked")
    done = subprocess.run([promtool, "check", "rules", FOLDER / "alerts.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_have_places_of_their_own() -> None:
    board = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not taken & cells and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_monitors_select_what_the_manifests_start() -> None:
    manifests: list[Any] = []
    for name in ("gateway.yaml", "worker.yaml"):
        manifests += list(yaml.safe_load_all((ROOT / "deploy/kubernetes" / name).read_text()))
    service, pods = yaml.safe_load_all((FOLDER / "servicemonitor.yaml").read_text())
    (found,) = (one for one in manifests if one["kind"] == "Service" and one["metadata"]["name"] == "gateway")
    assert service["spec"]["selector"]["matchLabels"].items() <= found["metadata"]["labels"].items()
    assert service["spec"]["endpoints"][0]["port"] in {port["name"] for port in found["spec"]["ports"]}
    (worker,) = (one for one in manifests if one["kind"] in ("Deployment", "StatefulSet") and "worker" in str(one))
    template = worker["spec"]["template"]
    assert pods["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"] for one in template["spec"]["containers"] for port in one["ports"]}
    assert pods["spec"]["podMetricsEndpoints"][0]["port"] in ports
    secret = yaml.safe_load((ROOT / "deploy/kubernetes/secret.example.yaml").read_text())
    credentials = service["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert credentials["name"] == secret["metadata"]["name"] and credentials["key"] in secret["stringData"]
