"""Writes ``docs/settings.md`` from ``shared.settings``: ``python docs/make_settings.py`` (``--check`` compares)."""

from __future__ import annotations

import sys
from pathlib import Path

from shared.settings import KNOBS

TARGET = Path(__file__).resolve().parent / "settings.md"


def text() -> str:
    """The page."""
    lines = [
        "# Settings",
        "",
        "Written by `docs/make_settings.py`. Keys stand under `gateway` in a configuration file; durations are",
        "milliseconds in files and in the environment.",
    ]
    section = ""
    for knob in KNOBS.values():
        if knob.section != section:
            section = knob.section
            lines += ["", f"## {section}", "", "| key | variable | default | what |", "|---|---|---|---|"]
        default = knob.default * 1000 if knob.milliseconds else getattr(knob.default, "value", knob.default)
        if isinstance(default, float) and default.is_integer():
            default = int(default)
        if isinstance(default, tuple):
            default = ", ".join(default)
        shown = f"`{default}`" if default != "" else ""
        lines.append(f"| `{knob.key}` | `{knob.variable}` | {shown} | {knob.description.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if TARGET.read_text() == text() else "docs/settings.md is out of date: run python docs/make_settings.py"
        )
    TARGET.write_text(text())
