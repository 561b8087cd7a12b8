"""One client sends heavy bodies without a pause: how long another one waits meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from statistics import median

from shared.mcp import jsonrpc
from tests.attack import calm
from tests.clients import MODERN_META, RawClient
from tests.fleet import PYTHON, Fleet
from tests.machine import scaled

MEMBERS = 700_000
ATTACK = """
import json, socket, sys, time
port, members, until = int(sys.argv[1]), int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
arguments = b"{" + b",".join(b'"k%d":1' % n for n in range(members)) + b"}"
params = b'{"name":"calm","arguments":%b,"_meta":%b}' % (arguments, sys.argv[4].encode())
body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
head = ("POST /mcp HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\nMcp-Method: tools/call\\r\\n"
        "Accept: application/json, text/event-stream\\r\\nMCP-Protocol-Version: 2026-07-28\\r\\nMcp-Name: calm\\r\\n"
        "Connection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)).encode()
statuses = []
while time.monotonic() < until:
    with socket.create_connection(("127.0.0.1", port), 60) as one:
        one.sendall(head + body)
        statuses.append(one.makefile("rb").readline().split()[1].decode())
print(json.dumps(statuses))
"""


ARGUMENTS = b"{%b}" % b",".join(b'"k%d":1' % number for number in range(MEMBERS))
BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":%b}}' % ARGUMENTS


def _reading_takes_s() -> float:
    """How long such a body takes to be read as requests are, on this machine, now, and in one go."""
    began = time.perf_counter()
    jsonrpc.decode_params(jsonrpc.decode(BODY))
    return time.perf_counter() - began


async def test_heavy_bodies_of_one_client_do_not_keep_others_waiting(redis_url: str) -> None:
    async with Fleet(redis_url) as fleet, calm(fleet), RawClient(fleet.urls[0]) as other:
        port = fleet.url.rpartition(":")[2]
        for _ in range(20):
            await other.call("calm", {"text": "x"})
        attacker = await asyncio.create_subprocess_exec(
            *(PYTHON, "-c", ATTACK, port, str(MEMBERS), "3", json.dumps(MODERN_META)), stdout=asyncio.subprocess.PIPE
        )
        ended = asyncio.create_task(attacker.communicate())
        waits: list[float] = []
        reads: list[float] = []
        try:
            while not ended.done():
                began = time.perf_counter()
                answer = await asyncio.wait_for(other.call("calm", {"text": "x"}), scaled(20.0))
                waits.append(time.perf_counter() - began)
                assert "result" in answer.body
                if len(waits) % 10 == 0:
                    reads.append(_reading_takes_s())
                await asyncio.sleep(0.005)
        finally:
            if attacker.returncode is None:
                await ended
        statuses = json.loads(ended.result()[0])
    assert len(statuses) > 3 and set(statuses) == {"413"}
    assert len(reads) > 1
    usual, one_read = median(waits), median(reads)
    assert usual < one_read, (
        f"half of them waited {usual * 1000:.0f} ms, one such body is read in {one_read * 1000:.0f}"
    )
