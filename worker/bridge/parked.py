"""A modern client's call on a legacy upstream that asked for input: kept alive between the client's tries. Pure.

Events come in (``asked``, ``withdrawn``, ``gathered``, ``retried``, ``answered``, ``left``, ``expired``), commands go
out; the driver is ``worker.input.broker``. Rules:

* While a try of the client waits, questions are gathered for a moment and answer that try with ``input_required``.
* The next try carries answers: those go to the upstream; what is still missing is asked again at once.
* The upstream's answer goes to the waiting try; with none waiting it is held for the next one.
* A try that its client leaves cancels the call. A call that nobody comes back to is cancelled as well.
* Each round's state counts once: a replayed one is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from worker.bridge.inputs import MAX_REQUESTS, NEEDS, Need


class Gather(Struct, frozen=True):
    """Call ``gathered`` in a moment."""


class Require(Struct, frozen=True):
    """Answer the waiting try: these needs, under this round."""

    needs: dict[str, Need]
    round: int


class Reply(Struct, frozen=True):
    """Answer the upstream's question."""

    question: Any
    is_error: bool
    raw: bytes


class Deliver(Struct, frozen=True):
    """Answer the waiting try with the call's outcome; the call is over."""

    outcome: Any


class Cancel(Struct, frozen=True):
    """Cancel the call at the upstream; it is over."""

    reason: str


class Refuse(Struct, frozen=True):
    """Refuse this try (-32602); nothing else changes."""

    reason: str


Command = Gather | Require | Reply | Deliver | Cancel | Refuse

DECLINED = b'{"code":-32603,"message":"the client did not answer in time, or left"}'
_TOO_MANY = b'{"code":-32603,"message":"too many questions are open"}'


class Phase(enum.Enum):
    """Who has to act."""

    RUNNING = "a try of the client waits, the upstream works"
    PARKED = "the client was asked and has not come back"
    OVER = "delivered or cancelled"


class Parked:
    """See the module. It begins with the client's first try waiting."""

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        self.round = 0
        self._open: dict[str, tuple[Any, Need]] = {}
        self._last = 0
        self._gathering = False
        self._held: Any = None

    @property
    def open(self) -> int:
        """Questions without an answer."""
        return len(self._open)

    def asked(self, question: Any, need: Need) -> list[Command]:
        """The upstream asks something."""
        if self.phase is Phase.OVER or self._held is not None:
            return [Reply(question, True, DECLINED)]
        if len(self._open) >= MAX_REQUESTS:
            return [Reply(question, True, _TOO_MANY)]
        self._last += 1
        self._open[f"{NEEDS.get(need.method, 'input')}-{self._last}"] = (question, need)
        if self.phase is Phase.PARKED or self._gathering:
            return []  # it is part of this round, or of the next
        self._gathering = True
        return [Gather()]

    def withdrawn(self, question: Any) -> list[Command]:
        """The upstream takes a question back: it is not asked any more, and an answer to it goes nowhere."""
        self._open = {key: one for key, one in self._open.items() if one[0] != question}
        return []

    def gathered(self) -> list[Command]:
        """The moment for further questions has passed."""
        self._gathering = False
        if self.phase is not Phase.RUNNING or not self._open:
            return []
        return self._require()

    def _require(self) -> list[Command]:
        self.phase = Phase.PARKED
        self.round += 1
        return [Require({key: need for key, (_, need) in self._open.items()}, self.round)]

    def retried(self, round: int, responses: Mapping[str, bytes]) -> list[Command]:
        """The client comes back with what it was asked for."""
        if self.phase is not Phase.PARKED or round != self.round:
            return [Refuse("this requestState was used already")]
        self.phase = Phase.RUNNING
        commands: list[Command] = []
        for key, raw in responses.items():
            found = self._open.pop(key, None)
            if found is not None:
                commands.append(Reply(found[0], False, raw))
        if self._held is not None:
            return [*commands, *self._decline(), *self._deliver(self._held)]
        if self._open:
            return [*commands, *self._require()]
        return commands

    def answered(self, outcome: Any) -> list[Command]:
        """The upstream's answer, or the call's failure."""
        if self.phase is Phase.RUNNING:
            return [*self._decline(), *self._deliver(outcome)]
        if self.phase is Phase.PARKED and self._held is None:
            self._held = outcome
        return []

    def left(self, reason: str) -> list[Command]:
        """The client closed the try that waits."""
        return self._cancel(reason) if self.phase is Phase.RUNNING else []

    def expired(self) -> list[Command]:
        """The client did not come back."""
        return self._cancel("the client did not come back with its input") if self.phase is Phase.PARKED else []

    def _deliver(self, outcome: Any) -> list[Command]:
        self.phase = Phase.OVER
        return [Deliver(outcome)]

    def _decline(self) -> list[Command]:
        """Nobody will answer what is open."""
        questions, self._open = self._open, {}
        return [Reply(question, True, DECLINED) for question, _ in questions.values()]

    def _cancel(self, reason: str) -> list[Command]:
        held = self._held is not None
        self.phase = Phase.OVER
        declined = self._decline()
        return declined if held else [*declined, Cancel(reason)]
