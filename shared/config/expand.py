"""Expansion of ``${VAR}`` and ``${VAR:-default}`` in configuration strings. Pure: the environment is an argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_:./-]*?)(?::-((?:[^}\\]|\\.)*))?\}")


def expand(value: Any, environment: Mapping[str, str], path: str, problems: list[tuple[str, str]]) -> Any:
    """Return ``value`` with every reference in its strings replaced. Variables that are not set are added to
    ``problems``."""
    if isinstance(value, str):
        return _expand_text(value, environment, path, problems)
    if isinstance(value, list):
        return [expand(item, environment, f"{path}[{index}]", problems) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            key: expand(item, environment, f"{path}.{key}" if path else str(key), problems)
            for key, item in value.items()
        }
    return value


def _expand_text(text: str, environment: Mapping[str, str], path: str, problems: list[tuple[str, str]]) -> str:
    def replace(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        name = name.removeprefix("env:")
        if name.startswith("input:"):
            problems.append(
                (path, f"${{{name}}} asks an editor's user; a gateway has none: use an environment variable")
            )
            return ""
        found = environment.get(name)
        if found:
            return found
        if default is not None:
            return default
        if found is not None:
            return found
        problems.append((path, f"environment variable {name} is not set; set it or write ${{{name}:-default}}"))
        return ""

    return _REFERENCE.sub(replace, text)
