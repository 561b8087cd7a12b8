"""How an upstream is reached: the connection of a registered server, and what of it may be shown.

Values of headers and of environment variables are secrets, as are passwords, keys and tokens in URLs and in arguments
of commands. None of them appears in a ``repr`` or in ``public()``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from shared.errors import ConfigError
from shared.sandbox import Sandbox, parse_sandbox
from shared.upstream_auth import SECRETS, Auth, notes_of, public_auth, reads_files

MASK = "***"
"""The text that stands for a secret wherever one would be shown."""
_SECRET = re.compile(r"key|token|secret|pass|pwd|auth|sig|credential|code|jwt|session|bearer|cookie", re.IGNORECASE)
"""What names have in them whose values are secrets: members of a query, options and variables of a command."""
_TOKEN_TEXT = re.compile(r"[A-Za-z0-9_.=+-]{12,4096}")
_KNOWN_TOKENS = re.compile(
    r"(?:sk|pk|rk|gh[a-z]|github_pat|glpat|xox[a-z]|ya29|AKIA|npm|pat|dop_v1|hf|shpat)[-_.]?[A-Za-z0-9]"
    r"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
)
_PLAIN = re.compile(r"(?:(?:[a-z@]{1,24}\d{0,4}|v\d{1,4}|\d{1,4})(?:[-_.](?:[a-z]{1,24}\d{0,4}|v?\d{1,4}))*)?\*{0,3}")
"""What a segment of a path looks like that is no secret: words in small letters, short numbers."""
_ADDRESSES = re.compile(r"\[?(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4})\]?(?:(?::|', )\d{1,5})?")
"""IP addresses with or without a port, as errors of the operating system name them."""
_PLACES = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*"  # URLs
    r"|(?<![\w.*/~:-])(?:~|\.{1,2})?/[^\s'\"<>,;:()]+"  # paths of files
    r"|(?<!\w)[A-Za-z]:\\[^\s'\"<>]+"
)
SAID = "; it said: "
"""What stands before words of a command's own in an error. They may have anything in them, so clients do not see
them."""
STARTING = "starting: "
"""What stands before the last line of a command that is still starting, as its error. It is not for clients either."""
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
_ASSIGNED = re.compile(r"(--?[A-Za-z][\w.-]*=|[A-Za-z_][\w.-]*=|[A-Za-z][\w-]*:\s*)(.+)", re.DOTALL)
_SHORT = 5
"""Arguments of a command that are no longer may be ordinary words of an error."""
HOP_BY_HOP = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer",
     "upgrade", "expect")
)  # fmt: skip
"""Headers of which only the HTTP client itself can know the value (RFC 9110 section 7.6.1, RFC 9112)."""
OURS = frozenset(
    ("accept", "content-type", "mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name", "last-event-id")
)
"""Headers that the gateway sets on each request as the transport requires, whatever an entry says."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_WEB = ("http://", "https://")


class StdioConnection(Struct, frozen=True, rename="camel"):
    """A child process that speaks MCP on stdin and stdout. No shell is involved."""

    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None
    sandbox: Sandbox | None = None

    @property
    def type(self) -> str:
        """The name of the transport."""
        return "stdio"

    def __repr__(self) -> str:
        return f"StdioConnection({self.command!r}, args={len(self.args)}, env={sorted(self.env)})"

    def public(self) -> dict[str, Any]:
        """Return what may be shown: names of environment variables without their values, arguments without secrets."""
        shown: dict[str, Any] = {"type": "stdio", "command": self.command, "args": mask_args(self.args)}
        shown["env"] = dict.fromkeys(self.env, MASK)
        if self.cwd is not None:
            shown["cwd"] = self.cwd
        if self.sandbox is not None:
            shown["sandbox"] = msgspec.to_builtins(self.sandbox)
        return shown

    def concealed(self, text: str) -> str:
        """Return a text of an error without the command, its arguments and any path, which are not for clients."""
        text = STARTING.rstrip(": ") if text.startswith(STARTING) else text.partition(SAID)[0]
        for word in (self.command, self.cwd, *(one for one in self.args if len(one) > _SHORT)):
            if word:
                text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", MASK, text)
        return _readable(_ADDRESSES.sub(MASK, _PLACES.sub(MASK, text)))

    def notes(self) -> tuple[str, ...]:
        """Return what of the entry has another effect than it seems to have."""
        return ()

    def touches_host(self) -> str:
        """Return what using this connection does on the worker's host beyond opening a network connection."""
        return "runs a command"


class Tls(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How TLS is spoken with one upstream. Paths are files on the worker's host, in PEM.

    ``ca_file`` replaces the system's certificate authorities, ``cert_file`` and ``key_file`` are the certificate that
    the gateway presents, ``server_name`` is the name that the upstream's certificate has if the URL has another one.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False


class HttpConnection(Struct, frozen=True, rename="camel"):
    """An HTTP upstream: ``http`` is Streamable HTTP, ``sse`` the HTTP+SSE transport of 2024-11-05.

    ``proxy`` is an ``http://`` proxy, ``direct`` for none, or empty for the one that the environment names. ``auth``
    says in whose name requests are sent, if not by ``headers``. ``passthrough`` names headers of clients that calls
    take along, ``Authorization`` among them only with ``dangerously_forward_authorization``.
    """

    url: str
    type: Literal["http", "sse", "openapi"] = "http"
    headers: dict[str, str] = {}
    proxy: str = ""
    tls: Tls | None = None
    auth: Auth | None = None
    passthrough: tuple[str, ...] = ()
    dangerously_forward_authorization: bool = False

    @property
    def passed_names(self) -> frozenset[str]:
        """The headers of clients that are passed to the upstream, in lower case."""
        return frozenset(name.lower() for name in self.passthrough)

    def __repr__(self) -> str:
        return f"HttpConnection({mask_url(self.url)!r}, {self.type!r}, headers={sorted(self.headers)})"

    def public(self) -> dict[str, Any]:
        """Return what may be shown: header names without their values, and URLs without their secrets."""
        shown: dict[str, Any] = {"type": self.type, "url": mask_url(self.url)}
        shown["headers"] = dict.fromkeys(self.headers, MASK)
        if self.proxy:
            shown["proxy"] = mask_url(self.proxy)
        if self.tls is not None:
            shown["tls"] = msgspec.to_builtins(self.tls)
        if self.auth is not None:
            shown["auth"] = public_auth(self.auth, MASK)
        if self.passthrough:
            shown["passthrough"] = list(self.passthrough)
        if self.dangerously_forward_authorization:
            shown["dangerouslyForwardAuthorization"] = True
        return shown

    def concealed(self, text: str) -> str:
        """Return a text of an error without the addresses and paths that it names, which are not for clients."""
        text = _PLACES.sub(MASK, text)
        try:
            hosts = [urlsplit(url).hostname or "" for url in (self.url, self.proxy) if url]
            hosts.append(self.tls.server_name if self.tls is not None else "")
            path = urlsplit(self.url).path
        except ValueError:
            return MASK
        for host in hosts:
            if host:
                word = rf"(?<![\w.-])\[?{re.escape(host)}\]?(?::\d+)?(?![\w-])"
                text = re.sub(word, MASK, text, flags=re.IGNORECASE)
        if len(path) > 1:
            text = text.replace(path, MASK)
        return _readable(_ADDRESSES.sub(MASK, text))

    def notes(self) -> tuple[str, ...]:
        """Return what of the entry has another effect than it seems to have."""
        replaced = [name for name in self.headers if name.lower() in OURS]
        found = [f"header {name} is not sent as written: the gateway sets it on each request" for name in replaced]
        if self.tls is not None and self.tls.insecure_skip_verify:
            found.append(
                "its certificate is not verified (tls.insecureSkipVerify): anybody between can read and change"
            )
        if "authorization" in self.passed_names:
            found.append(
                "whatever clients authenticate with at the gateway is given to this server, which can use it too"
            )
        return (*found, *(notes_of(self.auth) if self.auth is not None else ()))

    def touches_host(self) -> str:
        """Return what using this connection does on the worker's host beyond opening a network connection."""
        if urlsplit(self.url).scheme == "unix":
            return "opens a socket of the host"
        reads = self.tls is not None and any(_paths(self.tls))
        return "reads files of the host" if reads or reads_files(self.auth) else ""


class OpenApiConnection(HttpConnection, frozen=True, rename="camel"):
    """An HTTP API that an OpenAPI document describes: its operations are the tools.

    ``url`` is where the API is, whatever servers the document names. ``spec`` is the document, as a URL or as a path on
    the worker's host. ``operations`` are patterns over ``METHOD /path`` (none: all). ``health`` is the ``GET`` path,
    below ``url``, that health checks ask for in place of a ``HEAD`` of ``url``.
    """

    type: Literal["openapi"] = "openapi"
    spec: str = ""
    operations: tuple[str, ...] = ()
    health: str = ""

    @property
    def spec_url(self) -> str:
        """The document's URL, or empty if it is a file."""
        return self.spec if self.spec.startswith(_WEB) else ""

    def public(self) -> dict[str, Any]:
        """Return what may be shown."""
        shown = {**super().public(), "spec": mask_spec(self.spec)}
        if self.operations:
            shown["operations"] = list(self.operations)
        if self.health:
            shown["health"] = self.health
        return shown

    def concealed(self, text: str) -> str:
        """Return a text of an error without the addresses and paths that it names, which are not for clients."""
        return super().concealed(text.replace(self.spec, MASK) if len(self.spec) > 1 else text)

    def touches_host(self) -> str:
        """Return what using this connection does on the worker's host beyond opening a network connection."""
        return super().touches_host() or ("" if self.spec_url else "reads files of the host")


Connection = StdioConnection | HttpConnection


def _paths(tls: Tls) -> tuple[str, ...]:
    return tls.ca_file, tls.cert_file, tls.key_file


# ---- URLs


def origin_of(url: str | SplitResult) -> tuple[str, str, int | str]:
    """Return scheme, host and port of a URL; default ports are equal to none (RFC 6454 section 4). Of a Unix socket the
    path stands for host and port. Raises ``ValueError``."""
    parts = urlsplit(url) if isinstance(url, str) else url
    if parts.scheme == "unix":
        return "unix", "", parts.path
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def check_url(url: str) -> None:
    """Raise ``ValueError`` that says what is wrong unless ``url`` is one that an upstream can have."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"url {mask_url(url)!r} is not a URL: {error}") from None
    if parts.scheme == "unix":
        if parts.netloc or len(parts.path) < 2:
            raise ValueError(f"url {url!r} names no socket; write unix:///path/to/socket#/path")
        return
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"url {mask_url(url)!r} is not an http://, https:// or unix:// address")
    if port == 0:
        raise ValueError(f"url {mask_url(url)!r} names port 0")


def check_spec(given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless the members of an OpenAPI upstream are ones that can be used."""
    spec, patterns, health = given.get("spec"), given.get("operations") or (), given.get("health") or ""
    if not isinstance(spec, str) or not spec.strip():
        raise ValueError("a connection of type 'openapi' needs 'spec', the file or the URL of its OpenAPI document")
    if spec.startswith(_WEB):
        check_url(spec)
    elif "://" in spec:
        raise ValueError("spec: only http:// and https:// URLs are fetched; or write the path of a file")
    elif not spec.startswith("/") and not re.match(r"[A-Za-z]:[\\/]", spec):
        raise ValueError("spec: a path must be absolute here: workers have folders of their own")
    if not isinstance(patterns, list | tuple) or not all(isinstance(one, str) for one in patterns):
        raise ValueError('operations must be a list of patterns over "METHOD /path", such as "GET *" or "!* /admin/*"')
    if not isinstance(health, str) or (health and not re.fullmatch(r"/[\x21-\x7e]*", health)):
        raise ValueError("health must be a path below 'url', such as '/health'")


def check_public_url(url: str) -> str:
    """Return ``url`` if clients can see the gateway there, or if it is empty. Raises ``ValueError``."""
    parts = urlsplit(url)
    plain = re.fullmatch(r"(?:/[A-Za-z0-9._~-]{1,64}){0,8}/?", parts.path)
    if url and (parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not plain or parts.query):
        raise ValueError(f"{url!r} is not a URL like https://host/path")
    return url


def _readable(masked: str) -> str:
    """Return a text that began with a place as a sentence: errors begin with the name of their upstream anyway."""
    return f"it {masked.removeprefix(f'{MASK} ')}" if masked.startswith(f"{MASK} ") else masked


def check_proxy(proxy: str) -> None:
    """Raise ``ValueError`` that says what is wrong unless ``proxy`` is one that can be used."""
    if proxy in ("", "direct"):
        return
    try:
        parts = urlsplit(proxy)
        fits = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"proxy {mask_url(proxy)!r} is neither 'direct' nor the http://host:port of an HTTP proxy")


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for a header that cannot be sent, or that only the HTTP client can set."""
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", str(name)) or re.search(r"[\r\n\0]", str(value)):
            raise ValueError(f"header {name!r} is not a valid HTTP header")
        if str(name).lower() in HOP_BY_HOP:
            raise ValueError(f"header {name!r} cannot be set: the HTTP client sets it; remove it")


def check_passthrough(given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless the headers in ``passthrough`` of an entry can be passed to its upstream."""
    names = given.get("passthrough") or ()
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise ValueError("passthrough must be a list of names of headers")
    check_headers(dict.fromkeys(names, ""))
    own = {str(name).lower() for name in given.get("headers") or ()}
    for name in (one.lower() for one in names):
        if name in OURS or name.startswith(("mcp-", "proxy-")):
            raise ValueError(f"passthrough: {name!r} is about the client's connection to the gateway; remove it")
        if name == "x-api-key":
            raise ValueError(
                "passthrough: 'x-api-key' has clients' keys for the gateway; give another header to clients"
            )
        if name in ("accept-encoding", "user-agent"):
            raise ValueError(f"passthrough: {name!r} is the gateway's own towards an upstream; remove it")
        if name in own:
            raise ValueError(f"passthrough: {name!r} is among 'headers' as well; keep one of the two")
        if name == "authorization" and given.get("dangerouslyForwardAuthorization") is not True:
            raise ValueError(
                "passthrough: 'Authorization' has the client's credentials for the gateway, which a server could use "
                "against it; use 'auth' with tokenExchange or user, or set dangerouslyForwardAuthorization"
            )
        if name == "authorization" and (given.get("auth") or urlsplit(str(given.get("url"))).username is not None):
            raise ValueError("passthrough: 'Authorization' is set by 'auth', or by the URL, as well; keep one")


# ---- masks


def _is_token(text: str) -> bool:
    """Whether a text looks like a key or a token wherever it stands."""
    if not _TOKEN_TEXT.fullmatch(text):
        return False
    pieces = [one for one in re.split(r"[-_.=+]", text) if len(one) >= 16]
    random = any(re.search(r"\d", one) and re.search(r"[A-Za-z]", one) for one in pieces)
    return random or bool(_KNOWN_TOKENS.match(text) and re.search(r"\d", text))


def mask_url(url: str) -> str:
    """Return ``url`` without user name and password, and without what looks like a secret in its path and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    netloc = parts.netloc
    if "@" in netloc:
        netloc = f"{MASK}@{netloc.rpartition('@')[2]}"
    path = parts.path
    if parts.scheme != "unix":
        path = "/".join(segment if _PLAIN.fullmatch(segment) else MASK for segment in path.split("/"))
    query = "&".join(map(_masked, parts.query.split("&")))
    shown = parts._replace(netloc=netloc, path=path, query=query)
    return url if shown == parts else urlunsplit(shown)


def mask_spec(spec: str) -> str:
    """Return the place of an OpenAPI document without what looks like a secret in it."""
    return mask_url(spec) if spec.startswith(_WEB) else spec


def _masked(member: str) -> str:
    name, _, value = member.partition("=")
    secret = _SECRET.search(unquote(name)) or _is_token(value)
    return f"{name}={MASK}" if value and secret else member


def mask_args(args: tuple[str, ...]) -> list[str]:
    """Return the arguments of a command without what looks like a secret."""
    shown: list[str] = []
    secret_follows = False
    for one in args:
        assigned = _ASSIGNED.fullmatch(one)
        if secret_follows and not _OPTION.fullmatch(one):
            shown.append(MASK)
        elif "://" in one:
            shown.append(_mask_urls_in(one))
        elif assigned and (_SECRET.search(assigned[1]) or _is_token(assigned[2])):
            shown.append(assigned[1] + MASK)
        else:
            shown.append(MASK if _is_token(one) and not one.startswith("-") else one)
        secret_follows = bool(_OPTION.fullmatch(one) and _SECRET.search(one))
    return shown


def _mask_urls_in(text: str) -> str:
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"',]+", lambda found: mask_url(found[0]), text)


def _leads_to(raw: dict[str, Any]) -> tuple[Any, ...]:
    """Return what receives a connection's secrets: the server and what stands before it, or the command."""
    if raw.get("url"):
        tls = sorted((name, value) for name, value in (raw.get("tls") or {}).items() if value)
        return *origin_of(str(raw["url"])), raw.get("proxy") or "", tls
    return raw.get("command"), tuple(raw.get("args") or ()), raw.get("cwd"), parse_sandbox(raw.get("sandbox"))


def unmasked(raw: dict[str, Any], present: Connection | None = None) -> dict[str, Any]:
    """Return a connection in which each mask is replaced by the value that ``present`` has there.

    A user may have been shown a masked connection and have sent it back. Secrets are filled in only where they went
    before: headers for the same server, an environment for the same command. Raises ``ConfigError`` for any other mask,
    which would be stored as if it were the value, or would send a secret to somebody new.
    """
    found = dict(raw)
    for member, shown in (("url", mask_url), ("proxy", mask_url), ("spec", mask_spec), ("args", mask_args)):
        given = found.get(member)
        if given is None or MASK not in str(given):
            continue
        known = getattr(present, member, None)
        if known is None or shown(known) != (list(given) if member == "args" else given):
            raise ConfigError(
                f"connection.{member} has {MASK!r} in it, which stands for a secret (a password, a key); send that"
            )
        found[member] = list(known) if member == "args" else known
    try:
        same = present is not None and _leads_to(found) == _leads_to(msgspec.to_builtins(present))
    except ValueError:
        same = False
    for member in ("headers", "env"):
        given = found.get(member)
        if isinstance(given, dict):
            kept: dict[str, str] = getattr(present, member, {}) if same else {}
            found[member] = {name: kept.get(name, MASK) if value == MASK else value for name, value in given.items()}
            for name, value in found[member].items():
                if value == MASK:
                    raise ConfigError(
                        f"connection.{member}.{name} is {MASK!r}, which stands for a secret; send the value"
                    )
    if isinstance(found.get("auth"), dict):
        found["auth"] = _unmasked_auth(found["auth"], getattr(present, "auth", None) if same else None)
    return found


def _unmasked_auth(given: dict[str, Any], present: Auth | None) -> dict[str, Any]:
    """Return ``auth`` with its secrets filled in, if everything else in it is as before: they go to the same
    authorization server."""
    known: dict[str, Any] = {} if present is None else msgspec.to_builtins(present)

    def rest(raw: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in raw.items() if value and name not in SECRETS}
        return {name: rest(value) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value
                for name, value in kept.items()}  # fmt: skip

    def filled(raw: dict[str, Any], known: dict[str, Any], place: str) -> dict[str, Any]:
        found = {name: filled(value, known.get(name) or {}, f"{place}.{name}") if isinstance(value, dict) else value
                 for name, value in raw.items()}  # fmt: skip
        for name in SECRETS:
            if found.get(name) == MASK:
                if not as_before or not known.get(name):
                    raise ConfigError(f"{place}.{name} is {MASK!r}, which stands for a secret; send the value")
                found[name] = known[name]
        return found

    as_before = bool(known) and rest(known) == rest(given)
    return filled(given, known, "connection.auth")
