"""The content of files that are named with ``${file:PATH}``, or ``{file:PATH}`` (opencode): tokens beside the
configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_MARK = "file:"
_MAX_BYTES = 64 * 1024
"""The longest file that is read: tokens and certificates are shorter."""


class FileContents(Mapping[str, str]):
    """The variables ``file:PATH``. Their values are the files' texts without space around them.

    Paths start at ``base``; ``~`` is the home folder. A file that cannot be read is a variable that is not set.
    """

    def __init__(self, base: Path, environment: Mapping[str, str]) -> None:
        self.named: set[Path] = set()
        """The files that references name, whether they can be read or not."""
        self._base = base
        self._home = environment.get("HOME") or os.path.expanduser("~")

    def __getitem__(self, name: str) -> str:
        if not name.startswith(_MARK):
            raise KeyError(name)
        path = name.removeprefix(_MARK)
        if path.startswith("~/"):
            path = self._home + path[1:]
        self.named.add(Path(os.path.normpath(self._base / path)))
        try:
            with (self._base / path).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise KeyError(name)
            return content.decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        return iter(())  # nobody can list them

    def __len__(self) -> int:
        return 0
