"""Reading one configuration file into settings values and upstream specs.

All problems are collected before ``ConfigError`` is raised, so that ``gateway check`` shows them at once.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from shared.config.expand import expand
from shared.errors import ConfigError
from shared.models import UpstreamSpec, make_spec
from shared.settings import build, suggestion

TOP_LEVEL = ("gateway", "mcpServers", "servers")
FOREIGN_TOP_LEVEL = ("$schema", "inputs", "globalShortcut", "preferences")
CONNECTION_KEYS = ("type", "transport", "command", "args", "env", "cwd", "url", "headers")
OPTION_KEYS = ("name", "weight", "metadata", "isolation", "era", "balancer", "connection")
FOREIGN_KEYS = (
    "alwaysAllow",
    "autoApprove",
    "description",
    "dev",
    "disabled",
    "enabled",
    "envFile",
    "gallery",
    "icon",
    "timeout",
    "tools",
    "version",
)
"""Keys that files of other clients carry. ``disabled``, ``enabled`` and ``envFile`` have an effect, the others are
ignored."""


class Config(Struct, frozen=True):
    """The content of a file: ``settings`` as written (milliseconds), and the upstreams in the file's order."""

    settings: dict[str, Any]
    upstreams: list[UpstreamSpec]

    def __repr__(self) -> str:
        return f"Config(settings={sorted(self.settings)}, upstreams={self.upstreams})"  # the admin token may be set


class _DuplicateKey(ValueError):
    pass


def load(path: str | Path, environment: Mapping[str, str] | None = None) -> Config:
    """Return the checked content of ``path``. Raises ``ConfigError`` with every problem and its path in the file."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: {error}") from error
    return parse(_decode(text, file), os.environ if environment is None else environment, file.absolute().parent)


def _decode(text: str, file: Path) -> Any:
    suffix = file.suffix.lower()
    try:
        if suffix in (".yaml", ".yml"):
            return yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader
        if suffix == ".toml":
            return tomllib.loads(text)
        return json.loads(text, object_pairs_hook=_unique)
    except _DuplicateKey as error:
        raise ConfigError(f"{file}: {error}") from error
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        kind = {".toml": "TOML", ".yaml": "YAML", ".yml": "YAML"}.get(suffix, "JSON")
        detail = " ".join(str(error).split())
        raise ConfigError(f"{file} is not valid {kind}: {detail}") from error


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise _DuplicateKey(f"duplicate key {key!r}; ids must be unique, rename one of them")
        seen[key] = value
    return seen


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _unique([(str(self.construct_object(key, deep=True)), None) for key, _ in node.value])
        return super().construct_mapping(node, deep=deep)


def parse(document: Any, environment: Mapping[str, str], base: Path) -> Config:
    """Return the checked content of a decoded document. ``base`` is the folder from which relative ``cwd`` and
    ``envFile`` start. Raises ``ConfigError`` with every problem."""
    if not isinstance(document, dict):
        raise ConfigError("a configuration is an object with 'gateway' and 'mcpServers'")
    problems: list[tuple[str, str]] = []
    for key in document:
        if key not in TOP_LEVEL and key not in FOREIGN_TOP_LEVEL:
            problems.append((str(key), "unknown key" + suggestion(str(key), TOP_LEVEL)))
    settings = expand(document.get("gateway") or {}, environment, "gateway", problems)
    if not isinstance(settings, dict):
        problems.append(("gateway", "must be an object"))
        settings = {}
    try:
        build(settings)
    except ConfigError as error:
        problems += error.problems
    upstreams: list[UpstreamSpec] = []
    for room in ("mcpServers", "servers"):
        entries = document.get(room) or {}
        if not isinstance(entries, dict):
            problems.append((room, "must be an object of id: connection"))
            continue
        for key, raw in entries.items():
            path = f"{room}.{key}"
            if any(spec.id == str(key) for spec in upstreams):
                problems.append((path, "duplicate id; ids must be unique, rename one of them"))
                continue
            spec = _entry(str(key), raw, path, environment, base, problems)
            if spec is not None:
                upstreams.append(spec)
    if problems:
        raise ConfigError(problems)
    return Config(settings=settings, upstreams=upstreams)


def _entry(
    key: str,
    raw: Any,
    path: str,
    environment: Mapping[str, str],
    base: Path,
    problems: list[tuple[str, str]],
) -> UpstreamSpec | None:
    if not isinstance(raw, dict):
        problems.append((path, "must be an object with 'command' or 'url'"))
        return None
    if raw.get("disabled") is True or raw.get("enabled") is False:
        return None
    known = (*CONNECTION_KEYS, *OPTION_KEYS, *FOREIGN_KEYS)
    strange = [name for name in raw if name not in known]
    for name in strange:
        problems.append((f"{path}.{name}", "unknown key" + suggestion(str(name), (*CONNECTION_KEYS, *OPTION_KEYS))))
    before = len(problems)
    entry = expand(raw, environment, path, problems)
    if len(problems) > before or strange:
        return None
    for name, fits, what in (
        ("connection", _is_text_map(entry.get("connection") or {}), "an object"),
        ("env", _is_text_map(entry.get("env") or {}), "an object of NAME: value"),
        ("cwd", isinstance(entry.get("cwd") or ".", str), "a path"),
        ("metadata", _is_text_map(entry.get("metadata") or {}), "an object"),
    ):
        if not fits:
            problems.append((f"{path}.{name}", f"must be {what}"))
            return None
    connection = dict(entry.get("connection") or {})
    connection.update({name: entry[name] for name in CONNECTION_KEYS if name in entry})
    if "command" in connection:
        connection["cwd"] = os.path.normpath(base / (connection.get("cwd") or "."))
        if "envFile" in entry:
            connection["env"] = {
                **_env_file(base / str(entry["envFile"]), path, problems),
                **connection.get("env", {}),
            }
        for name, value in dict(connection.get("env") or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                connection["env"][name] = str(value)
    options = {name: entry[name] for name in OPTION_KEYS if name in entry and name not in ("name", "connection")}
    try:
        return make_spec(key, connection, name=entry.get("name"), source="file", **options)
    except ConfigError as error:
        problems += [(f"{path}.{field}" if field else path, text) for field, text in error.problems]
        return None


def _env_file(file: Path, path: str, problems: list[tuple[str, str]]) -> dict[str, str]:
    """Return the variables in a file of ``KEY=VALUE`` lines, the format of VS Code's ``envFile``."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append((f"{path}.envFile", f"cannot read {file}: {error}"))
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
