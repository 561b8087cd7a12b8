"""A modern client's call on a legacy upstream that asked for input: kept alive between the client's tries. Pure.

Events come in (``asked``, ``withdrawn``, ``gathered``, ``retried``, ``answered``, ``left``, ``expired``), commands go
out; the driver is ``worker.input.parked_call``. Rules:

* While a try of the client waits, questions are gathered for a moment. Then the try is answered ``input_required``.
* The next try carries answers, which go to the upstream. Questions that it does not answer are asked again at once.
* The upstream's answer goes to the waiting try. If none waits, the answer is held for the next one.
* If the client leaves a waiting try, the call is cancelled. So is a call to which the client does not come back.
* The state of each round counts once: a replayed one is refused.
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
    """Answer the waiting try with these questions, under this round."""

    needs: dict[str, Need]
    round: int


class Reply(Struct, frozen=True):
    """Answer the upstream's question."""

    question: Any
    is_error: bool
    raw: bytes


class Deliver(Struct, frozen=True):
    """Answer the waiting try with the call's outcome. The call is over."""

    outcome: Any


class Cancel(Struct, frozen=True):
    """Cancel the call at the upstream. The call is over."""

    reason: str


class Refuse(Struct, frozen=True):
    """Refuse this try (-32602). Nothing else changes."""

    reason: str


Command = Gather | Require | Reply | Deliver | Cancel | Refuse

DECLINED = b'{"code":-32603,"message":"the client did not answer in time, or left"}'
_TOO_MANY = b'{"code":-32603,"message":"too many questions are open"}'


class Phase(enum.Enum):
    """The side that has to act."""

    RUNNING = "a try of the client waits, the upstream works"
    PARKED = "the client was asked and has not come back"
    OVER = "delivered or cancelled"


class Parked:
    """The state of one parked call. At the beginning the client's first try waits."""

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        self.round = 0
        self._open: dict[str, tuple[Any, Need]] = {}
        self._last = 0
        self._gathering = False
        self._held: Any = None

    @property
    def open(self) -> int:
        """The number of questions without an answer."""
        return len(self._open)

    def asked(self, question: Any, need: Need) -> list[Command]:
        """Handle a question of the upstream."""
        if self.phase is Phase.OVER or self._held is not None:
            return [Reply(question, True, DECLINED)]
        if len(self._open) >= MAX_REQUESTS:
            return [Reply(question, True, _TOO_MANY)]
        self._last += 1
        self._open[f"{NEEDS.get(need.method, 'input')}-{self._last}"] = (question, need)
        if self.phase is Phase.PARKED or self._gathering:
            return []  # the question is part of this round, or of the next
        self._gathering = True
        return [Gather()]

    def withdrawn(self, question: Any) -> list[Command]:
        """Handle that the upstream withdrew a question. The question is not asked any more, and an answer to it is
        ignored."""
        self._open = {key: one for key, one in self._open.items() if one[0] != question}
        return []

    def gathered(self) -> list[Command]:
        """Handle that the moment for further questions has passed."""
        self._gathering = False
        if self.phase is not Phase.RUNNING or not self._open:
            return []
        return self._require()

    def _require(self) -> list[Command]:
        self.phase = Phase.PARKED
        self.round += 1
        return [Require({key: need for key, (_, need) in self._open.items()}, self.round)]

    def retried(self, round: int, responses: Mapping[str, bytes]) -> list[Command]:
        """Handle the client's next try, with its answers."""
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
        """Handle the upstream's answer, or the call's failure."""
        if self.phase is Phase.RUNNING:
            return [*self._decline(), *self._deliver(outcome)]
        if self.phase is Phase.PARKED and self._held is None:
            self._held = outcome
        return []

    def left(self, reason: str) -> list[Command]:
        """Handle that the client closed the waiting try."""
        return self._cancel(reason) if self.phase is Phase.RUNNING else []

    def expired(self) -> list[Command]:
        """Handle that the client did not come back in time."""
        return self._cancel("the client did not come back with its input") if self.phase is Phase.PARKED else []

    def _deliver(self, outcome: Any) -> list[Command]:
        self.phase = Phase.OVER
        return [Deliver(outcome)]

    def _decline(self) -> list[Command]:
        """Answer the open questions with an error, because no client will answer them."""
        questions, self._open = self._open, {}
        return [Reply(question, True, DECLINED) for question, _ in questions.values()]

    def _cancel(self, reason: str) -> list[Command]:
        held = self._held is not None
        self.phase = Phase.OVER
        declined = self._decline()
        return declined if held else [*declined, Cancel(reason)]
