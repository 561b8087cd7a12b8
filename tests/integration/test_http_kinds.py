"""The HTTP client against what networks and servers do: redirects, compression, proxies, Unix sockets, certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from shared.connections import HttpConnection, Tls
from shared.errors import CallError
from tests.certificates import self_signed
from tests.integration.fetching import echo, fetch, pool_to, serving
from worker.transports.http_endpoint import HttpEndpoint

# ---- redirects


async def redirecting(request: web.BaseRequest) -> web.StreamResponse:
    """Redirect ``/STATUS/TARGET`` there, and answer everything else."""
    word, _, target = request.path.strip("/").partition("/")
    if word.isdigit():
        return web.Response(status=int(word), headers={"Location": target.replace("~", "/")})
    return await echo(request)


@pytest_asyncio.fixture
async def redirector() -> AsyncIterator[str]:
    async with serving(redirecting) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in-parts"])
@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_on_the_same_origin_is_followed_with_the_body(
    redirector: str, status: int, parts: bool
) -> None:
    pool = pool_to(f"{redirector}/{status}/~there~")
    fetched = await fetch(pool, parts=parts)
    assert fetched.status == 200
    assert b'"path": "/there/"' in fetched.body and b'"body": "{}"' in fetched.body


async def test_a_place_that_is_for_good_or_differs_by_a_slash_is_gone_to_at_once_next_time() -> None:
    seen: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.path)
        if request.path.endswith("/"):
            return await echo(request)
        return web.Response(status=307, headers={"Location": request.path + "/"})

    async with serving(handler) as port:
        pool = pool_to(f"http://127.0.0.1:{port}/mcp")
        for _ in range(2):
            assert (await fetch(pool)).status == 200
        pool.close()
    assert seen == ["/mcp", "/mcp/", "/mcp/"]
    assert pool.endpoint.url.endswith("/mcp/")


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_would_make_a_get_of_a_post_is_refused_by_name(redirector: str, status: int) -> None:
    with pytest.raises(CallError, match="redirects a POST to /there") as failed:
        await fetch(pool_to(f"{redirector}/{status}/~there"))
    assert failed.value.data["http"] == str(status)
    assert (await fetch(pool_to(f"{redirector}/{status}/~there"), "GET")).status == 200


@pytest.mark.parametrize(
    "target", ["http:~~localhost:1~mcp", "https:~~127.0.0.1~mcp", "~~127.0.0.1:1~x", "http:~~u:secret@h~?key=secret"]
)
async def test_another_origin_gets_no_request_and_is_named_without_secrets(redirector: str, target: str) -> None:
    with pytest.raises(CallError, match="another origin") as failed:
        await fetch(pool_to(f"{redirector}/307/{target}", headers={"Authorization": "Bearer t"}))
    assert "secret" not in failed.value.message


async def test_redirects_in_a_circle_end(redirector: str) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/round"})

    async with serving(handler) as port:
        with pytest.raises(CallError, match="more than 3 times"):
            await fetch(pool_to(f"http://127.0.0.1:{port}/round"))


# ---- headers and credentials


async def test_what_is_the_gateways_own_is_not_taken_from_an_entry_and_credentials_are_decoded() -> None:
    async with serving(echo) as port:
        url = f"http://us%40er:p%2Fw%3A@127.0.0.1:{port}/"
        pool = pool_to(url, headers={"Accept": "text/html", "MCP-Protocol-Version": "1999", "X-Own": "kept"})
        body = (await fetch(pool)).body
        assert b"text/html" not in body and b"1999" not in body and b'"X-Own": "kept"' in body
        assert b"Basic dXNAZXI6cC93Og==" in body


# ---- proxies


class Proxy:
    """An HTTP proxy: forwards absolute requests, opens tunnels. ``seen`` has their request lines."""

    def __init__(self, refuse: int = 0) -> None:
        self.seen: list[str] = []
        self.headers: list[str] = []
        self.refuse = refuse
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, _, rest = head.partition("\r\n")
            self.seen.append(line)
            self.headers.append(rest)
            method, target, _ = line.split(" ")
            if self.refuse:
                writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self.refuse)
                return
            place = target.removeprefix("http://").partition("/")[0]
            port = int(place.rpartition(":")[2])
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n")
            else:
                path = "/" + target.removeprefix("http://").partition("/")[2]
                inner_writer.write(f"{method} {path} HTTP/1.1\r\n{rest}".encode())
            await asyncio.gather(self._pump(reader, inner_writer), self._pump(inner_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


async def test_a_proxy_of_the_environment_is_used_where_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Proxy() as proxy, serving(echo) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://u%40:p@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "bypassed.invalid,192.0.2.0/24")
        body = (await fetch(pool_to(f"http://upstream.invalid:{port}/mcp?a=b"))).body
        assert b'"path": "/mcp?a=b"' in body and b"upstream.invalid" in body
        assert proxy.seen == [f"POST http://upstream.invalid:{port}/mcp?a=b HTTP/1.1"]
        assert "Proxy-Authorization: Basic dUA6cA==" in proxy.headers[0]
        assert (await fetch(pool_to(f"http://127.0.0.1:{port}/"))).status == 200  # loopback needs no proxy
        assert len(proxy.seen) == 1
    for host in ("bypassed.invalid", "192.0.2.7"):
        assert HttpEndpoint(f"http://{host}/", HttpConnection(f"http://{host}/")).proxy is None
    assert HttpEndpoint("http://a/", HttpConnection("http://a/", proxy="direct")).proxy is None


async def test_tls_goes_through_a_tunnel_of_an_entrys_own_proxy(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with Proxy() as proxy, serving(echo, context) as port:
        options = {"proxy": f"http://127.0.0.1:{proxy.port}", "tls": Tls(ca_file=str(certificate))}
        pool = pool_to(f"https://localhost:{port}/mcp", headers={"Authorization": "Bearer t"}, **options)
        for _ in range(2):
            assert b"Bearer t" in (await fetch(pool)).body
        assert proxy.seen == [f"CONNECT localhost:{port} HTTP/1.1"]
        assert "Bearer" not in proxy.headers[0]
        pool.close()


async def test_a_proxy_that_refuses_or_is_away_is_named() -> None:
    async with Proxy(refuse=407) as proxy:
        options = {"proxy": f"http://u:secret@127.0.0.1:{proxy.port}"}
        with pytest.raises(CallError, match=r"the proxy 127.0.0.1:\d+ refuses a tunnel \(HTTP 407\)") as failed:
            await fetch(pool_to("https://upstream.invalid/", **options))
        assert "secret" not in failed.value.message
    with pytest.raises(CallError, match=r"the proxy 127.0.0.1:\d+ cannot be reached"):
        await fetch(pool_to("https://upstream.invalid/", **options))


async def test_a_proxy_of_the_environment_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://u:secret@127.0.0.1:1")
    with pytest.raises(CallError, match="HTTPS_PROXY: proxy") as failed:
        await fetch(pool_to("https://upstream.invalid/"))
    assert "secret" not in failed.value.message


# ---- Unix sockets and TLS


async def test_an_upstream_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    async with serving(echo, path=path):
        body = (await fetch(pool_to(f"unix://{path}#/mcp?x=1"))).body
        assert b'"path": "/mcp?x=1"' in body and b'"Host": "localhost"' in body
    with pytest.raises(CallError, match=f"cannot connect to unix:{path}"):
        await fetch(pool_to(f"unix://{path}#/mcp"))


async def test_certificates_of_ones_own(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    client, client_key = self_signed(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = {"cert_file": str(client), "key_file": str(client_key)}
    async with serving(echo, context) as port:
        url = f"https://127.0.0.1:{port}/"
        assert (await fetch(pool_to(url, tls=Tls(ca_file=str(certificate), **mine)))).status == 200
        assert (await fetch(pool_to(url, tls=Tls(insecure_skip_verify=True, **mine)))).status == 200
        named = Tls(ca_file=str(certificate), server_name="localhost", **mine)
        assert (await fetch(pool_to(url, tls=named))).status == 200
        for wrong, words in (
            (None, "its certificate is not trusted .*tls.caFile"),
            (Tls(ca_file=str(certificate)), "certificate required|closed the connection|alert"),
            (Tls(ca_file=str(certificate), server_name="else.where", **mine), "not trusted"),
            (Tls(ca_file=str(tmp_path / "missing.pem")), "there is no file .*missing.pem"),
            (Tls(ca_file=str(key)), "must be PEM files"),
        ):
            with pytest.raises(CallError, match=words):
                await fetch(pool_to(url, tls=wrong))


async def test_a_certificate_that_is_replaced_is_used_for_the_next_connection(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    other, _ = self_signed(tmp_path, "other")
    authority = tmp_path / "ca.pem"
    authority.write_bytes(other.read_bytes())
    async with serving(echo, context) as port:
        pool = pool_to(f"https://127.0.0.1:{port}/", tls=Tls(ca_file=str(authority)))
        with pytest.raises(CallError, match="not trusted"):
            await fetch(pool)
        authority.write_bytes(certificate.read_bytes())
        assert (await fetch(pool)).status == 200
        pool.close()


# ---- where upstreams may be


async def test_the_resolved_address_is_checked_at_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    asked: list[str] = []
    answers = {"good.invalid": "127.0.0.1", "rebound.invalid": "169.254.169.254"}

    async def resolve(host: str, port: int, **options: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", (answers.get(host, host), port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    async with serving(echo) as port:
        pool = pool_to(f"http://good.invalid:{port}/")
        assert b'"Host": "good.invalid' in (await fetch(pool)).body
        pool.close()
        with pytest.raises(CallError, match=r"rebound.invalid is 169.254.169.254, which is a link-local address"):
            await fetch(pool_to(f"http://rebound.invalid:{port}/"))
    assert asked == ["good.invalid", "rebound.invalid"]


async def test_a_proxy_is_not_asked_for_what_is_refused() -> None:
    async with Proxy() as proxy:
        for url in ("http://169.254.169.254/", "https://metadata.google.internal/"):
            with pytest.raises(CallError, match="egressAllow"):
                await fetch(pool_to(url, proxy=f"http://127.0.0.1:{proxy.port}"))
        assert proxy.seen == []
