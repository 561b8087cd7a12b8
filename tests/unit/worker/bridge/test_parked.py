"""``worker.bridge.parked``: a modern client's call on a legacy upstream. This event in, these commands out."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from worker.bridge.inputs import ELICIT, MAX_REQUESTS, ROOTS, SAMPLE, Need
from worker.bridge.parked import (
    DECLINED,
    Cancel,
    Command,
    Deliver,
    Gather,
    Parked,
    Phase,
    Refuse,
    Reply,
    Require,
)

FORM, MODEL, FOLDERS = Need(ELICIT, b'{"message":"?"}'), Need(SAMPLE, b'{"messages":[]}'), Need(ROOTS)
YES, NO = b'{"action":"accept"}', b'{"action":"decline"}'
USED = Refuse("this requestState was used already")
LATE = Cancel("the client did not come back with its input")


def _asked(*needs: Need) -> Parked:
    """A call whose client was just asked these, under round 1; the questions are ``q1``, ``q2``…"""
    parked = Parked()
    for number, need in enumerate(needs, 1):
        parked.asked(f"q{number}", need)
    assert isinstance(parked.gathered()[0], Require)
    return parked


def _declined(question: str) -> Reply:
    return Reply(question, True, DECLINED)


# ---- a call's life


def test_a_question_an_answer_and_the_outcome() -> None:
    parked = Parked()
    phases: list[Phase] = []
    assert parked.asked("q1", FORM) == [Gather()]
    assert parked.gathered() == [Require({"elicitation-1": FORM}, 1)]
    phases.append(parked.phase)
    assert parked.retried(1, {"elicitation-1": YES}) == [Reply("q1", False, YES)]
    phases.append(parked.phase)
    assert parked.answered("outcome") == [Deliver("outcome")]
    assert [*phases, parked.phase] == [Phase.PARKED, Phase.RUNNING, Phase.OVER]


def test_questions_of_one_moment_are_one_round() -> None:
    parked = Parked()
    assert parked.asked("q1", FORM) == [Gather()]
    assert parked.asked("q2", MODEL) == []
    assert parked.asked("q3", FOLDERS) == []
    assert parked.gathered() == [Require({"elicitation-1": FORM, "sampling-2": MODEL, "roots-3": FOLDERS}, 1)]


def test_a_question_that_is_taken_back_is_not_asked_any_more() -> None:
    parked = Parked()
    parked.asked("q1", FORM)
    parked.asked("q2", MODEL)
    assert parked.withdrawn("q1") == []
    assert parked.gathered() == [Require({"sampling-2": MODEL}, 1)]


def test_an_answer_to_what_was_taken_back_goes_nowhere() -> None:
    parked = _asked(FORM, MODEL)
    assert parked.withdrawn("q1") == []
    assert parked.retried(1, {"elicitation-1": YES, "sampling-2": b"{}"}) == [Reply("q2", False, b"{}")]
    assert parked.answered("outcome") == [Deliver("outcome")]


def test_a_round_of_which_everything_was_taken_back_is_none() -> None:
    parked = Parked()
    parked.asked("q1", FORM)
    parked.withdrawn("q1")
    assert parked.gathered() == [] and parked.phase is Phase.RUNNING
    assert parked.asked("q2", FORM) == [Gather()]


def test_what_is_asked_after_the_round_waits_for_the_next_try() -> None:
    parked = _asked(FORM)
    assert parked.asked("q2", FORM) == []
    assert parked.retried(1, {"elicitation-1": YES}) == [
        Reply("q1", False, YES),
        Require({"elicitation-2": FORM}, 2),
    ]
    assert parked.retried(2, {"elicitation-2": NO}) == [Reply("q2", False, NO)]


def test_what_is_still_missing_is_asked_again_at_once() -> None:
    parked = _asked(FORM, MODEL)
    assert parked.retried(1, {"sampling-2": b"{}"}) == [Reply("q2", False, b"{}"), Require({"elicitation-1": FORM}, 2)]
    assert parked.retried(2, {}) == [Require({"elicitation-1": FORM}, 3)]
    assert parked.retried(3, {"elicitation-1": YES}) == [Reply("q1", False, YES)]


def test_answers_to_what_was_not_asked_are_left_out() -> None:
    parked = _asked(FORM)
    assert parked.retried(1, {"elicitation-2": YES, "": YES, "roots-1": YES}) == [Require({"elicitation-1": FORM}, 2)]
    parked.retried(2, {"elicitation-1": YES})
    parked.asked("q2", FORM)
    assert parked.gathered() == [Require({"elicitation-2": FORM}, 3)]
    assert parked.retried(3, {"elicitation-1": NO}) == [Require({"elicitation-2": FORM}, 4)]


def test_a_question_is_never_named_like_an_earlier_one() -> None:
    parked = _asked(FORM)
    parked.retried(1, {"elicitation-1": YES})
    parked.asked("q2", FORM)
    assert parked.gathered() == [Require({"elicitation-2": FORM}, 2)]


def test_without_questions_the_outcome_goes_straight_to_the_try() -> None:
    parked = Parked()
    assert parked.gathered() == []
    assert parked.answered("outcome") == [Deliver("outcome")]


# ---- the upstream answers without having been answered


def test_the_answer_while_questions_are_gathered_goes_to_the_waiting_try() -> None:
    parked = Parked()
    parked.asked("q1", FORM)
    assert parked.answered("outcome") == [_declined("q1"), Deliver("outcome")]
    assert parked.gathered() == []


def test_the_answer_while_nobody_waits_is_held_for_the_next_try() -> None:
    parked = _asked(FORM)
    assert parked.answered("outcome") == []
    assert parked.phase is Phase.PARKED
    assert parked.retried(1, {}) == [_declined("q1"), Deliver("outcome")]


def test_the_try_that_takes_a_held_answer_still_has_its_answers_passed_on() -> None:
    parked = _asked(FORM, MODEL)
    parked.answered("outcome")
    assert parked.retried(1, {"elicitation-1": YES}) == [
        Reply("q1", False, YES),
        _declined("q2"),
        Deliver("outcome"),
    ]


def test_only_the_first_answer_counts() -> None:
    parked = _asked(FORM)
    parked.answered("first")
    assert parked.answered("second") == []
    assert parked.retried(1, {})[-1] == Deliver("first")


def test_an_upstream_that_has_answered_may_not_ask() -> None:
    parked = _asked(FORM)
    parked.answered("outcome")
    assert parked.asked("q2", FORM) == [_declined("q2")]


# ---- clients that leave, or stay away


def test_a_try_that_its_client_leaves_cancels_the_call() -> None:
    parked = Parked()
    assert parked.left("closed") == [Cancel("closed")]
    assert parked.phase is Phase.OVER


def test_a_try_that_is_left_takes_its_questions_with_it() -> None:
    parked = Parked()
    parked.asked("q1", FORM)
    assert parked.left("closed") == [_declined("q1"), Cancel("closed")]
    assert parked.gathered() == []


def test_a_retry_that_is_left_cancels_the_call() -> None:
    parked = _asked(FORM)
    parked.retried(1, {"elicitation-1": YES})
    assert parked.left("closed") == [Cancel("closed")]


def test_having_been_asked_is_not_leaving() -> None:
    parked = _asked(FORM)
    assert parked.left("closed") == []
    assert parked.retried(1, {"elicitation-1": YES}) == [Reply("q1", False, YES)]


def test_a_call_that_nobody_comes_back_to_is_cancelled() -> None:
    parked = _asked(FORM, MODEL)
    assert parked.expired() == [_declined("q1"), _declined("q2"), LATE]
    assert parked.phase is Phase.OVER


def test_an_answer_that_nobody_comes_back_for_leaves_nothing_to_cancel() -> None:
    parked = _asked(FORM)
    parked.answered("outcome")
    assert parked.expired() == [_declined("q1")]
    assert parked.phase is Phase.OVER


def test_while_a_try_waits_nothing_expires() -> None:
    parked = Parked()
    assert parked.expired() == []
    assert parked.phase is Phase.RUNNING


# ---- rounds count once


@pytest.mark.parametrize("round", [-1, 0, 2, 10**30])
def test_another_rounds_state_is_refused_and_changes_nothing(round: int) -> None:
    parked = _asked(FORM)
    assert parked.retried(round, {"elicitation-1": YES}) == [USED]
    assert parked.open == 1
    assert parked.retried(1, {"elicitation-1": YES}) == [Reply("q1", False, YES)]


def test_a_state_is_refused_while_its_own_try_waits() -> None:
    parked = _asked(FORM)
    parked.retried(1, {"elicitation-1": YES})
    assert parked.retried(1, {"elicitation-1": NO}) == [USED]
    assert parked.answered("outcome") == [Deliver("outcome")]


def test_a_state_of_an_earlier_round_is_refused() -> None:
    parked = _asked(FORM)
    parked.retried(1, {})
    assert parked.retried(1, {"elicitation-1": YES}) == [USED]


# ---- the end, and bounds


def test_after_the_end_questions_are_declined_and_tries_refused() -> None:
    parked = Parked()
    parked.answered("outcome")
    assert parked.asked("q1", FORM) == [_declined("q1")]
    assert parked.retried(0, {}) == [USED]
    assert parked.gathered() == parked.left("x") == parked.expired() == parked.answered("again") == []


def test_open_questions_are_bounded() -> None:
    parked = _asked(*[FORM] * MAX_REQUESTS)
    (refused,) = parked.asked("one too many", FORM)
    assert isinstance(refused, Reply)
    assert (refused.question, refused.is_error) == ("one too many", True)
    assert parked.open == MAX_REQUESTS
    parked.retried(1, {"elicitation-1": YES})
    assert parked.asked("again", FORM) == []


def test_a_method_without_a_name_of_ours_still_gets_a_key() -> None:
    parked = Parked()
    parked.asked("q1", Need("new/thing"))
    assert parked.gathered() == [Require({"input-1": Need("new/thing")}, 1)]


# ---- whatever happens in whatever order


class AnyOrder(RuleBasedStateMachine):
    """The upstream, the client and the clock in any order, around one ``Parked``."""

    @initialize()
    def begin(self) -> None:
        """The client's first try waits."""
        self.parked = Parked()
        self.settled: dict[int, int] = {}
        self.gathers = 0
        self.waiting = True
        self.required: Require | None = None
        self.ends: list[Command] = []
        self.rounds: set[int] = set()
        self.outcome: object = None
        self.was_over = False

    def _take(self, commands: list[Command], tried: bool = False) -> None:
        for command in commands:
            if isinstance(command, Refuse):
                assert tried, "only a try is refused"
                assert commands == [command], "a refusal comes alone"
            elif isinstance(command, Reply):
                self.settled[command.question] += 1
            elif isinstance(command, Gather):
                self.gathers += 1
            elif isinstance(command, Require):
                assert self.waiting, "nobody waits for this"
                assert command.needs, "an empty round"
                assert command.round not in self.rounds, "a round twice"
                self.rounds.add(command.round)
                self.waiting, self.required = False, command
            elif isinstance(command, Deliver):
                assert self.waiting
                assert command.outcome == self.outcome, "another answer than the first"
                self.waiting = False
                self.ends.append(command)
            else:
                assert self.outcome is None, "nothing is cancelled that has ended"
                self.waiting = False
                self.ends.append(command)

    @rule(need=st.sampled_from([FORM, MODEL, FOLDERS]), times=st.sampled_from([1, 1, 1, MAX_REQUESTS]))
    def asked(self, need: Need, times: int) -> None:
        for _ in range(times):
            question = len(self.settled)
            self.settled[question] = 0
            commands = self.parked.asked(question, need)
            if self.was_over:
                assert commands == [Reply(question, True, DECLINED)]
            self._take(commands)

    @precondition(lambda self: self.gathers)
    @rule()
    def gathered(self) -> None:
        self.gathers -= 1
        self._take(self.parked.gathered())

    def _retry(self, round: int, responses: Mapping[str, bytes]) -> None:
        expected = self.required is not None and self.required.round == round and not self.was_over
        if expected:
            self.waiting, self.required = True, None
        before = {key: count for key, count in self.settled.items() if count}
        commands = self.parked.retried(round, responses)
        assert (commands == [USED]) is not expected
        self._take(commands, tried=True)
        if not expected:
            assert before == {key: count for key, count in self.settled.items() if count}

    @precondition(lambda self: self.required)
    @rule(data=st.data(), unknown=st.booleans())
    def retried(self, data: st.DataObject, unknown: bool) -> None:
        """The right round, with some, all or none of the answers."""
        assert self.required is not None
        keys = data.draw(st.lists(st.sampled_from(sorted(self.required.needs)), unique=True))
        self._retry(self.required.round, dict.fromkeys([*keys, *(["elicitation-0"] if unknown else [])], YES))

    @rule(round=st.integers(-1, 12))
    def retried_with_any_round(self, round: int) -> None:
        if self.required is None or round != self.required.round:
            self._retry(round, {"elicitation-1": YES})

    @rule()
    def answered(self) -> None:
        if self.outcome is None and not self.was_over:
            self.outcome = object()
        self._take(self.parked.answered(self.outcome if self.outcome is not None else object()))

    @rule()
    def left(self) -> None:
        self._take(self.parked.left("left"))

    @rule()
    def expired(self) -> None:
        self._take(self.parked.expired())

    @invariant()
    def one_end(self) -> None:
        """At most one ``Deliver`` or ``Cancel``; after the end every question is settled, nothing new begins."""
        over = self.parked.phase is Phase.OVER
        assert over or not self.was_over, "it came back to life"
        self.was_over = over
        assert len(self.ends) <= 1
        assert not self.ends or over
        if over:
            assert set(self.settled.values()) <= {1}
            assert not self.waiting
            assert self.ends or self.outcome is not None

    @invariant()
    def the_books_balance(self) -> None:
        """No question is settled twice or forgotten; what is open is bounded; who waits is as the phase says."""
        assert all(count <= 1 for count in self.settled.values())
        assert self.parked.open == sum(count == 0 for count in self.settled.values()) <= MAX_REQUESTS
        assert self.waiting is (self.parked.phase is Phase.RUNNING)
        assert self.gathers <= 1 or self.was_over

    def teardown(self) -> None:
        """Whatever the state, the client's leaving or the clock ends it."""
        if hasattr(self, "parked"):
            self._take(self.parked.left("end"))
            self._take(self.parked.expired())
            self.one_end()
            assert self.was_over
            assert set(self.settled.values()) <= {1}


class TestAnyOrder(AnyOrder.TestCase):  # type: ignore[misc,valid-type]
    """Runs the machine."""

    settings = settings(derandomize=True, max_examples=100, stateful_step_count=30)
