"""Searching for tools: the indexes of the views that are searched, built and asked in a thread of their own.

There is one index for each view that is searched, shared by all who have that view. What changed since the last search
is written before the next one, so a search never finds what the view does not show. All indexes together are bounded;
the one that was used least recently is given up, and built again when it is needed.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from gateway.routing.discovery import SearchView
from gateway.routing.tool_index import ToolIndex
from gateway.routing.view import Listed, ViewKey
from shared.errors import CallError, NotDelivered

_log = logging.getLogger(__name__)
_MOST_WAITING = 500
"""Searches that may wait for the thread; further ones are refused."""
_IndexKey = tuple[ViewKey, tuple[tuple[str, ...], ...]]


class ToolSearch:
    """The indexes of one front end, which take ``index_bytes`` at most, unless a single one takes more."""

    def __init__(self, index_bytes: int) -> None:
        self._index_bytes = index_bytes
        self._indexes: OrderedDict[_IndexKey, ToolIndex] = OrderedDict()  # touched in the thread alone
        self._thread: ThreadPoolExecutor | None = None
        self.waiting = 0
        self.indexes = self.used_bytes = 0
        """How many indexes there were after the last search, and their size. For figures."""

    async def find(self, view: SearchView, query: str, limit: int) -> list[Listed]:
        """Return the tools of a view that fit a query best, the best first. Raises ``CallError``."""
        if self.waiting >= _MOST_WAITING:
            raise NotDelivered("overloaded", f"{_MOST_WAITING} searches for tools wait here already; try again later")
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "tool-search")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, view, query, limit)
        except sqlite3.Error as error:  # such as a Python whose SQLite was built without FTS5
            _log.error("searching for tools failed: %s", error)
            raise CallError("internal", f"searching for tools failed here: {error}") from error
        finally:
            self.waiting -= 1

    def _find(self, view: SearchView, query: str, limit: int) -> list[Listed]:
        if not view.searchable:  # also any name that is no endpoint's: nothing is kept of it
            return []
        key = view.key, view.synonyms
        index = self._indexes.get(key)
        if index is None:
            index = self._indexes[key] = ToolIndex(view.synonyms)
        self._indexes.move_to_end(key)
        if index.sync(view.searchable):
            self._make_room()
        return index.search(query, limit)

    def _make_room(self) -> None:
        used = sum(index.size_bytes for index in self._indexes.values())
        while used > self._index_bytes and len(self._indexes) > 1:
            _, oldest = self._indexes.popitem(last=False)
            used -= oldest.size_bytes
            oldest.close()
        self.indexes, self.used_bytes = len(self._indexes), used

    def close(self) -> None:
        """Search no more."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
