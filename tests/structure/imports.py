"""The graph of imports between our files and between their packages, those for type checking included.

``python -m tests.structure.imports`` draws it: each package, the packages below it that it imports, and every circle.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "worker", "shared")
Graph = dict[str, set[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return every file of ours by its module name."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def files(root: Path = ROOT) -> Graph:
    """Return which of our files each file imports, wherever in the file that stands."""
    known = modules(root)
    return {name: set(_imported(path, known)) - {name} for name, path in known.items()}


def _imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield node.module


def packages(graph: Graph) -> Graph:
    """Return the same graph between folders: ``gateway.fleet.pool`` counts as ``gateway.fleet``."""
    known = modules()
    found: Graph = {}
    for name, imported in graph.items():
        mine = _package(name, known)
        found.setdefault(mine, set()).update({_package(other, known) for other in imported} - {mine})
    return found


def _package(name: str, known: Mapping[str, Path]) -> str:
    """The folder of a module; a file beside the folders of a top-level package stands for itself."""
    if known[name].name == "__init__.py" or name.count(".") < 2:
        return name
    return name.rpartition(".")[0]


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def draw(graph: Graph) -> str:
    """Return the graph as text, one package a line, those on top first."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(node: str) -> None:
        if node not in seen:
            seen.add(node)
            for other in sorted(graph.get(node, ())):
                visit(other)
            order.append(node)

    for node in sorted(graph):
        visit(node)
    wide = max(map(len, graph))
    return "\n".join(f"{node:<{wide}}  -> {', '.join(sorted(graph[node])) or '-'}" for node in reversed(order))


def main() -> int:
    """Exit code 1 when there is a circle."""
    between_files = files()
    between_packages = packages(between_files)
    print(draw(between_packages))
    found = circles(between_files) + circles(between_packages)
    print(f"\n{len(between_files)} files, {len(between_packages)} packages, {len(found)} circles")
    for circle in found:
        print("circle: " + " <-> ".join(circle))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
