"""``server.json`` of the MCP registry, in both spellings, as connections."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.descriptions import Described, describe
from shared.errors import ConfigError
from shared.models import make_spec

SEARCH: dict[str, Any] = {
    "name": "io.modelcontextprotocol/brave-search",
    "packages": [
        {
            "registryType": "npm",
            "identifier": "@modelcontextprotocol/server-brave-search",
            "version": "1.0.2",
            "transport": {"type": "stdio"},
            "environmentVariables": [
                {"name": "BRAVE_API_KEY", "description": "Brave Search API Key", "isRequired": True, "isSecret": True},
                {"name": "LOG_LEVEL", "default": "info", "choices": ["info", "debug"]},
                {"name": "PROXY"},
            ],
        }
    ],
}
DATABASE: dict[str, Any] = {
    "name": "io.github.example/database-manager",
    "packages": [
        {
            "registry_type": "oci",
            "identifier": "example/database-manager-mcp",
            "version": "3.1.0",
            "runtime_arguments": [
                {"type": "named", "name": "--network", "value": "host"},
                {
                    "type": "named",
                    "name": "-e",
                    "value": "DB_TYPE={db_type}",
                    "variables": {"db_type": {"choices": ["postgres", "mysql"], "is_required": True}},
                },
            ],
            "package_arguments": [
                {"type": "named", "name": "--host", "default": "localhost", "is_required": True},
                {"type": "named", "name": "--port", "format": "number"},
                {"type": "named", "name": "--verbose"},
                {"type": "positional", "value_hint": "database", "is_required": True, "is_repeated": True},
            ],
            "environment_variables": [{"name": "DB_PASSWORD", "is_required": True}],
        }
    ],
}
REMOTE: dict[str, Any] = {
    "name": "com.example/hybrid",
    "status": "deprecated",
    "packages": [{"registryType": "pypi", "identifier": "hybrid-mcp", "version": "2"}],
    "remotes": [
        {
            "type": "streamable-http",
            "url": "https://{region}.example.com/mcp",
            "variables": {"region": {"default": "eu"}},
            "headers": [
                {"name": "Authorization", "value": "Bearer {token}", "variables": {"token": {"isRequired": True}}},
                {"name": "X-Odd", "value": "{unknown}"},
            ],
        }
    ],
}


def test_a_package_of_npm_is_run_by_npx() -> None:
    found = describe(SEARCH, {"BRAVE_API_KEY": ["k"]})
    assert found == Described(
        "io.modelcontextprotocol/brave-search",
        {
            "type": "stdio",
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-brave-search@1.0.2"],
            "env": {"BRAVE_API_KEY": "k", "LOG_LEVEL": "info"},
        },
    )
    assert make_spec(found.id, found.connection).id == "brave-search"


def test_a_container_gets_its_variables_and_arguments() -> None:
    given = {"db_type": ["mysql"], "DB_PASSWORD": ["p w"], "database": ["a", "b"], "verbose": [""]}
    found = describe(DATABASE, given).connection
    words = "docker run -i --rm -e DB_PASSWORD --network=host -e DB_TYPE=mysql example/database-manager-mcp:3.1.0"
    assert [found["command"], *found["args"]] == [*words.split(), "--host=localhost", "--verbose", "a", "b"]
    assert found["env"] == {"DB_PASSWORD": "p w"}, "its value is in no argument, which others of the machine see"


def test_an_address_is_preferred_and_a_package_can_be_chosen() -> None:
    found = describe({"server": REMOTE, "_meta": {}}, {"token": ["t"], "region": ["us"]})
    assert found.connection == {
        "type": "http",
        "url": "https://us.example.com/mcp",
        "headers": {"Authorization": "Bearer t", "X-Odd": "{unknown}"},
    }
    assert found.warnings == ("com.example/hybrid is deprecated",)
    assert describe(REMOTE, {}, "pypi").connection["args"] == ["hybrid-mcp==2"]


def test_nothing_is_taken_from_the_environment_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAVE_API_KEY", "mine")
    with pytest.raises(ConfigError, match="BRAVE_API_KEY is needed"):
        describe(SEARCH, {})


def test_everything_that_is_missing_is_named_with_what_it_is_for() -> None:
    with pytest.raises(ConfigError) as raised:
        describe(DATABASE, {})
    text = str(raised.value)
    assert "db_type is needed" in text and "DB_PASSWORD is needed" in text and "--value database=…" in text
    with pytest.raises(ConfigError, match=r"BRAVE_API_KEY is needed \(Brave Search API Key\)"):
        describe(SEARCH, {})


@pytest.mark.parametrize(
    ("document", "given", "package", "said"),
    [
        ([], {}, "", "no description of a server"),
        ({"name": 5}, {}, "", "no description of a server"),
        ({"name": "a/b"}, {}, "", "has no package"),
        ({"name": "a/b", "packages": [{"registryType": "mcpb", "identifier": "x"}]}, {}, "", "its packages are mcpb"),
        (SEARCH, {"BRAVE_API_KEY": ["k"]}, "pypi", "no package of type 'pypi'.*it has: npm"),
        (SEARCH, {"BRAVE_API_KEY": ["k"], "LOG_LEVEL": ["loud"]}, "", "one of info, debug"),
        (SEARCH, {"BRAVE_API_KEY": ["k"], "BRAVE": ["k"]}, "", "takes no value 'BRAVE'; it takes: BRAVE_API_KEY"),
        (
            {"name": "a/b", "packages": [{"registryType": "npm", "identifier": "--evil"}]},
            {},
            "",
            "no name of a package",
        ),
        (
            {"name": "a/b", "packages": [{"registryType": "npm", "identifier": "x", "transport": {"type": "sse"}}]},
            {},
            "",
            "gateway servers add ID URL",
        ),
    ],
)
def test_what_cannot_be_added_is_said(document: Any, given: dict[str, list[str]], package: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        describe(document, given, package)
