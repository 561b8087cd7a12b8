"""``shared.config.documents``: the bytes that editors and shells write, as documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.config.documents import Members, decode, repeated
from shared.errors import ConfigError

PLAIN = {"a": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', PLAIN),
        ('{"a": 1,}', PLAIN),
        ('// x\n{"a": 1 /* y\n */, // z\n}\n', PLAIN),
        ('{"a": ["x", "y",],}', {"a": ["x", "y"]}),
        ('{"a": "http://x//y", "b": "/* no */", "c": ",}"}', {"a": "http://x//y", "b": "/* no */", "c": ",}"}),
        ('{"a": "\\\\", "b": "\\"//"}', {"a": "\\", "b": '"//'}),
        ("", {}),
        ("\n ", {}),
        ('{"a": 1} // the end', PLAIN),
    ],
)
def test_json_has_comments_and_trailing_commas(text: str, expected: Any) -> None:
    assert decode(text.encode(), Path("mcp.json")) == expected


@pytest.mark.parametrize("name", ["mcp.json", "settings.jsonc", ".claude.json", "c.conf", "c"])
def test_what_is_neither_yaml_nor_toml_is_json(name: str) -> None:
    assert decode(b'{"a": 1,}', Path(name)) == PLAIN


@pytest.mark.parametrize(("name", "text"), [("c.json", '{"a": 1}'), ("c.yaml", "a: 1"), ("c.toml", "a = 1")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_the_document(name: str, text: str, encoding: str) -> None:
    assert decode(text.encode(encoding), Path(name)) == PLAIN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'a': 1}", PLAIN),
        ("{a: 0x1, // x\n}", PLAIN),
        ("{a: +1}", PLAIN),
        ("{a: 'x\\\ny', $b: .5, c_1: 'it\\'s \"', }", {"a": "xy", "$b": 0.5, "c_1": "it's \""}),
        ("/* x */ {'a': {b: ['c', ], }, }", {"a": {"b": ["c"]}}),
    ],
)
def test_json5_is_read(text: str, expected: Any) -> None:
    assert decode(text.encode(), Path("mcp.json")) == expected
    assert decode(text.encode(), Path("mcp.json5")) == expected


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('{"a": 1,,}', "line 1, column 9", "a comma too many"),
        ("{", "", "it ends too early"),
        ('{"a": [1, 2}', "", "is a bracket or a quote not closed"),
        ('{\n// x\n"a": }', "line 3, column 6", "missing before it"),
        ('{\n/* x\ny */ "a": 1\n "b": 2}', "line 4, column 2", "is a comma or a colon missing"),
        ("a: 1", "line 1, column 1", ""),
        ('"mcpServers": {}', "line 1, column 13", "are the braces around the whole file missing"),
        ('{"a": False}', "line 1, column 7", "JSON has true, false and null"),
        ("{\u201ca\u201d: 1}", "line 1, column 2", "a curly quote"),
        ('{\n# x\n"a": 1}', "line 2, column 1", "comments begin with //"),
        ('```json\n{"a": 1}\n```', "line 1, column 1", "a fence of Markdown"),
        ('{"a": "C:\\Users\\x"}', "line 1, column 10", "a backslash is written as two"),
        ("{'a': 'C:\\Users\\me'}", "line 1, column 10", "a backslash is written as two"),
        ("<<<<<<< HEAD\n{}", "line 1, column 1", "a merge that was left open"),
    ],
)
def test_what_is_not_json_even_so_is_refused_in_words_with_the_place(text: str, where: str, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        decode(text.encode(), Path("c.json"))
    assert str(refused.value).startswith("c.json is not valid JSON: " + where)
    assert what in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"o": {"a": 1, "b": 2, "a": 3}, "p": {"a": 1}}'),
        ("c.yaml", "o:\n  a: 1\n  b: 2\n  a: 3\np: {a: 1}\n"),
    ],
)
def test_keys_that_are_written_twice_are_remembered_where_they_are(name: str, text: str) -> None:
    found = decode(text.encode(), Path(name))
    assert isinstance(found["o"], Members)
    assert found["o"].twice == ("a",)
    assert (found.twice, found["p"].twice) == ((), ())


def test_yaml_merges_and_aliases_work_as_ever() -> None:
    text = b"base: &b {x: 1}\nmade: {<<: *b, y: 2}\nsame: *b\n"
    assert decode(text, Path("c.yaml")) == {"base": {"x": 1}, "made": {"x": 1, "y": 2}, "same": {"x": 1}}


def test_a_half_of_a_character_is_replaced() -> None:
    assert decode(b'{"a": "x\\ud83d", "b": "\\ud83d\\ude00"}', Path("c.json")) == {"a": "x\ufffd", "b": "\U0001f600"}


def test_text_in_another_encoding_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"c.json is not UTF-8 text \(line 2\): save it as UTF-8"):
        decode('{"a":\n"\xfc"}'.encode("latin-1"), Path("c.json"))


@pytest.mark.parametrize("name", ["c.yaml", "c.json"])
def test_keys_that_are_there_twice_are_found_without_comparing_each_with_all(name: str) -> None:
    class Key(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Key.compared += 1
            return str.__eq__(self, str(other))

        __hash__ = str.__hash__

    assert repeated(Key(f"k{number % 900}") for number in range(1000)) == tuple(f"k{one}" for one in range(100))
    assert Key.compared < 2000
    keys = ("k0", "k1", "k2", "k0", "k1")
    written = ["\n".join(f"{key}: 1" for key in keys), "{" + ",".join(f'"{key}": 1' for key in keys) + "}"]
    assert decode(written[name == "c.json"].encode(), Path(name)).twice == ("k0", "k1")
