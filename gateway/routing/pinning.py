"""Which tools of a pinned upstream are not as they were approved. Pure.

The catalogue leaves such tools out where the upstream is pinned with ``block``: for clients they do not exist. Each
replica is looked at for itself, against what was approved of its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.routing.entries import Entry
from shared.choices import Pin
from shared.models import UpstreamSpec
from shared.pins import GroupPins, same

CHANGED, NEW = "changed", "new"
Differing = Mapping[str, str]
"""Tools that are not as they were approved, by the upstream's names: ``CHANGED`` or ``NEW``."""
_NOTHING: Differing = {}


class Pinning:
    """What was approved, and what differs. ``differing`` has the upstreams, by id, that list something else."""

    def __init__(self) -> None:
        self.pins: Mapping[str, GroupPins] = {}
        self.differing: dict[str, Differing] = {}
        self._compared: dict[str, tuple[Sequence[Entry], GroupPins, Differing]] = {}

    def take(self, pins: Mapping[str, GroupPins]) -> list[str]:
        """Take what was approved, by group, and return the groups of which something else was before."""
        before, self.pins = self.pins, pins
        return [name for name in {**before, **pins} if before.get(name) is not pins.get(name)]

    def forget(self, id: str) -> None:
        """Forget an upstream that is not registered any more."""
        self.differing.pop(id, None)
        self._compared.pop(id, None)

    def shown(self, spec: UpstreamSpec, tools: Sequence[Entry]) -> Sequence[Entry]:
        """Return the tools of an upstream that clients may see, and note which differ.

        Of an upstream that is pinned with ``block`` none is shown while it is not known what was approved.
        """
        if spec.pin is Pin.OFF:
            if self._compared:
                self.forget(spec.id)
            return tools
        pins = self.pins.get(spec.name)
        if pins is None:
            self.forget(spec.id)
            return tools if spec.pin is Pin.WARN else ()
        differing = self._compare(spec.id, tools, pins)
        if differing:
            self.differing[spec.id] = differing
        else:
            self.differing.pop(spec.id, None)
        if spec.pin is Pin.WARN or not differing:
            return tools
        return [entry for entry in tools if entry.name not in differing]

    def _compare(self, id: str, tools: Sequence[Entry], pins: GroupPins) -> Differing:
        known = self._compared.get(id)
        if known is None or known[0] is not tools or known[1] is not pins:
            known = self._compared[id] = (tools, pins, differences(tools, pins))
        return known[2]

    def shown_of_own(self, specs: Iterable[UpstreamSpec], tools: Sequence[Entry]) -> Sequence[Entry]:
        """Return which tools of a client's own upstream session it may see, on replicas with these ``specs``."""
        pinned = next((one for one in specs if one.pin is Pin.BLOCK), None)
        if pinned is None:
            return tools
        pins = self.pins.get(pinned.name)
        differing = differences(tools, pins) if pins is not None else {}
        return [entry for entry in tools if entry.name not in differing] if pins is not None else ()


def differences(tools: Iterable[Entry], pins: GroupPins) -> Differing:
    """Return the tools that are not as they were approved."""
    return differences_of({entry.name: entry.listed for entry in tools}, pins) or _NOTHING


def differences_of(listed: Mapping[str, bytes], pins: GroupPins) -> dict[str, str]:
    """Return the definitions, by the names of tools, that are not as they were approved."""
    found: dict[str, str] = {}
    for name, definition in listed.items():
        approved = pins.tools.get(name)
        if approved is None:
            found[name] = NEW
        elif not same(approved.tool, definition):
            found[name] = CHANGED
    return found
