"""API keys: what they look like, and what is kept of them. Pure.

A key is ``gwk_``, 43 random characters (256 bits) and a checksum of 8, so that scanners for leaked secrets recognise
it and a mistyped one is refused without a lookup. Only its SHA-256 digest is kept: a key has as much entropy as the
digest, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import zlib

from msgspec import Struct

from shared.errors import ConfigError

PREFIX = "gwk_"
_KEY = re.compile(r"gwk_[A-Za-z0-9_-]{43}[0-9a-f]{8}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DURATION = re.compile(r"(\d{1,6})(s|m|min|h|d|w|y)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}


class ApiKey(Struct, frozen=True, rename="camel"):
    """What is kept of one key. Times are Unix seconds; ``expires_at`` is 0 for a key that does not expire."""

    name: str
    digest: str
    id: str = ""
    roles: tuple[str, ...] = ()
    created_at: float = 0.0
    expires_at: float = 0.0

    def __repr__(self) -> str:
        return f"ApiKey({self.name!r}, roles={self.roles!r})"

    @property
    def principal(self) -> str:
        """The id of the principal that the key stands for."""
        return f"key:{self.name}"

    def lasts(self, now_s: float) -> bool:
        """Whether the key is valid at a Unix time."""
        return not self.expires_at or now_s < self.expires_at


def make(name: str, roles: tuple[str, ...] = (), expires: str = "") -> tuple[ApiKey, str]:
    """Return a new key's record and the key itself, which is kept nowhere.

    ``expires`` is a duration such as ``90d``, or empty. Raises ``ConfigError``.
    """
    check_name(name)
    now_s = time.time()
    random = PREFIX + secrets.token_urlsafe(32)
    key = f"{random}{zlib.crc32(random.encode()):08x}"
    expires_at = now_s + seconds(expires) if expires else 0.0
    return ApiKey(name, digest_of(key), secrets.token_hex(6), roles, now_s, expires_at), key


def check_name(name: str) -> None:
    """Raise ``ConfigError`` unless a key may have this name."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name[:80]!r} cannot be the name of a key: use letters, digits, '.', '_', '@' and '-'")


def well_formed(key: str) -> bool:
    """Whether a text can be a key: it has the form and the right checksum."""
    return _KEY.fullmatch(key) is not None and key[-8:] == f"{zlib.crc32(key[:-8].encode()):08x}"


def digest_of(key: str) -> str:
    """Return the digest of a key, as it is kept."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def seconds(duration: str) -> float:
    """Return a duration such as ``30m``, ``12h``, ``90d`` or ``1y`` in seconds. Raises ``ConfigError``."""
    found = _DURATION.fullmatch(duration.strip().lower())
    if found is None or not int(found[1]):
        raise ConfigError(f"{duration[:40]!r} is no duration: write 30m, 12h, 90d, 26w or 1y")
    return float(int(found[1]) * _SECONDS[found[2]])
