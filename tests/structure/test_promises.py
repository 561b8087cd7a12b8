"""Each promise of SECURITY.md points at tests that are there."""

from __future__ import annotations

import re

import pytest

from tests.structure.imports import ROOT

_TABLE = re.compile(r"^\| promise \| test \|\n\|---\|---\|\n((?:\|.*\|\n)+)", re.MULTILINE)
_found = _TABLE.search((ROOT / "SECURITY.md").read_text("utf-8"))
PROMISES = [row.strip("|").rsplit("|", 1) for row in (_found[1].splitlines() if _found else [])]


def test_there_are_promises() -> None:
    assert len(PROMISES) > 30
    assert len({promise for promise, _ in PROMISES}) == len(PROMISES), "one is there twice"


@pytest.mark.parametrize(("promise", "pointers"), PROMISES, ids=[promise.strip()[:60] for promise, _ in PROMISES])
def test_a_promise_points_at_tests(promise: str, pointers: str) -> None:
    places = re.findall(r"`(tests/[^`:]+)(?:::([^`]+))?`", pointers)
    assert places and re.sub(r"`tests/[^`]+`|[ ,]", "", pointers) == "", "files of tests, separated by commas"
    for path, name in places:
        file = ROOT / path
        assert file.is_file() and file.name.startswith("test_"), f"{path} is gone: where is this tested now?"
        names = set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text("utf-8"), re.MULTILINE))
        assert name in names if name else names, f"{path} has no such test"


def test_deployment_and_dependencies_are_promised_too() -> None:
    text = " ".join(pointers for _, pointers in PROMISES)
    for path in ("tests/structure/test_lock.py", "tests/integration/test_deploy_files.py", "tests/fuzz/test_heads.py"):
        assert f"`{path}`" in text
