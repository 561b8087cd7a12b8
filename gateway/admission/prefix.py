"""The path under which clients see the gateway, if a proxy in front serves it below one. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from shared.networks import Networks

HEADER = "X-Forwarded-Prefix"
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,64}){1,8}/?")


def public_prefix(public_url: str, forwarded: str | None) -> str:
    """Return what stands before the gateway's own paths, or an empty text.

    ``forwarded`` is the value of ``X-Forwarded-Prefix``, which counts where no ``publicUrl`` is set. Whoever sends the
    header without a proxy changes the answer to himself alone.
    """
    if public_url:
        return urlsplit(public_url).path.rstrip("/")
    return forwarded.rstrip("/") if forwarded is not None and _is_path(forwarded) else ""


def _is_path(text: str) -> bool:
    """Whether a text is a path on the same origin, in which nothing leads up."""
    return bool(_PREFIX.fullmatch(text)) and "/." not in text


class TrustedPrefix:
    """The prefix in the URLs that OAuth compares: who asks for a token, and for which resource.

    Only proxies in ``networks`` say it. Anybody else could have a token accepted here that was issued for another
    service of the same host. Where there is a ``public_url``, its path is the prefix, and nobody is asked.
    """

    def __init__(self, public_url: str, networks: Networks) -> None:
        self._public = public_prefix(public_url, None)
        self._networks = Networks(()) if public_url else networks

    def __bool__(self) -> bool:
        """Whether a header can change anything."""
        return bool(self._networks)

    def forwarded(self, values: Sequence[str], peer: str | None) -> str:
        """Return what a header says that has these values, or an empty text. ``peer`` is the address at the other end
        of the connection."""
        return public_prefix("", values[0]) if len(values) == 1 and self._networks.has(peer) else ""

    def fits(self, before: str, peer: str | None) -> bool:
        """Whether clients see the gateway below ``before``, as a path says in which they repeat the prefix (RFC 9728
        section 3.1)."""
        return before == self._public or (_is_path(before) and self._networks.has(peer))
