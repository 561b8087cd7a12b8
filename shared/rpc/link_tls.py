"""TLS of links over TCP: contexts of both ends, and how a worker sees which of them a connection speaks.

TLS 1.3 hides and protects what is said. Who is at the other end is proven inside (``shared.rpc.handshake``): both
proofs are over the *channel*, the digest of the certificate that the worker shows (RFC 5929, ``tls-server-end-point``).
A worker makes that certificate anew at each start. Whoever stands between has another one, and with it another
channel. With an authority of the fleet (``link.caFile``) both ends show certificates which it has signed, too.

The certificate does not come from the fleet's key: a worker would show whoever connects something on which to try out
secrets (docs/decisions/034-tls.md). Unix sockets need none of this.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from msgspec import Struct

from shared import tls
from shared.errors import ConfigError
from shared.nested_settings import LinkSettings
from shared.rpc.connection import Link
from shared.rpc.handshake import HandshakeError, channel_of
from shared.rpc.peer_credentials import place

OFFER = "tls"
"""The member of a worker's record that says how it takes links over TCP: ``auto``, ``required``, or empty for without
TLS."""
SILENCE_S = 1.0
"""A front end that speaks TLS begins at once. One of an earlier release waits for the worker to begin: after so long,
where that is allowed, the worker does. It gives up after three."""
_CLIENT_HELLO = 0x16
"""The first byte of whoever speaks TLS (RFC 8446 section 5.1: a record of type handshake)."""


class WorkerTls(Struct, frozen=True):
    """A worker's end: ``channel`` is the digest of its certificate. ``required``: others are refused."""

    context: ssl.SSLContext
    channel: bytes
    required: bool


class FrontEndTls(Struct, frozen=True):
    """A front end's end. ``required``: workers that offer no TLS are refused."""

    context: ssl.SSLContext
    required: bool


def check(settings: LinkSettings) -> None:
    """Raise ``ConfigError`` for settings that belong together and do not come together."""
    files = (settings.link_ca_file, settings.link_cert_file)
    if any(files) and not all(files):
        text = "caFile and certFile belong together: each process shows a certificate that the authority has signed"
        raise ConfigError([("link", text)])
    if settings.link_key_file and not settings.link_cert_file:
        raise ConfigError([("link.keyFile", "is nothing without link.certFile")])
    if settings.link_ca_file and settings.link_tls == "off":
        raise ConfigError([("link.caFile", "means nothing while link.tls is 'off'")])


def of_worker(settings: LinkSettings) -> WorkerTls | None:
    """Return a worker's end, or ``None`` without TLS. Raises ``ConfigError``."""
    check(settings)
    if settings.link_tls == "off":
        return None
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    certificate = _load(context, settings) if settings.link_ca_file else _own_certificate(context)
    return WorkerTls(context, channel_of(certificate), settings.required)


def of_front_end(settings: LinkSettings) -> FrontEndTls | None:
    """Return a front end's end, or ``None`` without TLS. Raises ``ConfigError``."""
    check(settings)
    if settings.link_tls == "off":
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if settings.link_ca_file:
        _load(context, settings)
    return FrontEndTls(context, settings.required)


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the proofs name the worker and its address
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_TICKET  # links last, and nothing is resumed
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context


def _load(context: ssl.SSLContext, settings: LinkSettings) -> bytes:
    """Have both ends show certificates of the fleet's authority. Return this process's one (DER)."""
    tls.load_chain(context, settings.link_cert_file, settings.link_key_file, "link.certFile", "link.keyFile")
    context.verify_mode = ssl.CERT_REQUIRED
    tls.load_authorities(context, settings.link_ca_file, "link.caFile")
    text = tls.read_pem(settings.link_cert_file, "link.certFile").decode("ascii", "replace")
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") :].partition(end)[0] + end)


def _own_certificate(context: ssl.SSLContext) -> bytes:
    """Give ``context`` a certificate that was made just now, for this process alone. Return it (DER)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mcp-gateway link")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=36_500))
        .sign(key, None)
    )
    passphrase = os.urandom(32)  # OpenSSL takes files only, and a key is never in one that others could use
    locked = serialization.BestAvailableEncryption(passphrase)
    pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
    )
    with tempfile.TemporaryDirectory(prefix="gateway-link-") as folder:
        file = Path(folder) / "link.pem"
        file.touch(mode=0o600)
        file.write_bytes(pem)
        context.load_cert_chain(file, password=passphrase)
    return made.public_bytes(serialization.Encoding.DER)


class Arrivals(Protocol):
    """Who takes connections in. ``worker.rpc_server`` implements it."""

    def link_on(
        self, arriving: Arriving, transport: asyncio.Transport, channel: bytes
    ) -> tuple[Link, Callable[[BaseException | None], None]]:
        """Return the link for a connection, which speaks TLS if ``channel`` is not empty, and what is to be called if
        its TLS fails."""

    def left(self, arriving: Arriving, error: HandshakeError | None) -> None:
        """Note that a connection is gone that never became a link. ``error`` is worth saying, if there is one."""


class Arriving(asyncio.Protocol):
    """A connection to a worker until it is seen whether it speaks TLS, and until its TLS stands."""

    def __init__(self, worker: WorkerTls, arrivals: Arrivals, limit_s: float) -> None:
        self._worker = worker
        self._arrivals = arrivals
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def place(self) -> str:
        """Where the other end is, for a log."""
        return place(None, None if self._transport is None else self._transport.get_extra_info("peername"))

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        wait_s = self._limit_s if self._worker.required else SILENCE_S
        self._timer = self._loop.call_later(wait_s, self._silent)

    def data_received(self, data: bytes) -> None:
        if data[0] == _CLIENT_HELLO:
            self._secure(data)
        elif self._worker.required:
            self._refuse()
        else:
            self._plain(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._decided()
        self._arrivals.left(self, None)

    # ---- what it speaks

    def _silent(self) -> None:
        if self._worker.required:
            self._refuse()
        else:
            self._plain(b"")

    def _decided(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _refuse(self) -> None:
        self._decided()
        self._arrivals.left(self, HandshakeError("it speaks no TLS, without which no links are made here (link.tls)"))
        self.abort()

    def _plain(self, data: bytes) -> None:
        self._decided()
        assert self._transport is not None
        self._become(self._arrivals.link_on(self, self._transport, b"")[0], data)

    def _secure(self, data: bytes) -> None:
        self._decided()
        assert self._transport is not None
        link, failed = self._arrivals.link_on(self, self._transport, self._worker.channel)
        standing: asyncio.Future[None] = self._loop.create_future()

        def over(future: asyncio.Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if not link.connected:  # else the link has its own end
                failed(error)

        standing.add_done_callback(over)
        make = tls.ssl_protocol(self._loop)
        between = make(
            self._loop, link, self._worker.context, standing, server_side=True, ssl_handshake_timeout=self._limit_s
        )
        self._become(between, data)

    def _become(self, protocol: asyncio.BufferedProtocol, data: bytes) -> None:
        """Have ``protocol`` take the connection over, with what has come already."""
        transport = self._transport
        assert transport is not None
        transport.pause_reading()  # how bytes are read depends on the protocol
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        feed(protocol, data)
        if not transport.is_closing():
            transport.resume_reading()


def feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Give bytes to a protocol as a transport does."""
    rest = memoryview(data)
    while rest:
        room = memoryview(protocol.get_buffer(len(rest)))
        size = min(len(room), len(rest))
        room[:size] = rest[:size]
        protocol.buffer_updated(size)
        rest = rest[size:]
