"""``locust -f loadtest/`` imports every module of the folder: none may mind, and only the users may be found."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "loadtest"
MODULES = sorted(FOLDER.rglob("*.py"))
OURS = {"gateway", "worker", "shared"}


def test_locust_finds_the_users_of_both_eras_and_nothing_else() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "locust", "-f", "loadtest/", "--list"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["Available", "Users:", "ModernUser", "LegacyUser"]


def test_every_module_is_imported_without_output_threads_or_children() -> None:
    code = """
import importlib, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
assert threading.active_count() == 1
"""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    plain = [name for name in names if not name.endswith("locustfile")]
    ran = subprocess.run([sys.executable, "-c", code, *plain], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_nothing_of_the_gateway_is_imported_and_no_name_hides_a_module(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert not imported & OURS
    # Locust puts each module into sys.modules under its bare name.
    if not path.name.startswith("_"):
        assert path.stem not in OURS | set(sys.stdlib_module_names)
        assert path.stem == "locustfile" or path.stem not in imported
