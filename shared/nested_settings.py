"""Settings that stand in an object of their own in a configuration file: ``tls_cert_file`` in Python is
``tls: {certFile: …}`` there, and ``GATEWAY_TLS_CERT_FILE`` in the environment.

Counterpart: ``shared.settings``, which makes them of all sources as it does with the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

NESTED = ("tls", "link", "hedge")
"""The sections whose settings are an object in a file."""


def check_path(path: str) -> str:
    """Return the path of a file as an absolute one: processes that are started later have other working directories."""
    return str(Path(path).expanduser().absolute()) if path else ""


def check_percentile(text: str) -> str:
    """Return the word for a percentile, ``p50`` to ``p99``, or an empty text. Raises ``ValueError``."""
    if text and not re.fullmatch(r"p[5-9][0-9]", text, re.ASCII):
        raise ValueError(f"{text!r} is not a percentile from p50 to p99; p95 is a good one")
    return text


class TlsSettings(Struct, frozen=True):
    """The gateway's own TLS towards clients: HTTPS at its port. Files are PEM, and read again when they change."""

    tls_cert_file: Annotated[
        str,
        Meta(description="the gateway's certificate and its chain; with it the port speaks HTTPS only",
             extra={"check": check_path}),
    ] = ""  # fmt: skip
    tls_key_file: Annotated[
        str, Meta(description="the certificate's key; default: in certFile as well", extra={"check": check_path})
    ] = ""
    tls_client_ca: Annotated[
        str,
        Meta(description="authorities whose client certificates authenticate callers, and their revocation lists",
             extra={"check": check_path}),
    ] = ""  # fmt: skip

    @property
    def on(self) -> bool:
        """Whether the gateway speaks HTTPS to its clients, and no HTTP."""
        return bool(self.tls_cert_file)

    @property
    def scheme(self) -> str:
        """How the gateway's URLs begin."""
        return "https" if self.on else "http"


class LinkSettings(Struct, frozen=True):
    """TLS of links over TCP between front ends and workers. Files are PEM, and read at the start of a process."""

    link_tls: Annotated[
        Literal["auto", "required", "off"],
        Meta(description="links over TCP: auto: TLS 1.3 with every peer that has it; required: no others; off: none"),
    ] = "auto"
    link_cert_file: Annotated[
        str,
        Meta(description="this process's certificate for links; default: one made at each start",
             extra={"check": check_path}),
    ] = ""  # fmt: skip
    link_key_file: Annotated[
        str, Meta(description="the certificate's key; default: in certFile as well", extra={"check": check_path})
    ] = ""
    link_ca_file: Annotated[
        str,
        Meta(description="the fleet's authority: both ends of a link must show a certificate that it has signed",
             extra={"check": check_path}),
    ] = ""  # fmt: skip

    @property
    def required(self) -> bool:
        """Whether links over TCP without TLS are refused: also where there is an authority that says who may link."""
        return self.link_tls == "required" or bool(self.link_ca_file)


class HedgeSettings(Struct, frozen=True):
    """Late calls of read-only tools, which are sent to a second replica as well. An upstream can have its own."""

    hedge_after: Annotated[
        str,
        Meta(description="a call of a readOnlyHint tool is sent to a second replica too after this percentile of the "
             "times to an answer, as p95; none: never", extra={"check": check_percentile}),
    ] = ""  # fmt: skip


def flat(values: Mapping[str, Any], known: Iterable[str], problems: list[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """Yield a file's settings by the keys of their knobs, all of which are ``known``: ``tls.certFile``."""
    for key, value in values.items():
        if key not in NESTED:
            yield key, value
        elif isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", one) for inner, one in value.items())
        else:
            inside = ", ".join(one.partition(".")[2] for one in known if one.startswith(f"{key}."))
            problems.append((f"gateway.{key}", f"must be an object with {inside}"))


def with_paths(settings: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return a file's settings, which were checked, with the paths of files in them relative to its folder ``base``."""
    found = dict(settings)
    for name in NESTED:
        if name in found:
            found[name] = {
                key: _path(value, base) if key.endswith(("File", "Ca")) else value for key, value in found[name].items()
            }
    return found


def _path(value: Any, base: Path) -> Any:
    return str(base / Path(value).expanduser()) if isinstance(value, str) and value else value
