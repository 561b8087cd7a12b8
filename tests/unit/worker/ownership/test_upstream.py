"""``worker.ownership.upstream`` and ``inventory``: what becomes of calls and records in unlucky moments."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from shared.errors import CallError
from shared.models import ServerStatus, make_spec
from shared.registry.records import ListedCatalog, UpstreamRecord
from shared.settings import build
from tests.unit.worker.worker_harness import timeless
from worker.calls.call import Call
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall
from worker.ownership.inventory import Inventory
from worker.ownership.upstream import Upstream
from worker.transports.transport import UpstreamFacts

SILENT_CHILD = {"command": sys.executable, "args": ["-c", "import sys\nfor line in sys.stdin: pass"]}


class Deaf:
    """``upstream.UpstreamEvents`` and ``session.UnsolicitedPath`` that nobody listens to."""

    def announced(self, method: str) -> None:
        pass

    def trouble(self, error: CallError) -> None:
        pass

    def look(self) -> None:
        pass

    def listed(self) -> ListedCatalog:
        return ListedCatalog()

    def own_list_changed(self, upstream: str, kind: str, session: str) -> None:
        pass

    def inquire(self, session: str) -> None:
        pass

    def tell(self, sid: str, message: bytes) -> None:
        pass

    def ask(self, sid: str, client: ClientFacts, need: object, on_answer: Callable[[bool, bytes], None]) -> Call | None:
        return None


async def test_calls_that_wait_for_the_second_era_do_not_wait_for_ever_when_the_upstream_is_lost() -> None:
    settings = build(file_values={"stdioStartTimeout": 1000})
    upstream = Upstream(make_spec("x", SILENT_CHILD), settings, "w", Deaf(), Deaf(), lambda line: None)
    facts = UpstreamFacts(("modern",), "stdio")
    try:
        for _ in range(2):  # the second time, as after a reconnect: the first must have left nothing behind
            upstream.adopt(facts)
            call = OwnCall("tools/call", b"{}", 0)
            upstream.submit(call)
            await upstream.close_sessions()  # in the same tick
            with pytest.raises(CallError):
                await call.future
    finally:
        await upstream.close()


@timeless
async def test_a_record_of_a_newer_release_stops_nothing() -> None:
    inventory = Inventory(None, "w", build(), Deaf())  # type: ignore[arg-type]
    spec = make_spec("x", {"url": "http://127.0.0.1:9/mcp"})
    record = UpstreamRecord(
        spec=spec,
        sequence=1,
        status=ServerStatus.CONNECTED,
        eras=("legacy",),
        transport_in_use="carrier-pigeon",
        url_in_use="http://127.0.0.1:9/mcp",
        owners=((0, "other"), (1, "w")),
    )
    inventory.apply({"x": record})
    call = OwnCall("tools/call", b"{}", 0)
    inventory.submit("x", call)
    with pytest.raises(CallError, match="not connected here yet"):
        await call.future
    await asyncio.wait_for(inventory.close(), 30)
