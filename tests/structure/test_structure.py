"""The house is as its maps say: no circles, and every package docstring names every file beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.structure.imports import PACKAGES, ROOT, circles, draw, files, packages


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for type checking and inside functions count as well."""
    assert circles(files()) == []


def test_no_packages_import_each_other_in_a_circle() -> None:
    assert circles(packages(files())) == []


def test_a_circle_would_be_found() -> None:
    """Also one of three, and one beside another."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "x": {"y"}, "y": {"x"}}
    assert circles(graph) == [["a", "b", "c"], ["x", "y"]]
    assert draw(graph).count("\n") == 5


FOLDERS = sorted(path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_package_maps_every_file(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    words = set(text.replace("`", " ").replace("/", " ").replace(",", " ").split())
    names = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    missing = names - {"__init__", "__main__"} - words
    assert not missing, f"the docstring of {folder.name} does not name {', '.join(sorted(missing))}"
