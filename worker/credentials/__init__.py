"""In whose name upstreams are called: who gets the tokens that requests carry.

``source`` the interface that ``worker.transports.http_authorized`` asks · ``renewal`` one token: kept, renewed before
it ends, once for the fleet · ``grants`` how a token is requested · ``keeper`` makes these for an upstream.

An upstream without ``auth`` has none of this, and a worker without such upstreams does not import it.
"""

from __future__ import annotations

from shared.connections import HttpConnection
from shared.models import UpstreamSpec
from shared.registry.credentials import CredentialStore
from shared.settings import UpstreamSettings
from worker.credentials.source import Credentials

__all__ = ["Credentials", "credentials_of"]


def credentials_of(spec: UpstreamSpec, settings: UpstreamSettings, store: CredentialStore | None) -> Credentials | None:
    """Return the credentials by which the gateway itself calls an upstream, or ``None`` if its entry has no ``auth``.
    Without a store each process has tokens of its own."""
    if not isinstance(spec.connection, HttpConnection) or spec.connection.auth is None:
        return None
    from worker.credentials.keeper import make

    return make(spec.id, spec.connection, settings, store)
