"""Rules of access that change while a front end runs: everything that goes by them is told, in one step.

The supervisor writes them (``shared.live_rules``) when the configuration file has changed. Requests that begin
afterwards go by the new rules, calls under way end as they began, client sessions stay. A stream whose caller may do
something else now is told that all lists have changed and ends: its client opens another one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from gateway.access.api_keys import ApiKeys
from gateway.access.limits import Limits
from gateway.access.policy import RolePolicy
from gateway.admission.authentication import Authentication
from gateway.fleet.registry_view import RegistryView
from gateway.streams.open_streams import OpenStreams
from shared.access import rules as access_rules
from shared.access.changes import needing_restart
from shared.access.methods import ApiKeyMethod
from shared.access.rules import AccessRules
from shared.errors import ConfigError
from shared.live_rules import Board
from shared.mcp.listings import CHANGES
from shared.settings import Settings

_log = logging.getLogger(__name__)
_LOOK_S = 0.2
_AT_ONCE = 50
"""After so many streams others have their turn: with many roles, finding those of a caller takes a while."""


class HasRules(Protocol):
    """Who goes by the rules."""

    rules: AccessRules


def rules_now(settings: Settings, board: Board | None) -> AccessRules:
    """Return the rules that a process begins with: those that came last. Raises ``ConfigError``."""
    text = (board.read() if board is not None else None) or settings.access.access_rules
    return access_rules.of_settings(text, settings.access.anonymous, settings.tls.tls_client_ca)


def policy_of(rules: AccessRules) -> RolePolicy | None:
    """Return what the rules hide from whom, or ``None`` if everybody sees everything."""
    return RolePolicy(rules) if rules.roles or rules.confirm is not None else None


class LiveRules:
    """Follows a ``board``. ``others`` hold the rules and look at them when they are asked."""

    def __init__(
        self,
        board: Board,
        settings: Settings,
        authentication: Authentication,
        keys: ApiKeys | None,
        limits: Limits,
        registry: RegistryView,
        streams: OpenStreams,
        others: tuple[HasRules, ...],
    ) -> None:
        self._board = board
        self._settings = settings
        self._authentication = authentication
        self._keys = keys
        self._limits = limits
        self._registry = registry
        self._streams = streams
        self._others = others
        self._mark = b""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            mark = self._board.mark()
            if mark == self._mark:
                continue
            try:
                rules = rules_now(self._settings, self._board) if self._board.read() is not None else None
            except ConfigError as error:  # the supervisor has checked it
                self._mark = mark
                _log.error("changed rules of access are not taken, the old ones stay: %s", error)
                continue
            if rules is not None:
                self._mark = mark
                await self.take(rules)

    async def take(self, rules: AccessRules) -> None:
        """Go by other rules from now on."""
        before = self._others[0].rules
        if needing_restart(before, rules):
            _log.error("changed rules of access are not taken, the old ones stay: they need a restart")
            return
        for one in self._others:
            one.rules = rules
        method = rules.method(ApiKeyMethod)
        if self._keys is not None and method is not None:
            self._keys.take_method(method)
        self._limits.take(rules)
        self._authentication.take(rules)
        self._registry.take_policy(policy_of(rules))
        _log.info("the rules of access have changed")
        await self._tell_streams(before, rules)

    async def _tell_streams(self, before: AccessRules, after: AccessRules) -> None:
        for number, stream in enumerate(self._streams, 1):
            if stream.principal is not None and not stream.closing:
                now = self._authentication.again(stream.principal, before, after)
                if now is None:
                    stream.announce(set(CHANGES))
                    stream.close()
                else:
                    stream.principal = now
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
