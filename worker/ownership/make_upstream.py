"""Makes an upstream with the credentials that its entry names."""

from __future__ import annotations

from collections.abc import Callable

from shared.connections import HttpConnection
from shared.models import UpstreamSpec
from shared.registry.credentials import CredentialStore
from shared.settings import Settings
from shared.upstream_auth import is_personal
from worker.calls.observer import CallObserver
from worker.ownership.upstream import Upstream, UpstreamEvents
from worker.sessions.context import UnsolicitedPath


def make_upstream(
    spec: UpstreamSpec,
    settings: Settings,
    worker: str,
    events: UpstreamEvents,
    unsolicited: UnsolicitedPath,
    log_line: Callable[[str], None],
    observer: CallObserver | None,
    store: CredentialStore | None,
) -> Upstream:
    """Return an upstream with the credentials that its entry names. What gets tokens is imported when it is needed."""
    connection = spec.connection
    common = (spec, settings, worker, events, unsolicited, log_line, observer)
    if not isinstance(connection, HttpConnection) or connection.auth is None:
        return Upstream(*common)
    from worker.credentials import keeper

    if not is_personal(connection.auth):
        return Upstream(*common, keeper.of_gateway(spec.id, connection, settings.upstreams, store))
    from worker.ownership.personal_upstream import PersonalUpstream

    return PersonalUpstream(*common, keeper.of_callers(spec.id, connection, settings, store))
