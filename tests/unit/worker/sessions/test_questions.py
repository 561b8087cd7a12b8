"""``worker.sessions.questions``: what an upstream asked is answered under its own id or taken back, then forgotten."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.calls.call import Call, OnAnswer
from worker.sessions.questions import Questions

YES = b'{"action":"accept"}'
NO = b'{"code":-1,"message":"no"}'


class FakeAsker:
    """``sessions.questions.Withdrawable``: notes which answers are not wanted any more."""

    def __init__(self) -> None:
        self.taken_back: list[OnAnswer] = []

    def withdrawn(self, on_answer: OnAnswer) -> None:
        self.taken_back.append(on_answer)


class AnswersAtOnce:
    """``sessions.questions.Withdrawable``: answers in the middle of being told that nobody wants it any more."""

    def withdrawn(self, on_answer: OnAnswer) -> None:
        on_answer(True, NO)


class Upstream:
    """One session's questions, and what its upstream was sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed = False
        self.questions = Questions(lambda message: self.sent.append(json.loads(message)), lambda: self.closed)

    def asks(self, id: bytes, asker: Any = None) -> OnAnswer:
        """A question that is put to ``asker``; what takes its answer."""
        on_answer = self.questions.on_answer(id)
        self.questions.add(id, asker or FakeAsker(), on_answer)
        return on_answer


@pytest.mark.parametrize("id", [b"1", b'"1"', b'"a \\" b"', b'""', b"-5", b"12345678901234567890123"])
def test_an_answer_goes_back_under_the_upstreams_own_id(id: bytes) -> None:
    upstream = Upstream()
    upstream.asks(id)(False, YES)
    upstream.asks(id)(True, NO)
    answered = {"jsonrpc": "2.0", "id": json.loads(id)}
    assert upstream.sent == [{**answered, "result": json.loads(YES)}, {**answered, "error": json.loads(NO)}]


def test_what_is_answered_is_forgotten() -> None:
    upstream = Upstream()
    one, two = upstream.asks(b"1"), upstream.asks(b"2")
    assert len(upstream.questions) == 2
    one(False, YES)
    assert len(upstream.questions) == 1
    two(True, NO)
    assert len(upstream.questions) == 0


def test_a_refusal_needs_nobody_to_have_been_asked() -> None:
    upstream = Upstream()
    upstream.questions.on_answer(b"1")(True, NO)
    assert upstream.sent == [{"jsonrpc": "2.0", "id": 1, "error": json.loads(NO)}]
    assert len(upstream.questions) == 0


def test_an_upstream_that_is_gone_is_sent_nothing() -> None:
    upstream = Upstream()
    on_answer = upstream.asks(b"1")
    upstream.closed = True
    on_answer(False, YES)
    assert upstream.sent == []
    assert len(upstream.questions) == 0


def test_a_question_that_the_upstream_cancels_is_taken_back_once_from_who_was_asked() -> None:
    upstream, one, two = Upstream(), FakeAsker(), FakeAsker()
    upstream.asks(b'"1"', one)
    on_answer = upstream.asks(b"1", two)
    upstream.questions.withdraw(b'{"requestId":1,"reason":"enough"}')
    upstream.questions.withdraw(b'{"requestId":1}')
    assert (one.taken_back, two.taken_back) == ([], [on_answer])
    assert len(upstream.questions) == 1
    assert upstream.sent == [], "a request that was cancelled is not answered"


@pytest.mark.parametrize(
    "params", [b"", b"{}", b"[]", b"5", b"nonsense", b'{"requestId":2}', b'{"requestId":null}', b'{"requestId":[1]}']
)
def test_a_cancel_that_names_no_open_question_is_nothing(params: bytes) -> None:
    upstream, asker = Upstream(), FakeAsker()
    upstream.asks(b"1", asker)
    upstream.questions.withdraw(params)
    assert asker.taken_back == []
    assert len(upstream.questions) == 1


def test_the_end_of_the_session_takes_every_question_back_from_who_was_asked() -> None:
    upstream, one, two = Upstream(), FakeAsker(), FakeAsker()
    first, second, third = upstream.asks(b"1", one), upstream.asks(b"2", two), upstream.asks(b"3", one)
    second(False, YES)
    upstream.questions.withdraw_all()
    upstream.questions.withdraw_all()
    assert (one.taken_back, two.taken_back) == ([first, third], [])
    assert len(upstream.questions) == 0


def test_who_answers_while_it_is_taken_back_disturbs_no_other() -> None:
    upstream, asker = Upstream(), FakeAsker()
    upstream.asks(b"1", AnswersAtOnce())
    left = upstream.asks(b"2", asker)
    upstream.questions.withdraw_all()
    assert asker.taken_back == [left]
    upstream.asks(b"3", AnswersAtOnce())
    upstream.questions.withdraw(b'{"requestId":3}')
    assert len(upstream.questions) == 0


def test_an_heir_takes_over_what_its_call_was_asked_and_nothing_else() -> None:
    upstream, other = Upstream(), FakeAsker()
    taken: list[Any] = []
    call, heir = Call("tools/call", b"{}", 0, 30.0), _Heir(taken)
    first, second = upstream.asks(b"1", call), upstream.asks(b"2", call)
    others = upstream.asks(b"3", other)
    upstream.questions.hand_over(call, heir)
    upstream.questions.withdraw(b'{"requestId":1}')
    upstream.questions.withdraw_all()
    assert taken == [first, second]
    assert other.taken_back == [others]


class _Heir(Call):
    def __init__(self, taken: list[OnAnswer]) -> None:
        super().__init__("tools/call", b"{}", 0, 30.0)
        self.taken = taken

    def withdrawn(self, on_answer: OnAnswer) -> None:
        self.taken.append(on_answer)
