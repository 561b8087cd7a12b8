"""A whole upstream session, its front ends and clients in any order: ids match, everything is answered once.

The upstream answers (rightly, twice, to nothing, in batches), asks, takes back what it asked, reports progress and goes
away; its session is shared by clients or one client's own; clients call, answer questions
(rightly, twice, from another session), come back with input, cancel and disconnect; time passes. At the end every call
and every question has had exactly one answer, and no table remembers anything.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.errors import NotDelivered
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from tests.unit.worker.worker_harness import ALL, FrontEnd, JumpingLoop, WorkerHarness, run_ready
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, SAMPLE
from worker.calls.client_facts import NOBODY, ClientFacts

FRONTS = st.sampled_from(["a", "b"])
CLIENTS = st.sampled_from(["s1", "s2", "", "modern", "modern"])


class _Made:
    """One call that a client made; ``tag`` is what it asks for, the same for all tries of a modern call."""

    def __init__(self, front: FrontEnd, client: str, tag: int) -> None:
        self.front = front
        self.client = client
        self.tag = tag


class AnyOrder(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = JumpingLoop()
        self.calls: dict[int, _Made] = {}
        self.at_upstream: dict[int, int] = {}  # id → tag
        self.done_upstream: list[int] = []
        self.asked: dict[int, int] = {}  # question of the upstream → answers it got
        self.dead: set[int] = set()  # questions whose session is gone
        self.taken_back: set[int] = set()
        self.own = ""
        self.question_ids: dict[
            str, tuple[str, int]
        ] = {}  # id that a legacy client was asked under → session, question
        self.retries: list[tuple[int, dict[str, Any]]] = []
        self.seen: dict[str, int] = {"a": 0, "b": 0}
        self.last = 0

    @initialize(
        era=st.sampled_from([Era.LEGACY, Era.LEGACY, Era.MODERN]),
        ready=st.sampled_from([True, True, False]),
        own=st.sampled_from(["", "", "s1"]),
    )
    def begin(self, era: Era, ready: bool, own: str) -> None:
        """A worker with one upstream session that is open, or will be; perhaps one that is a client's own."""
        self.own = own if era is Era.LEGACY else ""

        async def make() -> None:
            facts = ClientFacts("ada", "2025-11-25", json.dumps(ALL).encode()) if self.own else NOBODY
            self.harness = WorkerHarness(era, facts, self.own, input_timeout_s=60.0)
            self.harness.connect(ready)
            for front in (self.harness.a, self.harness.b):
                for session in ("s1", "s2"):
                    front.open(session, ALL)

        self.era = era
        self.loop.run_until_complete(make())
        self._hold(ready)

    def _hold(self, ready: bool) -> None:
        if not ready:
            self.harness.session.opens = self.loop.create_future()

    def _now(self, act: Any = None, pass_s: float = 0.0) -> None:
        """Do it on the loop, let it take effect, and look at what was sent."""

        async def run() -> None:
            if act is not None:
                act()
            await run_ready()
            if pass_s:
                await asyncio.sleep(pass_s)

        self.loop.run_until_complete(run())
        self._look()

    def _look(self) -> None:
        for message in self.harness.session.take():
            if message.get("method") == "tools/call":
                id, params = message["id"], message["params"]
                assert id not in self.at_upstream, "an id twice"
                self.at_upstream[id] = params["arguments"]["n"]
                for key, answer in params.get("inputResponses", {}).items():
                    assert answer == {"action": "cancel"} or answer["content"]["q"] == int(key)
            elif message.get("method") == "notifications/cancelled":
                self.at_upstream.pop(message["params"]["requestId"], None)
            else:
                self.asked[message["id"]] += 1
                assert "error" in message or message["result"]["content"]["q"] == message["id"]
        for name, front in (("a", self.harness.a), ("b", self.harness.b)):
            frames = front.fake.frames
            for head, body in frames[self.seen[name] :]:
                self._frame(front, head, body)
            self.seen[name] = len(frames)

    def _frame(self, front: FrontEnd, head: rpc.Head, body: bytes) -> None:
        if isinstance(head, rpc.Unsolicited):
            assert head.session == self.own, "somebody else's session"
            message = json.loads(body)
            if message["method"] == "notifications/cancelled":
                assert message["params"]["requestId"] in self.question_ids
            else:
                self.question_ids[message["id"]] = head.session, int(message["params"]["message"])
        elif isinstance(head, rpc.Interim):
            made, message = self.calls[head.call], json.loads(body)
            if "id" in message:
                assert made.client in ("s1", "s2"), "only sessions are asked by requests"
                self.question_ids[message["id"]] = made.client, int(message["params"]["message"])
            elif message["method"] == "notifications/cancelled":
                assert self.question_ids[message["params"]["requestId"]][0] == made.client, "somebody else's question"
            else:
                assert message["params"]["progressToken"] == f"t{made.tag}", "somebody else's progress"
        elif isinstance(head, rpc.Answer):
            made, result = self.calls[head.call], json.loads(body)
            if result.get("resultType") == "input_required":
                assert made.client == "modern"
                self.retries.append((head.call, result))
            else:
                found = result["data"] if head.is_error else result
                assert found["for"] == made.tag, "somebody else's answer"

    def _fresh(self) -> int:
        self.last += 1
        return self.last

    # ---- clients

    @rule(clients=st.lists(CLIENTS, min_size=1, max_size=3), front=FRONTS, token=st.booleans(), asks=st.booleans())
    def call(self, clients: list[str], front: str, token: bool, asks: bool) -> None:
        """Clients call; perhaps the upstream needs input for each of them at once."""
        if asks and self.own and self.harness.session.ready:
            self._ask_unsolicited()
        for client in clients:
            before = set(self.at_upstream)
            self._call(client, front, token)
            for id in set(self.at_upstream) - before if asks else ():
                self._ask(id)
        if asks:
            self._now(pass_s=0.05)

    def _ask_unsolicited(self) -> None:
        """The upstream asks something without a stream: of the client whose own session it is, if no call waits."""
        question = self._fresh()
        self.asked[question] = 0
        params = {"message": str(question)}
        self._now(lambda: self.harness.session.receives(None, id=question, method=ELICIT, params=params))

    def _ask(self, id: int) -> None:
        question = self._fresh()
        params = {"message": str(question)}
        if self.era is Era.LEGACY:
            self.asked[question] = 0
            call = self.harness.session.correlation.calls[id]
            self._now(lambda: self.harness.session.receives(call, id=question, method=ELICIT, params=params))
        else:
            self.done_upstream.append(id)
            del self.at_upstream[id]
            requests = {str(question): {"method": ELICIT, "params": params}}
            result = {"resultType": "input_required", "inputRequests": requests, "requestState": "x"}
            self._now(lambda: self.harness.session.receives(id=id, result=result))

    def _call(self, client: str, front: str, token: bool) -> None:
        where = self._front(front)
        client = self.own or client
        tag = self._fresh()
        era = Era.MODERN if client == "modern" else Era.LEGACY
        sid = "" if client == "modern" else client

        def act() -> None:
            number = self.harness.last_number + 1
            self.calls[number] = _Made(where, client, tag)
            how: dict[str, Any] = {"token": f"t{tag}"} if token else {}
            self.harness.call(era, sid, {"n": tag}, where, **how)

        self._now(act)

    def _front(self, name: str) -> FrontEnd:
        wanted = self.harness.a if name == "a" else self.harness.b
        return wanted if not wanted.fake.closed else self.harness.b

    @precondition(lambda self: self.retries)
    @rule(data=st.data(), front=FRONTS, again=st.booleans(), partial=st.booleans(), token=st.booleans())
    def retry(self, data: st.DataObject, front: str, again: bool, partial: bool, token: bool) -> None:
        """A modern client comes back with input; perhaps it will once more with the same state."""
        at = data.draw(st.integers(0, len(self.retries) - 1))
        number, result = self.retries[at] if again else self.retries.pop(at)
        tag, where = self.calls[number].tag, self._front(front)
        responses = {
            key: {"action": "accept", "content": {"q": int(one["params"]["message"])}}
            for key, one in result["inputRequests"].items()
        }
        if partial and responses:
            responses.popitem()

        def act() -> None:
            self.calls[self.harness.last_number + 1] = _Made(where, "modern", tag)
            how: dict[str, Any] = {"token": f"t{tag}"} if token else {}
            state = {"requestState": result["requestState"], "inputResponses": responses}
            self.harness.call(Era.MODERN, "", {"n": tag}, where, **how, **state)

        self._now(act)

    @precondition(lambda self: self.question_ids)
    @rule(data=st.data(), front=FRONTS, who=st.sampled_from(["right", "right", "wrong", "refuses"]))
    def reply(self, data: st.DataObject, front: str, who: str) -> None:
        """A legacy client answers a question, perhaps one that it has answered before, or that another was asked."""
        question_id = data.draw(st.sampled_from(sorted(self.question_ids)))
        session, question = self.question_ids[question_id]
        before = dict(self.asked), dict(self.at_upstream)
        sid = {"s1": "s2", "s2": "s1"}[session] if who == "wrong" else session
        result = {"action": "accept", "content": {"q": question}}
        error = {"code": -1, "message": "no"} if who == "refuses" else None
        self._now(lambda: self.harness.reply(question_id, sid, result, error, self._front(front)))
        if who == "wrong" and self.era is Era.LEGACY:
            assert before == (self.asked, self.at_upstream)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A client gives up on a call, perhaps on one that is over."""
        number = data.draw(st.sampled_from(sorted(self.calls)))
        self._now(lambda: self.calls[number].front.tell(rpc.Cancel(number, "enough")))

    @precondition(lambda self: not self.harness.a.fake.closed)
    @rule(really=st.sampled_from([False, False, False, True]))
    def front_end_gone(self, really: bool) -> None:
        """One of the front ends is lost."""
        if really:
            self._now(self.harness.a.close)

    # ---- the upstream

    @rule(message=st.sampled_from(["unknown id", "old id", "no id", "log"]), is_error=st.booleans())
    def noise(self, message: str, is_error: bool) -> None:
        """Something that belongs to nobody."""
        members: dict[str, Any] = {"error": {"code": -1, "message": "?"}} if is_error else {"result": {"for": -1}}
        if message == "log":
            members = {"method": "notifications/resources/updated", "params": {"uri": "x"}}
        elif message == "unknown id":
            members["id"] = 3
        elif message == "old id" and self.done_upstream:
            members["id"] = self.done_upstream[-1]
        elif not is_error:
            return
        self._now(lambda: self.harness.session.receives(**members))

    @precondition(lambda self: self.at_upstream)
    @rule(data=st.data(), kind=st.sampled_from(["result", "result", "error", "twice", "batch", "required", "state"]))
    def answer(self, data: st.DataObject, kind: str) -> None:
        """The upstream answers, in any order, perhaps twice, perhaps by asking."""
        id = data.draw(st.sampled_from(sorted(self.at_upstream)))
        tag = self.at_upstream[id]
        if kind != "batch":
            del self.at_upstream[id]
            self.done_upstream.append(id)
        answer: dict[str, Any] = {"result": {"for": tag}}
        if self.era is Era.MODERN and kind == "required":
            question = self._fresh()
            requests = {str(question): {"method": ELICIT, "params": {"message": str(question)}}}
            answer = {"result": {"resultType": "input_required", "inputRequests": requests, "requestState": "x"}}
        elif self.era is Era.MODERN and kind == "state":
            answer = {"result": {"resultType": "input_required", "inputRequests": {}, "requestState": "x"}}
        elif kind == "error":
            answer = {"error": {"code": -5, "message": "no", "data": {"for": tag}}}

        def act() -> None:
            for _ in range(2 if kind == "twice" else 1):
                self.harness.session.receives(id=id, **answer)

        self._now(self._batch if kind == "batch" else act)

    def _batch(self) -> None:
        """Everything is answered in one batch, one of them twice, one that nobody asked."""
        answers = [{"jsonrpc": "2.0", "id": id, "result": {"for": tag}} for id, tag in self.at_upstream.items()]
        self.done_upstream += self.at_upstream
        self.at_upstream.clear()
        stray = {"jsonrpc": "2.0", "id": 3, "result": {"for": -1}}
        assert self.harness.session.receive_bytes(json.dumps([*answers, *answers[:1], stray]).encode())

    @precondition(lambda self: self.era is Era.LEGACY and not self.harness.session.closed)
    @rule(data=st.data(), stream=st.booleans(), method=st.sampled_from([ELICIT, ELICIT, SAMPLE, "nonsense"]))
    def ask(self, data: st.DataObject, stream: bool, method: str) -> None:
        """The upstream asks something, on a call's own stream or without."""
        question = self._fresh()
        self.asked[question] = 0
        calls = self.harness.session.correlation.calls
        call = data.draw(st.sampled_from(list(calls.values()))) if stream and calls else None
        params = {"message": str(question)}
        self._now(lambda: self.harness.session.receives(call, id=question, method=method, params=params))

    @precondition(lambda self: self.era is Era.LEGACY and not self.harness.session.closed and self.unanswered())
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        """The upstream does not want an answer any more: it gets none."""
        question = data.draw(st.sampled_from(self.unanswered()))
        params = {"requestId": question}
        self._now(lambda: self.harness.session.receives(method="notifications/cancelled", params=params))
        self.taken_back.add(question)

    def unanswered(self) -> list[int]:
        """Questions that the upstream still waits for."""
        return [one for one, count in self.asked.items() if not count and one not in self.dead | self.taken_back]

    @precondition(lambda self: self.question_ids)
    @rule(data=st.data(), front=FRONTS, wrong=st.booleans())
    def shown(self, data: st.DataObject, front: str, wrong: bool) -> None:
        """A front end says that a question is before its client, perhaps one that is closed, or another's."""
        question_id = data.draw(st.sampled_from(sorted(self.question_ids)))
        session = "s2" if wrong else self.question_ids[question_id][0]
        self._now(lambda: self._front(front).tell(rpc.QuestionNews(question_id, session)))

    @precondition(lambda self: self.at_upstream)
    @rule(data=st.data())
    def progress(self, data: st.DataObject) -> None:
        """The upstream reports progress."""
        id = data.draw(st.sampled_from(sorted(self.at_upstream)))
        params = {"progressToken": id, "progress": 1}
        self._now(lambda: self.harness.session.receives(method="notifications/progress", params=params))

    @rule(how=st.sampled_from(["lost", "closed", *["stays"] * 6]), ready=st.booleans())
    def session_gone(self, how: str, ready: bool) -> None:
        """The upstream session ends, and another one begins."""
        if how == "stays":
            return
        old = self.harness.session
        if how == "lost":
            self._now(lambda: old.lost(NotDelivered("upstream_unavailable", "gone")))
        else:
            self._now()
            self.loop.run_until_complete(old.close())
            self._look()
        self.at_upstream.clear()
        self.dead.update(self.asked)
        self.loop.run_until_complete(self._reconnect(ready))
        self._hold(ready)

    async def _reconnect(self, ready: bool) -> None:
        self.harness.connect(ready)

    @precondition(lambda self: not self.harness.session.ready)
    @rule()
    def opened(self) -> None:
        """The handshake is done; where it took too long, another session's is."""
        if self.harness.session.closed:
            self.at_upstream.clear()
            self.dead.update(self.asked)
            self.loop.run_until_complete(self._reconnect(False))
            self._hold(False)
        opens = self.harness.session.opens
        assert opens is not None

        def act() -> None:
            self.harness.session.start()
            if not opens.done():
                opens.set_result(None)

        self._now(act)
        assert self.harness.session.ready

    @rule(seconds=st.sampled_from([0.05, 0.05, 0.05, 1.0, 1.0, 20.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        """Calls and questions may expire."""
        self._now(pass_s=seconds)

    # ---- what holds

    @invariant()
    def nothing_is_answered_twice(self) -> None:
        """Neither calls nor questions; and what is kept is bounded by what is open."""
        if not hasattr(self, "harness"):
            return
        for number, made in self.calls.items():
            assert len(made.front.answers(number)) <= 1
        assert all(count <= (one not in self.taken_back) for one, count in self.asked.items())
        open_calls = sum(not made.front.answers(number) for number, made in self.calls.items())
        assert self.harness.broker.open_questions <= (open_calls + bool(self.own)) * MAX_REQUESTS

    def teardown(self) -> None:
        """Everybody falls silent, and time passes until every clock has run out."""
        try:
            if hasattr(self, "harness"):
                self._now(pass_s=300.0)
                self._end()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

    def _end(self) -> None:
        self.nothing_is_answered_twice()
        for number, made in self.calls.items():
            assert made.front.fake.closed or len(made.front.answers(number)) == 1, "a call without an answer"
        for question, count in self.asked.items():
            assert count == 1 or question in self.dead | self.taken_back, "a question without an answer"
        self.harness.expect_nothing_left()


class TestAnyOrder(AnyOrder.TestCase):  # type: ignore[misc,valid-type]
    """Runs the machine. Without shrinking: an example takes long enough, and reads like a script as it is."""

    settings = settings(
        derandomize=True, max_examples=160, stateful_step_count=40, phases=[Phase.explicit, Phase.generate]
    )
