"""The interface of a transport, and the table of transports. Counterpart: ``shared.transports``.

A transport is one file that moves bytes and registers itself here. ``worker.transports`` imports them all.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from msgspec import Struct

from shared.mcp.versions import Era
from shared.tasks import spawn
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.sessions.context import SessionContext
from worker.sessions.handshake import kept
from worker.sessions.session import Session


class UpstreamFacts(Struct, frozen=True):
    """What is known of an upstream after it was reached."""

    eras: tuple[str, ...]
    transport: str
    url: str = ""
    sessionful: bool = False
    protocol_version: str = ""
    capabilities: dict[str, Any] = {}
    instructions: str = ""


class Reached(Struct):
    """The outcome of reaching an upstream: the facts, and the session that is left open for listing and health
    checks."""

    facts: UpstreamFacts
    session: Session


class Pool(Protocol):
    """What all sessions of one upstream share."""

    def trim(self) -> None:
        """Drop what has been idle for too long. Called about once a second."""

    def close(self) -> None:
        """Close everything."""


class TransportDriver(Protocol):
    """The interface that each transport of this package implements."""

    async def reach(self, context: SessionContext) -> Reached:
        """Reach the upstream and find its eras. Raises ``CallError`` with the reason; then nothing stays open."""

    def make_pool(self, context: SessionContext, facts: UpstreamFacts) -> Pool | None:
        """Return what the sessions of an upstream share, or ``None`` if they share nothing."""

    def make_session(
        self,
        context: SessionContext,
        era: Era,
        pool: Pool | None,
        client: ClientFacts = NOBODY,
        sid_of_client: str = "",
    ) -> Session:
        """Return a session that is opened when first used."""


DRIVERS: dict[str, TransportDriver] = {}
"""Every transport by its name in ``shared.transports``."""


def facts_of(
    eras: tuple[str, ...], transport: str, url: str, sessionful: bool, version: str, said: dict[str, Any]
) -> UpstreamFacts:
    """Return the facts. ``said`` is the upstream's answer to ``initialize`` or ``server/discover``."""
    said = kept(said)
    return UpstreamFacts(
        eras, transport, url, sessionful, version, declared(said.get("capabilities")), said.get("instructions", "")
    )


def declared(capabilities: Any) -> dict[str, Any]:
    """Return the capabilities that an upstream declares, each an object. ``true`` is taken for one, and so is ``[]``,
    which is how PHP writes an empty object."""
    if not isinstance(capabilities, dict):
        return {}
    return {
        name: value if isinstance(value, dict) else {}
        for name, value in capabilities.items()
        if isinstance(value, dict) or value is True or value == []
    }


async def opened(session: Session) -> None:
    try:
        await session.open()
    except BaseException:
        await end(session)
        raise


async def end(session: Session) -> None:
    """Close ``session``, and wait for the end even if this task is cancelled meanwhile: no other code knows of its
    child."""
    closing = spawn(session.close(), f"close {session.context.spec.id}")
    asked: asyncio.CancelledError | None = None
    while not closing.done():
        try:
            await asyncio.wait({closing})
        except asyncio.CancelledError as error:
            asked = error
    if asked is not None:
        raise asked
