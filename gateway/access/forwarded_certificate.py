"""The client certificate that a proxy in front has verified and writes into a header. Pure.

Three forms are read: Envoy's ``X-Forwarded-Client-Cert`` (``Hash=…;Subject="…";URI=…;Cert="…"``), ``Client-Cert`` of
RFC 9440 (``:BASE64:``), and PEM with escapes, as nginx writes it (``$ssl_client_escaped_cert``). Whether the header
counts is decided by ``trusted_proxy``.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
import re
from typing import Any
from urllib.parse import unquote

from cryptography import x509

from gateway.access import client_certificate
from gateway.access.client_certificate import ClientCertificate, encoded, of_name
from gateway.access.principal import FOR_EVER
from shared.access.methods import ClientCertificateMethod, TrustedProxyMethod

_MAX_LENGTH = 32 * 1024
_REMEMBERED = 1024
"""How many values of the header are remembered, so that they are read once."""
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]++)-----END CERTIFICATE-----")
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,"]*)\s*(;|,|$)')
_PAIRS = re.compile(r"[A-Za-z]+=")
_LISTED = {"uri": "uris", "dns": "dnss", "email": "emails"}


class ForwardedCertificates:
    """Reads the header of one proxy."""

    def __init__(self, method: TrustedProxyMethod) -> None:
        self._method = ClientCertificateMethod(roles=method.roles, name=method.certificate_name)
        self.read = functools.lru_cache(_REMEMBERED)(self._read)

    def _read(self, value: str) -> ClientCertificate:
        """Return what a header says. What cannot be read is a certificate that names nobody and binds no token."""
        try:
            if len(value) > _MAX_LENGTH:
                raise ValueError("is too long")
            text = value.strip()
            if text.startswith(":"):
                return client_certificate.read(_base64(text.strip(":")), self._method)
            if _PAIRS.match(text):
                return self._of_pairs(_pairs(text))
            return client_certificate.read(_pem(text), self._method)
        except ValueError as error:
            return ClientCertificate(None, f"the certificate that the proxy names {error}", os.urandom(16))

    def _of_pairs(self, pairs: dict[str, list[str]]) -> ClientCertificate:
        """Return what Envoy's pairs say: of the whole certificate, if it is there."""
        if pairs.get("cert"):
            return client_certificate.read(_pem(pairs["cert"][0]), self._method)
        digest = _digest(pairs.get("hash", [""])[0])
        subject = pairs.get("subject", [""])[0]
        sans = {"uris": pairs.get("uri", []), "dnss": pairs.get("dns", []), "emails": []}
        name = self._method.name
        if name == "subject":
            id, missing = f"cert:{subject}" if subject else "", "no subject; see 'certificateName' of the method"
        else:
            named = sans[_LISTED[name]]
            id = f"cert:{name}:{named[0]}" if len(named) == 1 else ""
            missing = f"{len(named)} names of the kind {name!r}, and exactly one is needed"
        claims: dict[str, Any] = {"subject": subject, **_parts(subject), **sans, "fingerprint": digest.hex()}
        thumbprint = encoded(digest) if digest else ""
        return of_name(id, missing, claims, self._method, os.urandom(16), thumbprint, FOR_EVER)


def _pairs(text: str) -> dict[str, list[str]]:
    """Return the pairs of the one element. Raises ``ValueError``, also for several: only the last one would be the
    proxy's own word, and whether a proxy adds or replaces is not known here."""
    found: dict[str, list[str]] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            raise ValueError("cannot be read")
        if pair[3] == ",":
            raise ValueError("is one of several: have the proxy replace the header (SANITIZE_SET)")
        value = pair[2]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if value:
            found.setdefault(pair[1].lower(), []).append(value)
        at = pair.end()
    if any(len(found.get(name, ())) > 1 for name in ("cert", "hash", "subject")):
        raise ValueError("has a member twice")
    return found


def _parts(subject: str) -> dict[str, Any]:
    """Return the claims in a subject, as far as it can be read (RFC 4514)."""
    try:
        name = x509.Name.from_rfc4514_string(subject)
    except ValueError:
        return {"commonName": "", "organizations": [], "units": []}
    of = {
        "commonNames": x509.NameOID.COMMON_NAME,
        "organizations": x509.NameOID.ORGANIZATION_NAME,
        "units": x509.NameOID.ORGANIZATIONAL_UNIT_NAME,
    }
    parts = {key: [str(one.value) for one in name.get_attributes_for_oid(kind)] for key, kind in of.items()}
    return {"commonName": next(iter(parts.pop("commonNames")), ""), **parts}


def _digest(text: str) -> bytes:
    if not re.fullmatch(r"(?:[0-9a-fA-F]{64})?", text):
        raise ValueError("has no SHA-256 digest as its hash")
    return bytes.fromhex(text)


def _pem(text: str) -> bytes:
    found = _PEM.search(unquote(text))
    if found is None:
        raise ValueError("cannot be read")
    return _base64(re.sub(r"\s", "", found[1]))


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("cannot be read") from error
