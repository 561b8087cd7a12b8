"""Registering an upstream must stay cheap, because thousands are registered at once. Function calls are counted, which
neither noise nor other load changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from gateway.routing.catalog import Catalog
from shared.models import UpstreamSpec, make_spec
from shared.settings import Settings
from tests.cost.test_cost import count
from tests.unit.builders import record

_HTTP = {"type": "http", "url": "http://127.0.0.1:9/mcp", "headers": {"X-Team": "a"}}


@pytest.mark.parametrize(
    ("options", "most"), [({}, 160), ({"settings": {"requestTimeout": 5000}}, 260)], ids=["plain", "with settings"]
)
def test_checking_an_entry_reads_no_types_again(options: dict[str, Any], most: int) -> None:
    def check() -> UpstreamSpec:
        return make_spec("u", _HTTP, **options)

    counted: Callable[[], None] = check  # type: ignore[assignment]
    assert count(counted) <= most


def test_a_change_of_one_of_many_groups_costs_little_for_each_of_the_others() -> None:
    groups = 100
    ids = [f"u{number}" for number in range(groups)]
    records = {id: structs.replace(record(id, tools=[f"{id}_a", f"{id}_b"]), sequence=at) for at, id in enumerate(ids)}
    catalog = Catalog(Settings().routing)

    def change() -> None:
        records["u7"] = structs.replace(records["u7"], status_since=records["u7"].status_since + 1)
        catalog.rebuild(dict(records), 1e9)

    change()
    assert count(change) <= 60 * groups
    assert len(catalog.everything.routes) == len(catalog.everything.lists)
