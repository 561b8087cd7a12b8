"""``shared.metrics.tally``: counting by label, with a bound."""

from __future__ import annotations

from shared.metrics.tally import OTHER, Tally


def test_what_has_no_room_for_a_row_of_its_own_counts_as_other() -> None:
    tally = Tally("things", "Things", ("kind", "colour"), most=2)
    for kind in ("a", "b", "c", "d", "a"):
        tally.count(kind, "red")
    tally.count("b", "red", by=10)
    shown = {one.labels: one.value for one in tally.family.samples}
    assert shown == {("a", "red"): 2, ("b", "red"): 11, (OTHER, OTHER): 2}
    assert (tally.family.kind, tally.family.labels) == ("counter", ("kind", "colour"))
