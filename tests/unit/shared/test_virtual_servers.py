"""``shared.virtual_servers``: documents are read strictly, and every problem has its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.choices import Discovery
from shared.config.load import parse
from shared.errors import ConfigError
from shared.mcp.listings import Kind
from shared.virtual_servers import read, read_all

SUPPORT = {
    "tools": ["search/*", {"readOnlyHint": True}, "!*/delete_*"],
    "instructions": "Answer from the knowledge base.",
    "override": {
        "search/search_documents": {
            "name": "find",
            "title": "Find",
            "description": "…",
            "annotations": {"readOnlyHint": True},
            "arguments": {"limit": {"fixed": 10}, "index": {"hidden": True, "default": "kb"}, "q": {"default": ""}},
        }
    },
}


def _problems(document: Any, name: str = "support") -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(name, document)
    return [f"{path}: {text}" for path, text in raised.value.problems]


def test_a_whole_document_is_read() -> None:
    server = read("support", SUPPORT)
    tools = server.selection(Kind.TOOLS)
    assert tools is not None
    assert tools.shows(Kind.TOOLS, "search", "x", {})
    assert not tools.shows(Kind.TOOLS, "search", "delete_x", {"readOnlyHint": True}), "an exclusion has the last word"
    assert tools.shows(Kind.TOOLS, "notes", "x", {"readOnlyHint": True}) and not tools.shows(
        Kind.TOOLS, "notes", "x", {}
    )
    prompts = server.selection(Kind.PROMPTS)
    assert prompts is not None and not prompts.shows(Kind.PROMPTS, "search", "x", {}), "only the kinds that are given"
    override = server.override(Kind.TOOLS, "search", "search_documents")
    assert override is not None and (override.name, override.title) == ("find", "Find")
    arguments = override.arguments
    assert {name: (one.value, one.closed) for name, one in arguments.items()} == {
        "limit": (b"10", True),
        "index": (b'"kb"', True),
        "q": (b'""', False),
    }


def test_without_lists_everything_is_shown_and_exclusions_alone_leave_the_rest() -> None:
    assert read("all", {}).selection(Kind.TOOLS) is None
    rest = read("rest", {"tools": ["!notes/*"]}).selection(Kind.TOOLS)
    assert (
        rest is not None and rest.shows(Kind.TOOLS, "search", "x", {}) and not rest.shows(Kind.TOOLS, "notes", "x", {})
    )
    nothing = read("none", {"tools": []}).selection(Kind.TOOLS)
    assert nothing is not None and not nothing.shows(Kind.TOOLS, "search", "x", {})


@pytest.mark.parametrize(
    ("wanted", "annotations", "shown"),
    [
        ({"readOnlyHint": False}, {}, True),
        ({"destructiveHint": True}, {}, True),
        ({"destructiveHint": False}, {}, False),
        ({"destructiveHint": False}, {"readOnlyHint": True}, True),
        ({"readOnlyHint": True, "openWorldHint": False}, {"readOnlyHint": True}, False),
        ({"readOnlyHint": True, "openWorldHint": False}, {"readOnlyHint": True, "openWorldHint": False}, True),
    ],
)
def test_tools_are_selected_by_annotations_with_the_specifications_defaults(
    wanted: dict[str, bool], annotations: dict[str, bool], shown: bool
) -> None:
    selection = read("x", {"tools": [wanted]}).selection(Kind.TOOLS)
    assert selection is not None and selection.shows(Kind.TOOLS, "g", "t", annotations) is shown


@pytest.mark.parametrize(
    ("document", "place", "words"),
    [
        ([], "virtualServers.support", "must be an object"),
        ({"tool": []}, "virtualServers.support.tool", "did you mean 'tools'?"),
        ({"tools": "a/*"}, "virtualServers.support.tools", "must be a list"),
        ({"tools": ["search"]}, "virtualServers.support.tools[0]", "names no group"),
        ({"tools": ["a/b", 1]}, "virtualServers.support.tools[1]", "must be a pattern"),
        ({"tools": ["prompts:a/b"]}, "virtualServers.support.tools[0]", "leave out 'prompts:'"),
        ({"tools": [{"readOnly": True}]}, "virtualServers.support.tools[0].readOnly", "unknown annotation"),
        ({"tools": [{"readOnlyHint": "yes"}]}, "virtualServers.support.tools[0].readOnlyHint", "true or false"),
        ({"prompts": [{"readOnlyHint": True}]}, "virtualServers.support.prompts[0]", "must be a pattern"),
        ({"instructions": 1}, "virtualServers.support.instructions", "must be a string"),
        ({"override": {"a": {}}}, "virtualServers.support.override.a", "names no group"),
        ({"override": {"a/*": {}}}, "virtualServers.support.override.a/*", "names one entry"),
        ({"override": {"a/b": {"nam": "x"}}}, "virtualServers.support.override.a/b.nam", "did you mean 'name'?"),
        ({"override": {"a/b": {"name": "x y"}}}, "virtualServers.support.override.a/b.name", "64 letters"),
        ({"override": {"a/b": {"name": "x" * 65}}}, "virtualServers.support.override.a/b.name", "64 letters"),
        ({"override": {"a/f://x": {"name": "x"}}}, "virtualServers.support.override.a/f://x.name", "its URI"),
        (
            {"override": {"a/b": {"name": "x"}, "c/d": {"name": "x"}}},
            "virtualServers.support.override.c/d.name",
            "is the name of 'a/b' already",
        ),
        (
            {"override": {"search/x": {"arguments": {"limit": {"fixd": 1}}}}},
            "virtualServers.support.override.search/x.arguments.limit.fixd",
            "did you mean 'fixed'?",
        ),
        (
            {"override": {"search/x": {"arguments": {"limit": {"fixed": 1, "default": 2}}}}},
            "virtualServers.support.override.search/x.arguments.limit",
            "leave out 'hidden' and 'default'",
        ),
        (
            {"override": {"search/x": {"arguments": {"limit": {}}}}},
            "virtualServers.support.override.search/x.arguments.limit",
            "say {fixed: VALUE}",
        ),
        (
            {"override": {"search/x": {"arguments": {"limit": {"fixed": float("nan")}}}}},
            "virtualServers.support.override.search/x.arguments.limit.fixed",
            "that JSON has",
        ),
        ({"discovery": "serch"}, "virtualServers.support.discovery", "not one of list, search, auto"),
        ({"discovery": True}, "virtualServers.support.discovery", "not one of list, search, auto"),
        ({"alwaysListed": ["echo"]}, "virtualServers.support.alwaysListed[0]", "names no group"),
        ({"alwaysListed": "a/*"}, "virtualServers.support.alwaysListed", "must be a list"),
        ({"synonyms": ["a", "b"]}, "virtualServers.support.synonyms[0]", "lists of words"),
        ({"synonyms": [["a", "b"], ["c"]]}, "virtualServers.support.synonyms[1]", "lists of words"),
        ({"synonyms": [["a", " "]]}, "virtualServers.support.synonyms[0]", "lists of words"),
        ({"synonyms": {"a": "b"}}, "virtualServers.support.synonyms", "lists of words"),
        ({"instructions": "x" * 300_000}, "virtualServers.support", "is longer than 256 KiB"),
    ],
)
def test_a_problem_is_named_with_its_place(document: Any, place: str, words: str) -> None:
    found = _problems(document)
    assert any(one.startswith(f"{place}: ") and words in one for one in found), found


def test_every_problem_of_every_document_is_named() -> None:
    with pytest.raises(ConfigError) as raised:
        read_all({"a": {"tools": 1, "prompts": 2}, "b c": {}, "d": {}})
    paths = [path for path, _ in raised.value.problems]
    assert paths == ["virtualServers.a.tools", "virtualServers.a.prompts", "virtualServers.b c"]


def test_a_tool_and_a_prompt_may_have_one_name() -> None:
    read("x", {"override": {"tools:a/b": {"name": "same"}, "prompts:c/d": {"name": "same"}}})


def test_the_examples_of_the_documentation_are_read() -> None:
    text = (Path(__file__).parents[3] / "docs" / "virtual-servers.md").read_text()
    blocks = re.findall(r"```(yaml|json)\n(.*?)```", text, re.S)
    assert [kind for kind, _ in blocks] == ["yaml", "yaml", "json"]
    config = parse(yaml.safe_load(blocks[0][1]), {}, Path())
    assert list(config.virtual_servers) == ["support"]
    desk = parse(yaml.safe_load(blocks[1][1]), {}, Path()).virtual_servers["desk"]
    assert desk.discovery is Discovery.SEARCH and len(desk.synonyms) == 2
    assert desk.always_listed.shows(Kind.TOOLS, "notes", "find", {})
    assert read("rest", json.loads(blocks[2][1])).selection(Kind.TOOLS) is not None


def test_a_file_names_what_is_wrong_and_a_name_that_a_group_has() -> None:
    with pytest.raises(ConfigError, match=r"virtualServers.a.tools: must be a list"):
        parse({"mcpServers": {}, "virtualServers": {"a": {"tools": 1}}}, {}, Path())
    with pytest.raises(ConfigError, match=r"virtualServers.a: is the name of a group as well"):
        parse({"mcpServers": {"x": {"command": "x", "name": "a"}}, "virtualServers": {"a": {}}}, {}, Path())
    assert parse({"a": {"command": "x"}, "virtualServers": {"b": {}}}, {}, Path()).upstreams[0].id == "a"
