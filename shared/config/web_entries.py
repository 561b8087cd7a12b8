"""What an entry says of a server that is reached by a URL: headers, TLS, credentials, an OpenAPI document. Pure."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from shared.config.expand import home_expanded
from shared.config.readings import Reading, text_map, warn_of_dollars
from shared.upstream_auth import with_key_files

_LOCAL = re.compile(
    r"(localhost|host\.docker\.internal|0\.0\.0\.0|127(\.\d{1,3}){3}|\[::1\])(:\d+)?([/?].*)?", re.IGNORECASE
)
_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}(:\d+)?([/?].*)?")
_SCHEMES = {"api_key": "", "authorization": "", "basic": "Basic ", "bearer_token": "Bearer ", "token": "token "}
"""What LiteLLM's ``auth_type`` puts before the credentials."""
_ON_SOCKET = re.compile(r"https?\+unix://([^/]+)(/.*)?", re.IGNORECASE)


def mend_url(found: dict[str, Any], reading: Reading) -> None:
    """Bring a URL into form that has no scheme, or names a Unix socket as Python's clients do
    (``http+unix://%2Frun%2Fx.sock/mcp``)."""
    url = found.get("url")
    if not isinstance(url, str):
        return
    on_socket = _ON_SOCKET.fullmatch(url)
    if on_socket is not None and unquote(on_socket[1]).startswith("/"):
        found["url"] = f"unix://{unquote(on_socket[1])}#{on_socket[2] or '/'}"
        reading.mend("url", "was taken for unix:///path/to/socket#/path")
    elif _LOCAL.fullmatch(url) or _HOST.fullmatch(url):
        scheme = "http" if _LOCAL.fullmatch(url) else "https"
        found["url"] = f"{scheme}://{url}"
        reading.mend("url", f"has no scheme, and was taken for {scheme}://")


def options_of(found: dict[str, Any], entry: dict[str, Any], reading: Reading) -> None:
    """Take over Continue's ``requestOptions``, as far as the entry itself says nothing else."""
    options = entry.get("requestOptions")
    if not isinstance(options, dict):
        return
    if isinstance(options.get("proxy"), str):
        found.setdefault("proxy", options["proxy"])
    certificate = options.get("clientCertificate")
    certificate = certificate if isinstance(certificate, dict) else {}
    authorities = options.get("caBundlePath")
    if isinstance(authorities, list):
        if len(authorities) > 1:
            reading.warn("requestOptions.caBundlePath", "has several files, of which the first is used: join them")
        authorities = next(iter(authorities), None)
    tls = {
        "caFile": authorities,
        "certFile": certificate.get("cert"),
        "keyFile": certificate.get("key"),
        "insecureSkipVerify": True if options.get("verifySsl") is False else None,
    }
    tls = {name: value for name, value in tls.items() if value is not None}
    if tls and not found.get("tls"):
        found["tls"] = tls


def headers_of(found: dict[str, Any], entry: dict[str, Any], variables: Mapping[str, str], reading: Reading) -> None:
    """Bring the headers into form, with those that come from variables."""
    headers: dict[str, str] = {}
    for key in ("requestOptions", "requestInit"):
        inner = entry.get(key)
        if isinstance(inner, dict):
            headers.update(text_map(inner.get("headers") or {}, f"{key}.headers", "Name: value", reading))
    headers.update(text_map(found.get("headers", {}), "headers", "Name: value", reading))
    wanted = entry.get("env_http_headers", {})
    named = dict(wanted) if isinstance(wanted, dict) else {}
    values = {name: variables.get(str(variable)) for name, variable in named.items()}
    headers = {**_of_litellm(entry, reading), **headers}
    if is_token("auth", entry.get("auth")):
        headers.setdefault("Authorization", f"Bearer {entry['auth']}")
    bearer = entry.get("bearer_token_env_var")
    if bearer:
        named["Authorization"] = bearer
        token = variables.get(str(bearer))
        values["Authorization"] = None if token is None else f"Bearer {token}"
    for name, value in values.items():
        if value is None:
            reading.problem("headers", f"environment variable {named[name]} is not set; set it")
        else:
            headers[str(name)] = value
    headers = {name: value.strip() for name, value in headers.items()}  # secrets of files end with a line end
    warn_of_dollars(headers, "headers", reading)
    found["headers"] = headers


def _of_litellm(entry: dict[str, Any], reading: Reading) -> dict[str, str]:
    """Return the headers that an entry of LiteLLM names in words of its own."""
    headers = text_map(entry.get("static_headers") or {}, "static_headers", "Name: value", reading)
    kind, value = entry.get("auth_type"), entry.get("auth_value") or entry.get("authentication_token")
    if kind in (None, "none"):
        return headers
    if not isinstance(value, str) or kind not in _SCHEMES:
        reading.warn("auth_type", "is not used: say in 'auth' how the gateway gets a token, or put one into 'headers'")
        return headers
    if kind == "basic" and ":" in value:
        value = b64encode(value.encode()).decode()
    return {**headers, "X-API-Key" if kind == "api_key" else "Authorization": _SCHEMES[kind] + value}


def tls_of(found: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> None:
    """Make the paths of files absolute: relative ones start at the file's folder."""
    tls = found.get("tls")
    if tls is None:
        return
    if not isinstance(tls, dict):
        reading.problem("tls", "must be an object with caFile, certFile, keyFile, serverName or insecureSkipVerify")
        del found["tls"]
        return
    found["tls"] = {
        key: os.path.normpath(base / home_expanded(value, variables))
        if key in ("caFile", "certFile", "keyFile") and isinstance(value, str) and value
        else value
        for key, value in tls.items()
        if value is not None
    }


def spec_of(found: dict[str, Any], variables: Mapping[str, str], base: Path, reading: Reading) -> None:
    """Make the path of an OpenAPI document absolute: a relative one starts at the file's folder."""
    spec = found.get("spec")
    if isinstance(spec, str) and spec and "://" not in spec:
        found["spec"] = os.path.normpath(base / home_expanded(spec, variables))
    for key in ("operations", "health"):
        if key in found and spec is None:
            reading.warn(key, "has no effect without 'spec', an OpenAPI document")
            del found[key]


def auth_of(found: dict[str, Any], entry: dict[str, Any], variables: Mapping[str, str], base: Path) -> None:
    """Take over ``auth`` if it is one of ours, with the paths of its keys made absolute."""
    auth = entry.get("auth")
    if isinstance(auth, dict) and is_auth("auth", auth):
        found["auth"] = with_key_files(auth, lambda file: os.path.normpath(base / home_expanded(file, variables)))


def is_token(key: str, value: Any) -> bool:
    """Whether a value is a bearer token, as FastMCP has it under ``auth``."""
    return key == "auth" and isinstance(value, str) and value.lower() not in ("", "oauth", "none")


def is_auth(key: str, value: Any) -> bool:
    """Whether a value is an ``auth`` as the gateway has it. Other clients have other objects under this key."""
    return key == "auth" and isinstance(value, dict) and "type" in value
