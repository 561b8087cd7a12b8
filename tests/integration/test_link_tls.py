"""TLS of links over TCP, over real sockets: what it hides, who cannot stand between, and peers that have none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.fleet.pool import WorkerPool
from shared.errors import ConfigError
from shared.nested_settings import LinkSettings
from shared.rpc import link_tls
from shared.rpc import messages as rpc
from shared.secrets import FleetKey
from tests.certificates import Authority, Pair
from tests.fleet import eventually
from tests.integration.test_link_trust import Facts, frame, front_end, owned_by, read_frame, until_closed, worker
from worker import rpc_server
from worker.rpc_server import RpcServer

ANY_PORT = "127.0.0.1:0"


def far(server: RpcServer, address: str = "") -> Facts:
    """The record of a worker as a front end of another host reads it."""
    return {"host": "elsewhere", "address": "", "tcp": address or server.tcp_address, link_tls.OFFER: server.offer}


async def secure(pool: WorkerPool) -> bool:
    """Wait for the link; whether it speaks TLS."""
    await eventually(lambda: pool.link_for(owned_by("b"), "") is not None)
    return pool.links["b"].secure


class Between:
    """Somebody on the way to a worker. ``tls``: he ends the front end's TLS with a certificate of his own; ``onwards``:
    he speaks TLS with the worker, too. ``seen`` is all that he could read."""

    def __init__(self, server: RpcServer, pair: Pair | None = None, onwards: bool = False) -> None:
        self.seen = b""
        self._host, _, self._port = server.tcp_address.rpartition(":")
        self._onwards = onwards
        self._context: ssl.SSLContext | None = None
        if pair is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(pair.cert, pair.key)
        self._server_address = server
        self._tasks: set[Any] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        context = None
        if self._onwards:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        there, back = await asyncio.open_connection(self._host, int(self._port), ssl=context)
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while chunk := await reader.read(65536):
                self.seen += chunk
                writer.write(chunk)
        writer.close()

    @asynccontextmanager
    async def at_its_address(self) -> AsyncIterator[Between]:
        """Stand where the worker's record leads to: without that, the address in the proofs would be another one."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self._server_address.tcp_address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()


async def test_what_is_said_cannot_be_read_on_the_way(tmp_path: Path) -> None:
    for mode, readable in (("off", True), ("auto", False)):
        async with (
            worker(tmp_path / "b", id="b", rpc_bind=ANY_PORT, link_tls=mode) as server,
            Between(server).at_its_address() as between,
            front_end({"b": far(server)}, id="the-front-end", link_tls=mode) as pool,
        ):
            assert await secure(pool) is not readable
            await eventually(lambda between=between: len(between.seen) > 200)
            assert (b"the-front-end" in between.seen) is readable


@pytest.mark.parametrize("onwards", [True, False])
async def test_whoever_ends_tls_between_gets_no_link(
    onwards: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """He passes on what both ends prove, also to a worker that takes links without TLS."""
    pair = Authority(tmp_path).server()
    async with (
        worker(tmp_path / "b", rpc_bind=ANY_PORT) as server,
        Between(server, pair, onwards).at_its_address() as between,
        front_end({"b": far(server)}) as pool,
    ):
        await eventually(lambda: any("its proof is wrong" in text for text in caplog.messages))
        assert len(between.seen) > 100, "he carried the handshake"
        assert not pool.links and not server.front_ends.peers


async def test_a_stranger_sees_a_challenge_and_nothing_of_the_key(tmp_path: Path) -> None:
    """Two workers with one key show certificates that have nothing in common."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    shown = []
    for name in ("b", "c"):
        async with worker(tmp_path / name, rpc_bind=ANY_PORT) as server:
            host, _, port = server.tcp_address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            inside = writer.get_extra_info("ssl_object")
            assert inside.version() == "TLSv1.3"
            shown.append(inside.getpeercert(binary_form=True))
            assert isinstance((await read_frame(reader))[0], rpc.Challenge)
            writer.write(frame(rpc.Hello("f1", b"p" * 32, nonce=b"m" * 32)))
            assert await until_closed(reader) == []
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode, old.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(host, int(port), ssl=old)
    assert shown[0] != shown[1]


# ---- peers of earlier releases, and settings that do not fit


async def test_a_front_end_without_tls_is_taken_after_a_pause(tmp_path: Path) -> None:
    async with worker(tmp_path / "b", rpc_bind=ANY_PORT) as server:
        record = {**far(server), link_tls.OFFER: ""}  # as a front end of an earlier release reads it
        async with front_end({"b": record}, link_tls="off") as pool:
            assert not await secure(pool)


async def test_a_worker_without_tls_is_linked_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        worker(tmp_path / "b", rpc_bind=ANY_PORT, link_tls="off") as server,
        front_end({"b": far(server)}) as pool,
    ):
        assert not await secure(pool)
        assert any("is not encrypted" in text for text in caplog.messages)


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ("off", "required", "it takes links over TLS only"),
        ("required", "off", "it offers no TLS"),
    ],
)
async def test_required_means_no_others(
    here: str, there: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        worker(tmp_path / "b", rpc_bind=ANY_PORT, link_tls=there) as server,
        front_end({"b": far(server)}, link_tls=here) as pool,
    ):
        await eventually(lambda: any(said in text for text in caplog.messages))
        assert not pool.links and not server.front_ends.peers


async def test_a_worker_that_requires_tls_says_who_has_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with worker(tmp_path / "b", rpc_bind=ANY_PORT, link_tls="required") as server:
        record = {**far(server), link_tls.OFFER: ""}
        async with front_end({"b": record}, link_tls="off") as pool:
            host, _, port = server.tcp_address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read() == b""
            await eventually(lambda: any("speaks no TLS" in text for text in caplog.messages))
            assert not pool.links
            writer.close()


# ---- an authority of the fleet


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("fleet"), "fleet")


def files(authority: Authority, pair: Pair) -> dict[str, Any]:
    """The settings of a process with this certificate."""
    found = {"link_ca_file": authority.file, "link_cert_file": pair.cert, "link_key_file": pair.key}
    return {name: str(path) for name, path in found.items()}


async def test_with_an_authority_both_ends_show_certificates_of_it(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = authority.server("worker"), authority.client("front end")
    strange = Authority(tmp_path, "fleet")
    async with worker(tmp_path / "b", rpc_bind=ANY_PORT, **files(authority, theirs)) as server:
        assert server.offer == "required"
        async with front_end({"b": far(server)}, **files(authority, ours)) as pool:
            assert await secure(pool)
        await eventually(lambda: not server.front_ends.peers)
        for given in (
            {},
            files(strange, strange.client("front end")),
            {**files(strange, strange.client("front end")), "link_ca_file": str(authority.file)},
        ):
            caplog.clear()
            server._refused_at = -60.0
            async with front_end({"b": far(server)}, id="stranger", **given) as pool:
                await eventually(lambda: any("link.caFile the same" in text for text in caplog.messages))
                assert not pool.links and not server.front_ends.peers
        assert not server._joining


async def test_the_key_is_needed_as_well(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = authority.server("worker"), authority.client("front end")
    async with (
        worker(tmp_path / "b", rpc_bind=ANY_PORT, **files(authority, theirs)) as server,
        front_end({"b": far(server)}, FleetKey.from_secret("another"), **files(authority, ours)) as pool,
    ):
        await eventually(lambda: any("its proof is wrong" in text for text in caplog.messages))
        assert not pool.links


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"link_ca_file": "/ca.pem"}, "belong together"),
        ({"link_key_file": "/k.pem"}, "nothing without"),
        ({"link_ca_file": "/ca.pem", "link_cert_file": "/c.pem", "link_tls": "off"}, "while link.tls is 'off'"),
        ({"link_ca_file": "/nowhere/ca.pem", "link_cert_file": "/nowhere/c.pem"}, "cannot read /nowhere/c.pem"),
    ],
)
def test_settings_that_cannot_be_used_are_said(given: dict[str, Any], said: str) -> None:
    for make in (link_tls.of_worker, link_tls.of_front_end):
        with pytest.raises(ConfigError, match=said):
            make(LinkSettings(**given))


# ---- bounds


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"])
async def test_strangers_that_do_not_go_on_are_few_and_short(
    begun: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rpc_server, "_MAX_JOINING", 4)
    async with worker(tmp_path / "b", rpc_bind=ANY_PORT, link_tls="required") as server:
        host, _, port = server.tcp_address.rpartition(":")
        opened = []
        for _ in range(12):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(begun)
            opened.append((reader, writer))
        await eventually(lambda: sum(reader.at_eof() for reader, _ in opened) >= 8)
        assert len(server._joining) <= 4
        async with front_end({"b": far(server)}) as pool:
            assert await secure(pool)
        for _, writer in opened:
            writer.close()
        await eventually(lambda: not server._joining)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
