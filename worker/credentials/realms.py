"""To which callers one set of credentials belongs. Pure.

Calls of one realm share tokens, connections and sessions at an upstream that is called in the caller's name; calls of
two realms share nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

_OF_ONE_TOKEN = frozenset(("iat", "nbf", "exp", "jti", "auth_time"))
"""The claims in which two tokens differ that say the same."""


def realm_of_token(principal: str, token: str) -> str:
    """Return the realm of a caller's token, which the front end has verified.

    Two tokens of one principal are of one realm only if they say the same: one with fewer scopes, or for another
    client, must not be served by what was exchanged for the other.
    """
    claims = _claims(token)
    said = token if claims is None else {name: one for name, one in claims.items() if name not in _OF_ONE_TOKEN}
    text = json.dumps([principal, said], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _claims(token: str) -> dict[str, Any] | None:
    """Return what a JWT says, or ``None`` for a token that is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
