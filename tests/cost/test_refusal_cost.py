"""A call that a full upstream has no room for must cost little, because under overload most calls are refused. Function
calls are counted: what is refused without asking the worker makes none of the four ways through sockets that a served
call makes beside its own.
"""

from __future__ import annotations

import pytest

from shared.rpc import messages as rpc
from tests.cost.hot_path import REQUEST, FrontEndPath, WorkerPath, flush, frame, receive
from tests.cost.test_cost import count

SHARE = 0.36


async def test_a_repeated_refusal_costs_a_fraction_of_a_served_call(monkeypatch: pytest.MonkeyPatch) -> None:
    front, now = FrontEndPath(), 1000.0
    front.call()
    dispatcher = front.connection._lane.serving.carrier._dispatcher
    monkeypatch.setattr(dispatcher._loop, "time", lambda: now)
    front.connection.data_received(REQUEST)
    flush(front.link)
    full = rpc.Failed(2, "overloaded", "4 calls are under way and 2 wait", False, {"retryAfter": "3", "shut": "0.05"})
    receive(front.link, frame(full, b""))

    def refused() -> None:
        front.connection.data_received(REQUEST)

    refused()
    answer = front.client.written[-1]
    assert answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 3\r\n" in answer
    assert b'"overloaded"' in answer and b"shut" not in answer
    assert len(front.calls_of_the_link) == 0, "the worker was not asked"
    cost = count(refused)
    monkeypatch.undo()
    served = count(FrontEndPath().call) + count(WorkerPath().call)
    assert cost <= SHARE * served, f"{cost:.0f} functions, a served call {served:.0f}"
