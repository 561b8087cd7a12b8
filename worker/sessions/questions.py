"""The questions of one session's upstream that have no answer yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from shared.errors import Refused
from shared.mcp import jsonrpc
from worker.calls.call import Call, OnAnswer


class Withdrawable(Protocol):
    """The call or question through which a client was asked."""

    def withdrawn(self, on_answer: OnAnswer) -> None:
        """Withdraw the question that was asked with ``on_answer``."""


def _unsent(message: bytes) -> None:
    """Takes messages for an upstream whose session has ended."""


def _always() -> bool:
    return True


class Questions:
    """The open questions of one session. ``send`` takes a message for the upstream. Nothing is sent once ``is_closed``
    returns true."""

    def __init__(self, send: Callable[[bytes], None], is_closed: Callable[[], bool]) -> None:
        self._send = send
        self._is_closed = is_closed
        self._open: dict[bytes, tuple[Withdrawable, OnAnswer]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def on_answer(self, id: bytes) -> OnAnswer:
        """Return the function that takes the answer to the upstream's request ``id``."""
        return partial(self._answer, id)

    def _answer(self, id: bytes, is_error: bool, raw: bytes) -> None:
        self._open.pop(id, None)
        if not self._is_closed():
            self._send(jsonrpc.error_response(id, raw) if is_error else jsonrpc.response(id, raw))

    def add(self, id: bytes, asker: Withdrawable, on_answer: OnAnswer) -> None:
        """Note through which ``asker`` the upstream's request ``id`` was put to a client."""
        self._open[id] = (asker, on_answer)

    def withdraw(self, params: bytes) -> None:
        """Withdraw a question, because the upstream cancelled its own request (2025-11-25,
        basic/utilities/cancellation)."""
        try:
            id = bytes(jsonrpc.members(params).get("requestId", jsonrpc.ABSENT))
        except Refused:
            return
        question = self._open.pop(id, None)
        if question is not None:
            asker, on_answer = question
            asker.withdrawn(on_answer)

    def end(self) -> None:
        """Withdraw all questions, because the session has ended. It is not referred to from here any more: in a circle
        it would stay in memory until the garbage collector looks."""
        self.withdraw_all()
        self._send, self._is_closed = _unsent, _always

    def withdraw_all(self) -> None:
        """Withdraw all questions, because the session takes no answers to them any more."""
        questions, self._open = self._open, {}
        for asker, on_answer in questions.values():
            asker.withdrawn(on_answer)

    def hand_over(self, call: Call, heir: Call) -> None:
        """Make ``heir`` the asker of each question that was put through ``call``."""
        for id, (asker, on_answer) in self._open.items():
            if asker is call:
                self._open[id] = heir, on_answer
