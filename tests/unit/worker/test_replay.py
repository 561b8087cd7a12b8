"""What is kept of calls for lost streams is bounded for each and for all together."""

from __future__ import annotations

from worker.replay import KEEP_BYTES, KEEP_BYTES_TOTAL, Outcome, Replays


def test_calls_that_run_on_are_bounded_together_as_well() -> None:
    replays = Replays(lambda: 0.0)
    ended = replays.open(("f", 0), "s", b"0", None)
    replays.add(ended, b"x" * 1000)
    replays.end(ended, Outcome(lambda link, number: None, 1000))
    running = [
        replays.open(("f", number), "s", b"1", object()) for number in range(1, 2 + KEEP_BYTES_TOTAL // KEEP_BYTES)
    ]
    for _ in range(2):
        for replay in running:
            replays.add(replay, b"x" * (KEEP_BYTES // 2))
    assert replays.size <= KEEP_BYTES_TOTAL
    assert replays.find(("f", 0), "s") is None, "what has ended makes room first"
    assert len(running[0].messages) == 2 and len(running[-1].messages) < 2
