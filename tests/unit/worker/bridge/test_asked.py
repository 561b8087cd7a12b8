"""``worker.bridge.asked``: a legacy client's call on a modern upstream. This event in, these commands out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from worker.bridge.asked import (
    CANCEL_ACTION,
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    MAX_ROUNDS,
    Ask,
    Asking,
    Command,
    Fail,
    Resend,
)
from worker.bridge.inputs import ELICIT, ROOTS, SAMPLE, Need, Required

ALL: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
FORM, URL = Need(ELICIT, b'{"message":"?"}'), Need(ELICIT, b'{"mode":"url","url":"https://x.test"}')
MODEL, FOLDERS = Need(SAMPLE, b'{"messages":[]}'), Need(ROOTS)
YES, STATE, LATER = b'{"action":"accept"}', b'"s1"', b'"s2"'


def test_every_need_of_a_round_is_asked_at_once_and_the_last_answer_sends_the_call_again() -> None:
    asking = Asking(ALL)
    assert asking.required(Required({"a": FORM, "b": MODEL, "c": FOLDERS}, STATE)) == [
        Ask("a", FORM),
        Ask("b", MODEL),
        Ask("c", FOLDERS),
    ]
    assert asking.replied("b", False, b'{"role":"assistant"}') == []
    assert asking.replied("c", False, b'{"roots":[]}') == []
    assert asking.replied("a", False, YES) == [
        Resend({"b": b'{"role":"assistant"}', "c": b'{"roots":[]}', "a": YES}, STATE)
    ]


def test_the_next_round_starts_anew_with_the_new_state() -> None:
    asking = Asking(ALL)
    asking.required(Required({"a": FORM}, STATE))
    asking.replied("a", False, YES)
    assert asking.required(Required({"b": FORM}, LATER)) == [Ask("b", FORM)]
    assert asking.replied("a", False, YES) == []
    assert asking.replied("b", False, YES) == [Resend({"b": YES}, LATER)]


def test_needs_without_state_are_answered_without_state() -> None:
    asking = Asking(ALL)
    asking.required(Required({"a": FORM}))
    assert asking.replied("a", False, YES) == [Resend({"a": YES}, b"")]


def test_state_alone_is_sent_again_after_a_moment_that_grows() -> None:
    asking, waits = Asking(ALL), []
    for _ in range(MAX_ROUNDS):
        (resend,) = asking.required(Required({}, STATE))
        assert isinstance(resend, Resend)
        assert (resend.responses, resend.state) == ({}, STATE)
        waits.append(resend.wait_s)
    assert waits[0] == FIRST_WAIT_S
    assert waits == sorted(waits)
    assert waits[1] > waits[0]
    assert set(waits[3:]) == {LONGEST_WAIT_S}


def test_after_answers_the_call_is_sent_at_once() -> None:
    asking = Asking(ALL)
    asking.required(Required({"a": FORM}, STATE))
    (resend,) = asking.replied("a", False, YES)
    assert isinstance(resend, Resend)
    assert resend.wait_s == 0


@pytest.mark.parametrize("need", [FORM, URL])
def test_an_error_answer_to_an_elicitation_cancels_it(need: Need) -> None:
    asking = Asking(ALL)
    asking.required(Required({"a": need, "b": need}, STATE))
    assert asking.replied("a", True, b'{"code":-1,"message":"no"}') == []
    assert asking.replied("b", False, YES) == [Resend({"a": CANCEL_ACTION, "b": YES}, STATE)]


@pytest.mark.parametrize("need", [MODEL, FOLDERS])
def test_an_error_answer_to_anything_else_fails_the_call(need: Need) -> None:
    asking = Asking(ALL)
    asking.required(Required({"a": FORM, "b": need}, STATE))
    (failed,) = asking.replied("b", True, b'{"code":-1,"message":"no model here"}')
    assert isinstance(failed, Fail)
    assert need.method in failed.reason
    assert "no model here" in failed.reason
    assert asking.replied("a", False, YES) == []


def test_the_clients_words_are_repeated_in_bounds_and_whatever_they_are() -> None:
    asking = Asking(ALL)
    asking.required(Required({"a": MODEL}))
    (failed,) = asking.replied("a", True, b"\xff" * 100_000)
    assert isinstance(failed, Fail)
    assert len(failed.reason) < 300


@pytest.mark.parametrize("key", ["b", ""])
def test_an_answer_to_what_was_not_asked_is_nothing(key: str) -> None:
    asking = Asking(ALL)
    assert asking.replied(key, False, YES) == []
    asking.required(Required({"a": FORM}, STATE))
    assert asking.replied(key, False, YES) == asking.replied(key, True, YES) == []


def test_a_second_answer_is_nothing() -> None:
    asking = Asking(ALL)
    asking.required(Required({"a": FORM, "b": FORM}, STATE))
    asking.replied("a", False, YES)
    assert asking.replied("a", False, b'{"action":"decline"}') == []
    assert asking.replied("b", False, YES) == [Resend({"a": YES, "b": YES}, STATE)]


def test_a_result_that_asks_for_nothing_fails_the_call() -> None:
    assert isinstance(Asking(ALL).required(Required({}))[0], Fail)


@pytest.mark.parametrize(
    ("capabilities", "need"),
    [
        ({}, FORM),
        ({"elicitation": {}}, URL),
        ({"elicitation": {"url": {}}}, FORM),
        ({"elicitation": {"form": {}}}, MODEL),
        ({"sampling": {}}, FOLDERS),
        (ALL, Need("tasks/create")),
        (ALL, Need(ELICIT, b'{"mode":"voice"}')),
        (ALL, Need(ELICIT, b"[]")),
    ],
)
def test_a_need_that_the_client_may_not_be_asked_fails_the_call(capabilities: dict[str, Any], need: Need) -> None:
    (failed,) = Asking(capabilities).required(Required({"a": need}, STATE))
    assert isinstance(failed, Fail)


def test_nothing_is_asked_beside_a_need_that_may_not_be() -> None:
    asking = Asking({"roots": {}})
    (failed,) = asking.required(Required({"a": FOLDERS, "b": MODEL}, STATE))
    assert isinstance(failed, Fail)
    assert asking.replied("a", False, b'{"roots":[]}') == []


def test_an_upstream_that_never_has_enough_is_given_up() -> None:
    asking = Asking(ALL)
    for _ in range(MAX_ROUNDS):
        assert asking.required(Required({"a": FORM}, STATE)) == [Ask("a", FORM)]
        assert asking.replied("a", False, YES) == [Resend({"a": YES}, STATE)]
    (failed,) = asking.required(Required({"a": FORM}, STATE))
    assert isinstance(failed, Fail)
    assert asking.replied("a", False, YES) == []


NEEDS = {"f": FORM, "u": URL, "m": MODEL, "r": FOLDERS}


class AnyOrder(RuleBasedStateMachine):
    """The upstream asks when it may (after a ``Resend``), the client answers in any order, twice, or wrongly."""

    @initialize(capabilities=st.sampled_from([ALL, ALL, ALL, {"elicitation": {}, "sampling": {}}]))
    def begin(self, capabilities: dict[str, Any]) -> None:
        """The call is with the upstream."""
        self.asking = Asking(capabilities)
        self.capabilities = capabilities
        self.with_upstream, self.failed = True, False
        self.rounds = 0
        self.asked: dict[str, Need] = {}
        self.answers: dict[str, bytes] = {}
        self.state = b""

    def _take(self, commands: list[Command]) -> None:
        assert not (self.failed and commands), "something happens after Fail"
        for command in commands:
            if isinstance(command, Ask):
                assert command.key not in self.asked, "asked twice in one round"
                assert NEEDS[command.key] == command.need
                self.asked[command.key] = command.need
            elif isinstance(command, Resend):
                assert not self.with_upstream, "sent twice"
                assert command.responses == self.answers
                assert command.responses.keys() == self.asked.keys(), "an answer for every need, and no other"
                assert command.state == self.state
                assert command.wait_s <= LONGEST_WAIT_S
                self.with_upstream = True
            else:
                assert commands == [command], "nothing is asked or sent beside a failure"
                self.failed = True

    @precondition(lambda self: self.with_upstream and not self.failed)
    @rule(keys=st.lists(st.sampled_from(sorted(NEEDS)), unique=True), state=st.sampled_from([b"", STATE, LATER]))
    def required(self, keys: list[str], state: bytes) -> None:
        """The upstream answers ``input_required``."""
        self.with_upstream, self.rounds, self.state = False, self.rounds + 1, state
        self.asked, self.answers = {}, {}
        self._take(self.asking.required(Required({key: NEEDS[key] for key in keys}, state)))
        lacking = self.capabilities is not ALL and {"u", "r"} & set(keys)
        assert self.failed is bool(self.rounds > MAX_ROUNDS or lacking or not (keys or state))
        assert self.failed or self.asked.keys() == set(keys)

    @precondition(lambda self: not self.with_upstream)
    @rule(key=st.sampled_from([*sorted(NEEDS), "?"]), is_error=st.sampled_from([False, False, False, True]))
    def replied(self, key: str, is_error: bool) -> None:
        """The client answers."""
        if key in self.asked and key not in self.answers and not self.failed:
            cancels = is_error and self.asked[key].method == ELICIT
            self.answers[key] = CANCEL_ACTION if cancels else key.encode()
            fails = is_error and not cancels
        else:
            fails = self.failed
        self._take(self.asking.replied(key, is_error, key.encode()))
        assert self.failed is fails
        if not self.failed:
            assert self.with_upstream is (self.answers.keys() == self.asked.keys())

    @invariant()
    def bounded(self) -> None:
        """One round more than allowed is the one that fails."""
        assert self.rounds <= MAX_ROUNDS + self.failed


class TestAnyOrder(AnyOrder.TestCase):  # type: ignore[misc,valid-type]
    """Runs the machine."""

    settings = settings(derandomize=True, max_examples=100, stateful_step_count=40)
