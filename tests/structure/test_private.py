"""Unit tests use what their subjects offer to everybody: no attribute that begins with an underscore."""

from __future__ import annotations

import ast
from pathlib import Path

UNIT = Path(__file__).parent.parent / "unit"


def test_unit_tests_reach_no_private_attributes() -> None:
    found = [
        f"{path.relative_to(UNIT)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted(UNIT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and ast.unparse(node.value) not in ("self", "cls")
    ]
    assert not found, "\n".join(found)
