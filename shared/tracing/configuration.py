"""What the setting ``traces`` and the standard ``OTEL_*`` variables say. Pure; the environment is given.

The variables are those of OpenTelemetry (SDK configuration, "Environment Variable Specification"; OTLP exporter,
"Configuration Options"). What is set and cannot be followed is refused, and not passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TypeVar
from urllib.parse import unquote

from msgspec import Struct, structs

from shared.errors import ConfigError
from shared.tracing.sampling import Sampler, sampler

INSTALL = "pip install 'mcp-one-gateway[otel]'"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_MOST_EVENTS = 20_000
"""How many events of the audit log may wait to be exported where ``OTEL_BLRP_MAX_QUEUE_SIZE`` says nothing."""
_PROTOCOL = "http/protobuf"
_WEB = re.compile(r"https?://[^/\s]+\S*\Z", re.IGNORECASE)
_T = TypeVar("_T")


class TraceConfiguration(Struct, frozen=True):
    """How traces are sampled and exported, or the audit log is. ``headers`` may be secrets, so they are not in the
    ``repr``.

    At most ``queue`` spans wait; they are sent in batches of ``batch``, at the latest after ``delay_s``.
    """

    sampler: Sampler = Sampler()
    baggage: bool = True
    endpoint: str = "http://localhost:4318/v1/traces"
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 10.0
    gzip: bool = False
    certificate: str = ""
    client_key: str = ""
    client_certificate: str = ""
    queue: int = 2048
    batch: int = 512
    delay_s: float = 5.0

    def __repr__(self) -> str:
        return f"TraceConfiguration({self.endpoint!r})"


def wanted(choice: str, environment: Mapping[str, str]) -> bool:
    """Whether traces are asked for: by the setting ``traces``, or (``auto``) by a variable that says where to."""
    if choice != "auto":
        return choice == "on"
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter == "none":
        return False
    return bool(exporter or any(environment.get(name, "").strip() for name in _ENDPOINTS))


def check_installed() -> None:
    """Raise ``ConfigError`` unless the extra is installed."""
    if not is_installed():
        raise ConfigError(
            f"traces are asked for (the setting 'traces', or OTEL_* variables), and the extra 'otel' is not "
            f"installed: {INSTALL}, or turn them off with GATEWAY_TRACES=off"
        )


def is_installed() -> bool:
    """Whether the extra is installed."""
    return find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None


def configuration(environment: Mapping[str, str]) -> TraceConfiguration:
    """Return what the ``OTEL_*`` variables say. Raises ``ConfigError`` for what is wrong or cannot be done."""
    read = _Variables(environment)
    exporter = read.text("OTEL_TRACES_EXPORTER", "otlp")
    if exporter not in ("otlp", "none"):
        raise ConfigError(f"OTEL_TRACES_EXPORTER is {exporter!r}; traces are exported by 'otlp'")
    _check_exporting(read, "traces")
    return structs.replace(
        _exporting(read, "BSP", 2048, 5000),
        sampler=sampler(
            read.text("OTEL_TRACES_SAMPLER", "parentbased_always_on"), read.text("OTEL_TRACES_SAMPLER_ARG")
        ),
        baggage=_propagates_baggage(read.text("OTEL_PROPAGATORS", "tracecontext,baggage")),
    )


def log_configuration(environment: Mapping[str, str]) -> TraceConfiguration:
    """Return what the ``OTEL_*`` variables say of exporting logs, which the audit log is. Raises ``ConfigError``."""
    read = _Variables(environment, "LOGS")
    _check_exporting(read, "logs")
    return _exporting(read, "BLRP", _MOST_EVENTS, 1000)


def _exporting(read: _Variables, processor: str, queue: int, delay_ms: int) -> TraceConfiguration:
    """Return where to export to, and how. ``processor`` is in the names of the variables of its batches, ``queue`` and
    ``delay_ms`` are what holds without them."""
    queue = read.number(f"OTEL_{processor}_MAX_QUEUE_SIZE", queue, int, 1)
    return TraceConfiguration(
        endpoint=_endpoint(read),
        headers=_headers(read.otlp("HEADERS")),
        timeout_s=read.number_of(*read.otlp_pair("TIMEOUT", "10000"), float, 1) / 1000,
        gzip=read.otlp("COMPRESSION") == "gzip",
        certificate=read.otlp("CERTIFICATE"),
        client_key=read.otlp("CLIENT_KEY"),
        client_certificate=read.otlp("CLIENT_CERTIFICATE"),
        queue=queue,
        batch=min(queue, read.number(f"OTEL_{processor}_MAX_EXPORT_BATCH_SIZE", 512, int, 1)),
        delay_s=read.number(f"OTEL_{processor}_SCHEDULE_DELAY", delay_ms, float, 1) / 1000,
    )


def _check_exporting(read: _Variables, what: str) -> None:
    """Raise ``ConfigError`` for what is said of exporting and cannot be done."""
    protocol = read.otlp("PROTOCOL", _PROTOCOL)
    if protocol != _PROTOCOL:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; {what} go by {_PROTOCOL!r}, on port 4318 of most collectors"
        )
    compression = read.otlp("COMPRESSION", "none")
    if compression not in ("none", "gzip"):
        raise ConfigError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {compression!r}; it may be 'gzip' or 'none'")


class _Variables:
    """Reads variables about one ``signal``. An empty one counts as not set, as the specification demands."""

    def __init__(self, environment: Mapping[str, str], signal: str = "TRACES") -> None:
        self._environment = environment
        self.signal = signal

    def text(self, name: str, default: str = "") -> str:
        return self._environment.get(name, "").strip() or default

    def otlp_pair(self, name: str, default: str = "") -> tuple[str, str]:
        """Return the name and the value of an option of the exporter; what is said of the signal comes first."""
        for one in (f"OTEL_EXPORTER_OTLP_{self.signal}_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
            if value := self.text(one):
                return one, value
        return f"OTEL_EXPORTER_OTLP_{name}", default

    def otlp(self, name: str, default: str = "") -> str:
        return self.otlp_pair(name, default)[1]

    def number(self, name: str, default: int, kind: Callable[[str], _T], least: int) -> _T:
        return self.number_of(name, self.text(name, str(default)), kind, least)

    @staticmethod
    def number_of(name: str, text: str, kind: Callable[[str], _T], least: int) -> _T:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= 10**9:  # type: ignore[operator]
            raise ConfigError(f"{name} is {text!r}; it is a number, at least {least}")
        return value


def _endpoint(read: _Variables) -> str:
    name = f"OTEL_EXPORTER_OTLP_{read.signal}_ENDPOINT"
    own = read.text(name)
    url = own or read.text(_ENDPOINTS[1], "http://localhost:4318").rstrip("/") + f"/v1/{read.signal.lower()}"
    if not _WEB.match(url):
        raise ConfigError(f"{name if own else _ENDPOINTS[1]} is no URL of HTTP, as http://collector:4318")
    return url


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    """Return the headers in ``name=value,name=value``, which are percent-encoded as baggage is."""
    found = []
    for one in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = one.partition("=")
        name, value = unquote(name).strip(), unquote(value).strip()
        if not (equals and name.isascii() and name.isprintable() and " " not in name and value.isprintable()):
            raise ConfigError("OTEL_EXPORTER_OTLP_HEADERS is not of the form name=value,name=value")
        found.append((name, value))
    return tuple(found)


def _propagates_baggage(text: str) -> bool:
    names = {one.strip() for one in text.split(",")}
    if not names <= {"tracecontext", "baggage", "none"}:
        raise ConfigError(f"OTEL_PROPAGATORS is {text!r}; there are 'tracecontext' and 'baggage'")
    return "baggage" in names
