"""Client sessions of the handshake era: any front end can serve a session, and a session ends at all of them at once.

A session id is sealed and describes the session (``shared.secrets``). A front end that meets a new id reads the other
facts of the session from Redis once; while Redis is away the id alone suffices. The end of a session is confirmed when
every live front end knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from gateway.sessions.room import SessionRoom
from gateway.sessions.session import ClientSession
from shared.errors import Refused, RegistryUnavailable
from shared.registry.client import translated
from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.secrets import MAX_SESSION_ID, FleetKey, SessionClaims, digest
from shared.settings import SessionSettings
from shared.tasks import spawn

_log = logging.getLogger(__name__)
_CACHED = 100_000
_ENDED = 100_000
_FORGET_S = 60.0
"""That a session has ended is remembered for so much longer than an unused session lives: clocks differ."""
_BATCH = 500
_BETWEEN_LOGS_S = 60.0
_ROUNDS = 200  # of small integers, which Python shares
_LONGEST_TOUCH_S = 300.0
"""The longest time between two extensions of a session's life in Redis; sessions with a short life are extended more
often."""


class SessionTable:
    """The client sessions that this front end knows, and their facts in Redis.

    ``known`` has the sessions by id. ``frontend`` is this front end's id.
    """

    def __init__(
        self,
        store: RegistryStore,
        frontends: Members,
        frontend: str,
        key: FleetKey,
        settings: SessionSettings,
    ) -> None:
        self._store = store
        self._frontends = frontends
        self._frontend = frontend
        self._key = key
        self._settings = settings
        self._ttl_ms = int(settings.session_ttl_s * 1000)
        self._touch_s = min(_LONGEST_TOUCH_S, settings.session_ttl_s / 12)
        self._loop = asyncio.get_running_loop()
        self.known: dict[str, ClientSession] = {}
        self._round = 0
        self._room = SessionRoom(settings.max_client_sessions, settings.max_client_sessions_per_peer)
        self._drop_listeners: list[Callable[[str], None]] = []
        self._ended: dict[int, float] = {}
        """When sessions ended (loop time), by hashes of their ids, of which one has some 150 bytes. After as long as an
        unused session lives, its id alone says that it is over."""
        self._flushed_at = self._loop.time()
        self._logged_at = float("-inf")
        self._touched: dict[str, None] = {}
        self._unsaved: dict[str, None] = {}  # sessions of which Redis does not know yet, because it was away

    # ---- opening and finding

    async def open(
        self,
        version: str,
        principal: str,
        endpoint: str,
        capabilities: bytes,
        client_info: bytes,
        holder: str = "",
        peer: str = "",
    ) -> ClientSession:
        """Open a session and write its facts to Redis. Without Redis the session works by its sealed id alone.

        ``holder`` is the front end that holds its HTTP+SSE stream, or empty. ``capabilities`` and ``client_info`` are
        JSON. ``peer`` is whom its client is counted to. Raises ``Refused`` if the names of principal and endpoint are
        too long for a session id.
        """
        claims = SessionClaims(int(time.time()), version, principal, digest(capabilities), endpoint, os.urandom(8))
        sid = self._key.seal_session(claims)
        if len(sid) > MAX_SESSION_ID:
            raise Refused("invalid_request", "the names of caller and endpoint are too long for a session id")
        session = ClientSession(sid, version, principal, endpoint)
        session.capabilities, session.client_info, session.holder = capabilities, client_info, holder
        session.initialized = not holder
        session.fresh = True
        self._remember(session)
        for old in self._room.enter(session, peer, len(capabilities) + len(client_info), self._loop.time()):
            spawn(self._end_unused(old), "end-session")
        await self.save(session)
        return session

    async def _end_unused(self, sid: str) -> None:
        with contextlib.suppress(RegistryUnavailable):
            await self._store.run_script("END_SESSION", sid)
        self.forget(sid)

    async def save(self, session: ClientSession) -> None:
        """Write a session's facts to Redis, unless the session has ended meanwhile."""
        said: dict[str, str | bytes] = {
            "version": session.version,
            "capabilities": session.capabilities,
            "client_info": session.client_info,
            "initialized": "1" if session.initialized else "0",
        }
        facts = {
            **self._store.seals.sign_fields("session", session.sid, said),
            "principal": session.principal,
            "scope": session.endpoint,
            "holder": session.holder,
            "created_at": str(int(time.time())),
            "log_level": session.log_level,
            **{f"pin:{group}": replica for group, replica in session.pins.items()},
            **{f"sub:{uri}": "1" for uri in session.subscriptions},
        }
        fields = [part for fact in facts.items() for part in fact]
        try:
            await self._store.run_script("SAVE", session.sid, str(self._ttl_ms), *fields)
            self._unsaved.pop(session.sid, None)
        except RegistryUnavailable as error:
            if session.known:
                self._unsaved[session.sid] = None
            if self._loop.time() - self._logged_at > _BETWEEN_LOGS_S:
                self._logged_at = self._loop.time()
                _log.warning("sessions are known by their seals alone meanwhile: %s", error)

    def _remember(self, session: ClientSession) -> None:
        if len(self.known) >= _CACHED:
            self._drop(next(iter(self.known)))
        session.touched_at, session.round = self._loop.time(), self._round
        self.known[session.sid] = session
        session.known = True

    def tell_of_dropped(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the id of each session that is not known any more."""
        self._drop_listeners.append(listener)

    def _drop(self, sid: str) -> ClientSession | None:
        session = self.known.pop(sid, None)
        self._room.leave(sid)
        self._unsaved.pop(sid, None)
        if session is not None:
            session.known = False
            for listener in self._drop_listeners:
                listener(sid)
        return session

    def cached(self, sid: str, principal: str | None = None) -> ClientSession | None:
        """Return the session and note that it is in use, or return ``None`` if this front end does not know it, or
        knows it as that of another ``principal``."""
        session = self.known.get(sid)
        if session is not None and principal is not None and session.principal != principal:
            return None
        if session is not None and session.round != self._round:
            self._touch(session)
        return session

    def again(self, session: ClientSession) -> bool:
        """Return whether a session that was found earlier is still known, and note that the session is in use."""
        if session.known and session.round != self._round:
            self._touch(session)
        return session.known

    def _touch(self, session: ClientSession) -> None:
        session.round, session.touched_at = self._round, self._loop.time()
        self._touched[session.sid] = None

    async def find(self, sid: str, used: bool = True, principal: str | None = None) -> ClientSession | None:
        """Return the session, read from Redis if needed, or ``None`` if it is unknown, ended, expired, or not sealed by
        this fleet. The client of such an id gets 404.

        ``used``: the session's client uses it, which keeps it alive. A message for the client does not. ``principal``
        is who asks: the session of another one takes the way of an id that nobody made, in as many steps.
        """
        if principal is not None:
            claims = self._key.open_session(sid)
            if claims is None or claims.principal != principal:
                return None
        session = self.cached(sid) if used else self.known.get(sid)
        if session is not None or hash(sid) in self._ended:
            return session
        claims = self._key.open_session(sid)
        if claims is None:
            return None
        session = ClientSession(sid, claims.version, claims.principal, claims.scope)
        try:
            async with translated():
                facts: dict[bytes, bytes] = await self._store.redis.hgetall(self._store.keys.session(sid))
            lost = not facts and await self._is_lost(sid, claims.created)
        except RegistryUnavailable:
            return session if time.time() - claims.created < self._settings.session_ttl_s else None
        if not (facts or lost) or hash(sid) in self._ended:
            return None
        if (first := self.known.get(sid)) is not None:
            return first  # another request found it meanwhile: a session must have one object only
        if lost and time.time() - claims.created >= self._settings.session_ttl_s:
            return None
        self._apply(session, facts)
        if used:
            self._remember(session)
            self._touched[sid] = None  # and so it is written back, if Redis has lost it
        return session

    async def _is_lost(self, sid: str, created: int) -> bool:
        """Whether Redis was emptied since a session was opened, and does not know of its end. That it does not have the
        session then says nothing. Raises ``RegistryUnavailable``."""
        async with translated():
            ended = await self._store.redis.exists(self._store.keys.ended(sid))
        return not ended and await self._memory_of_redis() > created

    async def _memory_of_redis(self) -> float:
        """Return since when Redis has what is written to it, in Unix seconds. Raises ``RegistryUnavailable``."""
        async with translated():
            epoch = await self._store.redis.get(self._store.keys.epoch)
        began = (epoch or b"").partition(b"-")[0]
        return int(began) if began.isdigit() else float("inf")  # emptied, and nothing was written since

    async def refresh(self, session: ClientSession) -> None:
        """Read the session's facts from Redis again: its client may have sent ``initialize`` to another front end."""
        try:
            async with translated():
                facts: dict[bytes, bytes] = await self._store.redis.hgetall(self._store.keys.session(session.sid))
        except RegistryUnavailable:
            return
        if facts:
            self._apply(session, facts)

    def _apply(self, session: ClientSession, facts: dict[bytes, bytes]) -> None:
        said = self._said(session, facts)
        session.version = sys.intern(_text(said.get(b"version", session.version.encode())))
        session.capabilities = said.get(b"capabilities", b"{}")
        session.client_info = said.get(b"client_info", b"")
        session.holder = _text(facts.get(b"holder", b""))
        session.initialized = said.get(b"initialized", b"1") == b"1"
        session.log_level = _text(facts.get(b"log_level", b""))
        for field, value in facts.items():
            if field.startswith(b"pin:"):
                session.pins[_text(field[4:])] = _text(value)
            elif field.startswith(b"sub:"):
                session.subscriptions.add(_text(field[4:]))

    def _said(self, session: ClientSession, facts: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Return what the client said of itself, as a front end of this fleet wrote it: signed, or as the session id
        has it. So who writes to Redis gives no client capabilities."""
        seals = self._store.seals
        said = seals.signed_fields("session", session.sid, facts)
        if said is not None:
            return said
        claims, capabilities = self._key.open_session(session.sid), facts.get(b"capabilities", b"")
        same = claims is not None and claims.capabilities_digest == digest(capabilities)
        return {b"capabilities": capabilities} if same else {}

    # ---- subscriptions and log levels

    async def note(self, session: ClientSession, field: str, value: str | None) -> str | None:
        """Write one fact of a session to Redis for other front ends, or remove it if ``value`` is ``None``.

        Return the earlier value of a fact that was written. Return ``None`` for a removal, and if Redis has no such
        session, because the session has ended or Redis was away.
        """
        try:
            if value is not None:
                before = await self._store.run_script("NOTE", session.sid, str(self._ttl_ms), field, value)
                return bytes(before).decode() if before is not None else None
            async with translated():
                await self._store.redis.hdel(self._store.keys.session(session.sid), field)
        except RegistryUnavailable:
            _log.warning("what a session asked for while Redis is away is known to this front end alone")
        return None

    async def noted(self, sid: str, field: str) -> str:
        """Return what ``note`` wrote last, or an empty string. Raises ``RegistryUnavailable``."""
        async with translated():
            found = await self._store.redis.hget(self._store.keys.session(sid), field)
        return bytes(found).decode() if found is not None else ""

    async def note_level(self, session: ClientSession, level: str) -> None:
        """Write the session's log level, and return when every live front end knows the level, or after 2 s.

        The wait is there so that no later call is served with an older level.
        """
        await self.note(session, "log_level", level)
        try:
            seen = await self._seen_by_all(int(await self._store.run_script("ANNOUNCE", f"level:{level}", session.sid)))
        except RegistryUnavailable:
            return  # ``note`` has logged it
        if not seen:
            _log.warning("a session's log level was set, but not every front end confirmed it in 2 s")

    async def note_subscription(self, session: ClientSession, uri: str, on: bool) -> None:
        """Write that a session subscribed to a resource or not (``on``), for the front end that holds its stream."""
        (session.subscriptions.add if on else session.subscriptions.discard)(uri)
        await self.note(session, f"sub:{uri}", "1" if on else None)

    async def subscriptions(self, session: ClientSession) -> set[str]:
        """Return the URIs that a session is subscribed to, from Redis, or as known here while Redis is away."""
        try:
            async with translated():
                fields = await self._store.redis.hkeys(self._store.keys.session(session.sid))
        except RegistryUnavailable:
            return set(session.subscriptions)
        session.subscriptions = {_text(field[4:]) for field in fields if field.startswith(b"sub:")}
        return set(session.subscriptions)

    # ---- binding to replicas

    async def pin(self, session: ClientSession, group: str, replica: str, instead_of: str | None) -> str:
        """Bind the session to ``replica`` of a group, and return the replica to which all front ends bind it.

        That is another one if the session is bound already, unless it is bound to ``instead_of``.
        """
        ttl, field = str(self._ttl_ms), f"pin:{group}"
        try:
            bound = await self._store.run_script("PIN", session.sid, ttl, field, replica, instead_of or "")
            if bound is not None:  # else the session has ended, or was opened while Redis was away
                replica = bytes(bound).decode()
        except RegistryUnavailable:
            pass  # every front end decides alone until Redis is back
        session.pins[group] = replica
        return replica

    # ---- ending

    async def end(self, sid: str) -> None:
        """End a session, and return when every live front end knows, or after 2 s. Raises ``RegistryUnavailable``."""
        sequence = int(await self._store.run_script("END_SESSION", sid))
        self.forget(sid)
        if not await self._seen_by_all(sequence):
            _log.warning("a session ended, but not every front end confirmed it in 2 s")

    async def _seen_by_all(self, sequence: int) -> bool:
        """Wait until the record of every live front end says that it applied this change.

        Return False if that takes longer than 2 s.
        """
        deadline = self._loop.time() + 2.0
        while self._loop.time() < deadline:
            alive = await self._frontends.alive()
            behind = [
                id for id, facts in alive.items() if id != self._frontend and int(facts.get("seen", "0")) < sequence
            ]
            if not behind:
                return True
            await asyncio.sleep(0.005)
        return False

    def forget(self, sid: str) -> ClientSession | None:
        """Note that a session has ended, here or at another front end; return it if this front end knew it."""
        if len(self._ended) >= _ENDED:
            self._ended.pop(next(iter(self._ended)))
        self._ended[hash(sid)] = self._flushed_at
        self._touched.pop(sid, None)
        session = self._drop(sid)
        if session is not None:
            session.ended = True
        return session

    async def flush(self) -> None:
        """Extend the life in Redis of sessions that were used, in one batch. Raises ``RegistryUnavailable``."""
        self._flushed_at = now = self._loop.time()
        self._round = int(now / self._touch_s) % _ROUNDS
        while self._ended and now - next(iter(self._ended.values())) > self._settings.session_ttl_s + _FORGET_S:
            del self._ended[next(iter(self._ended))]
        touched, self._touched = list({**self._touched, **self._unsaved}), {}
        if not touched:
            return
        async with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for sid in touched:
                pipe.pexpire(self._store.keys.session(sid), self._ttl_ms)
            alive = await pipe.execute()
        for sid, there in zip(touched, alive, strict=True):
            session = self.known.get(sid)
            if not there and session is not None:
                await self.save(session)  # Redis was emptied, but the session is alive here

    async def trim(self) -> dict[str, bool]:
        """Drop sessions that were not used here for the whole time that a session lives without use.

        Return whether each of them is over, by id: a session that is not over is in use at another front end. Raises
        ``RegistryUnavailable``; then no session is dropped.
        """
        limit = self._loop.time() - self._settings.session_ttl_s

        def unused(sid: str) -> bool:
            session = self.known.get(sid)
            return session is not None and session.touched_at < limit and session.under_way is None

        idle = list(filter(unused, self.known))
        if not idle:
            return {}
        async with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for sid in idle:
                pipe.exists(self._store.keys.session(sid))
            alive = await pipe.execute()
        dropped = {sid: not there for sid, there in zip(idle, alive, strict=True) if unused(sid)}
        for sid in dropped:
            self._drop(sid)
        return dropped

    async def recheck(self) -> None:
        """Compare the sessions without calls with Redis, after a gap in the change log. Raises ``RegistryUnavailable``.

        The end of a session may have been missed: a session that Redis does not have is forgotten, and any other is
        read again when it is used. A session that was opened while Redis was away is written now, and one that was
        opened before Redis was emptied is written back.
        """
        idle = [session for session in self.known.values() if session.under_way is None]
        began = await self._memory_of_redis()
        for start in range(0, len(idle), _BATCH):
            batch = idle[start : start + _BATCH]
            async with translated():
                pipe = self._store.redis.pipeline(transaction=False)
                for session in batch:
                    pipe.exists(self._store.keys.session(session.sid))
                there = await pipe.execute()
            for session, exists in zip(batch, there, strict=True):
                claims = None if exists else self._key.open_session(session.sid)
                if claims is None or (began <= claims.created and session.sid not in self._unsaved):
                    self._drop(session.sid)
                elif session.known:
                    await self.save(session)

    async def listing(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Return up to ``limit`` live sessions for the admin API.

        Their ids are shortened, because a whole id is enough to act as the client.
        """
        found: list[dict[str, Any]] = []
        prefix = self._store.keys.session("")
        async with translated():
            async for key in self._store.redis.scan_iter(match=prefix + "*", count=500):
                facts = await self._store.redis.hgetall(key)
                sid = key.decode().removeprefix(prefix)
                found.append(
                    {
                        "id": digest(sid.encode()).hex(),
                        "version": _text(facts.get(b"version", b"")),
                        "principal": _text(facts.get(b"principal", b"")),
                        "scope": _text(facts.get(b"scope", b"")),
                        "createdAt": int(at) if (at := facts.get(b"created_at", b"0")[:12]).isdigit() else 0,
                    }
                )
                if len(found) >= limit:
                    break
        return found

    async def revoke(self, short: str) -> bool:
        """End the session whose shortened id is ``short``. Return False if there is none."""
        prefix = self._store.keys.session("")
        found = ""
        async with translated():
            async for key in self._store.redis.scan_iter(match=prefix + "*", count=500):
                sid = key.decode().removeprefix(prefix)
                if digest(sid.encode()).hex() == short:
                    found = sid
                    break
        if found:
            await self.end(found)
        return bool(found)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
