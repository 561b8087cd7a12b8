"""docs/access.md: every example of a configuration is one that the gateway takes, and says what the page says."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import click
import pytest

from gateway.access.principal import Identity
from gateway.access.roles import Roles
from gateway.cli import access, up
from shared.access import patterns, rules
from shared.config import parse
from shared.settings import build

PAGE = Path(__file__).resolve().parents[4] / "docs" / "access.md"
TEXT = PAGE.read_text()


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"^( *)```{kind}\n(.*?)^\1```", TEXT, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


DOCUMENTS = [json.loads(block) for block in blocks("json")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: ",".join(one))
def test_every_example_is_taken(document: dict[str, Any]) -> None:
    config = parse(document, {"KEY": "k"}, Path("/"), strict="access" not in document)
    build(config.settings)
    assert not config.problems
    written = config.settings.get("accessRules")
    assert ("access" in document) is (written is not None)
    assert [said for said in config.warnings if said[0].startswith("access")] == []


def roles_of(number: int, identity: Identity) -> list[str]:
    granted, _ = Roles(rules.read(DOCUMENTS[number]["access"])).of(identity)
    return [role.name for role in granted]


def test_the_roles_of_the_examples() -> None:
    oidc = next(number for number, one in enumerate(DOCUMENTS) if "support" in one.get("access", {}).get("roles", {}))
    ann = Identity("x#ann", "user", {"groups": ["support"]}, frozenset(["notes:write"]), has_scopes=True)
    assert roles_of(oidc, ann) == ["support", "writer"]
    assert roles_of(oidc, Identity("x#eve", "user", {"groups": []}, has_scopes=True)) == []
    proxied = next(number for number, one in enumerate(DOCUMENTS) if "staff" in one.get("access", {}).get("roles", {}))
    assert roles_of(proxied, Identity("proxy:ann", "user", {"groups": ["staff"]})) == ["staff"]


def test_every_pattern_of_the_table_is_one() -> None:
    table = TEXT.partition("### Patterns")[2].partition("### ")[0]
    named = [one for row in table.splitlines() if row.startswith("| `") for one in re.findall(r"`([^`]+)`", row)[:2]]
    found = [patterns.read(one) for one in named if "/" in one or one == "*"]
    assert len(found) >= 7


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
def test_every_command_is_one(line: str) -> None:
    name, *words = shlex.split(line)
    assert name == "gateway"
    command: Any = click.Group()
    for module in (up, access):
        module.add_to(command)
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context("gateway", words, obj=None)  # raises for an option or an argument that it does not have
