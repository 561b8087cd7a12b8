"""``shared.shown_settings``: what the settings are, without secrets."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import structs

from shared.errors import ConfigError
from shared.handover import to_environment
from shared.settings import KNOBS, SOURCES, build
from shared.shown_settings import shown


def test_settings_are_shown_as_a_file_has_them_and_without_secrets() -> None:
    settings = build(
        {
            "adminToken": "hush",
            "requestTimeout": 1500,
            "redisUrl": "redis://me:hush@h/0",
            "secret": "hush-hush-hush-hush",
            "traceUrl": "http://h/{trace}",
        },
        {"GATEWAY_PORT": "7"},
    )
    found = {one.key: one for one in shown(settings)}
    assert list(found) == list(KNOBS)
    assert (found["requestTimeout"].value, found["requestTimeout"].default) == (1500, 30000)
    assert found["port"].given and found["port"].variable == "GATEWAY_PORT" and not found["host"].given
    assert found["traceUrl"].value == "http://h/{trace}"
    assert "hush" not in msgspec.json.encode(list(found.values())).decode()
    assert found["adminToken"].given and found["adminToken"].value and not found["accessRules"].value
    assert {one.key for one in shown(build()) if one.given} == set()


def test_each_value_says_where_it_comes_from_also_after_it_was_handed_over() -> None:
    given = {"port": 1, "name": "city", "frontends": 2, "workers": 1}
    settings = build(given, {"GATEWAY_PORT": "2", "GATEWAY_NAME": "town"}, {"port": 3, "host": None})
    settings = structs.replace(settings, registry=structs.replace(settings.registry, redis_url="unix:///tmp/r.sock"))
    wanted = {"port": "flag", "name": "variable", "frontends": "file", "redisUrl": "gateway"}
    for one in (settings, build(environment=to_environment(settings))):
        assert {row.key: row.source for row in shown(one) if row.source} == wanted, "workers has its default"


def test_what_says_where_values_come_from_is_not_for_people() -> None:
    with pytest.raises(ConfigError, match="unset it"):
        build(environment={SOURCES: "file"})
