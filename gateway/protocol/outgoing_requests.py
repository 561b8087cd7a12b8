"""Requests for upstreams, made of what a client sent: how far they may go, in whose name, and where they must go."""

from __future__ import annotations

from gateway.access.used_states import UsedStates
from gateway.admission.caller import Caller
from gateway.admission.request_head import RequestHead
from gateway.fleet.outgoing import ANYWHERE, Affinity, Exact, Outgoing, affinity
from gateway.protocol.extensions import params_upwards
from gateway.routing.routes import Route
from shared import request_state
from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.rpc.framing import too_long
from shared.secrets import FleetKey

_MAX_TOKEN = 1024
_MAX_HEADERS = 16 * 1024
"""Longest progress token, and longest names and values of ``Mcp-Param-*`` headers together: heads of frames are
bounded."""
_SURELY_SHORT = 1024
"""A name of so many characters is never too long for the head of a frame, whatever characters they are."""


class OutgoingRequests:
    """Makes them. ``key`` opens the states with which calls go on. ``used_states`` count retries that are calls of
    their own."""

    def __init__(self, key: FleetKey, used_states: UsedStates) -> None:
        self._key = key
        self._used_states = used_states

    def make(
        self,
        message: Message,
        body: bytes | memoryview,
        params: Params,
        caller: Caller,
        route: Route,
        head: RequestHead,
        name: str = "",
        headers: dict[str, str] | None = None,
        listed_name: str = "",
    ) -> Outgoing:
        """Return the request for one of the route's replicas, with ``body`` as its params. Raises ``Refused``.

        ``listed_name`` is the URI that the result must name instead of ``name``, or empty.
        """
        token = bytes(params.meta.progress_token) if params.meta is not None else b""
        if (
            len(token) > _MAX_TOKEN
            or (len(name) > _SURELY_SHORT and too_long(name))
            or (listed_name and too_long(listed_name))
            or (headers is not None and sum(len(one) + len(value) for one, value in headers.items()) > _MAX_HEADERS)
        ):
            raise Refused("invalid_params", "progress token, name, URI or annotated arguments are too long")
        if params.task or (params.meta is not None and params.meta.extended):
            body = params_upwards(bytes(body), caller.view.scope.group is not None)
        session = caller.session
        where: Affinity = ANYWHERE
        if session is not None and not (params.request_state and caller.era):
            where = affinity(route, session)
        principal = caller.principal
        outgoing = Outgoing(  # by position as far as that goes: names would take 0.7 µs more
            route,
            body,
            where,
            session,
            token,
            headers,
            principal.subject_token,
            method=message.method,
            name=name,
            listed_name=listed_name,
            group=route.group,
            principal=principal.id,
            era=caller.era,
            id=bytes(message.id),
            client=head,
            meta=params.meta,
            quota=principal.quota,
        )
        return self._going_on(outgoing, params, caller, route) if params.request_state and caller.era else outgoing

    def _going_on(self, outgoing: Outgoing, params: Params, caller: Caller, route: Route) -> Outgoing:
        """Return the request that goes on with the call which the ``requestState`` names. The call was counted when it
        began. Raises ``Refused`` (-32602)."""
        text = jsonrpc.text(params.request_state, "requestState")
        state = request_state.unseal(self._key, text, caller.principal.id)
        group = caller.view.groups.get(route.group)
        if group is None or all(replica.id != state.upstream for replica in group.replicas):
            raise Refused("invalid_params", "params.requestState belongs to another request, or its upstream is gone")
        outgoing.affinity, outgoing.answers = Exact(state.upstream, state.worker, bool(state.parked)), True
        outgoing.quota = self._used_states.quota(state, text, outgoing, bytes(outgoing.params))
        return outgoing
