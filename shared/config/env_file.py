"""Reading ``envFile``: variables in a file, in the format of dotenv."""

from __future__ import annotations

import io
from pathlib import Path

from dotenv import dotenv_values


def read_env_file(file: Path) -> dict[str, str]:
    """Return the variables of a file: ``export``, quotes, comments and values over several lines as dotenv has them.

    Values are not expanded. Raises ``OSError`` or ``UnicodeDecodeError``.
    """
    text = file.read_text(encoding="utf-8-sig")
    found = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value is not None}
