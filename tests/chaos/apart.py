"""Fleets of which a part is elsewhere, as the kernel sees it: a worker in a network namespace of its own, as on another
host, and workers with a name service of their own. Both need root, ``ip``, ``tc`` and ``unshare`` (Linux).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
from typing import cast

from tests.chaos.stage import Stage

_DROPS = ("tbf", "rate", "8bit", "burst", "10b", "limit", "10b")
"""A queue into which no packet fits: whatever is sent is lost, and nobody is told."""
_PORT = 4100
_DNS = ("127.0.0.9", 53)
_HOST = "upstreams.test"
_TTL_S = 1
_BINDS = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


def possible() -> bool:
    """Whether these fleets can be made here."""
    tools = all(map(shutil.which, ("ip", "tc", "unshare")))
    return sys.platform == "linux" and os.geteuid() == 0 and tools


class Host:
    """Another host: a network namespace, and a cable to it. ``here`` and ``there`` are the addresses at its ends."""

    def __init__(self) -> None:
        number = os.getpid() % 65_536
        place = f"198.18.{number // 256}.{number % 256 // 4 * 4}"
        head, _, last = place.rpartition(".")
        self.name = f"gwchaos{number}"
        self.here, self.there = f"{head}.{int(last) + 1}", f"{head}.{int(last) + 2}"
        self._near, self._far = f"gwc{number}n", f"gwc{number}f"

    @property
    def before(self) -> list[str]:
        """What stands before a command that runs there."""
        return ["ip", "netns", "exec", self.name]

    def make(self) -> None:
        """Make it."""
        inside = ("ip", "-n", self.name)
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far)
        _run("ip", "link", "set", self._far, "netns", self.name)
        _run("ip", "address", "add", f"{self.here}/30", "dev", self._near)
        _run("ip", "link", "set", self._near, "up")
        _run(*inside, "address", "add", f"{self.there}/30", "dev", self._far)
        _run(*inside, "link", "set", self._far, "up")
        _run(*inside, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Remove it."""
        for command in (("ip", "link", "del", self._near), ("ip", "netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                _run(*command)

    def cut(self, off: bool) -> None:
        """Lose every packet in both directions from now on, or none."""
        for before, end in (([], self._near), (self.before, self._far)):
            if off:
                _run(*before, "tc", "qdisc", "replace", "dev", end, "root", *_DROPS)
            else:
                with contextlib.suppress(subprocess.CalledProcessError):  # it is not cut off
                    _run(*before, "tc", "qdisc", "del", "dev", end, "root")


class Apart(Stage):
    """The second worker is on another host."""

    def __init__(self) -> None:
        super().__init__()
        self.host = Host()
        for server in self.servers.values():
            server.bind = self.host.here

    async def open(self) -> None:
        self.host.make()
        self.stack.callback(self.host.remove)
        self.fleet.elsewhere = (self.host.before, self.host.here, f"{self.host.there}:{_PORT}")
        await super().open()

    async def mend(self) -> None:
        self.host.cut(False)
        await super().mend()


class Dns:
    """A name service for one host, which it finds on this machine. While it is not ``answering`` nobody gets one.
    ``delay_s``: so long it takes for an answer."""

    def __init__(self) -> None:
        self.answering = True
        self.delay_s = 0.0
        self.asked = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _DnsProtocol(self), _DNS)

    def stop(self) -> None:
        """Listen no longer."""
        if self._transport is not None:
            self._transport.close()

    def answer(self, question: bytes) -> bytes | None:
        """Return the answer to a query (RFC 1035 section 4): an address for a query of type A, else none."""
        self.asked += 1
        if not self.answering:
            return None
        end = question.index(b"\0", 12) + 5
        is_address = question[end - 4 : end - 2] == b"\0\1"
        record = b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", _TTL_S, 4) + socket.inet_aton("127.0.0.1")
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_address else b"\0\0") + bytes(4)
        return head + question[12:end] + (record if is_address else b"")


class _DnsProtocol(asyncio.DatagramProtocol):
    def __init__(self, dns: Dns) -> None:
        self._dns = dns
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # which asyncio's own is not, by its class

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._dns.answer(data)
        if answer is not None and self._transport is not None:
            asyncio.get_running_loop().call_later(self._dns.delay_s, self._transport.sendto, answer, addr)


class Named(Stage):
    """Upstreams are registered by the name of their host, and workers ask a name service of this stage for it."""

    def __init__(self) -> None:
        super().__init__()
        self.dns = Dns()
        for server in self.servers.values():
            server.host = _HOST

    async def open(self) -> None:
        file = self.folder / "resolv.conf"
        file.write_text(f"nameserver {_DNS[0]}\n")
        self.fleet.before = ["unshare", "--mount", "sh", "-c", _BINDS, str(file)]
        await self.dns.start()
        self.stack.callback(self.dns.stop)
        await super().open()
        assert self.dns.asked, "workers ask it"

    async def mend(self) -> None:
        self.dns.answering, self.dns.delay_s = True, 0.0
        await super().mend()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=10)
