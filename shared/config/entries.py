"""One entry of a file as an upstream's spec, read leniently: what can be mended is, what cannot costs this entry alone.

Pure, except that ``envFile`` is read from disk. Nothing that is said has a value in it that may be a
secret.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from shared.config import spellings
from shared.config.env_file import read_env_file
from shared.config.expand import expand, home_expanded
from shared.config.roots import Found
from shared.config.unusual import restricting, usual
from shared.connections import HttpConnection, StdioConnection
from shared.errors import ConfigError
from shared.former_names import FORMER
from shared.models import MAX_ID, UpstreamSpec, is_id, make_spec
from shared.own_settings import OWN
from shared.sandbox import parse_sandbox
from shared.settings import suggestion
from shared.transports import traits

Said = list[tuple[str, str]]
_SWITCHED = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]")
_DOLLAR = re.compile(r"\$[A-Z_][A-Z0-9_]*")


class Reading(Struct):
    """What became of an entry: its ``spec``, or ``off`` (why the file does not want it). The spec of an entry with
    ``problems`` is there to be shown, not to be run."""

    path: str
    problems: Said = field(default_factory=list)
    warnings: Said = field(default_factory=list)
    mended: Said = field(default_factory=list)
    spec: UpstreamSpec | None = None
    off: str = ""

    def problem(self, key: str, text: str) -> None:
        """Note why the entry cannot be run."""
        self.problems.append((f"{self.path}.{key}" if key else self.path, text))

    def warn(self, key: str, text: str) -> None:
        """Note what of the entry has no effect."""
        self.warnings.append((f"{self.path}.{key}", text))

    def mend(self, key: str, text: str) -> None:
        """Note what was taken for something else than what is written."""
        self.mended.append((f"{self.path}.{key}", text))


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
        on = _SWITCHED.get(str(raw[key]).strip().lower())
        if on is None:
            reading.problem(key, "must be true or false")
        elif on is key.startswith("disable"):
            reading.off = f"{key} is {'true' if on else 'false'}"


def _make(found: Found, raw: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> None:
    inner = raw.get("connection", {})
    if isinstance(raw.get("transport"), dict):  # Continue, until 2025
        inner, raw = raw["transport"], {key: value for key, value in raw.items() if key != "transport"}
    if not _is_text_map(inner):
        reading.problem("connection", "must be an object")
        return
    entry = {**{key: value for key, value in inner.items() if value is not None}, **raw}
    command = next((entry[key] for key in spellings.SPELLINGS["command"] if key in entry), None)
    if isinstance(command, dict):  # Zed, until 2025
        entry.update({{"path": "command"}.get(key, key): one for key, one in command.items() if one is not None})
    _name_other_keys(entry, reading)
    include, exclude = _tools(entry, reading)
    before = len(reading.problems)
    used = {*spellings.known(), *spellings.VARIABLES, "source"}
    entry = {key: value for key, value in entry.items() if key in used}
    entry = expand(entry, variables, reading.path, reading.problems)
    if len(reading.problems) > before:
        return
    connection = _connection(entry, variables, base, reading)
    for key, fits, what in (
        ("metadata", _is_text_map(entry.get("metadata", {})), "an object"),
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
    own = _own_settings(entry, reading)
    try:
        reading.spec = make_spec(id, connection, name=name if name is None else name.strip(), source="file",
                                 include_tools=include, exclude_tools=exclude, settings=own, **options)  # fmt: skip
    except ConfigError as error:
        for key, text in error.problems:
            reading.problem(key, text)


def _name_other_keys(entry: dict[str, Any], reading: Reading) -> None:
    known = {*spellings.known(), *spellings.VARIABLES, *spellings.SILENT}
    for key, value in entry.items():
        if spellings.is_comment(key):
            continue
        if key in spellings.REFUSED:
            if value not in (False, {}, []):
                reading.problem(key, spellings.REFUSED[key])
        elif key in spellings.UNUSED:
            if value not in (False, {}, "none") and not _is_token(key, value) and not _is_auth(key, value):
                reading.warn(key, spellings.UNUSED[key])
        elif key not in known and restricting(key, value):
            reading.problem(key, restricting(key, value))
        elif key not in known:
            reading.warn(key, "unknown key" + suggestion(key, spellings.known()))


def _tools(entry: dict[str, Any], reading: Reading) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return which tools the entry includes and excludes. What is not understood is a problem, never ignored."""
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    for key in (*spellings.INCLUDE, *spellings.EXCLUDE):
        value = entry.get(key)
        if value is None or (key in ("available_tools", "availableTools") and value == []):  # Goose: none means all
            continue
        names = _names(value)
        if isinstance(value, dict) and key in spellings.INCLUDE:
            names = _switched_off(value)
            exclude += names or ()
        elif names is not None and key in spellings.EXCLUDE:
            exclude += names
        elif names is not None:
            include = names if include is None else tuple(one for one in names if one in include or "*" in include)
        if names is None:
            reading.problem(key, "must be a list of names of tools")
    return (None if include is not None and "*" in include else include), exclude


def _names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return ("*",) if value == "all" else tuple(one.strip() for one in value.split(","))
    if isinstance(value, list) and value and all(isinstance(one, dict) and set(one) == {"name"} for one in value):
        value = [one["name"] for one in value]
    fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return tuple(value) if fits else None


def _switched_off(tools: dict[Any, Any]) -> tuple[str, ...] | None:
    """Return the tools that a map by name turns off, or ``None`` if it says anything else of one."""
    off = []
    for name, value in tools.items():
        on = value.get("enabled") if isinstance(value, dict) and set(value) == {"enabled"} else value
        if not isinstance(on, bool):
            return None
        if not on:
            off.append(str(name))
    return tuple(off)


def _connection(entry: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> dict[str, Any]:
    found = spellings.respelled(entry, reading.mend)
    for key in ("command", "url"):
        if isinstance(found.get(key), str):
            found[key] = found[key].strip()
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
        _headers(found, entry, variables, reading)
        _spec(found, variables, base, reading)
        _tls(found, variables, base, reading)
        _auth(found, entry, variables, base)
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
    if has == ["url"] and not str(found["url"]).lower().startswith(("http://", "https://", "unix://")):
        return
    if (is_known and traits(found["type"]).key != has[0]) or (not is_known and kind):
        del found["type"]
        reading.mend("type", f"{kind!r} is not read, because there is a {has[0]!r}")


def _command(
    found: dict[str, Any], entry: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading
) -> None:
    """Bring a command's members into form: ``command``, ``args``, ``env`` and ``cwd``."""
    command, args = found["command"], found.pop("args", [])
    if found.pop("headers", None):
        reading.warn("headers", "has no effect on a command")
    if isinstance(command, list) and command:
        command, args = command[0], [*command[1:], *(args if isinstance(args, list) else [args])]
    if isinstance(args, str):
        args = _words(args) if " " in args else [args]
    if isinstance(command, str) and not args:
        command, args = _of_a_line(command, variables, reading)
    texts = _texts(args, "args", reading) if isinstance(args, list) else None
    if texts is None:
        reading.problem("args", "must be a list of texts")
        return
    found["command"] = home_expanded(command, variables) if isinstance(command, str) else command
    found["args"] = [home_expanded(one, variables) for one in texts]
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
    env = _text_map(found.get("env", {}), "env", "NAME: value", reading)
    env = {name: home_expanded(value, variables) for name, value in _dollars(env, "env", variables, reading).items()}
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


def _of_a_line(command: str, variables: Mapping[str, str], reading: Reading) -> tuple[str, list[str]]:
    """Return the command and the arguments in a line as one types it, unless there is such a file."""
    if len(command.split()) < 2 or _WINDOWS_PATH.match(command) or os.path.exists(home_expanded(command, variables)):
        return command, []
    words = _words(command)
    if len(words) < 2:
        return command, []
    reading.mend("command", "was taken for a line with arguments")
    return words[0], words[1:]


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


def _headers(found: dict[str, Any], entry: dict[str, Any], variables: Mapping[str, str], reading: Reading) -> None:
    """Bring the headers into form, with those that come from variables."""
    headers: dict[str, str] = {}
    for key in ("requestOptions", "requestInit"):
        inner = entry.get(key)
        if isinstance(inner, dict):
            headers.update(_text_map(inner.get("headers") or {}, f"{key}.headers", "Name: value", reading))
    headers.update(_text_map(found.get("headers", {}), "headers", "Name: value", reading))
    wanted = entry.get("env_http_headers", {})
    named = dict(wanted) if isinstance(wanted, dict) else {}
    values = {name: variables.get(str(variable)) for name, variable in named.items()}
    if _is_token("auth", entry.get("auth")):
        headers.setdefault("Authorization", f"Bearer {entry['auth']}")
    bearer = entry.get("bearer_token_env_var")
    if bearer:
        named["Authorization"] = bearer
        token = variables.get(str(bearer))
        values["Authorization"] = None if token is None else f"Bearer {token}"
    for name, value in values.items():
        if value is None:
            reading.problem("headers", f"environment variable {named[name]} is not set; set it")
        else:
            headers[str(name)] = value
    headers = {name: value.strip() for name, value in headers.items()}  # secrets of files end with a line end
    found["headers"] = _dollars(headers, "headers", variables, reading)


def _tls(found: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> None:
    """Make the paths of files absolute: relative ones start at the file's folder."""
    tls = found.get("tls")
    if tls is None:
        return
    if not isinstance(tls, dict):
        reading.problem("tls", "must be an object with caFile, certFile, keyFile, serverName or insecureSkipVerify")
        del found["tls"]
        return
    found["tls"] = {
        key: os.path.normpath(base / home_expanded(value, variables))
        if key in ("caFile", "certFile", "keyFile") and isinstance(value, str) and value
        else value
        for key, value in tls.items()
        if value is not None
    }


def _spec(found: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> None:
    """Make the path of an OpenAPI document absolute: a relative one starts at the file's folder."""
    spec = found.get("spec")
    if isinstance(spec, str) and spec and "://" not in spec:
        found["spec"] = os.path.normpath(base / home_expanded(spec, variables))
    for key in ("operations", "health"):
        if key in found and spec is None:
            reading.warn(key, "has no effect without 'spec', an OpenAPI document")
            del found[key]


def _auth(found: dict[str, Any], entry: dict[str, Any], variables: Mapping[str, str], base: Path) -> None:
    """Take over ``auth`` if it is one of ours, with the path of its key made absolute."""
    auth = entry.get("auth")
    if isinstance(auth, dict) and _is_auth("auth", auth):
        file = auth.get("privateKeyFile")
        found["auth"] = {name: value for name, value in auth.items() if value is not None}
        if isinstance(file, str) and file:
            found["auth"]["privateKeyFile"] = os.path.normpath(base / home_expanded(file, variables))


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


def _is_token(key: str, value: Any) -> bool:
    """Whether a value is a bearer token, as FastMCP has it under ``auth``."""
    return key == "auth" and isinstance(value, str) and value.lower() not in ("", "oauth", "none")


def _is_auth(key: str, value: Any) -> bool:
    """Whether a value is an ``auth`` as the gateway has it. Other clients have other objects under this key."""
    return key == "auth" and isinstance(value, dict) and "type" in value


def _text_map(value: Any, key: str, what: str, reading: Reading) -> dict[str, str]:
    if isinstance(value, str) and value.strip():
        value = [line for line in value.splitlines() if line.strip()]
    if isinstance(value, list):
        value = dict(_pair(one, ":" if key.endswith("headers") else "=") for one in value)
    if not isinstance(value, dict):
        reading.problem(key, f"must be an object of {what}")
        return {}
    kept = {str(name): one for name, one in value.items() if one is not None}
    texts = _texts(list(kept.values()), key, reading)
    if texts is None:
        reading.problem(key, f"must be an object of {what}")
        return {}
    return dict(zip(kept, texts, strict=True))


def _pair(one: Any, separator: str) -> tuple[str, Any]:
    """Return the name and the value in an item of a list: ``NAME=value`` (Docker), ``Name: value``, or an object."""
    if isinstance(one, dict) and ("name" in one or "key" in one):
        return str(one.get("name", one.get("key"))), one.get("value")
    name, _, text = str(one).partition(separator)
    return (name.strip(), text.strip()) if separator == ":" else (name, text)


def _dollars(values: dict[str, str], key: str, variables: Mapping[str, str], reading: Reading) -> dict[str, str]:
    """Return the values with each that is nothing but ``$NAME`` (Gemini CLI) replaced, where that variable is set."""
    found = dict(values)
    for name, value in values.items():
        if _DOLLAR.fullmatch(value):
            found[name] = variables.get(value[1:], value)
            if value[1:] not in variables:
                reading.warn(f"{key}.{name}", "is used as it is written: there is no environment variable of that name")
    return found


def _texts(values: list[Any], key: str, reading: Reading) -> list[str] | None:
    """Return values as texts: numbers and booleans as JSON writes them. ``None`` if one is no such value."""
    found = []
    for value in values:
        if value is None:
            reading.mend(key, "a null is left out")
        elif isinstance(value, bool):
            found.append("true" if value else "false")
        elif isinstance(value, str | int | float):
            found.append(str(value))
        elif hasattr(value, "isoformat"):  # YAML and TOML know dates
            found.append(value.isoformat())
        else:
            return None
    return found


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)
