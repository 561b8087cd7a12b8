"""Messages in the output of a child that does not write one a line, as the specification wants it.

What real servers write instead: messages behind ``Content-Length`` heads (the framing of language servers), one message
over several lines (JSON made for people, line ends inside of strings), several on one line, one behind other text on
its line. All of this is looked at only after a line that is no message: a child that keeps to the rule pays nothing.
Pure: what is found is told to the functions that ``OddOutput`` is made with.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from shared.mcp.rope import Large, Rope, Whole
from worker.transports.lines import LineReader

_MOST_TAIL = 256 * 1024
"""Bytes of the last line of a value over several lines, which has no line end, at most."""
_HEAD = re.compile(rb"\s*content-(?:length|type)\s*:", re.IGNORECASE)
_LENGTH = re.compile(rb"\s*content-length\s*:\s*(\d{1,12})\s*", re.IGNORECASE)
_TOKEN = re.compile(rb'[\[\]{}]|"(?:[^"\\]|\\.)*("?)', re.DOTALL)
_REST_OF_STRING = re.compile(rb'(?:[^"\\]|\\.)*("?)', re.DOTALL)
_OPENS = re.compile(rb'\s*(?:\{\s*(?:"|$)|\[\s*(?:\{|$))')
_GOES_ON = (b"{", b"[", b",", b":")
"""How a line ends that is not the last one of a JSON value. One that ends otherwise was cut off."""
_TRIES = 64
"""The number of places in one line where a message may begin, that are looked at."""
_FREE = 16 * 1024
"""Beside this a line is looked at twice: not once for each brace that a message could begin with."""
_NOTED_LINES = 20


class HeadedReader:
    """Takes chunks of output that has a head before each message, and returns the messages, and lines without a
    head."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._line = bytearray()
        self._length: int | None = None
        self._missing = 0
        self._body: Rope | None = None  # ``None`` while a message is skipped
        self.overlong = 0

    @property
    def held(self) -> int:
        """How many bytes of an unfinished line are held."""
        return len(self._line)

    def feed(self, data: bytes) -> list[Whole]:
        """Return what ``data`` completes. A message over the limit is skipped and counted."""
        found: list[Whole] = []
        at = 0
        while at < len(data):
            if self._missing:
                piece = data[at : at + self._missing]
                at += len(piece)
                self._missing -= len(piece)
                if self._body is not None:
                    self._body.add(piece)
                    if not self._missing:
                        found.append(self._body.take())
                continue
            stop = data.find(b"\n", at)
            self._line += data[at : stop if stop >= 0 else len(data)]
            del self._line[self._limit :]
            at = stop + 1 if stop >= 0 else len(data)
            if stop >= 0:
                self._end_of_line(found)
        return found

    def _end_of_line(self, found: list[Whole]) -> None:
        line, self._line = bytes(self._line), bytearray()
        length = _LENGTH.fullmatch(line)
        if length is not None:
            self._length = int(length[1])
        elif line.strip():
            if not _HEAD.match(line):
                found.append(line)
        elif self._length is not None:
            self._missing, self._length = self._length, None
            fits = self._missing <= self._limit
            self._body = Rope() if fits else None
            self.overlong += not fits


class OpenValue:
    """The lines of a JSON value of which the end has not arrived."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.size = 0
        self.depth = 0
        self.in_string = False

    def add(self, line: bytes) -> bytes | None:
        """Take the next line. Return what is on it behind the end of the value, or ``None`` if there is no end yet."""
        at = 0
        if self.in_string:
            inside = _REST_OF_STRING.match(line)
            assert inside is not None  # it matches anything
            at, self.in_string = inside.end(), not inside[1]
        for token in _TOKEN.finditer(line, at):
            one = token[0][:1]
            if one == b'"':
                self.in_string = not token[1]
            else:
                self.depth += 1 if one in (b"{", b"[") else -1
                if self.depth <= 0:
                    self._keep(line[: token.end()])
                    return line[token.end() :]
        self._keep(line)
        return None

    def _keep(self, line: bytes) -> None:
        self.lines.append(line)
        self.size += len(line)

    def whole(self) -> bytes:
        """Return the lines as one. A line end inside of a string becomes what JSON has for it."""
        parts, scanned = [], OpenValue()
        for line in self.lines[:-1]:
            scanned.add(line)
            parts += [line.rstrip(b"\r"), b"\\n"] if scanned.in_string else [line, b"\n"]
        return b"".join([*parts, *self.lines[-1:]])


class _Tail:
    """What has arrived of a line of an open value. It may be the end of the value, without a line end behind it.

    What was looked at once is not looked at again, however many chunks it comes in.
    """

    def __init__(self, value: OpenValue) -> None:
        self._probe = OpenValue()
        self._probe.depth, self._probe.in_string = value.depth, value.in_string
        self._seen = 0

    def ends(self, held: bytes) -> bool:
        """Whether the value ends within ``held``, of which the beginning is what was given before."""
        rest = self._probe.add(held[self._seen :])
        self._seen = len(held)
        return rest is not None


class OddOutput:
    """What a child writes from the first line on that is no message.

    ``receive`` handles a message and returns false if it is none. ``unreadable`` fails the call that a broken message
    answers, and returns whether there is one. ``note`` is told of all other lines.
    """

    def __init__(
        self,
        lines: LineReader,
        limit_bytes: int,
        receive: Callable[[Whole], bool],
        unreadable: Callable[[Whole], bool],
        note: Callable[[bytes], None],
    ) -> None:
        self._lines = lines
        self._limit = limit_bytes
        self._receive = receive
        self._unreadable = unreadable
        self._note = note
        self._headed: HeadedReader | None = None
        self._open: OpenValue | None = None
        self._tail: _Tail | None = None
        self.active = False
        """Whether chunks of output are to be given to ``feed``, because a message began that is not on one line."""

    @property
    def headed(self) -> bool:
        """Whether each message has a head, so that output is to be given to ``feed`` as it comes."""
        return self._headed is not None

    def feed(self, data: bytes) -> None:
        """Take a chunk of output. Only while ``active``."""
        if self._headed is not None:
            self._headed_data(data)
            return
        for line in self._lines.feed(data):
            self.take(line)
        self.settle(data)

    def take(self, line: Whole) -> None:
        """Take a line of output."""
        if self._headed is not None:
            self._headed_data(bytes(line) + b"\n")
        elif self._open is not None:
            if self._interrupts(line):
                self._give_up()
            else:
                self._extend(self._open, bytes(line))
        elif (isinstance(line, Large) or line.strip()) and not self._receive(line):
            self.unread(line)

    def unread(self, line: Whole) -> None:
        """Take a line that is no message."""
        if isinstance(line, Large):
            self._refuse(line)
        elif _HEAD.match(line):
            self._headed = HeadedReader(self._limit)
            self.active = True
            self._headed_data(line + b"\n")
        elif not (_OPENS.match(line) and self._begin(line)) and not self._within(line):
            self._refuse(line)

    def settle(self, data: bytes) -> None:
        """Note that no more lines have arrived for now. ``data`` is the chunk in which they were."""
        if self._headed is not None:
            self._headed_data(bytes(self._lines.take_open()))
        elif self._open is not None:
            if data[-1:] in (b"}", b"]") and self._ends_in_tail(self._open):
                self._extend(self._open, bytes(self._lines.take_open()))
            elif self._open.in_string:  # a string goes on in the same write, or it was cut off
                self._give_up()

    def _ends_in_tail(self, value: OpenValue) -> bool:
        if not 0 < self._lines.held_bytes <= _MOST_TAIL:
            return False  # its line end says where it ends
        if self._tail is None:
            self._tail = _Tail(value)
        return self._tail.ends(bytes(self._lines.peek_open()))

    def _headed_data(self, data: bytes) -> None:
        assert self._headed is not None
        skipped = self._headed.overlong
        for one in self._headed.feed(data):
            if not self._receive(one):
                self._refuse(one)
        if self._headed.overlong > skipped:
            self._note(b"(a message larger than maxResultBytes was skipped)")

    def _begin(self, line: bytes) -> bool:
        """Begin a value over several lines. Return false if it ends on this line, or if it was cut off."""
        value = OpenValue()
        if value.add(line) is not None or not (value.in_string or line.rstrip().endswith(_GOES_ON)):
            return False
        self._open = value
        self.active = True
        return True

    def _extend(self, value: OpenValue, line: bytes) -> None:
        self._tail = None
        rest = value.add(line)
        if rest is None:
            if value.size > self._limit:
                self._give_up()
            return
        self._close()
        whole = value.whole()
        if not self._receive(whole) and not self._unreadable(whole):
            self._note_all(value)
        if rest.strip():
            self.take(rest)

    def _interrupts(self, line: Whole) -> bool:
        """Whether a line is a message, though a value is open: then that was none."""
        return line[:1] == b"{" and b'"jsonrpc"' in line[:500] and self._receive(line)

    def _give_up(self) -> None:
        value = self._open
        assert value is not None
        self._close()
        if not self._unreadable(value.whole()):
            self._note_all(value)

    def _close(self) -> None:
        self._open = self._tail = None
        self.active = False

    def _note_all(self, value: OpenValue) -> None:
        for line in value.lines[:_NOTED_LINES]:
            self._note(line)
        if len(value.lines) > _NOTED_LINES:
            self._note(b"(%d more lines)" % (len(value.lines) - _NOTED_LINES))

    def _within(self, line: bytes) -> bool:
        """Find messages on a line that has other text too, or several of them. Return whether there was one."""
        if b'"jsonrpc"' not in line:
            return False
        other, found, at, left = [], False, 0, 2 * len(line) + _FREE
        for _ in range(_TRIES):
            if left < 0:
                break
            begin = line.find(b"{", at)
            value = OpenValue()
            rest = value.add(line[begin:]) if begin >= 0 else None
            if rest is None:
                break
            stop = len(line) - len(rest)
            left -= stop - begin
            if (begin, stop) != (0, len(line)) and self._receive(line[begin:stop]):
                other.append(line[at:begin])
                found, at = True, stop
            else:
                at = begin + 1
        if found:
            rest = b"".join([*other, line[at:]]).strip()
            if rest:
                self._refuse(rest)
        return found

    def _refuse(self, line: Whole) -> None:
        if not self._unreadable(line):
            self._note(line[:500])
