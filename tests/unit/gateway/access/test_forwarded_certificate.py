"""``gateway.access.forwarded_certificate``: what a proxy says of its client's certificate, and tokens bound to it."""

from __future__ import annotations

import base64
import hashlib
import ssl
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509

from gateway.access.client_certificate import encoded, read
from gateway.access.forwarded_certificate import ForwardedCertificates
from gateway.access.principal import FOR_EVER
from gateway.access.tokens import InvalidToken, identity
from gateway.access.trusted_proxy import TrustedProxy
from gateway.admission.peers import Peers
from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import RoutingHeaders
from shared.access.methods import ClientCertificateMethod, TrustedProxyMethod, wrong_with
from tests.certificates import Authority

HEADER = "x-forwarded-client-cert"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    sans = [x509.UniformResourceIdentifier("spiffe://x/ci"), x509.DNSName("ci.test")]
    return Authority(tmp_path_factory.mktemp("clients")).client("ci", "build", sans).cert.read_text()


def method(**changed: Any) -> TrustedProxyMethod:
    return TrustedProxyMethod(addresses=("10.1.2.3",), certificate_header=HEADER, **changed)


def said(value: str, **changed: Any) -> Any:
    return ForwardedCertificates(method(**changed)).read(value)


def test_a_whole_certificate_is_read_in_every_form(pem: str) -> None:
    der = ssl.PEM_cert_to_DER_cert(pem)
    wanted = encoded(hashlib.sha256(der).digest())
    forms = (
        quote(pem, safe=""),
        quote(pem, safe="-"),
        f":{base64.b64encode(der).decode()}:",
        f'By=spiffe://x/proxy;Hash={hashlib.sha256(b"").hexdigest()};Cert="{quote(pem, safe="")}"',
        f"Cert={quote(pem, safe='')};URI=spiffe://x/other",
    )
    for form in forms:
        found = said(form, roles=("r",))
        assert found.identity.id == "cert:CN=ci,OU=build" and found.identity.given == ("r",), form
        assert found.thumbprint == wanted, form
    assert said(forms[0], certificate_name="uri").identity.id == "cert:uri:spiffe://x/ci"
    assert read(der, ClientCertificateMethod()).thumbprint == wanted


def test_envoys_pairs_name_the_caller_without_the_certificate() -> None:
    digest = "ab" * 32
    value = f'Hash={digest};Subject="CN=a\\"b,OU=build;x,O=Org";URI=spiffe://x/ci;DNS=a.test;DNS=b.test'
    found = said(value, certificate_name="uri")
    assert found.identity.id == "cert:uri:spiffe://x/ci" and found.identity.claims["dnss"] == ["a.test", "b.test"]
    assert found.thumbprint == encoded(bytes.fromhex(digest))
    assert said('Subject="CN=ci,OU=build"').identity.claims["units"] == ["build"]
    assert "2 names of the kind 'dns'" in said(value, certificate_name="dns").why_not()
    assert "no subject" in said("URI=spiffe://x/ci").why_not()


@pytest.mark.parametrize(
    "value",
    [
        "nonsense",
        ":%%%:",
        ":AAAA:",
        "Hash=12",
        "Hash=zz" + "0" * 62,
        'URI=a,URI="spiffe://x/ci"',  # of two elements, the first may be the client's own
        f"Hash={'0' * 64};Hash={'1' * 64}",
        'Subject="CN=a";Subject="CN=b"',
        'Subject="CN=a',
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----" + " " * 30_000,  # in the time that its length takes
        "x" * 40_000,
    ],
)
def test_what_cannot_be_read_names_nobody_and_binds_nothing(value: str) -> None:
    found = said(value)
    assert found.identity is None and found.why_not()
    with pytest.raises(InvalidToken):
        found.check_binding(encoded(hashlib.sha256(b"").digest()))


def test_the_header_counts_on_the_proxys_connections_only_and_its_own_certificate_is_nobodys(pem: str) -> None:
    peers = Peers(TrustedProxy(method()))
    named = {HEADER: [quote(pem, safe="")]}
    for remote, there in (("10.1.2.3", True), ("10.1.2.4", False), (None, False)):
        head = RequestHead(RoutingHeaders.read({}))
        peers.introduce(head, named, remote, None)
        assert (head.certificate is not None) is there
        assert peers.name(named, remote, None) is there

    class Own:
        def on(self, transport: Any) -> Any:
            return read(ssl.PEM_cert_to_DER_cert(pem), ClientCertificateMethod())

    head = RequestHead(RoutingHeaders.read({}))
    peers = Peers(TrustedProxy(method()), Own())  # type: ignore[arg-type]
    peers.introduce(head, {}, "10.1.2.3", None)
    assert head.certificate is None


def test_a_token_says_which_certificate_it_is_bound_to() -> None:
    claims = {"sub": "ann", "cnf": {"x5t#S256": "abc="}}
    found = identity(claims, "iss", ())
    assert found.certificate == "abc" and found.thumbprint == ""
    bent: list[Any] = [{"x5t#S256": 1}, {"x5t#S256": ""}, {"x5t#S256": "a", "jkt": "b"}, {"x5t": "a"}, {}, [], "a"]
    for odd in bent:
        with pytest.raises(InvalidToken):
            identity({"sub": "ann", "cnf": odd}, "iss", ())


def test_a_token_may_say_that_it_ends_after_all_time() -> None:
    assert identity({"sub": "ann", "exp": 10**400}, "iss", ()).expires_at == FOR_EVER


def test_a_header_needs_a_name() -> None:
    assert [key for key, _ in wrong_with(method())] == []
    wrong = TrustedProxyMethod(addresses=("10.1.2.3",), certificate_header="X Cert")
    assert [key for key, _ in wrong_with(wrong)] == ["certificateHeader"]
