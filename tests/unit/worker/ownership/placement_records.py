"""Upstreams with their owners: for the tests of ``worker.ownership.placement``."""

from __future__ import annotations

from collections.abc import Mapping

from shared.registry.records import UpstreamRecord
from tests.unit.builders import record


def up(id: str, owners: Mapping[int, str] | None = None, transport: str = "http") -> UpstreamRecord:
    return record(id, owners=sorted((owners or {}).items()), transport=transport)
