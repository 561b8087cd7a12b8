"""``shared.metrics``: figures of several processes as one, and the text that Prometheus reads."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from shared.metrics.exposition import exposition
from shared.metrics.families import (
    Family,
    Sample,
    Snapshot,
    counter,
    decode,
    encode,
    gauge,
    histogram,
    pack,
    together,
    unpack,
    with_label,
)
from shared.metrics.instance_directory import InstanceDirectory
from shared.metrics.process import ProcessFigures

NOBODY = 2**22 + 1
"""A pid that no process has: larger than the kernel allows."""


def _families(calls: float, in_flight: float, buckets: list[int] | None = None) -> list[Family]:
    one = counter("calls", "Calls", ("tool",))
    one.samples.append(Sample(("echo",), calls))
    two = gauge("in_flight", "In flight")
    two.samples.append(Sample((), in_flight))
    three = histogram("seconds", "Time", ("group",), (0.1, 1.0))
    three.samples.append(Sample(("g",), 2.5, buckets or [1, 2, 3]))
    return [one, two, three]


def _read(text: bytes) -> dict[str, float]:
    """Every sample as Prometheus' own parser reads it."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            shown = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            assert f"{sample.name}{{{shown}}}" not in found, "a series is there twice"
            found[f"{sample.name}{{{shown}}}"] = sample.value
    return found


def test_processes_are_added_up() -> None:
    found = _read(exposition(together([_families(3, 1), _families(4, 2, [0, 0, 1])])))
    assert found == {
        "calls_total{tool=echo}": 7,
        "in_flight{}": 3,
        "seconds_bucket{group=g,le=0.1}": 1,
        "seconds_bucket{group=g,le=1}": 3,
        "seconds_bucket{group=g,le=+Inf}": 7,
        "seconds_sum{group=g}": 5,
        "seconds_count{group=g}": 7,
    }


def test_adding_up_changes_none_of_the_parts() -> None:
    mine, other = _families(3, 1), _families(4, 2)
    together([mine, other])
    assert (mine, other) == (_families(3, 1), _families(4, 2))


def test_what_all_say_alike_is_not_added_up() -> None:
    info = Family("info", "gauge", "", ("version",), [Sample(("1",), 1.0)], "max")
    assert _read(exposition(together([[info], [info]]))) == {"info{version=1}": 1}


def test_a_family_of_another_version_is_left_out() -> None:
    other = histogram("seconds", "Time", ("group",), (0.5,))
    other.samples.append(Sample(("g",), 1.0, [1, 1]))
    assert _read(exposition(together([_families(1, 1), [other]])))["seconds_count{group=g}"] == 6


def test_names_of_others_cannot_break_the_text() -> None:
    evil = 'a"} 1\ncalls_total{tool="x\\'
    family = counter("calls", "two\nlines \\", ("tool",))
    family.samples.append(Sample((evil,), 1))
    assert _read(exposition([family])) == {f"calls_total{{tool={evil}}}": 1}
    half = counter("calls", "", ("tool",))
    half.samples.append(Sample(("\ud83d",), 1))
    assert _read(exposition([half])) == {"calls_total{tool=?}": 1}


def test_members_of_a_fleet_are_told_apart() -> None:
    found = _read(exposition(together([with_label("member", id, _families(3, 1)) for id in ("f1", "f2")])))
    assert found["calls_total{member=f1,tool=echo}"] == found["calls_total{member=f2,tool=echo}"] == 3


def test_a_snapshot_travels() -> None:
    snapshot = Snapshot("frontend", "f1", 7, _families(3, 1))
    assert decode(encode(snapshot)) == snapshot == unpack(pack(snapshot))
    for junk in (b"", b"\xc1", b"\x93abc", encode(snapshot)[:-3]):
        assert decode(junk) is None and unpack(junk) is None


def test_counters_of_an_instance_survive_its_processes(tmp_path: Path) -> None:
    """What has ended counts on, and holds nothing any more; also when it is looked at by several, one after another."""
    directory = InstanceDirectory(tmp_path / "figures")
    directory.write(Snapshot("frontend", "here", os.getpid(), _families(3, 1)))
    for number in range(3):
        directory.write(Snapshot("frontend", f"gone{number}", NOBODY, _families(10, 5)))
        for looker in (directory, InstanceDirectory(tmp_path / "figures")):
            found = _read(exposition(together(looker.collect())))
            assert found["calls_total{tool=echo}"] == 3 + 10 * (number + 1)
            assert found["seconds_count{group=g}"] == 6 + 6 * (number + 1)
            assert found["in_flight{}"] == 1
    assert len(list((tmp_path / "figures").glob("*.figures"))) == 1, "files of ended processes are not kept"


def test_half_a_file_costs_itself(tmp_path: Path) -> None:
    directory = InstanceDirectory(tmp_path)
    directory.write(Snapshot("frontend", "here", os.getpid(), _families(3, 1)))
    (tmp_path / "1-x.figures").write_bytes(b"\x93")
    assert _read(exposition(together(directory.collect())))["calls_total{tool=echo}"] == 3


def test_the_directory_is_private(tmp_path: Path) -> None:
    InstanceDirectory(tmp_path / "figures")
    assert (tmp_path / "figures").stat().st_mode & 0o077 == 0


def test_a_process_knows_itself() -> None:
    figures = ProcessFigures("worker")
    for seconds in (0.0, 0.02, 3.0):
        figures.late(seconds)
    found = _read(exposition(figures.families()))
    labels = f"pid={os.getpid()},process=worker"
    assert found[f"process_resident_memory_bytes{{{labels}}}"] > 1e6
    assert found[f"process_open_fds{{{labels}}}"] >= 3
    assert found[f"process_cpu_seconds_total{{{labels}}}"] > 0
    assert 1.5e9 < found[f"process_start_time_seconds{{{labels}}}"] < 1e10
    assert found["gateway_loop_lag_seconds_count{process=worker}"] == 3
    assert found["gateway_loop_lag_seconds_bucket{le=0.025,process=worker}"] == 2
