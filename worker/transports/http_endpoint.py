"""The address of an HTTP upstream: where to connect, through which proxy, and the head of each request. Pure, except
that the proxy may be named by the environment."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies_environment

from shared.connections import OURS, HttpConnection, Tls, check_proxy, mask_url, origin_of
from shared.loopback import is_loopback_host
from shared.version import VERSION

_BREAKS = re.compile(r"[\r\n\0]")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
"""What stays as it is in the path and the query of a URL. Everything else is percent-encoded."""
_LEAST_SECRET = 6
"""The characters of a header's value from which on it may be a secret, and not a word."""
_PORTS = {"http": 80, "https": 443}

_PROXY_VARIABLES = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    "REQUEST_METHOD",  # with it, HTTP_PROXY may be a client's header, and is not read
)


@lru_cache(maxsize=4)
def _proxies(variables: tuple[str | None, ...]) -> dict[str, str]:
    """Return the proxies that the environment names, read again when it has changed: that looks at all of it."""
    return getproxies_environment()


class HttpEndpoint:
    """One URL of an upstream with the headers of its entry.

    ``host`` and ``port`` are those of the upstream, ``socket_path`` is its Unix socket if it has one, ``proxy`` is the
    host and port of the proxy between, if any. ``tunnel``: TLS is spoken through the proxy with the upstream itself.
    ``absolute`` is what stands before the target in a request to a proxy (RFC 9112 section 3.2.2).
    ``problem`` says why no connection can be opened, if the environment names a proxy that cannot be used.
    """

    def __init__(self, url: str, connection: HttpConnection) -> None:
        parts = urlsplit(url)
        self.url = url
        self.socket_path = unquote(parts.path) if parts.scheme == "unix" else ""
        if self.socket_path:
            parts = urlsplit("http://localhost" + (parts.fragment if parts.fragment.startswith("/") else "/"))
        self._base = parts
        self._connection = connection
        self.tls = parts.scheme == "https"
        self.tls_options: Tls | None = connection.tls
        self.host = _ascii_host(parts.hostname or "")
        self.port = parts.port or _PORTS[parts.scheme]
        self.path = quote(parts.path or "/", safe=_PRINTABLE)
        self.target = self.path + (f"?{quote(parts.query, safe=_PRINTABLE)}" if parts.query else "")
        literal = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = literal if self.port == _PORTS[parts.scheme] else f"{literal}:{self.port}"
        self.shown = f"unix:{self.socket_path}" if self.socket_path else self.authority
        self.proxy: tuple[str, int] | None = None
        self.problem = ""
        self._proxy_header = ""
        self._note_proxy(self._proxy_url())
        self.tunnel = self.tls and self.proxy is not None
        self.absolute = f"{parts.scheme}://{self.authority}" if self.proxy is not None and not self.tls else ""
        self.has_cookie = any(name.lower() == "cookie" for name in connection.headers)
        self._common = "\r\n".join(self._own_lines(parts))

    def _own_lines(self, parts: SplitResult) -> list[str]:
        """Return the lines that every request carries: those of the entry without the ones that are the gateway's."""
        headers = self._connection.headers
        names = {name.lower() for name in headers}
        lines = [f"Host: {self.authority}"]
        if "accept-encoding" not in names:  # decompressing costs more than a local network saves
            lines.append("Accept-Encoding: identity")
        if "user-agent" not in names:  # firewalls refuse requests that do not say who asks
            lines.append(f"User-Agent: mcp-one-gateway/{VERSION}")
        if parts.username is not None and "authorization" not in names:
            lines.append(f"Authorization: Basic {_basic(parts)}")
        if self.absolute and self._proxy_header:
            lines.append(self._proxy_header)
        return lines + [f"{name}: {value}" for name, value in headers.items() if name.lower() not in OURS]

    def _proxy_url(self) -> str:
        """Return the proxy to use, or an empty text. Loopback addresses need none unless the entry names one."""
        if self.socket_path or self._connection.proxy == "direct":
            return ""
        if self._connection.proxy:
            return self._connection.proxy
        proxies = _proxies(tuple(map(os.environ.get, _PROXY_VARIABLES)))
        found = proxies.get(self._base.scheme) or proxies.get("all", "")
        if not found or is_loopback_host(self.host) or _bypassed(self.host, self.port, proxies):
            return ""
        found = found if "://" in found else f"http://{found}"
        try:
            check_proxy(found)
        except ValueError as error:
            self.problem = f"{self._base.scheme.upper()}_PROXY: {error}"
            return ""
        return found

    def _note_proxy(self, url: str) -> None:
        if url:
            parts = urlsplit(url)
            self.proxy = parts.hostname or "", parts.port or 80
            if parts.username is not None:
                self._proxy_header = f"Proxy-Authorization: Basic {_basic(parts)}"

    @property
    def shown_proxy(self) -> str:
        """The proxy as it may be shown."""
        return "" if self.proxy is None else f"{self.proxy[0]}:{self.proxy[1]}"

    def connect_request(self) -> bytes:
        """Return the request for a tunnel through the proxy (RFC 9110 section 9.3.6)."""
        literal = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"CONNECT {literal}:{self.port} HTTP/1.1", f"Host: {literal}:{self.port}"]
        if self._proxy_header:
            lines.append(self._proxy_header)
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def head(self, method: str, extra: dict[str, str], target: str | None = None) -> bytes:
        """Return the start of a request: request line and headers, without the length and the empty line."""
        lines = [f"{method} {self.absolute}{target or self.target} HTTP/1.1", self._common]
        lines += [f"{name}: {value}" for name, value in extra.items()]
        return ("\r\n".join(lines) + "\r\n").encode("utf-8")

    def request_target(self, target: str) -> bytes:
        """Return what stands for ``target`` in a request line."""
        return (self.absolute + target).encode()

    def resolve(self, reference: str, against: str = "") -> str:
        """Return the request target that a reference of the upstream means, which must stay on the same origin.

        ``against`` is the target to which a relative reference relates, by default the endpoint's own. Raises
        ``ValueError`` with words for the user.
        """
        base = self._base._replace(netloc=self._base.netloc.rpartition("@")[2])
        try:
            url = urlsplit(urljoin(urljoin(urlunsplit(base), against or self.target), reference.strip()))
            other = origin_of(url) != origin_of(base)
        except ValueError:
            raise ValueError("something that is no URL") from None
        if other:
            raise ValueError(f"{mask_url(urlunsplit(url._replace(query='', fragment='')))!r}, which is another origin")
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        if _UNPRINTABLE.search(target):
            raise ValueError("something that is no URL")
        return target

    def without_secrets(self, text: str) -> str:
        """Return a text of the upstream with what may be a secret of the entry's headers masked."""
        for value in self._connection.headers.values():
            for secret in (value, value.rpartition(" ")[2]):
                if len(secret) >= _LEAST_SECRET:
                    text = text.replace(secret, "***")
        return text

    def at(self, target: str) -> HttpEndpoint:
        """Return the endpoint of the same origin with another target."""
        path, _, query = target.partition("?")
        parts: Any = urlsplit(self.url)
        if self.socket_path:
            return HttpEndpoint(urlunsplit(parts._replace(fragment=target)), self._connection)
        return HttpEndpoint(urlunsplit(parts._replace(path=path, query=query)), self._connection)


def header_lines(headers: dict[str, str]) -> bytes:
    """Return headers that a client sent, as they go into a request. A value with a line break would begin another
    header, and is left out; no HTTP parser takes one."""
    lines = (f"{name}: {value}\r\n" for name, value in headers.items() if not _BREAKS.search(value))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _ascii_host(host: str) -> str:
    """Return a host as it goes over the network (RFC 3490), or as it is if it cannot be a name."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def _basic(parts: SplitResult) -> str:
    """Return the credentials of a URL for Basic authentication (RFC 7617), percent-decoded (RFC 3986 section 3.2.1)."""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return base64.b64encode(pair.encode()).decode()


def _bypassed(host: str, port: int, proxies: dict[str, str]) -> bool:
    """Whether ``NO_PROXY`` names a host, in any of the forms that programs take: a name or a suffix (``x.org``,
    ``.x.org``, ``*.x.org``), with a port or without, an address or a network, between commas or spaces, ``*`` for
    all."""
    host = host.lower().rstrip(".")
    return any(_is_named(one, host, port) for one in re.split(r"[,;\s]+", proxies.get("no", "").lower()) if one)


def _is_named(rule: str, host: str, port: int) -> bool:
    if rule == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass
    try:
        parts = urlsplit(rule if "://" in rule else f"//{rule}")
        named, its_port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if its_port is not None and its_port != port:
        return False
    named = named.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(named) and (host == named or host.endswith(f".{named}"))
