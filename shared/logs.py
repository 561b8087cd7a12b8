"""How a process of the fleet logs: one line for each event on stderr, with time, level, process and logger.

What comes from outside (names, errors of upstreams, what clients send) stands in log messages as it came, so the
formatters escape it: no line break, no control character and nothing that turns text reaches a terminal. Lines are for
people (``console``), or one JSON object each (``json``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

from shared.choices import LOG_LEVELS
from shared.mcp.text import TURNS_TEXT

LOG_LEVEL = "log-level"
"""The kind under which a changed level is announced to all processes."""
FIELDS = "fields"
"""The attribute of a log record with more fields: in JSON as members, on the console as ``name=value``."""
_CLEAR = re.compile(r'[^\s"=]+').fullmatch
AT_ONCE = 200
"""So many access lines at most are written at once: no more than a pipe holds (64 KiB), or the process would wait."""
_LATEST_S = 0.05
_MOST_KEPT = 4096
_CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
_ESCAPES = {ord(one): one.encode("unicode_escape").decode() for one in (*_CONTROLS, *TURNS_TEXT)}
_ESCAPES |= {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}
_IN_TRACEBACKS = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\n\t"}


def escaped(text: str) -> str:
    """Return ``text`` on one line, without control characters and what turns the direction of text."""
    return text if text.isprintable() and text.isascii() else text.translate(_ESCAPES)


class ConsoleFormatter(logging.Formatter):
    """Lines for people. ``process`` names the process in each line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it the traceback of a flaw of ours."""
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields: dict[str, Any] = getattr(record, FIELDS, {})
        more = "".join(f" {name}={_plain(value)}" for name, value in fields.items())
        line = f"{at} {record.levelname:<7} {self._process} {record.name}: {escaped(record.getMessage() + more)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info).translate(_IN_TRACEBACKS)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``process``, ``pid``, ``logger``, ``message`` and what else is
    known."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": os.getpid(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _json(line)


def _json(value: Any) -> str:
    """Return the JSON in printable ASCII alone; everything else is escaped."""
    return json.dumps(value, default=str).replace("\x7f", "\\u007f")


def _plain(value: Any) -> str:
    """Return a value of ``name=value``: quoted where it would be unclear where it ends."""
    text = value if type(value) is str else f"{value:g}" if isinstance(value, float) else str(value)
    return text if _CLEAR(text) else json.dumps(text, ensure_ascii=False)


class Lines:
    """Writes access lines: faster than ``logging``, and those of a moment together, because making one beside others
    costs less than between two calls, and whoever reads them (``gateway.supervisor.lifecycle`` copies them) pays for
    each write.

    ``waiting`` takes lines: a tuple of the Unix time, the ``traceparent`` whose trace id is the request's, the seconds,
    and a tuple with the values of ``names``. Whoever adds the first one, or the one that makes it ``AT_ONCE``, calls
    ``grew``. Values mostly were in an earlier line as well: what they look like is kept, as far as ``_MOST_KEPT``.
    Lines are written whatever the level, by the process and in the form that ``configure`` was told.
    """

    def __init__(self, logger: str, *names: str) -> None:
        self.waiting: list[tuple[float, str, float, tuple[Any, ...]]] = []
        self._logger = logger
        self._names = names
        self._second = 0
        self._start = self._middle = ""
        self._rest: dict[tuple[Any, ...], str] = {}
        self._loop = asyncio.get_running_loop()

    def grew(self) -> None:
        """Have what waits written: within ``_LATEST_S``, or at once if it is as much as is written together."""
        if len(self.waiting) >= AT_ONCE:
            self.flush()
        else:
            self._loop.call_later(_LATEST_S, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        if not self.waiting:
            return
        text = "\n".join([self._line(*line) for line in self.waiting] + [""])
        self.waiting.clear()
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # whoever read it is gone; calls go on

    def _line(self, at: float, trace: str, seconds: float, values: tuple[Any, ...]) -> str:
        second = int(at)
        if second != self._second:
            self._begin(second)
        try:
            rest = self._rest[values]
        except KeyError:
            rest = self._shown(values)
        if self._middle:
            ms = int((at - second) * 1000)
            return f'{self._start}{ms:03}{self._middle}{trace[3:35]}","ms":{seconds * 1000:.1f}{rest}'
        return f"{self._start}{trace[3:35]} ms={seconds * 1000:.1f}{rest}"

    def _shown(self, values: tuple[Any, ...]) -> str:
        """Return the end of a line, and keep it for the next one with these values."""
        fields = dict(zip(self._names, values, strict=True))
        if _told.form == "json":
            shown = "," + _json(fields)[1:]
        else:
            shown = escaped("".join([f" {name}={_plain(value)}" for name, value in fields.items()]))
        if len(self._rest) >= _MOST_KEPT:
            self._rest.clear()
        self._rest[values] = shown
        return shown

    def _begin(self, second: int) -> None:
        """Make what all lines of one second begin with."""
        self._second = second
        if _told.form == "json":
            at = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            known = {"level": "info", "process": _told.process, "pid": _told.pid, "logger": self._logger}
            self._start, self._middle = f'{{"time":"{at}.', f'+00:00",{json.dumps(known)[1:-1]},"request":"'
        else:
            at = time.strftime("%H:%M:%S", time.localtime(second))
            self._start, self._middle = f"{at} INFO    {_told.process} {self._logger}: request=", ""


class _Told:
    """What ``configure`` was told."""

    process = ""
    form = "console"
    pid = 0


_told = _Told()


def configure(process: str, level: str, form: str = "console") -> None:
    """Send this process's logs to stderr. ``process`` names the process in each line, ``form`` is ``console`` or
    ``json``."""
    _told.process, _told.form, _told.pid = process, form, os.getpid()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if form == "json" else ConsoleFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Log what is at least as severe as ``level`` from now on. An unknown level changes nothing."""
    if level.lower() not in LOG_LEVELS:
        return
    root = logging.getLogger()
    root.setLevel(level.upper())
    # watchfiles logs each change that it sees. A log file in the configuration's folder changes with each such line.
    logging.getLogger("watchfiles").setLevel(max(root.level, logging.WARNING))


def level() -> Any:
    """Return the level at which this process logs, one of ``LOG_LEVELS``."""
    name = logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()
    return name if name in LOG_LEVELS else "info"
