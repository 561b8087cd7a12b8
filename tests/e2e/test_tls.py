"""HTTPS at the gateway's own port: real clients, certificates that change, files that are wrong."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx2
import pytest
import pytest_asyncio
from cryptography import x509
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.certificates import Authority, Pair, lock
from tests.clients import RawClient
from tests.e2e.test_up import environment, run, running, write
from tests.fleet import PYTHON, ROOT, Fleet, eventually
from tests.machine import scaled
from tests.servers.scripted import Scripted


def trusting(authority: Authority, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client's context that trusts this authority alone."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.maximum_version = most
    return context


async def shown(url: str, context: ssl.SSLContext) -> tuple[str, str]:
    """The subject of the certificate that a new connection gets, and the version of TLS."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    inside = writer.get_extra_info("ssl_object")
    raw = inside.getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(raw).subject.rfc4514_string(), inside.version()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.server("first", authority.folder / "gateway.pem", authority.folder / "gateway.key")


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, pair: Pair) -> AsyncIterator[Fleet]:
    files = {"tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key)}
    async with Scripted("up", "modern") as up, Fleet(redis_url, 2, 1, head_timeout_s=1.0, **files) as fleet:
        await fleet.register("up", up.connection)
        yield fleet


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_calls_of_every_lane_go_over_tls(fleet: Fleet, authority: Authority, version: ssl.TLSVersion) -> None:
    context = trusting(authority, version)
    assert fleet.url.startswith("https://")
    assert (await shown(fleet.url, context))[1] == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    async with RawClient(fleet.urls[0], context) as client:
        assert (await client.call("up")).content == "up"
        large = "x" * 2_000_000
        assert (await client.call("up", {"text": large})).content == "up"
        await client.initialize()
        assert (await client.legacy("tools/list", url=fleet.urls[1])).status == 200
        async with client.session.get(f"{fleet.url}/servers/up/sse") as stream:
            assert (await stream.content.readline()).strip() == b"event: endpoint"
        async with client.session.get(f"{fleet.url}/readyz") as ready:
            assert ready.status == 200


async def test_the_python_sdk_calls_over_tls(fleet: Fleet, authority: Authority) -> None:
    async with (
        httpx2.AsyncClient(verify=trusting(authority), timeout=30.0, trust_env=False) as http,
        Client(streamable_http_client(fleet.url + "/mcp", http_client=http)) as client,
    ):
        assert "up" in [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("up", {})
        assert result.content[0].text == "up"  # type: ignore[union-attr]


async def test_health_checks_of_containers_ask_over_tls(fleet: Fleet, pair: Pair) -> None:
    port = fleet.url.rpartition(":")[2]
    for variables in ({"GATEWAY_TLS_CERT_FILE": str(pair.cert)}, {}):  # a file may have turned it on
        for path, code in (("readyz", 0), ("healthz", 0), ("nothing", 2)):
            probe = await asyncio.create_subprocess_exec(
                PYTHON, "-m", "gateway.probe", path, env=environment(GATEWAY_PORT=port, **variables), cwd=ROOT
            )
            assert await probe.wait() == code


async def test_old_versions_and_plain_http_are_refused(fleet: Fleet) -> None:
    port = int(fleet.url.rpartition(":")[2])
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what is old is deprecated
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=old)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"HTTP/1.1 200" not in await reader.read()
    writer.close()


async def test_a_handshake_that_does_not_end_is_ended(fleet: Fleet) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(fleet.url.rpartition(":")[2]))
    writer.write(b"\x16\x03\x01")
    async with asyncio.timeout(scaled(20)):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()


async def test_handshakes_that_do_not_begin_make_way(redis_url: str, authority: Authority, pair: Pair) -> None:
    files = {"tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key)}
    bounds = {"max_client_connections": 8, "max_client_connections_per_peer": 8, "head_timeout_s": 600.0}
    async with Scripted("up", "modern") as up, Fleet(redis_url, 1, 1, **files, **bounds) as fleet:
        await fleet.register("up", up.connection)
        port = int(fleet.url.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        async with RawClient(fleet.url + "/mcp", trusting(authority)) as client:

            async def answered() -> bool:
                with contextlib.suppress(aiohttp.ClientError):
                    return (await client.call("up")).content == "up"
                return False

            await eventually(answered, 10.0, "those that came a moment ago may still begin; then they make way")
        for _, writer in held:
            writer.close()


async def test_new_certificates_are_taken_and_no_connection_ends(
    fleet: Fleet, authority: Authority, pair: Pair
) -> None:
    context = trusting(authority)
    async with RawClient(fleet.url + "/mcp", context) as client:
        assert (await client.call("up")).content == "up"
        held = _connections(client)
        authority.server("second", pair.cert, pair.key)
        for url in fleet.urls:
            await eventually(lambda url=url: _is_shown(url, context, "CN=second"), 20.0, "the new certificate")
        assert (await client.call("up")).content == "up"
        assert _connections(client) == held, "the connection of before is used"

        # A pair that does not fit is not used; when it fits, it is.
        authority.server("third", pair.cert, authority.folder / "other.key")
        await asyncio.sleep(3.5)  # two looks: it has been read, or never will be
        assert (await shown(fleet.url, context))[0] == "CN=second"
        pair.key.write_bytes((authority.folder / "other.key").read_bytes())
        for url in fleet.urls:
            await eventually(lambda url=url: _is_shown(url, context, "CN=third"), 20.0, "the mended pair")
        assert (await client.call("up")).content == "up"
        assert _connections(client) == held


async def _is_shown(url: str, context: ssl.SSLContext, subject: str) -> bool:
    return (await shown(url, context))[0] == subject


def _connections(client: RawClient) -> list[tuple[str, int]]:
    connector = client.session.connector
    assert connector is not None
    pooled = [one for many in connector._conns.values() for one, _ in many]  # type: ignore[attr-defined]
    return [one.transport.get_extra_info("sockname") for one in pooled if one.transport is not None]


async def test_up_says_https_and_commands_trust_the_file_that_they_are_given(
    tmp_path: Path, authority: Authority
) -> None:
    pair = authority.server("up", tmp_path / "c.pem", tmp_path / "k.pem")
    async with Scripted("up", "modern") as up:
        config = write(tmp_path / "g.json", {"up": up.connection}, tls={"certFile": pair.cert.name, "keyFile": "k.pem"})
        async with running("--config", config) as (command, url):
            assert url.startswith("https://127.0.0.1:")
            assert f"Dashboard      {url}/ui/" in command.output
            await command.says(r"up \(up, http\): connected")
            trust = {"GATEWAY_CA_FILE": str(authority.file)}
            code, text = await run("status", "--url", url, **trust)
            assert code == 0 and "up" in text
            code, text = await run("call", "up", "--url", url, "--gateway-ca", str(authority.file))
            assert (code, text.strip()) == (0, "up")
            for words in (["status"], ["call", "up"]):
                code, text = await run(*words, "--url", url)
                assert code == 1 and "certificate" in text and "GATEWAY_CA_FILE" in text, text
                code, text = await run(*words, "--url", url, GATEWAY_CA_FILE="/nowhere.pem")
                assert code == 2 and "GATEWAY_CA_FILE: cannot read /nowhere.pem" in text, text
            code, text = await run("status", "--url", url.replace("https", "http"), **trust)
            assert code == 1 and "https://" in text, text

            os.replace(pair.key, tmp_path / "away.pem")
            await command.says(r"not used; those read before stay in use: .*k\.pem")
            async with RawClient(url + "/mcp", trusting(authority)) as client:
                assert (await client.call("up")).content == "up"


async def refusal(tmp_path: Path, **files: str) -> str:
    """What a start with these files says."""
    variables = {f"GATEWAY_TLS_{name.upper()}": path for name, path in files.items()}
    code, text = await run("up", "--port", "0", "--ephemeral", **variables)
    assert code == 2, text
    assert "PRIVATE" not in text and "Traceback" not in text, text
    return text


async def test_a_start_with_files_that_cannot_be_used_says_which_and_why(tmp_path: Path, authority: Authority) -> None:
    good, other = authority.server("good", tmp_path / "good.pem", tmp_path / "good.key"), authority.server("other")
    cert, key = str(good.cert), str(good.key)
    assert f"cannot read {tmp_path}/gone.pem: No such file" in await refusal(
        tmp_path, cert_file=f"{tmp_path}/gone.pem", key_file=key
    )
    assert "tls.keyFile: certificate and key do not belong together" in await refusal(
        tmp_path, cert_file=cert, key_file=str(other.key)
    )
    assert "are the two files exchanged" in await refusal(tmp_path, cert_file=key, key_file=cert)
    assert "name the file that has it with tls.keyFile" in await refusal(tmp_path, cert_file=cert)
    assert "without tls.certFile" in await refusal(tmp_path, key_file=key)
    lock(other.key)
    assert "is encrypted" in await refusal(tmp_path, cert_file=str(other.cert), key_file=str(other.key))
    file = write(tmp_path / "g.json", {}, tls={"certFile": "gone.pem"})
    code, text = await run("check", str(file))
    assert code == 2 and f"tls.certFile: cannot read {tmp_path}/gone.pem" in text, "relative to the file"
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n")
    assert "cannot be used" in await refusal(tmp_path, cert_file=f"{tmp_path}/broken.pem", key_file=key)


def test_what_a_certificate_whose_time_is_over_is_said_of(authority: Authority) -> None:
    from shared.tls import expiry_note

    over = authority.server("over", ends=datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1))
    assert "ended on" in expiry_note(str(over.cert))
    assert not expiry_note(str(authority.server("fine").cert))
