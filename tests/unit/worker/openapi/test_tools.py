"""Operations of documents as tools: schemas of both versions, names, annotations, and what is left out."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from tests.servers.api import DOCUMENTS, large_document
from worker.openapi import answers
from worker.openapi.documents import Unusable, parse
from worker.openapi.operations import Api, Asked
from worker.openapi.tools import chosen, read_api


def read(document: dict[str, Any], **asked: Any) -> Api:
    return read_api(document, Asked(**asked))


def tools(api: Api) -> dict[str, Any]:
    return {one["name"]: one for one in (msgspec.json.decode(tool) for tool in api.tools)}


def of_file(name: str, **asked: Any) -> dict[str, Any]:
    return tools(read(parse((DOCUMENTS / name).read_bytes()), **asked))


def operation(**members: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": {"/a": {"get": {"responses": {}, **members}}}}


def test_schemas_of_30_become_json_schema() -> None:
    found = of_file("petstore.yaml")
    pet = found["createPet"]["inputSchema"]["$defs"]["Pet"]
    assert pet["required"] == ["name"] and "id" not in pet["properties"], "what the API sets is no argument"
    assert pet["properties"]["tag"] == {"type": ["string", "null"], "enum": ["yes", "no", None]}
    assert pet["properties"]["parents"]["items"] == {"$ref": "#/$defs/Pet"}
    assert found["listPets"]["inputSchema"]["properties"]["limit"] == {
        "type": "integer", "format": "int32", "exclusiveMinimum": 0,
    }  # fmt: skip
    assert found["createPet"]["inputSchema"]["required"] == ["body"]


def test_schemas_of_31_stay_as_they_are() -> None:
    found = of_file("trains.json")
    booking = found["create-booking"]["inputSchema"]
    assert booking["properties"]["body"] == {"$ref": "#/$defs/Booking", "description": "The booking."}
    assert booking["$defs"]["Passenger"]["properties"]["age"] == {"type": ["integer", "null"]}
    assert booking["$defs"]["Booking"]["properties"]["passenger"]["description"] == "Who travels"
    payment = found["create-booking-payment"]["inputSchema"]["properties"]
    assert list(payment) == ["bookingId", "body", "request_body"], "two arguments of one name are told apart"
    assert "status" not in payment["request_body"]["properties"]
    assert "new-booking" not in found, "webhooks are no operations"


def test_what_methods_do_is_said() -> None:
    found = {name: one["annotations"] for name, one in of_file("trains.json").items()}
    assert found["get-trips"]["readOnlyHint"] and not found["get-trips"]["destructiveHint"]
    assert found["create-booking"]["destructiveHint"] and not found["create-booking"]["idempotentHint"]
    assert found["delete-booking"]["idempotentHint"]


def test_what_the_entry_sets_is_no_argument() -> None:
    assert "X-Api-Key" in of_file("petstore.yaml")["listPets"]["inputSchema"]["required"]
    assert "X-Api-Key" not in str(of_file("petstore.yaml", taken=("x-api-key",))["listPets"])
    parameters = [
        {"name": name, "in": where, "schema": {}}
        for name, where in (("Authorization", "header"), ("Cookie", "header"), ("Mcp-Name", "header"), ("key", "query"))
    ]
    (tool,) = tools(read(operation(parameters=parameters), taken_query=("key",))).values()
    assert tool["inputSchema"]["properties"] == {}


def test_names_are_ones_that_every_model_takes() -> None:
    document = operation(operationId="things/get__all")
    document["paths"]["/b"] = {"get": {"operationId": "things.get_all", "responses": {}}}
    document["paths"]["/c/{x.y[z]}"] = {
        "get": {"parameters": [{"name": "x.y[z]", "in": "path", "required": True, "schema": {}}], "responses": {}}
    }
    found = tools(read(document))
    assert list(found) == ["things_get_all", "things_get_all_2", "get_c_x_y_z"]
    assert list(found["get_c_x_y_z"]["inputSchema"]["properties"]) == ["x.y_z"]


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"parameters": [{"$ref": "other.yaml#/a"}]}, "another document"),
        ({"parameters": [{"$ref": "#/nowhere"}]}, "leads nowhere"),
        ({"requestBody": {"$ref": "#/paths/~1a/get/requestBody"}}, "circle"),
        ({"servers": [{"url": "https://other.example/x"}]}, "server of its own"),
        ({"parameters": [{"in": "query"}]}, "name"),
        ({"requestBody": {"content": {}}}, "no media type"),
    ],
)
def test_what_cannot_be_called_is_left_out_and_said(members: dict[str, Any], why: str) -> None:
    api = read(operation(**members), origin="https://api.example")
    assert not api.tools
    (flaw,) = api.flaws
    assert flaw.startswith("GET /a is left out") and why in flaw


def test_a_server_of_the_same_origin_gives_the_path() -> None:
    api = read(operation(servers=[{"url": "https://api.example/v2/"}]), origin="https://api.example")
    (found,) = api.operations.values()
    assert (found.path, found.from_root) == ("/v2/a", True)


def test_no_tool_is_lost_where_every_schema_leads_to_every_other() -> None:
    document = large_document(60)
    whole = read(document)
    assert len(whole.tools) == 61 and not [one for one in whole.flaws if "too large" in one]
    small = read(document, most_bytes=300_000)
    assert len(small.tools) == 61 and sum(map(len, small.tools)) <= 300_000
    assert len(small.flaws) == 51 and "too large" in small.flaws[0], "what is said is bounded as well"


def test_aliases_of_yaml_do_not_explode() -> None:
    lines = ["a0: &a0 {type: object, properties: {x: {type: string}, y: {type: string}}}"]
    lines += [f"a{n}: &a{n} {{type: object, properties: {{x: *a{n - 1}, y: *a{n - 1}}}}}" for n in range(1, 30)]
    text = "\n".join(
        ["openapi: 3.1.0", *lines, "paths: {/a: {post: {requestBody: {content: {application/json: {schema: *a29}}}}}}"]
    )
    api = read(parse(text.encode()))
    assert len(api.tools) == 1 and len(api.tools[0]) < 400_000 and "too large" in api.flaws[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "not an object"), ("swagger: '2.0'", "Swagger 2.0"), ("openapi: 4.0.0", "version 3.0 or 3.1"),
        ("a: [s3cret", "neither JSON nor YAML (line"), ("openapi: 3.1.0\npaths: []", "paths"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_said_without_its_text(text: str, why: str) -> None:
    with pytest.raises(Unusable) as raised:
        parse(text.encode())
    assert why in str(raised.value) and "s3cret" not in str(raised.value)


def test_patterns_choose_operations() -> None:
    assert chosen("GET /a", ()) and chosen("GET /a", ("GET *",)) and not chosen("POST /a", ("GET *",))
    assert chosen("POST /a", ("!* /admin/*",)) and not chosen("GET /admin/x", ("GET *", "!* /admin/*"))


@pytest.mark.parametrize(
    ("status", "kind", "body", "wanted"),
    [
        (200, b"application/json", b' {"a": 1.10} ', '"structuredContent":{"a": 1.10}'),
        (200, b"application/json", b"[1]", '"text":"[1]"'),
        (200, b"application/json", b"{no", '"text":"{no"'),
        (200, b"text/plain", "ä".encode(), '"text":"ä"'),
        (200, b"audio/wav", b"\0", '"type":"audio"'),
        (200, b"application/pdf", b"\0", '"blob":"AA=="'),
        (201, b"", b"", "HTTP 201 Created, without a body"),
        (418, b"text/html", b"<p>", '"isError":true'),
        (599, b"image/png", b"\0", "HTTP 599 (1 bytes of image/png)"),
    ],
)  # fmt: skip
def test_answers(status: int, kind: bytes, body: bytes, wanted: str) -> None:
    found = answers.result(status, kind, body)
    assert wanted in found.decode()
    assert msgspec.json.decode(found)["resultType"] == "complete"


def test_a_public_document_is_read_without_a_flaw() -> None:
    """A part of GitHub's, as the npm package ``@octokit/openapi`` ships it."""
    api = read(parse((DOCUMENTS / "github.json").read_bytes()))
    found = tools(api)
    assert api.flaws == () and len(found) == 33
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in found)
    created = found["issues_create"]["inputSchema"]
    assert created["required"] == ["owner", "repo", "body"] and created["properties"]["owner"]["type"] == "string"
    milestone = created["properties"]["body"]["properties"]["milestone"]  # nullable, and of two types
    assert {"type": "null"} in milestone["anyOf"] and len(milestone["anyOf"][0]["oneOf"]) == 2
    assert found["gists_delete"]["annotations"]["destructiveHint"] and found["gists_get"]["annotations"]["readOnlyHint"]
    contents = found["repos_get-content"]
    assert sorted(contents["inputSchema"]["required"]) == ["owner", "path", "repo"]


@pytest.mark.parametrize(
    "members",
    [
        {"parameters": [{"name": "X-A: 1\r\nX-B", "in": "header"}]},
        {"parameters": [{"name": "Authorization ", "in": "header"}]},
        {"parameters": [{"name": "X-\u00e9", "in": "header"}]},
        {"parameters": [{"name": "", "in": "header"}]},
        {"parameters": [{"name": "a=1\r\nX-B: 2\r\nc", "in": "cookie"}]},
        {"parameters": [{"name": "a=1; admin", "in": "cookie"}]},
        {"requestBody": {"content": {"application/json\r\nX-B: 1": {}}}},
        {"requestBody": {"content": {"application/json\r\n\r\nDELETE / HTTP/1.1": {}}}},
    ],
)
def test_no_name_in_a_document_begins_another_header(members: dict[str, Any]) -> None:
    """Requests carry the credentials of the entry, whoever wrote the document."""
    for one in members.get("parameters", ()):
        one["schema"] = {"type": "string"}
    api = read(operation(**members))
    assert not api.tools and not api.operations
    (flaw,) = api.flaws
    assert flaw.startswith("GET /a is left out: ") and flaw.isprintable()


def test_names_and_media_types_of_the_field_are_taken() -> None:
    for media in (
        "application/json; charset=utf-8",
        "*/*",
        "application/vnd.a+json;v=1",
        'multipart/form-data; boundary="a b"',
    ):
        document = operation(
            parameters=[
                {"name": "X-Api_Ver.1", "in": "header", "schema": {}},
                {"name": "sid", "in": "cookie", "schema": {}},
            ],
            requestBody={"content": {media: {}}},
        )
        assert len(read(document).operations) == 1
