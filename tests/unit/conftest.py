"""Unit tests do no I/O, so Hypothesis needs no deadline; examples are few enough to keep the set quick.

How fast they are made says only how busy the machine is.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit", deadline=None, max_examples=80, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")
