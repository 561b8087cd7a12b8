"""TLS contexts from files, with errors that name the file, what is wrong with it and the cure, and no secret.

Used where this program is the one that is connected to (``gateway.listener.tls``), by commands that connect to it
(``gateway.cli``), and by links over TCP (``shared.rpc.link_tls``).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from asyncio import sslproto
from pathlib import Path
from typing import Any

from shared.errors import ConfigError

MAX_FILE_BYTES = 4 * 1024 * 1024
"""The largest PEM file that is read: all authorities of an operating system take 300 KB."""
_CRL = b"-----BEGIN X509 CRL-----"


def _encrypted() -> str:
    """Stand in for a passphrase: without it OpenSSL would ask the terminal."""
    raise ValueError("encrypted")


def read_pem(path: str, setting: str) -> bytes:
    """Return the content of a PEM file. ``setting`` is the name of what named it. Raises ``ConfigError``."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        cure = {
            FileNotFoundError: "put it there, or correct the path",
            PermissionError: "let the user that runs the gateway read it",
            IsADirectoryError: "name a file",
        }.get(type(error), "correct the path")
        raise ConfigError([(setting, f"cannot read {path}: {error.strerror or error}; {cure}")]) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([(setting, f"{path} has more than {MAX_FILE_BYTES} bytes; name a PEM file")])
    return content


def load_chain(context: ssl.SSLContext, cert: str, key: str, setting: str, key_setting: str) -> None:
    """Give ``context`` a certificate with its chain, and its key (``key`` empty: in the same file).

    Raises ``ConfigError`` that names the file of the two at which the fault lies.
    """
    chain = read_pem(cert, setting)
    secret = read_pem(key, key_setting) if key else chain
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        other = " (it holds a key: are the two files exchanged?)" if b"PRIVATE KEY-----" in chain else ""
        raise ConfigError([(setting, f"{cert} has no PEM certificate{other}")])
    if b"PRIVATE KEY-----" not in secret:
        where, named = (key, key_setting) if key else (cert, setting)
        cure = "" if key else f"; name the file that has it with {key_setting}"
        raise ConfigError([(named, f"{where} has no PEM private key{cure}")])
    try:
        context.load_cert_chain(cert, key or None, password=_encrypted)
    except ValueError as error:
        if isinstance(error, ssl.SSLError) or "encrypted" not in str(error):
            raise _refused(error, cert, key, setting, key_setting) from error
        text = f"the key in {key or cert} is encrypted; store it without a passphrase, readable for the gateway alone"
        raise ConfigError([(key_setting, text)]) from error
    except OSError as error:
        raise _refused(error, cert, key, setting, key_setting) from error


def _refused(error: Exception, cert: str, key: str, setting: str, key_setting: str) -> ConfigError:
    reason = getattr(error, "reason", None) or ""
    if "MISMATCH" in reason:
        where = f"{cert} and {key}" if key else cert
        text = f"certificate and key do not belong together ({where}); the first certificate must be the key's"
        return ConfigError([(key_setting if key else setting, text)])
    words = reason.replace("_", " ").lower() or "they are no valid PEM"
    named = f"{cert} or {key}" if key else cert
    return ConfigError([(setting, f"{named} cannot be used: {words}; make them anew, or correct the path")])


def load_authorities(context: ssl.SSLContext, path: str, setting: str) -> None:
    """Have ``context`` trust the authorities in a file, and no certificate that a revocation list in the same file
    names. Raises ``ConfigError``."""
    content = read_pem(path, setting)
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        words = (getattr(error, "reason", None) or "no valid PEM").replace("_", " ").lower()
        text = f"{path} has no certificates of authorities that can be used: {words}"
        raise ConfigError([(setting, text)]) from error
    if not context.cert_store_stats()["x509_ca"]:
        raise ConfigError([(setting, f"{path} has no certificate of an authority (CA:TRUE)")])
    if _CRL in content:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def server_context(cert: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """Return the context of an HTTPS listener: TLS 1.2 and 1.3, HTTP/1.1. Raises ``ConfigError``.

    With authorities of clients (``client_ca``) certificates are asked for, and one that does not verify ends the
    handshake; whether a caller needs one is decided where callers are authenticated.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    load_chain(context, cert, key, "tls.certFile", "tls.keyFile")
    if client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL
        load_authorities(context, client_ca, "tls.clientCa")
    return context


def client_context(ca_file: str, setting: str) -> ssl.SSLContext:
    """Return the context of a client that trusts the system's authorities, and those in a file if one is named.

    Raises ``ConfigError``.
    """
    context = ssl.create_default_context()
    if ca_file:
        read_pem(ca_file, setting)
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ValueError) as error:
            words = (getattr(error, "reason", None) or "no valid PEM").replace("_", " ").lower()
            raise ConfigError([(setting, f"{ca_file} has no certificates: {words}")]) from error
    return context


def expiry_note(cert: str, now_s: float | None = None) -> str:
    """Return what is to be said of the dates of the first certificate in a file, or nothing."""
    from cryptography import x509  # commands import this module, and need not load it

    try:
        first = x509.load_pem_x509_certificate(Path(cert).read_bytes())
        begins, ends = (one.timestamp() for one in (first.not_valid_before_utc, first.not_valid_after_utc))
    except (OSError, ValueError):
        return ""
    now = time.time() if now_s is None else now_s
    if now > ends:
        return f"the certificate in {cert} ended on {first.not_valid_after_utc:%Y-%m-%d}; clients will refuse it"
    if now < begins:
        return f"the certificate in {cert} begins only on {first.not_valid_before_utc:%Y-%m-%d}"
    return ""


def ssl_protocol(loop: asyncio.AbstractEventLoop) -> Any:
    """Return the class that speaks TLS between a transport of ``loop`` and a protocol, as the loop itself uses it.

    Both classes take the same arguments: loop, protocol, context, waiter, and by name ``server_side``,
    ``ssl_handshake_timeout`` and others.
    """
    if type(loop).__module__.partition(".")[0] != "uvloop":
        return sslproto.SSLProtocol
    from uvloop import loop as uvloop_loop

    return uvloop_loop.SSLProtocol  # type: ignore[attr-defined]
