"""What commands print of what comes from elsewhere is escaped: no name, error or record steers a terminal."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.structure.imports import ROOT

_ESCAPES = {"escaped", "printable", "for_terminal", "dumps", "len", "repr", "_summary", "_line"}
"""Functions whose results may be printed (``_summary`` of restart and ``_line`` of audit events escape)."""
_TYPED = {"id", "name", "file", "upstream", "target", "url", "verdict", "groups", "good", "mark", "done", "words"}
"""Variables with what the user typed, or what the command itself has made."""
_MADE_HERE = {"settings", "supervisor", "known", "listed", "chosen", "differing"}
"""What the command itself has: settings, a list of programs, and lists whose lengths are printed."""
_ELSEWHERE = {
    "show.py": "rich has escaped each cell",
}


def _faults(call: ast.Call) -> Iterator[str]:
    for argument in call.args[:1]:
        yield from _unescaped(argument)


def _unescaped(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant():
            return
        case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function)) if function in _ESCAPES:
            return
        case ast.Name(id=name) if name in _TYPED:
            return
        case ast.JoinedStr(values=parts):
            for part in parts:
                if isinstance(part, ast.FormattedValue) and part.format_spec is None and part.conversion != ord("r"):
                    yield from _unescaped(part.value)
        case ast.IfExp(body=one, orelse=other):
            yield from _unescaped(one)
            yield from _unescaped(other)
        case ast.Attribute(attr="__name__"):
            return
        case ast.Subscript(value=ast.Call(func=ast.Name(id="ascii" | "repr"))):
            return
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.Call(args=[ast.Name(id="escaped"), _])]):
            return
        case ast.BinOp(left=ast.Call(func=ast.Name(id="len")), right=ast.Call(func=ast.Name(id="len"))):
            return
        case _ if all(_is_ours(one) for one in ast.walk(node) if isinstance(one, ast.Name)):
            return
        case _:
            yield ast.unparse(node)


def _is_ours(name: ast.Name) -> bool:
    return name.id.isupper() or name.id in {*_TYPED, *_ESCAPES, *_MADE_HERE}


@pytest.mark.parametrize(
    "path", [one for one in sorted((ROOT / "gateway" / "cli").glob("*.py")) if one.name not in _ELSEWHERE],
    ids=lambda path: path.stem,
)  # fmt: skip
def test_what_a_command_prints_is_escaped(path: object) -> None:
    tree = ast.parse((ROOT / str(path)).read_text("utf-8"))
    found = [
        f"line {node.lineno}: {fault}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("echo", "secho")
        for fault in _faults(node)
    ]
    assert not found, "wrap it in shared.logs.escaped"
