from __future__ import annotations

import json
import random
from typing import Any

import pytest

from shared.mcp import values


def _commas(value: Any) -> int:
    """How many commas are written between the members and elements of a value."""
    if isinstance(value, dict):
        return max(len(value) - 1, 0) + sum(map(_commas, value.values()))
    if isinstance(value, list):
        return max(len(value) - 1, 0) + sum(map(_commas, value))
    return 0


def _value(source: random.Random, depth: int) -> Any:
    text = "".join(source.choice('ab,"\\{}[]:\n\u00e9') for _ in range(source.randrange(12)))
    if depth == 0 or source.random() < 0.3:
        return source.choice([text, 1, None, True, 1.5])
    if source.random() < 0.5:
        return [_value(source, depth - 1) for _ in range(source.randrange(5))]
    return {text + str(n): _value(source, depth - 1) for n in range(source.randrange(5))}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_what_is_in_strings_does_not_count_wherever_a_slice_ends(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_SLICE", size)
    source = random.Random(size)
    for _ in range(100):
        value = _value(source, 4)
        text = json.dumps(value, ensure_ascii=source.random() < 0.5).encode()
        assert list(values.count(text))[-1] == _commas(value) + 1


def test_strings_of_backslashes_and_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 2, 5):
        monkeypatch.setattr(values, "_SLICE", size)
        for backslashes in range(9):
            value = ["\\" * backslashes, ",", '"' * backslashes + "," + "\\" * backslashes, 1]
            assert list(values.count(json.dumps(value).encode()))[-1] == 4


def test_the_first_look_never_misses_a_heavy_text() -> None:
    heavy = json.dumps(list(range(100))).encode()
    assert values.may_have_more(heavy, 99) and values.may_have_more(heavy, 50)
    assert not values.may_have_more(heavy, 100)
    assert values.may_have_more(json.dumps([","] * 60).encode(), 99), "commas in strings need the exact count"
    assert not values.may_have_more(json.dumps(["a" * 1000]).encode(), 10)
