"""The methods of authentication as they are written in ``access.authentication``, and what is wrong with one. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from shared.access.keys import ApiKey, check_name
from shared.errors import ConfigError
from shared.loopback import is_loopback_host

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""The signatures of RFC 7518 and RFC 8037 that a public key verifies; the only ones that are ever accepted."""


class _Method(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="type", kw_only=True):
    """What all methods have: the roles that whoever uses the method gets, beside those whose condition holds."""

    roles: tuple[str, ...] = ()


class GivenKey(Struct, frozen=True, forbid_unknown_fields=True):
    """An API key of the file: its name, its SHA-256 digest in hexadecimal, and its roles."""

    name: str
    digest: str
    roles: tuple[str, ...] = ()

    def record(self) -> ApiKey:
        """Return the key as one of the registry's looks."""
        return ApiKey(self.name, self.digest.removeprefix("sha256:").lower(), roles=self.roles)


class ApiKeyMethod(_Method, frozen=True, tag="apiKey"):
    """API keys: those of ``gateway keys``, and ``keys`` of the file."""

    keys: tuple[GivenKey, ...] = ()


class JwtMethod(_Method, frozen=True, tag="jwt"):
    """Tokens of one issuer (RFC 7519; RFC 9068 and OpenID Connect).

    ``audience`` is what ``aud`` must have one of; without it, the URI of the endpoint that is asked. ``jwks_url`` or
    ``jwks_file`` has the keys; without both they are found through the issuer's metadata. ``leeway`` is in
    milliseconds.
    """

    issuer: str
    audience: str | tuple[str, ...] = ()
    jwks_url: str = ""
    jwks_file: str = ""
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
    leeway: float = 30_000.0
    required_scopes: tuple[str, ...] = ()

    @property
    def audiences(self) -> frozenset[str]:
        """The accepted audiences; empty: the endpoint's own URI."""
        return frozenset((self.audience,) if isinstance(self.audience, str) else self.audience)


class IntrospectionMethod(_Method, frozen=True, tag="introspection"):
    """Opaque tokens, about which an authorization server is asked (RFC 7662). ``cache`` is in milliseconds."""

    url: str
    client_id: str
    client_secret: str
    issuer: str = ""
    audience: str | tuple[str, ...] = ()
    required_scopes: tuple[str, ...] = ()
    cache: float = 60_000.0

    def __repr__(self) -> str:
        return f"IntrospectionMethod({self.url!r})"

    @property
    def audiences(self) -> frozenset[str]:
        """The accepted audiences; empty: the endpoint's own URI, if the answer names any."""
        return frozenset((self.audience,) if isinstance(self.audience, str) else self.audience)


class TrustedProxyMethod(_Method, frozen=True, tag="trustedProxy"):
    """A proxy in front that has authenticated the caller and names the caller in a header.

    The header counts only on connections from ``addresses`` (IP addresses or networks). ``certificate_header`` has the
    certificate that the proxy's client has shown, in the form of Envoy (``X-Forwarded-Client-Cert``), of RFC 9440
    (``Client-Cert``) or as PEM with escapes (nginx); empty if there is none. ``certificate_name`` is what of it names
    the caller.
    """

    addresses: tuple[str, ...]
    user_header: str = "X-Forwarded-User"
    groups_header: str = "X-Forwarded-Groups"
    certificate_header: str = ""
    certificate_name: Literal["subject", "uri", "dns", "email"] = "subject"


class ClientCertificateMethod(_Method, frozen=True, tag="clientCertificate"):
    """Client certificates that an authority in the setting ``tls.clientCa`` has signed.

    ``name`` is what of a certificate names the caller: its subject, or the one URI, DNS name or e-mail address among
    its alternative names. ``kind`` is what callers are taken for.
    """

    name: Literal["subject", "uri", "dns", "email"] = "subject"
    kind: Literal["user", "service"] = "service"


Method = ApiKeyMethod | JwtMethod | IntrospectionMethod | TrustedProxyMethod | ClientCertificateMethod


def wrong_with(method: Method) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a method, as (key, text)."""
    match method:
        case ApiKeyMethod():
            for number, key in enumerate(method.keys):
                digest = key.record().digest
                if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                    yield f"keys[{number}].digest", "must be a SHA-256 digest: 64 hexadecimal digits"
                try:
                    check_name(key.name)
                except ConfigError as error:
                    yield f"keys[{number}].name", str(error)
        case JwtMethod():
            for name in method.algorithms:
                if name not in ASYMMETRIC:
                    yield "algorithms", f"{name!r} is not accepted; known are {', '.join(ASYMMETRIC)}"
            if method.jwks_url and method.jwks_file:
                yield "jwksUrl", "give jwksUrl or jwksFile, not both"
            if method.jwks_url:
                yield from _wrong_url("jwksUrl", method.jwks_url)
            if not method.issuer:
                yield "issuer", "is needed"
            elif not (method.jwks_url or method.jwks_file):
                yield from _wrong_url("issuer", method.issuer)
        case IntrospectionMethod():
            yield from _wrong_url("url", method.url)
        case TrustedProxyMethod():
            for one in method.addresses:
                try:
                    ipaddress.ip_network(one, strict=False)
                except ValueError as error:
                    yield "addresses", f"{one!r} is no address or network: {error}"
            if method.certificate_header and not _HEADER.fullmatch(method.certificate_header):
                yield "certificateHeader", f"{method.certificate_header!r} is no name of a header"
            if not method.addresses:
                yield "addresses", "are needed: from everybody else the header counts for nothing"


def _wrong_url(key: str, url: str) -> Iterator[tuple[str, str]]:
    """Yield a problem unless keys and secrets may go over this URL (RFC 8414 section 2)."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not host or not url.startswith(("https://", "http://")):
        yield key, f"{url!r} is no URL"
    elif url.startswith("http://") and not is_loopback_host(host):
        yield key, f"{url!r} must begin with https:// (http:// is for this machine only)"
