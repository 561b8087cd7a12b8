"""Certificates for the TLS ends of tests."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_HOSTS = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
_DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    """The files of a certificate and of its key."""

    cert: Path
    key: Path


def _pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


def _name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


class Authority:
    """A certificate authority, with its certificate in ``file``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._made = 0
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name((NameOID.COMMON_NAME, name))
        self.certificate = (
            self._begun(self.name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime.datetime | None = None
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY * 2)
            .not_valid_after(ends or now + _DAY)
        )

    def server(
        self,
        name: str = "server",
        cert: Path | None = None,
        key: Path | None = None,
        ends: datetime.datetime | None = None,
    ) -> Pair:
        """A certificate for ``localhost`` and 127.0.0.1; ``name`` is in its subject."""
        secret = ec.generate_private_key(ec.SECP256R1())
        made = (
            self._begun(_name((NameOID.COMMON_NAME, name)), secret, ends)
            .add_extension(x509.SubjectAlternativeName(_HOSTS), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return self._written(made, secret, cert or self.folder / f"{name}.pem", key or self.folder / f"{name}.key")

    def client(
        self,
        name: str,
        unit: str = "",
        sans: Sequence[x509.GeneralName] = (),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        ends: datetime.datetime | None = None,
    ) -> Pair:
        """A certificate of a client: ``CN=name``, and ``OU=unit`` if there is one; no subject for an empty name."""
        secret = ec.generate_private_key(ec.SECP256R1())
        parts = [(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []
        subject = _name(*parts, (NameOID.COMMON_NAME, name)) if name else x509.Name([])
        made = self._begun(subject, secret, ends).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if sans:
            made = made.add_extension(x509.SubjectAlternativeName(sans), critical=not name)
        self._made += 1
        file = self.folder / f"client-{self._made}"
        return self._written(
            made.sign(self.key, hashes.SHA256()), secret, file.with_suffix(".pem"), file.with_suffix(".key")
        )

    def revoked(self, *pairs: Pair) -> bytes:
        """A revocation list (PEM) that names these certificates."""
        now = datetime.datetime.now(datetime.UTC)
        listed = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now - _DAY)
        listed = listed.next_update(now + _DAY)
        for pair in pairs:
            number = x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number
            row = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - _DAY).build()
            listed = listed.add_revoked_certificate(row)
        return listed.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _written(self, made: x509.Certificate, secret: ec.EllipticCurvePrivateKey, cert: Path, key: Path) -> Pair:
        cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(_pem(secret))
        return Pair(cert, key)


def lock(key: Path) -> None:
    """Encrypt the key in a file."""
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(secret, ec.EllipticCurvePrivateKey)
    key.write_bytes(_pem(secret, b"passphrase"))


def self_signed(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """One for ``localhost`` and 127.0.0.1 that is its own authority, and its key: PEM files in ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name((NameOID.COMMON_NAME, name))
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.SubjectAlternativeName(_HOSTS), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(_pem(key))
    return paths
