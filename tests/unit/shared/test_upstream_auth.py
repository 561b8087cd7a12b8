"""``shared.upstream_auth``: an ``auth`` is taken as it is meant, or refused with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from shared.config.load import parse
from shared.connections import HttpConnection, unmasked
from shared.errors import ConfigError
from shared.models import make_spec
from shared.upstream_auth import ClientCredentials

GOOD = {"type": "clientCredentials", "clientId": "gw", "clientSecret": "s3cret"}
PROVIDER = {"clientId": "at-idp", "clientSecret": "0ther", "issuer": "https://idp"}
ASSERTED = {**GOOD, "type": "tokenExchange", "issuer": "https://as", "identityProvider": PROVIDER}


def connection(auth: Any, **others: Any) -> HttpConnection:
    found = make_spec("up", {"url": "https://h/mcp", "auth": auth, **others}).connection
    assert isinstance(found, HttpConnection)
    return found


@pytest.mark.parametrize(
    ("auth", "why"),
    [
        ("x", "must be an object with a type; types: clientCredentials"),
        ({}, "must be an object with a type"),
        ({"type": "password"}, "there is no type 'password'"),
        ({"type": "clientCredentials"}, "missing required field `clientId`"),
        ({**GOOD, "clientID": "x"}, "unknown field `clientID`"),
        ({**GOOD, "scopes": "a b"}, "`scopes`"),
        ({**GOOD, "scopes": ["a b"]}, "'a b' is not a scope"),
        ({**GOOD, "clientSecret": ""}, "give this or privateKeyFile"),
        ({**GOOD, "privateKeyFile": "/k.pem"}, "one of the two"),
        ({**GOOD, "keyId": "k"}, "keyId names the key"),
        ({**GOOD, "tokenUrl": "ftp://x/"}, "tokenUrl: 'ftp://x/' is not"),
        ({**GOOD, "issuer": "https://u:p@x/"}, "issuer: "),
        ({**GOOD, "resource": "mcp"}, "resource: 'mcp' is not an absolute URI"),
        ({**GOOD, "clientId": "a\r\nb"}, "clientId must be printable"),
        ({**GOOD, "identityProvider": PROVIDER}, "unknown field `identityProvider`"),
        ({**ASSERTED, "identityProvider": {**PROVIDER, "issuer": ""}}, "identityProvider: give its issuer"),
        ({**ASSERTED, "identityProvider": {**PROVIDER, "issuer": "idp"}}, "identityProvider: issuer: 'idp' is not"),
        ({**ASSERTED, "identityProvider": {**PROVIDER, "clientSecret": ""}}, "identityProvider: clientSecret: give"),
        ({**ASSERTED, "identityProvider": {**PROVIDER, "subjectTokenType": "saml2"}}, "subjectTokenType"),
        ({**ASSERTED, "issuer": "", "tokenUrl": "https://as/token"}, "give auth.issuer as well"),
    ],
)
def test_what_is_wrong_with_an_auth_is_said(auth: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=r"auth") as raised:
        connection(auth)
    assert why in str(raised.value)


def test_authorization_is_said_in_one_way_only() -> None:
    with pytest.raises(ConfigError, match="keep one"):
        connection(GOOD, headers={"authorization": "Bearer x"})
    with pytest.raises(ConfigError, match="keep one"):
        connection(GOOD, url="https://u:p@h/mcp")


def test_an_auth_of_a_file_is_expanded_and_its_key_found_beside_the_file(tmp_path: Any) -> None:
    auth = {"type": "clientCredentials", "clientId": "${ID}", "privateKeyFile": "k.pem"}
    config = parse({"mcpServers": {"up": {"url": "https://h/mcp", "auth": auth}}}, {"ID": "gw"}, tmp_path)
    assert not config.problems and not config.warnings
    (spec,) = config.upstreams
    assert spec.connection == HttpConnection(
        "https://h/mcp", auth=ClientCredentials("gw", private_key_file=str(tmp_path / "k.pem"))
    )
    assert spec.connection.touches_host()
    flawed = parse({"mcpServers": {"up": {"url": "https://h/mcp", "auth": {"type": "x"}}}}, {}, tmp_path)
    assert "there is no type" in flawed.upstreams[0].problem


def test_a_masked_secret_is_filled_in_only_for_the_same_server_of_tokens() -> None:
    before = connection({**GOOD, "tokenUrl": "https://as/token"})
    shown = before.public()
    assert "s3cret" not in str(shown)
    assert unmasked(shown, before)["auth"]["clientSecret"] == "s3cret"
    for changed in ({"tokenUrl": "https://evil/token"}, {"issuer": "https://evil"}, {"clientId": "other"}):
        with pytest.raises(ConfigError, match="stands for a secret"):
            unmasked({**shown, "auth": {**shown["auth"], **changed}}, before)
    with pytest.raises(ConfigError, match="stands for a secret"):
        unmasked({**shown, "url": "https://evil/mcp"}, before)


def test_secrets_of_an_identity_provider_are_treated_like_the_others(tmp_path: Any) -> None:
    before = connection(ASSERTED)
    shown = before.public()
    assert "s3cret" not in str(shown) + repr(before) and "0ther" not in str(shown) + repr(before)
    secrets = unmasked(shown, before)["auth"]
    assert (secrets["clientSecret"], secrets["identityProvider"]["clientSecret"]) == ("s3cret", "0ther")
    moved = {**shown["auth"]["identityProvider"], "issuer": "https://evil"}
    with pytest.raises(ConfigError, match="stands for a secret"):
        unmasked({**shown, "auth": {**shown["auth"], "identityProvider": moved}}, before)
    keyed = {**ASSERTED, "identityProvider": {"clientId": "at-idp", "privateKeyFile": "k.pem", "issuer": "${IDP}"}}
    config = parse({"mcpServers": {"up": {"url": "https://h/mcp", "auth": keyed}}}, {"IDP": "https://idp"}, tmp_path)
    assert not config.problems
    (spec,) = config.upstreams
    assert isinstance(spec.connection, HttpConnection) and spec.connection.touches_host()
    provider = spec.connection.public()["auth"]["identityProvider"]
    assert (provider["privateKeyFile"], provider["issuer"]) == (str(tmp_path / "k.pem"), "https://idp")


def test_a_token_url_in_the_clear_is_noted() -> None:
    assert any("not https" in note for note in connection({**GOOD, "tokenUrl": "http://as/token"}).notes())
    assert not connection({**GOOD, "tokenUrl": "https://as/token"}).notes()
