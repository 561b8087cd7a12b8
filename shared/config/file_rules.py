"""What a file says of its servers as a whole: which of them it wants, and which of their tools. Pure.

Such a rule restricts, so it is obeyed: lists of names (Claude Code, Gemini CLI), lists of commands and addresses
(Claude Code's managed settings, Amp, LibreChat), and lists of tools that name their server (Claude Code, Cursor,
Crush, opencode, Kiro).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from shared.config import spellings

_ALLOW = re.compile(r"allow(ed)?|enabled|include(d)?")
_DENY = re.compile(r"den(y|ied)|excluded?|disabled|block(ed)?")
_OF_SERVERS = re.compile(r"(?:mcp|mcpjson)?servers")
_EXCLUDE_ALL = ("excludeTools", "exclude_tools", "disabledTools", "disabled_tools")
"""Lists at the top of a file that take tools of any server out (Gemini CLI and its extensions)."""


def why_off(id: str, raw: Any, document: Mapping[str, Any]) -> str:
    """Return why a file does not want an entry, or an empty text."""
    for key, wanted, listed in _lists(document):
        if wanted and not _is_allowed(id, raw, listed):
            return f"not in {key}"
        if not wanted and any(_means(one, id, raw) for one in listed):
            return f"in {key}"
    if not _is_of_allowed_domain(raw, document):
        return "not at one of mcpSettings.allowedDomains"
    if _is_rejected(raw, document.get("amp.mcpPermissions")):
        return "rejected by amp.mcpPermissions"
    return "not in tools" if shown(id, document) == () else ""


def is_obeyed(key: str, document: Mapping[str, Any]) -> bool:
    """Whether all that a key at the top of a file says of servers is obeyed."""
    if key in ("tools", "permission"):
        return "mcp" in document or (key == "tools" and "mcpServers" in document)
    if key in _EXCLUDE_ALL or key in ("amp.mcpPermissions", "amp.tools.disable", "mcpSettings"):
        return True
    if key == "permissions":
        return isinstance(document[key], Mapping) and set(document[key]) <= {"allow", "deny", "ask"}
    return isinstance(document[key], list) and _of_names(key) is not None


# ---- servers


def _of_names(key: str) -> bool | None:
    """Whether a list of this name says which servers are wanted (true) or not (false). ``None``: it is another one."""
    word = spellings.plain(key)
    for pattern, wanted in ((_ALLOW, True), (_DENY, False)):
        match = pattern.match(word)
        if match and _OF_SERVERS.fullmatch(word, match.end()):
            return wanted
    return None


def _lists(document: Mapping[str, Any]) -> Iterator[tuple[str, bool, list[Any]]]:
    """Yield (name, whether it says which are wanted, what is in it) of each list of servers."""
    for key, value in document.items():
        wanted = _of_names(str(key))
        if wanted is not None and isinstance(value, list):
            yield str(key), wanted, value
    inner = document.get("mcp")
    for key, wanted in (("allowed", True), ("excluded", False)):  # Gemini CLI
        if isinstance(inner, Mapping) and isinstance(inner.get(key), list):
            yield f"mcp.{key}", wanted, inner[key]


def _is_allowed(id: str, raw: Any, listed: list[Any]) -> bool:
    """Whether a list has a server. If it has commands, those of other servers do not count by name, and so with
    addresses (Claude Code, "Managed MCP configuration")."""
    kind = "serverUrl" if _url(raw) else "serverCommand"
    special = [one for one in listed if isinstance(one, Mapping) and kind in one]
    return any(_means(one, id, raw) for one in special or listed)


def _means(one: Any, id: str, raw: Any) -> bool:
    """Whether an item of a list means a server: its name, or an object with its name, command or address."""
    if not isinstance(one, Mapping):
        return str(one) == id
    if "serverName" in one:
        return str(one["serverName"]) == id
    if isinstance(one.get("serverCommand"), list):
        return _words(raw) == [str(word) for word in one["serverCommand"]]
    if isinstance(one.get("serverUrl"), str):
        return bool(_url(raw)) and fnmatchcase(_url(raw), one["serverUrl"].replace("[", "[[]"))
    return False


def _url(raw: Any) -> str:
    found = [raw[key] for key in spellings.SPELLINGS["url"] if key in raw] if isinstance(raw, Mapping) else [raw]
    return next((one for one in found if isinstance(one, str) and one), "")


def _words(raw: Any) -> list[str]:
    """Return the command of an entry with its arguments."""
    words: list[str] = []
    for name in ("command", "args") if isinstance(raw, Mapping) else ():
        given: Any = next((raw[key] for key in spellings.SPELLINGS[name] if key in raw), [])
        words += map(str, given) if isinstance(given, list) else [str(given)]
    return words


def _is_of_allowed_domain(raw: Any, document: Mapping[str, Any]) -> bool:
    """Whether an entry has no URL, or LibreChat's ``mcpSettings.allowedDomains`` (``x.org``, ``*.x.org``,
    ``https://x.org:8443``) has its host. Schemes and ports are not compared."""
    settings = document.get("mcpSettings")
    allowed = settings.get("allowedDomains") if isinstance(settings, dict) else None
    if not isinstance(allowed, list) or not isinstance(raw, dict):
        return True
    urls = [raw[key] for key in spellings.SPELLINGS["url"] if isinstance(raw.get(key), str)]
    patterns = [_host(str(one) if "://" in str(one) else f"//{one}") for one in allowed]
    return all(any(fnmatchcase(_host(url), one) for one in patterns) for url in urls)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_rejected(raw: Any, rules: Any) -> bool:
    """Whether the first of Amp's rules that means a server rejects it. What a rule asks of a server that is not known
    here does not let it through."""
    words = _words(raw)
    url, line, args = _url(raw), " ".join(words), " ".join(words[1:])
    known = {"url": [url] * bool(url), "command": [*words[:1], line] * bool(line), "args": [args] * bool(line)}
    for rule in rules if isinstance(rules, list) else ():
        if not isinstance(rule, Mapping) or not isinstance(rule.get("matches"), Mapping):
            continue
        rejects = rule.get("action") != "allow"
        asked = {key: str(pattern) for key, pattern in rule["matches"].items() if key in known}
        if len(asked) < len(rule["matches"]) and not rejects:
            continue
        if all(any(fnmatchcase(one, pattern) for one in known[key]) for key, pattern in asked.items()):
            return rejects
    return False


# ---- tools


def hidden(id: str, document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tools of a server that a file as a whole turns off."""
    yield from _hidden_by_opencode(id, document)
    yield from _denied_by_zed(id, document)
    for names in [*map(document.get, _EXCLUDE_ALL), _within(document, "tools", "exclude")]:
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str):
                yield name.removeprefix(f"{id}__")
    of_clients = (  # Amp, Crush, and Claude Code and Cursor, whose own tools are in these lists too
        document.get("amp.tools.disable"),
        _within(document, "options", "disabled_tools"),
        _within(document, "permissions", "deny"),
    )
    for names in of_clients:
        for name in names if isinstance(names, list) else ():
            yield from filter(None, [_named_with(id, str(name))])


def _within(document: Mapping[str, Any], place: str, key: str) -> Any:
    inner = document.get(place)
    return inner.get(key) if isinstance(inner, Mapping) else None


def _named_with(id: str, name: str) -> str:
    """Return the tool of a server that is meant by ``mcp__server__tool`` or ``mcp__server`` (Claude Code, Amp),
    ``Mcp(server:tool)`` (Cursor) or ``mcp_server_tool`` (Crush). An empty text: none of this server."""
    of_cursor = re.fullmatch(r"[Mm][Cc][Pp]\((.*?)(?::(.*))?\)", name)
    if of_cursor is not None:
        return (of_cursor[2] or "*") if fnmatchcase(id, of_cursor[1]) else ""
    for server in (id, re.sub(r"[^A-Za-z0-9_-]", "_", id)):
        if name == f"mcp__{server}":
            return "*"
        for start in (f"mcp__{server}__", f"mcp_{server}_"):
            if name.startswith(start):
                return name.removeprefix(start)
    return ""


def _hidden_by_opencode(id: str, document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what opencode's ``tools`` (``{"server_tool": false, "server*": false}``) and ``permission`` (``"deny"``)
    turn off."""
    for place, off in (("tools", False), ("permission", "deny")):
        chosen = document.get(place)
        for pattern, on in chosen.items() if isinstance(chosen, dict) and "mcp" in document else ():
            if on is off or on == off == "deny":
                if str(pattern).startswith(f"{id}_"):
                    yield str(pattern).removeprefix(f"{id}_")
                elif fnmatchcase(f"{id}_", str(pattern)):
                    yield "*"


def _denied_by_zed(id: str, document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tools that Zed's ``agent.tool_permissions`` never lets run: ``{"mcp:server:tool": {"default":
    "deny"}}``."""
    permissions = _within(document, "agent", "tool_permissions")
    tools = permissions.get("tools") if isinstance(permissions, Mapping) else None
    for name, said in tools.items() if isinstance(tools, Mapping) else ():
        if isinstance(said, Mapping) and said.get("default") == "deny" and str(name).startswith(f"mcp:{id}:"):
            yield str(name).removeprefix(f"mcp:{id}:")


def shown(id: str, document: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the tools of a server that an agent of Kiro or Amazon Q may use (``None``: all):
    ``["read", "@server", "@other/tool", "*"]``."""
    tools = document.get("tools")
    if not isinstance(tools, list) or "mcpServers" not in document or "*" in tools:
        return None
    chosen = [one.removeprefix("@") for one in tools if isinstance(one, str) and one.startswith("@")]
    if not chosen:
        return None
    found: list[str] = []
    for one in chosen:
        server, _, tool = one.partition("/")
        if fnmatchcase(id, server):
            if tool in ("", "*"):
                return None
            found.append(tool)
    return tuple(found)
