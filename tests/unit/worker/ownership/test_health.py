"""``worker.ownership.health``: one lost packet is no outage; certainty is one at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ownership.health import HealthPolicy


def _see(policy: HealthPolicy, event: str) -> bool:
    """``+`` succeeded, ``-`` failed, ``!`` failed for certain."""
    if event == "+":
        return policy.succeeded()
    return policy.failed(certain=True) if event == "!" else policy.failed()


def _run(policy: HealthPolicy, events: str) -> str:
    """For each event: ``D`` taken out, ``U`` brought back, ``.`` nothing."""
    said = ""
    for event in events:
        was_down = policy.down
        changed = _see(policy, event)
        assert changed == (policy.down != was_down)
        said += "." if not changed else "D" if policy.down else "U"
    return said


@pytest.mark.parametrize(
    ("unhealthy_after", "healthy_after", "events", "expected"),
    [
        (2, 1, "-", "."),
        (2, 1, "--", ".D"),
        (2, 1, "-+-+-", "....."),
        (2, 1, "!", "D"),
        (2, 1, "!+", "DU"),
        (2, 1, "!!--", "D..."),
        (2, 1, "-----+", ".D...U"),
        (1, 1, "-+-+", "DUDU"),
        (3, 2, "---+++", "..D.U."),
        (3, 2, "!+-++", "D...U"),
        (3, 2, "!+!+", "D..."),
        (2, 1, "++++", "...."),
        (2, 2, "+++!+", "...D."),
        (2, 2, "--++--", ".D.U.D"),
    ],
)
def test_the_verdict_changes_when_the_thresholds_say(
    unhealthy_after: int, healthy_after: int, events: str, expected: str
) -> None:
    assert _run(HealthPolicy(unhealthy_after, healthy_after), events) == expected


@given(st.integers(1, 4), st.integers(1, 4), st.text("+-!", max_size=40))
def test_verdicts_alternate_and_follow_the_last_streak(up: int, back: int, events: str) -> None:
    policy = HealthPolicy(up, back)
    changes = _run(policy, events).replace(".", "")
    assert changes == ("DU" * 40)[: len(changes)]
    assert policy.down == (len(changes) % 2 == 1)
    if events.endswith("!") or events.endswith("-" * up):
        assert policy.down
    if events.endswith("+" * back):
        assert not policy.down
