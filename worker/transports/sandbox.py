"""The command line by which a stdio child is shut in (``sandbox`` of an entry): bubblewrap, podman or docker.

A child sees what is named and nothing else: no file of the user, no other process, no network. What it needs to run at
all it gets: with ``bwrap`` the programs, libraries and certificates of the system and the folder in which its command
is installed, an empty home and an empty ``/tmp``.

Counterparts: ``shared.sandbox`` reads the entry, ``worker.transports.stdio`` starts the command.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from shared.connections import StdioConnection
from shared.errors import ConfigError
from shared.sandbox import IN_IMAGES, Sandbox
from shared.settings import UpstreamSettings
from worker.reaper import LABEL

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_OF_ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl", "ca-certificates", "ca-certificates.conf"),
    *("pki", "crypto-policies", "passwd", "group", "nsswitch.conf", "localtime", "timezone", "mime.types"),
)
_FOR_NETWORKS = ("resolv.conf", "hosts", "host.conf", "services", "protocols", "gai.conf")
_PACKAGES = {"bwrap": "bubblewrap"}
_INNER_FOLDER = "/tmp"  # of the child alone


def sandboxed(
    connection: StdioConnection, settings: UpstreamSettings, environment: Mapping[str, str], marks: Mapping[str, str]
) -> tuple[Sequence[str], str | None]:
    """Return the command line that runs a child in its sandbox, and the folder in which to run it.

    ``environment`` is the child's. ``marks`` are the variables by which its processes are found, and the labels by
    which its container is. Raises ``ConfigError`` where the sandbox cannot be had on this host.
    """
    sandbox = connection.sandbox
    command = (connection.command, *connection.args)
    if sandbox is None:
        return command, connection.cwd
    tool = shutil.which(sandbox.type, path=os.environ.get("PATH"))
    if tool is None:
        package = _PACKAGES.get(sandbox.type, sandbox.type)
        raise ConfigError(
            f"sandbox {sandbox.type}: there is no {sandbox.type!r} on the PATH of this worker; install {package}, or "
            "set 'sandbox' to another kind"
        )
    for path in (*sandbox.read, *sandbox.write):
        if not os.path.exists(path):
            raise ConfigError(f"sandbox: there is no {path!r} on this worker's host")
    if sandbox.type == "bwrap":
        return [tool, *_bwrap(sandbox, connection, environment), "--", *command], "/"
    names = [*connection.env, *marks]
    labels = [word for name, value in marks.items() for word in (LABEL, f"{name}={value}")]
    return [tool, *_container(sandbox, connection, settings, names), *labels, sandbox.image, *command], "/"


def container_tool(connection: StdioConnection, words: Sequence[str]) -> str:
    """Return the tool that makes a container for this child, of the command line that ``sandboxed`` returned, or an
    empty text."""
    return words[0] if connection.sandbox is not None and connection.sandbox.type in IN_IMAGES else ""


def _bwrap(sandbox: Sandbox, connection: StdioConnection, environment: Mapping[str, str]) -> Iterator[str]:
    yield from ("--die-with-parent", "--unshare-all", "--cap-drop", "ALL")
    if sandbox.network:
        yield "--share-net"
    for path in _SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for name in (*_OF_ETC, *(_FOR_NETWORKS if sandbox.network else ())):
        path = f"/etc/{name}"
        if os.path.exists(path):
            yield from ("--ro-bind", os.path.realpath(path), path)
    yield from ("--proc", "/proc", "--dev", "/dev", "--tmpfs", _INNER_FOLDER)
    home = os.path.normpath(environment.get("HOME") or "/")
    if os.path.isabs(home) and home != "/" and not _is_in(home, (*_SYSTEM, _INNER_FOLDER)):
        yield from ("--tmpfs", home)
    for path in _of_command(connection.command, environment, home):
        yield from ("--ro-bind", path, path)
    for path in sandbox.read:
        yield from ("--ro-bind", path, path)
    for path in sandbox.write:
        yield from ("--bind", path, path)
    yield from ("--chdir", _folder(sandbox, connection) or _INNER_FOLDER)


def _of_command(command: str, environment: Mapping[str, str], home: str) -> list[str]:
    """Return what has to be seen of a command that is not installed with the system: the folder above its ``bin``, or
    the file alone where that is a home."""
    found = shutil.which(command, path=environment.get("PATH"))
    if found is None:
        return []
    paths: list[str] = []
    for one in dict.fromkeys((os.path.abspath(found), os.path.realpath(found))):
        if _is_in(one, _SYSTEM):
            continue
        folder = PurePath(one).parent
        above = str(folder.parent)
        whole = folder.name in ("bin", "Scripts") and above != "/" and not _is_in(home, (above,))
        paths.append(above if whole else one)
    return list(dict.fromkeys(paths))


def _container(
    sandbox: Sandbox, connection: StdioConnection, settings: UpstreamSettings, names: Sequence[str]
) -> Iterator[str]:
    yield from ("run", "--rm", "--interactive", "--init", "--read-only", "--tmpfs", "/tmp")
    yield from ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    if not sandbox.network:
        yield from ("--network", "none")
    if sandbox.type == "docker" and os.geteuid() != 0:  # podman without root maps the container's root to us
        yield from ("--user", f"{os.geteuid()}:{os.getegid()}")
    for option, value in (
        ("--memory", settings.stdio_max_memory),
        ("--pids-limit", settings.stdio_max_processes),
        ("--ulimit", f"nofile={settings.stdio_max_files}" if settings.stdio_max_files else 0),
    ):
        if value:
            yield from (option, str(value))
    for path in sandbox.read:
        yield from ("--volume", f"{path}:{path}:ro")
    for path in sandbox.write:
        yield from ("--volume", f"{path}:{path}")
    folder = _folder(sandbox, connection)
    if folder is not None:
        yield from ("--workdir", folder)
    for name in names:  # without values, which ``ps`` would show: they are in the environment of the command line tool
        yield from ("--env", name)


def _folder(sandbox: Sandbox, connection: StdioConnection) -> str | None:
    """Return the folder of a child if the child can see it."""
    folder = connection.cwd
    return folder if folder and _is_in(folder, (*sandbox.read, *sandbox.write)) else None


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
