"""Which changes of the rules of access take effect while the gateway runs, and which need a restart. Pure."""

from __future__ import annotations

from shared.access.methods import ApiKeyMethod, ClientCertificateMethod, TrustedProxyMethod
from shared.access.rules import AccessRules


def needing_restart(before: AccessRules, after: AccessRules) -> list[str]:
    """Return what has changed that processes take at their start only, in the words of the file.

    Roles, limits, confirmations, ``anonymous``, keys in the file, and issuers of tokens are not among it. A process is
    built with authentication or without, and with what the connection itself says of a caller.
    """
    found = []
    if _is_on(before) != _is_on(after) or bool(before.authentication) != bool(after.authentication):
        found.append("access (from nothing to something, or the other way)")
    if before.audit != after.audit:
        found.append("access.audit")
    for kind in (TrustedProxyMethod, ClientCertificateMethod):
        if before.method(kind) != after.method(kind):
            found.append(f"access.authentication ({kind.__struct_config__.tag})")
    if (before.method(ApiKeyMethod) is None) != (after.method(ApiKeyMethod) is None):
        found.append(f"access.authentication ({ApiKeyMethod.__struct_config__.tag})")
    return found


def _is_on(rules: AccessRules) -> bool:
    return bool(rules.authentication or rules.roles or rules.limits or rules.audit)
