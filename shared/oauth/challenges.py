"""What an upstream says with HTTP 401 and 403: its ``WWW-Authenticate`` (RFC 6750 section 3, RFC 9728 section 5.1).
Pure."""

from __future__ import annotations

import re

from msgspec import Struct

_MEMBER = re.compile(r'(?<![A-Za-z_])([A-Za-z_]++)\s*+=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")
_PLAIN = re.compile(r"[ -~]{1,200}")
_LONGEST = 8192


class Challenge(Struct, frozen=True):
    """A refusal: its HTTP status and what it names. Texts are empty if they are not there or not well-formed."""

    status: int = 401
    error: str = ""
    scope: str = ""
    resource_metadata: str = ""
    description: str = ""

    @property
    def said(self) -> str:
        """What the upstream says about it, in parentheses behind a space, or nothing."""
        words = ": ".join(one for one in (self.error, self.description) if _PLAIN.fullmatch(one))
        return f" ({words})" if words else ""

    @property
    def asks_for_token(self) -> bool:
        """Whether another token may help: 401, or 403 for want of a scope."""
        return self.status == 401 or (self.status == 403 and self.error == "insufficient_scope")


def read_challenge(status: int, header: bytes) -> Challenge:
    """Return what a refusal says. ``header`` is the value of ``WWW-Authenticate``, repeated ones joined."""
    text = header[:_LONGEST].decode("latin-1")
    start = text.lower().find("bearer")
    found: dict[str, str] = {}
    for name, quoted, plain in _MEMBER.findall(text[start:] if start >= 0 else ""):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain)
    scope = found.get("scope", "")
    return Challenge(
        status,
        found.get("error", ""),
        scope if _SCOPE.fullmatch(scope) else "",
        found.get("resource_metadata", ""),
        found.get("error_description", ""),
    )
