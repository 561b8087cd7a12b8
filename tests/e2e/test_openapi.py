"""HTTP APIs that OpenAPI documents describe, as upstreams: listed, called, replicated, and when they fail."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.servers.api import DOCUMENTS, KEY, Api, large_document

ADMIN = {"Authorization": "Bearer the-admin-token"}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    options = {"admin_token": "the-admin-token", "allow_stdio_registration": True, "health_check_interval_s": 0.3}
    async with Fleet(redis_url, frontends=1, workers=2, **options) as fleet:
        yield fleet


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as api:
        yield api


def petstore(api: Api, **more: Any) -> dict[str, Any]:
    return {"url": api.url, "spec": str(DOCUMENTS / "petstore.yaml"), "headers": KEY, **more}


async def tools_of(client: RawClient) -> dict[str, Any]:
    answer = await client.modern("tools/list")
    return {one["name"]: one for one in answer.body["result"]["tools"]}


async def test_operations_are_tools(fleet: Fleet, api: Api) -> None:
    await fleet.register("pets", petstore(api))
    async with RawClient(f"{fleet.url}/servers/pets/mcp") as client:
        tools = await tools_of(client)
        assert sorted(tools) == [
            "createPet", "deletePet", "get_pets_petId_photo", "listPets", "login", "setPhoto", "showPetById", "status",
            "uploadPhoto",
        ]  # fmt: skip
        discovered = (await client.modern("server/discover")).body["result"]
        assert "Pets and where they live." in str(discovered.get("instructions"))
    record = await fleet.record("pets")
    assert record is not None and record.transport_in_use == "openapi"
    async with (
        aiohttp.ClientSession(headers=ADMIN) as session,
        session.get(f"{fleet.url}/admin/v1/servers/pets") as response,
    ):
        shown = await response.json()
    assert "k3y" not in str(shown) and shown["connection"]["spec"].endswith("petstore.yaml")
    notes = " ".join(shown["notes"])
    assert "POST /broken is left out: it has a server of its own" in notes and "GET /broken is left out" in notes
    assert "circle" in notes and "leads nowhere" in notes


async def test_calls_are_requests(fleet: Fleet, api: Api) -> None:
    await fleet.register("requests", petstore(api))
    async with RawClient(f"{fleet.url}/servers/requests/mcp") as client:

        async def request(tool: str, **arguments: Any) -> dict[str, Any]:
            answer = await client.call(tool, arguments)
            assert not answer.body["result"].get("isError"), answer.body
            return api.seen[-1]

        sent = await request("listPets", limit=3, tags=["a b", "c"], kinds=["x", "y"], filter={"age": 2})
        assert sent["target"] == "/v1/pets?limit=3&tags%5B%5D=a%20b&tags%5B%5D=c&kinds=x,y&filter%5Bage%5D=2"
        assert sent["headers"]["X-Api-Key"] == "k3y" and sent["headers"]["User-Agent"].startswith("mcp-one-gateway/")
        sent = await request("createPet", body={"name": "Rex", "born": "2020-01-01"})
        assert (sent["method"], sent["body"]) == ("POST", b'{"name": "Rex", "born": "2020-01-01"}')
        sent = await request("showPetById", petId="a/b?c")
        assert sent["target"] == "/v1/pets/a%2Fb%3Fc"
        sent = await request("setPhoto", petId="1", body=base64.b64encode(b"\0png").decode())
        assert sent["body"] == b"\0png" and sent["headers"]["Content-Type"] == "image/png"
        sent = await request("uploadPhoto", petId="1", body={"title": "t", "file": base64.b64encode(b"\0f").decode()})
        assert b'name="file"; filename="file"' in sent["body"] and b"\r\n\r\n\0f\r\n" in sent["body"]
        sent = await request("login", body={"user": "a&b"})
        assert sent["body"] == b"user=a%26b"
        photo = (await client.call("get_pets_petId_photo", {"petId": "1"})).body["result"]["content"][0]
        assert photo == {"type": "image", "mimeType": "image/png", "data": base64.b64encode(b"\x89PNG").decode()}


async def test_answers_stay_as_they_are_in_both_eras(fleet: Fleet, api: Api) -> None:
    await fleet.register("both", petstore(api))
    async with RawClient(f"{fleet.url}/servers/both/mcp") as client:
        answer = await client.call("showPetById", {"petId": "1"})
        assert '"big":12345678901234567890.10' in answer.text
        assert answer.body["result"]["structuredContent"]["by"] == "api"
        gone = (await client.call("deletePet", {"petId": "1"})).body["result"]
        assert gone["content"][0]["text"].startswith("HTTP 204")
        await client.initialize()
        legacy = await client.legacy("tools/call", {"name": "showPetById", "arguments": {"petId": "1"}})
        assert '"big":12345678901234567890.10' in legacy.text and "resultType" not in legacy.body["result"]


async def test_refusals_are_results_that_models_can_read(fleet: Fleet, api: Api) -> None:
    await fleet.register("refusing", petstore(api))
    async with RawClient(f"{fleet.url}/servers/refusing/mcp") as client:

        async def refused(tool: str, **arguments: Any) -> str:
            result = (await client.call(tool, arguments)).body["result"]
            assert result["isError"] is True
            return str(result["content"][0]["text"])

        assert await refused("showPetById", petId="lost") == 'HTTP 404 Not Found\n{"detail": "no such pet"}'
        text = await refused("status", code=500)
        assert text.startswith("HTTP 500 Internal Server Error\nwhy") and len(text) < 9000 and "40000 bytes" in text
        calls = len(api.seen)
        assert "missing argument petId" in await refused("showPetById")
        assert "unknown argument 'pet'" in await refused("showPetById", petId="1", pet=2)
        assert "dots alone" in await refused("showPetById", petId="..")
        assert "Base64" in await refused("setPhoto", petId="1", body="~")
        assert "line breaks" in await refused("listPets", **{"X-Trace": "a\r\nb: c"})
        assert "unknown argument 'X-Api-Key'" in await refused("listPets", **{"X-Api-Key": "mine"})
        assert len(api.seen) == calls, "none of these was sent"
        unknown = (await client.call("nothing")).body
        assert unknown["error"]["code"] == -32602
        api.busy = True
        busy = await client.call("listPets")
        assert busy.body["error"]["data"]["retryAfter"] == "7"
        api.busy = False


async def test_wrong_credentials_are_said(fleet: Fleet, api: Api) -> None:
    await fleet.register("strange", petstore(api, headers={"X-Api-Key": "wrong"}))
    async with RawClient(f"{fleet.url}/servers/strange/mcp") as client:
        error = (await client.call("listPets")).body["error"]
        assert "HTTP 401" in error["message"] and "wrong" not in str(error)


async def test_replicas_and_health(fleet: Fleet, api: Api) -> None:
    async with Api("other") as other:
        await fleet.register("one", petstore(api), name="group")
        await fleet.register("two", petstore(other), name="group")
        async with RawClient(f"{fleet.url}/servers/group/mcp") as client:
            await asyncio.gather(*(client.call("showPetById", {"petId": "1"}) for _ in range(10)))
            assert api.seen and other.seen, "both replicas are called"
            api.down = True
            assert "HTTP 500" in await fleet.failed("one")

            async def works() -> bool:
                return not (await client.call("showPetById", {"petId": "1"})).body["result"].get("isError")

            async def works_again_and_again() -> bool:
                return all([await works() for _ in range(4)])

            await eventually(works_again_and_again, what="the front end knows it too")
            before = len(other.seen)
            for _ in range(4):
                assert await works()
            assert len(other.seen) == before + 4
            api.down = False
            await fleet.connected("one")
    await fleet.store.unregister("one")
    await fleet.store.unregister("two")


async def test_a_document_at_a_url_is_followed(fleet: Fleet, api: Api) -> None:
    api.document = json.loads((DOCUMENTS / "trains.json").read_text())
    body = {
        "id": "trains",
        "connection": {
            "type": "openapi", "url": api.url, "spec": f"http://127.0.0.1:{api.port}/openapi.json", "headers": KEY,
            "operations": ["GET *", "POST *", "!* /trips"],
        },
        "settings": {"refreshInterval": 300},
    }  # fmt: skip
    async with (
        aiohttp.ClientSession(headers=ADMIN) as session,
        session.post(f"{fleet.url}/admin/v1/servers", json=body) as response,
    ):
        assert response.status == 201, await response.text()
    await fleet.connected("trains")
    async with RawClient(f"{fleet.url}/servers/trains/mcp") as client:
        names = ["create-booking", "create-booking-payment", "get-booking", "get-bookings", "get-stations"]
        assert sorted(await tools_of(client)) == names
        await eventually(lambda: 304 in api.fetched, what="what has not changed is not sent again")
        del api.document["paths"]["/stations"]
        api.document["paths"]["/lines"] = {"get": {"operationId": "get-lines", "responses": {}}}

        async def changed() -> bool:
            tools = await tools_of(client)
            return "get-lines" in tools and "get-stations" not in tools

        await eventually(changed, what="the list follows the document")
        answer = (await client.call("get-lines")).body["result"]
        assert answer["structuredContent"]["by"] == "api", answer


async def test_a_large_document_with_circles(fleet: Fleet, api: Api) -> None:
    api.document = large_document()
    await fleet.register("large", {"url": api.url, "spec": f"http://127.0.0.1:{api.port}/openapi.json", "headers": KEY})
    async with RawClient(f"{fleet.url}/servers/large/mcp") as client:
        result = (await client.call("things_change-999", {"id": "1", "body": {"field0": {}}})).body["result"]
        assert api.seen[-1]["target"] == "/v1/things/999/1" and not result.get("isError")


async def test_what_cannot_be_used_is_said(fleet: Fleet, api: Api, tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:x: [s3cret\n")
    swagger = tmp_path / "old.json"
    swagger.write_text('{"swagger": "2.0"}')
    for id, spec, said in (
        ("a-secret", str(secret), "neither JSON nor YAML (line"),
        ("swagger", str(swagger), "Swagger 2.0"),
        ("missing", str(tmp_path / "none"), "No such file"),
        ("folder", str(tmp_path), "cannot read"),
    ):
        await fleet.register(id, {"url": api.url, "spec": spec}, connected=False)
        error = await fleet.failed(id)
        assert said in error and "s3cret" not in error
    async with aiohttp.ClientSession(headers=ADMIN) as session:
        for connection, said in (
            ({"type": "openapi", "spec": "/a"}, "needs 'url'"),
            ({"type": "openapi", "url": api.url}, "needs 'spec'"),
            ({"url": api.url, "spec": "a.yaml"}, "must be absolute"),
            ({"url": api.url, "spec": "ftp://x/a"}, "http:// and https://"),
        ):
            async with session.post(f"{fleet.url}/admin/v1/servers", json={"id": "x", "connection": connection}) as got:
                assert got.status == 400 and said in await got.text()
