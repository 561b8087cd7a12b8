"""Counting what happens rarely, by label. What happens on the path of every call is counted where it happens."""

from __future__ import annotations

from shared.metrics.families import Family, Sample, counter

OTHER = "other"
"""The label of what has no row of its own, because there are too many."""


class Tally:
    """One counter. At most ``most`` combinations of labels have rows of their own; further ones count as ``other``."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], most: int = 1000) -> None:
        self._family = counter(name, text, labels)
        self._most = most
        self._rows: dict[tuple[str, ...], Sample] = {}

    def count(self, *labels: str, by: int = 1) -> None:
        """Count ``by`` more with these labels, in the order of the family's."""
        row = self._rows.get(labels)
        if row is None:
            if len(self._rows) >= self._most:
                labels = (OTHER,) * len(labels)
            row = self._rows.get(labels)
            if row is None:
                row = self._rows[labels] = Sample(labels, 0)
                self._family.samples.append(row)
        row.value += by

    @property
    def family(self) -> Family:
        """The counter, with samples that go on counting."""
        return self._family
