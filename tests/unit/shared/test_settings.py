"""``shared.settings``: names, units, precedence, and the trip through the environment."""

from __future__ import annotations

import enum
import math
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from shared.access.rules import check_access
from shared.choices import LOG_LEVELS, STRATEGIES, check_log_level, check_strategy
from shared.connections import check_public_url
from shared.egress import check_rules
from shared.errors import ConfigError
from shared.handover import to_environment
from shared.knobs import Knob, suggestion
from shared.nested_settings import check_path, check_percentile
from shared.networks import check_networks
from shared.own_settings import check_own, for_upstream
from shared.settings import KNOBS, SOURCES, Settings, build
from shared.telemetry_settings import check_trace_url


def _value(settings: Settings, knob: Knob) -> Any:
    return getattr(getattr(settings, knob.section), knob.field)


def _problems(**arguments: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        build(**arguments)
    return caught.value.problems


def test_every_field_of_every_room_is_a_knob_with_names_of_its_own() -> None:
    fields = [
        (room.name, field.name)
        for room in msgspec.structs.fields(Settings)
        if room.name != "sources"
        for field in msgspec.structs.fields(room.type)
    ]
    assert [(knob.section, knob.field) for knob in KNOBS.values()] == fields
    assert len({knob.variable for knob in KNOBS.values()}) == len(fields)
    assert len({knob.field for knob in KNOBS.values()}) == len(fields)  # flags are by field name


@pytest.mark.parametrize("key", sorted(KNOBS))
def test_every_knob_is_described_and_only_durations_are_milliseconds(key: str) -> None:
    knob = KNOBS[key]
    assert knob.description
    assert knob.key == key
    assert not key.endswith(("S", "_s"))
    assert knob.milliseconds == knob.field.endswith("_s")


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("port", "GATEWAY_PORT"),
        ("requestTimeout", "GATEWAY_REQUEST_TIMEOUT"),
        ("redisUrl", "GATEWAY_REDIS_URL"),
        ("tls.certFile", "GATEWAY_TLS_CERT_FILE"),
    ],
)
def test_names_follow_from_the_fields(key: str, variable: str) -> None:
    assert KNOBS[key].variable == variable


def test_nothing_given_is_all_defaults() -> None:
    assert build() == build({}, {}, {}) == Settings()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 4000),
        ({"file_values": {"port": 1}}, 1),
        ({"file_values": {"port": 1}, "environment": {"GATEWAY_PORT": "2"}}, 2),
        ({"file_values": {"port": 1}, "environment": {"GATEWAY_PORT": ""}}, 1),
        ({"file_values": {"port": 1}, "environment": {"GATEWAY_PORT": "2"}, "overrides": {"port": 3}}, 3),
        ({"file_values": {"port": 1}, "overrides": {"port": None}}, 1),
        ({"environment": {"GATEWAY_PORT": "2"}, "overrides": {"port": 0}}, 0),
    ],
)
def test_a_flag_beats_the_environment_beats_the_file(given: dict[str, Any], expected: int) -> None:
    assert build(**given).service.port == expected


def test_durations_are_milliseconds_outside_and_seconds_inside() -> None:
    assert build({"requestTimeout": 1500}).calls.request_timeout_s == 1.5
    assert build(environment={"GATEWAY_REQUEST_TIMEOUT": "1500"}).calls.request_timeout_s == 1.5
    assert build(overrides={"request_timeout_s": 1.5}).calls.request_timeout_s == 1.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.test", ("a.test",)), (" a.test, b.test ,", ("a.test", "b.test")), ("*", ("*",))],
)
def test_lists_are_comma_separated_in_the_environment(text: str, expected: tuple[str, ...]) -> None:
    assert build(environment={"GATEWAY_ALLOWED_HOSTS": text}).access.allowed_hosts == expected


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_booleans_are_words_in_the_environment(text: str, expected: bool) -> None:
    environment = {"GATEWAY_ALLOW_STDIO_REGISTRATION": text}
    assert build(environment=environment).access.allow_stdio_registration is expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", "4000"),
        ("port", -1),
        ("port", 65_536),
        ("port", 1.5),
        ("port", None),
        ("frontends", 0),
        ("requestTimeout", 0),
        ("requestTimeout", "1000"),
        ("requestTimeout", math.nan),
        ("allowedHosts", "a.test"),
        ("allowedHosts", [5]),
        ("allowStdioRegistration", "true"),
        ("balancer", "fastest"),
        ("naming", 5),
        ("stdioOnRedisLoss", "panic"),
        ("separator", ""),
        ("adminToken", 12345),
    ],
)
def test_a_wrong_value_in_a_file_is_named_by_its_key(key: str, value: Any) -> None:
    [(path, text)] = _problems(file_values={key: value})
    assert path == f"gateway.{key}"
    assert KNOBS[key].description in text


def test_tls_is_an_object_in_a_file() -> None:
    assert build({"tls": {"certFile": "/c.pem", "keyFile": "/k.pem"}}).tls.tls_key_file == "/k.pem"
    expected = ("gateway.tls", "must be an object with certFile, keyFile, clientCa")
    assert _problems(file_values={"tls": "/c.pem"}) == [expected]
    [(path, text)] = _problems(file_values={"tls": {"certfile": "/c.pem"}})
    assert path == "gateway.tls.certfile" and "did you mean 'tls.certFile'" in text


def test_a_wrong_value_elsewhere_is_named_as_it_was_given() -> None:
    assert _problems(environment={"GATEWAY_PORT": "many"})[0][0] == "GATEWAY_PORT"
    assert _problems(overrides={"port": 70_000})[0][0] == "port"


def test_all_wrong_values_are_told_at_once() -> None:
    problems = _problems(
        file_values={"prot": 1, "frontends": 0, "nothingLikeIt": 2},
        environment={"GATEWAY_WORKERS": "x", "GATEWAY_HOST": "fine", "OTHER": "x"},
        overrides={"page_size": 0},
    )
    assert [path for path, _ in problems] == [
        "gateway.prot",
        "gateway.frontends",
        "gateway.nothingLikeIt",
        "GATEWAY_WORKERS",
        "page_size",
    ]
    assert problems[0][1] == "unknown setting (did you mean 'port'?)"
    assert problems[2][1] == "unknown setting"


def test_a_suggestion_needs_a_resemblance() -> None:
    assert suggestion("comand", ["command", "args"]) == " (did you mean 'command'?)"
    assert suggestion("zzz", ["command", "args"]) == ""


def _samples(knob: Knob) -> list[Any]:
    """Values that this knob may have, the default perhaps among them."""
    plain, meta = typing.get_args(knob.type)
    if knob.milliseconds:
        return [0.001, 0.25, 1.0, 17.3, 86_400.0]
    if plain is bool:
        return [True, False]
    if plain is float:
        most = meta.le if meta.le is not None else 1e6
        return [meta.ge, (meta.ge + most) / 4, most]
    if plain is int:
        most = meta.le if meta.le is not None else 10**9
        return [meta.ge, meta.ge + 1, (meta.ge + most) // 2, most]
    if (meta.extra or {}).get("check") is check_log_level:
        return list(LOG_LEVELS)
    if (meta.extra or {}).get("check") is check_strategy:
        return list(STRATEGIES)
    if (meta.extra or {}).get("check") is check_rules:
        return [("a.test",), ("*",), ("10.0.0.0/8", "::1", "*.b.test"), ()]
    if (meta.extra or {}).get("check") is check_networks:
        return [("10.0.0.0/8",), ("::1", "192.0.2.7"), ()]
    if (meta.extra or {}).get("check") is check_public_url:
        return ["https://h.test/a/b", "http://h.test:80", ""]
    if (meta.extra or {}).get("check") is check_access:
        return ['{"anonymous":true}', '{"authentication":[{"type":"apiKey"}]}', ""]
    if (meta.extra or {}).get("check") is check_percentile:
        return ["p50", "p95", "p99"]
    if (meta.extra or {}).get("check") is check_trace_url:
        return ["http://h.test/trace/{trace}?é=${X}", "https://h.test:1/{trace}", ""]
    if (meta.extra or {}).get("check") is check_path:
        return ["/etc/a.pem", "/é b/${X}", ""]
    if plain is str:
        return ["a", "http://é:1/?q=1&r=${X}", " spaced ", "0", "false"]
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return list(plain)
    if typing.get_origin(plain) is tuple:
        return [("a.test",), ("*",), ("a.test:80", "https://b.test", "[::1]"), ()]
    return list(typing.get_args(plain))


@given(st.fixed_dictionaries({knob.field: st.none() | st.sampled_from(_samples(knob)) for knob in KNOBS.values()}))
@limits(max_examples=25)
def test_settings_survive_the_trip_through_the_environment(overrides: dict[str, Any]) -> None:
    settings = build(overrides=overrides)
    assert build(environment=to_environment(settings)) == settings


@given(st.integers(1, 10**10))
def test_milliseconds_survive_the_trip_to_seconds_and_back(milliseconds: int) -> None:
    settings = build({"requestTimeout": milliseconds})
    assert build(environment=to_environment(settings)) == settings


@pytest.mark.parametrize("key", sorted(KNOBS))
def test_every_knob_can_be_set_from_the_environment(key: str) -> None:
    knob = KNOBS[key]
    for value in [sample for sample in _samples(knob) if sample != knob.default]:
        settings = build(overrides={knob.field: value})
        variables = to_environment(settings)
        assert list(variables) == [knob.variable, SOURCES]
        assert _value(build(environment=variables), knob) == value


def test_defaults_need_no_variables() -> None:
    assert to_environment(Settings()) == {}


def test_the_repr_of_settings_tells_no_secret() -> None:
    settings = build({"adminToken": "hush", "secret": "hush-too"})
    assert settings.access.admin_token == "hush"
    assert "hush" not in repr(settings)
    assert {knob.key for knob in KNOBS.values() if knob.secret} == {"accessRules", "adminToken", "secret"}


@pytest.mark.parametrize("url", ["http://h/no", "{trace}", "javascript:alert('{trace}')", "http:///{trace}"])
def test_the_address_of_a_trace_is_one_with_a_place_for_its_id(url: str) -> None:
    ((where, text),) = _problems(file_values={"traceUrl": url})
    assert where == "gateway.traceUrl" and "{trace}" in text


def test_a_setting_is_known_by_its_former_name() -> None:
    assert build({"maxListed": 7}).health.max_entries == build({"maxEntries": 7}).health.max_entries == 7
    assert build({}, {"GATEWAY_MAX_LISTED_BYTES": "2000"}).health.max_catalog_bytes == 2000
    assert build({}, {"GATEWAY_MAX_LISTED": "1", "GATEWAY_MAX_ENTRIES": "2"}).health.max_entries == 2
    settings = build({})
    for own in ({"maxListed": 9}, {"maxEntries": 9}):  # records of before are in Redis
        assert check_own(own) == [] and for_upstream(settings, own).health.max_entries == 9
    assert [key for key, _ in check_own({"maxListing": 1})] == ["maxListing"]


def test_a_switch_may_be_a_word() -> None:
    """YAML has words for yes and no that JSON has not."""
    for word, on in (("yes", True), ("On", True), ("no", False), ("off", False)):
        assert build({"ephemeral": word}).service.ephemeral is on
        assert build(environment={"GATEWAY_EPHEMERAL": word}).service.ephemeral is on
    assert _problems(file_values={"ephemeral": "maybe"})
