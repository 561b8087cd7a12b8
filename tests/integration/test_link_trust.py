"""Links over real sockets between a front end's pool and a worker's server: who is let in, and who is told nothing.

The strangers here have no key. They can write to Redis, so a front end dials what they like.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from gateway.fleet import pool as pools
from gateway.fleet.pool import WorkerPool
from gateway.routing.routes import Replica
from shared.registry.records import UpstreamRecord
from shared.rpc import messages as rpc
from shared.rpc.framing import pack_sizes
from shared.rpc.handshake import MAX_HANDSHAKE_HEAD
from shared.secrets import FleetKey
from shared.settings import build
from shared.tasks import cancel, spawn
from tests.fleet import eventually
from tests.unit.builders import record
from tests.unit.gateway.fakes import Unheard
from worker import rpc_server
from worker.front_ends import FrontEnds
from worker.rpc_server import RpcServer

KEY = FleetKey.from_secret("ours")
Facts = dict[str, str]


def facts_at(address: str) -> Facts:
    """The record of a worker on this host."""
    return {"host": socket.gethostname(), "address": address, "tcp": ""}


# ---- the real ends


@asynccontextmanager
async def worker(
    path: Path, id: str = "b", key: FleetKey = KEY, rpc_bind: str = "", **given: Any
) -> AsyncIterator[RpcServer]:
    """A worker's server that listens at ``path``; it has no upstreams. ``given`` are settings."""
    settings = build(overrides=given)
    service = structs.replace(settings.service, rpc_bind=rpc_bind, rpc_advertise="127.0.0.1")
    inventory: Any = SimpleNamespace(forget_watcher=lambda peer: None)
    anything: Any = SimpleNamespace()
    server = RpcServer(
        id, key, structs.replace(settings, service=service), FrontEnds(), anything, anything, inventory, anything
    )
    await server.start(path)
    beating = spawn(_beat(server), "alive")
    try:
        yield server
    finally:
        await cancel(beating)
        await server.close()


async def _beat(server: RpcServer) -> None:
    while True:
        server._alive_at = server.clock()
        await asyncio.sleep(0.1)


@asynccontextmanager
async def front_end(
    workers: dict[str, Facts], key: FleetKey = KEY, id: str = "f1", **given: Any
) -> AsyncIterator[WorkerPool]:
    """A front end's links; ``workers`` are the records in its Redis, ``given`` settings."""

    async def alive() -> dict[str, Facts]:
        return dict(workers)

    members: Any = SimpleNamespace(alive=alive)
    pool = WorkerPool(members, id, key, build(overrides=given))
    running = spawn(pool.run(Unheard()), "pool")
    try:
        yield pool
    finally:
        await cancel(running)
        pool.close()


def owned_by(*workers: str) -> Replica:
    """A replica of these workers."""
    one: UpstreamRecord = record("up")
    return Replica(structs.replace(one, owners=tuple(enumerate(workers))))


# ---- strangers


def frame(head: Any, body: bytes = b"") -> bytes:
    """A frame's bytes."""
    raw = rpc.encode(head)
    return pack_sizes(len(raw), len(body)) + raw + body


async def read_frame(reader: asyncio.StreamReader) -> tuple[Any, bytes]:
    """The next frame. Raises ``IncompleteReadError`` at the end."""
    head_size = int.from_bytes(await reader.readexactly(4), "big")
    body_size = int.from_bytes(await reader.readexactly(4), "big")
    return rpc.decode(await reader.readexactly(head_size)), await reader.readexactly(body_size)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listener(path: Path, handle: Handler) -> AsyncIterator[list[float]]:
    """A stranger's socket; the times at which somebody connected."""
    times: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield times
    finally:
        server.close()
        await cancel(*tasks)


async def until_closed(reader: asyncio.StreamReader) -> list[Any]:
    """The heads that come until the other end closes."""
    heads = []
    try:
        while True:
            heads.append((await read_frame(reader))[0])
    except (asyncio.IncompleteReadError, ConnectionError):
        return heads


# ---- members


async def test_a_worker_and_a_front_end_of_one_fleet_link_over_unix_socket_and_tcp(tmp_path: Path) -> None:
    async with worker(tmp_path / "b", rpc_bind="127.0.0.1:0") as server:
        near = facts_at(server.unix_address)
        far = {"host": "elsewhere", "address": server.unix_address, "tcp": server.tcp_address}
        for name, facts in ((("near"), near), ("far", far)):
            async with front_end({"b": facts}, id=name) as pool:
                await eventually(lambda pool=pool: pool.link_for(owned_by("b"), "") is not None)
                await eventually(lambda name=name: [peer.name for peer in server.front_ends.peers] == [name])
            await eventually(lambda: not server.front_ends.peers)
        assert not server._joining


async def test_a_link_of_two_keys_is_refused_and_both_logs_say_what_to_look_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(tmp_path / "b", key=FleetKey.from_secret("theirs")) as server:
        with caplog.at_level(logging.WARNING):
            async with front_end({"b": facts_at(server.unix_address)}) as pool:
                await eventually(lambda: len(caplog.messages) >= 2)
                assert not pool.links and not server.front_ends.peers
    here = [text for text in caplog.messages if text.startswith("no link to worker b at unix:")]
    there = [text for text in caplog.messages if text.startswith("refusing a link to worker b from a Unix socket")]
    assert len(here) == len(there) == 1
    assert all("GATEWAY_SECRET" in text for text in here + there) and "front end 'f1'" in there[0]


async def test_a_front_end_that_comes_back_takes_the_place_of_its_link_whose_end_was_not_heard_of(
    tmp_path: Path,
) -> None:
    async with worker(tmp_path / "b") as server:
        known = {"b": facts_at(server.unix_address)}
        async with front_end(known) as before:
            await eventually(lambda: server.front_ends.peers)
            (earlier,) = server.front_ends.peers
            known.clear()  # it dials no more
            async with front_end({"b": facts_at(server.unix_address)}):
                await eventually(lambda: server.front_ends.peers and earlier not in server.front_ends.peers)
                assert [one.name for one in server.front_ends.peers] == [earlier.name]
                await eventually(lambda: not before.links, what="the earlier link is ended")


async def test_a_worker_that_drains_says_so_to_front_ends_that_come_later(tmp_path: Path) -> None:
    async with worker(tmp_path / "b") as server:
        server.draining = True
        async with front_end({"b": facts_at(server.unix_address)}) as pool:
            await eventually(lambda: "b" in pool.links and pool.links["b"].draining)


# ---- strangers that pose as workers


@pytest.mark.parametrize("welcome", [rpc.Welcome(), rpc.Welcome(b"w" * 32), "the front end's own proof"])
async def test_a_keyless_worker_gets_no_call_and_is_not_asked_again_and_again(
    welcome: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heads: list[Any] = []

    async def pose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(rpc.Challenge(b"N" * 32, "fake")))
        hello, _ = await read_frame(reader)
        heads.append(hello)
        own = rpc.Welcome(hello.proof) if isinstance(welcome, str) else welcome
        writer.write(frame(own) + frame(rpc.Unsolicited("sid"), b"{}"))
        heads.extend(await until_closed(reader))

    async with (
        listener(tmp_path / "fake", pose) as times,
        front_end({"fake": facts_at(f"unix:{tmp_path}/fake")}) as pool,
    ):
        began = asyncio.get_running_loop().time()
        with caplog.at_level(logging.WARNING):
            await eventually(lambda: len(times) == 2)
        assert times[1] - times[0] >= 0.9, "it is dialled anew after a while, not at once"
        assert asyncio.get_running_loop().time() - began >= 0.9
        assert pool.link_for(owned_by("fake"), "") is None and not pool.links
    assert {type(head) for head in heads} == {rpc.Hello}, "nothing else is said to it"
    said = next(one.message for one in caplog.records if f"unix:{tmp_path}/fake" in one.message)
    assert said.startswith(f"no link to worker fake at unix:{tmp_path}/fake: its proof is wrong")
    assert "GATEWAY_SECRET" in said


async def test_a_worker_that_says_nothing_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_PROOF_S", 0.2)

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await until_closed(reader) == []

    async with listener(tmp_path / "fake", wait), front_end({"fake": facts_at(f"unix:{tmp_path}/fake")}) as pool:
        await eventually(lambda: [one for one in caplog.messages if f"unix:{tmp_path}/fake" in one])
        assert not pool.links
    said = next(one for one in caplog.messages if f"unix:{tmp_path}/fake" in one)
    assert "proved nothing within 0.2 s" in said


@pytest.mark.parametrize("changed", ["nothing", "the worker's name"])
async def test_a_relay_that_poses_as_one_worker_to_reach_another_fails_at_both(
    changed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The front end dials A and reaches the relay, which is connected to B and passes on what both say."""
    heads: list[Any] = []
    async with worker(tmp_path / "b") as real:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back_reader, back = await asyncio.open_unix_connection(str(tmp_path / "b"))
            challenge, _ = await read_frame(back_reader)
            name = "a" if changed == "the worker's name" else challenge.worker
            writer.write(frame(rpc.Challenge(challenge.nonce, name)))
            try:
                hello, _ = await read_frame(reader)
                heads.append(hello)
                back.write(frame(hello))
                answers = await until_closed(back_reader)
                assert answers == []
            finally:
                back.close()

        async with listener(tmp_path / "a", relay), front_end({"a": facts_at(f"unix:{tmp_path}/a")}) as pool:
            with caplog.at_level(logging.WARNING):
                await eventually(lambda: any("no link to worker a" in text for text in caplog.messages))
            assert not pool.links
        await eventually(lambda: not real._joining)
        assert not real.front_ends.peers
    assert [type(head) for head in heads] == ([] if changed == "nothing" else [rpc.Hello])


async def test_a_pipe_to_the_very_worker_fails_unless_it_stands_where_that_worker_says(tmp_path: Path) -> None:
    """Somebody put the address of a pipe into the worker's record. At the worker's own address it is but a wire."""
    async with worker(tmp_path / "b") as real:

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back_reader, back = await asyncio.open_unix_connection(str(tmp_path / "moved"))

            async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    target.write(data)
                target.close()

            await asyncio.gather(carry(reader, back), carry(back_reader, writer))

        (tmp_path / "b").rename(tmp_path / "moved")
        led_astray = front_end({"b": facts_at(f"unix:{tmp_path}/fake")})
        async with listener(tmp_path / "fake", pipe) as times, led_astray as pool:
            await eventually(lambda: len(times) == 2)
            assert not pool.links and not real.front_ends.peers
        async with listener(tmp_path / "b", pipe), front_end({"b": facts_at(real.unix_address)}) as pool:
            await eventually(lambda: "b" in pool.links and real.front_ends.peers)


async def test_a_worker_of_an_earlier_release_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(rpc.Challenge(b"N" * 32, "old", 1)))
        assert await until_closed(reader) == []

    async with listener(tmp_path / "old", old), front_end({"old": facts_at(f"unix:{tmp_path}/old")}):
        await eventually(lambda: caplog.messages)
    assert "version 1 of the handshake" in caplog.messages[0] and "same release" in caplog.messages[0]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "::", "127.0.0.1:99999", ":"])
async def test_an_address_that_is_none_costs_nothing_but_a_pause(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with front_end({"x": {"host": "elsewhere", "tcp": address}}) as pool:
        await eventually(lambda: pool._redial.waits("x", asyncio.get_running_loop().time()))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# ---- strangers that pose as front ends

WRONG_STARTS: dict[str, bytes] = {
    "a head that is too large": pack_sizes(MAX_HANDSHAKE_HEAD + 1, 0),
    "a body": frame(rpc.Hello("f1", b"p" * 32, nonce=b"m" * 32), b"x"),
    "a large body in chunks": frame(rpc.Call(1, "up", "tools/call", size=1 << 20, stream=1)),
    "a call": frame(rpc.Call(1, "up", "tools/call")),
    "a wrong proof": frame(rpc.Hello("f1", b"p" * 32, nonce=b"m" * 32)),
    "a wrong proof and a call": frame(rpc.Hello("f1", b"p" * 32, nonce=b"m" * 32)) + frame(rpc.Call(1, "up", "m")),
    "the handshake of an earlier release": frame(rpc.Hello("f1", b"p" * 32, 1)),
    "no frames of ours": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("how", WRONG_STARTS)
async def test_a_stranger_is_turned_away_with_one_line_in_the_log(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(tmp_path / "b") as server:
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "b"))
            writer.write(WRONG_STARTS[how])
            assert [type(head) for head in await until_closed(reader)] == [rpc.Challenge]
            writer.close()
        assert not server.front_ends.peers and not server._joining
    (said,) = caplog.messages
    assert said.startswith("refusing a link to worker b from a Unix socket")


async def test_whoever_is_slow_or_many_without_a_proof_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rpc_server, "_PROOF_S", 0.3)
    monkeypatch.setattr(rpc_server, "_MAX_JOINING", 4)
    async with worker(tmp_path / "b") as server:
        ends = [await asyncio.open_unix_connection(str(tmp_path / "b")) for _ in range(10)]
        await eventually(lambda: len(server._joining) == 4)
        for reader, writer in ends:
            assert [type(head) for head in await until_closed(reader)] in ([rpc.Challenge], [])
            writer.close()
        assert not server._joining
        assert "proved nothing within 0.3 s" in caplog.messages[0]


async def test_whoever_only_looks_at_the_port_is_not_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(tmp_path / "b") as server:
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "b"))
        await eventually(lambda: server._joining)
        writer.close()
        await eventually(lambda: not server._joining)
    assert not caplog.messages


# ---- other users of the host

CONNECT = """
import os, socket, sys
os.setuid(int(sys.argv[3]))
here = socket.socket(socket.AF_UNIX)
here.connect(sys.argv[1])
try:
    print(len(here.recv(100)))
except ConnectionError:
    print(0)
"""
LISTEN = """
import os, socket, sys
os.setuid(int(sys.argv[3]))
here = socket.socket(socket.AF_UNIX)
here.bind(sys.argv[1])
here.listen()
print(flush=True)
other, _ = here.accept()
try:
    other.sendall(bytes.fromhex(sys.argv[2]))
    print(len(other.recv(100)))
except ConnectionError:
    print(0)
"""
NOBODY = 65534


@pytest.fixture
def open_folder() -> Any:
    """A folder in which everybody may make sockets."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can start a process of another user"
)


@as_root
async def test_a_process_of_another_user_gets_nothing_from_a_worker(
    open_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(open_folder / "b"):
        (open_folder / "b").chmod(0o777)
        for user, received in ((NOBODY, False), (0, True)):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CONNECT, str(open_folder / "b"), "", str(user), stdout=asyncio.subprocess.PIPE
            )
            assert (int((await child.communicate())[0]) > 0) == received, user
    (said,) = caplog.messages
    assert f"it runs as uid {NOBODY} and this process as uid 0" in said and "pid" in said


@as_root
async def test_a_worker_of_another_user_gets_nothing_from_a_front_end(
    open_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for user, received in ((NOBODY, False), (0, True)):
        path = open_folder / str(user)
        challenge = frame(rpc.Challenge(b"N" * 32, "w")).hex()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LISTEN, str(path), challenge, str(user), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        await child.stdout.readline()
        async with front_end({"w": facts_at(f"unix:{path}")}):
            assert (int(await child.stdout.readline()) > 0) == received, user
        await child.wait()
    assert f"it runs as uid {NOBODY} and this process as uid 0" in caplog.messages[0]
