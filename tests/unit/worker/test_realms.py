"""``worker.credentials.realms``: which callers share what was got for them."""

from __future__ import annotations

from typing import Any

import jwt

from worker.credentials.realms import realm_of_token


def realm(principal: str = "i#ann", **claims: Any) -> str:
    said = {"iss": "i", "sub": "ann", "scope": "read", "azp": "app", "iat": 1, "exp": 2, "jti": "x", **claims}
    return realm_of_token(principal, jwt.encode(said, "k" * 32, "HS256"))


def test_a_renewed_token_is_of_the_same_realm() -> None:
    assert realm() == realm(iat=5, exp=6, jti="y", nbf=4, auth_time=3)


def test_another_principal_scope_or_client_is_of_another() -> None:
    different = [realm(), realm("i#bob"), realm(scope="read write"), realm(azp="other"), realm(act={"sub": "agent"})]
    assert len(set(different)) == len(different)


def test_opaque_and_broken_tokens_are_each_of_their_own() -> None:
    tokens = ["a", "b", "a.b.c", "a.eyJ.c", "a." + "W10" + ".c"]
    assert len({realm_of_token("p", token) for token in tokens}) == len(tokens)
