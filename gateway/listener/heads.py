"""Request heads as the express lane reads them: by llhttp, once for each distinct run of bytes.

Clients send the same heads again and again, and a dictionary lookup costs less than any parser. A request whose end is
not certain from its head is left to aiohttp.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import httptools
from msgspec import Struct

from gateway.access.client_certificate import ClientCertificate
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import RoutingHeaders, by_name

MAX_HEAD_BYTES = 8 * 1024
"""The longest head that the express lane reads, in bytes; longer ones are left to aiohttp."""
_MAX_HEADS = 20_000
_MAX_KEPT_BYTES = 20 * 1024 * 1024
"""At most so many heads, with so many bytes, are remembered. Each client session has its own, and a head with a signed
token has some 1,500 bytes."""
_ENDPOINT = re.compile(r"/servers/([A-Za-z0-9][A-Za-z0-9._-]{0,127})/mcp")
_LENGTH = re.compile(r"[0-9]{1,15}")
"""A length as programs write it. Python refuses to read a number of thousands of digits, be they zeros."""
_UNFRAMED = ("transfer-encoding", "upgrade", "expect", "content-encoding")


class FramedHead(Struct, gc=False):
    """A head from which the end of the request is known: ``size`` of the head and ``length`` of the body, in bytes.

    ``keep_alive``: whether the connection stays open after the answer. ``plain``: whether the express lane may carry
    the request. ``refused``: whether the request is not looked at (``wary``).
    """

    size: int
    length: int
    keep_alive: bool
    plain: bool
    head: RequestHead
    refused: bool = False


class _HeadReader:
    """Callbacks of the HTTP parser."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Spaces and tabs around a value are not part of it (RFC 9110 section 5.5); the parser leaves those behind it.
        self.headers.append((name.decode("latin-1"), value.decode("utf-8", "surrogateescape").strip(" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def read_head(
    raw: bytes, guard: RebindingGuard, max_body_bytes: int, ordinary_headers: frozenset[str] = frozenset()
) -> FramedHead | None:
    """Return what a head says, or ``None`` if the request must be left to aiohttp.

    ``raw`` is the head with its empty line. A request with a longer body than ``max_body_bytes`` is not ``plain``: the
    ordinary lane refuses it.
    """
    reader = _HeadReader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    named = by_name(reader.headers)
    lengths = named.get("content-length", [])
    if not reader.complete or parser.get_http_version() != "1.1" or any(name in named for name in _UNFRAMED):
        return None
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        return None
    connection = [one.strip() for one in ",".join(named.get("connection", [])).lower().split(",")]
    path = reader.target.decode("latin-1")
    endpoint = endpoint_at(path)
    plain = parser.get_method() == b"POST" and endpoint is not None and "origin" not in named and bool(lengths)
    single = len(named.get("host", [])) == 1 and len(named.get("mcp-session-id", [])) < 2
    head = RequestHead.read(named, guard, endpoint or "", path=path if endpoint else "/mcp")
    length = int(lengths[0]) if lengths else 0
    return FramedHead(
        len(raw),
        length,
        "close" not in connection,
        plain
        and single
        and length <= max_body_bytes
        and not (ordinary_headers and any(name in named for name in ordinary_headers))
        and head.refusal is None,  # a refusal comes before the body is read: in the ordinary lane
        head,
    )


def endpoint_at(path: str) -> str | None:
    """Return the name of the endpoint (``RequestHead.endpoint``) whose plain calls take the express lane, or ``None``
    for any other path: what has to be decoded, or has a query, is left to aiohttp."""
    if path == "/mcp":
        return ""
    found = _ENDPOINT.fullmatch(path)
    return found[1] if found else None


def framing_fault(version: tuple[int, int], headers: Mapping[str, str]) -> str | None:
    """Return why two readers could disagree on where a request ends, or ``None`` (RFC 9112 section 6.3).

    The express lane takes no request with ``Transfer-Encoding``; this is asked for those that aiohttp has read.
    """
    if not _LENGTH.fullmatch(headers.get("Content-Length", "0")):
        return "a Content-Length that is no number of at most 15 digits"
    if "Transfer-Encoding" not in headers:
        return None
    if version < (1, 1):
        return "Transfer-Encoding in a request of HTTP/1.0, which does not know it"
    if "Content-Length" in headers:
        return "both Transfer-Encoding and Content-Length"
    return None


def target_fault(target: str, hosts: Sequence[str]) -> str | None:
    """Return why it is not certain for which host a request is, or ``None``. A target may be a whole URL (RFC 9112
    section 3.2.2); then ``Host`` must name the same host, because only that is looked at."""
    if target.startswith("/") or target == "*":
        return None
    if [urlsplit(target).netloc.lower()] == [host.lower() for host in hosts]:
        return None
    return "the target of the request names another host than its Host header"


class KnownHeads(Protocol):
    """Where a connection looks its heads up."""

    def read(self, raw: bytes) -> FramedHead | None:
        """Return what ``read_head`` returns for these bytes."""

    def glance(self, raw: bytes) -> FramedHead | None:
        """Return the same, without remembering it."""


class Heads:
    """``read_head`` with a memory of its results.

    Heads with equal routing headers share one ``RoutingHeaders``: with ten thousand sessions, the cost of a call
    depends on how much memory it touches.
    """

    def __init__(
        self, guard: RebindingGuard, max_body_bytes: int, ordinary_headers: frozenset[str] = frozenset()
    ) -> None:
        self._guard = guard
        self._ordinary_headers = ordinary_headers
        self._kept_bytes = 0
        self._max_body_bytes = max_body_bytes
        self._heads: dict[bytes, FramedHead | None] = {}
        self._headers: dict[RoutingHeaders, RoutingHeaders] = {}
        self._of_session: dict[str, list[bytes]] = {}  # the keys of the heads that name a client session

    def read(self, raw: bytes) -> FramedHead | None:
        """Return what ``read_head`` returns for these bytes."""
        try:
            return self._heads[raw]
        except KeyError:
            return self._read_new(raw, raw, None)

    def glance(self, raw: bytes) -> FramedHead | None:
        """Return the same, without remembering it."""
        return self._heads[raw] if raw in self._heads else self._read(raw, None)

    def read_certified(self, key: bytes, raw: bytes, certificate: ClientCertificate) -> FramedHead | None:
        """Do what ``read`` does for a connection with a client certificate. ``key`` is unique for head and certificate
        together."""
        try:
            return self._heads[key]
        except KeyError:
            return self._read_new(key, raw, certificate)

    def _read_new(self, key: bytes, raw: bytes, certificate: ClientCertificate | None) -> FramedHead | None:
        head = self._read(raw, certificate)
        if head is None or (head.head.proof is None and head.head.trace is None):  # each of these comes once
            self._keep(key, head)
        return head

    def _read(self, raw: bytes, certificate: ClientCertificate | None) -> FramedHead | None:
        head = read_head(raw, self._guard, self._max_body_bytes, self._ordinary_headers)
        if head is not None:
            head.head.certificate = certificate
        return head

    def _keep(self, raw: bytes, head: FramedHead | None) -> None:
        while len(self._heads) >= _MAX_HEADS or self._kept_bytes > _MAX_KEPT_BYTES:
            for old in list(itertools.islice(self._heads, len(self._heads) // 8 + 1)):
                self._drop(old)
        self._heads[raw] = head
        self._kept_bytes += len(raw)
        if head is not None and head.head.session is not None:
            self._of_session.setdefault(head.head.session, []).append(raw)
        if len(self._headers) >= _MAX_HEADS:
            self._headers.clear()
        if head is not None:
            head.head.headers = self._headers.setdefault(head.head.headers, head.head.headers)

    def _drop(self, key: bytes) -> None:
        head = self._heads.pop(key)
        self._kept_bytes -= len(key)
        if head is not None and head.head.session is not None:
            keys = self._of_session[head.head.session]
            keys.remove(key)
            if not keys:
                del self._of_session[head.head.session]

    def forget_session(self, sid: str) -> None:
        """Forget the heads that name a client session, which is not known here any more. They would keep it in memory,
        and no request with them is to come."""
        for key in self._of_session.pop(sid, ()):
            del self._heads[key]
            self._kept_bytes -= len(key)


class CertifiedHeads:
    """The heads of connections with one client certificate, in the memory of all heads."""

    def __init__(self, heads: Heads, certificate: ClientCertificate) -> None:
        self._heads = heads
        self._certificate = certificate

    def read(self, raw: bytes) -> FramedHead | None:
        """Return what ``read_head`` returns for these bytes, with the certificate."""
        return self._heads.read_certified(self._certificate.mark + raw, raw, self._certificate)

    def glance(self, raw: bytes) -> FramedHead | None:
        """Return the same, without remembering it."""
        return self._heads.glance(raw)
