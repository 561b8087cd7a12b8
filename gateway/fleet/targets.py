"""Where a call goes, or what is missing for that. Pure values; ``dispatch`` finds them out."""

from __future__ import annotations

from typing import final

from msgspec import Struct

from gateway.fleet.outgoing import Only, Outgoing
from gateway.fleet.worker_link import WorkerLink
from gateway.routing.routes import Replica
from gateway.sessions.session import ClientSession
from shared.errors import CallError, NotDelivered


@final
class Target(Struct, gc=False):
    """Where a call goes: the replica, and the link to one of its workers."""

    replica: Replica
    link: WorkerLink


@final
class Unbound(Struct, gc=False):
    """The session has to be bound to a replica first, which takes a Redis round trip.

    ``instead_of`` is the replica that the session was bound to and that cannot take calls now, or ``None``.
    """

    session: ClientSession
    instead_of: str | None


@final
class Unlinked(Struct, gc=False):
    """The replica that should get the call has no worker that this front end can reach."""

    replica: Replica


def lost_task(call: Outgoing, last: CallError | None) -> CallError:
    """Return the error for a request about a task whose upstream cannot take it now."""
    assert isinstance(call.affinity, Only)
    upstream = call.affinity.upstream
    text = f"upstream {upstream!r}, which has this task, is not available; no other replica knows the task"
    data = {"upstream": upstream, "group": call.group}
    return NotDelivered("upstream_unavailable", f"{text} ({last.message})" if last is not None else text, data)
