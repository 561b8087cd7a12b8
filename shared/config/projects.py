"""The servers of single projects in ``~/.claude.json`` (Claude Code's local scope, where it adds servers). Pure.

A gateway serves all of its users' projects, so the servers of all projects are read, unless ``workspaceFolder`` names
one of them. What several projects have alike is read once; other entries of an id that is taken get the project's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from shared.config.roots import Found, entries_of


def of_projects(
    document: Mapping[str, Any], others: Iterable[Found], workspace: str, problems: list[tuple[str, str]]
) -> tuple[list[Found], list[tuple[str, str]]]:
    """Return the entries of projects, and warnings. ``others`` are the file's other entries, ``workspace`` the folder
    of the one project that is meant, or empty."""
    projects = document.get("projects")
    known: dict[str, dict[str, Any]] = {
        str(folder): one
        for folder, one in (projects.items() if isinstance(projects, dict) else ())
        if isinstance(one, dict)
    }
    rooms = {folder: one["mcpServers"] for folder, one in known.items() if one.get("mcpServers")}
    warnings: list[tuple[str, str]] = []
    if workspace in rooms and len(rooms) > 1:
        left = [folder for folder in rooms if folder != workspace]
        warnings.append(("projects", f"only the servers of {workspace} are read, and not those of {', '.join(left)}"))
        rooms = {workspace: rooms[workspace]}
    taken: dict[str, list[Any]] = {}
    for one in others:
        taken.setdefault(one.id, []).append(one.raw)
    found: list[Found] = []
    for folder, room in rooms.items():
        disabled = known[folder].get("disabledMcpServers")
        for entry in entries_of(f"projects[{folder}].mcpServers", room, problems):
            if entry.raw in taken.get(entry.id, ()):
                continue
            taken.setdefault(entry.id, []).append(entry.raw)
            off = "in disabledMcpServers" if isinstance(disabled, list) and entry.id in disabled else ""
            id = entry.id
            for name in (PurePath(folder).name, folder):
                if len(taken[entry.id]) > 1 and (id == entry.id or id in taken):
                    id = f"{entry.id} ({name})"
            taken.setdefault(id, [])
            found.append(
                Found(id, entry.path, entry.raw, entry.twice, off=off or entry.off, hidden=entry.hidden, folder=folder)
            )
    return found, warnings
