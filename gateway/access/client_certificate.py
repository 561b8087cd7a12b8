"""Callers by the client certificates of their connections (TLS), which an authority in ``tls.clientCa`` has signed.

OpenSSL has verified the certificate when a connection is there: its chain, its dates, that it is for clients, and the
revocation lists in the same file. Here it is read whom it names, once for each certificate. Credentials that a request
carries itself say more than the connection, and come first (``admission.authentication``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

from cryptography import x509
from msgspec import Struct

from gateway.access.principal import Identity, Principal
from gateway.access.tokens import InvalidToken
from shared.access.methods import ClientCertificateMethod

_MAX_NAME = 512
_REMEMBERED = 10_000
"""How many certificates are remembered, so that they are read once; the oldest go first."""
_SANS: dict[str, Any] = {"uri": x509.UniformResourceIdentifier, "dns": x509.DNSName, "email": x509.RFC822Name}
_WORDS = {"uri": "URI", "dns": "DNS name", "email": "e-mail address"}


class ClientCertificate(Struct, gc=False):
    """The certificate of a connection: whom it names, or (``refusal``) why it names nobody.

    ``thumbprint`` is that of RFC 8705 section 3.1, by which tokens are bound to it. ``mark`` is unique. ``trusted``
    becomes False when the authorities are exchanged: the connection has to be made again. ``principal`` is who is
    behind it, once that was asked.
    """

    identity: Identity | None
    refusal: str
    mark: bytes
    thumbprint: str = ""
    trusted: bool = True
    principal: Principal | None = None

    def check_binding(self, thumbprint: str) -> None:
        """Raise ``InvalidToken`` unless this is the certificate that a token is bound to. Whom it names is of no
        matter."""
        if not self.trusted or (self.identity is not None and self.identity.expires_at <= time.time()):
            raise InvalidToken("the client certificate that the token is bound to has ended; connect again")
        if not hmac.compare_digest(self.thumbprint.encode(), thumbprint.encode("utf-8", "surrogateescape")):
            raise InvalidToken("the token is bound to another client certificate than that of this connection")

    def why_not(self) -> str:
        """Return why the certificate is nobody's now, or nothing."""
        if not self.trusted:
            return "the authorities of client certificates have changed; connect again"
        if self.identity is None:
            return self.refusal
        return "the client certificate has expired" if self.identity.expires_at <= time.time() else ""


class Certificates:
    """The certificates of connections; ``listener.tls`` says which there are."""

    def __init__(
        self, method: ClientCertificateMethod, is_forwarded: Callable[[str | None], bool] | None = None
    ) -> None:
        """``is_forwarded``: whether a peer is a proxy that names its clients' certificates in a header; its own
        certificate is nobody's."""
        self._method = method
        self._is_forwarded = is_forwarded
        self.generation = 0
        """How often the authorities were exchanged."""
        self._known: dict[bytes, ClientCertificate] = {}
        self._of: dict[Any, ClientCertificate] = {}  # by transport

    def is_callers(self, address: str | None) -> bool:
        """Whether certificates of connections from an address are those of callers."""
        return self._is_forwarded is None or not self._is_forwarded(address)

    def begun(self, transport: Any, raw: bytes, generation: int) -> ClientCertificate:
        """Note the certificate (DER) of a connection, and return what it says.

        ``generation`` is that of the authorities that it was verified with. If they were exchanged during the
        handshake, it is not trusted.
        """
        if generation != self.generation:
            self._of[transport] = late = read(raw, self._method)
            late.trusted = False
            return late
        digest = hashlib.sha256(raw).digest()
        known = self._known.get(digest)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                for old in list(itertools.islice(self._known, _REMEMBERED // 8)):
                    del self._known[old]
            known = self._known[digest] = read(raw, self._method)
        self._of[transport] = known
        return known

    def ended(self, transport: Any) -> None:
        """Forget a connection."""
        self._of.pop(transport, None)

    def on(self, transport: Any) -> ClientCertificate | None:
        """Return the certificate of a connection, or ``None`` if it has none."""
        return self._of.get(transport)

    def distrust(self) -> None:
        """End what was let in by the authorities of before, also streams: whoever is still trusted connects again."""
        self.generation += 1
        for one in (*self._known.values(), *self._of.values()):
            one.trusted = False
            if one.principal is not None:
                one.principal.alive = False
        self._known.clear()


def read(raw: bytes, method: ClientCertificateMethod) -> ClientCertificate:
    """Return what a certificate (DER) says. Does not raise."""
    mark, digest = os.urandom(16), hashlib.sha256(raw).digest()
    thumbprint = encoded(digest)
    try:
        certificate = x509.load_der_x509_certificate(raw)
        sans = _sans(certificate)
        subject = certificate.subject.rfc4514_string()
        if method.name == "subject":
            id = f"cert:{subject}" if subject else ""
            missing = "no subject; 'name' of the method may be 'uri', 'dns' or 'email'"
        else:
            names = sans[method.name]
            id = f"cert:{method.name}:{names[0]}" if len(names) == 1 else ""
            missing = f"{len(names)} times {_WORDS[method.name]}, and exactly one is needed"
        claims = {
            "subject": subject,
            "commonName": _first(certificate.subject, x509.NameOID.COMMON_NAME),
            "organizations": _all(certificate.subject, x509.NameOID.ORGANIZATION_NAME),
            "units": _all(certificate.subject, x509.NameOID.ORGANIZATIONAL_UNIT_NAME),
            **{f"{kind}s": names for kind, names in sans.items()},
            "issuer": certificate.issuer.rfc4514_string(),
            "serial": f"{certificate.serial_number:x}",
            "fingerprint": digest.hex(),
        }
        ends = certificate.not_valid_after_utc.timestamp()
    except ValueError:
        return ClientCertificate(None, "the client certificate cannot be read", mark, thumbprint)
    return of_name(id, missing, claims, method, mark, thumbprint, ends)


def of_name(
    id: str,
    missing: str,
    claims: dict[str, Any],
    method: ClientCertificateMethod,
    mark: bytes,
    thumbprint: str,
    ends: float,
) -> ClientCertificate:
    """Return a certificate that names ``id``, or (``missing``) says why it names nobody."""
    refusal = ""
    if not id:
        refusal = f"the client certificate has {missing}"
    elif len(id) > _MAX_NAME or not id.isprintable():
        refusal = "the name in the client certificate is too long, or not printable"
    if refusal:
        return ClientCertificate(None, refusal, mark, thumbprint)
    identity = Identity(id, method.kind, claims, expires_at=ends, given=method.roles)
    return ClientCertificate(identity, "", mark, thumbprint)


def encoded(digest: bytes) -> str:
    """Return a digest as ``x5t#S256`` has it (RFC 8705 section 3.1)."""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _sans(certificate: x509.Certificate) -> dict[str, list[str]]:
    """Return the subject alternative names by kind (RFC 5280 section 4.2.1.6)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {kind: [] for kind in _SANS}
    return {kind: [str(one) for one in names.get_values_for_type(of)] for kind, of in _SANS.items()}


def _all(name: x509.Name, kind: x509.ObjectIdentifier) -> list[str]:
    return [str(one.value) for one in name.get_attributes_for_oid(kind)]


def _first(name: x509.Name, kind: x509.ObjectIdentifier) -> str:
    return next(iter(_all(name, kind)), "")
