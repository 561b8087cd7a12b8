"""A real link over a Unix socket: bodies of any size, both ways; a slow stream stalls only itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from shared.metrics.links import LinkTraffic
from shared.rpc import messages as rpc
from shared.rpc.connection import BodyStream, Link
from shared.rpc.framing import CHUNK, WINDOW
from tests.fleet import eventually


class Peer:
    """Collects what arrives; takes answers as streams when asked to."""

    def __init__(self, streaming: bool = False) -> None:
        self.streaming = streaming
        self.frames: list[tuple[Any, bytes]] = []
        self.streams: list[BodyStream] = []
        self.link: Link | None = None
        self.closed = False

    def on_connected(self, link: Link) -> None:
        self.link = link

    def on_frame(self, link: Link, head: Any, body: bytes) -> None:
        self.frames.append((head, body))

    def stream_body(self, link: Link, head: Any, stream: BodyStream) -> bool:
        if self.streaming and isinstance(head, rpc.Answer):
            self.streams.append(stream)
            return True
        return False

    def on_closed(self, link: Link, error: Exception | None) -> None:
        self.closed = True


async def pair(path: Path, streaming: bool = False) -> tuple[Peer, Peer, asyncio.Server]:
    loop = asyncio.get_running_loop()
    worker, frontend = Peer(), Peer(streaming)
    server = await loop.create_unix_server(lambda: Link(worker, 10_000_000), str(path / "l"))
    await loop.create_unix_connection(lambda: Link(frontend, 10_000_000), str(path / "l"))
    await eventually(lambda: worker.link and frontend.link)
    return worker, frontend, server


async def test_bodies_of_every_size_arrive_whole_in_both_directions(tmp_path: Path) -> None:
    worker, frontend, server = await pair(tmp_path)
    assert worker.link and frontend.link
    bodies = [os.urandom(size) for size in (0, 1, 65_535, 65_536, 65_537, 300_000, 2_000_000)]
    for number, body in enumerate(bodies):
        frontend.link.send(rpc.Call(number, "u", "tools/call"), body)
        worker.link.send(rpc.Answer(number), body)
        worker.link.send(rpc.Interim(number), body)
        frontend.link.send(rpc.Reply(f"a{number}", "s"), body)
    await eventually(lambda: len(worker.frames) == 14 and len(frontend.frames) == 14)
    for kind, frames in ((rpc.Call, worker.frames), (rpc.Answer, frontend.frames), (rpc.Interim, frontend.frames)):
        got = {head.call: body for head, body in frames if isinstance(head, kind)}
        assert [got[number] for number in range(len(bodies))] == bodies
    assert {head.question_id: body for head, body in worker.frames if isinstance(head, rpc.Reply)} == {
        f"a{number}": body for number, body in enumerate(bodies)
    }
    frontend.link.close()
    server.close()


async def test_what_a_link_carries_is_counted_at_both_ends(tmp_path: Path) -> None:
    loop, peers, counts = asyncio.get_running_loop(), (Peer(), Peer()), (LinkTraffic(), LinkTraffic())
    server = await loop.create_unix_server(lambda: Link(peers[0], 1000, traffic=counts[0]), str(tmp_path / "l"))
    await loop.create_unix_connection(lambda: Link(peers[1], 10_000_000, traffic=counts[1]), str(tmp_path / "l"))
    await eventually(lambda: peers[0].link and peers[1].link)
    assert peers[0].link and peers[1].link
    for number in range(3):
        peers[0].link.send(rpc.Answer(number), b"x" * 100)
    await eventually(lambda: len(peers[1].frames) == 3)
    peers[0].link.send(rpc.Answer(3), os.urandom(3 * CHUNK))
    await eventually(lambda: len(peers[1].frames) == 4)
    assert (counts[0].frames, counts[0].writes) == (3 + 3, 2), (
        "those of one tick leave together, and a large one in parts"
    )
    assert counts[0].sent_bytes == counts[1].received_bytes > 3 * CHUNK + 300
    peers[0].link.close()
    server.close()


async def test_a_stream_that_nobody_reads_stalls_only_itself_and_can_be_abandoned(tmp_path: Path) -> None:
    worker, frontend, server = await pair(tmp_path, streaming=True)
    assert worker.link and frontend.link
    large = os.urandom(5_000_000)
    worker.link.send(rpc.Answer(1), large)
    worker.link.send(rpc.Answer(2), large)
    for number in range(100):
        worker.link.send(rpc.Interim(number), b"small")
    await eventually(lambda: len(frontend.frames) == 100 and len(frontend.streams) == 2)
    first, second = frontend.streams
    assert await first.whole() == large, "it comes whole although the other one is not read"
    assert len(b"".join(await second.next())) <= WINDOW * CHUNK, "what is not read is not sent"
    frontend.link.abandon(2)
    worker.link.abandon(2)
    worker.link.send(rpc.Interim(7), b"after")
    await eventually(lambda: frontend.frames[-1][1] == b"after")
    frontend.link.close()
    await eventually(lambda: worker.closed)
    server.close()


async def test_a_body_over_the_limit_and_nonsense_end_the_link(tmp_path: Path) -> None:
    worker, frontend, server = await pair(tmp_path)
    assert frontend.link
    frontend.link.send(rpc.Call(1, "u", "m"), bytes(11_000_000))
    await eventually(lambda: worker.closed and frontend.closed)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "l"))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    server.close()


async def test_a_large_body_that_nobody_wants_is_not_kept(tmp_path: Path) -> None:
    worker, frontend, server = await pair(tmp_path)
    assert worker.link and frontend.link

    def refuse(link: Link, head: Any, stream: BodyStream) -> bool:
        link.abandon(head.call)
        stream.break_off()
        return True

    frontend.stream_body = refuse  # type: ignore[method-assign]
    for number in range(5):
        worker.link.send(rpc.Answer(number), os.urandom(2_000_000))
    worker.link.send(rpc.Interim(9), b"after")
    await eventually(lambda: frontend.frames and frontend.frames[-1][1] == b"after")
    assert frontend.link.receiving == 0
    frontend.link.close()
    server.close()
