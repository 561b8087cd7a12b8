"""An SVG of CPU per call against processes, sessions and upstreams, each relative to the smallest. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from loadtest.bench.outcome import Outcome

_PANELS = {
    "processes": ("front ends and workers, each", 1.0),
    "sessions": ("live legacy sessions", 16.0),
    "upstreams": ("registered upstreams", 1.0),
}
_WIDTH, _HEIGHT, _GAP, _MARGIN = 260, 180, 40, 50
_INK, _GRID, _LINE = "#444", "#ddd", "#1f6feb"

Points = list[tuple[float, float]]


def series(outcomes: Sequence[Outcome]) -> dict[str, Points]:
    """Points by panel; the smallest size is the unit, 1 by definition."""
    found: dict[str, Points] = {}
    for outcome in outcomes:
        if outcome.plot and outcome.points:
            smallest = (_PANELS[outcome.plot][1], 1.0)
            found.setdefault(outcome.plot, [smallest]).extend(outcome.points)
    return {name: sorted(points) for name, points in found.items()}


def svg(outcomes: Sequence[Outcome]) -> str:
    """The picture; empty when no outcome has points."""
    found = series(outcomes)
    if not found:
        return ""
    top = max(1.5, max(y for points in found.values() for _, y in points) * 1.15)
    panels = [
        _panel(_PANELS[name][0], found[name], top, _MARGIN + number * (_WIDTH + _GAP))
        for number, name in enumerate(name for name in _PANELS if name in found)
    ]
    width = 2 * _MARGIN + len(panels) * (_WIDTH + _GAP) - _GAP
    height = _HEIGHT + 2 * _MARGIN
    title = "CPU per call, relative to the smallest size"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="{_INK}">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="{_MARGIN}" y="24" font-size="14">{escape(title)}</text>',
            *panels,
            "</svg>",
            "",
        ]
    )


def _panel(label: str, points: Points, top: float, left: int) -> str:
    lowest, highest = math.log10(points[0][0]), math.log10(points[-1][0])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (math.log10(point[0]) - lowest) / ((highest - lowest) or 1.0)
        return left + 12 + across * (_WIDTH - 24), _MARGIN + _HEIGHT * (1 - point[1] / top)

    parts = []
    for number in range(int(top * 2) + 1):
        y = _MARGIN + _HEIGHT * (1 - number / 2 / top)
        parts.append(f'<line x1="{left}" x2="{left + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{number / 2:g}</text>')
    placed = [place(point) for point in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>')
    for (x, y), (size, value) in zip(placed, points, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_LINE}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{value:.2f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{_MARGIN + _HEIGHT + 16}" text-anchor="middle">{size:,.0f}</text>')
    middle = left + _WIDTH / 2
    parts.append(f'<text x="{middle:.1f}" y="{_MARGIN + _HEIGHT + 34}" text-anchor="middle">{escape(label)}</text>')
    return "\n".join(parts)
