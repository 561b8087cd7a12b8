"""How long and how large a run is, and which rows it has. Handed to every scenario."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """``rounds`` of ``seconds`` for each side, in turns; the rest are the sizes of the larger scenarios.

    ``instances``: how often two gateways that are compared with each other are started. How a process happens to lie in
    memory makes up to a tenth of what a call costs it, for as long as it lives. ``peer``: the command of another one.
    """

    folder: Path
    wanted: tuple[str, ...] = ()
    quick: bool = False
    rounds: int = 5
    seconds: float = 3.0
    warm_up_s: float = 1.0
    upstreams: tuple[int, ...] = (1, 100, 1000)
    sessions: tuple[int, ...] = (16, 1000, 10_000)
    streams: int = 5000
    starts: int = 5
    instances: int = 3
    processes: tuple[int, ...] = (1, 2, 4)
    peer: str = ""

    def wants(self, *rows: str) -> bool:
        """Whether any of these rows was asked for: by name, or by how the name begins; no names ask for all."""
        return not self.wanted or any(row.startswith(asked) for asked in self.wanted for row in rows)

    def of_each_instance(self) -> Plan:
        """The share of each of the ``instances``."""
        return replace(self, rounds=max(1, -(-self.rounds // self.instances)))

    def briefly(self) -> Plan:
        """For rows much like another one: a quick run gives them one round."""
        return replace(self, rounds=1) if self.quick else self


def quick(folder: Path, wanted: tuple[str, ...] = ()) -> Plan:
    """Under two minutes for the whole table: short rounds, smaller sizes."""
    return Plan(
        folder,
        wanted,
        quick=True,
        rounds=2,
        seconds=1.0,
        warm_up_s=0.0,
        upstreams=(1, 100),
        sessions=(16, 1000),
        streams=1000,
        starts=1,
        instances=1,
        processes=(1, 2),
    )
