"""Unit tests do no I/O, so Hypothesis needs no deadline; examples are few enough to keep the set quick."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=80, database=None)
settings.load_profile("unit")
