"""What the gateway fetches to know whom to believe (keys, introspection, metadata, tokens) is within the rules of
egress, and what a server names is not nearer than the server itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.access.introspection import Introspection
from gateway.access.key_sets import KeySet
from gateway.access.tokens import InvalidToken
from shared.access.methods import IntrospectionMethod, JwtMethod
from shared.egress import Egress
from shared.oauth.http import OAuthError, OAuthHttp
from shared.oauth.metadata import server_of
from tests.issuer import Issuer

DENIED = Egress(deny=["127.0.0.0/8"])


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as found:
        yield found


def _introspection(url: str) -> IntrospectionMethod:
    return IntrospectionMethod(url=url, client_id="gw", client_secret="password")


async def test_keys_are_fetched_from_where_the_rules_allow(issuer: Issuer) -> None:
    for method in (JwtMethod(issuer=issuer.url), JwtMethod(issuer=issuer.url, jwks_url=f"{issuer.url}/keys")):
        allowed, denied = KeySet(method), KeySet(method, DENIED)
        await allowed.fetch()
        asked = issuer.asked
        await denied.fetch()
        assert allowed.loaded and not denied.loaded
        assert issuer.asked == asked, "no connection is made"


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/keys", "http://0xa9fea9fe/keys", "http://metadata.google.internal/keys"]
)
async def test_keys_are_not_fetched_from_metadata_services(url: str, caplog: pytest.LogCaptureFixture) -> None:
    keys = KeySet(JwtMethod(issuer="https://issuer.example", jwks_url=url))
    await keys.fetch()
    assert not keys.loaded and "egressAllow" in caplog.text


async def test_a_name_that_resolves_to_a_denied_address_is_not_asked(issuer: Issuer) -> None:
    named = issuer.url.replace("127.0.0.1", "localhost")
    keys = KeySet(JwtMethod(issuer="x", jwks_url=f"{named}/keys"), Egress(deny=["127.0.0.0/8", "::1"]))
    await keys.fetch()
    assert not keys.loaded and not issuer.asked


async def test_introspection_is_within_the_rules(issuer: Issuer) -> None:
    issuer.active["good"] = {"active": True, "sub": "ann", "exp": 2e10}
    method = _introspection(f"{issuer.url}/introspect")
    assert (await Introspection(method).verify("good", frozenset())).id
    with pytest.raises(InvalidToken, match="cannot be asked"):
        await Introspection(method, DENIED).verify("good", frozenset())
    assert issuer.asked == 1


async def test_any_characters_may_be_in_the_secret_that_introspection_is_asked_with(issuer: Issuer) -> None:
    issuer.client = ("g:w", "a%3A+b c\u00e9")
    issuer.active["good"] = {"active": True, "sub": "ann", "exp": 2e10}
    method = IntrospectionMethod(url=f"{issuer.url}/introspect", client_id="g:w", client_secret=issuer.client[1])
    assert (await Introspection(method).verify("good", frozenset())).id


async def test_a_redirect_of_the_keys_is_not_followed(issuer: Issuer) -> None:
    issuer.behaviour = "redirects"
    keys = KeySet(JwtMethod(issuer=issuer.url, jwks_url=f"{issuer.url}/keys"))
    await keys.fetch()
    assert not keys.loaded and issuer.asked == 1


async def test_what_a_server_names_is_not_nearer_than_the_server(issuer: Issuer) -> None:
    of_internet = OAuthHttp(Egress()).within("https://somewhere.invalid/mcp")
    of_this_machine = OAuthHttp(Egress()).within("http://127.0.0.1:1/mcp")
    allowed = OAuthHttp(Egress(allow=["127.0.0.1"])).within("https://somewhere.invalid/mcp")
    for url in (f"{issuer.url}/keys", f"{issuer.url}/keys".replace("127.0.0.1", "localhost")):
        with pytest.raises(OAuthError, match="on this machine, nearer than the server that names it"):
            await of_internet.get(url)
    assert not issuer.asked
    assert (await of_this_machine.get(f"{issuer.url}/keys"))[0] == 200
    assert (await allowed.get(f"{issuer.url}/keys"))[0] == 200


async def test_an_answer_that_is_nested_without_end_is_no_json(issuer: Issuer) -> None:
    issuer.behaviour = "nested"
    assert await OAuthHttp(Egress()).get(f"{issuer.url}/keys") == (200, None)


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "https://a.example/\r\nSet-Cookie: x=1", "https://a.example/ b", "https://\u00e9.example/",
     "https://user@a.example/", "http://[::1", "file:///etc/passwd", "https://a.example:99999/"],
)  # fmt: skip
async def test_what_a_server_names_is_a_web_address(issuer: Issuer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {**issuer.metadata(), "token_endpoint": f"{issuer.url}/token", "authorization_endpoint": url}
    monkeypatch.setattr(issuer, "metadata", lambda: said)
    with pytest.raises(OAuthError):
        await server_of(OAuthHttp(Egress()), issuer.url)
