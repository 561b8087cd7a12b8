"""Proofs of possession: a right one counts once, for its own request and its own token."""

from __future__ import annotations

import base64
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.access.dpop import InvalidProof, Proof, Proofs, encoded_digest, thumbprint_of
from tests.issuer import EC, ED, OTHER_RSA, RSA, jwk

NOW = 1_800_000_000.0
URL = "https://mcp.example/mcp"
OTHER_EC = ec.generate_private_key(ec.SECP256R1())


class Bench:
    """One front end's proofs, with a clock."""

    def __init__(self) -> None:
        self.now_s = NOW
        self.proofs = Proofs(lambda: self.now_s)

    def check(self, text: str, method: str = "POST", url: str = URL, token: str = "t", bound: Any = EC) -> None:
        thumbprint = thumbprint_of(public(bound))
        self.proofs.check(Proof((text,), method, url), token, thumbprint)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def public(key: Any) -> dict[str, Any]:
    return {name: value for name, value in jwk(key, "x").items() if name not in ("kid", "key_ops")}


def proof(key: Any = EC, algorithm: str = "ES256", header: Any = None, **changed: Any) -> str:
    claims = {"jti": "1", "htm": "POST", "htu": URL, "iat": int(NOW), "ath": encoded_digest("t"), **changed}
    claims = {name: value for name, value in claims.items() if value is not None}
    headers = {"typ": "dpop+jwt", "jwk": public(key), **(header or {})}
    return jwt.encode(claims, key, algorithm, headers)


@pytest.mark.parametrize(("key", "algorithm"), [(EC, "ES256"), (ED, "EdDSA"), (RSA, "RS256"), (RSA, "PS256")])
def test_a_right_proof_counts_once(bench: Bench, key: Any, algorithm: str) -> None:
    text = proof(key, algorithm)
    bench.check(text, bound=key)
    with pytest.raises(InvalidProof, match="used before"):
        bench.check(text, bound=key)
    bench.check(proof(key, algorithm, jti="2"), bound=key)


@pytest.mark.parametrize(
    "url", ["https://mcp.example:443/mcp", "HTTPS://MCP.example/mcp", URL + "?a=b#c", "https://mcp.example/%6dcp"]
)
def test_a_url_may_be_written_in_several_ways(bench: Bench, url: str) -> None:
    bench.check(proof(htu=url))


WRONG: dict[str, Any] = {
    "another method": {"htm": "GET"},
    "a method in lower case": {"htm": "post"},
    "another URL": {"htu": URL + "/x"},
    "another host": {"htu": "https://evil.example/mcp"},
    "another port": {"htu": "https://mcp.example:8443/mcp"},
    "a URL that is none": {"htu": "https://[mcp"},
    "a URL that is no text": {"htu": [URL]},
    "no URL": {"htu": None},
    "another token": {"ath": encoded_digest("u")},
    "no token": {"ath": None},
    "too old": {"iat": int(NOW) - 61},
    "of the future": {"iat": int(NOW) + 11},
    "no time": {"iat": None},
    "an endless time": {"iat": 10**400},
    "no id": {"jti": None},
    "an empty id": {"jti": ""},
    "a long id": {"jti": "j" * 257},
    "an id that is no text": {"jti": 5},
}


@pytest.mark.parametrize("what", WRONG, ids=str)
def test_a_proof_of_something_else(bench: Bench, what: str) -> None:
    with pytest.raises(InvalidProof):
        bench.check(proof(**WRONG[what]))


HEADERS: dict[str, str] = {
    "another key": proof(OTHER_EC),
    "the right key in the header, another one's signature": proof(OTHER_EC, header={"jwk": public(EC)}),
    "no kind": proof(header={"typ": "JWT"}),
    "critical parameters": proof(header={"crit": ["x"]}),
    "no key": proof(header={"jwk": None}),
    "a key that is no object": proof(header={"jwk": "x"}),
    "a private key": proof(header={"jwk": {**public(EC), "d": "AAAA"}}),
    "a secret": jwt.encode(
        {}, "s" * 32, "HS256", {"typ": "dpop+jwt", "jwk": {"kty": "oct", "k": "czczczczczczczczczczcw"}}
    ),
    "no signature": proof().rpartition(".")[0] + ".",
    "none": jwt.encode({}, "", "none", {"typ": "dpop+jwt", "jwk": public(EC)}),
    "no token at all": "x",
    "nothing": "",
    "huge": proof(x="y" * 9000),
    "another key's kind": proof(OTHER_RSA, "RS256"),
}


@pytest.mark.parametrize("what", HEADERS, ids=str)
def test_a_proof_that_is_none(bench: Bench, what: str) -> None:
    with pytest.raises(InvalidProof):
        bench.check(HEADERS[what])


@pytest.mark.parametrize("bent", ["exponent", "modulus"])
def test_a_key_that_takes_long_to_verify_with_cannot_be_used(bench: Bench, bent: str) -> None:
    numbers = RSA.public_key().public_numbers()
    n, e = numbers.n, numbers.e
    n, e = (n, n - 2) if bent == "exponent" else (n**5, e)
    slow = {"kty": "RSA", "n": number(n), "e": number(e)}
    text = proof(RSA, "RS256", header={"jwk": slow})
    with pytest.raises(InvalidProof, match="cannot be used"):
        bench.proofs.check(Proof((text,), "POST", URL), "t", thumbprint_of(slow))


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def test_a_request_has_one_proof(bench: Bench) -> None:
    for texts in ((), (proof(), proof(jti="2"))):
        with pytest.raises(InvalidProof):
            bench.proofs.check(Proof(texts, "POST", URL), "t", thumbprint_of(public(EC)))
    with pytest.raises(InvalidProof):
        bench.proofs.check(None, "t", thumbprint_of(public(EC)))


def test_what_counted_is_remembered_as_long_as_it_could_count_again(bench: Bench) -> None:
    text = proof(iat=int(NOW) + 10)
    bench.check(text)
    for later_s in (1, 60, 69.9):
        bench.now_s = NOW + later_s
        with pytest.raises(InvalidProof, match="used before"):
            bench.check(text)
    bench.now_s = NOW + 70.5
    with pytest.raises(InvalidProof, match="too old"):
        bench.check(text)


def test_the_memory_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.access.dpop._REMEMBERED", 40)
    for number in range(100):
        bench.check(proof(jti=str(number)))
    assert bench.proofs.remembered <= 40
    with pytest.raises(InvalidProof, match="used before"):
        bench.check(proof(jti="99"))
