"""What a verified token says of its bearer, and the checks that signed and opaque tokens share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.access.principal import FOR_EVER, Identity

MAX_TOKEN = 16 * 1024
"""Longer tokens are refused unread: no authorization server makes them, and a request head would not hold them."""


class InvalidToken(Exception):
    """A token is not accepted. ``str(error)`` is for the client: it says why, and nothing of the token."""

    def __init__(self, message: str, scopes: tuple[str, ...] = ()) -> None:
        """``scopes`` are what the token lacks, if that is the reason."""
        super().__init__(message)
        self.scopes = scopes


def identity(
    claims: Mapping[str, Any], issuer: str, given: tuple[str, ...], required_scopes: Iterable[str] = ()
) -> Identity:
    """Return whom the claims are about. Raises ``InvalidToken``."""
    subject = claims.get("sub") or claims.get("client_id") or claims.get("azp")
    if not isinstance(subject, str) or not subject:
        raise InvalidToken("the token names no subject")
    if not subject.isprintable():
        raise InvalidToken("the token's subject has characters in it that cannot be shown")
    thumbprint, certificate = _binding(claims)
    scopes = scopes_of(claims)
    missing = tuple(sorted(set(required_scopes) - scopes))
    if missing:
        raise InvalidToken(f"the token lacks the scope {' '.join(missing)!r}", missing)
    expires = claims.get("exp")
    client = claims.get("client_id", claims.get("azp"))
    kind = "service" if subject == client else "user"
    try:
        expires_at = float(expires) if isinstance(expires, int | float) else FOR_EVER
    except OverflowError:
        expires_at = FOR_EVER
    return Identity(f"{issuer}#{subject}", kind, claims, scopes, expires_at, given, True, thumbprint, certificate)


def _binding(claims: Mapping[str, Any]) -> tuple[str, str]:
    """Return the thumbprints of the key (RFC 9449 section 6) and of the client certificate (RFC 8705 section 3.1) that
    a token is bound to, one of them or both empty. Raises ``InvalidToken`` for a binding of another kind: such a token
    must not work for whoever has it."""
    confirmation = claims.get("cnf")
    if confirmation is None:
        return "", ""
    if isinstance(confirmation, dict) and len(confirmation) == 1:
        ((how, found),) = confirmation.items()
        if isinstance(found, str) and found and how in ("jkt", "x5t#S256"):
            return (found, "") if how == "jkt" else ("", found.rstrip("="))
    raise InvalidToken("the token is bound to something that this gateway cannot check")


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes of a token: ``scope`` (RFC 8693 section 4.2), or ``scp``, which some servers write."""
    found = claims.get("scope", claims.get("scp", ""))
    if isinstance(found, str):
        return frozenset(found.split())
    return frozenset(one for one in found if isinstance(one, str)) if isinstance(found, list) else frozenset()


def check_audience(claims: Mapping[str, Any], accepted: frozenset[str]) -> None:
    """Raise ``InvalidToken`` unless ``aud`` has one of the accepted audiences (RFC 8707)."""
    named = claims.get("aud")
    listed = named if isinstance(named, list) else [named]
    if not any(isinstance(one, str) and one in accepted for one in listed):
        raise InvalidToken("the token is for another audience")
