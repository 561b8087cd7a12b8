"""Traces of one process: the exporter, the sampler, and what the process says of itself.

Everything of the SDK is imported here, and only where traces are asked for; so is the exporter, whose HTTP client
nothing else of a worker needs (10 MiB, 0.15 s).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from shared.errors import ConfigError
from shared.handover import standard_variables
from shared.settings import Settings
from shared.tracing.configuration import (
    INSTALL,
    TraceConfiguration,
    check_installed,
    configuration,
    is_installed,
    log_configuration,
    wanted,
)
from shared.tracing.spans import Value
from shared.version import VERSION

if TYPE_CHECKING:
    from shared.tracing.exporter import Exporter

FLUSH_S = 3.0
"""How long a process that ends may take to send what waits."""
_log = logging.getLogger(__name__)


class Tracing:
    """What makes spans in a process needs of this package."""

    def __init__(self, given: TraceConfiguration, exporter: Exporter) -> None:
        self.sampler = given.sampler
        self.baggage = given.baggage
        self.exporter = exporter
        self.add = exporter.add


def check_traces(settings: Settings) -> None:
    """Raise ``ConfigError`` if traces are turned on and cannot be had. What only the environment asks for, which may be
    that of a whole platform, is a warning: the gateway goes on without."""
    _, why = _wanted(settings, standard_variables())
    if why is not None:
        _log.warning("there are no traces: %s", why)


def tracing(settings: Settings, process: str, id: str) -> Tracing | None:
    """Return the tracing of this process, or ``None`` if nobody asked for it. ``process`` is ``frontend`` or
    ``worker``. Raises ``ConfigError``."""
    variables = standard_variables()
    given, _ = _wanted(settings, variables)
    if given is None:
        return None
    from shared.tracing.exporter import Exporter

    return Tracing(given, Exporter(given, _resource(variables, settings.service.name, _own(process, id))))


def check_exported_audit() -> TraceConfiguration:
    """Return how the audit log is exported. Raises ``ConfigError`` if it cannot be."""
    if not is_installed():
        raise ConfigError([("access.audit.otlp", f"needs the extra 'otel', which is not installed: {INSTALL}")])
    return log_configuration(standard_variables())


def audit_exporter(name: str, id: str) -> Exporter:
    """Return what exports the audit log of this front end, of a gateway of this name. Raises ``ConfigError``."""
    given = check_exported_audit()
    from shared.tracing.exporter import Exporter

    return Exporter(given, _resource(standard_variables(), name, _own("frontend", id)), "audit events")


def _own(process: str, id: str) -> dict[str, Value]:
    return {
        "service.version": VERSION,
        "service.instance.id": id,
        "process.pid": os.getpid(),
        "gateway.process": process,
    }


def _wanted(settings: Settings, variables: Mapping[str, str]) -> tuple[TraceConfiguration | None, ConfigError | None]:
    """Return how traces are made, or ``None`` and why there are none, if the environment asks for them. Raises
    ``ConfigError`` if the setting does."""
    if not wanted(settings.telemetry.traces, variables):
        return None, None
    try:
        check_installed()
        return configuration(variables), None
    except ConfigError as error:
        if settings.telemetry.traces == "on":
            raise
        return None, error


def _resource(variables: Mapping[str, str], name: str, own: Mapping[str, Value]) -> dict[str, Value]:
    """Return what the SDK's detectors find, ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` among it, and for
    the rest what is our ``own``."""
    from opentelemetry.sdk.resources import Resource

    os.environ.update(variables)  # which the SDK reads; stdio children get none of them (``child_environment``)
    found = {
        key: value if isinstance(value, str | int | bool) else str(value)
        for key, value in Resource.create().attributes.items()
    }
    if str(found.get("service.name", "unknown_service")).startswith("unknown_service"):
        found["service.name"] = name
    return {**own, **found}
