"""Programs of the gateway's own do not import what lies in the folder where it was started."""

from __future__ import annotations

import re

from tests.structure.imports import ROOT

_PACKAGES = ("gateway", "worker", "shared")
_UNSAFE = re.compile(r"sys\.executable(?!, \"-[PI]\"|, command)")


def test_every_python_child_is_started_with_a_safe_path() -> None:
    """With ``shared.safe_python``, or isolated (``-I``). ``sys.executable`` alone, then a command, is the same."""
    found = []
    for package in _PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if _UNSAFE.search(line) and "SAFE_PYTHON" not in line:
                    found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "start it as SAFE_PYTHON says:\n" + "\n".join(found)
