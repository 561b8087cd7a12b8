"""Which variables of the gateway's environment a stdio child may see. Pure.

A child is somebody else's program. It gets the variables that programs need to find their files, their language and
the network, and what ``stdioEnvironment`` names; everything else, as keys of clouds and tokens that other entries use,
it gets only if its own entry says so. The supervisor gives workers no more than that and what Python reads, so that a
child finds nothing else in ``/proc/PID/environ`` of its worker either.

Counterparts: ``worker.transports.stdio`` starts children, ``gateway.supervisor.lifecycle`` starts workers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

ORDINARY = (
    # what the official SDKs pass on POSIX, and what is of the same kind
    *("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "XDG_*", "LD_LIBRARY_PATH"),
    # the network: proxies and certificate authorities
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    # npx, uvx, pip: registries, caches
    *("npm_config_*", "NPM_CONFIG_*", "UV_*", "PIP_*"),
    # where languages and their versions are installed
    *("NVM_DIR", "NVM_BIN", "VOLTA_HOME", "PYENV_ROOT", "PYENV_VERSION", "ASDF_DIR", "ASDF_DATA_DIR", "VIRTUAL_ENV"),
    *("CONDA_PREFIX", "JAVA_HOME", "GOPATH", "GOROOT", "CARGO_HOME", "RUSTUP_HOME", "DENO_DIR", "BUN_INSTALL"),
    *("DOTNET_ROOT",),
    # containers: an address, where programs would look themselves otherwise
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST", "CONTAINER_CONNECTION"),
    *("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
    # browsers
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS", "PLAYWRIGHT_BROWSERS_PATH"),
    *("PUPPETEER_EXECUTABLE_PATH", "PUPPETEER_CACHE_DIR"),
)
"""Names and patterns. Not here on purpose: ``SSH_AUTH_SOCK``, which lends the user's keys, and ``PYTHONPATH``, which is
meant for one program."""

_FOR_PYTHON = ("PYTHON*", "LD_*", "MALLOC_*", "GLIBC_TUNABLES", "OPENSSL_*", "GUNICORN_*", "COVERAGE_*", "COV_*")
"""What Python, its libraries and gunicorn read in processes of the gateway."""
_SECRET_NAME = re.compile(r"auth|token|passw|secret|key|credential|username|_otp|cookie", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/\s]*@")
_EXACT = frozenset(name for name in ORDINARY if "*" not in name)
_FAMILIES = tuple(name for name in ORDINARY if "*" in name)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_ordinary(name: str, value: str) -> bool:
    """Whether a variable is on the list. One of a family (``PIP_*``) is not if it looks like a secret: by its name, or
    by a user name in the URL that it holds."""
    if name in _EXACT:
        return True
    return _matches(name, _FAMILIES) and not _SECRET_NAME.search(name) and not _SECRET_VALUE.search(value)


def for_child(environment: Mapping[str, str], named: Iterable[str]) -> dict[str, str]:
    """Return what a stdio child gets of ``environment``: ordinary variables and those that ``named`` names.

    ``named`` is the setting ``stdioEnvironment``: names and patterns with ``*``. Variables of the gateway itself
    (``GATEWAY_*``) are never among them.
    """
    wanted = tuple(named)
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("GATEWAY_") and (_is_ordinary(name, value) or _matches(name, wanted))
    }


def for_process(environment: Mapping[str, str], named: Iterable[str]) -> dict[str, str]:
    """Return what a process of the gateway itself gets: what its children may see, and what Python reads."""
    return for_child(environment, (*named, *_FOR_PYTHON))
