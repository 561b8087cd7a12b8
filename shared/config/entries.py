"""One entry of a file as an upstream's spec, read leniently: what can be mended is, what cannot costs this entry alone.

Pure, except that ``envFile`` is read from disk. Nothing that is said has a value in it that may be a
secret.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import sys
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from shared.choices import SWITCHED
from shared.config import spellings
from shared.config.env_file import read_env_file
from shared.config.expand import DOLLARS, DOLLARS_OF_ARGUMENTS, REFERENCES, expand, home_expanded
from shared.config.readings import Reading, Said, is_text_map, text_map, texts, warn_of_dollars
from shared.config.roots import Found
from shared.config.tool_lists import both, tools_of
from shared.config.unusual import restricting, usual
from shared.config.web_entries import auth_of, headers_of, is_auth, is_token, mend_url, options_of, spec_of, tls_of
from shared.connections import HttpConnection, StdioConnection
from shared.errors import ConfigError
from shared.former_names import FORMER
from shared.models import MAX_ID, UpstreamSpec, is_id, make_spec
from shared.own_settings import OWN
from shared.sandbox import parse_sandbox
from shared.settings import suggestion
from shared.transports import traits

_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]")
_LAUNCHER = re.compile(
    r"(npx|npm|node|pnpm|yarn|bunx?|deno|uvx?|pipx|python3?|docker|podman|java|dotnet|go|ruby|php|cmd|wsl)(\.\w+)?",
    re.IGNORECASE,
)
"""Programs that are called the same on every system."""
_WSL_WITH_VALUE = ("-d", "--distribution", "-u", "--user", "--cd", "--shell-type")
_NAME = re.compile(r"[\w.@+-]+")
"""What the name of a program looks like that is not a path."""
_SHELLS = ("sh", "bash", "zsh", "dash", "ash", "ksh", "fish", "pwsh", "powershell")
_DOLLARS = {
    **dict.fromkeys(("env", "headers", "command", "cwd", "url", "envFile"), DOLLARS),
    "args": DOLLARS_OF_ARGUMENTS,
}


def read_entry(found: Found, variables: Mapping[str, str], base: Path) -> Reading:
    """Return what an entry says. ``base`` is the folder from which relative paths start."""
    reading = Reading(found.path, off=found.off)
    if reading.off:
        return reading
    if found.twice:
        reading.problem("", f"duplicate key {found.id!r}; ids must be unique, rename one of them")
    raw = _object(found.raw, reading)
    if raw is not None and not reading.problems:
        raw = usual(raw, reading.mend)
        _switch(raw, reading)
        if reading.off:
            return reading
        _make(found, raw, variables, base, reading)
    if reading.problems:
        reading.spec = flawed(found.id, raw, reading.path, reading.problems)
    return reading


def flawed(id: str, raw: Any, path: str, problems: Said) -> UpstreamSpec:
    """Return the spec that stands for an entry which cannot be run, with the reason."""
    prefix = path + "."
    reason = "; ".join(f"{where.removeprefix(prefix)}: {text}" if where != path else text for where, text in problems)
    remote = isinstance(raw, dict) and not any(key in raw for key in spellings.SPELLINGS["command"])
    remote = remote and any(key in raw for key in spellings.SPELLINGS["url"])
    shown = shown_id(id)
    name = raw.get("name") if isinstance(raw, dict) else None
    return UpstreamSpec(
        id=shown,
        name=name if isinstance(name, str) and is_id(name) else shown,
        transport="http" if remote else "stdio",
        connection=HttpConnection("") if remote else StdioConnection(""),
        source="file",
        problem=reason,
    )


def shown_id(id: str) -> str:
    """Return the id under which an entry is listed whose own id cannot be one."""
    if is_id(id):
        return id
    plain = "".join(one if one.isprintable() else "_" for one in id).strip()[:MAX_ID].strip()
    return plain if is_id(plain) else "unnamed"


def _object(raw: Any, reading: Reading) -> dict[str, Any] | None:
    if isinstance(raw, str) and raw.startswith(("http://", "https://")):
        reading.mended.append((reading.path, "was taken for a 'url'"))
        return {"url": raw}
    if isinstance(raw, str) and len(raw.split()) > 1:
        return {"command": raw}
    if not isinstance(raw, dict):
        reading.problem("", "must be an object with 'command' or 'url'")
        return None
    for place, one in (("", raw), *((f"{key}.", value) for key, value in raw.items())):
        for key in getattr(one, "twice", ()):
            reading.problem(f"{place}{key}", "is written twice")
    return {str(key): value for key, value in raw.items() if value is not None}


def _switch(raw: dict[str, Any], reading: Reading) -> None:
    """Note whether the entry is switched off. A switch that cannot be read must not leave a server on."""
    for key in spellings.SWITCHES:
        if key not in raw:
            continue
        on = SWITCHED.get(str(raw[key]).strip().lower())
        if on is None:
            reading.problem(key, "must be true or false")
        elif on is key.startswith("disable"):
            reading.off = f"{key} is {'true' if on else 'false'}"


def _make(found: Found, raw: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> None:
    inner, raw = _inner(raw, reading)
    if not is_text_map(inner):
        reading.problem("connection", "must be an object")
        return
    entry = _for_this_system({**{key: value for key, value in inner.items() if value is not None}, **raw})
    command = next((entry[key] for key in spellings.SPELLINGS["command"] if key in entry), None)
    if isinstance(command, dict):  # Zed, until 2025
        entry.update({"command" if key == "path" else key: one for key, one in command.items() if one is not None})
    _name_other_keys(entry, reading)
    include, exclude = tools_of(entry, reading.problem)
    before = len(reading.problems)
    used = {*spellings.known(), *spellings.VARIABLES, "source"}
    entry = {key: value for key, value in entry.items() if key in used}
    entry = _expanded(entry, variables, reading)
    if len(reading.problems) > before:
        return
    connection = _connection(entry, variables, base, reading)
    for key, fits, what in (
        ("metadata", is_text_map(entry.get("metadata", {})), "an object"),
        ("name", isinstance(entry.get("name", ""), str), "a text"),
    ):
        if not fits:
            reading.problem(key, f"must be {what}")
    if reading.problems:
        return
    options = {key: entry[key] for key in spellings.OPTIONS if key in entry and key not in ("name", "connection")}
    id = found.id.strip()
    if id != found.id:
        reading.mended.append((reading.path, "spaces at the ends of the id are left out"))
    name = entry.get("name")
    if not {"url", "command", "type", "spec"} & set(connection):
        reading.problem("", "has neither 'command' nor 'url'")
        return
    exclude += found.hidden
    include = both(include, found.shown)
    own = _own_settings(entry, reading)
    try:
        reading.spec = make_spec(id, connection, name=name if name is None else name.strip(), source="file",
                                 include_tools=include, exclude_tools=exclude, settings=own, **options)  # fmt: skip
    except ConfigError as error:
        for key, text in error.problems:
            reading.problem(key, text)


def _for_this_system(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with what an extension of Claude's says of the operating system that the gateway runs on."""
    of_all = entry.get("platform_overrides")
    here = of_all.get(sys.platform) if isinstance(of_all, dict) else None
    if not isinstance(here, dict):
        return entry
    both = {**entry, **{key: value for key, value in here.items() if value is not None}}
    if isinstance(entry.get("env"), dict) and isinstance(here.get("env"), dict):
        both["env"] = {**entry["env"], **here["env"]}
    return both


def _inner(raw: dict[str, Any], reading: Reading) -> tuple[Any, dict[str, Any]]:
    """Return the object inside of an entry that says how the server is reached, and the entry without it. Clients call
    it ``connection``, ``transport`` (Continue, until 2025), ``config`` (tiny-agents), ``params``."""
    if isinstance(raw.get("transport"), dict):
        return raw["transport"], {key: value for key, value in raw.items() if key != "transport"}
    marks = {*spellings.SPELLINGS["command"], *spellings.SPELLINGS["url"]}
    known = {*spellings.known(), *spellings.VARIABLES, *spellings.SILENT, *spellings.UNUSED, *spellings.REFUSED}
    if "connection" not in raw and not marks & set(raw):
        inside = [key for key, one in raw.items() if isinstance(one, dict) and marks & set(one) and key not in known]
        if len(inside) == 1:
            reading.mend(inside[0], "was taken for the entry's connection")
            return raw[inside[0]], {key: value for key, value in raw.items() if key != inside[0]}
    return raw.get("connection", {}), raw


def _expanded(entry: dict[str, Any], variables: Mapping[str, str], reading: Reading) -> dict[str, Any]:
    """Return an entry with its references replaced. Arguments, headers and URLs may name variables of its own ``env``;
    programs that replace these themselves get them as they are, so that no secret is in the list of processes."""
    found: dict[str, Any] = {}
    own: dict[str, str] = {}
    both: Mapping[str, str] = ChainMap(variables, own)  # type: ignore[arg-type]
    leaves = _replaces_itself(entry)
    for key in sorted(entry, key=lambda one: one not in spellings.SPELLINGS["env"]):  # these first
        of = next((name for name, spelled in spellings.SPELLINGS.items() if key in spelled), key)
        known = both if of in ("url", "headers") or (of == "args" and not leaves) else variables
        kept = own if of == "args" and leaves else ()
        pattern = REFERENCES if of == "args" and leaves else _DOLLARS.get(of, REFERENCES)
        found[key] = expand(entry[key], known, f"{reading.path}.{key}", reading.problems, pattern, kept)
        if of == "env" and isinstance(found[key], dict):
            own.update(
                {name: one for name, one in found[key].items() if isinstance(name, str) and isinstance(one, str)}
            )
    return {key: found[key] for key in entry}


def _replaces_itself(entry: Mapping[str, Any]) -> bool:
    """Whether a command replaces variables in its arguments itself, as shells do."""
    words: list[Any] = []
    for key in ("command", "args"):
        given: Any = next((entry[one] for one in spellings.SPELLINGS[key] if one in entry), [])
        words += given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    names = [PurePath(str(one)).name for one in words]
    return any(one in _SHELLS for one in names[:2]) or any("mcp-remote" in one for one in names)


def _name_other_keys(entry: dict[str, Any], reading: Reading) -> None:
    known = {*spellings.known(), *spellings.VARIABLES, *spellings.SILENT}
    for key, value in entry.items():
        if spellings.is_comment(key):
            continue
        if key in spellings.REFUSED:
            if value not in (False, {}, []):
                reading.problem(key, spellings.REFUSED[key])
        elif key in spellings.UNUSED:
            if value not in (False, {}, "none") and not is_token(key, value) and not is_auth(key, value):
                reading.warn(key, spellings.UNUSED[key])
        elif key not in known and restricting(key, value):
            reading.problem(key, restricting(key, value))
        elif key not in known:
            reading.warn(key, "unknown key" + suggestion(key, spellings.known()))


def _connection(entry: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> dict[str, Any]:
    found = spellings.respelled(entry, reading.mend)
    for key in ("command", "url"):
        if isinstance(found.get(key), str):
            found[key] = found[key].strip()
    mend_url(found, reading)
    if (found.get("command") == "" and found.get("url")) or (found.get("url") == "" and found.get("command")):
        del found["command" if found["url"] else "url"]  # forms write both
    kind = found.get("type")
    if entry.get("source") == "extension" or spellings.plain(kind) in spellings.PART_OF_A_CLIENT:
        reading.problem("", "is part of another client, and has no command or URL to reach it by")
        return found
    if isinstance(kind, str):
        found["type"] = spellings.TYPES.get(spellings.plain(kind), kind)
        _reconsider(found, kind, reading)
    if "command" in found and "url" in found and not kind:
        reading.problem("url", "stands beside 'command': keep one of them, or say which by 'type'")
        return found
    if "command" in found and "url" in found and spellings.plain(kind) in spellings.TYPES:
        other = "url" if traits(found["type"]).key == "command" else "command"
        del found[other]
        reading.mend(other, f"is not read, because the type is {kind!r}")
    if "command" in found:
        _command(found, entry, variables, base, reading)
    elif "url" in found or "spec" in found:
        options_of(found, entry, reading)
        headers_of(found, entry, variables, reading)
        spec_of(found, variables, base, reading)
        tls_of(found, variables, base, reading)
        auth_of(found, entry, variables, base)
        if found.pop("sandbox", None) not in (None, False, "none"):
            reading.problem("sandbox", "is for commands; a server that is reached by a URL runs elsewhere")
        for key in ("args", "env", "cwd", "envFile"):
            if found.pop(key, None):
                reading.warn(key, "has no effect on a server that is reached by a URL")
    return found


def _reconsider(found: dict[str, Any], kind: str, reading: Reading) -> None:
    """Drop a type that does not fit to what the entry has, if it has only one thing that a server is reached by."""
    is_known = spellings.plain(kind) in spellings.TYPES
    has = [key for key in ("command", "url") if found.get(key)]
    if len(has) != 1 or spellings.plain(kind) in spellings.PART_OF_A_CLIENT:
        return
    if is_known and traits(found["type"]).key not in ("command", "url"):
        return  # what has a document is described by it, wherever it is reached
    if has == ["url"] and not str(found["url"]).lower().startswith(("http://", "https://", "unix://")):
        return
    if (is_known and traits(found["type"]).key != has[0]) or (not is_known and kind):
        del found["type"]
        reading.mend("type", f"{kind!r} is not read, because there is a {has[0]!r}")


def _command(
    found: dict[str, Any], entry: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading
) -> None:
    """Bring a command's members into form: ``command``, ``args``, ``env`` and ``cwd``."""
    command, args = found["command"], found.pop("args", None) or []
    if found.pop("headers", None):
        reading.warn("headers", "has no effect on a command")
    if isinstance(command, list) and command:
        command, args = command[0], [*command[1:], *(args if isinstance(args, list) else [args])]
    if isinstance(args, str):
        args = _words(args) if " " in args else [args]
    if isinstance(command, str) and isinstance(args, list):
        command, args = _of_a_line(command, args, variables, reading)
    words = texts(args, "args", reading) if isinstance(args, list) else None
    if words is None:
        reading.problem("args", "must be a list of texts")
        return
    if isinstance(command, str):
        command, words = _of_windows(home_expanded(command, variables), words, variables, reading)
    found["command"] = command
    found["args"] = [home_expanded(one, variables) for one in words]
    cwd = found.get("cwd", ".")
    if not isinstance(cwd, str):
        reading.problem("cwd", "must be a path")
        return
    found["cwd"] = os.path.normpath(base / home_expanded(cwd or ".", variables))
    _sandbox(found, variables, base, reading)
    from_file: dict[str, str] = {}
    if "envFile" in found:
        file = base / home_expanded(str(found.pop("envFile")), variables)
        try:
            from_file = read_env_file(file)
        except OSError as error:
            reading.problem("envFile", f"cannot read {file}: {error.strerror or error}")
        except UnicodeDecodeError:
            reading.problem("envFile", f"cannot read {file}: it is not UTF-8 text")
    env = text_map(found.get("env", {}), "env", "NAME: value", reading)
    warn_of_dollars(env, "env", reading)
    env = {name: home_expanded(value, variables) for name, value in env.items()}
    found["env"] = {**_forwarded(entry, variables, reading), **from_file, **env}


def _sandbox(found: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> None:
    """Bring ``sandbox`` into form, with whole paths. One that cannot be had is a problem: it restricts."""
    given = found.pop("sandbox", None)
    if isinstance(given, dict):
        given = dict(given)
        for key in ("read", "write"):
            paths = [given[key]] if isinstance(given.get(key), str) else given.get(key)
            if isinstance(paths, list) and all(isinstance(one, str) for one in paths):
                given[key] = [os.path.normpath(base / home_expanded(one, variables)) for one in paths]
    try:
        sandbox = parse_sandbox(given)
    except ValueError as error:
        reading.problem("sandbox", str(error).removeprefix("sandbox: ").removeprefix("sandbox "))
        return
    if sandbox is not None:
        found["sandbox"] = sandbox


def _of_a_line(command: str, args: list[Any], variables: Mapping[str, str], reading: Reading) -> tuple[str, list[Any]]:
    """Return the command and the arguments in a line as one types it, unless there is such a file. ``args`` are those
    that the entry has beside it."""
    if len(command.split()) < 2 or _WINDOWS_PATH.match(command) or os.path.exists(home_expanded(command, variables)):
        return command, args
    words = _words(command)
    if len(words) < 2 or (args and not _NAME.fullmatch(words[0])):
        return command, args
    reading.mend("command", "was taken for a line with arguments")
    return words[0], [*words[1:], *args]


def _of_windows(command: str, args: list[str], variables: Mapping[str, str], reading: Reading) -> tuple[str, list[str]]:
    """Return the command without what only Windows needs before it or behind it (``cmd /c npx``, ``wsl npx``,
    ``C:\\Program Files\\nodejs\\npx.cmd``), if there is no such program here."""
    if os.name != "posix" or shutil.which(command, path=variables.get("PATH")):
        return command, args
    before, name = command, PureWindowsPath(command).name
    if _WINDOWS_PATH.match(command) and _LAUNCHER.fullmatch(name):
        command = name
    if command.lower() in ("cmd", "cmd.exe"):
        flags = next((place for place, one in enumerate(args) if not re.fullmatch(r"/[A-Za-z](:\w+)?", one)), len(args))
        rest = args[flags:]
        if not flags or not rest:
            return command, args
        words = _words(rest[0]) if len(rest) == 1 else rest
        command, args = words[0], words[1:]
    elif command.lower() in ("wsl", "wsl.exe"):
        rest = _behind_wsl(args)
        if not rest:
            return command, args
        command, args = rest[0], rest[1:]
    command = (
        re.sub(r"(?<=[\w-])\.(cmd|bat|exe)$", "", command, flags=re.IGNORECASE) if _NAME.fullmatch(command) else command
    )
    if command != before:
        reading.mend("command", f"is for Windows, and was taken for {command!r}")
    return command, args


def _behind_wsl(args: list[str]) -> list[str]:
    """Return the command that ``wsl`` runs, without its own options."""
    at = 0
    while at < len(args) and args[at].startswith("-"):
        at += 2 if args[at] in _WSL_WITH_VALUE else 1
    return args[at:]


def _words(line: str) -> list[str]:
    """Return the words of a line as a shell has them, or the line if it cannot be split."""
    try:
        return shlex.split(line)
    except ValueError:
        return [line]


def _forwarded(entry: dict[str, Any], variables: Mapping[str, str], reading: Reading) -> dict[str, str]:
    """Return the variables that an entry takes from the gateway's own environment, by name."""
    found: dict[str, str] = {}
    for key, is_needed in (("env_vars", False), ("env_keys", True)):
        names = entry.get(key, [])
        if not isinstance(names, list):
            reading.problem(key, "must be a list of names of variables")
            continue
        for one in names:
            name = str(one.get("name") if isinstance(one, dict) else one)
            value = variables.get(name)
            if value is not None:
                found[name] = value
            elif is_needed and name not in (entry.get("envs") or {}):
                reading.problem(key, f"environment variable {name} is not set; set it")
    return found


def _own_settings(entry: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """Return the settings that the entry has for its upstream alone."""
    own: dict[str, Any] = {}
    for key, (setting, unit) in spellings.DURATIONS.items():
        value = _number(entry.get(key))
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
            own[setting] = spellings.milliseconds(value, unit)
            reading.mend(key, f"was taken for {own[setting] / 1000:g} s of {setting}")
        elif value is not None:
            reading.warn(key, "is not a number of seconds or milliseconds, and has no effect")
    own.update({key: entry[key] for key in (*FORMER, *OWN) if key in entry})
    return own


def _number(value: Any) -> Any:
    """Return the number that is written in a text, or the value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
