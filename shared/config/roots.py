"""Where the entries of servers are in a file, whoever wrote it. Pure.

Clients keep them under ``mcpServers``, ``servers``, ``mcp.servers``, ``mcp_servers``, ``context_servers``, ``mcp`` or
``extensions``, as a map by id or as a list, in files of their own or between all their other settings; a few write the
map alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, structs

from shared.config.documents import Members
from shared.config.file_rules import hidden, is_obeyed, shown, why_off
from shared.config.spellings import is_comment
from shared.knobs import suggestion

OWN = ("gateway", "mcpServers", "servers", "access", "virtualServers")
_OURS = ("gateway", "access", "virtualServers")
ROOTS = ("mcpServers", "servers", "mcp_servers", "context_servers", "mcp", "extensions")
_IN_MCP = ("servers", "mcpServers", "stdio_servers", "sse_servers", "shttp_servers")
"""Places with entries in an object ``mcp``: editors', and OpenHands' lists."""
_LIKE_ROOTS = ("mcpserver", "mcpservers", "servers", "contextservers")
SILENT = ("$schema", "inputs", "user_config", "globalShortcut", "preferences", "projects")
_WITHIN = (
    ("settings",),
    ("customizations", "vscode"),
    ("customizations", "vscode", "settings"),
    ("powers",),
    ("augment.advanced",),
    ("experimental",),
)
"""Places in files of editors that have a document of their own in them: workspaces, dev containers, extensions."""
_MARKS_OF_ENTRIES = ("command", "cmd", "url", "serverUrl", "httpUrl", "uri", "connection")


class Found(Struct, frozen=True):
    """One entry as it was found: its ``id``, its ``path`` in the file, and what is written there. ``twice``: whether
    its id is there more than once. ``off`` says why the file does not want it, or is empty. ``hidden`` are the tools of
    it that the file hides as a whole, ``shown`` those that it shows (``None``: all). ``folder`` is that of the project
    to which it belongs, or empty."""

    id: str
    path: str
    raw: Any
    twice: bool = False
    off: str = ""
    hidden: tuple[str, ...] = ()
    shown: tuple[str, ...] | None = None
    folder: str = ""


class Roots(Struct):
    """What was found in a document: entries in the file's order, ``problems`` of places that should have entries, and
    ``warnings`` of keys that are not read, both with their paths."""

    entries: list[Found]
    problems: list[tuple[str, str]]
    warnings: list[tuple[str, str]]


def find(document: Mapping[str, Any]) -> Roots:
    """Return the entries of a document."""
    found = Roots([], [], [])
    known = set()
    for key, path, room in _rooms(document):
        known.add(key)
        for entry in entries_of(path, room, found.problems):
            within = entry.id in ROOTS and not _is_entry(entry.raw) and _has_entries(entry.raw)
            found.entries += entries_of(entry.path, entry.raw, found.problems) if within else [entry]
    if not known and _is_one(document):
        known = set(document)
        found.entries.append(Found(str(document.get("id") or document.get("name") or "server-1"), "", document))
    elif not known and _is_bare(document):
        bare = Members(_without_others(document))
        bare.twice = getattr(document, "twice", ())
        known = set(bare)
        found.entries += entries_of("", bare, found.problems)
    found.entries = [
        structs.replace(
            one,
            off=why_off(one.id, one.raw, document),
            hidden=tuple(hidden(one.id, document)),
            shown=shown(one.id, document),
        )
        for one in found.entries
    ]
    _warn_of_the_rest(document, known, found)
    return found


def _rooms(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (key at the top, path, entries) of each place with entries."""
    for key, value in document.items():
        if not isinstance(key, str):
            continue
        if key == "mcp" and isinstance(value, dict):
            inner = [name for name in _IN_MCP if isinstance(value.get(name), dict | list)]
            for name in inner:
                yield key, f"mcp.{name}", value[name]
            entries = {id: one for id, one in value.items() if id not in inner and _is_entry(one)}
            if entries:
                yield key, key, entries
            elif not inner:
                yield key, key, {}
        elif key == "extensions" and not _has_entries(value):
            continue  # an editor's own extensions
        elif key in ROOTS or key.endswith((".mcpServers", "mcp.servers")) or _is_like_a_root(key, value):
            yield key, key, value
    server = document.get("server")
    if isinstance(server, dict) and isinstance(server.get("mcp_config"), dict):  # an extension of Claude's (MCPB, DXT)
        yield "server", "server", {str(document.get("name") or "mcp_config"): server["mcp_config"]}
    for place in _WITHIN:
        within: Any = document
        for name in place:
            within = within.get(name) if isinstance(within, dict) else None
        if isinstance(within, dict):
            for _, path, room in _rooms_within(within):
                if isinstance(room, dict | list):
                    yield place[0], ".".join((*place, path)), room


def _rooms_within(document: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield the places in a document inside of another one. It is mostly about other things."""
    if "modelContextProtocolServers" in document:  # Continue, until 2025
        yield "", "modelContextProtocolServers", document["modelContextProtocolServers"]
    kept = {
        key: value
        for key, value in document.items()
        if key in ("mcp", "mcpServers") or str(key).endswith((".mcpServers", "mcp.servers"))
    }
    yield from _rooms(kept)


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and any(mark in value for mark in (*_MARKS_OF_ENTRIES, "type", "enabled"))


def _has_entries(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(one, dict) and ({"type", "command", "cmd", "uri", "url"} & set(one)) for one in items)


def _is_like_a_root(key: str, value: Any) -> bool:
    """Whether a key is a root that was spelled a little differently (``mcpservers``, ``mcp-servers``)."""
    return re.sub(r"[^a-z]", "", key.lower()) in _LIKE_ROOTS and _has_entries(value)


def _is_bare(document: Mapping[str, Any]) -> bool:
    """Whether a document is itself the map of entries: all its values are objects, and one at least is an entry."""
    values = _without_others(document).values()
    return all(isinstance(value, dict) for value in values) and any(
        mark in value for value in values for mark in _MARKS_OF_ENTRIES
    )


def _is_one(document: Mapping[str, Any]) -> bool:
    """Whether a document is itself one entry, without a map around it."""
    return any(isinstance(document.get(mark), str | list) and document[mark] for mark in _MARKS_OF_ENTRIES)


def _without_others(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that are no settings, comments, or known keys of other products."""
    return {
        key: value
        for key, value in document.items()
        if key not in (*_OURS, *SILENT) and (isinstance(value, dict) or not is_comment(str(key)))
    }


def entries_of(path: str, room: Any, problems: list[tuple[str, str]]) -> list[Found]:
    """Return the entries in one place of a file: a map by id, or a list."""
    if room is None:
        return []
    if isinstance(room, list):
        last = path.rpartition(".")[2]
        unnamed = last.removesuffix("s") if last.endswith("_servers") and path != last else "server"
        return [_listed(f"{path}[{place}]", f"{unnamed}-{place + 1}", raw) for place, raw in enumerate(room)]
    if not isinstance(room, dict):
        problems.append((path, "must be an object of id: connection"))
        return []
    twice = getattr(room, "twice", ())
    return [
        Found(str(id), f"{path}.{id}" if path else str(id), raw, twice=str(id) in twice)
        for id, raw in room.items()
        if isinstance(raw, dict) or not is_comment(str(id))
    ]


def _listed(path: str, unnamed: str, raw: Any) -> Found:
    """Return an entry of a list. Its id is among its members, or ``unnamed``."""
    if not isinstance(raw, dict):
        return Found(unnamed, path, raw)
    naming = next((key for key in ("id", "name") if raw.get(key)), "")
    found = Members({key: value for key, value in raw.items() if key != naming})
    found.twice = getattr(raw, "twice", ())
    return Found(str(raw[naming]) if naming else unnamed, path, found)


def _warn_of_the_rest(document: Mapping[str, Any], known: set[str], found: Roots) -> None:
    """Say which keys at the top were not read. The settings of another product are named in one line."""
    rest = [str(key) for key in document if key not in known and key not in OWN and key not in SILENT]
    rest = [key for key in rest if not is_comment(key)]
    rest = [key for key in rest if not is_obeyed(key, document)]
    if not found.entries and ({"packages", "remotes"} & set(rest)):
        text = "describes a server for the MCP registry: register it with 'gateway add FILE'"
        found.warnings.append((next(key for key in rest if key in ("packages", "remotes")), text))
        return
    near = [key for key in rest if suggestion(key, (*OWN, *ROOTS))]
    for key in near:
        found.warnings.append((key, "unknown key" + suggestion(key, (*OWN, *ROOTS))))
    rest = [key for key in rest if key not in near]
    if len(rest) == 1:
        found.warnings.append((rest[0], "unknown key"))
    elif rest:
        found.warnings.append((rest[0], f"unknown key; others that are not read: {', '.join(rest[1:])}"))
