"""The words among which settings and entries choose: balancing strategies, naming, isolation,
eras, pins, duties, discovery, and yes or no."""

from __future__ import annotations

import enum

SWITCHED = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}
"""What people write for yes and no."""
YAML_SWITCHES = ("yes", "on", "no", "off")
"""Those that are no texts in versions of YAML before 1.2."""
STRATEGIES: dict[str, str] = {}
"""The names of balancing strategies, and what they mean. ``gateway.balancers`` fills the table. A worker chooses no
replicas, so it leaves the table empty and takes any name."""


def check_strategy(name: str) -> str:
    """Return ``name`` if it is a strategy. Raises ``ValueError`` that names the choices."""
    if STRATEGIES and name not in STRATEGIES:
        raise ValueError(f"{name!r} is not one of {', '.join(STRATEGIES)}")
    return name


class Naming(enum.StrEnum):
    """Whether tools are listed without a prefix while their names are unambiguous, or always as ``group__tool``."""

    AUTO = "auto"
    PREFIX = "prefix"


class Isolation(enum.StrEnum):
    """Whether clients share one upstream session or get one each. ``auto`` decides by the sessions that the upstream
    offers."""

    AUTO = "auto"
    SHARED = "shared"
    CLIENT = "client"


class EraChoice(enum.StrEnum):
    """Which protocol era to speak to an upstream. ``auto`` probes."""

    AUTO = "auto"
    LEGACY = "legacy"
    MODERN = "modern"


class Pin(enum.StrEnum):
    """What becomes of tools of an upstream that are not as they were approved: nothing, a warning, or they are held
    back until somebody approves them."""

    OFF = "off"
    WARN = "warn"
    BLOCK = "block"


class Duty(enum.StrEnum):
    """Whether an upstream takes calls, as an operator has it: a draining one gets only the calls of client sessions and
    tasks that it has already; a disabled one does not run, and nothing of it is listed."""

    ACTIVE = "active"
    DRAINING = "draining"
    DISABLED = "disabled"


class Discovery(enum.StrEnum):
    """How clients find tools: all are listed, or they search. ``auto`` decides by the length of the list."""

    LIST = "list"
    SEARCH = "search"
    AUTO = "auto"


LOG_LEVELS = ("debug", "info", "warning", "error")


def check_log_level(name: str) -> str:
    """Return a level of logging as it is kept. Raises ``ValueError``."""
    if name.lower() not in LOG_LEVELS:
        raise ValueError(f"{name!r} is not one of {', '.join(LOG_LEVELS)}")
    return name.lower()
