"""The faults that tell most, on one fleet: whatever breaks, only what was in its hands fails, and that with a clear
error; nothing runs twice, nothing is left over, no session is lost. How long it takes is not asserted here: other tests
run beside this one. ``make chaos`` plays all faults, with limits in time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec import structs

from tests.chaos.fault import Fault
from tests.chaos.faults import FAULTS
from tests.chaos.stage import Stage
from tests.chaos.trial import play
from tests.machine import stretched

_FEW = ("front-end-killed", "owner-killed", "child-killed", "http-killed", "redis-back-empty", "redis-full")
_RATE = 40.0
_PATIENT_S = 120.0


@pytest_asyncio.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with Stage(request_timeout_s=stretched(15.0)) as stage:
        yield stage


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", [one for one in FAULTS if one.name in _FEW], ids=lambda fault: fault.name)
async def test_a_fault_costs_only_what_it_has_in_its_hands(stage: Stage, fault: Fault) -> None:
    allowed = structs.replace(fault.allowed, answer_s=_PATIENT_S, wait_s=_PATIENT_S, recovery_s=_PATIENT_S)
    outcome = await play(stage, structs.replace(fault, allowed=allowed), _RATE)
    assert outcome.verdict.calls > 50, "there was load"
    assert outcome.met, f"{outcome.verdict.problems}; clients were told: {outcome.verdict.said}"
