"""``worker.transports.http_elsewhere``: calls that wait for the standing stream."""

from __future__ import annotations

from shared.errors import CallError, OutcomeUnknown
from worker.calls.call import Call
from worker.sessions.correlation import Correlation
from worker.transports.http_elsewhere import AnsweredElsewhere


class Waiting(Call):
    def __init__(self) -> None:
        super().__init__("tools/call", b"{}", 0, 30.0)
        self.failure: CallError | None = None

    def _failed(self, error: CallError) -> None:
        self.failure = error


def test_they_fail_when_there_is_no_such_stream_and_answered_ones_do_not() -> None:
    correlation = Correlation()
    elsewhere = AnsweredElsewhere(correlation)
    calls = [Waiting() for _ in range(40)]
    for call in calls:
        id = correlation.begin(call)
        elsewhere.add(id, OutcomeUnknown("upstream_protocol", f"{id}"))
        if call is not calls[-1]:
            correlation.forget(id)  # it was answered
    elsewhere.refused()
    assert [call.failure is not None for call in calls] == [False] * 39 + [True]
    assert not correlation.calls
    elsewhere.refused()
