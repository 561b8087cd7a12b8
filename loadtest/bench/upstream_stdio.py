"""A minimal MCP server over stdio, of the modern era: ``python -m loadtest.bench.upstream_stdio NAME``.

One line in, one line out, in turn; its one tool ``NAME_0`` gives back ``text``.
"""

from __future__ import annotations

import os
import sys

import orjson

from loadtest.bench.upstream_http import result


def answer(line: bytes, name: str) -> bytes:
    """The line that answers ``line``; nothing for notifications."""
    message = orjson.loads(line)
    if "id" not in message:
        return b""
    found = result("modern", 1, name, message["method"], message.get("params") or {})
    said = {"error": {"code": -32601, "message": "method not found"}} if found is None else {"result": found}
    return orjson.dumps({"jsonrpc": "2.0", "id": message["id"], **said}) + b"\n"


def main() -> None:
    """Serve until standard input ends."""
    name = sys.argv[1]
    rest = b""
    while chunk := os.read(0, 1 << 20):
        *lines, rest = (rest + chunk).split(b"\n")
        said = b"".join(answer(line, name) for line in lines if line.strip())
        while said:
            said = said[os.write(1, said) :]


if __name__ == "__main__":
    main()
