"""``gateway.admin.rights``: guessing the admin token is slow, whatever the guesser does."""

from __future__ import annotations

import asyncio

from aiohttp.test_utils import make_mocked_request

from gateway.admin.rights import AdminRights
from shared.settings import build
from tests.machine import scaled

TOKEN = "a-token-of-some-length"


def _request(token: str) -> object:
    return make_mocked_request("GET", "/admin/v1/servers", {"Authorization": f"Bearer {token}"})


async def test_while_many_guess_the_right_token_waits_too_also_if_guessers_hang_up() -> None:
    rights, loop = AdminRights(build(overrides={"admin_token": TOKEN})), asyncio.get_running_loop()
    right = _request(TOKEN)
    began = loop.time()
    assert await rights.may(right)  # type: ignore[arg-type]
    assert loop.time() - began < scaled(0.4)
    guesses = [asyncio.ensure_future(rights.slow_down(_request("x"))) for _ in range(101)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    for one in guesses:
        one.cancel()
    began = loop.time()
    assert await rights.may(right)  # type: ignore[arg-type]
    assert loop.time() - began > 0.4
