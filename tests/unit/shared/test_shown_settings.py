"""``shared.shown_settings``: what the settings are, without secrets."""

from __future__ import annotations

import msgspec

from shared.settings import KNOBS, build
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
