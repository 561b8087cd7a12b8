"""Whether a process on this host is well, for health checks of containers::

    python -m gateway.probe readyz      # or healthz: the front end at GATEWAY_PORT, over HTTPS if it speaks TLS
    python -m gateway.probe link        # the worker at the port of GATEWAY_RPC_BIND

Exit code 0: it is. No certificate is verified, as nothing but a status is read, from loopback.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys
from collections.abc import Mapping

_LIMIT_S = 3.0


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def front_end(path: str, environment: Mapping[str, str]) -> bool:
    """Whether the front end of this environment answers ``/path`` with 200.

    A configuration file may have turned TLS on, which the environment does not tell.
    """
    if environment.get("GATEWAY_TLS_CERT_FILE"):
        return _answers(path, environment, True)
    try:
        return _answers(path, environment, False)
    except (ConnectionError, http.client.HTTPException):
        return _answers(path, environment, True)


def _answers(path: str, environment: Mapping[str, str], tls: bool) -> bool:
    port = int(environment.get("GATEWAY_PORT") or 4000)
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=_LIMIT_S, context=_unverified())
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT_S)
    )
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def worker(environment: Mapping[str, str]) -> bool:
    """Whether the worker of this environment greets a connection, which shows that its loop turns."""
    port = int(environment.get("GATEWAY_RPC_BIND", "").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), _LIMIT_S) as plain:
        if environment.get("GATEWAY_LINK_TLS") == "off":
            return bool(plain.recv(1))
        context = _unverified()
        if cert := environment.get("GATEWAY_LINK_CERT_FILE"):
            context.load_cert_chain(cert, environment.get("GATEWAY_LINK_KEY_FILE") or None)
        with context.wrap_socket(plain) as secure:
            return bool(secure.recv(1))


def main(arguments: list[str]) -> int:
    """Return the exit code for ``healthz``, ``readyz`` or ``link``."""
    if len(arguments) != 1 or arguments[0] not in ("healthz", "readyz", "link"):
        print("usage: python -m gateway.probe healthz|readyz|link", file=sys.stderr)
        return 2
    try:
        well = worker(os.environ) if arguments[0] == "link" else front_end(arguments[0], os.environ)
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
