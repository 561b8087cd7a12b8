"""A legacy client's call on a modern upstream that needs input: the client is asked by requests of its own era. Pure.

Events come in (``required``, ``replied``), commands go out; the driver is ``worker.input.broker``. All questions of a
round are asked in parallel. When all are answered, the call is sent again with the answers. If the upstream's result
carries only state, the call is sent again after a moment. A client's error answer becomes ``action: cancel`` for
elicitation and fails the call otherwise, because a modern server can be given a refusal in no other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from worker.bridge.inputs import ELICIT, Need, Required, refusal

MAX_ROUNDS = 10
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 0.25
CANCEL_ACTION = b'{"action":"cancel"}'


class Ask(Struct, frozen=True):
    """Ask the client this question."""

    key: str
    need: Need


class Resend(Struct, frozen=True):
    """Send the call again after ``wait_s``, with these responses and the upstream's state."""

    responses: dict[str, bytes]
    state: bytes
    wait_s: float = 0.0


class Fail(Struct, frozen=True):
    """Fail the call."""

    reason: str


Command = Ask | Resend | Fail


class Asking:
    """The state of one call: rounds so far, and the questions that are open."""

    def __init__(self, capabilities: Mapping[str, Any]) -> None:
        self._capabilities = capabilities
        self._rounds = 0
        self._wait_s = FIRST_WAIT_S
        self._state = b""
        self._open: dict[str, Need] = {}
        self._responses: dict[str, bytes] = {}

    def required(self, required: Required) -> list[Command]:
        """Handle that the upstream answered ``input_required``."""
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            return [Fail(f"the upstream asked for input {MAX_ROUNDS} times in a row")]
        for need in required.needs.values():
            why = refusal(self._capabilities, need.method, need.params)
            if why is not None:
                return [Fail(f"the upstream needs input that cannot be asked for: {why[1]}")]
        self._state = required.state
        if not required.needs:
            if not required.state:
                return [Fail("the upstream asked for input without saying for which")]
            wait_s, self._wait_s = self._wait_s, min(self._wait_s * 2, LONGEST_WAIT_S)
            return [Resend({}, self._state, wait_s)]
        self._open = dict(required.needs)
        self._responses = {}
        return [Ask(key, need) for key, need in required.needs.items()]

    def replied(self, key: str, is_error: bool, raw: bytes) -> list[Command]:
        """Handle the client's answer to one of the questions."""
        need = self._open.pop(key, None)
        if need is None:
            return []
        if is_error and need.method != ELICIT:
            self._open.clear()
            return [Fail(f"the client refused {need.method}: {raw[:200].decode('utf-8', 'replace')}")]
        self._responses[key] = CANCEL_ACTION if is_error else raw
        return [] if self._open else [Resend(self._responses, self._state)]
