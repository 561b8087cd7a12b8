"""No file is longer than 500 lines and no function longer than 60: what outgrows that holds two ideas, and is split
where the second one begins."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure.imports import PACKAGES, ROOT

LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 500, 60
FOLDERS = (*PACKAGES, "tests", "loadtest", "docs", "deploy")


def ours(folder: Path) -> Iterator[Path]:
    """Yield the Python files in a folder. What is hidden or in ``node_modules`` was installed there."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "node_modules":
            continue
        if path.is_dir():
            yield from ours(path)
        elif path.suffix == ".py":
            yield path


def too_long(text: str) -> list[str]:
    """Return what of a file is longer than it may be."""
    lines = len(text.splitlines())
    found = [f"the file has {lines} lines"] if lines > LINES_OF_A_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LINES_OF_A_FUNCTION:
                found.append(f"{node.name} has {lines} lines")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_and_functions_can_be_held_in_the_head(folder: str) -> None:
    files = list(ours(ROOT / folder))
    assert len(files) > 1, "nothing was looked at"
    found = [f"{path.relative_to(ROOT)}: {what}" for path in files for what in too_long(path.read_text("utf-8"))]
    assert not found, "split it where its second idea begins:\n" + "\n".join(found)


def test_what_is_too_long_would_be_found() -> None:
    body = "    pass\n"
    assert too_long("def f():\n" + 59 * body + "async def g():\n" + 60 * body) == ["g has 61 lines"]
    assert too_long("class A:\n    def f():\n" + 60 * f"    {body}") == ["f has 61 lines"]
    assert too_long(500 * "pass\n") == [] and too_long(501 * "pass\n") == ["the file has 501 lines"]
