"""What a front end counts apart from calls: credentials, limits, ejections, the audit log, searches for tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from shared.metrics.families import Family, Sample, gauge
from shared.metrics.tally import Tally


class Searched(Protocol):
    """The indexes for searching tools (``fleet.tool_search``)."""

    indexes: int
    used_bytes: int
    waiting: int


class Tallies:
    """The counters that parts of a front end count in. ``labelled`` is the most rows of one of them."""

    def __init__(self, labelled: int = 1000) -> None:
        self.authentications = Tally(
            "gateway_authentications", "Credentials that were verified anew, and those that were refused", ("outcome",)
        )
        self.limited = Tally("gateway_limited_calls", "Calls that a limit refused", ("limit",), labelled)
        self.ejections = Tally(
            "gateway_ejections", "How often a front end kept a replica from calls", ("group", "reason"), labelled
        )
        self.audited = Tally("gateway_audit_events", "Events of the audit log, written or lost", ("result",))
        self._ejected: Callable[[], Iterable[tuple[str, str]]] = tuple
        self._searched: Searched | None = None
        self._audit_waiting: Callable[[], int] | None = None

    def watch(
        self,
        ejected: Callable[[], Iterable[tuple[str, str]]],
        searched: Searched | None = None,
        audit_waiting: Callable[[], int] | None = None,
    ) -> None:
        """Show these as well: the replicas that are kept from calls now, as (group, upstream), the indexes of searches,
        and how many events wait to be written."""
        self._ejected, self._searched, self._audit_waiting = ejected, searched, audit_waiting

    def families(self) -> list[Family]:
        """Return all of it."""
        labels = ("group", "upstream")
        ejected = gauge("gateway_upstream_ejected", "How many front ends keep an upstream from calls now", labels)
        ejected.samples += [Sample(one, 1) for one in self._ejected()]
        tallies = (self.authentications, self.limited, self.ejections, self.audited)
        found = [ejected, *(one.family for one in tallies)]
        if self._searched is not None:
            one = self._searched
            found += [
                _gauge("gateway_tool_search_indexes", "Indexes of tools that are searched", one.indexes),
                _gauge("gateway_tool_search_index_bytes", "Bytes of these indexes", one.used_bytes),
                _gauge("gateway_tool_searches_waiting", "Searches for tools that wait or run", one.waiting),
            ]
        if self._audit_waiting is not None:
            text = "Events of the audit log that wait to be written"
            found.append(_gauge("gateway_audit_waiting", text, self._audit_waiting()))
        return found


def _gauge(name: str, text: str, value: float) -> Family:
    family = gauge(name, text)
    family.samples.append(Sample((), value))
    return family
