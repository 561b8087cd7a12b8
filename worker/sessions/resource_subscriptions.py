"""Resource subscriptions on one upstream: one upstream subscription for each URI, however many watchers there are.

A watcher is a front end with clients that subscribed (counterpart: ``gateway.fleet.resource_watches``). On a legacy
upstream ``resources/subscribe`` is sent on the session that the clients' calls use (their own, or the shared one). A
modern upstream has one ``subscriptions/listen`` stream for all URIs. When a lost session is open again, watchers get
``updated`` for each URI, because changes meanwhile are not known.

For one URI there is one request at a time: a watcher that comes back during an unsubscribe waits for its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import jsonrpc, values
from shared.mcp.methods import ACKNOWLEDGED, LISTEN, SUBSCRIBE, UNSUBSCRIBE
from shared.mcp.versions import Era
from shared.tasks import cancel, spawn
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall
from worker.sessions.context import UpstreamSession

_log = logging.getLogger(__name__)
_COALESCE_S = 0.01
_CALM_S = 0.05
"""The shortest time between two notifications of the same resource, in seconds."""
_VAGUE_S = 0.25
_NEWEST = 4
"""The number of notifications that are kept of those that arrive faster; the newest ones."""
_RETRY_MIN_S = 0.2
_RETRY_MAX_S = 30.0
SubscriptionKey = tuple[str, str]
"""(client session, URI). The session is empty if clients share the upstream session."""


class Watcher(Protocol):
    """The receiver of changes of a resource: a front end (``worker.rpc_server.FrontEndPeer``)."""

    def updated(self, upstream: str, uri: str, session: str, params: bytes) -> None:
        """Notify that ``uri``, as it was watched, changed. ``params`` are those of the upstream's notification."""


class _Held:
    """One subscription and its watchers.

    ``attempt`` is the last attempt to subscribe. ``agreed``: the upstream agreed. ``unsure``: the upstream did not
    answer, and may hold the subscription nevertheless.
    """

    attempt: asyncio.Task[CallError | None]

    def __init__(self, client: ClientFacts) -> None:
        self.client = client
        self.watchers: set[Watcher] = set()
        self.session: UpstreamSession | None = None
        self.agreed = False
        self.unsure = False


class ResourceSubscriptions:
    """The subscriptions on one upstream. ``session_for(sid, client)`` returns the session on which a subscription
    lives."""

    def __init__(self, id: str, limit: int, session_for: Callable[[str, ClientFacts], UpstreamSession]) -> None:
        self._id = id
        self._limit = limit
        self._session_for = session_for
        self._held: dict[SubscriptionKey, _Held] = {}
        self._leaving: dict[SubscriptionKey, asyncio.Task[None]] = {}
        self._renewals: set[asyncio.Task[None]] = set()
        self._news: dict[SubscriptionKey, deque[bytes]] = {}
        self._vague: dict[str, deque[tuple[str, bytes]]] = {}
        self._loop = asyncio.get_running_loop()
        self._listen: _Listen | None = None

    def __len__(self) -> int:
        return len(self._held)

    def uses(self, sid: str) -> bool:
        """Whether the upstream session of this client is watched, and so not idle."""
        return any(key[0] == sid for key in self._held)

    def live_on(self, session: UpstreamSession) -> bool:
        """Whether a resource is subscribed on this session."""
        return any(held.session is session for held in self._held.values())

    # ---- watching

    async def watch(self, watcher: Watcher, uri: str, sid: str, client: ClientFacts) -> None:
        """Subscribe, and return when the upstream has agreed. Raises ``CallError``."""
        key = (sid, uri)
        held = self._held.get(key)
        if held is None:
            if len(self._held) >= self._limit:
                raise NotDelivered("overloaded", f"{self._limit} resources are watched already (maxSubscriptions)")
            held = self._held[key] = _Held(client)
            self._try(key, held)
        held.watchers.add(watcher)
        error = await _outcome(held.attempt)
        if error is not None:
            if self._held.get(key) is held:  # else the present watchers came later, to another attempt
                self.unwatch(watcher, uri, sid)
            raise error

    def unwatch(self, watcher: Watcher, uri: str, sid: str) -> None:
        """Remove a watcher. When the last one is removed, the upstream's subscription ends."""
        held = self._held.get((sid, uri))
        if held is None or watcher not in held.watchers:
            return
        held.watchers.discard(watcher)
        if not held.watchers:
            key = (sid, uri)
            del self._held[key]
            leaving = self._leaving[key] = spawn(self._unsubscribe(held, uri), "unsubscribe")
            leaving.add_done_callback(
                lambda done: self._leaving.pop(key, None) if self._leaving.get(key) is done else None
            )

    def forget(self, watcher: Watcher) -> None:
        """Remove a watcher that is gone from all resources."""
        for sid, uri in list(self._held):
            self.unwatch(watcher, uri, sid)

    def end_client(self, sid: str) -> None:
        """Forget the subscriptions of a client session that is over, and whose upstream session ends as well."""
        for key in [key for key in self._held if sid and key[0] == sid]:
            del self._held[key]

    def _try(self, key: SubscriptionKey, held: _Held) -> None:
        held.agreed = False
        held.attempt = spawn(self._attempt(key, held, self._leaving.get(key)), "subscribe")

    async def _attempt(self, key: SubscriptionKey, held: _Held, leaving: asyncio.Task[None] | None) -> CallError | None:
        if leaving is not None:
            await asyncio.wait({leaving})
        try:
            await self._subscribe(key, held)
        except CallError as error:
            held.unsure = isinstance(error, OutcomeUnknown)
            return error
        held.agreed = True
        return None

    async def _subscribe(self, key: SubscriptionKey, held: _Held) -> None:
        sid, uri = key
        session = held.session = self._session_for(sid, held.client)
        if session.era is Era.MODERN:
            await self._listen_on(session).add(uri)
        else:
            await session.open()
            await session.request(SUBSCRIBE, {"uri": uri})
        if session.closed:
            raise NotDelivered("upstream_unavailable", "the upstream session was lost meanwhile")

    def _listen_on(self, session: UpstreamSession) -> _Listen:
        if self._listen is None or self._listen.session is not session:
            before, self._listen = self._listen, _Listen(session, self._back)
            if before is not None:
                spawn(before.close(), "stop-listening")
                self.renew(before.session)
        return self._listen

    async def _unsubscribe(self, held: _Held, uri: str) -> None:
        await asyncio.wait({held.attempt})
        session = held.session
        if session is None or not (held.agreed or held.unsure):
            return  # the upstream never had the subscription
        if session.era is Era.MODERN:
            if self._listen is not None and self._listen.session is session:
                self._listen.remove(uri)
        elif session.ready:
            try:
                await session.request(UNSUBSCRIBE, {"uri": uri})
            except CallError as error:
                _log.debug("%s: unsubscribing: %s", self._id, error)

    # ---- notifications of the upstream

    def updated(self, sid: str, params: bytes) -> None:
        """Handle ``notifications/resources/updated`` that arrived on a session of ``sid``.

        The URI may be that of a sub-resource. The watched URI that is equal counts, else the longest one with which the
        URI starts, else all of them.
        """
        try:
            uri = jsonrpc.text(jsonrpc.members(params).get("uri", jsonrpc.ABSENT), "uri")
        except Refused:
            return
        if (sid, uri) in self._held:
            self._tell((sid, uri), params)
            return
        vague = self._vague.get(sid)
        if vague is None:
            vague = self._vague[sid] = deque(maxlen=_NEWEST)
            self._loop.call_later(_VAGUE_S, self._look_up, sid)
        vague.append((uri, params))

    def _look_up(self, sid: str) -> None:
        """Find the watchers of URIs that are not watched as such. The search is slow, so it is made once in a while,
        for the newest of them."""
        mine = [key for key in self._held if key[0] == sid]
        everybody = b""
        for uri, params in self._vague.pop(sid, ()):
            if shorter := [key for key in mine if uri.startswith(key[1])]:
                self._tell(max(shorter, key=lambda key: len(key[1])), params)
            else:
                everybody = params
        if everybody:
            for key in mine:
                self._tell(key, everybody)

    def _tell(self, key: SubscriptionKey, params: bytes) -> None:
        """Notify the watchers at once. Of changes that follow soon after, the newest are sent a little later."""
        news = self._news.get(key)
        if news is None:
            self._news[key] = deque(maxlen=_NEWEST)
            self._loop.call_later(_CALM_S, self._calm, key)
            for watcher in list(self._held[key].watchers):
                watcher.updated(self._id, key[1], key[0], params)
        elif params not in news:
            news.append(params)

    def _calm(self, key: SubscriptionKey) -> None:
        news, held = self._news.pop(key), self._held.get(key)
        if not news or held is None:
            return
        self._tell(key, news.popleft())
        self._news[key].extend(news)

    def _back(self, uris: Iterable[str]) -> None:
        """Notify watchers after a lost listen stream was opened again."""
        for uri in uris:
            if ("", uri) in self._held:
                self._tell(("", uri), msgspec.json.encode({"uri": uri}))

    # ---- sessions that come and go

    def renew(self, session: UpstreamSession) -> None:
        """Subscribe again to everything that was subscribed on ``session``, which was lost or opened anew."""
        if self._listen is not None and self._listen.session is session:
            if not session.closed:
                return  # ``_Listen`` opens its stream again by itself
            spawn(self._listen.close(), "stop-listening")
            self._listen = None
        lost = {key: held for key, held in self._held.items() if held.session is session and held.agreed}
        for held in lost.values():
            held.agreed = False
        if lost:
            task = spawn(self._renew(lost), "renew-subscriptions")
            self._renewals.add(task)
            task.add_done_callback(self._renewals.discard)

    async def _renew(self, lost: dict[SubscriptionKey, _Held]) -> None:
        """Subscribe until every resource that is still watched is subscribed. An upstream may take a while to be
        back."""
        wait_s = _RETRY_MIN_S
        while True:
            for key, held in list(lost.items()):
                if self._held.get(key) is held:
                    self._try(key, held)
                    error = await _outcome(held.attempt)
                    if error is not None:
                        _log.info("%s: a subscription could not be renewed yet: %s", self._id, error)
                        continue
                    if self._held.get(key) is held:
                        self._tell(key, msgspec.json.encode({"uri": key[1]}))
                del lost[key]
            if not lost:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _RETRY_MAX_S)

    async def close(self) -> None:
        """Forget all subscriptions, because the sessions are gone. Watchers subscribe anew when the upstream is
        back."""
        held, self._held = self._held, {}
        await cancel(*self._renewals, *self._leaving.values(), *(one.attempt for one in held.values()))
        if self._listen is not None:
            await self._listen.close()
            self._listen = None


async def _outcome(attempt: asyncio.Task[CallError | None]) -> CallError | None:
    """Return how an attempt ended. A cancelled attempt counts as a failure; it does not cancel the task that waits
    here."""
    await asyncio.wait({attempt})
    if attempt.cancelled():
        return NotDelivered("upstream_unavailable", "the upstream session was closed")
    return attempt.result()


class ListenCall(OwnCall):
    """``subscriptions/listen`` with its acknowledgement. ``honoured`` are the URIs that the acknowledgement named."""

    __slots__ = ("acknowledged", "honoured")

    def __init__(self, params: bytes) -> None:
        super().__init__(LISTEN, params, Era.MODERN, 0)
        self.honoured: set[str] = set()
        self.acknowledged: asyncio.Future[set[str]] = asyncio.get_running_loop().create_future()

    def notice(self, method: str, params: bytes) -> None:
        """Take a notification on the call's stream."""
        if method == ACKNOWLEDGED and not self.acknowledged.done():
            self.acknowledged.set_result(_honoured(params))


def _honoured(params: bytes) -> set[str]:
    try:
        listed: Any = values.loads(params)["notifications"]["resourceSubscriptions"]
    except (ValueError, KeyError, TypeError):
        return set()
    return {uri for uri in listed if isinstance(uri, str)} if isinstance(listed, list) else set()


class _Listen:
    """One listen stream for all URIs of a modern upstream. When the URIs change, a new stream is opened before the old
    one is closed."""

    def __init__(self, session: UpstreamSession, on_back: Callable[[Iterable[str]], None]) -> None:
        self.session = session
        self._on_back = on_back
        self._uris: dict[str, asyncio.Future[None]] = {}
        self._changed = asyncio.Event()
        self._call: ListenCall | None = None
        self._task = spawn(self._run(), "listen-resources")

    async def add(self, uri: str) -> None:
        """Listen for ``uri``, and return when the upstream has acknowledged it. Raises ``CallError``."""
        agreed = self._uris.get(uri)
        if agreed is None:
            agreed = self._uris[uri] = asyncio.get_running_loop().create_future()
            self._changed.set()
        await asyncio.shield(agreed)

    def remove(self, uri: str) -> None:
        """Stop listening for ``uri``."""
        if self._uris.pop(uri, None) is not None:
            self._changed.set()

    async def _run(self) -> None:
        wait_s = _RETRY_MIN_S
        broken = False
        while True:
            broken = await self._due(broken, wait_s)
            self._changed.clear()
            uris = list(self._uris)
            if not await self._reopen(uris):
                broken, wait_s = True, min(wait_s * 2, _RETRY_MAX_S)
                continue
            if broken:
                self._on_back(uri for uri in uris if uri in self._uris)
            broken, wait_s = False, _RETRY_MIN_S

    async def _due(self, broken: bool, wait_s: float) -> bool:
        """Wait until there is something to do. Return whether a broken stream has to be opened again."""
        changed = asyncio.ensure_future(self._changed.wait())
        waiting: set[asyncio.Future[Any]] = {changed}
        if self._call is not None and not broken:
            waiting.add(self._call.future)
        try:
            await asyncio.wait(waiting, timeout=wait_s if broken else None, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        lost = self._call is not None and self._call.future.done()
        await asyncio.sleep(wait_s if lost and not broken else _COALESCE_S)
        return broken or lost

    async def _reopen(self, uris: list[str]) -> bool:
        """Open the stream for these URIs, then close the one before. Return whether the stream is now as it should
        be."""
        before, call = self._call, None
        if uris:
            params = self.session.own_params({"notifications": {"resourceSubscriptions": uris}})
            call = ListenCall(params)
            self.session.submit(call)
            limit_s = self.session.context.settings.calls.request_timeout_s
            either: set[asyncio.Future[Any]] = {call.acknowledged, call.future}
            try:
                await asyncio.wait(either, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                _drop(call)
                raise
            if not call.acknowledged.done():
                self._refuse(uris, call)  # the stream before stays, if it covers all URIs
                return before is not None and not before.future.done() and before.honoured == set(self._uris)
            call.honoured = call.acknowledged.result()
            self._agree(uris, call.honoured)
        self._call = call
        if before is not None:
            _drop(before)
        # A URI that the upstream acknowledged before, but not now, is treated like a lost stream.
        return call is None or all(uri in call.honoured for uri in uris if uri in self._uris)

    def _agree(self, uris: list[str], honoured: set[str]) -> None:
        for uri in uris:
            agreed = self._uris.get(uri)
            if agreed is None or agreed.done():
                continue
            if uri in honoured:
                agreed.set_result(None)
            else:
                self._fail(uri, OutcomeUnknown("upstream_protocol", f"the upstream offers no updates of {uri[:200]!r}"))

    def _refuse(self, uris: list[str], call: ListenCall) -> None:
        """Handle a missing acknowledgement. URIs without an earlier one fail; the others stay for the next attempt."""
        error: BaseException | None = call.future.exception() if call.future.done() else None
        if not call.future.done():
            _drop(call)
        if not isinstance(error, CallError):
            error = OutcomeUnknown("timeout", "the upstream did not acknowledge the subscription")
        for uri in uris:
            if (agreed := self._uris.get(uri)) is not None and not agreed.done():
                self._fail(uri, error)

    def _fail(self, uri: str, error: CallError) -> None:
        agreed = self._uris.pop(uri)
        agreed.set_exception(error)
        agreed.exception()  # marks the exception as retrieved, in case no task waits any more
        if not self._uris:
            self._changed.set()  # a stream without URIs is closed

    async def close(self) -> None:
        """Stop listening."""
        await cancel(self._task)
        if self._call is not None:
            _drop(self._call)
        for uri in [uri for uri, agreed in self._uris.items() if not agreed.done()]:
            self._fail(uri, NotDelivered("upstream_unavailable", "the upstream session was closed"))


def _drop(call: ListenCall) -> None:
    """Close the call's stream and ignore how it ends."""
    call.future.add_done_callback(lambda done: done.cancelled() or done.exception())
    call.stop("the subscriptions changed")
    if not call.future.done():
        call.future.cancel()
