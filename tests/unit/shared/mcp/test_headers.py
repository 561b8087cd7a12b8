"""``shared.mcp.headers``: values in headers, annotated parameters, and headers that must mirror the body."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mcp import headers

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT | st.text("=?base64 AZ", max_size=12) | TEXT.map(lambda inner: f"=?base64?{inner}?="))
def test_every_value_survives_the_trip_as_plain_header_text(value: str) -> None:
    sent = headers.encode_value(value)
    assert sent.isascii()
    assert sent == sent.strip()
    assert sent
    assert all(character.isprintable() or character == "\t" for character in sent)
    assert headers.decode_value(sent) == value


@pytest.mark.parametrize("value", ["plain", "two words", "a\tb", "~!", "x"])
def test_plain_ascii_travels_as_it_is(value: str) -> None:
    assert headers.encode_value(value) == value


@pytest.mark.parametrize("value", ["", " lead", "trail ", "é", "line\nbreak", "=?base64?eA==?=", "\x7f"])
def test_anything_else_travels_as_base64(value: str) -> None:
    assert headers.encode_value(value).startswith("=?base64?")


@pytest.mark.parametrize("value", ["=?base64?***?=", "=?base64?YQ?=", "=?base64?/w==?="])
def test_broken_base64_and_bytes_that_are_no_text_decode_to_nothing(value: str) -> None:
    assert headers.decode_value(value) is None


def test_a_missing_header_decodes_to_nothing() -> None:
    assert headers.decode_value(None) is None


def _schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _annotated(token: Any = "Region", kind: Any = "string") -> dict[str, Any]:
    return {"type": kind, "x-mcp-header": token}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (_schema(), []),
        (None, []),
        (_schema(a=_annotated()), [(("a",), "Region", "string")]),
        (_schema(a=_annotated("N", "integer")), [(("a",), "N", "integer")]),
        (_schema(a=_annotated("B", "boolean")), [(("a",), "B", "boolean")]),
        (_schema(a=_schema(b=_annotated())), [(("a", "b"), "Region", "string")]),
        (
            _schema(a=_annotated("X"), b=_annotated("Y")),
            [(("a",), "X", "string"), (("b",), "Y", "string")],
        ),
        (_schema(a={"type": "string", "default": {"x-mcp-header": "!!"}, "enum": [{"x-mcp-header": 5}]}), []),
        (_schema(properties=_annotated()), [(("properties",), "Region", "string")]),
    ],
)
def test_annotated_parameters_are_found_with_their_paths(schema: Any, expected: list[Any]) -> None:
    assert headers.annotated_parameters(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        _schema(a=_annotated("")),
        _schema(a=_annotated("two words")),
        _schema(a=_annotated("line\n")),
        _schema(a=_annotated("é")),
        _schema(a=_annotated(5)),
        _schema(a=_annotated("X", "number")),
        _schema(a=_annotated("X", "object")),
        _schema(a=_annotated("X", ["string", "null"])),
        _schema(a={"x-mcp-header": "X"}),
        _schema(a=_annotated("X"), b=_annotated("x")),
        {"type": "string", "x-mcp-header": "X"},
        _schema(a={"type": "array", "items": _annotated()}),
        _schema(a={"type": "array", "items": _schema(b=_annotated())}),
        {"anyOf": [_schema(a=_annotated())]},
        {"$defs": {"d": _annotated()}},
    ],
)
def test_an_annotation_that_breaks_the_rules_spoils_the_tool(schema: Any) -> None:
    assert headers.annotated_parameters(schema) is None


ANNOTATED: list[headers.Annotated] = [
    (("region",), "Region", "string"),
    (("count",), "Count", "integer"),
    (("deep", "flag"), "Flag", "boolean"),
]


def _lower(named: dict[str, str]) -> dict[str, str]:
    """Headers as the front end reads them: names in lower case."""
    return {name.lower(): value for name, value in named.items()}


def test_headers_mirror_the_arguments_that_are_there() -> None:
    made = headers.parameter_headers(ANNOTATED, {"region": "é", "count": 5, "deep": {"flag": True}, "other": "x"})
    assert made == {"Mcp-Param-Region": "=?base64?w6k=?=", "Mcp-Param-Count": "5", "Mcp-Param-Flag": "true"}


@pytest.mark.parametrize("arguments", [None, {}, [], 5, {"deep": 5}, {"region": None, "count": [], "deep": {}}])
def test_absent_arguments_make_no_headers(arguments: Any) -> None:
    assert headers.parameter_headers(ANNOTATED, arguments) == {}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "region": TEXT,
            "count": st.integers(),
            "deep": st.fixed_dictionaries({"flag": st.booleans()}),
        },
    )
)
def test_headers_made_from_arguments_never_mismatch_them(arguments: dict[str, Any]) -> None:
    made = headers.parameter_headers(ANNOTATED, arguments)
    assert headers.mismatch(ANNOTATED, arguments, _lower(made)) is None


@pytest.mark.parametrize(
    ("arguments", "sent", "complaint"),
    [
        ({"region": "eu"}, {}, "Mcp-Param-Region header is missing but argument 'region' is present"),
        (
            {},
            {"Mcp-Param-Region": "eu"},
            "Mcp-Param-Region header is present but argument 'region' is absent",
        ),
        ({"region": "eu"}, {"Mcp-Param-Region": "us"}, "does not match argument 'region'"),
        ({"region": "eu"}, {"Mcp-Param-Region": "EU"}, "does not match argument 'region'"),
        ({"region": "eu"}, {"Mcp-Param-Region": "=?base64?*?="}, "broken base64"),
        ({"count": 5}, {"Mcp-Param-Count": "6"}, "does not match argument 'count'"),
        ({"count": 5}, {"Mcp-Param-Count": "5.5"}, "does not match argument 'count'"),
        ({"count": 5}, {"Mcp-Param-Count": "five"}, "does not match argument 'count'"),
        ({"count": True}, {"Mcp-Param-Count": "1"}, "does not match argument 'count'"),
        ({"deep": {"flag": True}}, {"Mcp-Param-Flag": "True"}, "does not match argument 'deep.flag'"),
        ({"region": "1"}, {"Mcp-Param-Region": "1.0"}, "does not match argument 'region'"),
        ({"region": "eu"}, {"Mcp-Param-Region": "=?base64?ZXU=?="}, None),
        ({"count": 5}, {"Mcp-Param-Count": "5.0"}, None),
        ({"count": 5.0}, {"Mcp-Param-Count": "5"}, None),
        ({"count": -5}, {"Mcp-Param-Count": "-5"}, None),
        ({}, {}, None),
    ],
)
def test_headers_that_differ_from_the_body_are_named(
    arguments: dict[str, Any], sent: dict[str, str], complaint: str | None
) -> None:
    found = headers.mismatch(ANNOTATED, arguments, _lower(sent))
    assert found == complaint if complaint is None else found is not None and complaint in found
