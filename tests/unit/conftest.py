"""Unit tests do no I/O, so Hypothesis needs no deadline; examples are few enough to keep the set quick.

How fast they are made says only how busy the machine is.

The strategies of ``gateway.balancers`` are registered, as they are wherever settings and registrations are checked.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

import gateway.balancers  # noqa: F401

settings.register_profile(
    "unit", deadline=None, max_examples=80, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")
