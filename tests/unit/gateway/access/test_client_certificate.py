"""``gateway.access.client_certificate``: whom a certificate names."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from gateway.access.client_certificate import Certificates, ClientCertificate, read
from shared.access.methods import ClientCertificateMethod
from shared.access.rules import of_settings
from shared.errors import ConfigError
from tests.certificates import Authority, Pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clients"))


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


def said(pair: Pair, name: Any = "subject", **method: Any) -> ClientCertificate:
    return read(der(pair), ClientCertificateMethod(name=name, **method))


def test_the_subject_names_the_caller_and_rules_can_read_the_rest(authority: Authority) -> None:
    sans = [x509.UniformResourceIdentifier("spiffe://x/y"), x509.DNSName("ci.test"), x509.RFC822Name("ci@x.test")]
    pair = authority.client("ci", "build", sans)
    found = said(pair, roles=("r",), kind="user").identity
    assert found is not None
    assert (found.id, found.kind, found.given) == ("cert:CN=ci,OU=build", "user", ("r",))
    claims = found.claims
    assert claims["commonName"] == "ci" and claims["units"] == ["build"] and claims["organizations"] == []
    assert (claims["uris"], claims["dnss"], claims["emails"]) == (["spiffe://x/y"], ["ci.test"], ["ci@x.test"])
    assert claims["issuer"] == "CN=authority" and len(claims["fingerprint"]) == 64
    ends = x509.load_der_x509_certificate(der(pair)).not_valid_after_utc
    assert found.expires_at == ends.timestamp()
    assert said(pair, "uri").identity.id == "cert:uri:spiffe://x/y"  # type: ignore[union-attr]
    assert said(pair, "email").identity.id == "cert:email:ci@x.test"  # type: ignore[union-attr]


def test_names_of_different_kinds_are_never_alike(authority: Authority) -> None:
    tricky = said(authority.client("uri:spiffe://x/y,OU=build")).identity
    assert tricky is not None
    assert tricky.id == r"cert:CN=uri:spiffe://x/y\,OU=build"


@pytest.mark.parametrize("name", ["uri", "dns", "email"])
def test_a_certificate_without_exactly_one_name_of_the_kind_is_nobodys(authority: Authority, name: str) -> None:
    assert "0 times" in said(authority.client("none"), name).why_not()
    twice: list[x509.GeneralName] = [x509.DNSName("a.test"), x509.DNSName("b.test")]
    if name == "dns":
        assert "2 times DNS name" in said(authority.client("two", sans=twice), name).why_not()


def test_what_has_no_usable_name_is_nobodys(authority: Authority) -> None:
    assert "no subject" in said(authority.client("", sans=[x509.DNSName("a.test")])).why_not()
    assert "not printable" in said(authority.client("a\u202eb")).why_not()
    assert "cannot be read" in read(b"junk", ClientCertificateMethod()).why_not()
    over = authority.client("over", ends=datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1))
    assert "expired" in said(over).why_not()


def test_certificates_are_read_once_and_distrusted_together(authority: Authority) -> None:
    known, raw = Certificates(ClientCertificateMethod()), der(authority.client("ci"))
    first, second = object(), object()
    certificate = known.begun(first, raw, 0)
    assert known.begun(second, raw, 0) is certificate is known.on(first)
    known.ended(second)
    assert known.on(second) is None
    known.distrust()
    assert "connect again" in certificate.why_not()
    again = known.begun(second, raw, 1)
    assert again is not certificate and not again.why_not() and again.mark != certificate.mark
    late = known.begun(first, raw, 0)  # its handshake began with the authorities of before
    assert late is known.on(first) and "connect again" in late.why_not()
    assert known.begun(object(), raw, 1) is again, "and is not remembered"


def test_the_setting_and_the_method_belong_together(tmp_path: Path) -> None:
    listed = '{"authentication": [{"type": "clientCertificate", "name": "uri"}]}'
    with pytest.raises(ConfigError, match=r"needs tls\.clientCa"):
        of_settings(listed, False)
    assert of_settings(listed, False, "/ca.pem").method(ClientCertificateMethod) == ClientCertificateMethod(name="uri")
    alone = of_settings("", False, "/ca.pem")
    assert alone.method(ClientCertificateMethod) == ClientCertificateMethod()
    assert alone.summary == "by client certificates"
