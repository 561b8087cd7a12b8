"""Which variables a stdio child gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.child_environment import ORDINARY as ORDINARY_NAMES
from shared.child_environment import for_child, for_process

ENVIRONMENT = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "https_proxy": "http://me:word@proxy:3128",
    "npm_config_registry": "https://npm.example/",
    "PIP_INDEX_URL": "https://user:word@pypi.example/simple",
    "UV_INDEX_OURS_PASSWORD": "word",
    "NPM_CONFIG_//npm.example/:_authToken": "token",
    "UV_PUBLISH_TOKEN": "token",
    "UV_CACHE_DIR": "/cache",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "key",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "PYTHONPATH": "/src",
    "OTHER_SERVICE_TOKEN": "token",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-key=key",
    "GATEWAY_SECRET": "secret",
    "GATEWAY_INPUT_KEY": "key",
}
ORDINARY = {"PATH", "LC_ALL", "https_proxy", "npm_config_registry", "UV_CACHE_DIR"}


@pytest.mark.parametrize(
    ("named", "more"),
    [
        ((), set()),
        (("AWS_*",), {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}),
        (("PIP_INDEX_URL", "ABSENT"), {"PIP_INDEX_URL"}),
        (("GATEWAY_*", "GATEWAY_SECRET"), set()),
        (("*",), {name for name in ENVIRONMENT if not name.startswith("GATEWAY_")} - ORDINARY),
    ],
)
def test_a_child_gets_what_is_ordinary_and_what_is_named(named: tuple[str, ...], more: set[str]) -> None:
    given = for_child(ENVIRONMENT, named)
    assert set(given) == ORDINARY | more
    assert all(ENVIRONMENT[name] == value for name, value in given.items())


def test_a_process_of_ours_has_nothing_more_that_is_secret() -> None:
    assert set(for_process(ENVIRONMENT, ())) == ORDINARY | {"PYTHONPATH"}


def test_the_page_for_users_names_each_of_them() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "upstreams.md").read_text()
    assert [name for name in ORDINARY_NAMES if f"`{name.upper()}`" not in page and f"`{name}`" not in page] == []
