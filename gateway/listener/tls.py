"""TLS of the listener: connections until their handshake is over, and certificates that are read again on a change.

A connection gets the context that is current when it comes, and keeps it: reading new files disturbs none. What is
behind the handshake is ``listener.connection``, as without TLS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.access.client_certificate import Certificates, ClientCertificate
from gateway.http.bodies import peer_of
from gateway.listener.connection import ClientConnection, SharedLane
from gateway.listener.heads import CertifiedHeads
from gateway.listener.room import Room
from shared import tls
from shared.errors import ConfigError, Refused
from shared.nested_settings import TlsSettings

_log = logging.getLogger(__name__)
_LOOK_S = 1.0
Stamp = tuple[tuple[int, int, int] | None, ...]


class ListenerTls:
    """The current ``context``. Raises ``ConfigError`` where the files cannot be used."""

    def __init__(self, settings: TlsSettings, certificates: Certificates | None = None) -> None:
        """``certificates`` are those that clients show, where they are asked for."""
        self.certificates = certificates
        self._settings = settings
        self._authorities = _content(settings.tls_client_ca)
        self._stamp = self._look()
        self.context = context_of(settings)

    async def follow(self, on_distrust: Callable[[], None]) -> None:
        """Read the files again whenever they have changed, until cancelled. ``on_distrust`` is called when connections
        have to end whose certificates other authorities verified.

        They are read once they have stayed the same for a look, as certificate and key are seldom replaced at the same
        instant. Files that cannot be used are logged, and what was read before stays.
        """
        before = self._stamp
        while True:
            await asyncio.sleep(_LOOK_S)
            now = await asyncio.to_thread(self._look)
            if now == before != self._stamp:
                self._stamp = now
                await self._renew(on_distrust)
            before = now

    async def _renew(self, on_distrust: Callable[[], None]) -> None:
        try:
            context = await asyncio.to_thread(context_of, self._settings)
        except ConfigError as error:
            _log.error("the files of 'tls' have changed and are not used; those read before stay in use: %s", error)
            return
        authorities = await asyncio.to_thread(_content, self._settings.tls_client_ca)
        self.context = (
            context  # in one step with the end of trust: no connection is verified by one and counted by the other
        )
        _log.warning("the files of 'tls' have changed: new connections get the new certificate")
        if authorities != self._authorities and self.certificates is not None:
            self._authorities = authorities
            self.certificates.distrust()
            on_distrust()
            _log.warning("tls.clientCa has changed: connections with client certificates end, and may be made again")

    def _look(self) -> Stamp:
        settings = self._settings
        return tuple(map(_stamp, (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca)))


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what tells one version of a file from the next. Links are followed: Kubernetes exchanges a link."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError:
        return b""


def context_of(settings: TlsSettings) -> ssl.SSLContext:
    """Return the context that the settings describe. Raises ``ConfigError``."""
    context = tls.server_context(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca)
    if note := tls.expiry_note(settings.tls_cert_file):
        _log.warning("%s", note)
    return context


class Handshake:
    """A connection whose handshake is under way, as a guest of the room: it takes a place, and is the first that has to
    go when there is none left."""

    def __init__(self, room: Room, transport: asyncio.Transport, now: float) -> None:
        """Raises ``Refused``."""
        self.peer = peer_of(transport)
        self._room = room
        self._transport = transport
        self._since = now
        room.enter(self, now)

    def idle_since(self) -> float | None:
        """Return when it came: before the handshake there is no request that would be lost."""
        return self._since

    def make_way(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def over(self) -> None:
        """Give the place back."""
        self._room.leave(self)


class TlsConnection(ClientConnection):
    """A client connection behind a ``Door``."""

    __slots__ = ("_certificate", "_certificates", "_generation", "_shown_on", "door")

    def __init__(self, lane: SharedLane, certificates: Certificates | None) -> None:
        super().__init__(lane)
        self.door: Any = None
        self._certificates = certificates
        self._generation = certificates.generation if certificates is not None else 0
        self._certificate: ClientCertificate | None = None
        self._shown_on: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door, self.door = self.door, None
        door.passed()
        if self._certificates is not None:
            raw = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            address = transport.get_extra_info("peername")
            if raw is not None and self._certificates.is_callers(address[0] if address else None):
                self._shown_on = transport
                self._certificate = self._certificates.begun(transport, raw, self._generation)
                self._heads = CertifiedHeads(self._lane.heads, self._certificate)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._certificates is not None:
            self._certificates.ended(self._shown_on)
        super().connection_lost(exc)

    @property
    def stale(self) -> bool:
        """Whether the authorities that its certificate was verified with are not those of now."""
        return self._certificate is not None and not self._certificate.trusted


def doors(lane: SharedLane, files: ListenerTls, limit_s: float) -> Callable[[], asyncio.BaseProtocol]:
    """Return the protocol factory of an HTTPS listener. A handshake that takes longer than ``limit_s`` is ended."""

    class Door(tls.ssl_protocol(lane.loop)):  # type: ignore[misc]
        """TLS on one connection, which counts as one from its beginning on, not when its handshake is over."""

        handshake: Handshake | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            try:
                self.handshake = Handshake(lane.room, transport, lane.loop.time())
            except Refused:
                transport.abort()  # before the handshake there is no telling why
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            self.passed()
            super().connection_lost(exc)

        def passed(self) -> None:
            """Note that the handshake is over."""
            handshake, self.handshake = self.handshake, None
            if handshake is not None:
                handshake.over()

    def make() -> asyncio.BaseProtocol:
        connection = TlsConnection(lane, files.certificates)
        door: asyncio.BaseProtocol = Door(
            lane.loop, connection, files.context, None, server_side=True, ssl_handshake_timeout=limit_s
        )
        connection.door = door
        return door

    return make
