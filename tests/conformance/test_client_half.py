"""The client half of the official suite: its servers as upstreams, the gateway's worker as the client that is judged.

The suite starts ``tests.conformance.client`` with the address of its server; see there for what is done. Scenarios
about authorization are not played: upstreams get configured headers, the gateway runs no OAuth flow of its own.
``NOT_PLAYED`` names the others that are left out, and why.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.conformance.client import MODERN_ONLY, SCENARIOS
from tests.conformance.test_suite import ROOT, installed, run
from tests.machine import scaled

__all__ = ["installed"]

PLAYED = {
    "2025-11-25": (
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    "2026-07-28": (
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}
SKILLS = "of the extension SEP-2640, about a client that reads skills; a gateway passes resources on and reads none"
NOT_PLAYED = {
    "sep-2640-client-no-prefetch": SKILLS,
    "sep-2640-client-verify-digest": SKILLS,
    "sep-2640-client-verify-size": SKILLS,
    "sep-2640-client-verify-frontmatter": SKILLS,
}


@pytest.mark.parametrize(
    ("version", "scenario"), [(version, scenario) for version, names in PLAYED.items() for scenario in names]
)
async def test_the_worker_passes_as_a_client(version: str, scenario: str, tmp_path: Path) -> None:
    command, limit_ms = f"{sys.executable} -m tests.conformance.client", str(round(scaled(30_000)))
    chosen = ("--scenario", scenario, "--spec-version", version, "--timeout", limit_ms)
    code, text = await run("client", "--command", command, *chosen, "-o", str(tmp_path), cwd=ROOT)
    passed = re.search(r"Passed: (\d+)/(\d+), 0 failed, 0 warnings", text)
    assert code == 0 and passed is not None and passed[1] == passed[2] != "0", text[-4000:]


async def test_every_scenario_is_played_or_said_not_to_be() -> None:
    _, listing = await run("list", "--client")
    there = set(re.findall(r"^  - ([a-z0-9_-]+) \[", listing, re.MULTILINE))  # those of auth/ have a slash
    assert there == {scenario for names in PLAYED.values() for scenario in names} | set(NOT_PLAYED)
    for version, names in PLAYED.items():
        _, listing = await run("list", "--client", "--spec-version", version)
        assert set(re.findall(r"^  - ([a-z0-9_-]+) \[", listing, re.MULTILINE)) == set(names)
    assert set(MODERN_ONLY) <= set(SCENARIOS)
