"""What a client is told that must authenticate: the challenge, and where the endpoint's metadata is. Pure.

Sources: RFC 6750 section 3, RFC 9728 section 5.1; MCP 2025-11-25 and 2026-07-28, "Authorization".
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlsplit

WELL_KNOWN = "/.well-known/oauth-protected-resource"
_SAFE = "%:/?#[]@!$&'()*+,;="
"""What may be in a URL beside letters, digits and ``-._~`` (RFC 3986 section 2.2)."""


def metadata_url(resource: str) -> str:
    """Return the URL of the metadata of a protected resource (RFC 9728 section 3.1)."""
    parts = urlsplit(resource)
    # A path is as the client wrote it. What ends a quoted string, or a line, is not in a URL as it is.
    return quote(f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path}", safe=_SAFE, errors="surrogateescape")


def _is_plain(one: str) -> bool:
    """Whether a character may be in ``error_description`` (RFC 6750 section 3)."""
    return " " <= one <= "~" and one not in '"\\'


def challenge(resource: str, error: str = "", scopes: Iterable[str] = (), text: str = "") -> str:
    """Return the value of ``WWW-Authenticate`` for the endpoint whose canonical URI is ``resource``.

    ``error`` is a code of RFC 6750 section 3.1, or empty if there were no credentials. ``resource`` is empty where no
    authorization server can be named, because only API keys are accepted.
    """
    return _written("Bearer", resource, error, scopes, text)


def proof_challenge(resource: str, algorithms: Iterable[str], text: str) -> str:
    """Return the value of ``WWW-Authenticate`` for a request without a right proof of possession (RFC 9449 section
    7.1)."""
    return _written("DPoP", resource, "invalid_dpop_proof", (), text, f'algs="{" ".join(algorithms)}"')


def _written(scheme: str, resource: str, error: str, scopes: Iterable[str], text: str, *further: str) -> str:
    members = []
    if error:
        members.append(f'error="{error}"')
        if text:
            members.append('error_description="' + "".join(filter(_is_plain, text)) + '"')
    named = " ".join(scopes)
    if named:
        members.append(f'scope="{named}"')
    if resource:
        members.append(f'resource_metadata="{metadata_url(resource)}"')
    return " ".join((scheme, ", ".join((*members, *further)))).strip()
