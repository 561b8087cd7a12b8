"""Every feature with every kind of client, SDK and upstream, in pairs: every two of them that can meet, meet once.

The whole matrix is played by ``make matrix``, which writes docs/matrix.md.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.matrix.cells import FEATURES, KINDS, NOT_APPLICABLE, PLAYERS, UPSTREAMS, Cell, every_cell, pairs
from tests.matrix.player import missing
from tests.matrix.plays import PLAYS
from tests.matrix.theatre import Theatre, theatre

CHOSEN = pairs(every_cell())


@pytest_asyncio.fixture(scope="module")
async def house(redis_url: str) -> AsyncIterator[Theatre]:
    async with theatre(redis_url) as house:
        yield house


@pytest.mark.parametrize("cell", CHOSEN, ids=str)
async def test_feature(house: Theatre, cell: Cell) -> None:
    if cell.player in PLAYERS and (why := missing(cell.player)):
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    await house.play(cell)


def test_every_two_values_that_can_meet_meet() -> None:
    def met(cells: list[Cell]) -> set[object]:
        return {pair for cell in cells for pair in itertools.combinations(enumerate(cell), 2)}

    assert met(CHOSEN) == met(every_cell())
    assert len(CHOSEN) < len(every_cell()) / 5


def test_the_tables_name_what_exists() -> None:
    assert set(PLAYS) == set(FEATURES)
    for row in NOT_APPLICABLE:
        assert row.feature in FEATURES
        assert row.versions <= {kind.version for kind in KINDS}
        assert row.upstreams <= {upstream.id for upstream in UPSTREAMS}
