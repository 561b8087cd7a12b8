"""``gateway status --watch`` on a terminal: one screen, however small, and keys to look closer.

``picture`` makes the lines of a screen from what the admin API said, without any I/O. ``watch`` asks, draws, and reads
keys.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from gateway.cli import show
from gateway.cli.failures import CommandFailed
from shared.logs import escaped

_EVERY_S = 2.0
_EVENTS = 4
_HELP = "↑ ↓ choose   enter look closer   f only what fails   q end"
_BACK = "esc back   ↑ ↓ the next one   q end"
_KEYS = {
    **dict.fromkeys(("\x1b[A", "\x1bOA", "k"), "up"),
    **dict.fromkeys(("\x1b[B", "\x1bOB", "j"), "down"),
    **dict.fromkeys(("\r", "\n"), "open"),
    **dict.fromkeys(("\x1b", "\x7f"), "back"),
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "f": "failing",
    "q": "end",
}
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|.", re.DOTALL)
_RANK = {"error": 0, "stopped": 1, "connecting": 2, "registered": 3}
"""What is wrong stands above what is well."""


class Looked(msgspec.Struct):
    """What the admin API said at one moment. ``at`` is monotonic time."""

    at: float
    overview: dict[str, Any]
    servers: list[dict[str, Any]]
    traffic: dict[str, Any]
    events: list[dict[str, Any]]


class Place(msgspec.Struct):
    """Where the person is: the upstream that is chosen, whether it is looked at more closely, and what is left out."""

    chosen: str = ""
    closer: bool = False
    failing: bool = False


def upstreams(looked: Looked, failing: bool) -> list[dict[str, Any]]:
    """Return the upstreams in the order in which they are shown, or only those that do not take calls."""
    found = [one for one in looked.servers if not failing or one["status"] != "connected" or one["duty"] != "active"]
    return sorted(found, key=lambda one: _RANK.get(one["status"], 4))


def moved(place: Place, ids: Sequence[str], key: str, page: int) -> None:
    """Move the choice among ``ids`` as a key says; ``page`` is how many of them fit on the screen."""
    step = {"up": -1, "down": 1, "page up": -page, "page down": page}.get(key, 0)
    at = ids.index(place.chosen) if place.chosen in ids else 0 if step <= 0 else -1
    if ids:
        place.chosen = ids[min(max(at + step, 0), len(ids) - 1)]


def picture(now: Looked, before: Looked | None, place: Place, closer: Mapping[str, Any], height: int) -> list[Text]:
    """Return the lines of a screen of ``height`` lines. ``closer`` is what is known of the chosen upstream if the
    person looks at it more closely."""
    head = _head(now, before)
    if place.closer:
        body = _closer(place.chosen, closer)[: height - len(head) - 2]
        return [*head, *body, *_foot(_BACK, height - len(head) - len(body))]
    events = [_event(one) for one in now.events[-_EVENTS:]]
    room = max(height - len(head) - len(events) - 4, 1)
    rows = _rows(now, before, place, room)
    lines = [*head, *rows, Text(), *events]
    return [*lines, *_foot(_HELP, height - len(lines))]


def _foot(keys: str, room: int) -> list[Text]:
    return [*(Text() for _ in range(room - 1)), Text(keys, style="dim")]


def _head(now: Looked, before: Looked | None) -> list[Text]:
    overview, old = now.overview, before.overview if before is not None else None
    ends, past = overview["frontends"], {one["id"]: one for one in (old["frontends"] if old else ())}
    seconds = max(now.at - before.at, 0.001) if before is not None else 0.0

    def grown(count: Callable[[Mapping[str, Any]], float]) -> float:
        return sum(max(count(one) - (count(past[one["id"]]) if one["id"] in past else 0), 0) for one in ends)

    calls = grown(lambda one: one["calls"])
    errors = grown(lambda one: one["errors"] + sum(one["failures"].values()))
    buckets = [
        round(grown(partial(_bucket, at))) for at in range(min((len(one["buckets"]) for one in ends), default=0))
    ]
    if overview["redis"]:
        processes = f"{show.counted(len(ends), 'front end')}   {show.counted(len(overview['workers']), 'worker')}"
        title = f"{overview['name']}   {processes}   Redis answers"
    else:
        title = f"{overview['name']}   Redis does not answer: this front end alone is known"
    half, most = show.within(buckets, 0.5), show.within(buckets, 0.99)
    figures = [
        f"{calls / seconds:.1f} calls/s   {errors / seconds:.1f} errors/s" if seconds else "…",
        f"half {half}   99 % {most}" if half else "",
        f"{sum(one['inFlight'] for one in ends)} in flight",
        f"{sum(one.get('waiting', 0) for one in now.traffic['upstreams'])} waiting",
    ]
    style = "bold" if overview["redis"] else "bold red"
    return [Text(escaped(title), style=style), Text("   ".join(one for one in figures if one)), Text()]


def _bucket(at: int, one: Mapping[str, Any]) -> int:
    return int(one["buckets"][at])


def _rows(now: Looked, before: Looked | None, place: Place, room: int) -> list[Text]:
    found = upstreams(now, place.failing)
    ids = [one["id"] for one in found]
    if place.chosen not in ids:
        moved(place, ids, "", room)
    at = ids.index(place.chosen) if ids else 0
    first = min(max(at - room // 2, 0), max(len(found) - room, 0))
    rates = dict(_rates(now, before))
    lines = [Text(f"  {'UPSTREAM':<24} {'STATUS':<10} {'SINCE':>5} {'CALLS/S':>8} {'ERRORS':>6}  WHY", style="bold")]
    for one in found[first : first + room]:
        status = one["status"] if one["duty"] == "active" else one["duty"]
        calls, errors = rates.get(one["id"], (0.0, 0))
        mark = ">" if one["id"] == place.chosen else " "
        line = Text(f"{mark} {escaped(one['id'])[:24]:<24} ")
        line.append(f"{status:<10}", style=show.COLOURS.get(status, ""))
        line.append(f" {show.ago(one['statusSince']):>5} {calls:>8.1f} {errors:>6}  {escaped(one['error'] or '')}")
        line.stylize("reverse" if mark == ">" else "")
        lines.append(line)
    if not found:
        lines.append(Text("  every upstream takes calls" if place.failing else "  no upstream is registered"))
    shown = f"{first + 1} to {min(first + room, len(found))} of {len(found)}" if len(found) > room else ""
    return [*lines, Text(f"  {shown}", style="dim")]


def _rates(now: Looked, before: Looked | None) -> Iterator[tuple[str, tuple[float, int]]]:
    """Yield the answers a second of each upstream since ``before``, and how many calls failed there since then."""
    past = {one["upstream"]: one for one in (before.traffic["upstreams"] if before is not None else ())}
    seconds = max(now.at - before.at, 0.001) if before is not None else 0.0
    for one in now.traffic["upstreams"]:
        old = past.get(one["upstream"])
        if old is not None and seconds:
            calls, errors = (max(one[what] - old[what], 0) for what in ("calls", "errors"))
            yield one["upstream"], (calls / seconds, errors)


def _event(one: Mapping[str, Any]) -> Text:
    return Text(escaped(f"{show.ago(one['at']):>5} ago  {one['kind']}  {one['id']}  {one['text']}".rstrip()), "dim")


def _closer(id: str, closer: Mapping[str, Any]) -> list[Text]:
    """Return what is known of one upstream, the most telling first."""
    if not closer:
        return [Text(escaped(id), style="bold"), Text("…")]
    one, probe = closer["server"], closer["server"].get("lastHealthCheck") or {}
    lines = [Text(escaped(f"{id}   group {one['name']}   {one['transport']}   {one['status']} {one['duty']}"), "bold")]
    for word, value in (
        ("why", one["error"]),
        ("what helps", one.get("advice")),
        *(("note", note) for note in one.get("notes", ())),
        ("last probe", _probe(probe)),
        ("tools", str(len(one["tools"]))),
        ("workers", ", ".join(one["owners"])),
    ):
        if value:
            lines.append(Text(escaped(f"{word:<11} {value}")))
    for title, texts in (("calls that failed", closer["errors"]), ("its error output", closer["logs"])):
        if texts:
            lines += [Text(), Text(title, style="bold"), *(Text(escaped(text)) for text in texts)]
    return lines


def _probe(probe: Mapping[str, Any]) -> str:
    if not probe:
        return ""
    took = f" in {probe['latencyMs']:.0f} ms" if probe.get("latencyMs") is not None else ""
    said = f"answered{took}" if probe["healthy"] else f"failed: {probe['error']}"
    return f"{said}, {show.ago(probe['checkedAt'])} ago"


def keys(typed: str) -> list[str]:
    """Return what the keys mean that were typed, several perhaps since somebody looked last; nothing typed is the end
    of the input."""
    return [_KEYS.get(one, "") for one in _KEY.findall(typed)] or ["end"]


@contextlib.contextmanager
def _raw_keys() -> Iterator[Callable[[float], str]]:
    """Give what waits so many seconds for a key, and returns what it means or nothing. Ctrl-C stays a signal."""
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    typed: deque[str] = deque()

    def key(wait_s: float) -> str:
        if not typed:
            if not select.select([number], [], [], max(wait_s, 0))[0]:
                return ""
            typed.extend(keys(os.read(number, 1024).decode(errors="replace")))
        return typed.popleft()

    tty.setcbreak(number)
    try:
        yield key
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def watch(ask: Callable[[], Looked], closer: Callable[[str], Mapping[str, Any]]) -> None:
    """Show the gateway until somebody ends it. ``ask`` looks at it, ``closer`` at one upstream; both raise
    ``CommandFailed``, which is shown until the gateway answers again."""
    console = Console(highlight=False)
    place, now, before = Place(), ask(), None
    details: Mapping[str, Any] = {}
    trouble = ""
    with _raw_keys() as key, Live(console=console, screen=True, auto_refresh=False) as live:
        due = time.monotonic() + _EVERY_S
        while True:
            lines = picture(now, before, place, details, console.height - bool(trouble))
            shown = [Text(escaped(trouble), style="red")] if trouble else []
            live.update(_cut([*shown, *lines]), refresh=True)
            pressed = key(due - time.monotonic())
            if pressed == "end":
                return
            if pressed == "failing":
                place.failing = not place.failing
            elif pressed in ("open", "back"):
                place.closer = pressed == "open" and bool(place.chosen)
            else:
                moved(place, [one["id"] for one in upstreams(now, place.failing)], pressed, console.height - 12)
            try:
                if time.monotonic() >= due:
                    due = time.monotonic() + _EVERY_S
                    now, before = ask(), now
                elif not pressed or not place.closer:
                    continue
                details = closer(place.chosen) if place.closer else {}
                trouble = ""
            except CommandFailed as error:
                trouble = f"error: {error}"


def _cut(lines: Sequence[Text]) -> Text:
    """Return lines as one text. A line that is too long is cut, so that there are as many on the screen."""
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
