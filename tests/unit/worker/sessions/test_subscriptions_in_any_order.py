"""``worker.sessions.resource_subscriptions``: clients, sessions and answers come and go in any order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from shared.mcp.versions import Era
from tests.unit.worker.sessions.resource_server import GONE, MODERN, Ear, Upstream
from tests.unit.worker.worker_harness import JumpingLoop, run_ready

URIS = st.sampled_from(["r:/1", "r:/2", "r:/3"])
EARS = st.sampled_from([0, 1, 2])


class AnyOrder(RuleBasedStateMachine):
    """Watchers come and go while the upstream answers late, refuses, ends streams and loses its session.

    When it is well again and time has passed, exactly what is watched is subscribed, and everybody hears of it.
    """

    @initialize(era=st.sampled_from(Era))
    def begin(self, era: Era) -> None:
        """An upstream that is well."""
        self.loop = JumpingLoop()
        self.up = self._run(self._make(era))
        self.ears = [Ear() for _ in range(3)]
        self.wanted: dict[tuple[int, str], asyncio.Task[None]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def _make(self, era: Era) -> Upstream:
        return Upstream(era)

    def _run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    async def _do(self, act: Any, pass_s: float = 0.0) -> None:
        act()
        await run_ready()
        await asyncio.sleep(pass_s)

    def _wanted(self) -> Iterable[tuple[int, str]]:
        """What is watched: a watch that failed is none."""
        return [key for key, task in self.wanted.items() if not task.done() or task.exception() is None]

    @rule(ear=EARS, uri=URIS)
    def watch(self, ear: int, uri: str) -> None:
        def act() -> None:
            if (ear, uri) in self._wanted():
                return
            self.wanted[ear, uri] = task = self.up.watch(self.ears[ear], uri)
            self.tasks.append(task)

        self._run(self._do(act))

    @rule(ear=EARS, uri=URIS)
    def unwatch(self, ear: int, uri: str) -> None:
        def act() -> None:
            self.wanted.pop((ear, uri), None)
            self.up.subscriptions.unwatch(self.ears[ear], uri, "")

        self._run(self._do(act))

    @rule(ear=EARS, uri=URIS)
    def unwatch_and_watch(self, ear: int, uri: str) -> None:
        """In one breath, as a client does that connects again."""
        self.unwatch(ear, uri)
        self.watch(ear, uri)

    @rule(ear=EARS)
    def forget(self, ear: int) -> None:
        def act() -> None:
            self.wanted = {key: task for key, task in self.wanted.items() if key[0] != ear}
            self.up.subscriptions.forget(self.ears[ear])

        self._run(self._do(act))

    @rule(holds=st.booleans())
    def slow(self, holds: bool) -> None:
        self.up.holds = holds

    @precondition(lambda self: self.up.current)
    @rule()
    def answer(self) -> None:
        self._run(self._do(self.up.current[""].answer))

    @rule(refused=st.sets(URIS, max_size=1), silent=st.booleans(), listen=st.booleans())
    def mood(self, refused: set[str], silent: bool, listen: bool) -> None:
        """The upstream refuses, or does not say that it agreed."""
        self.up.refused, self.up.silent, self.up.refuses_to_listen = refused, silent, listen

    @rule(opens=st.booleans())
    def reachable(self, opens: bool) -> None:
        self.up.refuses_to_open = None if opens else GONE

    @precondition(lambda self: self.up.current)
    @rule(how=st.sampled_from(["lost", "ends"]))
    def trouble(self, how: str) -> None:
        session = self.up.current[""]
        self._run(self._do(session.end_streams if how == "ends" else lambda: session.lost(GONE)))

    @rule(seconds=st.sampled_from([0.02, 0.3, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self._run(self._do(lambda: None, seconds))

    def teardown(self) -> None:
        """The upstream is well again."""
        if not hasattr(self, "up"):
            return
        try:
            self._run(self._recover())
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self._run(asyncio.sleep(0))
            self.loop.close()

    async def _recover(self) -> None:
        up = self.up
        up.refuses_to_open, up.refuses_to_listen, up.silent, up.holds, up.refused = None, False, False, False, set()
        for session in up.sessions:
            while session.held and not session.closed:
                session.answer()
                await run_ready()
        await asyncio.sleep(200)
        assert all(task.done() for task in self.tasks), "a watcher was never told"
        wanted = set(self._wanted())
        assert up.active_uris() == {uri for _, uri in wanted}
        assert len(up.subscriptions) == len({uri for _, uri in wanted})
        for ear in self.ears:
            ear.take()
        for uri in {uri for _, uri in wanted}:
            up.subscriptions.updated("", json.dumps({"uri": uri}).encode())
        for number, ear in enumerate(self.ears):
            assert sorted(ear.take()) == sorted(uri for other, uri in wanted if other == number)
        current = up.current.get("")
        listening = 1 if up.era is MODERN and wanted else 0
        assert current is None or current.closed or len(current.correlation.calls) == listening


class TestAnyOrder(AnyOrder.TestCase):  # type: ignore[misc,valid-type]
    """Runs the machine."""

    settings = settings(derandomize=True, max_examples=100, stateful_step_count=25)
