"""What is kept of calls for lost streams is bounded for each and for all together."""

from __future__ import annotations

from shared.settings import SessionSettings
from worker.calls.replay import KeptOutcome, Replays

SETTINGS = SessionSettings(replay_bytes=10_000, replay_total_bytes=640_000)


def test_calls_that_run_on_are_bounded_together_as_well() -> None:
    replays = Replays(lambda: 0.0, SETTINGS)
    ended = replays.open(("f", 0), "s", b"0", None)
    replays.add(ended, b"x" * 1000)
    replays.end(ended, KeptOutcome(lambda link, number: None, 1000))
    count = 1 + SETTINGS.replay_total_bytes // SETTINGS.replay_bytes
    running = [replays.open(("f", number), "s", b"1", object()) for number in range(1, 1 + count)]
    for _ in range(2):
        for replay in running:
            replays.add(replay, b"x" * (SETTINGS.replay_bytes // 2))
    assert replays.size <= SETTINGS.replay_total_bytes
    assert replays.find(("f", 0), "s") is None, "what has ended makes room first"
    assert len(running[0].messages) == 2 and len(running[-1].messages) < 2


def test_a_call_is_found_by_its_session_under_every_name_until_its_time_is_over() -> None:
    now = 0.0
    replays = Replays(lambda: now, SETTINGS)
    replay = replays.open(("f1", 7), "s", b"1", object())
    replays.name(replay, ("f2", 3))
    for number in range(3):
        assert replays.add(replay, b"%d" % number) == number + 1
    assert replays.find(("f1", 7), "s") is replays.find(("f2", 3), "s") is replay
    assert replays.find(("f1", 7), "another") is None and replays.find(("f1", 8), "s") is None
    assert [message for _, message in replay.after(1)] == [b"1", b"2"]
    replays.end(replay, KeptOutcome(lambda link, number: None, 10))
    now = SETTINGS.replay_s - 1
    assert replays.find(("f2", 3), "s") is replay
    now = SETTINGS.replay_s
    assert replays.find(("f2", 3), "s") is None and len(replays) == 0 and replays.size == 0


def test_the_end_of_a_session_is_the_end_of_what_was_kept_for_it() -> None:
    replays = Replays(lambda: 0.0, SETTINGS)
    for number, sid in enumerate(("s", "s", "other")):
        replays.add(replays.open(("f", number), sid, b"1", object()), b"message")
    replays.end_session("s")
    assert len(replays) == 1 and replays.size == len(b"message")
