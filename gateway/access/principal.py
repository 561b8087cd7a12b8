"""Who a caller is, once its credentials were verified. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.telemetry.observer import Quota

FOR_EVER = float("inf")


class Principal(Struct, gc=False):
    """A verified caller.

    ``id`` is stable and unique: ``key:NAME``, ``ISSUER#SUBJECT``, ``proxy:USER``, or empty for callers without
    credentials. Client sessions, streams and sealed states belong to it. ``kind`` is ``anonymous``, ``key``, ``user``
    or ``service``. Principals of one ``policy_class`` see the same. ``admin`` is ``none``, ``read`` or ``write``.
    ``expires_at`` is the Unix time at which the credentials end; ``alive`` becomes False when they are revoked.
    ``thumbprint`` is that of the key which each request must prove to have (``dpop``), or empty.
    """

    id: str
    kind: str
    policy_class: str = ""
    scopes: frozenset[str] = frozenset()
    admin: str = "none"
    expires_at: float = FOR_EVER
    alive: bool = True
    quota: Quota | None = None
    """The limits of the principal, or ``None`` if it has none."""
    rules: object = None
    """The rules under which it has its roles and limits; under others it is made anew."""
    identity: Identity | None = None
    """What the credentials say, to give roles again when the rules change."""
    thumbprint: str = ""
    certificate: str = ""
    """The thumbprint of the client certificate that the token is bound to (RFC 8705), or empty."""
    subject_token: str = ""
    """The caller's own access token, for upstreams that are called in the caller's name by token exchange. It goes to
    workers for these alone."""

    def __repr__(self) -> str:
        return f"Principal({self.id!r}, {self.kind!r})"

    def lasts(self, now_s: float) -> bool:
        """Whether the credentials are valid at a Unix time."""
        return self.alive and now_s < self.expires_at


class Identity(Struct, frozen=True):
    """What credentials say of a caller, before roles are given. ``given`` are the roles that the method gives."""

    id: str
    kind: str
    claims: Mapping[str, Any] = {}
    scopes: frozenset[str] = frozenset()
    expires_at: float = FOR_EVER
    given: tuple[str, ...] = ()
    has_scopes: bool = False
    """Whether the caller could come again with a token that has more scopes."""
    thumbprint: str = ""
    """That of the key which the credentials are bound to (RFC 9449), or empty."""
    certificate: str = ""
    """That of the client certificate which the credentials are bound to (RFC 8705), or empty."""

    def __repr__(self) -> str:
        return f"Identity({self.id!r}, {self.kind!r})"  # claims may be anything


ANONYMOUS = Principal("", "anonymous")
"""The one principal of a gateway without authentication."""
NOBODY = Identity("", "anonymous")
"""What is known of a caller without credentials."""
