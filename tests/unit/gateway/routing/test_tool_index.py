"""An index of tools: what it finds, in which order, and that it has exactly what it was last given."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from gateway.balancers import NO_CHOICE
from gateway.routing.entries import Entry
from gateway.routing.routes import Route
from gateway.routing.tool_index import ToolIndex, words_of
from gateway.routing.view import Listed
from shared.mcp.listings import Kind
from tests.unit.builders import tool


def listed(name: str, place: int = 0, group: str = "g", upstream_name: str = "", **members: Any) -> Listed:
    raw = msgspec.json.encode(tool(upstream_name or name, **members))
    return Listed((0, place), name, Route(group, Entry(Kind.TOOLS, upstream_name or name, raw, raw), (), NO_CHOICE))


def schema(**parameters: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"description": text} for name, text in parameters.items()}}


TOOLS = [
    listed("create_pull_request", description="Propose changes of a branch."),
    listed("getWeatherForecast", description="The weather of the next days.", inputSchema=schema(town="where")),
    listed("send", group="mailer", title="Send an e-mail", inputSchema=schema(recipient="who gets it")),
    listed("HTTPRequest", description="Ask a web server."),
    listed("查询天气", description="查询城市的天气预报"),
    listed("x9", description="Überweist Geld auf ein Konto", annotations={"title": "Bank transfer"}),
]


def names(index: ToolIndex, query: str, limit: int = 5) -> list[str]:
    return [one.name for one in index.search(query, limit)]


@pytest.fixture
def index() -> ToolIndex:
    index = ToolIndex([["pr", "pull request"], ["mail", "letter", "e-mail"]])
    index.sync(TOOLS)
    return index


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("pull request", "create_pull_request"),
        ("creating pull requests", "create_pull_request"),
        ("createPullRequest", "create_pull_request"),
        ("branches", "create_pull_request"),
        ("what will the weather be", "getWeatherForecast"),
        ("town", "getWeatherForecast"),
        ("http", "HTTPRequest"),
        ("recipients", "send"),
        ("mailer", "send"),
        ("uberweisen OR geld", "x9"),
        ("bank transfer", "x9"),
        ("天气", "查询天气"),
        ("pr", "create_pull_request"),
        ("write a letter", "send"),
        ("x9", "x9"),
    ],
)
def test_a_tool_is_found_by_its_words(index: ToolIndex, query: str, first: str) -> None:
    assert names(index, query)[:1] == [first]


@pytest.mark.parametrize("query", ["", "   ", '"', "' OR 1=1 --", "NEAR(", "*", "name:", "-", "\x00", "zzz"])
def test_what_fits_nothing_finds_nothing_and_fails_never(index: ToolIndex, query: str) -> None:
    assert names(index, query) == []


def test_the_name_counts_more_than_the_description_and_a_rare_word_more_than_a_common_one() -> None:
    index = ToolIndex()
    index.sync(
        [
            listed("other", description="This may archive something."),
            listed("archive", description="Puts it away."),
            *(listed(f"thing_{number}", description="A file.") for number in range(50)),
            listed("rare", description="A file with a watermark."),
        ]
    )
    assert names(index, "archive") == ["archive", "other"]
    assert names(index, "file watermark")[0] == "rare"


def test_a_whole_name_comes_first() -> None:
    index = ToolIndex()
    index.sync([listed("get"), listed("get_get_get"), listed("g__get_it", upstream_name="it")])
    assert names(index, "get")[0] == "get" and names(index, " g__get_it ")[0] == "g__get_it"


def test_at_most_as_many_as_wanted_are_found() -> None:
    index = ToolIndex()
    index.sync([listed(f"file_{number}") for number in range(3000)])
    assert len(names(index, "file", 20)) == 20 and len(names(index, "file_7", 3)) == 3


def test_long_queries_and_descriptions_are_cut() -> None:
    index = ToolIndex()
    index.sync(
        [listed("big", description="word " * 100_000, inputSchema=schema(**{f"p{n}": "x" * 1000 for n in range(999)}))]
    )
    assert names(index, "word " * 100_000) == ["big"]
    assert sum(map(len, words_of(index.search("word", 1)[0]))) < 40_000


@pytest.mark.parametrize(
    "members", [{"inputSchema": 5}, {"inputSchema": {"properties": 5}}, {"description": 5, "title": []}]
)
def test_a_tool_with_odd_members_is_found_by_its_name(members: dict[str, Any]) -> None:
    index = ToolIndex()
    index.sync([listed("odd_one", **members)])
    assert names(index, "odd") == ["odd_one"]


def test_very_many_synonyms_are_cut() -> None:
    index = ToolIndex([[f"word{number}" for number in range(5000)], ["a b", "b c"], ["word1", "file"]])
    index.sync([listed("word1"), listed("word4999"), listed("file")])
    query = " ".join(f"word{number}" for number in range(100, 130))
    assert names(index, query) == ["word1"] and names(index, "word3000 a b c") == ["word1"]


def test_what_is_written_is_what_changed() -> None:
    index = ToolIndex()
    assert index.sync(TOOLS) == len(TOOLS) and index.sync(TOOLS) == 0
    again = [Listed((1, 0), one.name, one.route) for one in TOOLS]
    assert index.sync(again) == 0 and index.search("http", 1)[0] is again[3]
    changed = [*again[1:], listed("HTTPRequest", description="Another.")]
    assert index.sync([one for one in changed if one is not again[3]]) == 1
    assert names(index, "pull request") == ["HTTPRequest"] and names(index, "server") == []
    index.sync([])
    assert names(index, "weather") == [] and index.search("HTTPRequest", 1) == []


def test_after_any_changes_it_finds_what_a_new_one_finds() -> None:
    chance, words = random.Random(7), ["file", "mail", "page", "user", "get", "set", "find", "drop"]
    index = ToolIndex()
    present: dict[str, Any] = {}
    for step in range(60):
        for _ in range(chance.randint(0, 6)):
            name = f"{chance.choice(words)}_{chance.choice(words)}_{chance.randint(0, 3)}"
            if chance.random() < 0.4:
                present.pop(name, None)
            else:
                present[name] = listed(name, step, description=" ".join(chance.choices(words, k=4)))
        index.sync(list(present.values()))
        new = ToolIndex()
        new.sync(list(present.values()))
        for query in ("mail user", "find file", "drop"):
            assert set(names(index, query, 1000)) == set(names(new, query, 1000))
        new.close()
    assert index.size_bytes > 0


def test_two_spellings_of_one_phrase_are_no_synonyms() -> None:
    index = ToolIndex([["New York", "new-york"]])
    index.sync([listed("york_flights")])
    assert names(index, "flights to new york") == ["york_flights"]
