"""Where the processes of an instance leave their figures for each other: a private directory, a file for each process.

gunicorn's children share one port, so a scrape reaches any of them; it finds the others here, at most a second
old, or ten seconds where nothing is counted. What a process counted before it ended stays: its file is added to
``past`` by whoever looks next, so that counters of the instance never fall. Reading and adding happen under a lock,
writing replaces the file. No Redis is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from shared.metrics.families import Family, Snapshot, decode, encode, of_the_past, together

VARIABLE = "GATEWAY_METRICS_DIR"
"""The environment variable by which the processes of an instance learn of the directory."""
_SUFFIX = ".figures"
_PAST, _LOCK = "past", "lock"


class InstanceDirectory:
    """The directory at ``path``, which this makes if it is missing. Every method may block for some milliseconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, snapshot: Snapshot) -> None:
        """Write the figures of this process."""
        self._replace(f"{snapshot.pid}-{snapshot.id}{_SUFFIX}", encode(snapshot))

    def _replace(self, name: str, content: bytes) -> None:
        new = self._path / f".{name}.{os.getpid()}"
        new.write_bytes(content)
        new.replace(self._path / name)

    def collect(self) -> list[list[Family]]:
        """Return the families of each process of the instance, and what those that have ended had counted."""
        with self._locked():
            past = self._read(_PAST)
            found, kept = [], [past.families] if past is not None else []
            ended = 0
            for file in sorted(self._path.glob(f"*{_SUFFIX}")):
                snapshot = self._read(file.name)
                if snapshot is not None and _is_running(snapshot.pid):
                    found.append(snapshot.families)
                    continue
                file.unlink(missing_ok=True)
                if snapshot is not None:
                    ended += 1
                    kept.append(of_the_past(snapshot.families))
            if ended:
                kept = [together(kept)]
                self._replace(_PAST, encode(Snapshot("past", "", 0, kept[0])))
        return [*found, *kept]

    def _read(self, name: str) -> Snapshot | None:
        try:
            return decode((self._path / name).read_bytes())
        except OSError:
            return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._path / _LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a zombie counts nothing any more
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return not Path("/proc/self").exists()
