"""The Lua script that makes ``wrk`` send MCP requests, and the figures from what it prints. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from loadtest.wire import Request

_MARK = "FIGURES "
_HOST = "@the host and port that wrk is given@"
# Latencies are microseconds in wrk; its summary has no statuses, only how many were 400 or more.
_DONE = b"""
done = function(summary, latency, requests)
  local e = summary.errors
  local shape = '{"calls": %d, "failed": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "bytes": %.0f}'
  io.write('FIGURES ', string.format(shape, summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, summary.bytes), '\\n')
end
"""


def quoted(data: bytes) -> bytes:
    """A Lua string literal."""
    escaped = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\r", b"\\r").replace(b"\n", b"\\n")
    return b'"' + escaped.replace(b"\0", b"\\0") + b'"'


def script(requests: Sequence[Request], first: int = 0) -> bytes:
    """One request is wrk's own to repeat; several are made once and sent in rotation, beginning with ``first``.

    These are whole: ``wrk.format`` writes headers in another order each time it is started, and no client does that.
    """
    if len(requests) == 1:
        (only,) = requests
        return b"\n".join(
            [
                b"wrk.method = " + quoted(only.method.encode()),
                b"wrk.path = " + quoted(only.path.encode()),
                b"wrk.body = " + quoted(only.body),
                *(b"wrk.headers[%b] = %b" % _pair(header) for header in only.headers.items()),
                _DONE,
            ]
        )
    wholes = [
        b"  " + b" .. host .. ".join(map(quoted, request.to_bytes(_HOST).split(_HOST.encode()))) + b","
        for request in requests
    ]
    # Chunks of a hundred: one Lua function may not have more than 2^18 constants.
    chunks = [
        b"do local function make()\n for _, made in ipairs({\n%b\n }) do ready[#ready + 1] = made end\nend make() end"
        % b"\n".join(wholes[start : start + 100])
        for start in range(0, len(wholes), 100)
    ]
    return b"\n".join(
        [
            b"local ready, turn, host = {}, %d, ''" % first,
            b"init = function(args)\nhost = wrk.host .. ':' .. wrk.port\n%b\nend" % b"\n".join(chunks),
            b"request = function()\n turn = turn % #ready + 1\n return ready[turn]\nend",
            _DONE,
        ]
    )


def _pair(header: tuple[str, str]) -> tuple[bytes, bytes]:
    return quoted(header[0].encode()), quoted(header[1].encode())


def parse(output: str) -> dict[str, Any]:
    """The figures as a ``Sample`` has them. Raises ``ValueError`` when wrk printed none."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            found = json.loads(line.removeprefix(_MARK))
            found["bytes_per_call"] = found.pop("bytes") / max(found["calls"], 1)
            return dict(found)
    raise ValueError(f"wrk printed no figures: {output[-300:]}")
