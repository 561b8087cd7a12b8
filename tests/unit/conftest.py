"""Unit tests do no I/O, so Hypothesis needs no deadline; examples are few enough to keep the set quick.

The strategies of ``gateway.balancers`` are registered, as they are wherever settings and registrations are checked.
"""

from __future__ import annotations

from hypothesis import settings

import gateway.balancers  # noqa: F401

settings.register_profile("unit", deadline=None, max_examples=80, database=None)
settings.load_profile("unit")
