"""Tokens that somebody made up, stole or bent: none of them is anybody's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.access.jwt import JwtIssuer, UnverifiedToken
from gateway.access.key_sets import KeySet
from gateway.access.principal import Identity
from gateway.access.tokens import InvalidToken
from shared.access.methods import JwtMethod
from tests.issuer import EC, ED, OTHER_RSA, RSA, jwk
from tests.machine import scaled

AUDIENCE = "https://mcp.example/mcp"
ISSUER = "https://idp.example"
P384 = ec.generate_private_key(ec.SECP384R1())
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)
A_DAY_S = 86_400.0
NESTED = "[" * 5000 + "]" * 5000


class Clock:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": ISSUER, "sub": "ann", "aud": AUDIENCE, "iat": now, "exp": now + 600}
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def encoded(part: Any) -> str:
    raw = part.encode() if isinstance(part, str) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, payload: Any, sign: Any = None) -> str:
    """Return a token with exactly these parts (an object, or its JSON), signed by ``sign`` or the issuer's RSA key."""
    text = f"{encoded(header)}.{encoded(payload)}"
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(text.encode(), RSA)
    if sign is not None:
        signature = sign(text.encode())
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


GOOD = {"alg": "RS256", "kid": "rsa-1", "typ": "at+jwt"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    found = tmp_path / "keys.json"
    secret = encoded("x" * 40)
    listed = [
        jwk(RSA, "rsa-1"),
        jwk(EC, "ec-1"),
        jwk(ED, "ed-1"),
        jwk(P384, "ec-384"),
        jwk(SHORT, "short"),
        jwk(OTHER_RSA, "encrypts", use="enc"),
        {"kty": "oct", "kid": "oct-1", "k": secret},
        {"kty": "RSA", "kid": "odd", "n": 5, "e": {}},
        {"kty": "EC", "kid": "odd", "crv": ["P-256"], "x": None, "y": ""},
        {"kty": "RSA", "kid": "odd", "key_ops": 5},
        jwk(RSA, "pss-only", alg="PS256"),
        "no key",
    ]
    found.write_text(json.dumps({"keys": listed}))
    return found


async def verify(path: Path, token: str) -> Identity:
    """Do with a token what ``admission.authentication`` does."""
    issuer = JwtIssuer(JwtMethod(issuer=ISSUER, jwks_file=str(path)))
    unverified = UnverifiedToken.read(token)
    if unverified is None or unverified.claims.get("iss") != ISSUER:
        raise InvalidToken("the token is of no issuer that is accepted here")
    issuer.precheck(unverified, frozenset([AUDIENCE]))
    return issuer.verify(unverified, await issuer.keys_of(unverified))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [
        (RSA, "RS256", "rsa-1"),
        (RSA, "PS256", "rsa-1"),
        (RSA, "PS256", "pss-only"),
        (EC, "ES256", "ec-1"),
        (P384, "ES384", "ec-384"),
        (ED, "EdDSA", "ed-1"),
        (RSA, "RS256", None),
    ],
)
async def test_a_good_token(keys: Path, key: Any, algorithm: str, kid: str | None) -> None:
    token = jwt.encode(claims(scope="a b"), key, algorithm, {"kid": kid} if kid else {})
    found = await verify(keys, token)
    assert found.id == f"{ISSUER}#ann" and found.scopes == {"a", "b"}


async def test_a_token_lasts_as_long_as_it_is_accepted(keys: Path) -> None:
    """A token that has just expired is accepted for the leeway. What was verified must last for at least this request:
    else it would be verified again and again."""
    found = await verify(keys, jwt.encode(claims(exp=int(time.time()) - 5), RSA, "RS256", {"kid": "rsa-1"}))
    assert time.time() < found.expires_at < time.time() + 30


def _public(key: Any) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


def _hmac(secret: bytes) -> Any:
    return lambda text: hmac.digest(secret, text, hashlib.sha256)


HEADERS: dict[str, Any] = {
    "none": ({"alg": "none"}, lambda text: b""),
    "none in capitals": ({"alg": "NONE"}, lambda text: b""),
    "none with a key": ({"alg": "none", "kid": "rsa-1"}, None),
    "the public key as a secret": ({"alg": "HS256", "kid": "rsa-1"}, _hmac(_public(RSA))),
    "the public key's JWK as a secret": ({"alg": "HS256"}, _hmac(json.dumps(jwk(RSA, "rsa-1")).encode())),
    "the secret of the key set": ({"alg": "HS256", "kid": "oct-1"}, _hmac(b"x" * 40)),
    "an algorithm that is a list": ({"alg": ["RS256"], "kid": "rsa-1"}, None),
    "no algorithm": ({"kid": "rsa-1"}, None),
    "lower case": ({"alg": "rs256", "kid": "rsa-1"}, None),
    "an own key in the header": ({"alg": "RS256", "jwk": jwk(OTHER_RSA, "x")}, OTHER_RSA),
    "an own key set": ({"alg": "RS256", "jku": "https://evil.example/keys"}, OTHER_RSA),
    "an own certificate": ({"alg": "RS256", "x5u": "https://evil.example/c", "x5c": ["AAAA"]}, OTHER_RSA),
    "a path as key id": ({"alg": "RS256", "kid": "../../../../dev/null"}, _hmac(b"")),
    "a query as key id": ({"alg": "RS256", "kid": "x' UNION SELECT 'k"}, None),
    "a huge key id": ({"alg": "RS256", "kid": "k" * 8000}, None),
    "a key id that is no text": ({"alg": "RS256", "kid": {"$ne": ""}}, None),
    "critical parameters": ({**GOOD, "crit": ["exp"]}, None),
    "empty critical parameters": ({**GOOD, "crit": []}, None),
    "detached": ({**GOOD, "b64": False}, None),
    "another kind of token": ({**GOOD, "typ": "dpop+jwt"}, None),
    "an id token by name": ({**GOOD, "typ": "logout+jwt"}, None),
    "a kind that is no text": ({**GOOD, "typ": 5}, None),
    "an elliptic key for RSA": ({"alg": "RS256", "kid": "ec-1"}, None),
    "an RSA key for elliptic curves": ({"alg": "ES256", "kid": "rsa-1"}, None),
    "the wrong curve": ({"alg": "ES256", "kid": "ec-384"}, None),
    "a key that is for another algorithm": ({"alg": "RS256", "kid": "pss-only"}, None),
    "a key that is for encryption": ({"alg": "RS256", "kid": "encrypts"}, OTHER_RSA),
    "a short key": ({"alg": "RS256", "kid": "short"}, SHORT),
    "an odd key": ({"alg": "RS256", "kid": "odd"}, None),
    "nested": ('{"alg":"RS256","x":' + "[" * 40_000 + "]" * 40_000 + "}", None),
    "no object": ("[]", None),
    "no JSON": ("{", None),
}


@pytest.mark.parametrize("header", HEADERS, ids=str)
async def test_a_bent_header(keys: Path, header: str) -> None:
    what, sign = HEADERS[header]
    if sign is not None and not callable(sign):
        key = sign
        algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
        sign = lambda text: algorithm.sign(text, key)  # noqa: E731
    with pytest.raises(InvalidToken):
        await verify(keys, signed(what, claims(), sign))


PAYLOADS: dict[str, Any] = {
    "another audience": {"aud": "https://other.example/mcp"},
    "a longer audience": {"aud": AUDIENCE + "/x"},
    "a shorter audience": {"aud": AUDIENCE[:-1]},
    "audiences that are no texts": {"aud": [5, None, {"x": AUDIENCE}]},
    "an audience that is a number": {"aud": 5},
    "an audience that is an object": {"aud": {AUDIENCE: 1}},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://evil.example"},
    "an issuer with a slash": {"iss": ISSUER + "/"},
    "an issuer that is a list": {"iss": [ISSUER]},
    "no issuer": {"iss": None},
    "expired": {"exp": int(time.time()) - 60},
    "no expiry": {"exp": None},
    "an expiry that is a text": {"exp": "4000000000"},
    "an expiry that is true": {"exp": True},
    "an expiry of 400 digits": {"exp": 10**400},
    "an expiry of infinity": {"exp": float("inf")},
    "an expiry that is no number": {"exp": float("nan")},
    "a start of 400 digits": {"nbf": 10**400},
    "not yet": {"nbf": 4_000_000_000},
    "of the future": {"iat": 4_000_000_000},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a list": {"sub": ["ann"]},
    "a subject with half of a character": {"sub": "ann\ud800"},
    "a subject of two lines": {"sub": "ann\nbob"},
}


@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
async def test_wrong_claims(keys: Path, payload: str) -> None:
    with pytest.raises(InvalidToken):
        await verify(keys, signed(GOOD, claims(**PAYLOADS[payload])))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "a.b.c",
        "x" * 20_000,
        signed(GOOD, claims(x="y" * 16_000)),
        signed(GOOD, '{"iss":' + NESTED + "}"),
        signed(GOOD, "[]"),
        signed(GOOD, "5"),
        signed(GOOD, claims()) + ".x",
        signed(GOOD, claims(), lambda text: b""),
        signed(GOOD, claims(), lambda text: b"\0" * 256),
        "ä.ö.ü",
        "\udc80.\udc80.\udc80",
    ],
    ids=lambda token: ascii(token[:20]),
)
async def test_what_is_no_token(keys: Path, token: str) -> None:
    with pytest.raises(InvalidToken):
        await verify(keys, token)


async def test_of_claims_that_are_there_twice_the_last_counts_for_all(keys: Path) -> None:
    """RFC 7519 section 4: a token is refused, or the last one counts. It must be the same one for every check."""
    text = json.dumps(claims())
    for first, last, good in (("https://evil.example", ISSUER, True), (ISSUER, "https://evil.example", False)):
        twice = text.replace(f'"iss": "{ISSUER}"', f'"iss": "{first}", "iss": "{last}"')
        if good:
            assert (await verify(keys, signed(GOOD, twice))).id == f"{ISSUER}#ann"
        else:
            with pytest.raises(InvalidToken):
                await verify(keys, signed(GOOD, twice))


async def test_old_keys_are_used_while_the_issuer_is_away(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    issuer = JwtIssuer(JwtMethod(issuer=ISSUER, jwks_file=str(keys)), clock=clock)
    token = UnverifiedToken.read(signed(GOOD, claims()))
    assert token is not None and await issuer.keys_of(token)
    hanging = asyncio.Event()

    async def hang(self: KeySet) -> Any:
        await hanging.wait()
        raise OSError("away")

    monkeypatch.setattr(KeySet, "_document", hang)
    clock.now += A_DAY_S
    for _ in range(3):
        async with asyncio.timeout(scaled(1)):  # nobody waits for the issuer
            assert await issuer.keys_of(token)
    hanging.set()
    await issuer.keys.fetch()
    assert issuer.keys.trouble == "away"


async def test_made_up_key_ids_do_not_flood_the_issuer(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    issuer = JwtIssuer(JwtMethod(issuer=ISSUER, jwks_file=str(keys)), clock=clock)
    known = UnverifiedToken.read(signed(GOOD, claims()))
    assert known is not None and await issuer.keys_of(known)
    asked = []
    release = asyncio.Event()

    async def slow(self: KeySet) -> Any:
        asked.append(1)
        await release.wait()
        return json.loads(keys.read_bytes())

    monkeypatch.setattr(KeySet, "_document", slow)
    clock.now += A_DAY_S

    async def ask(number: int) -> None:
        token = UnverifiedToken.read(signed({**GOOD, "kid": f"made-up-{number}"}, claims()))
        assert token is not None
        with pytest.raises(InvalidToken):
            await issuer.keys_of(token)

    tasks = [asyncio.ensure_future(ask(number)) for number in range(300)]
    done, waiting = await asyncio.wait(tasks, timeout=scaled(1.0))
    assert len(waiting) == 100 and len(done) == 200  # few wait; the rest is refused at once
    assert await issuer.keys_of(known)  # and nobody else waits
    release.set()
    await asyncio.gather(*tasks)
    assert len(asked) == 1


async def test_a_new_key_is_fetched_when_a_token_names_it(keys: Path) -> None:
    clock = Clock()
    issuer = JwtIssuer(JwtMethod(issuer=ISSUER, jwks_file=str(keys)), clock=clock)
    old = UnverifiedToken.read(signed(GOOD, claims()))
    assert old is not None and await issuer.keys_of(old)
    keys.write_text(json.dumps({"keys": [jwk(OTHER_RSA, "rsa-2")]}))
    clock.now += A_DAY_S
    new = UnverifiedToken.read(jwt.encode(claims(), OTHER_RSA, "RS256", {"kid": "rsa-2"}))
    assert new is not None
    assert issuer.verify(new, await issuer.keys_of(new)).id == f"{ISSUER}#ann"
    with pytest.raises(InvalidToken):
        await issuer.keys_of(old)  # the issuer has withdrawn its key


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"keys":5}', '{"keys":[[]]}', NESTED], ids=lambda one: one[:10])
async def test_a_broken_key_set_is_no_key_set(keys: Path, document: str) -> None:
    keys.write_text(document)
    with pytest.raises(InvalidToken):
        await verify(keys, signed(GOOD, claims()))
