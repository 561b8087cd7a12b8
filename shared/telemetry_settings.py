"""Settings of what the gateway shows of itself. Counterpart: ``shared.settings``, which makes them of all sources."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct


def check_trace_url(url: str) -> str:
    """Return the address of a trace as it is kept, with ``{trace}`` where its id stands. Raises ``ValueError``."""
    is_one = url.startswith(("http://", "https://")) and bool(urlsplit(url).hostname) and "{trace}" in url
    if url and not is_one:
        raise ValueError(f"{url!r} is not a URL with {{trace}} in it, as http://localhost:16686/trace/{{trace}}")
    return url


class TelemetrySettings(Struct, frozen=True):
    """What the gateway shows of itself."""

    metrics_bind: Annotated[
        str, Meta(description="host:port on which a worker of its own shows /metrics; front ends show their instance's")
    ] = ""
    log_format: Annotated[
        Literal["console", "json"], Meta(description="console: for people; json: one object a line")
    ] = "console"
    access_log: Annotated[bool, Meta(description="one line for each call, in front ends and workers")] = False
    traces: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="export traces by OTLP (extra otel); auto: if OTEL_EXPORTER_OTLP_ENDPOINT or the like is set"),
    ] = "auto"
    trace_url: Annotated[
        str,
        Meta(
            description="address at which a trace is shown, with {trace} in it; the dashboard links failed calls to it",
            extra={"check": check_trace_url},
        ),
    ] = ""
    metrics_max_tools: Annotated[
        int, Meta(ge=1, description="tools, and groups, with figures of their own; further ones count as 'other'")
    ] = 1000
