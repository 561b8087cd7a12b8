"""The setting and the ``OTEL_*`` variables: what they mean, and that nothing wrong is passed over."""

from __future__ import annotations

import pytest

from shared.errors import ConfigError
from shared.settings import build
from shared.tracing import configuration as module
from shared.tracing.configuration import check_installed, configuration, log_configuration, wanted
from shared.tracing.sampling import Sampler
from shared.tracing.tracing import check_traces, tracing

URL = "http://collector:4318"


@pytest.mark.parametrize(
    ("choice", "environment", "expected"),
    [
        ("auto", {}, False),
        ("auto", {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, True),
        ("auto", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL}, True),
        ("auto", {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ("auto", {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ("auto", {"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_EXPORTER": "none"}, False),
        ("auto", {"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ("auto", {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        ("on", {}, True),
        ("off", {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, False),
    ],
)
def test_who_asks_for_traces(choice: str, environment: dict[str, str], expected: bool) -> None:
    assert wanted(choice, environment) is expected


def test_the_defaults_are_those_of_the_specification() -> None:
    found = configuration({})
    assert (found.endpoint, found.queue, found.batch) == ("http://localhost:4318/v1/traces", 2048, 512)
    assert (found.timeout_s, found.delay_s, found.sampler, found.gzip) == (10.0, 5.0, Sampler(), False)


def test_everything_that_can_be_said() -> None:
    found = configuration(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": URL + "/",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b, x-other = c ,",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.5",
            "OTEL_PROPAGATORS": "tracecontext",
        }
    )
    assert found.endpoint == URL + "/v1/traces" and found.headers == (("x-key", "a b"), ("x-other", "c"))
    assert (found.timeout_s, found.gzip, found.certificate) == (2.5, True, "/ca.pem")
    assert (found.queue, found.batch, found.delay_s) == (100, 100, 0.2), "no batch is larger than the queue"
    assert found.sampler == Sampler(1 << 63, False) and not found.baggage
    assert "a b" not in repr(found)


def test_what_is_said_of_traces_comes_before_what_is_said_of_all() -> None:
    own = "https://other/custom"
    found = configuration({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": own})
    assert found.endpoint == own, "as it is: no path is added"


def test_logs_have_their_own_variables() -> None:
    assert log_configuration({}).endpoint == "http://localhost:4318/v1/logs"
    assert log_configuration({"OTEL_EXPORTER_OTLP_ENDPOINT": URL}).endpoint == URL + "/v1/logs"
    environment = {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://other/custom",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "a=b",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "c=d",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_QUEUE_SIZE": "7",
    }
    found = log_configuration(environment)
    assert (found.endpoint, found.headers, found.queue) == ("https://other/custom", (("a", "b"),), 100)
    assert not wanted("auto", environment), "no traces because of logs"
    with pytest.raises(ConfigError, match="logs go by"):
        log_configuration({"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no equals sign"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%0D%0AX: y"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "nan"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "mine"),
        ("OTEL_PROPAGATORS", "b3"),
    ],
)
def test_what_cannot_be_followed_is_refused_and_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_"):
        configuration({name: value})


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mcp-one-gateway\[otel\]'.*GATEWAY_TRACES=off"):
        check_installed()


def test_what_only_the_environment_asks_for_and_cannot_be_had_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    check_traces(build())
    assert "there are no traces: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'" in caplog.text
    assert tracing(build(), "worker", "w1") is None
    with pytest.raises(ConfigError, match="'grpc'"):
        check_traces(build(overrides={"traces": "on"}))
