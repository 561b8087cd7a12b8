"""Reading one list of an upstream on one session: all pages, within limits, mended for the strictest clients."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw, Struct

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp.listings import KINDS, Kind, KindFacts
from shared.settings import Settings
from worker.ownership.mending import mend
from worker.sessions.context import UpstreamSession

_MAX_PAGES = 1000
_LEAST_S = 1.0
"""How long a later page may take in any case."""
_LONGEST_TTL_MS = 1e12
_IN_A_THREAD = 500
"""From how many entries on a list is checked beside the loop."""


class Listing(Struct, frozen=True):
    """A list as clients may see it: a JSON array. ``flaws`` say what was left out or mended, one sentence each.

    ``ttl_ms`` is the shortest time for which the upstream says that a page is fresh, or ``None``. ``partial``: a later
    page could not be read.
    """

    document: bytes
    flaws: list[str]
    ttl_ms: float | None = None
    partial: bool = False


def _page(member: str) -> msgspec.json.Decoder[Any]:
    """Return what reads a page of a list with its entries in ``member``: in one pass, because others wait
    meanwhile."""
    names = {"entries": member, "next_cursor": "nextCursor", "ttl_ms": "ttlMs"}
    none: Any = msgspec.field(default_factory=list)
    fields: list[Any] = [("entries", list[Raw] | None, none), ("next_cursor", Any, None), ("ttl_ms", Any, None)]
    return msgspec.json.Decoder(msgspec.defstruct("_Page", fields, rename=names))


_PAGES = {facts.member: _page(facts.member) for facts in KINDS.values()}


class _Pages:
    """The pages read so far."""

    def __init__(self) -> None:
        self.entries: list[Raw] = []
        self.size = 0
        self.ttl_ms: float | None = None
        self.partial = False

    def add(self, facts: KindFacts, raw: bytes) -> str | int | None:
        """Take a page, and return the cursor of the next, which is a number at some servers.

        Raises ``OutcomeUnknown`` for what is no such list.
        """
        try:
            page = _PAGES[facts.member].decode(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            text = f"its {facts.method} is not a list of {facts.member}: {error}"
            raise OutcomeUnknown("upstream_protocol", text) from error
        self.entries += page.entries or ()  # Go writes an empty list as null
        self.size += len(raw)
        if isinstance(page.ttl_ms, int | float) and not isinstance(page.ttl_ms, bool):
            ttl_ms = float(min(max(page.ttl_ms, 0), _LONGEST_TTL_MS))
            self.ttl_ms = min(ttl_ms, self.ttl_ms if self.ttl_ms is not None else ttl_ms)
        cursor = page.next_cursor
        return cursor if isinstance(cursor, str | int) and cursor != "" else None  # Go writes no cursor as ""


async def read_list(session: UpstreamSession, kind: Kind, settings: Settings) -> Listing:
    """Return a list as it is on ``session``, which must be ready. Raises ``CallError``."""
    pages = _Pages()
    left_out = await _read(session, KINDS[kind], settings, pages)
    most = settings.health.max_entry_bytes
    if any(len(entry) > most for entry in pages.entries):
        before = len(pages.entries)
        pages.entries = [entry for entry in pages.entries if len(entry) <= most]
        left_out.append(f"{before - len(pages.entries)} {kind.value} are larger than {most} bytes (maxEntryBytes)")
    many = len(pages.entries) > _IN_A_THREAD
    mended = await asyncio.to_thread(mend, kind, pages.entries) if many else mend(kind, pages.entries)
    own = session.flaws if kind is Kind.TOOLS else ()
    return Listing(msgspec.json.encode(mended.entries), [*left_out, *own, *mended.flaws], pages.ttl_ms, pages.partial)


async def _read(session: UpstreamSession, facts: KindFacts, settings: Settings, pages: _Pages) -> list[str]:
    """Read all pages of a list, and return what was left out of it."""
    limits = settings.health
    cursor: str | int | None = None
    seen: set[str | int] = set()
    deadline = asyncio.get_running_loop().time() + limits.list_timeout_s
    for _ in range(_MAX_PAGES):
        limit_s = settings.calls.request_timeout_s
        members: dict[str, Any] = {}
        if cursor is not None:
            members = {"cursor": cursor}
            limit_s = min(limit_s, max(deadline - asyncio.get_running_loop().time(), _LEAST_S))
        try:
            cursor = pages.add(facts, await _request(session, facts, members, limit_s))
        except CallError as error:
            if not pages.entries or session.closed or isinstance(error, NotDelivered):
                raise
            pages.partial = True
            return [f"{facts.method}: a page could not be read ({error}); {len(pages.entries)} entries are listed"]
        if len(pages.entries) > limits.max_entries or pages.size > limits.max_catalog_bytes:
            pages.entries = _fitting(pages.entries, limits.max_entries, limits.max_catalog_bytes)
            return [f"{facts.method}: only {len(pages.entries)} entries are listed (maxEntries, maxCatalogBytes)"]
        if cursor is None:
            return []
        if cursor in seen:
            return [f"{facts.method}: a cursor comes again; {len(pages.entries)} entries are listed"]
        if asyncio.get_running_loop().time() > deadline:
            text = f"its pages have no end in {limits.list_timeout_s:g} s (listTimeout)"
            return [f"{facts.method}: {text}; {len(pages.entries)} entries are listed"]
        seen.add(cursor)
    return [f"{facts.method}: more than {_MAX_PAGES} pages; {len(pages.entries)} entries are listed"]


async def _request(session: UpstreamSession, facts: KindFacts, members: dict[str, Any], timeout_s: float) -> bytes:
    try:
        return await session.request(facts.method, members, timeout_s=timeout_s)
    except CallError as error:
        if getattr(error, "rpc_code", None) == -32601:  # the upstream has no such list
            return b"{}"
        raise


def _fitting(entries: list[Raw], most: int, bytes_: int) -> list[Raw]:
    """Return the entries that fit, in their order; one that is too large keeps no later one out."""
    found: list[Raw] = []
    for entry in entries:
        if len(entry) <= bytes_ and len(found) < most:
            found.append(entry)
            bytes_ -= len(entry)
    return found
