"""redis-py without OpenTelemetry's SDK, for processes that are the gateway's own.

When redis-py is imported it looks for the SDK, for metrics of its own that the gateway does not use. Where the SDK is
installed (the extra ``otel``: traces need a small part of it), loading it costs each process 3 MiB and some 50 ms.

A program that embeds ``Gateway`` may want these metrics, so it is the entry points of processes that call ``load``, and
not what they import.
"""

from __future__ import annotations

import sys

_SDK = "opentelemetry.sdk.metrics"


def load() -> None:
    """Import redis-py, which does not find the SDK meanwhile. To be called before anything else imports redis-py."""
    if _SDK in sys.modules:
        return
    sys.modules[_SDK] = None  # type: ignore[assignment]  # so an import of it fails (Python's reference, 5.3.1)
    try:
        import redis.asyncio  # noqa: F401
    finally:
        del sys.modules[_SDK]
