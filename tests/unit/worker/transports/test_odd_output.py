"""``worker.transports.odd_output``: messages are found however a child writes them, in whatever pieces it arrives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mcp.rope import Whole
from tests.unit.builders import cut
from worker.transports import odd_output
from worker.transports.lines import LineReader
from worker.transports.odd_output import HeadedReader, OddOutput

ONE = {"jsonrpc": "2.0", "id": 1, "result": {"text": 'a "{[" \\ b', "of": [{}, [], {"x": 1}]}}
TWO = {"jsonrpc": "2.0", "id": 2, "result": {}}
PRETTY, PRETTY_2 = json.dumps(ONE, indent=2).encode(), json.dumps(TWO, indent=1).encode()
PLAIN, PLAIN_2 = json.dumps(ONE).encode(), json.dumps(TWO).encode()


def headed(*bodies: bytes, name: bytes = b"Content-Length", more: bytes = b"") -> bytes:
    return b"".join(b"%s: %d\r\n%s\r\n%s" % (name, len(body), more, body) for body in bodies)


class Child:
    """What ``worker.transports.stdio`` does with output."""

    def __init__(self, limit: int = 2000) -> None:
        self.lines = LineReader(limit)
        self.messages: list[object] = []
        self.failed: list[bytes] = []
        self.noted: list[bytes] = []
        self.odd = OddOutput(self.lines, limit, self.receive, self.unreadable, self.noted.append)

    def receive(self, line: Whole) -> bool:
        try:
            found = json.loads(bytes(line))
        except ValueError:
            return False
        if not isinstance(found, dict) or "jsonrpc" not in found:
            return False
        self.messages.append(found)
        return True

    def unreadable(self, line: Whole) -> bool:
        if b'"id":' in bytes(line):
            self.failed.append(bytes(line))
        return b'"id":' in bytes(line)

    def feed(self, data: bytes) -> None:
        if self.odd.active:
            self.odd.feed(data)
            return
        lines = iter(self.lines.feed(data))
        for line in lines:
            if bytes(line).strip() and not self.receive(line):
                self.odd.unread(line)
                for following in lines:
                    self.odd.take(following)
                self.odd.settle(data)


def read(*chunks: bytes, limit: int = 2000) -> Child:
    child = Child(limit)
    for chunk in chunks:
        child.feed(chunk)
    return child


WAYS = {
    "heads": headed(PLAIN, PLAIN_2),
    "heads in lower case": headed(PLAIN, PLAIN_2, name=b"content-length"),
    "heads with a type": headed(PLAIN, PLAIN_2, more=b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\n"),
    "heads with bare line ends": headed(PLAIN, PLAIN_2).replace(b"\r\n", b"\n"),
    "heads and line ends": headed(PLAIN + b"\n", PLAIN_2 + b"\n"),
    "heads before pretty ones": headed(PRETTY, PRETTY_2),
    "pretty": PRETTY + b"\n" + PRETTY_2 + b"\n",
    "pretty with carriage returns": (PRETTY + b"\n" + PRETTY_2 + b"\n").replace(b"\n", b"\r\n"),
    "pretty without an end": PRETTY + PRETTY_2,
    "pretty, then plain": PRETTY + b"\n" + PLAIN_2 + b"\n",
    "plain, then pretty": PLAIN + b"\n" + PRETTY_2 + b"\n",
    "together on a line": PLAIN + PLAIN_2 + b"\n",
}


@pytest.mark.parametrize("written", WAYS.values(), ids=WAYS)
def test_messages_are_found_however_they_are_written(written: bytes) -> None:
    child = read(written)
    assert child.messages == [ONE, TWO]
    assert (child.noted, child.failed) == ([], [])


@given(st.sampled_from(list(WAYS.values())), st.lists(st.integers(0, 400), max_size=9))
def test_messages_do_not_depend_on_how_bytes_arrive(written: bytes, places: list[int]) -> None:
    assert read(*cut(written, places)).messages == [ONE, TWO]


def test_a_message_is_found_behind_other_text_which_is_noted() -> None:
    child = read(b"Loading 100%" + PLAIN + b" done " + PLAIN_2 + b"\n")
    assert child.messages == [ONE, TWO]
    assert child.noted == [b"Loading 100% done"]


def test_a_line_end_inside_of_a_string_is_understood() -> None:
    child = read(b'{"jsonrpc":"2.0","id":1,"result":{"text":"a\nb"}}\n' + PLAIN_2 + b"\n")
    assert child.messages == [{"jsonrpc": "2.0", "id": 1, "result": {"text": "a\nb"}}, TWO]


@pytest.mark.parametrize(
    "cut_off", [b'{"jsonrpc":"2.0","id":1,"result":{"text":"ab', b'{"jsonrpc":"2.0","id":1,"result":{"a":1']
)
def test_an_answer_that_was_cut_off_fails_its_call_at_once(cut_off: bytes) -> None:
    child = read(cut_off + b"\n")
    assert child.failed == [cut_off]
    child.feed(PLAIN_2 + b"\n")
    assert child.messages == [TWO]


@pytest.mark.parametrize(
    "noise", [b"{ not json", b"[dotenv] x", b"{", b"[", b"{\n  port: 1,\n}", b'{"a":', b"[\n", b"}", b'"']
)
def test_what_is_no_message_hides_none(noise: bytes) -> None:
    child = read(noise + b"\n" + PLAIN + b"\n", b"x\n" + PLAIN_2 + b"\n")
    assert child.messages == [ONE, TWO]
    assert noise.split(b"\n")[0] in child.noted


def test_a_value_or_a_headed_message_over_the_limit_costs_itself() -> None:
    long = {**ONE, "id": 3, "result": ["x" * 50] * 60}
    child = read(json.dumps(long, indent=1).encode() + b"\n", PLAIN_2 + b"\n")
    assert child.messages == [TWO]
    child = read(headed(PLAIN), headed(json.dumps(long).encode(), PLAIN_2))
    assert child.messages == [ONE, TWO]
    assert child.noted


def test_what_was_looked_at_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a child that writes a byte at a time keeps the worker from everything else."""
    looked_at = 0
    add = odd_output.OpenValue.add

    def counted(value: odd_output.OpenValue, line: bytes) -> bytes | None:
        nonlocal looked_at
        looked_at += len(line)
        return add(value, line)

    monkeypatch.setattr(odd_output.OpenValue, "add", counted)
    child = read(b"{\n", b'"a":[[[[' + b'"x",' * 5000, *[b"[]"] * 3000, limit=10**6)
    assert looked_at < 100_000 and child.messages == []
    looked_at = 0
    nested = b"{" * 60 + b'"jsonrpc":"2.0","x":[' + b"1," * 100_000 + b"1]" + b"}" * 60
    read(nested + b"\n", limit=10**6)
    assert looked_at < 4 * len(nested)


def test_a_value_whose_last_line_comes_in_pieces_and_has_no_end_is_found() -> None:
    whole = b'{"jsonrpc":"2.0","id":1,\n"result":{"a":[1,"]}",{"b":"\\\\"}]}}'
    for size in (1, 2, 3, 5):
        assert read(*(whole[at : at + size] for at in range(0, len(whole), size))).messages == [json.loads(whole)]


def test_a_head_without_end_is_bounded() -> None:
    reader = HeadedReader(100)
    for _ in range(50):
        reader.feed(b"x" * 90)
    assert reader.held <= 100
