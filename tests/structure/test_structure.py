"""The house is as its maps say: no circles, and every package docstring names every file beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.structure.imports import PACKAGES, ROOT, circles, draw, files, modules, packages


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


def _libraries(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def test_redis_is_imported_in_the_registry_and_by_the_supervisor_alone() -> None:
    """The supervisor has a Redis of its own to start."""
    found = {name for name, path in modules().items() if "redis" in _libraries(path)}
    assert found, "the registry does"
    assert all(name.startswith(("shared.registry", "gateway.supervisor")) for name in found), sorted(found)


def test_what_says_that_it_is_pure_does_no_io() -> None:
    """A file whose docstring has the sentence "Pure." knows no loop, socket, server or Redis."""
    pure = {
        name: path
        for name, path in modules().items()
        if "Pure." in (ast.get_docstring(ast.parse(path.read_text())) or "")
    }
    assert len(pure) > 30
    found = {
        name: _libraries(path) & {"asyncio", "aiohttp", "redis", "socket", "uvloop"} for name, path in pure.items()
    }
    assert not {name: used for name, used in found.items() if used}


def test_the_map_of_the_whole_fits_into_one_reading() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().split()) <= 1500
