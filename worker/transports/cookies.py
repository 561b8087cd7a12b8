"""Cookies of an upstream session: what load balancers set so that a session stays at one server. Pure.

Only the names and values count here: a session has one origin, and its cookies end with it.
"""

from __future__ import annotations

SET_COOKIE = b"set-cookie"
_MAX, _MAX_BYTES = 20, 4096
"""The most cookies of a session, and the longest of them (RFC 6265 section 6.1)."""


def cookie_in(value: bytes) -> bytes:
    """Return ``name=value`` of a ``Set-Cookie``, or ``name=`` if it is to be forgotten. ``b""`` if it is none."""
    pair, *attributes = (one.strip() for one in value.split(b";"))
    name, found, text = pair.partition(b"=")
    if not found or not name or len(pair) > _MAX_BYTES or b"," in pair:
        return b""
    over = any(one.lower().replace(b" ", b"") in (b"max-age=0", b"max-age=-1") for one in attributes)
    return name + b"=" if over else name.strip() + b"=" + text.strip()


class Cookies:
    """The cookies of one session."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def set(self, said: bytes) -> bool:
        """Take what ``cookie_in`` returned, several joined by commas. Return whether anything has changed."""
        before = dict(self._values)
        for pair in said.split(b","):
            name, _, value = pair.strip().decode("latin-1").partition("=")
            if not name or not (name + value).isprintable():
                continue
            if value:
                self._values[name] = value
            else:
                self._values.pop(name, None)
        for name in list(self._values)[_MAX:]:
            del self._values[name]
        return self._values != before

    def header(self) -> str:
        """Return the value of ``Cookie``, empty if there are none."""
        return "; ".join(f"{name}={value}" for name, value in self._values.items())

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
