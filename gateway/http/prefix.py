"""The path under which clients see the gateway, if a proxy in front serves it below one. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,64}){1,8}/?")


def public_prefix(public_url: str, forwarded: str | None) -> str:
    """Return what stands before the gateway's own paths, or an empty text.

    ``forwarded`` is the value of ``X-Forwarded-Prefix``, which counts where no ``publicUrl`` is set. Whoever sends the
    header without a proxy changes the answer to himself alone.
    """
    if public_url:
        return urlsplit(public_url).path.rstrip("/")
    if forwarded is None or not _PREFIX.fullmatch(forwarded) or "/." in forwarded:
        return ""
    return forwarded.rstrip("/")
