"""How a process of the gateway gets its settings from the one that starts it: over an inherited socket, read once.

The environment of a process can be read by every program of the same user (``/proc/PID/environ``), also by the stdio
children, and settings hold the fleet's key, the admin token and the password of Redis. What is in the socket can be
read once, and only by who has the descriptor: unlike a pipe or a file it cannot be opened through ``/proc/PID/fd``.

Variables of OpenTelemetry are handed over with them.

A process that a user starts has its settings in the environment, as ``GATEWAY_*``; both ways lead to ``received``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import types
from collections.abc import Iterator

import orjson

from shared.errors import ConfigError
from shared.settings import KNOBS, SOURCES, Settings, build

VARIABLE = "GATEWAY_SETTINGS_FD"
"""The environment variable that names the descriptor of the socket."""
_received: dict[str, str] = {}
"""What came over the socket: front ends that gunicorn forks need it again, and the socket gives it once."""


def offer(settings: Settings) -> socket.socket:
    """Return a socket from which one process can read ``settings``; its descriptor is for ``pass_fds``.

    The caller closes it when the process is started. Raises ``ConfigError`` for settings that are too large.
    """
    return socket_with(orjson.dumps({**standard_variables(), **to_environment(settings)}))


def to_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables from which ``build`` makes these settings again. Defaults are left out."""
    variables: dict[str, str] = {}
    for knob in KNOBS.values():
        value = getattr(getattr(settings, knob.section), knob.field)
        if value == knob.default or isinstance(value, types.NoneType):
            continue
        if knob.milliseconds:
            variables[knob.variable] = repr(value * 1000.0)
        elif isinstance(value, tuple):
            variables[knob.variable] = ",".join(value) or ","  # an empty text would count as not set
        elif isinstance(value, bool):
            variables[knob.variable] = "true" if value else "false"
        else:
            variables[knob.variable] = str(getattr(value, "value", value))
    if settings.sources:
        variables[SOURCES] = orjson.dumps(settings.sources).decode()
    return variables


def socket_with(content: bytes) -> socket.socket:
    """Return a socket from which ``content`` can be read, to its end. Raises ``ConfigError`` if it is too large."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(content) + 4096)
        ours.setblocking(False)  # nobody reads yet: all of it must fit into the buffer
        try:
            sent = ours.send(content)
        except OSError:
            sent = 0
        if sent < len(content):
            theirs.close()
            raise ConfigError(f"{len(content)} bytes are too many to be handed to a process")
    return theirs


@contextlib.contextmanager
def offered(settings: Settings | None) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """While a process is started: the variables and the descriptors that it needs to get ``settings``."""
    if settings is None:
        yield {}, ()
        return
    with offer(settings) as theirs:
        yield {VARIABLE: str(theirs.fileno())}, (theirs.fileno(),)


def received() -> Settings:
    """Return this process's settings: those that were handed over, and those of the environment.

    Raises ``ConfigError`` for wrong values, and if ``VARIABLE`` names no socket of ours.
    """
    number = os.environ.pop(VARIABLE, "")
    if number:
        _received.update(_read(number))
    return build(environment={**os.environ, **_received})


def standard_variables() -> dict[str, str]:
    """Return the variables of OpenTelemetry (``OTEL_*``) that this process has or was handed. Some hold keys, so they
    are not in the environment that other programs could read."""
    return {name: value for name, value in {**os.environ, **_received}.items() if name.startswith("OTEL_")}


def _read(number: str) -> dict[str, str]:
    try:
        with socket.socket(fileno=int(number)) as theirs:
            content = b"".join(iter(lambda: theirs.recv(65536), b""))
        return {str(name): str(value) for name, value in orjson.loads(content).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{VARIABLE}={number} is for processes that the gateway starts itself; unset it ({error})"
        ) from error
