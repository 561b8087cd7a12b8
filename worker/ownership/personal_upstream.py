"""An upstream that is called in the name of each caller: for every realm an ``Upstream`` of its own.

Sessions, connections, leases and subscriptions of two realms are two objects that know nothing of each other. What is
about the upstream itself, listing and probing, is done with the gateway's own credentials.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from shared.errors import CallError, NotDelivered, Refused
from shared.mcp.listings import Kind
from shared.mcp.versions import Era
from shared.models import UpstreamSpec
from shared.settings import Settings
from shared.tasks import spawn
from worker.bridge.inputs import url_required
from worker.calls.call import Call
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.observer import CallObserver
from worker.credentials.personal import Personal, PersonalCredentials
from worker.ownership.upstream import Upstream, UpstreamEvents, caller_of
from worker.sessions.context import UnsolicitedPath
from worker.sessions.resource_subscriptions import Watcher
from worker.sessions.session import Session
from worker.transports.transport import UpstreamFacts


class _Realm:
    """The upstream as one realm sees it."""

    def __init__(self, upstream: Upstream, credentials: Personal, principal: str, now: float) -> None:
        self.upstream = upstream
        self.credentials = credentials
        self.principal = principal
        self.used_at = now


class PersonalUpstream(Upstream):
    """See the module. It is an ``Upstream`` with the gateway's own credentials, whose calls go to those of realms."""

    def __init__(
        self,
        spec: UpstreamSpec,
        settings: Settings,
        incarnation: str,
        events: UpstreamEvents,
        unsolicited: UnsolicitedPath,
        log_line: Callable[[str], None],
        observer: CallObserver | None,
        credentials: PersonalCredentials,
    ) -> None:
        super().__init__(spec, settings, incarnation, events, unsolicited, log_line, observer, credentials.of_gateway)
        self._credentials = credentials
        self._realms: dict[str, _Realm] = {}
        self._made = (incarnation, events, unsolicited, log_line)
        self.subscriptions: Any = _Subscriptions(self)

    # ---- realms

    def _realm_of(self, call: Call) -> _Realm:
        """Return the realm of a call, which is made if it is new. Raises ``CallError``."""
        if call.session and call.client is NOBODY:
            raise NotDelivered("not_delivered", "the worker does not know the call's session yet")
        principal = call.client.principal
        key = self._credentials.realm(principal, call.subject_token)
        realm = self._realms.get(key)
        if realm is None:
            realm = self._open(key, principal, call.subject_token)
        realm.used_at = self._loop.time()
        realm.credentials.learn(call.subject_token)
        return realm

    def _open(self, key: str, principal: str, subject_token: str) -> _Realm:
        if self.facts is None or self._closed:
            raise NotDelivered("not_delivered", f"upstream {self.spec.id!r} is not connected here yet")
        limit = self.settings.upstreams.max_upstream_sessions
        if len(self._realms) >= limit and not self._forget_idle(0.0):
            raise NotDelivered(
                "overloaded", f"{limit} callers use upstream {self.spec.id!r} here, the limit (maxUpstreamSessions)"
            )
        credentials = self._credentials.of(principal, subject_token)
        incarnation, events, unsolicited, log_line = self._made
        upstream = Upstream(self.spec, self.settings, incarnation, events, unsolicited, log_line, None, credentials)
        upstream.join(self)
        upstream.adopt(self.facts)
        realm = self._realms[key] = _Realm(upstream, credentials, principal, self._loop.time())
        return realm

    def _forget_idle(self, idle_s: float) -> bool:
        """Close realms without calls and state that were not used for so long. Return whether there were any."""
        before = self._loop.time() - idle_s
        gone = [key for key, realm in self._realms.items() if realm.used_at <= before and not realm.upstream.busy]
        for key in gone:
            spawn(self._realms.pop(key).upstream.close(), "close-realm")
        return bool(gone)

    # ---- worker.ownership.upstream.Upstream

    def adopt(self, facts: UpstreamFacts, session: Session | None = None) -> None:
        super().adopt(facts, session)
        for realm in self._realms.values():
            realm.upstream.adopt(facts)

    def submit(self, call: Call) -> None:
        if self._gate is not None and call.observer is None:
            self._gate.enter(call, caller_of(call))
            return
        try:
            realm = self._realm_of(call)
        except CallError as error:
            call.fail(error)
            return
        if realm.credentials.current() is None:
            spawn(self._submit_or_ask(realm, call), "look-for-consent")
        else:
            realm.upstream.submit(call)

    async def _submit_or_ask(self, realm: _Realm, call: Call) -> None:
        """Submit a call, unless its caller has to connect in a browser first: then the client is told so, as an
        upstream would tell it."""
        if not await realm.credentials.missing():
            if not call.done:
                realm.upstream.submit(call)
            return
        link = self._credentials.link(realm.principal)
        call.upstream_era = Era.LEGACY
        message = f"Connect {self.spec.name} to your account, then try again"
        call.answer(True, url_required(link, message, os.urandom(12).hex()))

    def list_for(self, kind: Kind, call: Call) -> None:
        for realm in self._realms.values():
            if realm.upstream.has_client(call.session):
                realm.upstream.list_for(kind, call)
                return
        call.complete(False, b"null")

    def listen(self, call: Call) -> None:
        try:
            realm = self._realm_of(call)
        except CallError as error:
            call.fail(error)
            return
        realm.upstream.listen(call)

    def notify(self, sid: str, client: ClientFacts, message: bytes) -> None:
        for realm in self._realms.values():
            if realm.upstream.has_client(sid):
                realm.upstream.notify(sid, client, message)

    def was_cut_off(self) -> None:
        super().was_cut_off()
        for realm in self._realms.values():
            realm.upstream.was_cut_off()

    def roots_changed(self, sid: str) -> None:
        for realm in self._realms.values():
            realm.upstream.roots_changed(sid)

    def alive(self, sid: str) -> None:
        for realm in self._realms.values():
            realm.upstream.alive(sid)

    def end_client(self, sid: str) -> None:
        for realm in self._realms.values():
            realm.upstream.end_client(sid)

    def trim(self) -> None:
        super().trim()
        for realm in self._realms.values():
            realm.upstream.trim()
        self._forget_idle(self.settings.upstreams.upstream_session_idle_s)

    @property
    def keeps_state(self) -> bool:
        return any(realm.upstream.keeps_state for realm in self._realms.values())

    async def close_sessions(self) -> None:
        realms, self._realms = list(self._realms.values()), {}
        await super().close_sessions()
        await asyncio.gather(*(realm.upstream.close() for realm in realms), return_exceptions=True)


class _Subscriptions:
    """Subscriptions to resources, each in the realm whose client session has an upstream session of its own."""

    def __init__(self, upstream: PersonalUpstream) -> None:
        self._upstream = upstream

    def _of(self, sid: str) -> list[Upstream]:
        return [
            realm.upstream for realm in self._upstream._realms.values() if not sid or realm.upstream.has_client(sid)
        ]

    async def watch(self, watcher: Watcher, uri: str, sid: str, client: ClientFacts) -> None:
        """Subscribe to a resource. Raises ``CallError``."""
        found = self._of(sid) if sid else []
        if not found:
            raise Refused(
                "invalid_request",
                f"resources of {self._upstream.spec.id!r}, which is called in each caller's name, can be subscribed to "
                "only on a session of the client's own there, after a call",
            )
        await found[0].subscriptions.watch(watcher, uri, sid, client)

    def unwatch(self, watcher: Watcher, uri: str, sid: str) -> None:
        """End a watcher's subscription to a resource."""
        for one in self._of(""):
            one.subscriptions.unwatch(watcher, uri, sid)

    def forget(self, watcher: Watcher) -> None:
        """End all subscriptions of a watcher."""
        for one in self._of(""):
            one.subscriptions.forget(watcher)

    def end_client(self, sid: str) -> None:
        """Realms end what their clients have."""

    def uses(self, sid: str) -> bool:
        """Whether a client session has subscriptions on the gateway's own sessions: it has none."""
        return False

    def live_on(self, session: object) -> bool:
        """The same of an upstream session."""
        return False

    def renew(self, session: object) -> None:
        """Nothing is subscribed on the gateway's own sessions."""

    def updated(self, sid: str, params: bytes) -> None:
        """Nothing is subscribed on the gateway's own sessions."""

    async def close(self) -> None:
        """Realms close theirs."""

    def __bool__(self) -> bool:
        return any(bool(one.subscriptions) for one in self._of(""))
