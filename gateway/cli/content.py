"""What tools, resources and prompts answer, for people: text as it is, everything else saved or described."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import re
import sys
from pathlib import Path
from typing import Any

import click

from gateway.cli.failures import CommandFailed
from shared.logs import escaped
from shared.mcp.text import TURNS_TEXT

_EXTENSIONS = {"audio/wav": ".wav", "audio/x-wav": ".wav", "image/webp": ".webp"}
_CONTROL = re.compile(rf"[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f-\x9f{''.join(sorted(TURNS_TEXT))}]")


def printable(text: Any) -> str:
    """Return a server's words without what would steer a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def for_terminal(text: str) -> str:
    """Return a server's words as they are for a program that reads them, and ``printable`` for a terminal."""
    return printable(text) if sys.stdout.isatty() else text


class Shown:
    """Prints items of content. ``save`` is the folder for what is no text, or ``None``; ``name`` begins file names."""

    def __init__(self, name: str, save: Path | None) -> None:
        self._name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "content"
        self._save = save

    def item(self, item: Any) -> None:
        """Print one item of a tool's ``content`` or of a prompt's messages."""
        match item:
            case {"type": "text", "text": str(text)}:
                click.echo(for_terminal(text))
            case {"type": "image" | "audio" as kind, "data": str(data)}:
                self._bytes(kind, data, item.get("mimeType"))
            case {"type": "resource", "resource": dict(inner)}:
                self.resource(inner)
            case {"type": "resource_link", "uri": uri}:
                about = item.get("description") or item.get("title") or item.get("name") or ""
                click.echo(escaped(f"{uri}{f'  ({about})' if about else ''}"))
            case _:
                click.echo(for_terminal(json.dumps(item, ensure_ascii=False)))

    def resource(self, contents: dict[str, Any]) -> None:
        """Print the contents of one resource."""
        match contents:
            case {"text": str(text)}:
                click.echo(for_terminal(text))
            case {"blob": str(data)}:
                self._bytes(f"{contents.get('uri') or 'resource'}:", data, contents.get("mimeType"))
            case _:
                click.echo(for_terminal(json.dumps(contents, ensure_ascii=False)))

    def _bytes(self, what: str, data: str, mime: Any) -> None:
        kind = mime if isinstance(mime, str) else "application/octet-stream"
        try:
            raw = base64.b64decode(data)
        except (binascii.Error, ValueError):
            click.echo(f"{escaped(what)} {escaped(kind)}, which is no base64")
            return
        if self._save is None:
            click.echo(f"{escaped(what)} {escaped(kind)}, {len(raw):,} bytes; --save DIR writes it to a file")
            return
        click.echo(escaped(str(self._write(raw, _EXTENSIONS.get(kind) or mimetypes.guess_extension(kind) or ".bin"))))

    def _write(self, raw: bytes, extension: str) -> Path:
        """Write a new file, and return its path. Raises ``CommandFailed``."""
        assert self._save is not None
        try:
            self._save.mkdir(parents=True, exist_ok=True)
            for number in range(1, 100_000):
                path = self._save / f"{self._name}-{number}{extension}"
                try:
                    with path.open("xb") as file:
                        file.write(raw)
                except FileExistsError:
                    continue
                return path
        except OSError as error:
            raise CommandFailed(f"--save: cannot write to {self._save}: {error.strerror or error}") from error
        raise CommandFailed(f"--save: {self._save} is full of files named {self._name}-…")
