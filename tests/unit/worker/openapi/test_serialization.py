"""Values in paths, queries and headers, by the table of the specification (OpenAPI 3.1 section 4.8.12.6)."""

from __future__ import annotations

import pytest
from msgspec import Raw

from worker.openapi.operations import Operation, Parameter
from worker.openapi.requests import make_request
from worker.openapi.serialization import WrongArgument, in_header, in_path, in_query

TEXT, LIST, OBJECT = Raw(b'"blue"'), Raw(b'["blue","black","brown"]'), Raw(b'{"R":100,"G":200,"B":150}')


@pytest.mark.parametrize(
    ("where", "style", "explode", "text", "array", "members"),
    [
        ("path", "simple", False, "blue", "blue,black,brown", "R,100,G,200,B,150"),
        ("path", "simple", True, "blue", "blue,black,brown", "R=100,G=200,B=150"),
        ("path", "label", False, ".blue", ".blue,black,brown", ".R,100,G,200,B,150"),
        ("path", "label", True, ".blue", ".blue.black.brown", ".R=100.G=200.B=150"),
        ("path", "matrix", False, ";c=blue", ";c=blue,black,brown", ";c=R,100,G,200,B,150"),
        ("path", "matrix", True, ";c=blue", ";c=blue;c=black;c=brown", ";R=100;G=200;B=150"),
        ("query", "form", False, "c=blue", "c=blue,black,brown", "c=R,100,G,200,B,150"),
        ("query", "form", True, "c=blue", "c=blue&c=black&c=brown", "R=100&G=200&B=150"),
        ("query", "spaceDelimited", False, "c=blue", "c=blue%20black%20brown", None),
        ("query", "pipeDelimited", False, "c=blue", "c=blue%7Cblack%7Cbrown", None),
        ("query", "deepObject", True, "c=blue", "c=blue&c=black&c=brown", "c%5BR%5D=100&c%5BG%5D=200&c%5BB%5D=150"),
        ("header", "simple", False, "blue", "blue,black,brown", "R,100,G,200,B,150"),
        ("header", "simple", True, "blue", "blue,black,brown", "R=100,G=200,B=150"),
    ],
)
def test_the_styles(where: str, style: str, explode: bool, text: str, array: str, members: str | None) -> None:
    parameter = Parameter("c", "c", where, style, explode)

    def written(raw: Raw) -> str:
        match where:
            case "path":
                return in_path(parameter, raw)
            case "query":
                return "&".join(in_query(parameter, raw))
            case _:
                return in_header(parameter, raw)

    assert written(TEXT) == text
    assert written(LIST) == array
    if members is not None:
        assert written(OBJECT) == members


def test_a_number_keeps_its_digits() -> None:
    (member,) = in_query(Parameter("n", "n", "query", "form", True), Raw(b"12345678901234567890.10"))
    assert member == "n=12345678901234567890.10"


def test_members_of_members_are_written_as_apis_read_them() -> None:
    found = in_query(Parameter("f", "f", "query", "deepObject", True), Raw(b'{"a":{"b":1},"c":["x"]}'))
    assert list(found) == ["f%5Ba%5D%5Bb%5D=1", "f%5Bc%5D%5B%5D=x"]


@pytest.mark.parametrize("value", [b'""', b'"."', b'".."'])
def test_no_value_leads_to_another_path(value: bytes) -> None:
    operation = Operation("GET", "/a/{id}/b", (Parameter("id", "id", "path", "simple", False, True),))
    with pytest.raises(WrongArgument, match="dots alone"):
        make_request(operation, {"id": Raw(value)})
    assert make_request(operation, {"id": Raw(b'"../x?y#z"')}).target == "/a/..%2Fx%3Fy%23z/b"


def test_a_header_has_no_line_breaks() -> None:
    with pytest.raises(WrongArgument, match="line breaks"):
        in_header(Parameter("h", "h", "header", "simple", False), Raw(b'"a\\r\\nb: c"'))


def test_null_is_no_value_except_of_a_required_argument() -> None:
    operation = Operation("GET", "/a", (Parameter("q", "q", "query", "form", True),))
    assert make_request(operation, {"q": Raw(b"null")}).target == "/a"
