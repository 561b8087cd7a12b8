"""TLS between commands and the gateway: what they trust, and what it means when a connection fails."""

from __future__ import annotations

import os
import re
import socket
import ssl
from urllib.parse import urlsplit

from gateway.cli import failures
from gateway.cli.failures import CA_FILE, CLIENT_CERT, CLIENT_KEY, CommandFailed
from shared import tls

_PROBE_S = 2.0


def trusted() -> ssl.SSLContext:
    """Return the context with which commands connect. Raises ``ConfigError`` for files that cannot be used."""
    context = tls.client_context(os.environ.get(CA_FILE, ""), CA_FILE)
    if cert := os.environ.get(CLIENT_CERT, ""):
        tls.load_chain(context, cert, os.environ.get(CLIENT_KEY, ""), CLIENT_CERT, CLIENT_KEY)
    return context


def certificate_trouble(said: str) -> str:
    """Return why a certificate was not accepted, from the text of an error of OpenSSL, or nothing."""
    found = re.search(r"certificate verify failed: ([^(\]]+?)\.?\s*(?:\(|\]|$)", said)
    return found[1] if found else ""


def went_away(base: str) -> CommandFailed:
    """Return the failure for a connection that broke before the answer was complete: whoever speaks only TLS ends each
    connection that begins otherwise."""
    return failures.speaks_tls(base) if base.startswith("http:") and _speaks_tls(base) else failures.went_away(base)


def _speaks_tls(base: str) -> bool:
    parts = urlsplit(base)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 80), _PROBE_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except (OSError, ValueError):
        return False
