"""What a stdio upstream is shut in: the member ``sandbox`` of an entry. Pure.

Counterpart: ``worker.transports.sandbox``, which makes the command line of it.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import msgspec
from msgspec import Struct

KINDS = ("bwrap", "podman", "docker")
IN_IMAGES = ("podman", "docker")


class Sandbox(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a child sees of its host.

    ``bwrap`` (bubblewrap) shows the system's programs and libraries, ``podman`` and ``docker`` what is in ``image``.
    Beside that, it sees the files and folders in ``read`` and ``write`` under the same paths, and no network unless
    ``network`` is true.
    """

    type: Literal["bwrap", "podman", "docker"]
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: bool = False
    image: str = ""


def parse_sandbox(value: Any) -> dict[str, Any] | None:
    """Return the members of ``Sandbox`` that ``value`` means, or ``None`` for none. A text stands for the type alone.
    Raises ``ValueError`` that says what is wrong."""
    if isinstance(value, Sandbox):
        value = msgspec.to_builtins(value)
    if value in (None, False, "none", {}) or value == {"type": "none"}:
        return None
    given = {"type": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or given.get("type") not in KINDS:
        raise ValueError(f"sandbox must be 'none', or have the type {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    try:
        sandbox = msgspec.convert(given, Sandbox)
    except msgspec.ValidationError as error:
        raise ValueError(f"sandbox: {error}") from None
    if sandbox.type in IN_IMAGES and (not sandbox.image or sandbox.image.startswith("-")):
        raise ValueError(f"sandbox: {sandbox.type} needs the 'image' in which the command runs")
    if sandbox.type == "bwrap" and sandbox.image:
        raise ValueError("sandbox: 'image' is for podman and docker; bwrap shows the host's own programs")
    for path in (*sandbox.read, *sandbox.write):
        if not os.path.isabs(path) or os.path.normpath(path) == "/" or "\0" in path:
            raise ValueError(f"sandbox: {path!r} is no absolute path of a file or folder below /")
        if sandbox.type in IN_IMAGES and (":" in path or "," in path):
            raise ValueError(f"sandbox: {sandbox.type} cannot show {path!r}, because of its colon or comma")
    found: dict[str, Any] = msgspec.to_builtins(sandbox)
    return found
