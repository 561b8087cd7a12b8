"""Which traces are recorded: the samplers that OpenTelemetry names (SDK configuration, ``OTEL_TRACES_SAMPLER``). Pure.

Those of the SDK take some 10 µs to decide, because they look into contexts and attributes; these need the id alone, and
decide alike.
"""

from __future__ import annotations

from msgspec import Struct

from shared.errors import ConfigError

_ALL = 1 << 64
_LOW = _ALL - 1
_BY_PARENT = "parentbased_"
_RATIO = "traceidratio"
NAMES = tuple(f"{prefix}{name}" for prefix in (_BY_PARENT, "") for name in ("always_on", "always_off", _RATIO))


class Sampler(Struct, frozen=True):
    """Records a trace if the low 64 bits of its id are below ``bound``; or, ``by_parent``, if its parent is
    recorded."""

    bound: int = _ALL
    by_parent: bool = True

    def takes(self, trace_id: int, parent: bool | None = None) -> bool:
        """Whether a trace is recorded. ``parent``: whether what it continues is, or ``None`` where a trace begins."""
        if self.by_parent and parent is not None:
            return parent
        return trace_id & _LOW < self.bound


def sampler(name: str, argument: str) -> Sampler:
    """Return the sampler of ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG``. Raises ``ConfigError``."""
    if name not in NAMES:
        raise ConfigError(f"OTEL_TRACES_SAMPLER is {name!r}; there are {', '.join(NAMES)}")
    by_parent, plain = name.startswith(_BY_PARENT), name.removeprefix(_BY_PARENT)
    if plain != _RATIO:
        return Sampler(_ALL if plain == "always_on" else 0, by_parent)
    try:
        ratio = float(argument or "1")
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ConfigError(f"OTEL_TRACES_SAMPLER_ARG is {argument!r}; it is a share of all traces, from 0 to 1")
    return Sampler(round(ratio * _ALL), by_parent)
