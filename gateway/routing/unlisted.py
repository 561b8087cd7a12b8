"""Names that nobody lists, on a client's own upstream sessions, which say whether they exist. Pure."""

from __future__ import annotations

from collections.abc import Collection

from gateway.routing.entries import Entry
from gateway.routing.naming import splits
from gateway.routing.routes import Route
from gateway.routing.view import View
from shared.choices import Pin
from shared.mcp.listings import Kind
from shared.models import UpstreamSpec


def unlisted(view: View, kind: Kind, name: str, groups: Collection[str]) -> list[Route]:
    """Return routes to those of ``groups`` that may know a name which they do not list.

    Where several groups are shown, the name of a tool or prompt must say which one is meant. Nothing goes up where
    rules hide entries: they cannot say whether they would hide this one.
    """
    if not view.whole:
        return []
    meant = [(one, name) for one in groups if one in view.groups]
    if view.scope.group is None and kind in (Kind.TOOLS, Kind.PROMPTS):
        found = [
            (group, own)
            for named, own in splits(name, False, view.scope.settings.separator)
            for group in view.called(named)
        ]
        meant = found if len(found) == 1 and found[0][0] in groups else []
    return [
        view.groups[group].route_of(Entry(kind, own, b"", b"", repeatable=False))
        for group, own in meant
        if kind is not Kind.TOOLS or all(_may_have(one.record.spec, own) for one in view.groups[group].replicas)
    ]


def _may_have(spec: UpstreamSpec, tool: str) -> bool:
    """Whether a tool that an upstream does not list may be asked for: not where tools have to be approved."""
    return spec.shows(tool) and spec.pin is not Pin.BLOCK
