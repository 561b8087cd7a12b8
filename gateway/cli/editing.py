"""Writing one entry into a file of another program, of which nothing else may change or be lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from shared.config.documents import decode
from shared.errors import ConfigError


def with_entry(text: str, file: Path, root: str, name: str, entry: dict[str, Any], replace: bool) -> str:
    """Return a file's text with an entry called ``name`` under the key ``root``; the same text if it is there already.

    Raises ``ConfigError`` if the file cannot be read, has another entry of this name (unless ``replace``), or has
    comments, which writing it anew would lose.
    """
    document = decode(text.encode(), file)
    if not isinstance(document, dict):
        raise ConfigError(f"{file} is no file of settings: it has no object at its root")
    entries = document.get(root)
    if entries is not None and not isinstance(entries, dict):
        raise ConfigError(f"{file}: {root} must be an object of id: connection")
    there = (entries or {}).get(name)
    if there == entry:
        return text
    if there is not None and not (replace and file.suffix == ".json"):
        raise ConfigError(
            f"{file} has another server {name!r}: "
            + ("replace it with --replace" if file.suffix == ".json" else "take it out first")
            + ", or choose another name with --name"
        )
    if file.suffix == ".toml":
        return _behind(text, "\n".join(_toml(root, name, entry)))
    return _json(text, file, root, name, entry)


def document_of_its_own(name: str, entry: dict[str, Any]) -> str:
    """Return a file of Continue that has one server."""
    content = {"name": name, "version": "0.0.1", "schema": "v1", "mcpServers": [{"name": name, **entry}]}
    return yaml.safe_dump(content, sort_keys=False)


def write(file: Path, text: str) -> Path | None:
    """Write a file as a whole or not at all. Return where what was there before is kept, ``None`` if it was not there.

    A link stays a link. Raises ``ConfigError``.
    """
    target = file.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = _keep(target) if target.exists() else None
        mode = target.stat().st_mode & 0o777 if kept else 0o600
        descriptor, made = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                opened.write(text)
            os.chmod(made, mode)
            os.replace(made, target)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(made)
            raise
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}") from error
    return kept


def _keep(file: Path) -> Path:
    """Copy a file to a name that is free, which only the user can read: it may have secrets."""
    for number in range(1, 1000):
        kept = file.with_name(f"{file.name}.bak{'' if number == 1 else f'-{number}'}")
        try:
            descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(file.read_bytes())
        return kept
    raise ConfigError(f"there are a thousand copies of {file} beside it: remove some")


def _json(text: str, file: Path, root: str, name: str, entry: dict[str, Any]) -> str:
    try:
        document = json.loads(text.removeprefix("\ufeff")) if text.strip() else {}
    except ValueError:  # it could be read, so it has comments or trailing commas
        lines = json.dumps({name: entry}, indent=2, ensure_ascii=False)[1:-1].strip("\n")
        raise ConfigError(
            f"{file} has comments, which are not lost if you write this into its {root!r} yourself:\n{lines}"
        ) from None
    document[root] = {**document.get(root, {}), name: entry}
    indent = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    step: int | str = indent[1] if indent else 2
    return json.dumps(document, indent=step, ensure_ascii=False) + "\n"


def _toml(root: str, name: str, entry: dict[str, Any]) -> list[str]:
    """Return a table of strings. A string of JSON is one of TOML."""
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
    return [f"[{root}.{key}]", *(f"{member} = {json.dumps(value)}" for member, value in entry.items())]


def _behind(text: str, lines: str) -> str:
    before = text.rstrip("\n")
    return f"{before}\n\n{lines}\n" if before else f"{lines}\n"
