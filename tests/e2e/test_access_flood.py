"""Made-up credentials at real front ends: beyond a few a second they are not looked at, and nobody else notices."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.e2e.test_access import TOOLS, As, make_key, unknown_key
from tests.fleet import Fleet, eventually
from tests.issuer import Issuer
from tests.servers.raw import RawUpstreams

PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, issuer: Issuer) -> AsyncIterator[Fleet]:
    rules = {
        "authentication": [{"type": "apiKey"}, {"type": "jwt", "issuer": issuer.url}],
        "roles": {"all": {"when": "principal.kind != 'anonymous'", "allow": ["*"], "admin": "write"}},
    }
    settings: dict[str, Any] = {"admin_token": "the-admin-token", "access_rules": json.dumps(rules)}
    async with RawUpstreams() as upstreams:
        upstreams.add("search", TOOLS)
        async with Fleet(redis_url, 1, 1, max_wrong_credentials_per_peer=3, **settings) as fleet:
            await fleet.register("search", upstreams.connection("search"))
            yield fleet


def malformed() -> str:
    return secrets.token_hex(8)


@pytest.mark.parametrize("make", [unknown_key, malformed, None], ids=["unknown key", "no key", "wrong signature"])
@pytest.mark.parametrize("origin", [False, True], ids=["express", "ordinary"])
async def test_a_peer_that_makes_credentials_up_is_turned_away_and_known_ones_are_served(
    fleet: Fleet, issuer: Issuer, make: Callable[[], str] | None, origin: bool
) -> None:
    key = await make_key(fleet, f"known-{secrets.token_hex(4)}", "all")
    url = fleet.urls[0]
    good = issuer.token(aud=url)
    more = {"Origin": fleet.url} if origin else {}

    def made_up() -> str:
        return make() if make is not None else good[:-20] + secrets.token_hex(10)

    async with As(url, key) as client, aiohttp.ClientSession(headers=HEADERS) as session:

        async def post(token: str) -> tuple[int, str, Any]:
            headers = {"Authorization": f"Bearer {token}", **more}
            async with session.post(url, data=PING, headers=headers) as response:
                return response.status, response.headers.get("Retry-After", ""), await response.json()

        await eventually(lambda: _served(post, good))
        found = [await post(made_up()) for _ in range(40)]
        assert {status for status, _, _ in found} <= {401, 429}
        turned_away = [one for one in found if one[0] == 429]
        assert len(turned_away) >= 10
        assert {(again, body["error"]["data"]["code"]) for _, again, body in turned_away} == {("1", "too_many_wrong")}
        # The same address, on the same connection and on others: what is known is served.
        assert (await post(good))[0] == 200
        assert (await post(key))[0] == 200
        assert await client.tools()
        # What is new is served when the address is not over its number any more.
        newer = await make_key(fleet, f"newer-{secrets.token_hex(4)}", "all")
        await eventually(lambda: _served(post, newer))


async def _served(post: Callable[[str], Any], token: str) -> bool:
    return bool((await post(token))[0] == 200)
