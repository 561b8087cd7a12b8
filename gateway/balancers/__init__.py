"""Strategies that choose among the replicas that may take a call. Pure; adding one is adding a file to this folder.

``base`` says what a balancer is and keeps the table of strategies. Every other file is one strategy and its
registration: ``round_robin`` · ``least_connections`` · ``weighted`` · ``random_choice``. Nothing else knows a
strategy's name: all files of this folder are imported here, and whoever needs to know something about a strategy asks
the balancer.

A record may name a strategy that this front end does not have, because another version registered it. The catalogue
then takes the configured default.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
from typing import TYPE_CHECKING

from gateway.balancers.base import NO_CHOICE, Balancer, Candidate, make, strategy
from shared.models import STRATEGIES

__all__ = ["NO_CHOICE", "Balancer", "BalancerStrategy", "Candidate", "make", "strategy"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

if TYPE_CHECKING:

    class BalancerStrategy(enum.StrEnum):
        """How a group chooses among its replicas; the members are the registered strategies."""

else:
    BalancerStrategy = enum.StrEnum(
        "BalancerStrategy", {name.replace("-", "_").upper(): name for name in STRATEGIES}, module=__name__
    )
