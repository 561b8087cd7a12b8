"""Descriptions of servers as the MCP registry has them (``server.json``), as connections. Pure.

Source: the ``server.json`` format of modelcontextprotocol/registry, in the spellings of 2025-07 (``registry_type``) and
since (``registryType``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from shared.errors import ConfigError

Values = Mapping[str, Sequence[str]]
"""What the user gave, by name of the variable, header or argument; several for one that may be repeated."""
_RUNNERS = {"npm": ("npx", "-y"), "pypi": ("uvx",), "oci": ("docker", "run", "-i", "--rm"), "nuget": ("dnx", "--yes")}
_CONCERNS = re.compile(r"\{([A-Za-z0-9_.-]+)\}")


class Described(Struct, frozen=True):
    """A server: its name in the registry, how to connect to it, and what is to be told of it."""

    name: str
    connection: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]


def describe(document: Any, values: Values, package: str = "") -> Described:
    """Return the server in a document, with what the user gave.

    A value is what the document says, else what the user gave, else the default. Nothing is taken from the
    environment unasked: a stranger's description could name any variable, and send it anywhere. ``package``
    (``npm``, ``pypi``, …) chooses a package; without it a remote address is preferred. Raises
    ``ConfigError``, which names everything that is missing.
    """
    found = _camel(document)
    found = found.get("server", found) if isinstance(found, dict) else {}
    name = found.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError("this is no description of a server: it has no 'name'")
    given = _Given(values)
    remotes, packages = _objects(found, "remotes"), _objects(found, "packages")
    known = [one for one in packages if one.get("registryType") in _RUNNERS]
    chosen = [one for one in known if one["registryType"] == package]
    if package and not chosen:
        there = ", ".join(sorted({str(one.get("registryType")) for one in packages})) or "none"
        raise ConfigError(f"{name} has no package of type {package!r} that can be run here; it has: {there}")
    if not package and remotes:
        connection = given.remote(remotes[0])
    elif chosen or known:
        connection = given.command((chosen or known)[0])
    else:
        kinds = ", ".join(str(one.get("registryType")) for one in packages)
        raise ConfigError(
            f"{name} can not be run here: {f'its packages are {kinds}' if kinds else 'it has no package'}"
        )
    if given.missing:
        raise ConfigError(
            [
                ("", f"{one}; give it with --value {key}=…, or with --value {key} if your environment has it")
                for key, one in given.missing.items()
            ]
        )
    unused = [key for key in values if key not in given.used]
    if unused:
        raise ConfigError(f"{name} takes no value {unused[0]!r}; it takes: {', '.join(sorted(given.asked)) or 'none'}")
    status = found.get("status", "active")
    return Described(name, connection, () if status == "active" else (f"{name} is {status}",))


class _Given:
    """What was given, what of it was used, and what is missing."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self.asked: set[str] = set()
        self.used: set[str] = set()
        self.missing: dict[str, str] = {}

    def remote(self, remote: dict[str, Any]) -> dict[str, Any]:
        """Return the connection to an address."""
        url = self._filled(str(remote.get("url", "")), remote.get("variables"))
        headers = {
            str(one.get("name")): value
            for one in _objects(remote, "headers")
            for value in self._of(one, one.get("name"))
        }
        kind = remote.get("type") or remote.get("transportType")
        return {"type": "sse" if kind == "sse" else "http", "url": url, "headers": headers}

    def command(self, package: dict[str, Any]) -> dict[str, Any]:
        """Return the command that runs a package."""
        kind, identifier = package["registryType"], str(package.get("identifier", ""))
        transport = package.get("transport")
        if isinstance(transport, dict) and transport.get("type", "stdio") != "stdio":
            raise ConfigError(
                f"{identifier} is a server of its own ({transport['type']}): start it, and add its address with "
                "'gateway servers add ID URL'"
            )
        if not identifier or identifier.startswith("-"):
            raise ConfigError(f"{identifier!r} is no name of a package")
        version = str(package.get("version") or "")
        separator = {"oci": ":", "pypi": "=="}.get(kind, "@")
        exact = (
            f"{identifier}{separator}{version}" if version and not (kind == "oci" and "@" in identifier) else identifier
        )
        if kind == "oci" and ":" in identifier.rpartition("/")[2]:
            exact = identifier
        variables = {
            str(one.get("name")): value
            for one in _objects(package, "environmentVariables")
            for value in self._of(one, one.get("name"))
        }
        passed = [word for name in variables for word in ("-e", name)] if kind == "oci" else []
        runner, *options = _RUNNERS[kind]
        words = [*options, *passed, *self._arguments(package, "runtimeArguments"), exact]
        arguments = self._arguments(package, "packageArguments")
        words += ["--", *arguments] if kind == "nuget" and arguments else arguments
        return {"type": "stdio", "command": runner, "args": words, "env": variables}

    def _arguments(self, package: dict[str, Any], key: str) -> list[str]:
        return [word for one in _objects(package, key) for word in self._words(one)]

    def _words(self, one: dict[str, Any]) -> Iterator[str]:
        named = one.get("type") == "named"
        label = str(one.get("name") if named else one.get("valueHint") or one.get("value") or "")
        values = self._of(one, label.lstrip("-") if named else label)
        if not named:
            yield from values
            return
        for value in values:
            if not value:  # a switch
                yield label
            else:
                yield from (f"{label}={value}",) if label.startswith("--") else (label, value)

    def _of(self, one: dict[str, Any], name: Any) -> list[str]:
        """Return the values of an input: one, several if it may be repeated, or none."""
        if isinstance(one.get("value"), str):
            return [self._filled(one["value"], one.get("variables"))]
        found = self._input(str(name), one)
        return found if one.get("isRepeated") else found[-1:]

    def _filled(self, text: str, variables: Any) -> str:
        known = variables if isinstance(variables, dict) else {}

        def value(match: re.Match[str]) -> str:
            one = known.get(match[1])
            if not isinstance(one, dict):
                return match[0]
            if isinstance(one.get("value"), str):
                return str(one["value"])
            return (self._input(match[1], one) or [""])[-1]

        return _CONCERNS.sub(value, text)

    def _input(self, name: str, one: dict[str, Any]) -> list[str]:
        self.asked.add(name)
        found = list(self._values.get(name, ()))
        if found:
            self.used.add(name)
        elif isinstance(one.get("default"), str):
            found = [one["default"]]
        elif one.get("isRequired"):
            about = " ".join(str(one.get("description") or "").split())[:200]
            self.missing[name] = f"{name} is needed{f' ({about})' if about else ''}"
        choices = one.get("choices")
        if isinstance(choices, list) and choices:
            for value in found:
                if value not in choices:
                    raise ConfigError(f"{name} can not be {value!r}; it is one of {', '.join(map(str, choices))}")
        return found


def _objects(found: dict[str, Any], key: str) -> list[dict[str, Any]]:
    listed = found.get(key)
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _camel(value: Any) -> Any:
    """Return the same with member names in one spelling. Names of variables are not members' names."""
    if isinstance(value, list):
        return [_camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), key): (
            {name: _camel(one) for name, one in inner.items()}
            if key == "variables" and isinstance(inner, dict)
            else _camel(inner)
        )
        for key, inner in value.items()
    }
