"""The members of a ``subscriptions/listen`` that upstreams serve themselves.

These are tasks (``taskIds``), and on ``/servers/{name}`` the members that the specification does not name.

Members of the filter that the gateway does not know are sent to one modern replica of the group, in a listen of their
own. The upstream's messages are shown on the client's stream, tagged with the client's id. When the upstream's stream
ends, the client's stream ends as well: later changes would be missed, and the client then listens again.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw

from gateway.calls.events import Answered, Interim, Silent
from gateway.fleet.dispatch import Abandoned, Dispatcher
from gateway.fleet.outgoing import ANYWHERE, Affinity, Outgoing
from gateway.routing.routes import Route
from gateway.streams.standing_stream import StandingStream, tagged
from gateway.telemetry.observer import LISTENING
from shared.errors import CallError, Refused
from shared.mcp import jsonrpc, tasks
from shared.mcp.methods import ACKNOWLEDGED, LISTEN, TASKS_IN_FILTER
from shared.mcp.versions import Era
from shared.tasks import cancel, spawn


class ListenPassthrough:
    """One listen that is passed on to an upstream; created, it begins at once.

    ``params`` are the client's, and ``wanted`` are the members of its filter that the upstream gets. The upstream has
    ``within_s`` to agree.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        route: Route,
        principal: str,
        params: Raw,
        wanted: dict[str, Raw],
        stream: StandingStream,
        within_s: float,
        affinity: Affinity = ANYWHERE,
    ) -> None:
        self._dispatcher = dispatcher
        self._stream = stream
        self._until = asyncio.get_running_loop().time() + within_s
        self._agreed: dict[str, Raw] = {}
        self._acknowledged = asyncio.Event()
        sent: dict[str, Any] = {**jsonrpc.members(params), "notifications": wanted}
        meta = jsonrpc.members(sent.get("_meta", jsonrpc.ABSENT))
        meta.pop("progressToken", None)  # clients share the upstream, so a token of one could meet that of another
        sent["_meta"] = meta
        call = Outgoing(
            method=LISTEN,
            params=jsonrpc.assemble(sent),
            era=Era.MODERN,
            route=route,
            group=route.group,
            principal=principal,
            affinity=affinity,
        )
        self._wanted = wanted
        self._task = spawn(self._run(call), "listen-passthrough")

    async def agreed(self) -> dict[str, Raw]:
        """Return the members that the upstream said it honours, or an empty dictionary if it did not say so in time."""
        try:
            async with asyncio.timeout_at(self._until):
                await self._acknowledged.wait()
        except TimeoutError:
            pass
        if not self._agreed:
            await self.close()
        return self._agreed

    async def close(self) -> None:
        """Cancel the upstream's listen."""
        await cancel(self._task)

    async def _run(self, call: Outgoing) -> None:
        try:
            in_flight, event = await self._dispatcher.send(call)
        except Abandoned as gone:
            gone.in_flight.cancel("the client closed the stream")
            raise
        except CallError:
            self._acknowledged.set()  # the upstream agreed to nothing
            return
        self._dispatcher.complete(in_flight, LISTENING)
        in_flight.stand()
        try:
            while isinstance(event, (Interim, Silent)):
                dropped, in_flight.dropped = in_flight.dropped, 0
                self._stream.missed(dropped)
                if isinstance(event, Interim):
                    self._show(event.message)
                event = await in_flight.next()
        except BaseException:
            in_flight.cancel("the client closed the stream")
            self._stream.close(cut=True)
            raise
        if isinstance(event, Answered) and event.stream is not None:
            in_flight.refuse_body()
        if self._agreed:
            self._stream.close(cut=not isinstance(event, Answered) or event.is_error)
        self._acknowledged.set()

    def _show(self, raw: bytes) -> None:
        try:
            message = jsonrpc.decode_answer(raw)
            if message.method != ACKNOWLEDGED:
                self._push(message.method, message.params)
            elif not self._acknowledged.is_set():
                honoured = jsonrpc.members(jsonrpc.members(message.params).get("notifications", jsonrpc.ABSENT))
                self._agreed = self._agree({name: what for name, what in honoured.items() if name in self._wanted})
                self._acknowledged.set()
        except (Refused, msgspec.DecodeError):
            pass  # the upstream's message breaks the protocol

    def _push(self, method: str, params: Raw) -> None:
        """Show a notification of the upstream."""
        self._stream.push(jsonrpc.notification(method, tagged(params, self._stream.tag)))

    def _agree(self, honoured: dict[str, Raw]) -> dict[str, Raw]:
        """Return what the client is told of what the upstream honours."""
        return honoured


class ListenToTasks(ListenPassthrough):
    """A listen for tasks at the upstream that has them. ``ids`` are the client's, by the upstream's own."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        route: Route,
        principal: str,
        params: Raw,
        ids: dict[str, str],
        stream: StandingStream,
        within_s: float,
        affinity: Affinity,
    ) -> None:
        self._ids = ids
        wanted = {TASKS_IN_FILTER: Raw(msgspec.json.encode(list(ids)))}
        super().__init__(dispatcher, route, principal, params, wanted, stream, within_s, affinity)

    def _push(self, method: str, params: Raw) -> None:
        id = self._ids.get(tasks.id_in(params)) if method == tasks.CHANGED else None
        if id is not None:
            super()._push(method, Raw(tasks.with_id(params, id)))

    def _agree(self, honoured: dict[str, Raw]) -> dict[str, Raw]:
        own = msgspec.json.decode(honoured.get(TASKS_IN_FILTER, b"[]"), type=list[str])
        agreed = [self._ids[one] for one in own if one in self._ids]
        return {TASKS_IN_FILTER: Raw(msgspec.json.encode(agreed))} if agreed else {}
