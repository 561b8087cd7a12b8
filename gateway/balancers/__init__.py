"""Strategies that choose among the replicas that may take a call. Pure.

``base`` defines what a balancer is and keeps the table of strategies. Every other file is one strategy and its
registration: ``round_robin`` · ``least_connections`` · ``weighted`` · ``random_choice`` · ``adaptive``. A strategy is
added as a new file in this folder: all files are imported here, and no other code names a strategy, except the default
in ``shared.settings``. What depends on the strategy is read from the balancer.

A record may name a strategy that this front end does not have, because another version registered the upstream. The
catalogue then takes the configured default.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
from typing import TYPE_CHECKING

from gateway.balancers.base import NO_CHOICE, Balancer, Candidate, make, strategy
from shared.choices import STRATEGIES

__all__ = ["NO_CHOICE", "Balancer", "BalancerStrategy", "Candidate", "make", "strategy"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

if TYPE_CHECKING:

    class _OpenEnum(enum.EnumMeta):
        """Lets type checkers accept any member: the registered strategies are known only at run time."""

        def __getattr__(cls, name: str) -> BalancerStrategy: ...

    class BalancerStrategy(enum.StrEnum, metaclass=_OpenEnum):
        """How a group chooses among its replicas; the members are the registered strategies."""

else:
    BalancerStrategy = enum.StrEnum(
        "BalancerStrategy", {name.replace("-", "_").upper(): name for name in STRATEGIES}, module=__name__
    )
