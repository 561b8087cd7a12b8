"""Registering an upstream must stay cheap, because thousands are registered at once. Function calls are counted, which
neither noise nor other load changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shared.models import UpstreamSpec, make_spec
from tests.cost.test_cost import count

_HTTP = {"type": "http", "url": "http://127.0.0.1:9/mcp", "headers": {"X-Team": "a"}}


@pytest.mark.parametrize(
    ("options", "most"), [({}, 160), ({"settings": {"requestTimeout": 5000}}, 260)], ids=["plain", "with settings"]
)
def test_checking_an_entry_reads_no_types_again(options: dict[str, Any], most: int) -> None:
    def check() -> UpstreamSpec:
        return make_spec("u", _HTTP, **options)

    counted: Callable[[], None] = check  # type: ignore[assignment]
    assert count(counted) <= most
