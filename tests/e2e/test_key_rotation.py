"""The fleet's key is changed while clients go on: sessions and retries that were sealed by the old one still count."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from shared.registry.seals import Seals
from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.machine import scaled
from tests.servers.scripted import Exchange, Scripted, said

ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}


def hold(fleet: Fleet, secret: str) -> None:
    """Processes that are started from now on have this secret, and so has who looks into Redis."""
    fleet.store.seals = Seals(secret)
    access = structs.replace(fleet.settings.access, secret=secret)
    fleet.settings = structs.replace(fleet.settings, access=access)


async def roll(fleet: Fleet, secret: str) -> str:
    """A front end and a worker with this secret take the places of the ones that there are; the MCP endpoint."""
    hold(fleet, secret)
    await fleet.add_worker()
    await fleet.add_frontend()
    await eventually(fleet._linked, 20.0, "old and new processes know each other")
    await fleet.frontends.pop(0).stop()
    await fleet.workers.pop(0).stop(scaled(15.0))
    await fleet.connected("up")
    return fleet.urls[0]


async def ask_first(exchange: Exchange) -> dict[str, Any]:
    """A modern tool that needs a form once."""
    params = exchange.message["params"]
    if params.get("inputResponses"):
        assert params["requestState"] == "the upstream's own"
        return said("done")
    form = {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}
    need = {"method": "elicitation/create", "params": form}
    return {"resultType": "input_required", "inputRequests": {"k": need}, "requestState": "the upstream's own"}


async def test_the_key_is_rotated_without_losing_sessions_or_retries(redis_url: str) -> None:
    async with Scripted("up", "modern") as up, Fleet(redis_url, 1, 1, secret="old") as fleet:
        up.on["tools/call"] = ask_first
        await fleet.register("up", up.connection)
        async with RawClient(fleet.urls[0]) as session, RawClient(fleet.urls[0]) as modern:
            await session.initialize()
            first = (await modern.call("up", meta=ASKABLE)).body["result"]

            async def retry(state: str) -> Any:
                params = {"name": "up", "arguments": {}, "requestState": state}
                params["inputResponses"] = {"k": {"action": "decline"}}
                return await modern.modern("tools/call", params, meta=ASKABLE)

            for secret in ("old,new", "new,old"):
                session.url = modern.url = await roll(fleet, secret)
                assert (await session.legacy("tools/list")).status == 200, secret
                assert (await retry(first["requestState"])).content == "done", secret
            fresh = (await modern.call("up", meta=ASKABLE)).body["result"]
            async with RawClient(modern.url) as later:
                await later.initialize()
                modern.url = later.url = await roll(fleet, "new")
                assert (await later.legacy("tools/list")).status == 200
                assert (await retry(fresh["requestState"])).content == "done"
                assert (await session.legacy("tools/list", url=modern.url)).status == 404, "the old key is gone"
                refused = await retry(first["requestState"])
                assert refused.status == 400 and refused.error["code"] == -32602


async def test_a_process_with_another_key_is_not_let_in(redis_url: str) -> None:
    async with Scripted("up", "modern") as up, Fleet(redis_url, 1, 1, secret="ours") as fleet:
        await fleet.register("up", up.connection)
        hold(fleet, "theirs")
        await fleet.add_frontend()
        async with RawClient(fleet.urls[1]) as stranger, RawClient(fleet.urls[0]) as client:
            assert (await stranger.call("up")).error["data"]["code"] == "tool_unknown", "what others sealed is not run"
            assert (await client.call("up")).content == "up"
