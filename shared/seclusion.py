"""What other programs of the same user can read of this process: as little as Linux allows.

``/proc/PID`` shows the environment and the arguments that a process was started with, and its memory, to every process
of the same user, and so to stdio children. Elsewhere than on Linux nothing is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Collection, Mapping

_PR_SET_DUMPABLE = 4
_ARGUMENTS, _ENVIRONMENT = 45, 47
"""Where ``/proc/self/stat`` has the addresses of both areas, in fields after the name: proc(5), fields 48 and 50."""
_MOST_BYTES = 16 * 1024 * 1024


def seclude(shown: Mapping[str, str], hidden_arguments: Collection[str] = ()) -> None:
    """Hide this process from others of the same user. Called early, while the process has one thread.

    * Of the environment that it was started with only the variables in ``shown`` stay readable. ``os.environ`` and
      ``getenv`` have all of it as before.
    * The texts in ``hidden_arguments`` are overwritten in the arguments that ``ps`` shows.
    * It is not "dumpable" any more (prctl(2)): others of the same user cannot read its memory and descriptors, and it
      leaves no core dump. Root can, and so can children that run as root.
    """
    if sys.platform != "linux":
        return
    try:
        _wipe(shown, hidden_arguments)
    except (OSError, ValueError, IndexError):
        pass  # a /proc that does not say where: what follows still holds
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def keep_descriptors() -> None:
    """Let no program that this process starts inherit a descriptor that this process has inherited, but for the
    standard streams: the file or socket of whoever started the gateway is nobody else's. uvloop closes none of them."""
    for place in ("/proc/self/fd", "/dev/fd"):
        try:
            names = os.listdir(place)
        except OSError:
            continue
        for name in names:
            if name.isdecimal() and int(name) > 2:
                with contextlib.suppress(OSError):  # that of the list itself
                    os.set_inheritable(int(name), False)
        return


def _wipe(shown: Mapping[str, str], hidden_arguments: Collection[str]) -> None:
    stack = _stack()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    for name, value in os.environ.items():
        os.putenv(name, value)  # a copy on the heap, so that nothing refers to the area that is overwritten
    begin, size = _area(fields, _ENVIRONMENT, stack)
    offset = 0
    for entry in ctypes.string_at(begin, size).split(b"\0"):
        if os.fsdecode(entry.partition(b"=")[0]) not in shown:
            ctypes.memset(begin + offset, 0, len(entry))
        offset += len(entry) + 1
    begin, size = _area(fields, _ARGUMENTS, stack)
    words = ctypes.string_at(begin, size)
    for text in filter(None, map(os.fsencode, hidden_arguments)):
        at = words.find(text)
        while at >= 0:
            ctypes.memset(begin + at, ord("*"), len(text))
            at = words.find(text, at + len(text))


def _stack() -> range:
    """Return the addresses of the initial stack. Raises ``ValueError`` if they are not known."""
    with open("/proc/self/maps", "rb") as file:
        for line in file:
            if line.rstrip().endswith(b"[stack]"):
                first, _, last = line.split()[0].partition(b"-")
                return range(int(first, 16), int(last, 16))
    raise ValueError("no stack")


def _area(fields: list[bytes], index: int, stack: range) -> tuple[int, int]:
    """Return address and size of the area whose bounds are at ``index``. Raises ``ValueError`` unless it lies on the
    stack, where the kernel puts it."""
    first, last = int(fields[index]), int(fields[index + 1])
    if not first < last <= first + _MOST_BYTES or first not in stack or last - 1 not in stack:
        raise ValueError("no such area")
    return first, last - first
