"""Traces (OpenTelemetry): what front ends and workers share. Who makes spans: ``gateway.telemetry.traces`` and
``worker.calls.traces``.

``context`` the W3C trace context as it comes in and goes out · ``sampling`` which traces are recorded · ``spans``
spans as bytes of OTLP · ``log_records`` lines of the audit log as bytes of OTLP · ``naming`` what spans are called ·
``configuration`` what the settings and the ``OTEL_*`` variables say · ``exporter`` spans on their way to a collector
· ``tracing`` all of it for one process.
"""
