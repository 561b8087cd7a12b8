"""Handlers of the admin API about pinned tools: what was approved, what is listed, approving it, and taking that
back."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from gateway.admin.rights import PRINCIPAL
from gateway.admin.schemas import Approval, PinnedTool
from gateway.fleet.registry_view import RegistryView
from gateway.http.bodies import BodyReader
from shared.choices import Pin
from shared.errors import ConfigError, EntryExists, EntryNotFound
from shared.mcp.listings import Kind
from shared.models import now_s
from shared.pins import GroupPins, Pinned, definitions, digest, same
from shared.registry.pins import PinStore
from shared.registry.records import UpstreamRecord

_SAME, _CHANGED, _NEW, _MISSING = "approved", "changed", "new", "missing"


class PinsApi:
    """The handlers. They are behind the checks of rights that ``routes`` adds."""

    def __init__(self, store: PinStore, registry: RegistryView, bodies: BodyReader) -> None:
        self._store = store
        self._registry = registry
        self._bodies = bodies

    async def all(self, request: web.Request) -> web.Response:
        """``GET /admin/v1/servers/{id}/pins``: every tool that an upstream lists or that was approved of its group."""
        record, pins = await self._pinned(request.match_info["id"])
        listed = _listed(record)
        names = dict.fromkeys((*listed, *pins.tools))
        return _json([_shown(name, pins.tools.get(name), listed.get(name), whole=False) for name in names])

    async def one(self, request: web.Request) -> web.Response:
        """``GET /admin/v1/servers/{id}/pins/{tool}``: one tool, as it was approved and as it is listed."""
        record, pins = await self._pinned(request.match_info["id"])
        tool = request.match_info["tool"]
        approved, listed = pins.tools.get(tool), _listed(record).get(tool)
        if approved is None and listed is None:
            raise EntryNotFound(f"upstream {record.spec.id!r} has no tool {tool!r}, and none was approved")
        return _json(_shown(tool, approved, listed, whole=True))

    async def approve(self, request: web.Request) -> web.Response:
        """``PUT /admin/v1/servers/{id}/pins/{tool}``: approve the definition with this digest.

        Raises ``EntryExists`` if the upstream lists another one by now: nobody approves what they have not seen.
        """
        wanted = msgspec.json.decode(await self._bodies.read(request), type=Approval)
        record, _ = await self._pinned(request.match_info["id"])
        tool = request.match_info["tool"]
        listed = _listed(record).get(tool)
        if listed is None:
            raise EntryNotFound(f"upstream {record.spec.id!r} lists no tool {tool!r} now")
        if digest(listed) != wanted.digest:
            raise EntryExists(
                f"upstream {record.spec.id!r} lists another definition of {tool!r} than this digest is of; "
                f"look at it again: gateway tools diff {record.spec.id} {tool}"
            )
        pinned = Pinned(now_s(), str(request.get(PRINCIPAL, "local")), msgspec.Raw(listed))
        await self._store.approve(record.spec.name, tool, pinned)
        await self._registry.catch_up()
        return _json(_shown(tool, pinned, listed, whole=False))

    async def withdraw(self, request: web.Request) -> web.Response:
        """``DELETE /admin/v1/servers/{id}/pins/{tool}``: take back what was approved of a tool.

        It counts as new then: where upstreams are pinned with ``block`` nobody sees or calls it until it is approved.
        """
        record, _ = await self._pinned(request.match_info["id"])
        tool = request.match_info["tool"]
        if not await self._store.withdraw(record.spec.name, tool):
            raise EntryNotFound(f"nothing was approved of tool {tool!r} of group {record.spec.name!r}")
        await self._registry.catch_up()
        return web.Response(status=204)

    async def _pinned(self, id: str) -> tuple[UpstreamRecord, GroupPins]:
        """Return a pinned upstream, and what was approved of its group. Raises ``ConfigError`` or ``EntryNotFound``."""
        await self._registry.catch_up()
        record = self._registry.records.get(id)
        if record is None:
            raise EntryNotFound(f"no upstream {id!r}; see 'gateway servers list'")
        if record.spec.pin is Pin.OFF:
            raise ConfigError(f"upstream {id!r} is not pinned: write pin: warn or block in its entry")
        return record, await self._store.read(record.spec.name) or GroupPins(0.0, {})


def _listed(record: UpstreamRecord) -> dict[str, bytes]:
    """Return the definitions that an upstream lists now, by name."""
    return definitions(record.catalog.document(Kind.TOOLS))


def _shown(name: str, approved: Pinned | None, listed: bytes | None, whole: bool) -> PinnedTool:
    state = _SAME
    if approved is None:
        state = _NEW
    elif listed is None:
        state = _MISSING
    elif not same(approved.tool, listed):
        state = _CHANGED
    return PinnedTool(
        tool=name,
        state=state,
        digest=digest(listed) if listed is not None else "",
        approved_digest=digest(approved.tool) if approved is not None else "",
        approved_at=approved.at if approved is not None else 0.0,
        approved_by=approved.by if approved is not None else "",
        approved=_object(approved.tool) if whole and approved is not None else None,
        listed=_object(listed) if whole and listed is not None else None,
    )


def _object(definition: bytes | msgspec.Raw) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(definition)
    return found


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
