"""The bytes of a configuration file as a document: JSON (with comments, or JSON5), YAML or TOML.

Objects are ``Members``: dictionaries that remember which of their keys were written twice, so that whoever reads them
can say so of the one entry that it concerns.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Generator, Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from shared.config.lenient_json import loads
from shared.errors import ConfigError, Refused
from shared.mcp.text import without_lone_surrogates

_MOST_VALUES = 200_000
_MOST_LEVELS = 100


class Members(dict[Any, Any]):
    """An object of a file. ``twice`` are the keys that were written more than once."""

    twice: tuple[str, ...] = ()


def repeated(keys: Iterable[Hashable]) -> tuple[str, ...]:
    """Return those of the keys that are there more than once."""
    return tuple(str(key) for key, count in Counter(keys).items() if count > 1)


def _members(pairs: list[tuple[Any, Any]]) -> Members:
    found = Members(pairs)
    if len(found) < len(pairs):
        found.twice = repeated(key for key, _ in pairs)
    return found


class _Loader(yaml.SafeLoader):
    """A ``SafeLoader`` that makes ``Members``."""

    def make_members(self, node: yaml.MappingNode) -> Generator[Members, None, None]:
        found = Members()
        yield found
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        found.update(self.construct_mapping(node))
        found.twice = repeated(key for key in keys if isinstance(key, Hashable))


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.make_members)


def decode(data: bytes, file: Path) -> Any:
    """Return the document in a file's bytes. Its name says the format. Raises ``ConfigError``."""
    document = _decoded(data, file)
    _check_size(document, file)
    return document


def _check_size(document: Any, file: Path) -> None:
    """Raise ``ConfigError`` for a document that nobody wrote by hand. An alias of YAML counts wherever it stands, and
    may lead into itself."""
    left, level = _MOST_VALUES, [document]
    for _ in range(_MOST_LEVELS):
        left -= len(level)
        nested = [one for one in level if isinstance(one, dict | list)]
        if left < 0 or sum(map(len, nested)) > left:
            raise ConfigError(f"{file} has more than {_MOST_VALUES} values, those of YAML's aliases included")
        if not nested:
            return
        level = [inner for one in nested for inner in (one.values() if isinstance(one, dict) else one)]
    raise ConfigError(f"{file} is nested more than {_MOST_LEVELS} deep")


def _decoded(data: bytes, file: Path) -> Any:
    suffix = file.suffix.lower()
    encoding = json.detect_encoding(data)  # UTF-8, -16 or -32, with a mark or without
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file} is not {encoding.upper()} text (line {line}): save it as UTF-8") from error
    try:
        if suffix in (".yaml", ".yml"):
            return yaml.load(text, Loader=_Loader)  # a SafeLoader
        if suffix == ".toml":
            return tomllib.loads(text)
        if not text.strip():
            return {}
        if "\\u" in text:  # halves of characters can be written in JSON, and nowhere else
            text = without_lone_surrogates(text.encode()).decode()
        return loads(text, _members)
    except (ValueError, TypeError, yaml.YAMLError, RecursionError, Refused) as error:
        kind = {".toml": "TOML", ".yaml": "YAML", ".yml": "YAML"}.get(suffix, "JSON")
        raise ConfigError(f"{file} is not valid {kind}: {' '.join(str(error).split())}") from error
