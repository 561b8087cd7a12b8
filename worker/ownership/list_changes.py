"""What changed in an upstream's lists: names that were added, and entries whose meaning may have changed.

Who had a name first keeps it (``gateway.routing.naming``), so the time at which a name was added matters. A tool whose
description or schema changes after people have looked at it may do something else than they think, so that is said.
"""

from __future__ import annotations

import datetime
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from shared.mcp.listings import KINDS, Kind
from shared.models import now_s
from shared.registry.records import ListedCatalog

_log = logging.getLogger(__name__)
_entries = msgspec.json.Decoder(list[Raw])
_members = msgspec.json.Decoder(dict[str, Raw])  # of each entry only the name is read
_KEPT = 20
_SHOWN = 5


class ListChanges:
    """Compares each listing of one upstream with the one before. ``added`` and ``notes`` are for the registry."""

    def __init__(self, id: str, listed: ListedCatalog | None = None) -> None:
        self._id = id
        known = listed if listed is not None and listed.digest else None
        self._documents: dict[Kind, bytes] = dict(known.documents) if known else {}
        self.added: dict[str, dict[str, float]] = {}
        self.notes: deque[str] = deque(maxlen=_KEPT)
        if known:
            self.added = {kind: dict(names) for kind, names in known.added.items()}
            self.notes.extend(note for note in known.notes if " changed: " in note)

    def note(self, documents: Mapping[Kind, bytes]) -> None:
        """Compare these lists, and remember them."""
        for kind, document in documents.items():
            before = self._documents.get(kind)
            if before is not None and before != document:
                self._compare(kind, _by_name(kind, before), _by_name(kind, document))
            self._documents[kind] = document

    def _compare(self, kind: Kind, before: dict[str, Raw], now: dict[str, Raw]) -> None:
        at = now_s()
        added = {name: since for name, since in self.added.get(kind.value, {}).items() if name in now}
        added.update({name: at for name in now if name not in before})
        if added or kind.value in self.added:
            self.added[kind.value] = added
        changed = [name for name, raw in now.items() if name in before and bytes(before[name]) != bytes(raw)]
        word = kind.value.rstrip("s").replace("_", " ")
        when = datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        for name in changed[:_SHOWN]:
            members = _different(orjson.loads(bytes(before[name])), orjson.loads(bytes(now[name])))
            said = f"{word} {name[:64]!r} changed: {', '.join(members)}"
            self.notes.append(f"{said} ({when})")
            _log.warning("upstream %s: %s", self._id, said)
        if len(changed) > _SHOWN:
            said = f"{len(changed) - _SHOWN} more entries of {kind.value} changed: see them in the list"
            self.notes.append(f"{said} ({when})")
            _log.warning("upstream %s: %s", self._id, said)


def _by_name(kind: Kind, document: bytes) -> dict[str, Raw]:
    key = KINDS[kind].key
    found: dict[str, Raw] = {}
    for raw in _entries.decode(document):
        found[msgspec.json.decode(_members.decode(raw)[key], type=str)] = raw
    return found


def _different(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name in {**before, **now} if before.get(name) != now.get(name)] or ["its form"]
