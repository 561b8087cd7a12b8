"""Opening a connection to an HTTP upstream: name resolution, both address families, proxies, Unix sockets and TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import aiohappyeyeballs

from shared.connections import Tls
from shared.egress import Egress
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.http_names import NAMES

_NEXT_ADDRESS_S = 0.25
"""How long one address may take before the next one is tried beside it (RFC 8305 section 5)."""
_MAX_PROXY_HEAD = 16 * 1024
_CERTIFICATE_CURES = {
    9: "it is not valid yet: correct the clock of this machine or of the one that made it",
    10: "renew it, or correct the clock of this machine",
    62: "write the name that it has in tls.serverName, or in the url",
    64: "write the name that it has in tls.serverName, or in the url",
}
"""What helps, by OpenSSL's number for what is wrong with a certificate (``X509_V_ERR_…``)."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")
ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


async def dial(where: HttpEndpoint, make: Callable[[], ProtocolT], egress: Egress) -> ProtocolT:
    """Return a connected protocol that ``make`` made. Raises ``OSError`` or ``ValueError`` with the reason."""
    loop = asyncio.get_running_loop()
    if where.problem:
        raise ValueError(where.problem)
    if where.socket_path:
        _, connected = await loop.create_unix_connection(make, where.socket_path)
        return connected
    tls = _context(where) if where.tls else None
    name = ((where.tls_options.server_name if where.tls_options else "") or where.host) if tls else None
    if where.proxy is not None:
        refused = egress.refusal_of_host(where.host)
        if refused:
            raise OSError(refused)
        return await _dial_through_proxy(where, make, tls, name, egress)
    try:
        return await _connected(where.host, where.port, make, egress, tls, name)
    except ssl.SSLError as error:
        raise OSError(_tls_words(error)) from error


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        cure = _CERTIFICATE_CURES.get(error.verify_code, "name its authority in tls.caFile")
        return f"its certificate is not trusted ({error.verify_message}); {cure}"
    if error.reason in _NO_TLS:
        return "it speaks no TLS there; is its url http://?"
    return f"TLS failed: {error.reason or error}"


async def _connected(
    host: str,
    port: int,
    make: Callable[[], ProtocolT],
    egress: Egress,
    tls: ssl.SSLContext | None = None,
    name: str | None = None,
) -> ProtocolT:
    """Connect to the first address of ``host`` that answers, of those that may be connected to. The name is resolved
    once, so that what was checked is what is connected to."""
    loop = asyncio.get_running_loop()
    try:
        found = await NAMES.resolve(host, port)
    except socket.gaierror as error:
        raise OSError(f"no address is known of the host {host!r} ({error.strerror or error})") from error
    refused = {one[4][0]: egress.refusal_of_address(str(one[4][0]), host) for one in found}
    allowed = [one for one in found if not refused[one[4][0]]]
    if not allowed:
        raise OSError(next(iter(refused.values()), f"{host} has no address"))
    if len(allowed) == 1:
        address = str(allowed[0][4][0])
        _, connected = await loop.create_connection(make, address, port, ssl=tls, server_hostname=name)
        return connected
    sock = await aiohappyeyeballs.start_connection(cast(Any, allowed), happy_eyeballs_delay=_NEXT_ADDRESS_S, loop=loop)
    _, connected = await loop.create_connection(make, sock=sock, ssl=tls, server_hostname=name)
    return connected


class _Proxy(asyncio.Protocol):
    """The connection to a proxy until it has opened the tunnel."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._head = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.answer.done():
            return
        if b"\r\n\r\n" in self._head:
            self.answer.set_result(self._head.partition(b"\r\n")[0])
        elif len(self._head) > _MAX_PROXY_HEAD:
            self.answer.set_exception(OSError("its answer has too large a head"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(OSError(f"it closed the connection{f': {exc}' if exc else ''}"))


async def _dial_through_proxy(
    where: HttpEndpoint,
    make: Callable[[], ProtocolT],
    tls: ssl.SSLContext | None,
    name: str | None,
    egress: Egress,
) -> ProtocolT:
    assert where.proxy is not None
    loop = asyncio.get_running_loop()
    host, port = where.proxy
    try:
        if not where.tunnel:
            return await _connected(host, port, make, egress)
        proxy = await _connected(host, port, _Proxy, egress)
    except OSError as error:
        raise OSError(f"the proxy {where.shown_proxy} cannot be reached: {error}") from error
    transport = proxy.transport
    assert transport is not None
    try:
        transport.write(where.connect_request())
        try:
            answer = await proxy.answer
        except OSError as error:
            raise OSError(f"the proxy {where.shown_proxy} opens no tunnel: {error}") from error
        words = answer.decode("latin-1").split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].startswith("2"):
            status = words[1] if len(words) > 1 and words[1].isdigit() else "no HTTP"
            cure = "; put USER:PASSWORD@ into its URL" if status == "407" else ""
            raise OSError(f"the proxy {where.shown_proxy} refuses a tunnel (HTTP {status}){cure}")
        connected = make()
        assert tls is not None
        try:
            inside = await loop.start_tls(transport, connected, tls, server_hostname=name)
        except ssl.SSLError as error:
            raise OSError(_tls_words(error)) from error
        if inside is None:
            raise OSError(f"the proxy {where.shown_proxy} closed the tunnel")
        connected.connection_made(inside)
        return connected
    except BaseException:
        transport.abort()
        raise


# ---- TLS


def _context(where: HttpEndpoint) -> ssl.SSLContext:
    """Return how TLS is spoken with an upstream. Files that were replaced are read again for the next connection."""
    options = where.tls_options or Tls()
    paths = options.ca_file, options.cert_file, options.key_file
    try:
        changed = tuple(os.stat(path).st_mtime_ns if path else 0 for path in paths)
        authorities = os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")  # OpenSSL reads these
        return _made_context(paths, options.insecure_skip_verify, changed, authorities)
    except FileNotFoundError as error:
        raise OSError(f"tls: there is no file {error.filename!r} on this worker's host") from None
    except (OSError, ssl.SSLError) as error:  # an SSLError is an OSError, too
        raise OSError(f"tls: {error}; caFile, certFile and keyFile must be PEM files") from None


@lru_cache(maxsize=64)
def _made_context(
    paths: tuple[str, str, str], unverified: bool, changed: tuple[int, ...], authorities: tuple[str, str]
) -> ssl.SSLContext:
    ca, certificate, key = paths
    context = ssl.create_default_context(cafile=ca or None)
    if certificate:
        context.load_cert_chain(certificate, key or None)
    if unverified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
