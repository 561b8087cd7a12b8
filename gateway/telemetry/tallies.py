"""What a front end counts apart from calls: credentials, limits, ejections, the audit log, searches for tools."""

from __future__ import annotations

from collections.abc import Iterable
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

    def families(
        self, kept_from_calls: Iterable[tuple[str, str]], searched: Searched, audit_waiting: int | None
    ) -> list[Family]:
        """Return all of it, with what is so now: the replicas that are kept from calls, as (group, upstream), the
        indexes of searches, and how many events wait to be written, where there is an audit log."""
        labels = ("group", "upstream")
        ejected = gauge("gateway_upstream_ejected", "How many front ends keep an upstream from calls now", labels)
        ejected.samples += [Sample(one, 1) for one in kept_from_calls]
        tallies = (self.authentications, self.limited, self.ejections, self.audited)
        found = [ejected, *(one.family for one in tallies)]
        found += [
            _gauge("gateway_tool_search_indexes", "Indexes of tools that are searched", searched.indexes),
            _gauge("gateway_tool_search_index_bytes", "Bytes of these indexes", searched.used_bytes),
            _gauge("gateway_tool_searches_waiting", "Searches for tools that wait or run", searched.waiting),
        ]
        if audit_waiting is not None:
            text = "Events of the audit log that wait to be written"
            found.append(_gauge("gateway_audit_waiting", text, audit_waiting))
        return found


def _gauge(name: str, text: str, value: float) -> Family:
    family = gauge(name, text)
    family.samples.append(Sample((), value))
    return family
